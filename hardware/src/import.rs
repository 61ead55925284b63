//! `hardware import`: recorded history becomes that of a source.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
};

use availability::{Segment, Timestamp};
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use service_kit::{Clock, config::LogArgs};

use crate::{
    config::{HistoryArgs, OpenError, StoreArgs},
    observation::{MAX_NAME, PoolName, show_observation, show_time},
    recording::{RecordedSegment, RecordingError, RowError, read_file, report_errors},
    store::{Arrival, Db, Imported, PoolHistory, StoreError},
};

/// Pools that are written in one transaction.
const POOLS_AT_ONCE: usize = 50;

/// How far ahead of this clock a row may be, as with `POST /v1/observations`.
const MAX_SKEW_MS: i64 = 60_000;

/// Options of `import`.
#[derive(Args, Debug)]
pub struct ImportArgs {
    /// Recorded pasts, CSV or JSON lines, also gzip; `-` is the standard input. Columns: provider, name,
    /// region, zone, tier, unit, `expected_interval_s`, `started_at` and `last_seen_at` (or `observed_at`),
    /// total and free (or `in_use`), or available
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Whose past it is: the source that reports on these pools from now on
    #[arg(long, value_parser = parse_source, value_name = "NAME")]
    pub source: String,
    /// How long history is kept.
    #[command(flatten)]
    pub history: HistoryArgs,
    /// The database.
    #[command(flatten)]
    pub store: StoreArgs,
    /// The log.
    #[command(flatten)]
    pub log: LogArgs,
}

/// Why an import ended early.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// An option is wrong.
    #[error(transparent)]
    Config(#[from] OpenError),
    /// A file cannot be read.
    #[error(transparent)]
    Recording(#[from] RecordingError),
    /// The database cannot be used.
    #[error("{0}; what was imported stays, and the same command goes on where it ended")]
    Store(#[from] StoreError),
    /// The database lacks the schema.
    #[error("failed to import: migrations are pending ({0}); run \"hardware migrate\" first")]
    Pending(String),
    /// The report cannot be written.
    #[error("failed to write the report: {0}")]
    Write(#[from] io::Error),
}

/// What became of the rows of all files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImportSummary {
    /// Rows that are history now.
    pub added: usize,
    /// Rows that were known.
    pub known: usize,
    /// Rows that were left out.
    pub refused: usize,
    /// Pools that have a row.
    pub pools: usize,
}

/// Reads the files and writes them to the database; what is wrong with rows goes to `messages`, and what was
/// done to `out`.
pub async fn run(
    args: &ImportArgs,
    clock: &Clock,
    out: &mut impl Write,
    messages: &mut impl Write,
) -> Result<ImportSummary, ImportError> {
    let store = args.store.open().await?;
    let db = Db::new(&store.config)?;
    let pending = db.pending_migrations().await?;
    if !pending.is_empty() {
        return Err(ImportError::Pending(pending.join(", ")));
    }
    let mut all = ImportSummary::default();
    for file in &args.files {
        let of_file = import_file(args, file, &db, clock, messages).await?;
        all.added += of_file.added;
        all.known += of_file.known;
        all.refused += of_file.refused;
        all.pools += of_file.pools;
    }
    let ImportSummary { added, known, refused, pools } = all;
    writeln!(
        out,
        "{added} rows of {pools} pools are history of {:?} now, {known} were known, {refused} were left \
         out",
        args.source
    )?;
    Ok(all)
}

/// The rows of one pool, with their lines.
type Rows = Vec<(u64, RecordedSegment)>;

async fn import_file(
    args: &ImportArgs,
    file: &Path,
    db: &Db,
    clock: &Clock,
    messages: &mut impl Write,
) -> Result<ImportSummary, ImportError> {
    let contents = read_file(file)?;
    let mut errors = contents.errors;
    let now = Timestamp::from_millis(clock.now().timestamp_millis());
    let pools = group_by_pool(file, contents.rows, now, &mut errors);
    let arrival = Arrival::new(now, args.history.history_retention);
    let mut summary = ImportSummary { pools: pools.len(), ..ImportSummary::default() };
    let progress = progress_bar(pools.len(), file);
    for pools in pools.chunks(POOLS_AT_ONCE) {
        let histories: Vec<PoolHistory> = pools.iter().map(history).collect();
        let outcomes = db.import(&args.source, &histories, arrival).await?;
        let rows = pools.iter().flatten().zip(outcomes.into_iter().flatten());
        for ((line, row), outcome) in rows {
            match outcome {
                Imported::Added => summary.added += 1,
                Imported::Duplicate => summary.known += 1,
                Imported::TooOld => errors.push(row_error(file, *line, describe_too_old(row))),
                Imported::Contradicts(known) => {
                    errors.push(row_error(file, *line, describe_contradiction(row, &known)));
                }
            }
        }
        progress.inc(u64::try_from(pools.len()).unwrap_or(0));
    }
    progress.finish_and_clear();
    summary.refused = errors.len();
    errors.sort_by_key(|error| error.line);
    report_errors(file, &errors, messages)?;
    Ok(summary)
}

/// The rows of each pool in the order of time. Those of the future are left out.
fn group_by_pool(file: &Path, rows: Rows, now: Timestamp, errors: &mut Vec<RowError>) -> Vec<Rows> {
    let mut by_pool: BTreeMap<PoolName, Rows> = BTreeMap::new();
    for (line, row) in rows {
        if row.segment.last_seen.as_millis() > now.as_millis() + MAX_SKEW_MS {
            let reason = "expected a time up to a minute ahead of this clock".to_owned();
            errors.push(row_error(file, line, reason));
            continue;
        }
        by_pool.entry(row.pool.canonical()).or_default().push((line, row));
    }
    let mut pools: Vec<Rows> = by_pool.into_values().collect();
    for rows in &mut pools {
        rows.sort_by_key(|(line, row)| (row.segment.started, *line));
    }
    pools
}

fn row_error(file: &Path, line: u64, reason: String) -> RowError {
    RowError { file: file.to_owned(), line, reason }
}

fn history(rows: &Rows) -> PoolHistory {
    let first = &rows[0].1;
    PoolHistory {
        pool: first.pool.clone(),
        interval: first.interval,
        segments: rows.iter().map(|(_, row)| row.segment).collect(),
    }
}

fn describe_contradiction(row: &RecordedSegment, known: &Segment) -> String {
    format!(
        "the pool is known to have been {} from {} to {}, found {}",
        show_observation(known.observation),
        show_time(known.started),
        show_time(known.last_seen),
        show_observation(row.segment.observation)
    )
}

fn describe_too_old(row: &RecordedSegment) -> String {
    format!(
        "it ended at {}, which is longer ago than --history-retention, for which history is kept",
        show_time(row.segment.last_seen)
    )
}

fn progress_bar(pools: usize, file: &Path) -> ProgressBar {
    let target = if io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let bar = ProgressBar::with_draw_target(u64::try_from(pools).ok(), target);
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} pools, {eta} left");
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar.with_message(file.display().to_string())
}

fn parse_source(text: &str) -> Result<String, String> {
    let source = text.trim();
    let length = source.chars().count();
    if source.chars().any(char::is_control) || !(1..=MAX_NAME).contains(&length) {
        return Err(format!(
            "expected 1 to {MAX_NAME} characters, none of them a control character"
        ));
    }
    Ok(source.to_owned())
}
