//! `hardware backtest`, on recordings of real hardware and as its page shows it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

/// Recordings that are too large to be in the repository; tests are run in the folder of their package.
const RECORDINGS: &str = "../../shared/data/availability";

fn backtest(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hardware"));
    command.arg("backtest").args(arguments).output().expect("it runs")
}

fn report(arguments: &[&str]) -> Value {
    let output = backtest(&[&["--output", "json"], arguments].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn number(report: &Value, pointer: &str) -> f64 {
    report.pointer(pointer).and_then(Value::as_f64).expect("a number")
}

#[track_caller]
fn assert_near(name: &str, found: f64, expected: f64, tolerance: f64) {
    assert!((found - expected).abs() <= tolerance, "{name}: {found}, not {expected}±{tolerance}");
}

/// What the definition promises for one recording.
struct Promise {
    file: &'static str,
    units: &'static str,
    brier: f64,
    corrected_brier: f64,
    /// Share and outcome of HIGH, then of LOW.
    levels: [(&'static str, f64, f64); 2],
}

const PROMISES: [Promise; 3] = [
    Promise {
        file: "helios.csv.gz",
        units: "1,2,4,8",
        brier: 0.0252,
        corrected_brier: 0.0235,
        levels: [("HIGH", 0.69, 0.986), ("LOW", 0.28, 0.041)],
    },
    Promise {
        file: "v100.csv.gz",
        units: "1",
        brier: 0.0835,
        corrected_brier: 0.0835,
        levels: [("HIGH", 0.58, 0.945), ("LOW", 0.35, 0.138)],
    },
    Promise {
        file: "gcp2020.csv.gz",
        units: "1",
        brier: 0.0724,
        corrected_brier: 0.0716,
        levels: [("HIGH", 0.46, 0.940), ("LOW", 0.37, 0.041)],
    },
];

#[test]
fn labels_of_recorded_hardware_are_worth_what_the_definition_promises() {
    for Promise { file, units, brier, corrected_brier, levels } in PROMISES {
        let file = Path::new(RECORDINGS).join(file);
        if !file.exists() {
            println!("{} is not there, so it is not replayed", file.display());
            continue;
        }
        let file = file.to_str().expect("UTF-8");
        let plain = report(&["--units", units, "--correction", "off", file]);
        assert_near(file, number(&plain, "/brier"), brier, 0.001);
        for (level, share, succeeds) in levels {
            assert_near(level, number(&plain, &format!("/levels/{level}/share")), share, 0.011);
            let found = number(&plain, &format!("/levels/{level}/succeeds"));
            assert_near(level, found, succeeds, 0.006);
        }
        let corrected = report(&["--units", units, file]);
        assert_near(file, number(&corrected, "/brier"), corrected_brier, 0.0015);
    }
}

/// Two weeks of a pool of eight that is full every fifth hour.
fn write_past(folder: &Path) -> PathBuf {
    let rows = (0..14 * 24).map(|hour| {
        let at = chrono::DateTime::from_timestamp(1_767_225_600 + hour * 3600, 0).expect("a time");
        let until = at + chrono::TimeDelta::minutes(59);
        let free = if hour % 5 == 0 { 0 } else { 3 };
        format!("lab,a100,{},{},8,{free}\n", at.to_rfc3339(), until.to_rfc3339())
    });
    let header = "provider,name,started_at,last_seen_at,total,free\n".to_owned();
    let text: String = std::iter::once(header).chain(rows).collect();
    let file = folder.join("past.csv");
    fs::write(&file, text).expect("written");
    file
}

#[test]
fn commands_of_the_page_work_as_they_stand_there() {
    let page = fs::read_to_string("../docs/backtest.md").expect("the page");
    let block = page.split("```\n").find(|block| block.starts_with("hardware backtest"));
    let folder = tempfile::tempdir().expect("a folder");
    write_past(folder.path());
    let program = Path::new(env!("CARGO_BIN_EXE_hardware")).parent().expect("a folder");
    for line in block.expect("a block of commands").lines() {
        let output = Command::new("sh")
            .args(["-c", line])
            .current_dir(folder.path())
            .env("PATH", format!("{}:/usr/bin:/bin", program.display()))
            .output()
            .expect("it runs");
        let out = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(out.contains("HIGH"), "{line}: {out}");
    }
}

#[test]
fn the_table_of_the_page_on_levels_is_that_of_the_rules() {
    let page = fs::read_to_string("../docs/observe.md").expect("the page");
    for level in availability::Level::ALL {
        let row = format!("| `{level}` | {} |", level.rule());
        assert!(page.contains(&row), "docs/observe.md lacks: {row}");
    }
    let minutes = availability::FAILURE_COUNTS_FOR.as_secs() / 60;
    assert!(page.contains(&format!("For {minutes} minutes after a failure")), "of attempts");
}

#[test]
fn what_cannot_be_read_is_said_and_keeps_nothing_else_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = write_past(folder.path());
    let mut text = fs::read_to_string(&file).expect("the past");
    text += "lab,a100,yesterday,2026-01-01T00:00:00Z,8,1\n";
    fs::write(&file, text).expect("written");
    let output = backtest(&[file.to_str().expect("UTF-8")]);
    let messages = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{messages}");
    assert!(messages.contains("past.csv:338: started_at: expected a time"), "{messages}");

    let missing = backtest(&["nowhere.csv"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("failed to read nowhere.csv"));
    fs::write(&file, "provider,name,observed_at,available\nlab,a,2026-01-01T00:00:00Z,true\n")
        .expect("written");
    let short = backtest(&[file.to_str().expect("UTF-8")]);
    assert_eq!(short.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&short.stderr).contains("give a longer past"));
    let wrong = backtest(&["--units", "0", "past.csv"]);
    assert_eq!(wrong.status.code(), Some(64));
}
