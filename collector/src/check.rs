//! `collector check`: what would be posted, as a table.

use std::{
    io::{self, Write},
    time::Duration,
};

use chrono::SecondsFormat;
use hardware_api::{Attempt, AttemptOutcome};
use service_kit::Clock;
use tokio::time::{Instant, timeout_at};

use crate::{
    config::CheckArgs,
    sources::{Kind, Silence, Source},
    statement::{Pool, Pools, Seen, Statement},
};

/// Time for all pods of a large cluster to be listed.
const DEADLINE: Duration = Duration::from_mins(1);

/// Looks at each source once, writes what it sees to `out`, and returns whether all of them see something.
pub async fn run(args: &CheckArgs, clock: &Clock, out: &mut impl Write) -> io::Result<bool> {
    let sources = match args.sources.resolve() {
        Ok(sources) => sources,
        Err(error) => {
            writeln!(out, "FAIL  configuration: {error}")?;
            return Ok(false);
        }
    };
    let mut is_good = true;
    for (name, kind) in sources {
        match look(&name, &kind, clock).await {
            Ok((Statement::Pools(pools), attempts)) => {
                write!(out, "ok    {name}: {} pools", pools.len())?;
                if attempts.is_empty() {
                    writeln!(out)?;
                } else {
                    writeln!(out, ", {} attempts", attempts.len())?;
                }
                write_pools(&pools, out)?;
                write_attempts(&attempts, out)?;
            }
            Ok((Statement::Problem(problem), _)) => {
                is_good = false;
                writeln!(out, "FAIL  {name}: {}: {}", problem.code, problem.detail)?;
            }
            Err(reason) => {
                is_good = false;
                writeln!(out, "FAIL  {name}: {reason}")?;
            }
        }
    }
    Ok(is_good)
}

/// What a source says once it has seen everything, and the attempts that it knows of.
async fn look(name: &str, kind: &Kind, clock: &Clock) -> Result<(Statement, Vec<Attempt>), String> {
    let mut source = kind.open(name, clock).await?;
    let deadline = Instant::now() + DEADLINE;
    loop {
        match source.look().await {
            Ok(statement) => return Ok((statement, source.take_attempts())),
            Err(silence @ Silence::Unconfirmed(_)) => return Err(silence.to_string()),
            Err(silence @ Silence::Starting) => {
                let changed = timeout_at(deadline, source.changed()).await;
                changed.map_err(|_| format!("{silence}, after {} s", DEADLINE.as_secs()))?;
            }
        }
    }
}

fn write_pools(pools: &Pools, out: &mut impl Write) -> io::Result<()> {
    const HEADINGS: [&str; 8] =
        ["PROVIDER", "NAME", "REGION", "ZONE", "TIER", "UNIT", "FREE", "TOTAL"];
    let row = |(pool, seen): (&Pool, &Seen)| {
        let (free, total) = match seen {
            Seen::Counts { total, in_use } => ((total - in_use).to_string(), total.to_string()),
            // How many is not known.
            Seen::Available(true) => ("yes".to_owned(), "-".to_owned()),
            Seen::Available(false) => ("no".to_owned(), "-".to_owned()),
        };
        [
            pool.provider.clone(),
            pool.name.clone(),
            or_dash(pool.region.as_ref()),
            or_dash(pool.zone.as_ref()),
            pool.tier.clone(),
            pool.unit.clone(),
            free,
            total,
        ]
    };
    write_table(HEADINGS, pools.iter().map(row), out)
}

/// Nothing for a source that reports none, as most do.
fn write_attempts(attempts: &[Attempt], out: &mut impl Write) -> io::Result<()> {
    const HEADINGS: [&str; 8] =
        ["PROVIDER", "NAME", "REGION", "ZONE", "TIER", "AT", "OUTCOME", "CODE"];
    if attempts.is_empty() {
        return Ok(());
    }
    let row = |attempt: &Attempt| {
        let outcome = match attempt.outcome {
            AttemptOutcome::Succeeded => "succeeded",
            AttemptOutcome::Failed => "failed",
        };
        [
            attempt.provider.clone(),
            attempt.name.clone(),
            or_dash(attempt.region.as_ref()),
            or_dash(attempt.zone.as_ref()),
            or_dash(attempt.tier.as_ref()),
            attempt.at.to_rfc3339_opts(SecondsFormat::Secs, true),
            outcome.to_owned(),
            or_dash(attempt.code.as_ref()),
        ]
    };
    write_table(HEADINGS, attempts.iter().map(row), out)
}

fn or_dash(text: Option<&String>) -> String {
    text.cloned().unwrap_or_else(|| "-".to_owned())
}

/// Columns as wide as their widest cell.
fn write_table<const COLUMNS: usize>(
    headings: [&str; COLUMNS],
    rows: impl Iterator<Item = [String; COLUMNS]>,
    out: &mut impl Write,
) -> io::Result<()> {
    let rows: Vec<_> = std::iter::once(headings.map(str::to_owned)).chain(rows).collect();
    let width =
        |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..COLUMNS).map(width).collect();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        writeln!(out, "      {}", line.trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use hardware_api::AttemptOutcome;

    use super::{write_attempts, write_pools};
    use crate::statement::{Pool, Pools, Seen};

    fn pool(name: &str, zone: Option<&str>) -> Pool {
        Pool {
            provider: "cluster".to_owned(),
            name: name.to_owned(),
            region: None,
            zone: zone.map(str::to_owned),
            tier: "owned".to_owned(),
            unit: "slot".to_owned(),
        }
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let pools = Pools::from([
            (pool("a", Some("zone-1")), Seen::Counts { total: 12, in_use: 5 }),
            (pool("linux-amd64", None), Seen::Counts { total: 2, in_use: 2 }),
            (pool("spare", None), Seen::Available(false)),
        ]);
        let mut out = Vec::new();
        write_pools(&pools, &mut out).expect("written");
        let expected = "      PROVIDER  NAME         REGION  ZONE    TIER   UNIT  FREE  TOTAL\n\
                        \x20     cluster   a            -       zone-1  owned  slot  7     12\n\
                        \x20     cluster   linux-amd64  -       -       owned  slot  0     2\n\
                        \x20     cluster   spare        -       -       owned  slot  no    -\n";
        assert_eq!(String::from_utf8(out).expect("text"), expected);
    }

    #[test]
    fn attempts_are_a_table_of_their_own_if_there_are_any() {
        let mut out = Vec::new();
        write_attempts(&[], &mut out).expect("written");
        assert_eq!(out, b"");
        let pool = pool("a", Some("zone-1"));
        let failed = pool.attempt(AttemptOutcome::Failed, DateTime::UNIX_EPOCH, Some("None"));
        write_attempts(&[failed], &mut out).expect("written");
        let expected = "      PROVIDER  NAME  REGION  ZONE    TIER   AT                    OUTCOME  CODE\n\
                        \x20     cluster   a     -       zone-1  owned  1970-01-01T00:00:00Z  failed   None\n";
        assert_eq!(String::from_utf8(out).expect("text"), expected);
    }
}
