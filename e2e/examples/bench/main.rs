//! The benchmark: `e2e/bench` builds what it measures and says where that is. Figures go to standard
//! output and, as JSON, into a file; what goes on goes to standard error.
#![expect(clippy::print_stdout, reason = "figures are what it is for")]

mod answer;
mod cpus;
mod estimate;
mod figure;
mod footprint;
mod images;
mod many_pools;
mod node;
mod original;
mod process;
mod rotation;
mod rounds;
mod scale;
mod services;
mod throughput;
mod wrk;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use reqwest::Client;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    figure::Figure,
    node::Node,
    rounds::PAIRS,
    scale::{ControlPlane, Scale},
    services::Programs,
    throughput::Throughput,
};

/// Measures the product side by side with a bare server, and against its goals
#[derive(Debug, Parser)]
#[command(version, about)]
struct Cli {
    /// Seconds of each round of load
    #[arg(long, env = "BENCH_SECONDS", default_value = "5", value_parser = clap::value_parser!(u64).range(1..=600), value_name = "SECONDS")]
    seconds: u64,
    /// Folder with the built programs
    #[arg(long, value_name = "FOLDER")]
    programs: PathBuf,
    /// File to write the figures to
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Measure only this
    #[arg(long, env = "BENCH_ONLY", value_name = "PART")]
    only: Option<Part>,
    /// The node of the local cluster, if that is up.
    #[command(flatten)]
    node: Option<Node>,
    /// The control plane of the local cluster, if that is up.
    #[command(flatten)]
    control_plane: Option<ControlPlane>,
    #[command(flatten)]
    scale: Scale,
    /// Fail where a part cannot be measured, instead of skipping it
    #[arg(long, env = "BENCH_STRICT")]
    strict: bool,
    /// Folder with the gunicorn that runs the original application
    #[arg(long, value_name = "FOLDER")]
    original_python: Option<PathBuf>,
    /// Namespace in which the operator works, to rotate a credential in. Needs the variables that say
    /// where cluster and database of the end-to-end tests are
    #[arg(long, value_name = "NAMESPACE")]
    rotation_namespace: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    Images,
    Footprint,
    Estimate,
    Pools,
    Year,
    Throughput,
    Original,
    Rotation,
    Scale,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    // Whoever is dropped ends what it started.
    tokio::select! {
        outcome = run(cli) => match outcome {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("bench: {error:#}");
                ExitCode::FAILURE
            }
        },
        () = interrupted() => {
            eprintln!("bench: interrupted");
            ExitCode::FAILURE
        }
    }
}

