//! Credentials change while a load writes through the store in the real pods, and nothing fails.
#![expect(clippy::print_stdout, reason = "the figures of a run are part of its proof")]

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use crds::{HardwarePortal, RotationCause, RotationOutcome, RotationPhase, RotationRecord};
use e2e::{
    Namespace,
    database::Database,
    program::{read_page, run_in_shell},
    secrets_manager, source,
    store_load::StoreLoad,
    terraform::Terraform,
    wait::{eventually, throughout},
};
use k8s_openapi::{
    api::core::v1::{Pod, Secret},
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::SignedDuration,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, LogParams},
};
use mysql_async::prelude::Queryable;
use serde_json::{Value, json};

/// Longer than any rotation without an obstacle takes on a busy machine.
const ROTATED: Duration = Duration::from_mins(2);

/// A portal on an empty schema, with a root account of its own.
async fn start_portal(
    namespace: &Namespace,
    database: &Database,
    name: &str,
    root: &str,
    spec: Value,
) -> Result<String> {
    let password = database.create_root(root).await?;
    source::offer(namespace, database, root, &password, source::allow(name)).await?;
    namespace.apply_portal(name, spec).await?;
    namespace.wait_until_ready(name).await?;
    Ok(password)
}

/// The latest rotation that has ended, once none is under way.
async fn last_rotation(namespace: &Namespace, portal: &str) -> Result<RotationRecord> {
    let portal: HardwarePortal = namespace.api().get(portal).await?;
    let credentials = portal.status.and_then(|status| status.credentials);
    let credentials = credentials.context("the status tells of credentials")?;
    ensure!(
        credentials.phase == Some(RotationPhase::Idle),
        "the rotation is at {:?}",
        credentials.phase
    );
    credentials.history.into_iter().next().context("no rotation has ended")
}

/// Waits for the end of a rotation that leads beyond a generation.
async fn wait_for_rotation(
    namespace: &Namespace,
    portal: &str,
    beyond: i64,
) -> Result<RotationRecord> {
    eventually(&format!("a rotation of {portal} beyond generation {beyond}"), ROTATED, async || {
        let last = last_rotation(namespace, portal).await?;
        ensure!(last.generation > beyond, "the last one led to generation {}", last.generation);
        Ok(last)
    })
    .await
}

/// Rotates on request, `times` in a row, and gives how long the slowest took to be adopted and to end.
async fn rotate_in_a_row(
    namespace: &Namespace,
    portal: &str,
    times: usize,
) -> Result<(Duration, Duration)> {
    let mut slowest = (Duration::ZERO, Duration::ZERO);
    let mut last = last_rotation(namespace, portal).await?;
    for _ in 0..times {
        namespace.ask_for_rotation(portal).await?;
        last = wait_for_rotation(namespace, portal, last.generation).await?;
        ensure!(last.outcome == RotationOutcome::Completed, "it ended otherwise: {last:?}");
        let since_start = |end: &Option<Time>| {
            let (start, end) = (last.started_at.as_ref(), end.as_ref());
            let times = start.zip(end).map(|(start, end)| end.0.duration_since(start.0));
            times.map(SignedDuration::unsigned_abs).unwrap_or_default()
        };
        slowest.0 = slowest.0.max(since_start(&last.adopted_at));
        slowest.1 = slowest.1.max(since_start(&last.revoked_at));
    }
    Ok(slowest)
}

/// The logins that the pods' file holds: generation, then account and password of each.
async fn published(namespace: &Namespace, portal: &str) -> Result<(u64, Vec<(String, String)>)> {
    let secret: Secret = namespace.api().get(&format!("{portal}-database")).await?;
    let file = secret.data.and_then(|mut data| data.remove("credentials.json"));
    let file: Value = serde_json::from_slice(&file.context("the Secret has a file")?.0)?;
    let text = |login: &Value, key: &str| login[key].as_str().unwrap_or_default().to_owned();
    let logins = file["candidates"].as_array().cloned().unwrap_or_default();
    let logins = logins.iter().map(|login| (text(login, "username"), text(login, "password")));
    Ok((file["generation"].as_u64().unwrap_or_default(), logins.collect()))
}

