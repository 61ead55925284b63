//! The condition `SourcesReporting`, and the list of sources.

use crds::{Reason, SourceKind, SourceStatus};
use serde_json::{Value, json};

use super::{World, deployment, failure, on_mysql, serving, starting};
use crate::{
    cluster::{labels::Component, pod_http::NoAnswer},
    portal::{
        pods::{PodProblem, PodProblems},
        source_reports::{Freshness, Reports, SourceProblem, SourceReport},
        status::ReconcileOutcome,
    },
};

const GRANT: &str = "kubectl create clusterrolebinding gill-hicks-collector-team-demo --clusterrole=gill-hicks-collector --serviceaccount=team:demo-collector";
const LOG: &str = "the collector's log says more: kubectl logs deployment/demo-collector";

/// A portal that serves, with two sources whose collector is available.
fn collecting() -> World {
    let sources = json!([{"kubernetes": {}}, {"name": "lab", "kubernetes": {"provider": "Lab"}}]);
    let mut world = World::serving(json!({"sources": sources}));
    world.collector = Some(deployment("demo-collector", &serving()));
    world
}

fn fresh(name: &str) -> SourceReport {
    SourceReport {
        name: name.to_owned(),
        pools: 4,
        silent_s: 20,
        expected_interval_s: 60,
        freshness: Freshness::Fresh,
        problem: None,
    }
}

fn silent(name: &str, silent_s: u64) -> SourceReport {
    SourceReport { silent_s, freshness: Freshness::Late, ..fresh(name) }
}

fn with_problem(name: &str, code: &str, detail: &str) -> SourceReport {
    let problem = SourceProblem { code: code.to_owned(), detail: detail.to_owned() };
    SourceReport { problem: Some(problem), ..fresh(name) }
}

fn forbidden(name: &str) -> SourceReport {
    with_problem(name, "pods_forbidden", "the collector may not list pods.")
}

impl World {
    fn report(&mut self, reports: impl IntoIterator<Item = SourceReport>) {
        self.reports = Reports::Listed(reports.into_iter().collect());
        self.apply();
    }

    /// Status and reason of the condition, and its message.
    fn reporting(&self) -> (&str, &str, &str) {
        let found = self.find("SourcesReporting");
        (&found.status, &found.reason, &found.message)
    }
}

#[test]
fn a_portal_without_sources_waits_for_none() {
    let world = World::serving(json!({}));
    assert_eq!(
        world.reporting(),
        ("True", "NotNeeded", "spec.sources names none, so that none has to report")
    );
    assert_eq!(world.status().sources, []);
    let empty = World::serving(json!({"sources": []}));
    assert_eq!(empty.reporting(), world.reporting());
}

#[test]
fn the_most_urgent_flaw_gives_the_reason_and_every_one_is_told_with_what_to_do() {
    let failing = || with_problem("lab", "quota_exceeded", "raise the quota");
    let cases = [
        (
            vec![fresh("kubernetes"), fresh("lab")],
            "AsExpected",
            "every source reports in time".to_owned(),
        ),
        (
            vec![fresh("kubernetes")],
            "ReportPending",
            format!("source lab has not reported a pool yet; {LOG}"),
        ),
        (
            vec![silent("kubernetes", 1000), fresh("lab")],
            "SourceSilent",
            format!("source kubernetes has not reported for more than 15 minutes; {LOG}"),
        ),
        (
            vec![fresh("kubernetes"), failing()],
            "SourceFailing",
            "source lab: raise the quota".to_owned(),
        ),
        (
            vec![forbidden("kubernetes"), fresh("lab")],
            "SourceForbidden",
            format!(
                "source kubernetes: the collector may not list pods; an administrator grants the rights with: {GRANT}"
            ),
        ),
        (
            vec![failing(), forbidden("kubernetes")],
            "SourceForbidden",
            format!(
                "source kubernetes: the collector may not list pods; source lab: raise the quota; an administrator grants the rights with: {GRANT}"
            ),
        ),
        (
            vec![forbidden("lab")],
            "SourceForbidden",
            format!(
                "source lab: the collector may not list pods; source kubernetes has not reported a pool yet; {LOG}; an administrator grants the rights with: {GRANT}"
            ),
        ),
        (
            vec![fresh("other")],
            "ReportPending",
            format!(
                "source kubernetes has not reported a pool yet; source lab has not reported a pool yet; {LOG}"
            ),
        ),
    ];
    for (reports, reason, message) in cases {
        let mut world = collecting();
        world.report(reports);
        let status = if reason == "AsExpected" { "True" } else { "False" };
        assert_eq!(world.reporting(), (status, reason, message.as_str()));
        assert_eq!(
            world.condition("Ready"),
            ("True", "AsExpected", Some(1)),
            "it serves: {reason}"
        );
        assert_eq!(world.condition("Stalled").0, "False", "{reason}");
    }
}