async fn interrupted() {
    let mut terminate = signal(SignalKind::terminate()).expect("a signal handler");
    let mut interrupt = signal(SignalKind::interrupt()).expect("a signal handler");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

async fn run(cli: Cli) -> Result<()> {
    let Cli {
        seconds,
        programs,
        output,
        only,
        node,
        control_plane,
        scale,
        strict,
        original_python,
        rotation_namespace,
    } = cli;
    // The figures of an earlier run must not be taken for those of one that failed.
    if output.exists() {
        fs::remove_file(&output)?;
    }
    describe_load_of_machine()?;
    let programs = Programs { folder: programs };
    let client = Client::builder().no_proxy().timeout(Duration::from_secs(10)).build()?;
    let mut figures = Vec::new();
    let mut found = |figure: Figure| {
        println!("{figure}");
        figures.push(figure);
    };

    let skip = |what: &str| {
        ensure!(!strict, "cannot measure {what}");
        eprintln!("bench: skipped: {what}");
        Ok(())
    };
    let is_wanted = |part| only.is_none_or(|only| only == part);
    if is_wanted(Part::Images) {
        measure_images(node.as_ref(), &programs, &client, &skip, &mut found).await?;
    }
    if is_wanted(Part::Footprint) {
        eprintln!("bench: starting the services and leaving them alone");
        footprint::measure(&programs, &client, &mut found).await?;
    }
    if is_wanted(Part::Estimate) {
        eprintln!("bench: observing and assessing");
        estimate::measure(&programs.example("estimate_cost"), &mut found).await?;
    }
    let mysql_env = std::env::var_os("TEST_MYSQL_ENV").map(PathBuf::from);
    let mysql_env = mysql_env.filter(|file| file.exists());
    let is_short = seconds == 1;
    if is_wanted(Part::Pools) {
        eprintln!("bench: taking in and reading many pools");
        if mysql_env.is_none() {
            skip(
                "many pools on MariaDB, as TEST_MYSQL_ENV names no server (`make e2e` leaves one)",
            )?;
        }
        let example = programs.example("many_pools");
        many_pools::measure(&example, mysql_env.as_deref(), is_short, &mut found).await?;
    }
    if is_wanted(Part::Year) && !is_short {
        eprintln!("bench: a year of 500 pools");
        let example = programs.example("many_pools");
        many_pools::measure_year(&example, mysql_env.as_deref(), &mut found).await?;
    }
    if is_wanted(Part::Throughput) {
        eprintln!("bench: {PAIRS} pairs of rounds of {seconds} s for each answer");
        let throughput = Throughput::new(&programs, &client, Duration::from_secs(seconds))?;
        throughput.of_hardware(&mut found).await?;
        throughput.of_portal(&mut found).await?;
    }
    if is_wanted(Part::Original) {
        let python = original_python.filter(|_| mysql_env.is_some());
        let round = Duration::from_secs(seconds);
        measure_original(python.as_deref(), &programs, &client, round, &skip, &mut found).await?;
    }
    if is_wanted(Part::Rotation) {
        match rotation_namespace {
            Some(namespace) => {
                eprintln!(
                    "bench: rotating a credential in {namespace}, by the operator and the usual way"
                );
                rotation::measure(&namespace, &mut found).await?;
            }
            None => skip(
                "rotation, as the local cluster, its operator or its MariaDB is not up (`make e2e` \
                 leaves them all)",
            )?,
        }
    }
    if is_wanted(Part::Scale) {
        match control_plane {
            Some(control_plane) => {
                scale::measure(&control_plane, &scale, is_short, &mut found).await?;
            }
            None => skip("many portals, as no operator runs on a local cluster")?,
        }
    }

    write_json(&output, &figures)
}

async fn measure_images(
    node: Option<&Node>,
    programs: &Programs,
    client: &Client,
    skip: &impl Fn(&str) -> Result<()>,
    found: &mut impl FnMut(Figure),
) -> Result<()> {
    let reason = match node {
        None => "the local cluster is not up".to_owned(),
        Some(node) if node.has_images(&images::NAMES)? => {
            eprintln!("bench: looking at images, starting containers");
            return images::measure(node, client, found).await;
        }
        Some(node) => format!("the node lacks {}", node.image(images::NAMES[0])),
    };
    skip(&format!(
        "image sizes and start of containers, as {reason} (`make up` changes that); sizes are \
         estimated from the files that go into the images"
    ))?;
    images::estimate_sizes(programs, found)
}

async fn measure_original(
    python: Option<&Path>,
    programs: &Programs,
    client: &Client,
    round: Duration,
    skip: &impl Fn(&str) -> Result<()>,
    found: &mut impl FnMut(Figure),
) -> Result<()> {
    let Some(python) = python else {
        return skip(
            "the original, as TEST_MYSQL_ENV names no server (`make e2e` leaves one) or \
             --original-python is not given",
        );
    };
    eprintln!("bench: {PAIRS} pairs of rounds beside the original");
    original::measure(programs, client, python, round, found).await
}

/// A machine that is busy with something else gives worse figures.
fn describe_load_of_machine() -> Result<()> {
    let load = fs::read_to_string("/proc/loadavg").context("failed to read /proc")?;
    let cpus = std::thread::available_parallelism()?;
    let load = load.split(' ').next().unwrap_or_default();
    eprintln!("bench: {cpus} CPUs, load average before the first measurement {load}");
    Ok(())
}

fn write_json(output: &PathBuf, figures: &[Figure]) -> Result<()> {
    if let Some(folder) = output.parent() {
        fs::create_dir_all(folder)?;
    }
    let json = serde_json::to_string_pretty(figures)?;
    fs::write(output, json + "\n").with_context(|| format!("failed to write {}", output.display()))
}
