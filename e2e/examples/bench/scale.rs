//! The operator with many portals, whose pods are on fake nodes: what it takes, and how soon it acts.

mod fleet;
mod reaction;
mod usage;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use clap::Args;
use e2e::{
    Namespace,
    audit::{OPERATOR, Request, Witness},
    fake_nodes,
};
use tokio::time::sleep;

use self::{
    fleet::{Fleet, Growth},
    usage::Machine,
};
use crate::{
    figure::{Figure, Goal},
    rounds::median,
};

/// A shortened run, as `BENCH_SECONDS=1` asks for, shows that the rig works.
const SHORT: Plan = Plan {
    sizes: &[1, 20],
    quiet: Duration::from_secs(2),
    rest: Duration::from_secs(5),
    samples: 3,
};
const FULL: Plan = Plan {
    sizes: &[1, 100, 500, 1000],
    quiet: Duration::from_secs(5),
    rest: Duration::from_mins(2),
    samples: 15,
};

/// How long the operator may go on after all portals are Ready.
const QUIET_DEADLINE: Duration = Duration::from_mins(2);

/// Where the control plane of the local cluster can be watched
#[derive(Args, Debug)]
#[group(requires_all = ["pids", "audit_log"])]
pub(crate) struct ControlPlane {
    /// Folder with a file for each process of the local cluster, beginning with its pid
    #[arg(long, required = false, value_name = "FOLDER")]
    pids: PathBuf,
    /// The API server's audit log
    #[arg(long, required = false, value_name = "FILE")]
    audit_log: PathBuf,
}

/// How many portals, and where
#[derive(Args, Debug)]
pub(crate) struct Scale {
    /// Numbers of portals [default: 1,100,500,1000; in rounds of one second 1,20]
    #[arg(long = "scale", env = "BENCH_SCALE", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..=2000), value_name = "NUMBERS")]
    sizes: Vec<u16>,
    /// Namespace for the portals, which the operator must watch
    #[arg(
        long,
        env = "BENCH_SCALE_NAMESPACE",
        default_value = "e2e-scale",
        value_name = "NAMESPACE"
    )]
    scale_namespace: String,
}

#[derive(Clone, Copy)]
struct Plan {
    sizes: &'static [u16],
    /// The operator has settled when it has asked for nothing for this long.
    quiet: Duration,
    /// How long it is watched at rest.
    rest: Duration,
    /// Edits and deletions by hand.
    samples: usize,
}

/// Measures each number of portals in turn.
pub(crate) async fn measure(
    control_plane: &ControlPlane,
    scale: &Scale,
    is_short: bool,
    found: &mut impl FnMut(Figure),
) -> Result<()> {
    let plan = if is_short { SHORT } else { FULL };
    let sizes = if scale.sizes.is_empty() { plan.sizes } else { &scale.sizes };
    let namespace = Namespace::keep(&scale.scale_namespace).await?;
    fake_nodes::expect_some(&namespace.client()).await?;
    fleet::remove(&namespace).await?;
    for size in sizes {
        let rig = Rig { control_plane, plan, namespace: &namespace, size: (*size).into() };
        rig.measure(found).await.with_context(|| format!("with {size} portals"))?;
    }
    Ok(())
}

/// One number of portals.
struct Rig<'a> {
    control_plane: &'a ControlPlane,
    plan: Plan,
    namespace: &'a Namespace,
    size: usize,
}

