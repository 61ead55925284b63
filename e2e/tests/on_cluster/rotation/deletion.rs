//! What is left of the accounts after a portal.

use anyhow::Result;
use e2e::{
    Namespace,
    database::Database,
    rotation::{published, start_portal},
    source,
};
use serde_json::json;

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
