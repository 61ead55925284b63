//! What is left of the accounts after a portal.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use e2e::{
    Namespace,
    database::Database,
    rotation::{published, start_portal},
    source,
    wait::eventually,
};
use k8s_openapi::api::{
    core::v1::Namespace as NamespaceObject,
    rbac::v1::{Role, RoleBinding},
};
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use serde_json::json;

/// What the operator gives an account's removal before it lets a portal go, and some more for the
/// namespace itself.
const NAMESPACE_GONE: Duration = Duration::from_mins(4);

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
