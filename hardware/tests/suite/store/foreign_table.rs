//! A table `hardware` that others made, whatever it looks like.

use hardware::store::{CatalogEntry, HardwareRow};

use crate::support::database::{TestDatabase, execute, on_both_databases};

on_both_databases!(
    a_row_that_cannot_be_shown_keeps_no_other_out,
    an_identity_may_be_wide_or_a_text,
    an_entry_that_the_table_refuses_keeps_no_other_out,
);

fn row(id: &str, provider: &str, name: &str) -> HardwareRow {
    HardwareRow { id: id.to_owned(), provider: provider.to_owned(), name: name.to_owned() }
}

async fn a_row_that_cannot_be_shown_keeps_no_other_out(database: TestDatabase) {
    let db = database.connect();
    let charset =
        if database.mysql.is_some() { "ENGINE = MyISAM DEFAULT CHARSET = latin1" } else { "" };
    execute(
        &db,
        &format!("CREATE TABLE hardware (id integer, provider text, name text) {charset}"),
    )
    .await;
    for values in
        ["(3, 'OVH', 'Caf\u{e9}')", "(1, NULL, 'c5')", "(2, 'Amazon', 'c5')", "(10, 'a', NULL)"]
    {
        execute(&db, &format!("INSERT INTO hardware (id, provider, name) VALUES {values}")).await;
    }
    db.migrate().await.expect("migrated");
    let hardware = db.list_hardware().await.expect("rows");
    assert_eq!(hardware.rows, [row("2", "Amazon", "c5"), row("3", "OVH", "Caf\u{e9}")]);
    assert_eq!(hardware.unreadable, ["1", "10"]);
}

async fn an_identity_may_be_wide_or_a_text(database: TestDatabase) {
    for (kind, id) in [("bigint", "9007199254740993"), ("varchar(36)", "'5f1c-00'")] {
        let db = database.connect();
        execute(&db, "DROP TABLE IF EXISTS hardware").await;
        let columns = format!("id {kind}, provider text, name text");
        execute(&db, &format!("CREATE TABLE hardware ({columns})")).await;
        execute(&db, &format!("INSERT INTO hardware VALUES ({id}, 'Amazon', 'c5')")).await;
        let hardware = db.list_hardware().await.expect("rows");
        assert_eq!(hardware.rows, [row(id.trim_matches('\''), "Amazon", "c5")]);
    }
}

async fn an_entry_that_the_table_refuses_keeps_no_other_out(database: TestDatabase) {
    let db = database.connect();
    let columns = if database.mysql.is_some() {
        "id integer PRIMARY KEY AUTO_INCREMENT, provider varchar(8) NOT NULL, name text NOT NULL"
    } else {
        "id integer PRIMARY KEY, provider text NOT NULL CHECK (length(provider) <= 8), \
         name text NOT NULL"
    };
    execute(&db, &format!("CREATE TABLE hardware ({columns})")).await;
    db.migrate().await.expect("migrated");
    let entry =
        |provider: &str| CatalogEntry { provider: provider.to_owned(), name: "n".to_owned() };
    let entries = [entry("a"), entry("much too long"), entry("b")];
    let added = db.add_missing_hardware(&entries).await.expect("two of three");
    assert_eq!(added.added, 2);
    assert_eq!(added.refused.len(), 1, "{:?}", added.refused);
    assert_eq!(added.refused[0].entry, entries[1]);
    assert!(!added.refused[0].reason.is_empty());
}
