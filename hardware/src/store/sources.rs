//! Sources and their revisions.

use availability::{ExpectedInterval, Timestamp};
use diesel::{
    QueryResult, QueryableByName,
    result::Error,
    sql_types::{BigInt, Integer},
};

use super::{
    connection::{Connection, Insert, OnConflict, Statement},
    rows::{SourceRow, seconds},
};

pub(super) async fn list(connection: &mut Connection<'_>) -> QueryResult<Vec<SourceRow>> {
    let query = "SELECT id, name, expected_interval_s, revision, last_seen, \
                 (SELECT MAX(source_coverage.last_seen) FROM source_coverage \
                 WHERE source_coverage.source_id = source.id) AS covered FROM source";
    connection.load(Statement::new(query)).await
}

/// A source for which something is written. Its row stays locked to the end of the transaction, so whatever is
/// written for a source takes turns, and a reader that knows a revision has seen everything up to it.
#[derive(QueryableByName)]
pub(super) struct LockedSource {
    #[diesel(sql_type = Integer)]
    pub(super) id: i32,
    #[diesel(sql_type = BigInt)]
    pub(super) revision: i64,
}

/// Why something is written for a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// It reports: its interval is the one given, and it was seen now.
    Report,
    /// Somebody imports history. Of a source that is known only the revision changes.
    Import,
}

/// Advances the revision of the source of this name, which locks it, and adds it if there is none.
pub(super) async fn add_or_advance(
    connection: &mut Connection<'_>,
    name: &str,
    interval: ExpectedInterval,
    now: Timestamp,
    cause: Cause,
) -> QueryResult<LockedSource> {
    let advance = match cause {
        Cause::Report => Statement::new(
            "UPDATE source SET revision = revision + 1, expected_interval_s = ?, last_seen = ? \
             WHERE name = ?",
        )
        .bind(seconds(interval))
        .bind(now.as_millis()),
        Cause::Import => Statement::new("UPDATE source SET revision = revision + 1 WHERE name = ?"),
    };
    let advance = advance.bind(name);
    if connection.execute(advance.clone()).await? == 0 {
        let columns = ["name", "expected_interval_s", "revision", "last_seen"];
        let into = Insert { table: "source", columns: &columns, on_conflict: OnConflict::Ignore };
        let row = vec![name.into(), seconds(interval).into(), 0_i64.into(), now.as_millis().into()];
        connection.insert(&into, [row]).await?;
        connection.execute(advance).await?;
    }
    let query = Statement::new("SELECT id, revision FROM source WHERE name = ?");
    connection.first(query.bind(name)).await?.ok_or(Error::NotFound)
}

/// Advances the revision of a source, which locks it; none if somebody removed it.
pub(super) async fn advance(
    connection: &mut Connection<'_>,
    id: i32,
) -> QueryResult<Option<LockedSource>> {
    let advance = Statement::new("UPDATE source SET revision = revision + 1 WHERE id = ?");
    connection.execute(advance.bind(id)).await?;
    connection.first(Statement::new("SELECT id, revision FROM source WHERE id = ?").bind(id)).await
}
