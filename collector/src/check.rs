//! `collector check`: what would be posted, as a table.

use std::{
    io::{self, Write},
    time::Duration,
};

use tokio::time::{Instant, timeout_at};

use crate::{
    config::CheckArgs,
    sources::{Kind, Silence, Source},
    statement::{Pool, Pools, Seen, Statement},
};

/// Time for all pods of a large cluster to be listed.
const DEADLINE: Duration = Duration::from_mins(1);

/// Looks at each source once, writes what it sees to `out`, and returns whether all of them see something.
pub async fn run(args: &CheckArgs, out: &mut impl Write) -> io::Result<bool> {
    let sources = match args.sources.resolve() {
        Ok(sources) => sources,
        Err(error) => {
            writeln!(out, "FAIL  configuration: {error}")?;
            return Ok(false);
        }
    };
    let mut is_good = true;
    for (name, kind) in sources {
        match look(&name, &kind).await {
            Ok(Statement::Pools(pools)) => {
                writeln!(out, "ok    {name}: {} pools", pools.len())?;
                write_table(&pools, out)?;
            }
            Ok(Statement::Problem(problem)) => {
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

/// What a source says once it has seen everything.
async fn look(name: &str, kind: &Kind) -> Result<Statement, String> {
    let mut source = kind.open(name).await?;
    let deadline = Instant::now() + DEADLINE;
    loop {
        match source.look().await {
            Ok(statement) => return Ok(statement),
            Err(silence @ Silence::Unconfirmed(_)) => return Err(silence.to_string()),
            Err(silence @ Silence::Starting) => {
                let changed = timeout_at(deadline, source.changed()).await;
                changed.map_err(|_| format!("{silence}, after {} s", DEADLINE.as_secs()))?;
            }
        }
    }
}

/// Columns as wide as their widest cell.
fn write_table(pools: &Pools, out: &mut impl Write) -> io::Result<()> {
    const HEADINGS: [&str; 8] =
        ["PROVIDER", "NAME", "REGION", "ZONE", "TIER", "UNIT", "FREE", "TOTAL"];
    let mut rows = vec![HEADINGS.map(str::to_owned)];
    rows.extend(pools.iter().map(|(pool, seen)| row(pool, *seen)));
    let width =
        |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..HEADINGS.len()).map(width).collect();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        writeln!(out, "      {}", line.trim_end())?;
    }
    Ok(())
}

fn row(pool: &Pool, seen: Seen) -> [String; 8] {
    let Seen::Counts { total, in_use } = seen;
    let place = |place: &Option<String>| place.clone().unwrap_or_else(|| "-".to_owned());
    [
        pool.provider.clone(),
        pool.name.clone(),
        place(&pool.region),
        place(&pool.zone),
        pool.tier.clone(),
        pool.unit.clone(),
        (total - in_use).to_string(),
        total.to_string(),
    ]
}

#[cfg(test)]
mod tests {
    use super::write_table;
    use crate::statement::{Pool, Pools, Seen};

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let pool = |name: &str, zone: Option<&str>| Pool {
            provider: "cluster".to_owned(),
            name: name.to_owned(),
            region: None,
            zone: zone.map(str::to_owned),
            tier: "owned".to_owned(),
            unit: "slot".to_owned(),
        };
        let pools = Pools::from([
            (pool("a", Some("zone-1")), Seen::Counts { total: 12, in_use: 5 }),
            (pool("linux-amd64", None), Seen::Counts { total: 2, in_use: 2 }),
        ]);
        let mut out = Vec::new();
        write_table(&pools, &mut out).expect("written");
        let expected = "      PROVIDER  NAME         REGION  ZONE    TIER   UNIT  FREE  TOTAL\n\
                        \x20     cluster   a            -       zone-1  owned  slot  7     12\n\
                        \x20     cluster   linux-amd64  -       -       owned  slot  0     2\n";
        assert_eq!(String::from_utf8(out).expect("text"), expected);
    }
}
