//! Which CPUs the servers get and which the load.

use std::fs;

use anyhow::{Context, Result, ensure};

/// The services start no more workers than this, so a bare server with more CPUs would get more.
const MOST_SERVER_CPUS: usize = 4;

/// Servers and load kept apart: on shared CPUs the load's own work would hide part of a difference
/// between servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Split {
    pub(crate) server: Vec<usize>,
    pub(crate) load: Vec<usize>,
}

impl Split {
    /// Of the CPUs that this process may use.
    pub(crate) fn of_this_machine() -> Result<Self> {
        let status = fs::read_to_string("/proc/self/status").context("failed to read /proc")?;
        let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        let cpus = parse_list(list.context("/proc/self/status has no Cpus_allowed_list")?)?;
        if cpus.len() == 1 {
            eprintln!("bench: there is one CPU; servers and load share it");
        }
        Ok(Self::of(&cpus))
    }

    fn of(cpus: &[usize]) -> Self {
        if let [one] = cpus {
            return Self { server: vec![*one], load: vec![*one] };
        }
        let half = (cpus.len() / 2).min(MOST_SERVER_CPUS);
        Self { server: cpus[..half].to_vec(), load: cpus[half..2 * half].to_vec() }
    }
}

/// As `taskset --cpu-list` takes it.
pub(crate) fn to_list(cpus: &[usize]) -> String {
    cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}

/// The kernel's form: `0-3,8`.
fn parse_list(list: &str) -> Result<Vec<usize>> {
    let mut cpus = Vec::new();
    for range in list.trim().split(',') {
        let (from, to) = range.split_once('-').unwrap_or((range, range));
        let parse =
            |text: &str| text.parse().with_context(|| format!("not a list of CPUs: {list}"));
        let (from, to): (usize, usize) = (parse(from)?, parse(to)?);
        cpus.extend(from..=to);
    }
    ensure!(!cpus.is_empty(), "not a list of CPUs: {list}");
    Ok(cpus)
}

#[cfg(test)]
mod tests {
    use super::{Split, parse_list, to_list};

    #[test]
    fn the_kernels_lists_are_understood() {
        for (list, cpus) in [("0", vec![0]), ("\t0-1\n", vec![0, 1]), ("0-2,8", vec![0, 1, 2, 8])] {
            assert_eq!(parse_list(list).unwrap(), cpus, "{list:?}");
        }
        assert!(parse_list("").is_err());
        assert!(parse_list("a-b").is_err());
        assert_eq!(to_list(&[0, 2, 8]), "0,2,8");
    }

    #[test]
    fn servers_and_load_get_as_many_cpus_and_none_twice() {
        let split = |count: usize| Split::of(&(0..count).collect::<Vec<_>>());
        assert_eq!(split(1), Split { server: vec![0], load: vec![0] });
        assert_eq!(split(2), Split { server: vec![0], load: vec![1] });
        assert_eq!(split(5), Split { server: vec![0, 1], load: vec![2, 3] });
        assert_eq!(split(64), Split { server: vec![0, 1, 2, 3], load: vec![4, 5, 6, 7] });
    }
}