impl Rig<'_> {
    async fn measure(&self, found: &mut impl FnMut(Figure)) -> Result<()> {
        let Self { control_plane, plan, namespace, size } = self;
        eprintln!("bench: {size} portals");
        let mut witness = Witness::of_log(namespace.client(), &control_plane.audit_log).await?;
        self.wait_until_quiet(&mut witness).await?;

        let machine = Machine::find(&namespace.client(), &control_plane.pids).await?;
        machine.forget_peak_memory()?;
        let before = machine.read_usage()?;
        let (fleet, growth) = Fleet::grow(namespace, *size).await?;
        let requests = self.wait_until_quiet(&mut witness).await?;
        let used = machine.read_usage()?.since(&before);
        self.report_growth(&growth, found);
        self.report_requests(&requests, fleet.count_children().await?, found);
        self.report_usage(&used, found);

        eprintln!("bench: {size} portals at rest for {} s", plan.rest.as_secs());
        sleep(plan.rest).await;
        self.report_rest(&self.requests(&mut witness).await?, found);

        eprintln!("bench: {} edits and deletions among {size} portals", plan.samples);
        let edits = reaction::edits(&fleet, plan.samples).await?;
        let deletions = reaction::deletions(&fleet, plan.samples).await?;
        for (name, times) in [("edit_to_child", edits), ("delete_to_return", deletions)] {
            let milliseconds = median(times.iter().map(|time| time.as_secs_f64() * 1e3));
            found(self.figure(name, milliseconds, "ms").with_goal(Goal::AtMost(60.0)));
        }
        fleet::remove(namespace).await
    }

    /// The operator's requests in the namespace until it has asked for nothing for a while.
    async fn wait_until_quiet(&self, witness: &mut Witness) -> Result<Vec<Request>> {
        let is_work = |one: &Request| one.namespace == self.namespace.name() && one.verb != "watch";
        let quiet = self.plan.quiet;
        let mut requests = witness.until_quiet(OPERATOR, quiet, QUIET_DEADLINE, is_work).await?;
        requests.retain(|request| request.namespace == self.namespace.name());
        Ok(requests)
    }

    async fn requests(&self, witness: &mut Witness) -> Result<Vec<Request>> {
        let mut requests = witness.requests_of(OPERATOR).await?;
        requests.retain(|request| request.namespace == self.namespace.name());
        Ok(requests)
    }

    fn report_growth(&self, growth: &Growth, found: &mut impl FnMut(Figure)) {
        let last = self.figure("last_deployment_created", growth.deployments.as_secs_f64(), "s");
        found(if self.size == 500 { last.with_goal(Goal::AtMost(60.0)) } else { last });
        found(self.figure("all_ready", growth.ready.as_secs_f64(), "s"));
    }

    /// Writes are held against one for each child and two of the status.
    fn report_requests(
        &self,
        requests: &[Request],
        children: usize,
        found: &mut impl FnMut(Figure),
    ) {
        let mut by_verb = BTreeMap::new();
        for request in requests {
            let is_status = request.resource.ends_with("/status");
            let verb = if is_status { "status" } else { request.verb.as_str() };
            *by_verb.entry(verb).or_insert(0) += 1;
        }
        for (verb, count) in by_verb {
            found(self.figure(&format!("{verb}_per_portal"), self.per_portal(count), "requests"));
        }
        let writes: Vec<&Request> = requests.iter().filter(|request| request.is_write()).collect();
        let goal = Goal::AtMost(self.per_portal(children) + 2.0);
        let figure = self.figure("writes_per_portal", self.per_portal(writes.len()), "requests");
        found(figure.with_goal(goal));
        if !writes.is_empty() {
            let times = writes.iter().map(|request| request.took.as_secs_f64() * 1e3);
            found(self.figure("api_server_time_per_write", median(times), "ms"));
        }
    }

    fn report_usage(&self, used: &usage::Usage, found: &mut impl FnMut(Figure)) {
        let (cpu_goal, memory_goal) = match self.size {
            500 => (Some(12.0), Some(35.0)),
            1000 => (None, Some(60.0)),
            _ => (None, None),
        };
        let with_goal = |figure: Figure, goal: Option<f64>| match goal {
            Some(most) => figure.with_goal(Goal::AtMost(most)),
            None => figure,
        };
        found(with_goal(self.figure("operator_cpu", used.operator.as_secs_f64(), "s"), cpu_goal));
        let peak = self.figure("operator_peak_memory", used.operator_peak_megabytes(), "MB");
        found(with_goal(peak, memory_goal));
        let total = used.machine.as_secs_f64();
        for (name, time) in &used.control_plane {
            let name = name.replace('-', "_");
            found(self.figure(&format!("{name}_cpu"), time.as_secs_f64(), "s"));
        }
        found(self.figure("machine_cpu", total, "s"));
    }

    /// Watches end after some minutes and are started again; that is no question about anything.
    fn report_rest(&self, requests: &[Request], found: &mut impl FnMut(Figure)) {
        let (writes, reads): (Vec<&Request>, Vec<&Request>) =
            requests.iter().partition(|request| request.is_write());
        let reads = count(reads.len()) / self.plan.rest.as_secs_f64();
        found(self.figure("rest_reads", reads, "1/s").with_goal(Goal::AtMost(1.0)));
        let writes = count(writes.len()) / self.plan.rest.as_secs_f64();
        found(self.figure("rest_writes", writes, "1/s").with_goal(Goal::AtMost(0.0)));
    }

    fn per_portal(&self, number: usize) -> f64 {
        count(number) / count(self.size)
    }

    fn figure(&self, name: &str, value: f64, unit: &'static str) -> Figure {
        Figure::new(format!("scale_{}_{name}", self.size), value, unit)
    }
}

#[expect(clippy::cast_precision_loss, reason = "far fewer requests and portals than 2^52")]
fn count(number: usize) -> f64 {
    number as f64
}
