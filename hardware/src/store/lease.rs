//! What only one process should do at a time: claimed by a conditional `UPDATE`, for a while.

use diesel::{QueryResult, QueryableByName, sql_types::BigInt};

use super::{
    Db, StoreError,
    connection::{Connection, Insert, OnConflict, Statement},
};

/// The right to do a job, until somebody else may take it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    name: &'static str,
    fence: i64,
}

/// What one step of a job did, in a transaction of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It dealt with so many rows, and there may be more.
    Did(usize),
    /// There was nothing left to do.
    Done,
    /// The lease is somebody else's by now, and nothing was done.
    LostLease,
}

#[derive(QueryableByName)]
struct Fence {
    #[diesel(sql_type = BigInt)]
    fence: i64,
}

impl Db {
    /// Takes the lease for `seconds`, or keeps it if `holder` has it; none if somebody else has it. Time is
    /// the database's own.
    pub async fn claim(
        &self,
        name: &'static str,
        holder: &str,
        seconds: u32,
    ) -> Result<Option<Lease>, StoreError> {
        self.transaction(async |connection| {
            let now = connection.now_ms();
            let claim = Statement::new(format!(
                "UPDATE job_lease SET fence = CASE WHEN holder = ? THEN fence ELSE fence + 1 END, \
                 holder = ?, until = {now} + ? WHERE name = ? AND (holder = ? OR until < {now})"
            ));
            let claim = claim.bind(holder).bind(holder).bind(i64::from(seconds) * 1000);
            let claim = claim.bind(name).bind(holder);
            if connection.execute(claim.clone()).await? == 0 {
                let known =
                    Statement::new("SELECT COUNT(*) AS value FROM job_lease WHERE name = ?");
                if connection.number(known.bind(name)).await? != Some(0) {
                    return Ok(None);
                }
                // Nobody ever had it. Of two that come at once one adds it, and the other one sees it.
                let columns = ["name", "holder", "until", "fence"];
                let on_conflict = OnConflict::Ignore;
                let into = Insert { table: "job_lease", columns: &columns, on_conflict };
                let nobody = vec![name.into(), "".into(), 0_i64.into(), 0_i64.into()];
                connection.insert(&into, [nobody]).await?;
                if connection.execute(claim).await? == 0 {
                    return Ok(None);
                }
            }
            let fence = Statement::new("SELECT fence FROM job_lease WHERE name = ?").bind(name);
            let row: Option<Fence> = connection.first(fence).await?;
            Ok(row.map(|Fence { fence }| Lease { name, fence }))
        })
        .await
    }

    /// Gives the lease back, so that nobody waits until it ends.
    pub async fn release(&self, lease: &Lease) -> Result<(), StoreError> {
        let end = Statement::new("UPDATE job_lease SET until = 0 WHERE name = ? AND fence = ?");
        let end = end.bind(lease.name).bind(lease.fence);
        self.write(async |connection| connection.execute(end).await).await.map(drop)
    }
}

impl Lease {
    /// Whether it is still held; nobody else gets it before the transaction ends.
    pub(super) async fn is_held(&self, connection: &mut Connection<'_>) -> QueryResult<bool> {
        // Not a SELECT: the row is to stay locked.
        let touch =
            Statement::new("UPDATE job_lease SET fence = fence WHERE name = ? AND fence = ?");
        Ok(connection.execute(touch.bind(self.name).bind(self.fence)).await? > 0)
    }
}
