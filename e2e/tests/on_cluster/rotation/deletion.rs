//! What is left of the accounts after a portal.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use crds::HardwarePortal;
use e2e::{
    Namespace,
    database::Database,
    node::kill,
    operator,
    program::{run_in_root, run_in_shell},
    rotation::{
        last_rotation, name_of_state, prefix, published, start_portal, stored_states,
        wait_until_forgotten,
    },
    source,
    wait::eventually,
};
use k8s_openapi::api::{
    core::v1::Namespace as NamespaceObject,
    rbac::v1::{Role, RoleBinding},
};
use kube::{
    Api, Client,
    api::{DeleteParams, PostParams},
};
use serde_json::json;

/// What the operator gives an account's removal before it lets a portal go, and some more for the
/// namespace itself.
const NAMESPACE_GONE: Duration = Duration::from_mins(4);
/// The state is forgotten right after the accounts are retired.
const SOON: Duration = Duration::from_secs(10);
/// What a portal with the policy Retain leaves is looked for every ten seconds.
const RETIRED: Duration = Duration::from_mins(1);
/// Operators that were killed, a claim of the old one that has to expire, and the time above.
const RETIRED_BY_THE_NEXT: Duration = Duration::from_mins(2);

#[tokio::test]
async fn a_deleted_portals_accounts_are_locked_within_a_minute() -> Result<()> {
    let (namespace, database) = (Namespace::open("e2e-retain").await?, Database::from_settings()?);
    // The default of the deletion policy.
    let leaving = Leaving::start(&namespace, &database, "leaving", "e2e_retain", None).await?;
    namespace.delete_portal("leaving").await?;
    let started = Instant::now();
    leaving.wait_until_locked(&database, RETIRED).await?;
    println!("Retain: locked {:.1} s after the portal", started.elapsed().as_secs_f64());
    database.expect_denied(&leaving.user, &leaving.password).await?;
    database.execute(&format!("DROP USER '{}'@'%'", leaving.user)).await
}

#[tokio::test]
async fn a_deleted_portals_accounts_are_dropped_where_it_asks_for_that() -> Result<()> {
    let (namespace, database) =
        (Namespace::open("e2e-farewell").await?, Database::from_settings()?);
    let policy = Some("DropAccounts");
    let leaving = Leaving::start(&namespace, &database, "leaving", "e2e_drop", policy).await?;
    namespace.delete_portal("leaving").await?;
    // The portal is let go after both.
    leaving.expect_dropped(&database).await
}

/// The operator's Role may go before the portals: what is stored in its own namespace suffices.
#[tokio::test]
async fn accounts_are_dropped_though_the_role_went_first() -> Result<()> {
    let (namespace, database) =
        (Namespace::open("e2e-roleless").await?, Database::from_settings()?);
    let policy = Some("DropAccounts");
    let leaving = Leaving::start(&namespace, &database, "leaving", "e2e_roleless", policy).await?;
    let rights = Rights::of(&namespace).await?;
    let operator = "gill-hicks-operator";
    namespace.api::<RoleBinding>().delete(operator, &DeleteParams::default()).await?;
    namespace.api::<Role>().delete(operator, &DeleteParams::default()).await?;
    let started = Instant::now();
    let deleted = namespace.delete_portal("leaving").await;
    let took = started.elapsed();
    rights.give(&namespace).await?;
    deleted?;
    println!("without a Role: gone after {:.1} s", took.as_secs_f64());
    leaving.expect_dropped(&database).await
}

