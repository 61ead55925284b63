//! `hardware import` and `hardware rebuild`, as their page shows them.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use availability::{Observation, Segment, Timestamp};
use chrono::{DateTime, TimeDelta, Utc};
use hardware::store::{Db, PoolRow, StoreConfig};

use crate::support::database::execute;

/// A folder with a database whose schema is up to date.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().expect("a folder") };
        assert!(place.hardware(&["migrate"]).status.success());
        place
    }

    fn hardware(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hardware"));
        command.args(arguments).current_dir(self.folder.path()).env("SQLITE_PATH", "hardware.db");
        command.output().expect("it runs")
    }

    /// Exit status, standard output and standard error of `import --source lab`.
    fn import(&self, files: &[&str]) -> (i32, String, String) {
        let output = self.hardware(&[&["import", "--source", "lab"], files].concat());
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        (output.status.code().expect("a status"), text(output.stdout), text(output.stderr))
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).expect("written");
    }

    fn open(&self) -> Db {
        let path = Path::new(self.folder.path()).join("hardware.db");
        Db::new(&StoreConfig::Sqlite { path }).expect("a pool")
    }

    async fn pools(&self) -> Vec<PoolRow> {
        let db = self.open();
        let source = db.list_sources().await.expect("sources").remove(0);
        assert_eq!(source.name, "lab");
        db.list_changed_pools(source.id, -1, i32::MIN, 1000).await.expect("pools")
    }
}

const HEADER: &str = "provider,name,tier,expected_interval_s,started_at,last_seen_at,total,free\n";

fn start() -> DateTime<Utc> {
    DateTime::from_timestamp_millis((Utc::now() - TimeDelta::days(3)).timestamp_millis())
        .expect("in range")
}

