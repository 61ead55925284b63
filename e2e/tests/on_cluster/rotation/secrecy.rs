//! Everything that was said is searched for passwords, and everything that is stored for the root's.

use std::{
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use crds::HardwarePortal;
use e2e::{
    Namespace,
    contents::{Kinds, holders},
    database::{Database, random_password},
    fault::Faults,
    in_process::Operator,
    namespace::SETTLED,
    neighbour::{expect_warning, warnings},
    program::run,
    rotation::{
        last_rotation, name_of_state, prefix, published, rotate_in_a_row, start_portal, state_in,
        stored_state, wait_for_rotation, wait_until_forgotten,
    },
    secrets_manager, source,
    store_load::StoreLoad,
    wait::eventually,
};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, LogParams},
};
use serde_json::{Value, json};

/// Locked within a minute, and looked for every ten seconds.
const RETIRED: Duration = Duration::from_mins(1);
/// Fields of a state that an earlier version did not have.
const LATER_FIELDS: [&str; 4] = ["rootPlace", "formerRoot", "migrationAccountMayExist", "left"];

/// Everything that was said while a portal lived is searched for its passwords.
#[tokio::test]
async fn no_password_is_in_a_log_an_event_a_status_or_an_argument() -> Result<()> {
    let (namespace, database) = (Namespace::open("e2e-silent").await?, Database::from_settings()?);
    let root = start_portal(
        &namespace,
        &database,
        "silent",
        "e2e_silent",
        source::rotating("AlternatingUsers"),
    )
    .await?;
    let (_, first) = published(&namespace, "silent").await?;
    rotate_in_a_row(&namespace, "silent", 1).await?;
    let (_, second) = published(&namespace, "silent").await?;
    let secrets: Vec<&str> =
        [&root, &first[0].1, &second[0].1].map(String::as_str).into_iter().collect();

    let mut said = Vec::new();
    let portal: HardwarePortal = namespace.api().get("silent").await?;
    said.push(("the portal".to_owned(), serde_json::to_string(&portal)?));
    let operators: Api<Pod> = Api::namespaced(namespace.client(), "gill-hicks-system");
    for (pods, list) in [
        (&operators, operators.list(&ListParams::default()).await?),
        (&namespace.api::<Pod>(), namespace.api::<Pod>().list(&ListParams::default()).await?),
    ] {
        for pod in list {
            let name = pod.name_any();
            said.push((
                format!("the log of {name}"),
                pods.logs(&name, &LogParams::default()).await?,
            ));
            said.push((format!("pod {name}"), serde_json::to_string(&pod)?));
        }
    }
    let events = namespace.api::<k8s_openapi::api::events::v1::Event>();
    said.push((
        "events".to_owned(),
        serde_json::to_string(&events.list(&ListParams::default()).await?.items)?,
    ));
    ensure!(said.len() > 5, "too little was searched");
    for (what, text) in &said {
        for secret in &secrets {
            ensure!(!text.contains(secret), "{what} holds a password");
        }
    }
    let commands = run(Command::new("ps").args(["axww", "-o", "args"]), "")?;
    ensure!(commands.contains("/hardware serve"), "the pods' processes are not listed");
    ensure!(secrets.iter().all(|secret| !commands.contains(secret)), "an argument is a password");
    namespace.delete_portal("silent").await
}