/// Whoever leads next finds what is to be done in the operator's own namespace.
#[tokio::test]
async fn accounts_of_portals_deleted_while_the_operator_was_killed_are_retired() -> Result<()> {
    let (namespace, database) = (Namespace::open("e2e-widowed").await?, Database::from_settings()?);
    let kept = Leaving::start(&namespace, &database, "kept", "e2e_widowed_kept", None).await?;
    let policy = Some("DropAccounts");
    let dropped =
        Leaving::start(&namespace, &database, "dropped", "e2e_widowed_dropped", policy).await?;
    for pod in operator::pods(&namespace.client()).await? {
        kill(&pod)?;
    }
    let started = Instant::now();
    for portal in ["kept", "dropped"] {
        let portals = namespace.api::<HardwarePortal>();
        portals.delete(portal, &DeleteParams::background()).await?;
    }
    kept.wait_until_locked(&database, RETIRED_BY_THE_NEXT).await?;
    // That they are gone, and all they owned.
    for portal in ["kept", "dropped"] {
        namespace.delete_portal(portal).await?;
    }
    dropped.expect_dropped(&database).await?;
    println!("after a killed operator: retired within {:.1} s", started.elapsed().as_secs_f64());
    database.execute(&format!("DROP USER '{}'@'%'", kept.user)).await
}

/// An object that cannot be read any more, as after the definition was changed.
#[tokio::test]
async fn accounts_of_a_malformed_portal_are_dropped() -> Result<()> {
    let (namespace, database) =
        (Namespace::open("e2e-malformed").await?, Database::from_settings()?);
    let policy = Some("DropAccounts");
    let leaving = Leaving::start(&namespace, &database, "leaving", "e2e_malformed", policy).await?;
    let broken = break_portal(&namespace, "leaving").await;
    // Everybody needs the definition as it was.
    run_in_root(
        "kubectl apply --server-side --force-conflicts --filename crds/hardwareportals.yaml",
    )?;
    broken?;
    let spec = namespace.stored_portal("leaving").await?["spec"].clone();
    assert_eq!(spec["database"]["mysql"]["rotation"]["mode"], "Unheard", "it is malformed");
    namespace.delete_portal("leaving").await?;
    leaving.expect_dropped(&database).await
}

/// Stores a mode that there is not, which the definition has to allow for a moment.
async fn break_portal(namespace: &Namespace, portal: &str) -> Result<()> {
    let mode = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/database/properties/mysql/properties/rotation/properties/mode/enum";
    let allow_all = json!([{"op": "remove", "path": mode}]);
    run_in_shell(&format!(
        "kubectl patch crd hardwareportals.gill-hicks.dev --type json --patch '{allow_all}'"
    ))?;
    let broken = json!({"spec": {"database": {"mysql": {"rotation": {"mode": "Unheard"}}}}});
    let break_it = format!(
        "kubectl --namespace {} patch hwp {portal} --type merge --patch '{broken}'",
        namespace.name()
    );
    // The API server goes by the new definition a moment later.
    eventually("a malformed portal", RETIRED, async || run_in_shell(&break_it).map(drop)).await
}

/// A portal that is about to be deleted.
struct Leaving {
    client: Client,
    user: String,
    password: String,
    /// Name of the Secret with the state of its rotations.
    state: String,
}

impl Leaving {
    async fn start(
        namespace: &Namespace,
        database: &Database,
        portal: &str,
        root: &str,
        policy: Option<&str>,
    ) -> Result<Self> {
        let password = database.create_root(root).await?;
        let secret = format!("db-{portal}");
        source::trust(namespace, &[database]).await?;
        let data = source::data(database, root, root, &password)?;
        namespace.apply_secret(&secret, source::allow(portal), data).await?;
        let mut spec = source::rotating("AlternatingUsers");
        spec["hardware"]["replicas"] = json!(1);
        spec["database"]["mysql"]["source"]["secret"]["name"] = json!(secret);
        if let Some(policy) = policy {
            spec["database"]["mysql"]["deletionPolicy"] = json!(policy);
        }
        namespace.apply_portal(portal, spec).await?;
        namespace.wait_until_ready(portal).await?;
        last_rotation(namespace, portal).await?;
        let (_, logins) = published(namespace, portal).await?;
        let (user, password) = logins[0].clone();
        let accounts = database.accounts(&prefix(&user)).await?;
        assert_eq!(accounts.len(), 1, "one account, and no owner: {accounts:?}");
        let state = name_of_state(namespace, portal).await?;
        stored_states(namespace.client()).get_metadata(&state).await?;
        Ok(Self { client: namespace.client(), user, password, state })
    }