#[test]
fn the_message_about_a_silence_changes_only_now_and_then() {
    let mut world = collecting();
    let mut told = Vec::new();
    for seconds in (0..10 * 86_400).step_by(10) {
        world.report([silent("kubernetes", seconds), fresh("lab")]);
        let message = world.reporting().2.to_owned();
        if told.last() != Some(&message) {
            told.push(message);
        }
    }
    let times: Vec<&str> = told
        .iter()
        .filter_map(|text| {
            text.strip_prefix("source kubernetes has not reported")?.split("; ").next()
        })
        .collect();
    assert_eq!(
        times,
        [
            "",
            " for more than a minute",
            " for more than 5 minutes",
            " for more than 15 minutes",
            " for more than an hour",
            " for more than 6 hours",
            " for more than a day",
            " for more than a week",
        ]
    );
}

#[test]
fn a_problem_that_was_reported_long_ago_is_a_silence() {
    let mut world = collecting();
    // While it has a problem, the API may call its pools late.
    let heard = SourceReport { freshness: Freshness::Late, ..forbidden("kubernetes") };
    world.report([heard.clone(), fresh("lab")]);
    assert_eq!(world.reporting().1, "SourceForbidden");
    world.report([SourceReport { silent_s: 300, ..heard }, fresh("lab")]);
    assert_eq!(world.reporting().1, "SourceSilent");
}

#[test]
fn a_source_that_misses_three_reports_is_silent_although_levels_still_follow_from_it() {
    for (expected_interval_s, silent_s, reason) in [
        (60, 180, "AsExpected"),
        (60, 181, "SourceSilent"),
        (5, 90, "AsExpected"),
        (5, 91, "SourceSilent"),
        (0, 91, "SourceSilent"),
        (600, 1800, "AsExpected"),
    ] {
        let mut world = collecting();
        let source = SourceReport { silent_s, expected_interval_s, ..fresh("kubernetes") };
        world.report([source, fresh("lab")]);
        assert_eq!(world.reporting().1, reason, "{silent_s} s of {expected_interval_s}");
    }
}

#[test]
fn a_source_that_knows_its_account_names_the_command_itself() {
    let mut world = collecting();
    let detail = format!("an administrator allows it with: {GRANT}");
    let failing = with_problem("lab", "quota_exceeded", "raise the quota");
    world.report([with_problem("kubernetes", "pods_forbidden", &detail), failing]);
    let expected = format!("source lab: raise the quota; source kubernetes: {detail}");
    assert_eq!(world.reporting().2, expected);
}

#[test]
fn what_a_source_says_is_cut_where_it_is_too_long() {
    let mut world = collecting();
    let (code, detail) = (format!("{}_forbidden", "x".repeat(100)), "ä".repeat(600));
    world.report([with_problem("kubernetes", &code, &detail), fresh("lab")]);
    let message = world.reporting().2;
    assert_eq!(message.matches('ä').count(), 500);
    assert!(message.ends_with(GRANT), "{message}");
    let problem = world.status().sources[0].problem.clone();
    assert_eq!(problem.map(|code| code.len()), Some(64));
}

#[test]
fn the_sources_are_listed_in_the_order_of_the_spec() {
    let mut world = collecting();
    world.report([fresh("other"), silent("lab", 4000), forbidden("kubernetes")]);
    let source = |name: &str, problem: Option<&str>| SourceStatus {
        name: name.to_owned(),
        kind: SourceKind::Kubernetes,
        reporting: false,
        problem: problem.map(str::to_owned),
        pools: Some(4),
    };
    let expected = [source("kubernetes", Some("pods_forbidden")), source("lab", None)];
    assert_eq!(world.status().sources, expected);
    world.report([fresh("kubernetes"), fresh("lab")]);
    assert!(world.status().sources.iter().all(|source| source.reporting));
    world.reports = Reports::NotAnswered(NoAnswer::Late);
    world.apply();
    let unknown = SourceStatus { pools: None, ..source("lab", None) };
    assert_eq!(world.status().sources[1], unknown);
}