/// Whoever may read Secrets of the portal's namespace has the pods' accounts, and not the root.
#[tokio::test]
async fn a_root_of_secrets_manager_is_in_no_object_of_the_portals_namespace() -> Result<()> {
    let (namespace, database) =
        (Namespace::open("e2e-rootless").await?, Database::from_settings()?);
    let first_root = database.create_root("e2e_rootless").await?;
    source::trust(&namespace, &[&database]).await?;
    let value = |password: &str| -> Result<Value> {
        Ok(json!({
            "username": "e2e_rootless", "password": password, "dbname": "e2e_rootless",
            "host": database.get("MYSQL_HOST")?,
            "port": database.get("MYSQL_PORT")?.parse::<u16>()?,
        }))
    };
    // Another name in each run, as the server of an earlier one may still be there.
    let secret = format!("rootless-{}", &random_password()?[..8]);
    secrets_manager::create(&secret, namespace.name(), "rootless", &value(&first_root)?)?;
    let mut spec = source::rotating("AlternatingUsers");
    spec["hardware"]["replicas"] = json!(1);
    spec["database"]["mysql"]["source"] =
        json!({"secretsManager": {"secretId": secret, "region": "eu-west-1"}});

    let second_root = random_password()?;
    let (kinds, roots) =
        (Kinds::discover(namespace.client()).await?, [first_root.as_str(), second_root.as_str()]);
    let looks = AtomicUsize::new(0);
    let expect_rootless = async || {
        let texts = kinds.read(namespace.name()).await?;
        let holders = holders(&texts, &roots);
        ensure!(holders.is_empty(), "the root's password is in {}", holders.join(", "));
        looks.fetch_add(1, Ordering::Relaxed);
        Ok(texts)
    };
    namespace.apply_portal("rootless", spec).await?;
    while_looking(namespace.wait_until_ready("rootless"), &expect_rootless).await?;
    let last = while_looking(last_rotation(&namespace, "rootless"), &expect_rootless).await?;

    let statement = format!("ALTER USER 'e2e_rootless'@'%' IDENTIFIED BY '{second_root}'");
    database.execute(&statement).await?;
    secrets_manager::change(&secret, &value(&second_root)?)?;
    let rotated = wait_for_rotation(&namespace, "rootless", last.generation);
    while_looking(rotated, &expect_rootless).await?;
    let texts = expect_rootless().await?;

    // The search finds what is there: the pods' own login is in their file.
    let (_, logins) = published(&namespace, "rootless").await?;
    let found = holders(&texts, &[&logins[0].1]);
    ensure!(found == ["credentials.json of Secret/rootless-database"], "found in {found:?}");
    let state = stored_state(&namespace, "rootless").await?;
    assert_eq!(state["root"]["password"].as_str(), Some(second_root.as_str()), "the root's place");
    println!("no root in {} objects, at {} looks", texts.len(), looks.into_inner());
    namespace.delete_portal("rootless").await
}

/// Looks over and over until `work` has ended.
async fn while_looking<T, L>(
    work: impl Future<Output = Result<T>>,
    look: &impl AsyncFn() -> Result<L>,
) -> Result<T> {
    let look_for_ever = async {
        loop {
            if let Err(error) = look().await {
                return error;
            }
        }
    };
    tokio::select! {
        done = work => done,
        error = look_for_ever => Err(error),
    }
}

/// What an earlier version stored in the portal's namespace is moved to the operator's own one, and the
/// pods notice nothing.
#[tokio::test]
async fn the_state_of_an_earlier_version_is_moved_and_its_secret_deleted() -> Result<()> {
    let namespace = Namespace::open_without_operator("e2e-fault-upgraded").await?;
    let database = Database::from_settings()?;
    let operator = Operator::start(namespace.name(), &Faults::default()).await?;
    let spec = source::rotating("AlternatingUsers");
    start_portal(&namespace, &database, "moved", "e2e_upgraded", spec).await?;
    rotate_in_a_row(&namespace, "moved", 1).await?;
    let last = last_rotation(&namespace, "moved").await?;
    operator.stop().await?;
    let load = StoreLoad::start(&namespace, "moved", &database).await?;

    // An operator inside of the test has its own namespace here.
    let states = namespace.api::<Secret>();
    let name = name_of_state(&namespace, "moved").await?;
    let mut state = state_in(&states, &name).await?;
    write_earlier_state(&namespace, "moved", &mut state).await?;
    states.delete(&name, &DeleteParams::default()).await?;

    let operator = Operator::start(namespace.name(), &Faults::default()).await?;
    wait_until_earlier_state_is_gone(&namespace, "moved").await?;
    let moved = state_in(&states, &name).await?;
    for field in ["generation", "published", "place", "root", "sourceVersion", "history"] {
        assert_eq!(moved[field], state[field], "{field} of the state");
    }
    assert_eq!(last_rotation(&namespace, "moved").await?.generation, last.generation);
    // It suffices to go on from.
    rotate_in_a_row(&namespace, "moved", 1).await?;
    let figures = load.stop(&database).await?;
    println!("a state of an earlier version: {figures}");
    figures.expect_no_failure()?;
    let told = warnings(&namespace, "moved").await?;
    ensure!(told.iter().all(|(reason, _)| reason != "StateRefused"), "it was refused: {told:?}");
    namespace.delete_portal("moved").await?;
    operator.stop().await
}

