//! Folds states anew from history.

use std::collections::BTreeMap;

use diesel::{QueryResult, result::Error};

use super::{Db, StoreError, connection::Connection, history, pools, sources};
use crate::observation::refold;

/// What a step of [`Db::rebuild`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rebuilt {
    /// Where the next step begins.
    pub last_id: i32,
    /// Pools that it looked at.
    pub pools: usize,
    /// Pools whose stored states were others.
    pub differed: usize,
}

impl Db {
    /// How many pools each source has, by its id.
    pub async fn count_pools(&self) -> Result<BTreeMap<i32, i64>, StoreError> {
        self.read(async |connection| pools::count(connection).await).await
    }

    /// Folds the states of at most `limit` pools of a source anew, those with the smallest ids above
    /// `after`; none if there are no more.
    pub async fn rebuild(
        &self,
        source_id: i32,
        after: i32,
        limit: usize,
    ) -> Result<Option<Rebuilt>, StoreError> {
        self.transaction(async |connection| rebuild(connection, source_id, after, limit).await)
            .await
    }
}

async fn rebuild(
    connection: &mut Connection<'_>,
    source_id: i32,
    after: i32,
    limit: usize,
) -> QueryResult<Option<Rebuilt>> {
    let Some(source) = sources::advance(connection, source_id).await? else { return Ok(None) };
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = pools::list_changed(connection, source_id, i64::MIN, after, limit).await?;
    let Some(last_id) = rows.last().map(|row| row.pool.id) else { return Ok(None) };
    let ids: Vec<i32> = rows.iter().map(|row| row.pool.id).collect();
    let histories = history::load_all(connection, &ids).await?;
    let mut states = Vec::new();
    for row in &rows {
        let mut segments = history::segments_of(&histories, row.pool.id);
        segments.push(row.state.open_segment());
        let folded = refold(segments, Vec::new(), row.state.interval());
        let (_, state) = folded.ok_or(Error::NotFound)?;
        if row.state.decode().as_ref() != Ok(&state) {
            states.push((row.pool.id, state));
        }
    }
    let differed = states.len();
    pools::write_states(connection, source.id, source.revision, states).await?;
    Ok(Some(Rebuilt { last_id, pools: rows.len(), differed }))
}