#[test]
fn without_an_answer_of_the_api_nobody_knows_who_reports() {
    let mut world = collecting();
    for (reports, why) in [
        (Reports::NotAsked, "no pod of it is available; the condition HardwareAvailable says why"),
        (Reports::NotAnswered(NoAnswer::Late), "it did not answer within 1 s"),
        (Reports::NotAnswered(NoAnswer::Status(503)), "it answered with the status 503"),
    ] {
        world.reports = reports;
        world.apply();
        let message =
            format!("demo-hardware:5001, which knows who reports, is not there to ask: {why}");
        assert_eq!(world.reporting(), ("False", "HardwareUnreachable", message.as_str()));
    }
}

#[test]
fn a_collector_that_does_not_run_explains_why_no_source_is_heard() {
    let mut world = collecting();
    world.collector = None;
    world.report([]);
    assert_eq!(
        world.reporting(),
        ("False", "NotCreated", "Deployment demo-collector does not exist yet")
    );
    world.collector = Some(deployment("demo-collector", &starting()));
    world.report([]);
    assert_eq!(world.reporting().1, "MinimumReplicasUnavailable");
    assert_eq!(world.condition("Progressing").1, "RollingOut");
    let message = "pod demo-collector-1 does not get its image".to_owned();
    let problem = PodProblem { reason: Reason::ImagePullBackOff, message };
    world.problems = PodProblems::one(Component::Collector, problem);
    world.report([silent("kubernetes", 4000)]);
    assert_eq!(
        world.reporting(),
        (
            "False",
            "ImagePullBackOff",
            "Deployment demo-collector has 0 of 2 pods available: pod demo-collector-1 does not get its image"
        )
    );
    assert_eq!(world.condition("Progressing").1, "ImagePullBackOff");
    assert_eq!(world.condition("Ready").0, "True", "it serves");
    // The old pod ended a moment ago, and what it said still holds.
    world.report([forbidden("kubernetes"), fresh("lab")]);
    assert_eq!(world.reporting().1, "SourceForbidden");
}

#[test]
fn a_portal_that_cannot_be_applied_keeps_its_reports_of_the_last_generation() {
    let mut world = collecting();
    world.report([fresh("kubernetes"), fresh("lab")]);
    assert_eq!(world.condition("SourcesReporting"), ("True", "AsExpected", Some(1)));
    let mut world = world.edited();
    let failure = failure(crds::ConditionType::Progressing, Reason::ApiError);
    world.finish(&ReconcileOutcome::Failed(&failure));
    assert_eq!(world.condition("SourcesReporting"), ("True", "AsExpected", Some(1)));
    world.reports = Reports::Listed(vec![silent("kubernetes", 400), fresh("lab")]);
    world.finish(&ReconcileOutcome::Suspended);
    assert_eq!(world.condition("SourcesReporting"), ("False", "SourceSilent", Some(1)));
    world.report([fresh("kubernetes"), fresh("lab")]);
    assert_eq!(world.condition("SourcesReporting"), ("True", "AsExpected", Some(2)));
}

#[test]
fn sources_work_with_any_database() {
    let mut spec = on_mysql();
    spec["sources"] = json!([{"kubernetes": {}}]);
    let mut world = World::new(spec);
    world.set_deployments(&serving());
    world.collector = Some(deployment("demo-collector", &serving()));
    world.report([fresh("kubernetes")]);
    assert_eq!(world.condition("SourcesReporting"), ("True", "AsExpected", Some(1)));
}

#[test]
fn an_old_pod_of_the_collector_reports_for_the_generation_before() {
    let mut world = collecting().edited();
    let old: Value = json!({"status": {
        "replicas": 1, "updatedReplicas": 0, "availableReplicas": 1,
        "conditions": [super::available("True")],
    }});
    world.collector = Some(deployment("demo-collector", &old));
    world.report([fresh("kubernetes"), fresh("lab")]);
    assert_eq!(world.condition("SourcesReporting"), ("True", "AsExpected", Some(1)));
}