/// Whoever may write Secrets in a namespace could have the operator alter another portal's account.
#[tokio::test]
async fn a_state_that_names_another_portals_account_is_refused_and_deleted() -> Result<()> {
    let (namespace, database) = (Namespace::open("e2e-forged").await?, Database::from_settings()?);
    let mut spec = source::rotating("AlternatingUsers");
    spec["hardware"]["replicas"] = json!(1);
    let root = start_portal(&namespace, &database, "victim", "e2e_forged", spec.clone()).await?;
    last_rotation(&namespace, "victim").await?;
    let before = published(&namespace, "victim").await?;
    let victim = &before.1[0];

    // As if that account were the forger's own, about to be replaced and locked.
    let mut state = stored_state(&namespace, "victim").await?;
    state["published"][0]["password"] = json!("chosen by the forger");
    database.execute("DROP DATABASE IF EXISTS e2e_forger").await?;
    database.execute("CREATE DATABASE e2e_forger").await?;
    state["place"]["database"] = json!("e2e_forger");
    write_earlier_state(&namespace, "forger", &mut state).await?;
    let mut data = source::data(&database, "e2e_forger", "e2e_forged", &root)?;
    data["MYSQL_DATABASE"] = json!("e2e_forger");
    namespace.apply_secret("db-forger", source::allow("forger"), data).await?;
    spec["database"]["mysql"]["source"]["secret"]["name"] = json!("db-forger");
    namespace.apply_portal("forger", spec).await?;

    expect_warning_after(&namespace, "forger", "StateRefused", &[&victim.0, "is deleted"]).await?;
    wait_until_earlier_state_is_gone(&namespace, "forger").await?;
    // It starts from nothing, with accounts of its own.
    namespace.wait_until_ready("forger").await?;
    rotate_in_a_row(&namespace, "forger", 1).await?;
    let (_, own) = published(&namespace, "forger").await?;
    ensure!(prefix(&own[0].0) != prefix(&victim.0), "the forger logs in as {}", own[0].0);

    assert_eq!(published(&namespace, "victim").await?, before, "the other portal's login");
    database.connect(&victim.0, &victim.1).await?.disconnect().await?;
    namespace.delete_portal("forger").await?;
    namespace.delete_portal("victim").await
}

/// A namespace that is restored from a backup has the Secrets, and portals with other uids.
#[tokio::test]
async fn a_restored_namespace_starts_anew_and_leaves_the_accounts_of_its_former_life_alone()
-> Result<()> {
    let (namespace, database) =
        (Namespace::open("e2e-restored").await?, Database::from_settings()?);
    let mut spec = source::rotating("AlternatingUsers");
    spec["hardware"]["replicas"] = json!(1);
    start_portal(&namespace, &database, "again", "e2e_restored", spec.clone()).await?;
    last_rotation(&namespace, "again").await?;
    let (_, before) = published(&namespace, "again").await?;
    let (mut state, name) =
        (stored_state(&namespace, "again").await?, name_of_state(&namespace, "again").await?);
    namespace.delete_portal("again").await?;
    wait_until_forgotten(namespace.client(), &name, RETIRED).await?;
    // Somebody else goes on with the account, as where a namespace is restored beside the first one.
    let (user, password) = &before[0];
    database.execute(&format!("ALTER USER '{user}'@'%' ACCOUNT UNLOCK")).await?;

    write_earlier_state(&namespace, "again", &mut state).await?;
    namespace.apply_portal("again", spec).await?;
    expect_warning_after(&namespace, "again", "StateRefused", &[user, "is deleted"]).await?;
    wait_until_earlier_state_is_gone(&namespace, "again").await?;
    namespace.wait_until_ready("again").await?;
    rotate_in_a_row(&namespace, "again", 1).await?;
    let (_, after) = published(&namespace, "again").await?;
    ensure!(prefix(&after[0].0) != prefix(user), "it logs in as {}", after[0].0);
    database.connect(user, password).await?.disconnect().await?;
    namespace.delete_portal("again").await?;
    database.execute(&format!("DROP USER '{user}'@'%'")).await
}

/// Writes a state to where an earlier version kept it, with the labels that it had.
async fn write_earlier_state(namespace: &Namespace, portal: &str, state: &mut Value) -> Result<()> {
    ensure!(state["published"][0]["password"].is_string(), "not a state of a portal at rest");
    let fields = state.as_object_mut().context("a state is an object")?;
    fields.retain(|name, _| !LATER_FIELDS.contains(&name.as_str()));
    let labels = json!({
        "app.kubernetes.io/managed-by": "gill-hicks-operator",
        "app.kubernetes.io/instance": portal,
    });
    let data = json!({"state.json": state.to_string()});
    namespace.apply_secret(&format!("{portal}-rotation"), labels, data).await
}

async fn wait_until_earlier_state_is_gone(namespace: &Namespace, portal: &str) -> Result<()> {
    let (secrets, name) = (namespace.api::<Secret>(), format!("{portal}-rotation"));
    eventually(&format!("the end of the Secret {name}"), SETTLED, async || {
        ensure!(secrets.get_metadata_opt(&name).await?.is_none(), "it is still there");
        Ok(())
    })
    .await
}

/// A pass may come a while after a portal was applied.
async fn expect_warning_after(
    namespace: &Namespace,
    portal: &str,
    reason: &str,
    words: &[&str],
) -> Result<()> {
    eventually(&format!("{reason} of {portal}"), SETTLED, async || {
        expect_warning(namespace, portal, reason, words).await
    })
    .await
}