async fn rotate_under_load(
    mode: &str,
    namespace: &str,
    root: &str,
    times: usize,
    denied_by_us: u64,
) -> Result<()> {
    let (namespace, database) = (Namespace::open(namespace).await?, Database::from_settings()?);
    start_portal(&namespace, &database, "turning", root, source::rotating(mode)).await?;
    let (_, before) = published(&namespace, "turning").await?;
    let load = StoreLoad::start(&namespace, "turning", &database).await?;
    let rotated = rotate_in_a_row(&namespace, "turning", times).await;
    let figures = load.stop(&database).await?;
    let (adopted, revoked) = rotated?;
    println!(
        "{mode}, {times} rotations: {figures}; slowest: adopted after {:.1} s, revoked after {:.1} s",
        adopted.as_secs_f64(),
        revoked.as_secs_f64()
    );
    figures.expect_no_failure()?;
    ensure!(
        figures.denied == denied_by_us,
        "{} logins were denied, {denied_by_us} of them are the operator's own proofs",
        figures.denied
    );

    let (_, after) = published(&namespace, "turning").await?;
    assert_eq!(after.len(), 1, "the new login alone is published");
    ensure!(before != after, "the login did not change");
    let (user, password) = &before[0];
    ensure!(database.connect(user, password).await.is_err(), "the first login is still let in");
    let (user, password) = &after[0];
    database.connect(user, password).await?.disconnect().await?;
    namespace.delete_portal("turning").await
}

#[tokio::test]
async fn twenty_rotations_between_two_accounts_fail_no_operation() -> Result<()> {
    // The server does not count logins to a locked account, which is what the proof is.
    rotate_under_load("AlternatingUsers", "e2e-alternating", "e2e_alternating", 20, 0).await
}

#[tokio::test]
async fn five_rotations_between_two_passwords_fail_no_operation() -> Result<()> {
    // Each rotation tries the new password before it is added, and the old one after it was dropped.
    rotate_under_load("DualPassword", "e2e-dual", "e2e_dual", 5, 10).await
}

#[tokio::test]
async fn a_session_on_the_old_account_holds_the_rotation_up_and_is_named() -> Result<()> {
    let (namespace, database) = (Namespace::open("e2e-stall").await?, Database::from_settings()?);
    start_portal(&namespace, &database, "held", "e2e_stall", source::rotating("AlternatingUsers"))
        .await?;
    let (_, before) = published(&namespace, "held").await?;
    let (user, password) = &before[0];
    let mut foreign = database.connect(user, password).await?;
    let id: Option<u64> = foreign.query_first("SELECT CONNECTION_ID()").await?;
    let id = id.context("the server numbers sessions")?;

    let last = last_rotation(&namespace, "held").await?;
    namespace.ask_for_rotation("held").await?;
    let condition = namespace.wait_for_condition("held", "CredentialsReady", "False").await?;
    assert_eq!(condition.reason, "RotationStalled", "{}", condition.message);
    ensure!(condition.message.contains(&format!("session {id}")), "{}", condition.message);
    throughout("the old login is valid", Duration::from_secs(5), async || {
        database.connect(user, password).await?.disconnect().await?;
        Ok(())
    })
    .await?;
    let portal: HardwarePortal = namespace.api().get("held").await?;
    e2e::namespace::expect_condition(&portal, "Ready", "True")?;

    foreign.disconnect().await?;
    let ended = wait_for_rotation(&namespace, "held", last.generation).await?;
    assert_eq!(ended.outcome, RotationOutcome::Completed);
    ensure!(database.connect(user, password).await.is_err(), "the old login is still let in");
    namespace.delete_portal("held").await
}

