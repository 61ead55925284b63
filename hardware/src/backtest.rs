//! `hardware backtest`: what the labels would have been worth on a recorded past.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal, Write},
    path::PathBuf,
    time::Duration,
};

use availability::{
    Level, Wanted,
    backtest::{Recording, Report, Settings, replay},
};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::{
    observation::PoolName,
    recording::{RecordingError, into_recordings, read_file, report_errors},
};

/// The random instants of reads are the same in each run.
const SEED: u64 = 1;

/// How wide a full bar is, in characters.
const BAR: usize = 40;

/// Options of `backtest`.
#[derive(Args, Debug)]
pub struct BacktestArgs {
    /// Recorded pasts, CSV or JSON lines, also gzip; `-` is the standard input. Columns: provider, name,
    /// region, zone, tier, unit, `expected_interval_s`, `started_at` and `last_seen_at` (or `observed_at`),
    /// total and free (or `in_use`), or available
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Numbers of units to ask for. A source that only says yes or no is asked for 1
    #[arg(long, default_value = "1", value_delimiter = ',', value_parser = parse_units, value_name = "N,…")]
    pub units: Vec<Wanted>,
    /// How far ahead a label looks
    #[arg(long, default_value = "60m", value_parser = parse_horizon, value_name = "TIME")]
    pub horizon: Duration,
    /// Whether labels learn from those before them, as they do while serving
    #[arg(long, default_value = "on", value_enum)]
    pub correction: Switch,
    /// Form of the report
    #[arg(long, default_value = "text", value_enum)]
    pub output: Output,
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// Learn.
    On,
    /// Do not learn.
    Off,
}

/// Form of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum BacktestError {
    /// A file cannot be read.
    #[error(transparent)]
    Recording(#[from] RecordingError),
    /// Nothing could be read from any pool.
    #[error(
        "failed to replay: no pool was recorded for longer than an hour and the horizon of {}; give a \
         longer past or a shorter --horizon",
        humantime::format_duration(*horizon)
    )]
    TooShort {
        /// What was asked for.
        horizon: Duration,
    },
    /// The report cannot be written.
    #[error("failed to write the report: {0}")]
    Write(#[from] io::Error),
}

/// Reads the files, replays them and writes the report to `out`; what is wrong with rows and how far it is
/// go to `messages`.
pub fn run(
    args: &BacktestArgs,
    out: &mut impl Write,
    messages: &mut impl Write,
) -> Result<(), BacktestError> {
    let recordings = read_recordings(args, messages)?;
    let recordings: Vec<Recording> = recordings.into_values().collect();
    let settings = Settings {
        units: args.units.clone(),
        horizon: args.horizon,
        is_corrected: args.correction == Switch::On,
        seed: SEED,
    };
    let shows_progress = io::stderr().is_terminal();
    let mut problem = Ok(());
    let report = replay(&recordings, &settings, |done| {
        if shows_progress && problem.is_ok() {
            problem = write!(messages, "\rreplayed {done} of {} pools", recordings.len());
        }
    });
    problem?;
    if shows_progress {
        writeln!(messages)?;
    }
    if report.reads == 0 {
        return Err(BacktestError::TooShort { horizon: args.horizon });
    }
    match args.output {
        Output::Json => writeln!(out, "{:#}", to_json(&report))?,
        Output::Text => write_text(&report, &recordings, args, out)?,
    }
    Ok(())
}

fn read_recordings(
    args: &BacktestArgs,
    messages: &mut impl Write,
) -> Result<BTreeMap<(usize, PoolName), Recording>, BacktestError> {
    let mut all = BTreeMap::new();
    for (index, file) in args.files.iter().enumerate() {
        let contents = read_file(file)?;
        let mut errors = contents.errors;
        let recordings = into_recordings(file, contents.rows, &mut errors);
        report_errors(file, &errors, messages)?;
        all.extend(recordings.into_iter().map(|(pool, recording)| ((index, pool), recording)));
    }
    Ok(all)
}

