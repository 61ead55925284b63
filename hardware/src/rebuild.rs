//! `hardware rebuild`: the states of all pools, folded anew from history.

use std::io::{self, Write};

use clap::Args;
use service_kit::config::LogArgs;

use crate::{
    config::{OpenError, StoreArgs},
    store::{Db, Rebuilt, StoreError},
};

/// Pools that are looked at in one transaction.
const POOLS_AT_ONCE: usize = 100;

/// Options of `rebuild`.
#[derive(Args, Debug)]
pub struct RebuildArgs {
    /// The database.
    #[command(flatten)]
    pub store: StoreArgs,
    /// The log.
    #[command(flatten)]
    pub log: LogArgs,
}

/// Why a rebuild ended early.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// An option is wrong.
    #[error(transparent)]
    Config(#[from] OpenError),
    /// The database cannot be used.
    #[error("{0}; the same command begins anew")]
    Store(#[from] StoreError),
    /// The database lacks the schema.
    #[error("failed to rebuild: migrations are pending ({0}); run \"hardware migrate\" first")]
    Pending(String),
    /// The report cannot be written.
    #[error("failed to write the report: {0}")]
    Write(#[from] io::Error),
}

/// Looks at every pool of every source, while others serve and report, and writes what it found to `out`.
pub async fn run(args: &RebuildArgs, out: &mut impl Write) -> Result<(), RebuildError> {
    let store = args.store.open().await?;
    let db = Db::new(&store.config)?;
    let pending = db.pending_migrations().await?;
    if !pending.is_empty() {
        return Err(RebuildError::Pending(pending.join(", ")));
    }
    let counts = db.count_pools().await?;
    for source in db.list_sources().await? {
        let (mut after, mut pools, mut differed) = (i32::MIN, 0, 0);
        while let Some(step) = db.rebuild(source.id, after, POOLS_AT_ONCE).await? {
            let Rebuilt { last_id, pools: more, differed: others } = step;
            after = last_id;
            pools += more;
            differed += others;
            let all = counts.get(&source.id).copied().unwrap_or_default();
            tracing::info!(source = source.name, pools, of = all, "folding history anew");
        }
        writeln!(out, "source {:?}: {pools} pools, {differed} were stored otherwise", source.name)?;
    }
    Ok(())
}
