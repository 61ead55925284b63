//! Requests per second and their latency, against a bare server that gives the same answer.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::wait::eventually;
use hardware_api::Hardware;
use reqwest::Client;

use crate::{
    answer::Answer,
    cpus::Split,
    figure::{Figure, Goal},
    rounds::{First, Pair, median, order},
    services::{Programs, Service, row_name},
    wrk::{Load, Wrk},
};

/// Sizes of the list: the original's, a large one, and one that nobody should need.
const ROWS: [usize; 3] = [2, 1_000, 10_000];

/// A load that is not counted, for connections, caches and the clock of the CPU.
const WARM_UP: Duration = Duration::from_secs(1);

/// The portal shows the list some seconds after it started.
const PAGE_DEADLINE: Duration = Duration::from_secs(30);

/// What is possible, but for a few hundredths.
const HARDWARE_GOAL: Goal = Goal::AtLeast(0.97);
const PORTAL_GOAL: Goal = Goal::AtLeast(0.95);

/// Measures services, one pair at a time.
pub(crate) struct Throughput<'a> {
    programs: &'a Programs,
    client: &'a Client,
    round: Duration,
    cpus: Split,
    wrk: Wrk,
}

impl<'a> Throughput<'a> {
    /// Each round takes `round`.
    pub(crate) fn new(programs: &'a Programs, client: &'a Client, round: Duration) -> Result<Self> {
        let cpus = Split::of_this_machine()?;
        let wrk = Wrk::new(cpus.load.clone())?;
        Ok(Self { programs, client, round, cpus, wrk })
    }

    /// `GET /hardware/`, for lists of several sizes.
    pub(crate) async fn of_hardware(&self, mut found: impl FnMut(Figure)) -> Result<()> {
        for rows in ROWS {
            let mut hardware = self.programs.start_hardware(rows, Some(&self.cpus.server))?;
            hardware.wait_until_ready(self.client).await?;
            let answer = Answer::fetch(self.client, &hardware.url("/hardware/")).await?;
            let list: Vec<Hardware> = serde_json::from_slice(answer.body())?;
            ensure!(list.len() == rows, "the list has {} rows instead of {rows}", list.len());
            let pairs = self.compare(&hardware, "/hardware/", &answer).await?;
            let suffix = format!("_{rows}_rows");
            let figures = figures("hardware", &suffix, HARDWARE_GOAL, &pairs);
            figures.into_iter().for_each(&mut found);
        }
        Ok(())
    }

    /// The portal's page, made of what a real `hardware` says.
    pub(crate) async fn of_portal(&self, found: impl FnMut(Figure)) -> Result<()> {
        let rows = ROWS[0];
        let mut hardware = self.programs.start_hardware(rows, Some(&self.cpus.server))?;
        hardware.wait_until_ready(self.client).await?;
        let mut portal = self.programs.start_portal(&hardware.address, Some(&self.cpus.server))?;
        portal.wait_until_ready(self.client).await?;
        let last = row_name(rows - 1);
        let answer = eventually("a page with the list", PAGE_DEADLINE, async || {
            let answer = Answer::fetch(self.client, &portal.url("/")).await?;
            let page = String::from_utf8_lossy(answer.body());
            ensure!(page.contains(&last), "there is no {last} in {page}");
            Ok(answer)
        })
        .await?;
        let pairs = self.compare(&portal, "/", &answer).await?;
        figures("portal", "", PORTAL_GOAL, &pairs).into_iter().for_each(found);
        Ok(())
    }

