//! The rows that the list should have at least.

use std::{collections::BTreeSet, path::Path, sync::Arc, time::Duration};

use service_kit::watched_file::FileError;
use tokio::{
    sync::{Notify, watch},
    time::{sleep, timeout},
};
use tracing::{info, warn};

use crate::{
    reloadable_file::{ReloadableFile, changed},
    store::{AddedRows, CatalogEntry, Db, RefusedEntry, StoreError},
};

/// Pause between two attempts to add rows while the database is away.
const RETRY_PAUSE: Duration = Duration::from_secs(2);

/// How long adding rows may take.
const ADD_TIME: Duration = Duration::from_secs(15);

/// Longest name that is accepted, in characters, as in observations.
const MAX_NAME: usize = 128;

/// The entries of `file`; none without a file.
pub async fn open(file: Option<&Path>) -> Result<ReloadableFile<Vec<CatalogEntry>>, FileError> {
    match file {
        Some(path) => ReloadableFile::file(path, parse).await,
        None => Ok(ReloadableFile::fixed(Vec::new())),
    }
}

/// What the original application had.
fn default_entries() -> Vec<CatalogEntry> {
    let entry = |provider: &str, name: &str| CatalogEntry {
        provider: provider.to_owned(),
        name: name.to_owned(),
    };
    vec![entry("Amazon", "c5"), entry("Azure", "H16mr")]
}

/// Reads a catalog file: a list of `{"provider", "name"}`.
pub fn parse(bytes: &[u8]) -> Result<Vec<CatalogEntry>, String> {
    let entries: Vec<CatalogEntry> = serde_json::from_slice(bytes)
        .map_err(|error| format!("expected [{{\"provider\", \"name\"}}, …], found: {error}"))?;
    let mut seen = BTreeSet::new();
    for (index, CatalogEntry { provider, name }) in entries.iter().enumerate() {
        for (field, text) in [("provider", provider), ("name", name)] {
            if text.trim().is_empty() || text.chars().count() > MAX_NAME {
                return Err(format!(
                    "[{index}].{field}: expected 1 to {MAX_NAME} characters, found {text:?}"
                ));
            }
        }
        if !seen.insert((provider, name)) {
            return Err(format!("[{index}]: {provider} {name} is listed twice"));
        }
    }
    Ok(entries)
}

/// Adds missing rows now, after each change of the catalog and after each move to another database, and
/// wakes the refresh when it added some. Rows that leave the catalog stay: others may use them.
pub async fn keep(db: &Db, mut catalog: watch::Receiver<Arc<Vec<CatalogEntry>>>, wake: &Notify) {
    let mut moves = db.moves();
    loop {
        let entries = Arc::clone(&catalog.borrow_and_update());
        match add_rows(db, &entries, ADD_TIME).await {
            Ok(added) => {
                if added > 0 {
                    wake.notify_one();
                }
                tokio::select! {
                    () = changed(&mut catalog) => {}
                    () = moves.next() => {}
                }
            }
            Err(error) => {
                warn!(%error, "failed to add the rows of the catalog, trying again");
                sleep(RETRY_PAUSE).await;
            }
        }
    }
}

/// Adds the rows of the catalog that are missing and returns how many those were. Without a catalog
/// a table that a migration made gets the default rows, once; a table that was there before stays as it
/// is.
pub async fn add_rows(
    db: &Db,
    entries: &[CatalogEntry],
    within: Duration,
) -> Result<usize, StoreError> {
    // Somebody may hold a lock on the table: the guard of the store makes it safe to cut this off.
    let added = timeout(within, async {
        if entries.is_empty() {
            return db.add_default_hardware(&default_entries()).await;
        }
        let AddedRows { added, refused } = db.add_missing_hardware(entries).await?;
        for RefusedEntry { entry: CatalogEntry { provider, name }, reason } in refused {
            warn!(provider, name, reason, "the table hardware did not take a row of the catalog");
        }
        Ok(added)
    });
    let added = added.await.unwrap_or(Err(StoreError::TooSlow(within)))?;
    if added > 0 {
        info!(added, "added rows to the table hardware");
    }
    Ok(added)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::parse;

    #[test]
    fn a_catalog_is_a_list_of_providers_and_names() {
        let entries = parse(br#"[{"provider":"Amazon","name":"c5"}]"#).expect("good");
        assert_eq!((entries[0].provider.as_str(), entries[0].name.as_str()), ("Amazon", "c5"));
        assert_eq!(parse(b"[]").expect("nothing to ensure"), []);
    }

    #[test]
    fn a_wrong_entry_is_named() {
        let message = |json: &str| parse(json.as_bytes()).expect_err("refused");
        assert!(message(r#"[{"provider":"Amazon"}]"#).contains("missing field `name`"));
        assert_eq!(
            message(r#"[{"provider":"Amazon","name":" "}]"#),
            "[0].name: expected 1 to 128 characters, found \" \""
        );
        let twice = r#"[{"provider":"A","name":"n"},{"provider":"A","name":"n"}]"#;
        assert_eq!(message(twice), "[1]: A n is listed twice");
    }

    proptest! {
        #[test]
        fn no_file_makes_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            drop(parse(&bytes));
        }
    }
}
