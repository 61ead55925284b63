//! CPU time and memory of the operator and of the control plane, as the kernel counts them.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use anyhow::{Context, Result};
use e2e::{node, operator};
use kube::Client;

use crate::process::{parse_cpu_ticks, parse_memory};

/// Of the control plane, what works for the portals.
const CONTROL_PLANE: [&str; 5] =
    ["kube-apiserver", "etcd", "kube-controller-manager", "kube-scheduler", "kwok"];

/// One tick of the kernel's clock for processes, which Linux counts in hundredths of a second.
const TICK: Duration = Duration::from_millis(10);

/// The processes to look at.
pub(crate) struct Machine {
    /// One of each of the operator's pods.
    operator: Vec<u32>,
    control_plane: BTreeMap<&'static str, u32>,
}

/// What was used.
pub(crate) struct Usage {
    pub(crate) operator: Duration,
    /// The most that one of its processes has held in RAM, in bytes.
    operator_peak: u64,
    pub(crate) control_plane: BTreeMap<&'static str, Duration>,
    /// Everything that runs on the machine, this program too.
    pub(crate) machine: Duration,
}

impl Machine {
    /// Finds the processes.
    pub(crate) async fn find(client: &Client, pids: &Path) -> Result<Self> {
        let mut operator = Vec::new();
        for pod in operator::pods(client).await? {
            operator.push(node::process_of(&pod)?);
        }
        let mut control_plane = BTreeMap::new();
        for name in CONTROL_PLANE {
            let file = pids.join(name);
            let text = fs::read_to_string(&file)
                .with_context(|| format!("failed to read {}", file.display()))?;
            let pid = text.split(' ').next().unwrap_or_default();
            control_plane.insert(name, pid.parse().with_context(|| format!("no pid: {text}"))?);
        }
        Ok(Self { operator, control_plane })
    }

    /// Lets the operator's peak memory be what it holds now.
    pub(crate) fn forget_peak_memory(&self) -> Result<()> {
        for pid in &self.operator {
            // 5: see proc_pid_clear_refs(5).
            fs::write(format!("/proc/{pid}/clear_refs"), "5")?;
        }
        Ok(())
    }

    /// What has been used since the start of each.
    pub(crate) fn read_usage(&self) -> Result<Usage> {
        let (mut operator, mut operator_peak) = (Duration::ZERO, 0);
        for pid in &self.operator {
            operator += cpu_time(*pid).context("the operator was restarted meanwhile")?;
            let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
            let peak = parse_memory(&status, "VmHWM").context("the operator has no VmHWM")?;
            operator_peak = operator_peak.max(peak);
        }
        let control_plane: Result<_> = self
            .control_plane
            .iter()
            .map(|(name, pid)| Ok((*name, cpu_time(*pid).with_context(|| (*name).to_owned())?)))
            .collect();
        let machine = fs::read_to_string("/proc/stat")?;
        let machine = parse_busy_ticks(&machine).context("not the machine's times")?;
        Ok(Usage {
            operator,
            operator_peak,
            control_plane: control_plane?,
            machine: ticks(machine)?,
        })
    }
}

impl Usage {
    /// What was used after `earlier`. The peak stays what it is.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let of_control_plane = |(name, time): (&&'static str, &Duration)| {
            let before = earlier.control_plane.get(name).copied().unwrap_or_default();
            (*name, time.saturating_sub(before))
        };
        Self {
            operator: self.operator.saturating_sub(earlier.operator),
            operator_peak: self.operator_peak,
            control_plane: self.control_plane.iter().map(of_control_plane).collect(),
            machine: self.machine.saturating_sub(earlier.machine),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "far fewer bytes than 2^52")]
    pub(crate) fn operator_peak_megabytes(&self) -> f64 {
        self.operator_peak as f64 / 1e6
    }
}

fn cpu_time(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    ticks(parse_cpu_ticks(&stat).with_context(|| format!("not a process's times: {stat}"))?)
}

fn ticks(number: u64) -> Result<Duration> {
    Ok(TICK * u32::try_from(number)?)
}

/// All that is not idle or waiting for a disk, in the first line of `/proc/stat`: user, nice, system,
/// idle, iowait, irq, softirq; what follows is of virtual machines.
fn parse_busy_ticks(stat: &str) -> Option<u64> {
    let times = stat.lines().next()?.strip_prefix("cpu ")?;
    let times: Vec<u64> = times.split_whitespace().filter_map(|time| time.parse().ok()).collect();
    let [user, nice, system, _idle, _iowait, irq, softirq, ..] = times[..] else { return None };
    Some(user + nice + system + irq + softirq)
}

#[cfg(test)]
mod tests {
    use super::parse_busy_ticks;

    #[test]
    fn busy_is_what_is_not_idle() {
        let stat = "cpu  100 20 30 9000 50 4 6 0 0 0\ncpu0 50 10 15 4500 25 2 3 0 0 0\n";
        assert_eq!(parse_busy_ticks(stat), Some(160));
        assert_eq!(parse_busy_ticks("intr 1"), None);
    }
}