#[tokio::test]
async fn a_source_that_is_wrong_or_gone_leaves_the_pods_alone_and_is_explained() -> Result<()> {
    let (namespace, database) = (Namespace::open("e2e-badroot").await?, Database::from_settings()?);
    let password = start_portal(
        &namespace,
        &database,
        "steady",
        "e2e_badroot",
        source::rotating("AlternatingUsers"),
    )
    .await?;
    let before = published(&namespace, "steady").await?;
    let load = StoreLoad::start(&namespace, "steady", &database).await?;
    let right = source::data(&database, "e2e_badroot", "e2e_badroot", &password)?;
    let mut wrong = right.clone();
    wrong["MYSQL_PASSWORD"] = json!("not the password");
    let mut incomplete = right.clone();
    incomplete["MYSQL_USER"] = json!("");

    for (data, labels, reason, words) in [
        (&incomplete, source::allow("steady"), "SourceInvalid", "MYSQL_USER"),
        (&right, json!({}), "SourceNotAllowed", "gill-hicks.dev/allow-portal"),
    ] {
        namespace.apply_secret("db", labels, data.clone()).await?;
        wait_for_reason(&namespace, "steady", reason, words).await?;
    }
    let secrets = namespace.api::<Secret>();
    secrets.delete("db", &DeleteParams::default()).await?;
    wait_for_reason(&namespace, "steady", "SourceNotFound", "db").await?;
    assert_eq!(published(&namespace, "steady").await?, before, "the pods' file was not touched");

    // A wrong password: the last one that worked goes on working until it does not.
    database
        .execute("ALTER USER 'e2e_badroot'@'%' IDENTIFIED BY 'changed by somebody else'")
        .await?;
    namespace.apply_secret("db", source::allow("steady"), wrong).await?;
    wait_for_reason(&namespace, "steady", "RootRejected", "source").await?;
    assert_eq!(published(&namespace, "steady").await?, before, "the pods' file was not touched");

    let mut healed = right;
    healed["MYSQL_PASSWORD"] = json!("changed by somebody else");
    namespace.apply_secret("db", source::allow("steady"), healed).await?;
    wait_for_rotation(&namespace, "steady", i64::try_from(before.0)?).await?;
    let figures = load.stop(&database).await?;
    println!("a source that is wrong, gone and healed: {figures}");
    figures.expect_no_failure()?;
    namespace.delete_portal("steady").await
}

async fn wait_for_reason(
    namespace: &Namespace,
    portal: &str,
    reason: &str,
    words: &str,
) -> Result<()> {
    eventually(&format!("CredentialsReady with {reason}"), ROTATED, async || {
        let portal: HardwarePortal = namespace.api().get(portal).await?;
        let found = e2e::namespace::expect_condition(&portal, "CredentialsReady", "False")?;
        ensure!(found.reason == reason, "it is {}: {}", found.reason, found.message);
        ensure!(found.message.contains(words), "it should speak of {words}: {}", found.message);
        // Pods that hold a login go on serving.
        e2e::namespace::expect_condition(&portal, "Ready", "True")?;
        Ok(())
    })
    .await
}

