//! What many pools cost, on both databases.

use std::{ffi::OsStr, path::Path, process::Stdio};

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use crate::{
    estimate::parse,
    figure::{Figure, Goal},
};

/// Pools where the goals are held against the figures, and where the benchmark is shortened.
const POOLS: u32 = 300_000;
const FEW_POOLS: u32 = 30_000;

/// Its name in what the example prints, the figure's, the unit, and the goals on SQLite and on MariaDB.
type Printed = (&'static str, &'static str, &'static str, Option<Goal>, Option<Goal>);

const FIGURES: [Printed; 14] = [
    ("new_per_s", "ingest_new", "pools/s", None, None),
    (
        "changed_per_s",
        "ingest_changed",
        "pools/s",
        Some(Goal::AtLeast(40_000.0)),
        Some(Goal::AtLeast(20_000.0)),
    ),
    ("changed_vs_plain", "ingest_changed_vs_plain_insert", "ratio", None, None),
    ("confirmed_per_s", "ingest_confirmed", "pools/s", None, None),
    ("quiet_ms", "quiet_minute", "ms", Some(Goal::AtMost(5.0)), Some(Goal::AtMost(5.0))),
    ("restart_s", "restart_to_levels", "s", Some(Goal::AtMost(10.0)), Some(Goal::AtMost(10.0))),
    ("memory_mb", "memory", "MB", Some(Goal::AtMost(150.0)), Some(Goal::AtMost(150.0))),
    ("tick_ms", "tick", "ms", None, None),
    ("page_p99_ms", "page_p99", "ms", Some(Goal::AtMost(5.0)), Some(Goal::AtMost(5.0))),
    ("pick_p99_ms", "pick_p99", "ms", Some(Goal::AtMost(5.0)), Some(Goal::AtMost(5.0))),
    ("look_first_ms", "first_look_for_changes", "ms", None, None),
    ("look_rest_ms", "look_for_changes_at_rest", "ms", None, None),
    ("look_changed_ms", "look_for_changes_of_1_percent", "ms", None, None),
    (
        "change_to_visible_s",
        "change_to_level",
        "s",
        Some(Goal::AtMost(3.0)),
        Some(Goal::AtMost(3.0)),
    ),
];

/// Runs the example `many_pools` on a file, and on the server of `mysql_env` if there is one.
pub(crate) async fn measure(
    many_pools: &Path,
    mysql_env: Option<&Path>,
    is_short: bool,
    mut found: impl FnMut(Figure),
) -> Result<()> {
    let pools = if is_short { FEW_POOLS } else { POOLS };
    let folder = tempfile::tempdir().context("failed to make a folder for pools")?;
    let file = folder.path().join("pools.db");
    let text = run(many_pools, pools, &["sqlite".as_ref(), file.as_os_str()]).await?;
    for (name, figure, unit, goal, _) in FIGURES {
        found(new_figure(&text, name, &format!("pools_{pools}_sqlite_{figure}"), unit, goal)?);
    }
    if let Some(env) = mysql_env {
        let text = run(many_pools, pools, &["mysql".as_ref(), env.as_os_str()]).await?;
        for (name, figure, unit, _, goal) in FIGURES {
            found(new_figure(&text, name, &format!("pools_{pools}_mariadb_{figure}"), unit, goal)?);
        }
    }
    Ok(())
}

/// What a year of 500 pools that change 40 times a day is printed as: its name there, the figure's, the unit,
/// and the goal.
const YEAR_FIGURES: [(&str, &str, &str, Option<Goal>); 9] = [
    ("year_written_s", "written", "s", None),
    ("year_size_mb", "size", "MB", None),
    ("year_restart_s", "restart_to_levels", "s", None),
    ("year_memory_mb", "memory", "MB", None),
    ("year_history_p50_ms", "history_p50", "ms", Some(Goal::AtMost(50.0))),
    ("year_history_p99_ms", "history_p99", "ms", Some(Goal::AtMost(50.0))),
    ("year_deleted_rows", "deleted", "rows", None),
    ("year_deleted_s", "deleted_in", "s", None),
    ("year_longest_step_ms", "longest_step_of_deletion", "ms", None),
];

const POOLS_OF_YEAR: u32 = 500;

/// Writes a year, reads it, and deletes all but its last month.
pub(crate) async fn measure_year(
    many_pools: &Path,
    mysql_env: Option<&Path>,
    mut found: impl FnMut(Figure),
) -> Result<()> {
    let folder = tempfile::tempdir().context("failed to make a folder for a year")?;
    let file = folder.path().join("pools.db");
    let places = [("sqlite", "sqlite", Some(file.as_path())), ("mysql", "mariadb", mysql_env)];
    for (kind, database, place) in places {
        let Some(place) = place else { continue };
        let arguments = [kind.as_ref(), place.as_os_str(), "year".as_ref()];
        let text = run(many_pools, POOLS_OF_YEAR, &arguments).await?;
        for (name, figure, unit, goal) in YEAR_FIGURES {
            found(new_figure(&text, name, &format!("year_{database}_{figure}"), unit, goal)?);
        }
    }
    Ok(())
}

async fn run(many_pools: &Path, pools: u32, place: &[&OsStr]) -> Result<String> {
    let mut command = Command::new(many_pools);
    command.arg(pools.to_string()).args(place).stdin(Stdio::null()).kill_on_drop(true);
    let output = command.stderr(Stdio::inherit()).output().await;
    let output = output.with_context(|| format!("failed to start {}", many_pools.display()))?;
    ensure!(output.status.success(), "many_pools ended with {}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn new_figure(
    text: &str,
    name: &str,
    figure: &str,
    unit: &'static str,
    goal: Option<Goal>,
) -> Result<Figure> {
    let figure = Figure::new(figure, parse(text, name)?, unit);
    Ok(match goal {
        Some(goal) => figure.with_goal(goal),
        None => figure,
    })
}