    async fn compare(
        &self,
        service: &Service,
        path: &str,
        answer: &Answer,
    ) -> Result<Vec<Pair<Load>>> {
        service.process.wait_until_idle().await?;
        let bare = self.programs.start_bare(self.client, answer, &self.cpus.server).await?;
        let (service_url, bare_url) = (service.url(path), bare.url(path));
        let bare_answer = Answer::fetch(self.client, &bare_url).await?;
        answer.ensure_same_as(&bare_answer).context("the bare server answers something else")?;

        let bytes = answer.wire_bytes();
        for url in [&service_url, &bare_url] {
            self.wrk.run(url, WARM_UP, bytes).await?;
        }
        let mut pairs = Vec::new();
        for first in order() {
            let pair = match first {
                First::Service => {
                    let service = self.wrk.run(&service_url, self.round, bytes).await?;
                    Pair { service, bare: self.wrk.run(&bare_url, self.round, bytes).await? }
                }
                First::Bare => {
                    let bare = self.wrk.run(&bare_url, self.round, bytes).await?;
                    Pair { service: self.wrk.run(&service_url, self.round, bytes).await?, bare }
                }
            };
            let [service, bare] = [pair.service, pair.bare].map(|load| {
                format!("{:.0} requests/s, p99 {:.3} ms", load.requests_per_second, load.p99_ms)
            });
            eprintln!(
                "bench: {bytes} bytes from the service: {service}; from the bare server: {bare}"
            );
            pairs.push(pair);
        }
        let after = Answer::fetch(self.client, &service_url).await?;
        answer.ensure_same_as(&after).context("the service's answer changed meanwhile")?;
        Ok(pairs)
    }
}

/// What the rounds come to. A ratio above 1 means that the service is the better one; it is the
/// median of the pairs' ratios, since the two rounds of a pair met the same machine.
fn figures(service: &str, suffix: &str, goal: Goal, pairs: &[Pair<Load>]) -> [Figure; 6] {
    let of = |value: &dyn Fn(&Pair<Load>) -> f64| median(pairs.iter().map(value));
    let requests =
        |pair: &Pair<Load>| pair.service.requests_per_second / pair.bare.requests_per_second;
    let p99 = |pair: &Pair<Load>| pair.bare.p99_ms / pair.service.p99_ms;
    let raw = |name: String, value, unit| Figure::new(name, value, unit);
    let ratio = |what: &str, value| {
        Figure::new(format!("{service}_vs_hyper_{what}{suffix}"), value, "ratio").with_goal(goal)
    };
    [
        ratio("requests", of(&requests)),
        ratio("p99", of(&p99)),
        raw(
            format!("{service}_requests{suffix}"),
            of(&|pair| pair.service.requests_per_second),
            "requests/s",
        ),
        raw(
            format!("hyper_as_{service}_requests{suffix}"),
            of(&|pair| pair.bare.requests_per_second),
            "requests/s",
        ),
        raw(format!("{service}_p99{suffix}"), of(&|pair| pair.service.p99_ms), "ms"),
        raw(format!("hyper_as_{service}_p99{suffix}"), of(&|pair| pair.bare.p99_ms), "ms"),
    ]
}

#[cfg(test)]
mod tests {
    use super::{HARDWARE_GOAL, figures};
    use crate::{rounds::Pair, wrk::Load};

    fn pair(service: (f64, f64), bare: (f64, f64)) -> Pair<Load> {
        let load = |(requests_per_second, p99_ms)| Load { requests_per_second, p99_ms };
        Pair { service: load(service), bare: load(bare) }
    }

    #[test]
    fn ratios_compare_within_a_pair_and_are_better_the_higher() {
        let pairs = [
            pair((90.0, 2.0), (100.0, 1.9)),
            // The machine was busy with something else: both are slow, their ratio stays.
            pair((9.0, 20.0), (10.0, 19.0)),
            pair((95.0, 1.0), (100.0, 1.0)),
        ];
        let lines =
            figures("hardware", "_2_rows", HARDWARE_GOAL, &pairs).map(|figure| figure.to_string());
        assert_eq!(
            lines,
            [
                "hardware_vs_hyper_requests_2_rows 0.9 ratio (goal >= 0.97, missed)",
                "hardware_vs_hyper_p99_2_rows 0.95 ratio (goal >= 0.97, missed)",
                "hardware_requests_2_rows 90 requests/s (goal none)",
                "hyper_as_hardware_requests_2_rows 100 requests/s (goal none)",
                "hardware_p99_2_rows 2 ms (goal none)",
                "hyper_as_hardware_p99_2_rows 1.9 ms (goal none)",
            ]
        );
    }
}