    async fn wait_until_locked(&self, database: &Database, deadline: Duration) -> Result<()> {
        database.wait_until_locked(&prefix(&self.user), deadline).await?;
        wait_until_forgotten(self.client.clone(), &self.state, SOON).await
    }

    async fn expect_dropped(&self, database: &Database) -> Result<()> {
        let left = database.accounts(&prefix(&self.user)).await?;
        ensure!(left.is_empty(), "accounts of a portal that is gone: {left:?}");
        wait_until_forgotten(self.client.clone(), &self.state, SOON).await
    }
}

/// Everything goes at once: the source, what the operator remembers, and its rights in the namespace.
#[tokio::test]
async fn a_namespace_that_is_deleted_ends_and_takes_its_accounts_along() -> Result<()> {
    let (namespace, database) = (Namespace::open("e2e-doomed").await?, Database::from_settings()?);
    let mut spec = source::rotating("AlternatingUsers");
    spec["hardware"]["replicas"] = json!(1);
    spec["database"]["mysql"]["deletionPolicy"] = json!("DropAccounts");
    start_portal(&namespace, &database, "doomed", "e2e_doomed", spec).await?;
    let (_, logins) = published(&namespace, "doomed").await?;
    let prefix = logins[0].0.trim_end_matches(['a', 'b']);
    assert_eq!(database.accounts(prefix).await?.len(), 1, "one account, and no owner");

    let namespaces: Api<NamespaceObject> = Api::all(namespace.client());
    let rights = Rights::of(&namespace).await?;
    let started = Instant::now();
    namespaces.delete(namespace.name(), &DeleteParams::default()).await?;
    let gone = eventually("the end of the namespace", NAMESPACE_GONE, async || {
        let left = namespaces.get_opt(namespace.name()).await?;
        ensure!(left.is_none(), "it is still there: {:?}", left.and_then(|left| left.status));
        Ok(())
    })
    .await;
    let took = started.elapsed();
    // The next run, and whoever looks at what is stuck, needs it as it was.
    rights.give(&namespace).await?;
    gone?;
    let left = database.accounts(prefix).await?;
    println!(
        "a namespace with DropAccounts: gone after {:.1} s, accounts left: {left:?}",
        took.as_secs_f64()
    );
    ensure!(left.is_empty(), "accounts of a portal that is gone: {left:?}");
    Ok(())
}

/// A namespace and the operator's rights in it, to be made again.
struct Rights {
    namespace: NamespaceObject,
    role: Role,
    binding: RoleBinding,
}

impl Rights {
    async fn of(namespace: &Namespace) -> Result<Self> {
        let operator = "gill-hicks-operator";
        let object: NamespaceObject = Api::all(namespace.client()).get(namespace.name()).await?;
        let mut fresh = NamespaceObject::default();
        fresh.metadata.name = object.metadata.name;
        fresh.metadata.labels = object.metadata.labels;
        let mut role: Role = namespace.api().get(operator).await?;
        let mut binding: RoleBinding = namespace.api().get(operator).await?;
        for metadata in [&mut role.metadata, &mut binding.metadata] {
            metadata.resource_version = None;
            metadata.uid = None;
            metadata.managed_fields = None;
        }
        Ok(Self { namespace: fresh, role, binding })
    }

    async fn give(self, namespace: &Namespace) -> Result<()> {
        let new = PostParams::default();
        let namespaces = Api::all(namespace.client());
        if namespaces.get_opt(namespace.name()).await?.is_none() {
            namespaces.create(&new, &self.namespace).await?;
        }
        if namespace.api::<Role>().get_opt("gill-hicks-operator").await?.is_none() {
            namespace.api().create(&new, &self.role).await?;
        }
        if namespace.api::<RoleBinding>().get_opt("gill-hicks-operator").await?.is_none() {
            namespace.api().create(&new, &self.binding).await?;
        }
        Ok(())
    }
}