/// The operator is killed again and again while rotations go on; whatever step it dies in, the next
/// one goes on from there.
#[tokio::test]
async fn an_operator_that_is_killed_at_any_step_leaves_one_usable_account() -> Result<()> {
    let (namespace, database) = (Namespace::open("e2e-killed").await?, Database::from_settings()?);
    start_portal(
        &namespace,
        &database,
        "tough",
        "e2e_killed",
        source::rotating("AlternatingUsers"),
    )
    .await?;
    let load = StoreLoad::start(&namespace, "tough", &database).await?;
    let operators: Api<Pod> = Api::namespaced(namespace.client(), "gill-hicks-system");
    let mut last = last_rotation(&namespace, "tough").await?;
    for round in 0..6_u64 {
        namespace.ask_for_rotation("tough").await?;
        // A little later each time, so that another step is hit.
        tokio::time::sleep(Duration::from_millis(150 * round)).await;
        for pod in operators.list(&ListParams::default()).await? {
            operators.delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await?;
        }
        last = wait_for_rotation(&namespace, "tough", last.generation).await?;
        assert_eq!(last.outcome, RotationOutcome::Completed, "{last:?}");
    }
    let figures = load.stop(&database).await?;
    println!("the operator killed 6 times: {figures}");
    figures.expect_no_failure()?;

    let (_, logins) = published(&namespace, "tough").await?;
    assert_eq!(logins.len(), 1, "one login is published");
    let prefix = logins[0].0.trim_end_matches(['a', 'b']);
    let accounts = database.accounts(prefix).await?;
    assert_eq!(accounts.len(), 2, "two accounts and no owner: {accounts:?}");
    let open: Vec<&String> =
        accounts.iter().filter(|(_, is_locked)| !**is_locked).map(|(name, _)| name).collect();
    assert_eq!(open, [&logins[0].0], "the one that the pods use is the one that is open");
    namespace.delete_portal("tough").await
}

#[tokio::test]
async fn deletion_drops_the_accounts_or_keeps_them_as_asked() -> Result<()> {
    let (namespace, database) =
        (Namespace::open("e2e-farewell").await?, Database::from_settings()?);
    for (policy, root, left) in [("DropAccounts", "e2e_drop", 0), ("Retain", "e2e_retain", 1)] {
        let mut spec = source::rotating("AlternatingUsers");
        spec["database"]["mysql"]["deletionPolicy"] = json!(policy);
        start_portal(&namespace, &database, "leaving", root, spec).await?;
        let (_, logins) = published(&namespace, "leaving").await?;
        let prefix = logins[0].0.trim_end_matches(['a', 'b']);
        assert_eq!(database.accounts(prefix).await?.len(), 1, "one account, and no owner");
        namespace.delete_portal("leaving").await?;
        assert_eq!(database.accounts(prefix).await?.len(), left, "{policy}");
        database.execute(&format!("DROP USER IF EXISTS '{}'@'%'", logins[0].0)).await?;
    }
    Ok(())
}

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
    let commands = std::process::Command::new("ps").args(["axww", "-o", "args"]).output()?;
    let commands = String::from_utf8_lossy(&commands.stdout).into_owned();
    ensure!(secrets.iter().all(|secret| !commands.contains(secret)), "an argument is a password");
    namespace.delete_portal("silent").await
}

/// From a hand-made account to accounts of the operator's own, without a failed request.
#[tokio::test]
async fn a_portal_on_a_hand_made_account_moves_to_accounts_of_its_own() -> Result<()> {
    let (namespace, database) = (Namespace::open("e2e-adopted").await?, Database::from_settings()?);
    let root = database.create_root("e2e_adopted").await?;
    let by_hand = e2e::database::random_password()?;
    database.execute("DROP USER IF EXISTS 'e2e_by_hand'@'%'").await?;
    database
        .execute(&format!("CREATE USER 'e2e_by_hand'@'%' IDENTIFIED BY '{by_hand}' REQUIRE SSL"))
        .await?;
    database
        .execute("GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, INDEX, DROP, REFERENCES ON e2e_adopted.* TO 'e2e_by_hand'@'%'")
        .await?;
    source::offer(&namespace, &database, "e2e_adopted", &root, source::allow("moved")).await?;
    let data = source::data(&database, "e2e_adopted", "e2e_by_hand", &by_hand)?;
    namespace.apply_secret("db", source::allow("moved"), data).await?;
    namespace.apply_portal("moved", source::rotating("Follow")).await?;
    namespace.wait_until_ready("moved").await?;

    let started = Instant::now();
    let load = StoreLoad::start(&namespace, "moved", &database).await?;
    let data = source::data(&database, "e2e_adopted", "e2e_adopted", &root)?;
    namespace.apply_secret("db", source::allow("moved"), data).await?;
    namespace.apply_portal("moved", source::rotating("AlternatingUsers")).await?;
    eventually("a login of the operator's own", ROTATED, async || {
        let (_, logins) = published(&namespace, "moved").await?;
        ensure!(logins.len() == 1 && logins[0].0.starts_with("hw_"), "{} logins", logins.len());
        last_rotation(&namespace, "moved").await?;
        Ok(())
    })
    .await?;
    let figures = load.stop(&database).await?;
    println!("from a hand-made account to its own after {:?}: {figures}", started.elapsed());
    figures.expect_no_failure()?;
    // Somebody else's account is theirs to end.
    database.connect("e2e_by_hand", &by_hand).await?.disconnect().await?;
    namespace.delete_portal("moved").await
}

