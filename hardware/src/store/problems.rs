//! What keeps sources from seeing their pools as they are.

use availability::Timestamp;
use diesel::{QueryResult, QueryableByName};

use super::{
    connection::{Connection, Insert, OnConflict, Statement},
    schema::source_problem,
    sources::LockedSource,
};
use crate::observation::ReportedProblem;

/// A problem that the latest batch of a source had.
#[derive(Clone, Debug, PartialEq, Eq, QueryableByName)]
#[diesel(table_name = source_problem)]
pub struct SourceProblem {
    /// Its stable name.
    pub code: String,
    /// The problem in a sentence.
    pub detail: String,
    /// When a batch first had a problem with this code, in milliseconds; every batch since then has had it.
    pub since: i64,
}

/// Takes in what a batch that arrived at `now` says. Writes only if that is something else than before.
pub(super) async fn take_in(
    connection: &mut Connection<'_>,
    source: &LockedSource,
    reported: Option<&ReportedProblem>,
    now: Timestamp,
) -> QueryResult<()> {
    let known = "SELECT code, detail, since FROM source_problem WHERE source_id = ?";
    let known: Option<SourceProblem> =
        connection.first(Statement::new(known).bind(source.id)).await?;
    let Some(ReportedProblem { code, detail }) = reported else {
        if known.is_some() {
            let end = Statement::new("DELETE FROM source_problem WHERE source_id = ?");
            connection.execute(end.bind(source.id)).await?;
        }
        return Ok(());
    };
    let since = match known.filter(|known| known.code == *code) {
        Some(same) if same.detail == *detail => return Ok(()),
        Some(reworded) => reworded.since,
        None => now.as_millis(),
    };
    let into = Insert {
        table: "source_problem",
        columns: &["source_id", "code", "detail", "since"],
        on_conflict: OnConflict::Overwrite { key: &["source_id"] },
    };
    let row = vec![source.id.into(), code.into(), detail.into(), since.into()];
    connection.insert(&into, [row]).await
}
