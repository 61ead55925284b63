//! `GET /hardware/` beside the application that this product replaces, on the same MariaDB. `original/` has
//! what of it is measured; it runs under gunicorn with gevent, as its own authors recommended.

use std::{path::Path, process::Stdio, time::Duration};

use anyhow::{Result, ensure};
use e2e::database::{Database, random_password};
use hardware_api::Hardware;
use reqwest::Client;
use tokio::process::Command;

use crate::{
    answer::Answer,
    cpus::Split,
    figure::{Figure, Goal},
    process::{Process, Start, free_addresses},
    rounds::{First, Pair, median, order},
    services::{Programs, Service},
    wrk::{Load, Wrk},
};

/// The list that the original came with.
const ROWS: usize = 2;

/// A load that is not counted.
const WARM_UP: Duration = Duration::from_secs(1);

/// Our schema and account. The original has an account of its own, as it logs in over the server's socket:
/// the server takes logins over the network with TLS only, which the original did without.
const SCHEMA: &str = "bench_original";
const SOCKET_USER: &str = "bench_original_socket";

const GOAL: Goal = Goal::AtLeast(100.0);

/// Measures both in turn, each with the same load on the same CPUs. `python` is the folder with gunicorn.
pub(crate) async fn measure(
    programs: &Programs,
    client: &Client,
    python: &Path,
    round: Duration,
    found: impl FnMut(Figure),
) -> Result<()> {
    let database = Database::from_settings()?;
    let password = database.create_schema(SCHEMA).await?;
    let outcome = compare(programs, client, python, round, &database, &password).await;
    drop_accounts(&database).await?;
    figures(&outcome?).into_iter().for_each(found);
    Ok(())
}

async fn drop_accounts(database: &Database) -> Result<()> {
    for statement in [
        format!("DROP DATABASE IF EXISTS {SCHEMA}"),
        format!("DROP USER IF EXISTS '{SCHEMA}'@'%', '{SOCKET_USER}'@'localhost'"),
    ] {
        database.execute(&statement).await?;
    }
    Ok(())
}

async fn compare(
    programs: &Programs,
    client: &Client,
    python: &Path,
    round: Duration,
    database: &Database,
    password: &str,
) -> Result<Vec<Pair<Load>>> {
    let cpus = Split::of_this_machine()?;
    let wrk = Wrk::new(cpus.load.clone())?;
    let account = vec![
        ("MYSQL_HOST", database.address()?),
        ("MYSQL_DATABASE", SCHEMA.to_owned()),
        ("MYSQL_USER", SCHEMA.to_owned()),
        ("MYSQL_PASSWORD", password.to_owned()),
        ("MYSQL_TLS_CA_FILE", database.get("MYSQL_TLS_CA_FILE")?.to_owned()),
    ];
    migrate(programs, &account).await?;
    // It makes the rows, which the original reads as well.
    let mut hardware = programs.start_hardware_with(account, ROWS, Some(&cpus.server))?;
    hardware.wait_until_ready(client).await?;
    let mut original = start_original(database, python, &cpus.server).await?;
    original.wait_until_ready(client).await?;
    let urls = [&hardware, &original].map(|service| service.url("/hardware/"));
    let mut bytes = [0; 2];
    for (url, bytes) in urls.iter().zip(&mut bytes) {
        let answer = Answer::fetch(client, url).await?;
        let list: Vec<Hardware> = serde_json::from_slice(answer.body())?;
        ensure!(list.len() == ROWS, "{url} has {} rows instead of {ROWS}", list.len());
        *bytes = answer.wire_bytes();
        wrk.run(url, WARM_UP, *bytes).await?;
    }
    let mut pairs = Vec::new();
    for first in order() {
        let ours = wrk.run(&urls[0], round, bytes[0]);
        let theirs = wrk.run(&urls[1], round, bytes[1]);
        let (service, bare) = match first {
            First::Service => (ours.await?, theirs.await?),
            First::Bare => {
                let theirs = theirs.await?;
                (ours.await?, theirs)
            }
        };
        let [ours, theirs] = [service, bare].map(|load| {
            format!("{:.0} requests/s, p99 {:.3} ms", load.requests_per_second, load.p99_ms)
        });
        eprintln!("bench: from the service: {ours}; from the original: {theirs}");
        pairs.push(Pair { service, bare });
    }
    Ok(pairs)
}

/// Makes the tables, as the operator does for a portal.
async fn migrate(programs: &Programs, account: &[(&str, String)]) -> Result<()> {
    let mut command = Command::new(programs.path("hardware"));
    command.arg("migrate").env_clear().envs(account.iter().cloned());
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await?;
    let log = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "hardware migrate ended with {}: {log}", output.status);
    Ok(())
}

async fn start_original(database: &Database, python: &Path, cpus: &[usize]) -> Result<Service> {
    let password = random_password()?;
    for statement in [
        format!("CREATE OR REPLACE USER '{SOCKET_USER}'@'localhost' IDENTIFIED BY '{password}'"),
        format!("GRANT SELECT ON {SCHEMA}.* TO '{SOCKET_USER}'@'localhost'"),
    ] {
        database.execute(&statement).await?;
    }
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("app.py"), include_str!("original/app.py"))?;
    let [address] = free_addresses()?;
    // What gunicorn recommends.
    let workers = 2 * cpus.len() + 1;
    let options =
        ["--worker-class", "gevent", "--workers", &workers.to_string(), "--bind", &address];
    let application = ["--chdir", &folder.path().display().to_string(), "app:app"];
    let arguments = options.iter().chain(&application).map(|&argument| argument.to_owned());
    let process = Process::start(Start {
        program: python.join("gunicorn"),
        arguments: arguments.collect(),
        environment: vec![
            ("MYSQL_SOCKET", database.get("MARIADB_ROOT_SOCKET")?.to_owned()),
            ("MYSQL_DATABASE", SCHEMA.to_owned()),
            ("MYSQL_USER", SOCKET_USER.to_owned()),
            ("MYSQL_PASSWORD", password),
        ],
        cpus: Some(cpus),
        folder: folder.path(),
    })?;
    let ready_url = format!("http://{address}/hardware/");
    Ok(Service::new(process, address, ready_url, folder))
}

/// The ratio is the median of the pairs' ratios, since the two rounds of a pair met the same machine.
fn figures(pairs: &[Pair<Load>]) -> [Figure; 5] {
    let of = |value: &dyn Fn(&Pair<Load>) -> f64| median(pairs.iter().map(value));
    let ratio = of(&|pair| pair.service.requests_per_second / pair.bare.requests_per_second);
    [
        Figure::new("hardware_vs_original_requests", ratio, "ratio").with_goal(GOAL),
        Figure::new(
            "hardware_beside_original_requests",
            of(&|pair| pair.service.requests_per_second),
            "requests/s",
        ),
        Figure::new("original_requests", of(&|pair| pair.bare.requests_per_second), "requests/s"),
        Figure::new("hardware_beside_original_p99", of(&|pair| pair.service.p99_ms), "ms"),
        Figure::new("original_p99", of(&|pair| pair.bare.p99_ms), "ms"),
    ]
}