/// The root's password is changed on the server and then by a real `terraform apply`, whose state is
/// too large for one Secret.
#[tokio::test]
async fn a_root_that_terraform_changes_reaches_the_pods_without_a_failed_request() -> Result<()> {
    let (namespace, database) =
        (Namespace::open("e2e-terraform").await?, Database::from_settings()?);
    let password = database.create_root("e2e_terraform").await?;
    source::offer(&namespace, &database, "e2e_terraform", &password, json!({})).await?;
    let terraform = Terraform::init(namespace.name(), "formed")?;
    let mut outputs = source::data(&database, "e2e_terraform", "e2e_terraform", &password)?;
    terraform.apply(&outputs, 1000)?;
    let mut spec = source::rotating("AlternatingUsers");
    spec["database"]["mysql"]["source"] = json!({"terraformState": {"secretSuffix": "rds"}});
    namespace.apply_portal("formed", spec).await?;
    namespace.wait_until_ready("formed").await?;
    let mut last = last_rotation(&namespace, "formed").await?;

    let changed = e2e::database::random_password()?;
    let load = StoreLoad::start(&namespace, "formed", &database).await?;
    let started = Instant::now();
    // A state holds the padding twice, as what went into the resource and as what came out: 3 MiB.
    change_root(&database, &terraform, &mut outputs, &changed, 3 << 19).await?;
    let applied = started.elapsed();
    last = wait_for_rotation(&namespace, "formed", last.generation).await?;
    let figures = load.stop(&database).await?;
    println!(
        "terraform apply with a state of 3 MiB: {figures}; applied after {:.1} s, revoked after {:.1} s",
        applied.as_secs_f64(),
        started.elapsed().as_secs_f64()
    );
    figures.expect_no_failure()?;
    assert_eq!(last.reason, RotationCause::SourceChanged);
    ensure!(count_pieces(&namespace).await? >= 4, "the state is in one Secret");

    // More than ten pieces, whose names no longer sort like their numbers. Without the load, as
    // terraform keeps both cores busy for a quarter of a minute here.
    let changed = e2e::database::random_password()?;
    change_root(&database, &terraform, &mut outputs, &changed, 6 << 20).await?;
    last = wait_for_rotation(&namespace, "formed", last.generation).await?;
    assert_eq!(last.reason, RotationCause::SourceChanged);
    let pieces = count_pieces(&namespace).await?;
    ensure!(pieces > 10, "the state is in {pieces} Secrets only");
    namespace.delete_portal("formed").await
}

/// On the server first and in the source later, as it goes with every rotation by somebody else.
async fn change_root(
    database: &Database,
    terraform: &Terraform,
    outputs: &mut Value,
    password: &str,
    padding: usize,
) -> Result<()> {
    let user = outputs["MYSQL_USER"].as_str().context("the outputs name the account")?;
    database.execute(&format!("ALTER USER '{user}'@'%' IDENTIFIED BY '{password}'")).await?;
    outputs["MYSQL_PASSWORD"] = json!(password);
    terraform.apply(outputs, padding)
}

