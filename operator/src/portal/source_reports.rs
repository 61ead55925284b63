//! What a portal's own API says of the sources that the operator runs for it. It is asked over HTTP, since
//! the sources report to it and not to the operator.

use std::time::Duration;

use crds::{ConditionType, HardwarePortal, HardwarePortalStatus};
use kube::ResourceExt;
use serde::Deserialize;

use super::{build::hardware::PORT, live::Live};
use crate::cluster::{
    names,
    pod_http::{NoAnswer, PodHttp},
};

/// Most bytes of an answer. The sources of a spec fit in several times; others may report to a portal as
/// well, and an answer with so many of them is not read.
const LONGEST_ANSWER: usize = 256 * 1024;
/// How often the API is asked while every source reports.
const AT_REST: Duration = Duration::from_secs(30);
/// How often it is asked while one does not, which somebody may be waiting for.
const UNTIL_THEY_REPORT: Duration = Duration::from_secs(5);

/// Reports that a source may miss before it counts as silent, and the least time for that: the API or the
/// collector may be replaced by a rollout.
const MISSED_REPORTS: u64 = 3;
const LEAST_LATE_S: u64 = 90;

/// Asks the APIs of portals for who reports.
#[derive(Clone, Debug)]
pub struct SourceReports {
    http: PodHttp,
}

/// What is known of who reports.
#[derive(Debug, Default, PartialEq, Eq)]
pub enum Reports {
    /// Nothing: no pod of the API is available, or the portal has no sources.
    #[default]
    NotAsked,
    /// Nothing: the API did not answer.
    NotAnswered(NoAnswer),
    /// Everybody who reports, or did.
    Listed(Vec<SourceReport>),
}

/// Body of `GET /v1/sources`, as far as it is read.
#[derive(Deserialize)]
struct Answer {
    items: Vec<SourceReport>,
}

/// One source, as the API knows it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct SourceReport {
    /// Its name.
    pub name: String,
    /// How many pools it has.
    #[serde(default)]
    pub pools: u64,
    /// Seconds since its latest report.
    #[serde(default)]
    pub silent_s: u64,
    /// Seconds between two of its reports.
    #[serde(default)]
    pub expected_interval_s: u64,
    /// Whether it is on time.
    pub freshness: Freshness,
    /// The problem that its latest report says.
    #[serde(default)]
    pub problem: Option<SourceProblem>,
}

/// Whether a source is on time.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Freshness {
    /// It is.
    Fresh,
    /// It is not, for whatever time.
    #[serde(other)]
    Late,
}

/// Why no level follows from a source.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct SourceProblem {
    /// The word for machines, such as `pods_forbidden`.
    pub code: String,
    /// The sentence for people.
    pub detail: String,
}

impl SourceReport {
    /// Whether it has been heard of late. That is stricter than what the API makes of a level, which a
    /// source may be late for by minutes: whoever runs it wants to know sooner.
    #[must_use]
    pub fn is_heard(&self) -> bool {
        let late = self.expected_interval_s.saturating_mul(MISSED_REPORTS).max(LEAST_LATE_S);
        self.silent_s <= late
    }
}

impl SourceReports {
    /// One that asks through `http`.
    #[must_use]
    pub fn new(http: PodHttp) -> Self {
        Self { http }
    }

    /// Asks the API of a portal that has sources, if a pod of it is available.
    pub async fn ask(&self, portal: &HardwarePortal, namespace: &str, live: &Live) -> Reports {
        let available = live.hardware.as_ref().and_then(|it| it.status.available_replicas);
        if !has_sources(portal) || available.unwrap_or_default() == 0 {
            return Reports::NotAsked;
        }
        let service = names::hardware(&portal.name_any());
        let url = format!("http://{service}.{namespace}.svc:{PORT}/v1/sources");
        match self.http.get::<Answer>(&url, LONGEST_ANSWER).await {
            Ok(answer) => Reports::Listed(answer.items),
            Err(error) => Reports::NotAnswered(error),
        }
    }
}

/// When to ask again; none for a portal without sources. What a source reports moves no object that is
/// watched.
#[must_use]
pub fn next_ask(portal: &HardwarePortal, status: &HardwarePortalStatus) -> Option<Duration> {
    let mut conditions = status.conditions.iter();
    let all_report = conditions
        .any(|one| one.type_ == ConditionType::SourcesReporting.as_str() && one.status == "True");
    has_sources(portal).then_some(if all_report { AT_REST } else { UNTIL_THEY_REPORT })
}

fn has_sources(portal: &HardwarePortal) -> bool {
    portal.spec.sources.as_ref().is_some_and(|sources| !sources.is_empty())
}

#[cfg(test)]
mod tests {
    use crds::{HardwarePortal, HardwarePortalStatus};
    use serde_json::{Value, json};

    use super::{Answer, Freshness, SourceProblem, next_ask};

    #[test]
    fn an_answer_of_the_api_is_read_with_its_problems_and_without_what_is_not_needed() {
        let answer: Answer = serde_json::from_value(json!({
            "as_of": "2026-01-01T00:00:00Z",
            "items": [
                {
                    "name": "kubernetes", "kinds": ["counts"], "pools": 4, "expected_interval_s": 60,
                    "last_seen": "2026-01-01T00:00:00Z", "silent_s": 3, "freshness": "fresh",
                    "problem": null,
                },
                {
                    "name": "lab", "kinds": [], "pools": 0, "expected_interval_s": 60,
                    "last_seen": "2026-01-01T00:00:00Z", "silent_s": 900, "freshness": "unknown",
                    "problem": {
                        "code": "pods_forbidden", "detail": "grant it", "since": "2026-01-01T00:00:00Z",
                    },
                },
            ],
        }))
        .expect("as the API answers");
        let [kubernetes, lab] = answer.items.try_into().expect("two sources");
        assert_eq!((kubernetes.pools, kubernetes.silent_s), (4, 3));
        assert_eq!((kubernetes.freshness, kubernetes.problem), (Freshness::Fresh, None));
        let problem =
            SourceProblem { code: "pods_forbidden".to_owned(), detail: "grant it".to_owned() };
        assert_eq!((lab.freshness, lab.problem), (Freshness::Late, Some(problem)));
    }

    #[test]
    fn the_api_is_asked_often_until_all_report_and_not_at_all_without_sources() {
        let next = |sources: Value, reporting: &str| {
            let portal: HardwarePortal = serde_json::from_value(json!({
                "apiVersion": "gill-hicks.dev/v1alpha1", "kind": "HardwarePortal",
                "metadata": {"name": "p"}, "spec": {"sources": sources},
            }))
            .expect("a portal");
            let status: HardwarePortalStatus = serde_json::from_value(json!({"conditions": [{
                "type": "SourcesReporting", "status": reporting, "reason": "r", "message": "m",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }]}))
            .expect("a status");
            next_ask(&portal, &status).map(|time| time.as_secs())
        };
        assert_eq!(next(json!([{"kubernetes": {}}]), "False"), Some(5));
        assert_eq!(next(json!([{"kubernetes": {}}]), "True"), Some(30));
        assert_eq!(next(json!([]), "True"), None);
        assert_eq!(next(json!(null), "True"), None);
    }
}
