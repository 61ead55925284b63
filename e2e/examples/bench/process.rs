//! A program that runs until its value is dropped.

use std::{
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use reqwest::Client;
use tokio::time::sleep;

use crate::cpus;

/// Short against the times that are measured by waiting.
const POLL_PERIOD: Duration = Duration::from_millis(1);

/// Long enough to write 10 000 rows before the first answer.
const START_DEADLINE: Duration = Duration::from_mins(2);

/// At most this much of a second's 100 ticks of CPU time is idle: one refresh of a long list.
const IDLE_TICKS: u64 = 10;
const IDLE_DEADLINE_S: u64 = 120;

/// A running program.
pub(crate) struct Process {
    child: Child,
    started: Instant,
    log: PathBuf,
}

/// How a program is run.
pub(crate) struct Start<'a> {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    /// All of its environment: what the caller has set must not change what is measured.
    pub(crate) environment: Vec<(&'static str, String)>,
    /// The CPUs it is bound to, unless it may use all.
    pub(crate) cpus: Option<&'a [usize]>,
    /// Where its log goes, beside whatever else it is given.
    pub(crate) folder: &'a Path,
}

impl Process {
    /// Starts it.
    pub(crate) fn start(start: Start<'_>) -> Result<Self> {
        let Start { program, arguments, environment, cpus, folder } = start;
        let mut command = if let Some(cpus) = cpus {
            // Replaces itself by the program, so that the process id stays.
            let mut taskset = Command::new("/usr/bin/taskset");
            taskset.args(["--cpu-list", &cpus::to_list(cpus)]).arg(&program);
            taskset
        } else {
            Command::new(&program)
        };
        let log = folder.join("log");
        let output = File::create(&log)?;
        command.args(arguments).env_clear().envs(environment);
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let started = Instant::now();
        let child = command.spawn();
        let child = child.with_context(|| format!("failed to start {}", program.display()))?;
        Ok(Self { child, started, log })
    }

    /// Waits until `url` answers with 200 and says how long that took from the start.
    pub(crate) async fn wait_until_ready(
        &mut self,
        client: &Client,
        url: &str,
    ) -> Result<Duration> {
        loop {
            if is_ready(client, url).await {
                return Ok(self.started.elapsed());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("the program ended with {status}, its log:\n{}", self.read_log());
            }
            if self.started.elapsed() > START_DEADLINE {
                bail!("{url} did not become ready, the program's log:\n{}", self.read_log());
            }
            sleep(POLL_PERIOD).await;
        }
    }

    /// Waits until it does next to nothing, as after the work that follows its start.
    pub(crate) async fn wait_until_idle(&self) -> Result<()> {
        let mut before = self.cpu_ticks()?;
        for _ in 0..IDLE_DEADLINE_S {
            sleep(Duration::from_secs(1)).await;
            let now = self.cpu_ticks()?;
            if now - before <= IDLE_TICKS {
                return Ok(());
            }
            before = now;
        }
        bail!("the program is still busy after {IDLE_DEADLINE_S} s, its log:\n{}", self.read_log())
    }

    fn cpu_ticks(&self) -> Result<u64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        parse_cpu_ticks(&stat).with_context(|| format!("not a process's times: {stat}"))
    }

    /// Memory of its own and of its program file that is in RAM now.
    pub(crate) fn resident_bytes(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        parse_memory(&status, "VmRSS").context("the process has no VmRSS")
    }

    fn read_log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if it has ended by itself.
        if self.child.kill().is_ok() {
            drop(self.child.wait());
        }
    }
}

/// Whether `url` answers with 200.
pub(crate) async fn is_ready(client: &Client, url: &str) -> bool {
    client.get(url).send().await.is_ok_and(|answer| answer.status() == 200)
}

/// Addresses on loopback that nobody listens on.
pub(crate) fn free_addresses<const N: usize>() -> Result<[String; N]> {
    // All are held until the last is chosen, or one could be given twice.
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0"));
    let mut addresses = [const { String::new() }; N];
    for (address, listener) in addresses.iter_mut().zip(&listeners) {
        let listener = listener.as_ref().map_err(|error| anyhow!("no free port: {error}"))?;
        *address = listener.local_addr()?.to_string();
    }
    Ok(addresses)
}

/// Fields 14 and 15, counted after the last ")", since the name in field 2 may contain spaces.
pub(crate) fn parse_cpu_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

/// Bytes in one of the lines about memory in `/proc/PID/status`.
pub(crate) fn parse_memory(status: &str, name: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let kibibytes: u64 = value.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::{parse_cpu_ticks, parse_memory};

    #[test]
    fn cpu_time_is_that_of_the_program_and_of_the_kernel_for_it() {
        let stat = "4711 (a (b) c) S 1 4711 4711 0 -1 4194304 900 0 0 0 1234 66 0 0 20 0 3 0 999";
        assert_eq!(parse_cpu_ticks(stat), Some(1300));
        assert_eq!(parse_cpu_ticks("4711 (hardware) S 1"), None);
    }

    #[test]
    fn memory_is_read_from_the_kernels_text() {
        let status = "Name:\thardware\nVmHWM:\t   13000 kB\nVmRSS:\t   12345 kB\nThreads:\t3\n";
        assert_eq!(parse_memory(status, "VmRSS"), Some(12_345 * 1024));
        assert_eq!(parse_memory(status, "VmHWM"), Some(13_000 * 1024));
        assert_eq!(parse_memory("Name:\tkthreadd\n", "VmRSS"), None);
    }
}