fn row(name: &str, started: DateTime<Utc>, minutes: i64, free: u32) -> String {
    let (from, to) = (started.to_rfc3339(), (started + TimeDelta::minutes(minutes)).to_rfc3339());
    format!("lab,{name},owned,60,{from},{to},8,{free}\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_past_is_imported_once_however_often_it_is_given() {
    let place = Place::new();
    let start = start();
    let later = start + TimeDelta::minutes(61);
    let mut past = HEADER.to_owned() + &row("a100", later, 30, 0) + &row("a100", start, 60, 3);
    past += &row("h100", start, 90, 8);
    place.write("past.csv", &past);
    let imported = "3 rows of 2 pools are history of \"lab\" now, 0 were known, 0 were left out\n";
    assert_eq!(place.import(&["past.csv"]), (0, imported.to_owned(), String::new()));
    let (status, out, _) = place.import(&["past.csv"]);
    let known = "0 rows of 2 pools are history of \"lab\" now, 3 were known, 0 were left out\n";
    assert_eq!((status, out.as_str()), (0, known));

    let pools = place.pools().await;
    let a100 = pools.iter().find(|row| row.pool.name == "a100").expect("imported");
    assert_eq!(a100.pool.tier, "owned");
    let at = |time: DateTime<Utc>| Timestamp::from_millis(time.timestamp_millis());
    let full = Segment {
        started: at(later),
        last_seen: at(later + TimeDelta::minutes(30)),
        observation: Observation::counts(8, 8),
    };
    assert_eq!(a100.state.open_segment(), full);
    let minutes = a100.state.decode().expect("readable").state(0).free;
    assert!((minutes - 60.0).abs() < 2.5, "an hour was free, weighed with its age: {minutes}");
}

/// Compressed, in JSON, and with rows that are wrong, too old, in the future, or contradict what is known.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_left_out_is_named_with_its_line() {
    let place = Place::new();
    let start = start();
    place.write("past.csv", &(HEADER.to_owned() + &row("a100", start, 60, 3)));
    assert_eq!(place.import(&["past.csv"]).0, 0);
    let more = HEADER.to_owned()
        + &row("a100", start + TimeDelta::minutes(30), 60, 1)
        + &row("a100", start - TimeDelta::days(40), 60, 1)
        + &row("a100", Utc::now() + TimeDelta::hours(1), 1, 1)
        + "lab,a100,owned,60,yesterday,today,8,1\n"
        + &row("a100", start - TimeDelta::hours(2), 60, 1);
    place.write("more.csv", &more);
    let gzip = Command::new("gzip").arg("more.csv").current_dir(place.folder.path()).status();
    assert!(gzip.expect("gzip is there").success());
    let (status, out, messages) = place.import(&["more.csv.gz"]);
    assert_eq!(status, 1, "{messages}");
    assert!(out.starts_with("1 rows of 1 pools"), "{out}");
    assert!(out.contains("4 were left out"), "{out}");
    let lines: Vec<&str> = messages.lines().collect();
    assert_eq!(lines.len(), 4, "{messages}");
    for (line, (number, reason)) in lines.iter().zip([
        (2, "the pool is known to have been 3 of 8 free"),
        (3, "--history-retention"),
        (4, "expected a time up to a minute ahead of this clock"),
        (5, "started_at: expected a time such as"),
    ]) {
        assert!(line.starts_with(&format!("left out: more.csv.gz:{number}: ")), "{line}");
        assert!(line.contains(reason), "{line}");
    }
    assert_eq!(
        place.open().list_history(place.pools().await[0].pool.id).await.expect("read").len(),
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn states_are_folded_anew() {
    let place = Place::new();
    let start = start();
    let mut past = HEADER.to_owned();
    for hour in 0..30 {
        past += &row("a100", start + TimeDelta::minutes(hour * 60), 59, u32::from(hour % 3 == 0));
    }
    past += &row("h100", start, 90, 8);
    place.write("past.csv", &past);
    assert_eq!(place.import(&["past.csv"]).0, 0);
    let rebuild = || {
        let output = place.hardware(&["rebuild"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    assert_eq!(rebuild(), "source \"lab\": 2 pools, 0 were stored otherwise\n");
    let before = place.pools().await;
    execute(&place.open(), "UPDATE pool_state SET states = 'x' WHERE pool_id = 1").await;
    assert_eq!(rebuild(), "source \"lab\": 2 pools, 1 were stored otherwise\n");
    assert_eq!(place.pools().await, before);
}

#[test]
fn commands_of_the_page_work_as_they_stand_there() {
    let page = fs::read_to_string("../docs/import.md").expect("the page");
    let place = Place::new();
    let header = page.split("```csv\n").nth(1).and_then(|rest| rest.lines().next());
    let (from, to) = (start().to_rfc3339(), (start() + TimeDelta::hours(1)).to_rfc3339());
    let row = format!("lab,a100,eu,,owned,gpu,60,{from},{to},8,3\n");
    place.write("past.csv", &format!("{}\n{row}", header.expect("a header")));
    let program = Path::new(env!("CARGO_BIN_EXE_hardware")).parent().expect("a folder");
    let blocks = page.split("```\n").filter(|block| block.starts_with("hardware "));
    let mut answers = Vec::new();
    for line in blocks.flat_map(str::lines) {
        let output = Command::new("sh")
            .args(["-c", line])
            .current_dir(place.folder.path())
            .env("PATH", format!("{}:/usr/bin:/bin", program.display()))
            .env("SQLITE_PATH", "hardware.db")
            .output()
            .expect("it runs");
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        answers.push(String::from_utf8(output.stdout).expect("UTF-8"));
    }
    let source = "\"lab-agent\"";
    assert_eq!(
        answers,
        [
            format!(
                "1 rows of 1 pools are history of {source} now, 0 were known, 0 were left out\n"
            ),
            String::new(),
            format!(
                "0 rows of 1 pools are history of {source} now, 1 were known, 0 were left out\n"
            ),
            format!("source {source}: 1 pools, 0 were stored otherwise\n"),
        ]
    );
}

#[test]
fn a_database_without_the_schema_is_not_written_to() {
    let place = Place { folder: tempfile::tempdir().expect("a folder") };
    place.write("past.csv", &(HEADER.to_owned() + &row("a100", start(), 60, 3)));
    let (status, _, messages) = place.import(&["past.csv"]);
    assert_eq!(status, 1);
    assert!(messages.contains("run \\\"hardware migrate\\\" first"), "{messages}");
}

/// Killed again and again, and begun anew each time, it gives what it would have given in one go.
#[tokio::test(flavor = "multi_thread")]
async fn an_import_that_is_killed_goes_on_where_it_ended() {
    const POOLS: usize = 300;
    let start = start();
    let mut past = HEADER.to_owned();
    for number in 0..POOLS {
        let name = format!("p{number}");
        for hour in 0..12 {
            let free = u32::from(hour % 3 == 0);
            past += &row(&name, start + TimeDelta::minutes(hour * 60), 59, free);
        }
    }
    let (whole, killed) = (Place::new(), Place::new());
    whole.write("past.csv", &past);
    killed.write("past.csv", &past);
    assert_eq!(whole.import(&["past.csv"]).0, 0);
    let mut cut_off = 0;
    for round in 0..6 {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hardware"));
        let command = command
            .args(["import", "--source", "lab", "past.csv"])
            .current_dir(killed.folder.path())
            .env("SQLITE_PATH", "hardware.db")
            .stdout(std::process::Stdio::null());
        let mut running = command.spawn().expect("it starts");
        std::thread::sleep(std::time::Duration::from_millis(15 + 12 * round));
        running.kill().expect("it may be killed");
        cut_off += u32::from(!running.wait().expect("it ended").success());
    }
    assert!(cut_off > 0, "all of them ended before they were killed");
    let (status, out, messages) = killed.import(&["past.csv"]);
    assert_eq!((status, messages.as_str()), (0, ""), "{out}");
    let (expected, found) = (whole.pools().await, killed.pools().await);
    assert_eq!(found.len(), POOLS);
    for (one, other) in expected.iter().zip(&found) {
        assert_eq!((&one.pool.name, &one.state.states), (&other.pool.name, &other.state.states));
        let history = whole.open().list_history(one.pool.id).await.expect("history");
        assert_eq!(killed.open().list_history(other.pool.id).await.expect("history"), history);
    }
}