async fn count_pieces(namespace: &Namespace) -> Result<usize> {
    let pieces = ListParams::default().labels("tfstateSecretSuffix=rds");
    Ok(namespace.api::<Secret>().list(&pieces).await?.items.len())
}

/// The negative control: a login that is revoked while the pods use it must turn the figures red, or
/// they prove nothing. The operator then finds out by itself and gives the pods another login.
#[tokio::test]
async fn revoking_before_adoption_is_seen_in_the_figures_and_healed() -> Result<()> {
    let (namespace, database) = (Namespace::open("e2e-control").await?, Database::from_settings()?);
    let spec = source::rotating("AlternatingUsers");
    start_portal(&namespace, &database, "cut", "e2e_control", spec).await?;
    let (_, before) = published(&namespace, "cut").await?;
    let last = last_rotation(&namespace, "cut").await?;
    let load = StoreLoad::start(&namespace, "cut", &database).await?;
    let user = &before[0].0;
    database.execute(&format!("ALTER USER '{user}'@'%' ACCOUNT LOCK")).await?;
    // Sessions that are open go on; the pods need new ones.
    let mut admin = database.connect_as_admin().await?;
    let sessions: Vec<u64> = admin
        .query(format!("SELECT id FROM information_schema.processlist WHERE user = '{user}'"))
        .await?;
    for id in sessions {
        // One that has ended meanwhile is no error here.
        drop(admin.query_drop(format!("KILL {id}")).await);
    }
    admin.disconnect().await?;
    let healed = wait_for_rotation(&namespace, "cut", last.generation).await?;
    let figures = load.stop(&database).await?;
    println!("negative control, the login revoked first: {figures}");
    ensure!(figures.store_failed > 0, "nothing failed, so these figures prove nothing: {figures}");
    ensure!(figures.expect_no_failure().is_err(), "the check does not see it: {figures}");
    assert_eq!(healed.reason, RotationCause::Drift);
    namespace.delete_portal("cut").await
}

/// The root's password is changed on the server and then in Secrets Manager.
#[tokio::test]
async fn a_root_that_secrets_manager_changes_reaches_the_pods_without_a_failed_request()
-> Result<()> {
    let (namespace, database) = (Namespace::open("e2e-managed").await?, Database::from_settings()?);
    let password = database.create_root("e2e_managed").await?;
    // For the certificate authority; without the label this Secret is not a source.
    source::offer(&namespace, &database, "e2e_managed", &password, json!({})).await?;
    let secret = |password: &str| -> Result<Value> {
        Ok(json!({
            "username": "e2e_managed", "password": password, "dbname": "e2e_managed",
            "host": database.get("MYSQL_HOST")?,
            "port": database.get("MYSQL_PORT")?.parse::<u16>()?,
        }))
    };
    // Another name in each run, as the server of an earlier one may still be there.
    let name = format!("rds-{}", &e2e::database::random_password()?[..8]);
    secrets_manager::create(&name, namespace.name(), "managed", &secret(&password)?)?;
    let mut spec = source::rotating("AlternatingUsers");
    spec["database"]["mysql"]["source"] =
        json!({"secretsManager": {"secretId": name, "region": "eu-west-1"}});
    namespace.apply_portal("managed", spec).await?;
    namespace.wait_until_ready("managed").await?;
    let last = last_rotation(&namespace, "managed").await?;

    let load = StoreLoad::start(&namespace, "managed", &database).await?;
    let started = Instant::now();
    let changed = e2e::database::random_password()?;
    database.execute(&format!("ALTER USER 'e2e_managed'@'%' IDENTIFIED BY '{changed}'")).await?;
    secrets_manager::change(&name, &secret(&changed)?)?;
    let ended = wait_for_rotation(&namespace, "managed", last.generation).await?;
    let figures = load.stop(&database).await?;
    println!("Secrets Manager: {figures}; revoked after {:.1} s", started.elapsed().as_secs_f64());
    figures.expect_no_failure()?;
    assert_eq!(ended.reason, RotationCause::SourceChanged);
    namespace.delete_portal("managed").await
}