fn to_json(report: &Report) -> Value {
    let deciles = report.deciles.iter().map(|decile| {
        json!({
            "n": decile.reads,
            "predicted": round(decile.predicted),
            "observed": round(decile.observed),
        })
    });
    let levels = Level::ALL.iter().zip(&report.levels).map(|(level, of)| {
        let value = json!({"share": round(of.share), "succeeds": round(of.succeeds)});
        (level.as_str().to_owned(), value)
    });
    json!({
        "reads": report.reads,
        "brier": round(report.brier),
        "rmse": round(report.rmse),
        "deciles": deciles.collect::<Vec<_>>(),
        "levels": levels.collect::<serde_json::Map<_, _>>(),
    })
}

/// Five digits are more than the reads carry.
fn round(value: f64) -> f64 {
    (value * 1e5).round() / 1e5
}

fn write_text(
    report: &Report,
    recordings: &[Recording],
    args: &BacktestArgs,
    out: &mut impl Write,
) -> io::Result<()> {
    let units: Vec<String> = args.units.iter().map(ToString::to_string).collect();
    let corrected = match args.correction {
        Switch::On => "learning from those before it",
        Switch::Off => "without learning",
    };
    writeln!(
        out,
        "{} pools, N = {}: {} labels, each for the {} after it, {corrected}",
        recordings.len(),
        units.join(", "),
        report.reads,
        humantime::format_duration(args.horizon)
    )?;
    writeln!(out)?;
    writeln!(out, "level    share of labels   free in the time after it")?;
    for (level, of) in Level::ALL.iter().zip(&report.levels) {
        let succeeds =
            if of.share > 0.0 { format!("{:.1} %", of.succeeds * 100.0) } else { "-".to_owned() };
        writeln!(out, "{:<8} {:>13.1} %   {succeeds:>24}", level.as_str(), of.share * 100.0)?;
    }
    writeln!(out)?;
    writeln!(out, "P said     labels   said    came    what came (#), and what was said (|)")?;
    for (index, decile) in report.deciles.iter().enumerate() {
        let band = format!(
            ".{index}–{}",
            if index == 9 { "1".to_owned() } else { format!(".{}", index + 1) }
        );
        if decile.reads == 0 {
            writeln!(out, "{band:<7} {:>9}", 0)?;
            continue;
        }
        writeln!(
            out,
            "{band:<7} {:>9}   {:.3}   {:.3}   {}",
            decile.reads,
            decile.predicted,
            decile.observed,
            draw_bar(decile.predicted, decile.observed)
        )?;
    }
    writeln!(out)?;
    writeln!(
        out,
        "Brier score {:.4} (0 is best, always saying ½ is .25), root mean square error {:.4}",
        report.brier, report.rmse
    )
}

/// `#` up to what came, and `|` at what was said.
fn draw_bar(predicted: f64, observed: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "shares of a bar of 40 characters"
    )]
    let place = |share: f64| ((share * BAR as f64).round() as usize).min(BAR - 1);
    let bar = (0..BAR).map(|at| {
        if at == place(predicted) {
            '|'
        } else if at < place(observed) {
            '#'
        } else {
            '·'
        }
    });
    bar.collect()
}

fn parse_units(text: &str) -> Result<Wanted, String> {
    let units = text.trim().parse().ok().and_then(Wanted::new);
    units.ok_or_else(|| format!("expected numbers from 1 on, such as 1,2,4,8, found {text:?}"))
}

fn parse_horizon(text: &str) -> Result<Duration, String> {
    let horizon = humantime::parse_duration(text)
        .map_err(|error| format!("expected a time such as 60m or 4h: {error}"))?;
    if (Duration::from_mins(1)..=Duration::from_hours(24 * 31)).contains(&horizon) {
        Ok(horizon)
    } else {
        Err("expected a time from 1m to 31d".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::draw_bar;

    #[test]
    fn a_bar_shows_what_was_said_and_what_came() {
        let bar = draw_bar(0.5, 0.75);
        assert_eq!(bar.chars().filter(|mark| *mark == '#').count(), 29);
        assert_eq!(bar.chars().position(|mark| mark == '|'), Some(20));
    }
}
