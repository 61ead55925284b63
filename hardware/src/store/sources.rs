//! Sources and their revisions.

use availability::{ExpectedInterval, Timestamp};
use diesel::{
    QueryResult, QueryableByName,
    result::Error,
    sql_types::{BigInt, Integer, Nullable, Text},
};

use super::{
    connection::{Connection, Insert, OnConflict, Statement},
    problems::SourceProblem,
    rows::{SourceRow, seconds},
    schema::source,
};

/// A source as it is stored, with the columns of its problem if it has one.
#[derive(QueryableByName)]
#[diesel(table_name = source)]
struct StoredSource {
    id: i32,
    name: String,
    expected_interval_s: i32,
    revision: i64,
    last_seen: i64,
    #[diesel(sql_type = Nullable<BigInt>)]
    covered: Option<i64>,
    #[diesel(sql_type = Nullable<Text>)]
    code: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    detail: Option<String>,
    #[diesel(sql_type = Nullable<BigInt>)]
    since: Option<i64>,
}

impl From<StoredSource> for SourceRow {
    fn from(stored: StoredSource) -> Self {
        let StoredSource { id, name, expected_interval_s, revision, last_seen, covered, .. } =
            stored;
        let problem = match (stored.code, stored.detail, stored.since) {
            (Some(code), Some(detail), Some(since)) => Some(SourceProblem { code, detail, since }),
            _ => None,
        };
        Self { id, name, expected_interval_s, revision, last_seen, covered, problem }
    }
}

pub(super) async fn list(connection: &mut Connection<'_>) -> QueryResult<Vec<SourceRow>> {
    let query = "SELECT id, name, expected_interval_s, revision, last_seen, code, detail, since, \
                 (SELECT MAX(source_coverage.last_seen) FROM source_coverage \
                 WHERE source_coverage.source_id = source.id) AS covered \
                 FROM source LEFT JOIN source_problem ON source_problem.source_id = source.id";
    let stored: Vec<StoredSource> = connection.load(Statement::new(query)).await?;
    Ok(stored.into_iter().map(SourceRow::from).collect())
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
    /// It reports attempts: it was seen now, and the interval of its observations stays.
    Attempts,
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
        Cause::Attempts => Statement::new(
            "UPDATE source SET revision = revision + 1, last_seen = ? WHERE name = ?",
        )
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