/// Somebody else changes the account: the resting one of two gets a new password, then the Secret says
/// so. The operator only follows, and tells when nobody uses the other one any more.
#[tokio::test]
async fn five_changes_by_somebody_else_are_followed_without_a_failed_operation() -> Result<()> {
    let (namespace, database) = (Namespace::open("e2e-follow").await?, Database::from_settings()?);
    let accounts = ["e2e_follow_one", "e2e_follow_two"];
    let mut password = database.create_schema("e2e_follow").await?;
    for account in accounts {
        for statement in [
            format!("DROP USER IF EXISTS '{account}'@'%'"),
            format!("CREATE USER '{account}'@'%' IDENTIFIED BY '{password}' REQUIRE SSL"),
            format!(
                "GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, INDEX, DROP, REFERENCES ON e2e_follow.* TO '{account}'@'%'"
            ),
        ] {
            database.execute(&statement).await?;
        }
    }
    source::offer(&namespace, &database, "e2e_follow", &password, source::allow("led")).await?;
    namespace.apply_portal("led", source::rotating("Follow")).await?;
    namespace.wait_until_ready("led").await?;
    let mut last = last_rotation(&namespace, "led").await?;

    let load = StoreLoad::start(&namespace, "led", &database).await?;
    for account in accounts.iter().cycle().take(5) {
        password = e2e::database::random_password()?;
        let statement = format!("ALTER USER '{account}'@'%' IDENTIFIED BY '{password}'");
        database.execute(&statement).await?;
        let data = source::data(&database, "e2e_follow", account, &password)?;
        namespace.apply_secret("db", source::allow("led"), data).await?;
        last = wait_for_rotation(&namespace, "led", last.generation).await?;
        assert_eq!(last.reason, RotationCause::SourceChanged);
        let (_, logins) = published(&namespace, "led").await?;
        assert_eq!(logins[0], ((*account).to_owned(), password.clone()), "the source's leads");
    }
    let figures = load.stop(&database).await?;
    println!("Follow, 5 changes by somebody else: {figures}");
    figures.expect_no_failure()?;
    namespace.delete_portal("led").await
}

/// The commands of docs/rotate.md as they stand there; only the names are filled in.
#[tokio::test]
async fn the_documented_way_to_ask_for_a_rotation_works_as_written() -> Result<()> {
    let (namespace, database) =
        (Namespace::open("e2e-documented").await?, Database::from_settings()?);
    let spec = source::rotating("AlternatingUsers");
    start_portal(&namespace, &database, "asked", "e2e_documented", spec).await?;
    let last = last_rotation(&namespace, "asked").await?;
    let page = read_page("rotate.md")?;
    let fill_in = |command: &str| {
        // The page shows commands for the namespace that kubectl is in, where it names none.
        let in_namespace = format!("kubectl -n {}", namespace.name());
        let command = command.replace("kubectl -n NAMESPACE", "kubectl");
        command.replace("kubectl", &in_namespace).replace("NAME", "asked")
    };

    let request = page.lines().find(|line| line.contains("annotate hwp"));
    run_in_shell(&fill_in(request.context("the page shows how to ask")?))?;
    let ended = wait_for_rotation(&namespace, "asked", last.generation).await?;
    assert_eq!(ended.reason, RotationCause::Requested);

    let command = page.split('`').find(|code| code.contains("status.credentials.history"));
    let history = run_in_shell(&fill_in(command.context("the page shows the history")?))?;
    let history: Value = serde_json::from_str(&history).with_context(|| history.clone())?;
    assert_eq!(history[0]["reason"], "Requested", "{history}");
    namespace.delete_portal("asked").await
}
