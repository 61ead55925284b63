//! The condition `SourcesReporting`: whether those report that the operator runs for the portal. The portal
//! serves without them, so that Ready does not depend on it.

use crds::{CollectedSource, ConditionType, HardwarePortal, Reason, SourceStatus};
use kube::ResourceExt;

use super::{Judgement, workloads::availability};
use crate::{
    cluster::{labels::Component, names},
    portal::{
        build::{access, hardware},
        live::Live,
        pods::PodProblems,
        source_reports::{Freshness, Reports, SourceProblem, SourceReport},
    },
};

/// Times of a silence that are told apart, so that the message does not change with each pass.
const SILENCES: [(u64, &str); 7] = [
    (7 * 86_400, "a week"),
    (86_400, "a day"),
    (6 * 3600, "6 hours"),
    (3600, "an hour"),
    (900, "15 minutes"),
    (300, "5 minutes"),
    (60, "a minute"),
];

/// Most characters of a source's own words in a message. What it says is not trusted to be short.
const LONGEST_DETAIL: usize = 500;
/// Most characters of the code of a problem in the status.
const LONGEST_CODE: usize = 64;

/// How one source is.
enum State<'a> {
    /// Its latest report is on time, and has no problem.
    Reports,
    /// Its latest report says that it has a problem.
    HasProblem(&'a SourceProblem),
    /// It has not reported for so many seconds.
    Silent(u64),
    /// The API does not know it.
    Unknown,
}

impl<'a> State<'a> {
    fn of(name: &str, reports: &'a [SourceReport]) -> Self {
        let Some(report) = reports.iter().find(|report| report.name == name) else {
            return Self::Unknown;
        };
        match &report.problem {
            // Whatever the API makes of its pools meanwhile.
            Some(problem) if report.is_heard() => Self::HasProblem(problem),
            None if report.is_heard() && report.freshness == Freshness::Fresh => Self::Reports,
            _ => Self::Silent(report.silent_s),
        }
    }

    fn is_heard(&self) -> bool {
        matches!(self, Self::Reports | Self::HasProblem(_))
    }

    /// What is wrong with it; nothing if it reports.
    fn flaw(&self, name: &str) -> Option<(Reason, String)> {
        match self {
            Self::Reports => None,
            Self::HasProblem(SourceProblem { code, detail }) => {
                let reason = if code.ends_with("_forbidden") {
                    Reason::SourceForbidden
                } else {
                    Reason::SourceFailing
                };
                let detail: String = detail.chars().take(LONGEST_DETAIL).collect();
                Some((reason, format!("source {name}: {}", detail.trim_end_matches('.'))))
            }
            Self::Silent(seconds) => {
                let time = SILENCES.iter().find(|(least, _)| seconds >= least);
                let time = time.map(|(_, time)| format!(" for more than {time}"));
                let time = time.unwrap_or_default();
                Some((Reason::SourceSilent, format!("source {name} has not reported{time}")))
            }
            Self::Unknown => {
                Some((Reason::ReportPending, format!("source {name} has not reported a pool yet")))
            }
        }
    }
}

/// The reasons in the order in which they need somebody. Where sources differ, the condition has the first.
const BY_URGENCY: [Reason; 4] =
    [Reason::SourceForbidden, Reason::SourceFailing, Reason::SourceSilent, Reason::ReportPending];

/// Whether every source reports in time, without a problem.
pub(super) fn reporting(
    portal: &HardwarePortal,
    live: &Live,
    pod_problems: &PodProblems,
    reports: &Reports,
) -> Judgement {
    let kind = ConditionType::SourcesReporting;
    let name = portal.name_any();
    let wanted = wanted(portal);
    if wanted.is_empty() {
        let message = "spec.sources names none, so that none has to report";
        return Judgement::new(kind, true, Reason::NotNeeded, message);
    }
    let collector = names::collector(&name);
    let running =
        availability(Component::Collector, &collector, live.collector.as_ref(), pod_problems);
    let unreachable = |why: String| {
        let message = format!(
            "{}, which knows who reports, is not there to ask: {why}",
            hardware::address(&name)
        );
        Judgement::new(kind, false, Reason::HardwareUnreachable, message)
    };
    let reports = match reports {
        // Without its Deployment there will be no report, whoever could be asked.
        _ if live.collector.is_none() => return running,
        Reports::NotAsked => {
            let why = "no pod of it is available; the condition HardwareAvailable says why";
            return unreachable(why.to_owned());
        }
        Reports::NotAnswered(why) => return unreachable(why.to_string()),
        Reports::Listed(reports) => reports,
    };
    let states = wanted.iter().map(|(name, _)| (*name, State::of(name, reports)));
    let states: Vec<(&str, State<'_>)> = states.collect();
    if !running.is_true && !states.iter().any(|(_, state)| state.is_heard()) {
        return running;
    }
    let mut flaws: Vec<(Reason, String)> =
        states.iter().filter_map(|(name, state)| state.flaw(name)).collect();
    flaws.sort_by_key(|(reason, _)| BY_URGENCY.iter().position(|one| one == reason));
    let Some((worst, _)) = flaws.first() else {
        return Judgement::new(kind, true, Reason::AsExpected, "every source reports in time");
    };
    let worst = *worst;
    let has = |wanted: &[Reason]| flaws.iter().any(|(reason, _)| wanted.contains(reason));
    let mut sentences: Vec<String> = flaws.iter().map(|(_, sentence)| sentence.clone()).collect();
    if has(&[Reason::SourceSilent, Reason::ReportPending]) {
        sentences
            .push(format!("the collector's log says more: kubectl logs deployment/{collector}"));
    }
    // Last, so that it can be copied.
    if has(&[Reason::SourceForbidden]) {
        let namespace = portal.namespace().unwrap_or_default();
        let command = access::grant_command(&namespace, &name);
        let said = sentences.iter().position(|sentence| sentence.contains(&command));
        let sentence = match said {
            // By a source that knows its account.
            Some(place) => sentences.remove(place),
            None => format!("an administrator grants the rights with: {command}"),
        };
        sentences.push(sentence);
    }
    Judgement::new(kind, false, worst, sentences.join("; "))
}

/// The sources one by one. What is not known, as the API does not answer, counts as not reporting.
pub(super) fn describe(portal: &HardwarePortal, reports: &Reports) -> Vec<SourceStatus> {
    let reports = match reports {
        Reports::Listed(reports) => reports.as_slice(),
        Reports::NotAsked | Reports::NotAnswered(_) => &[],
    };
    let describe = |(name, source): (&str, &CollectedSource)| {
        let state = State::of(name, reports);
        let report = reports.iter().find(|report| report.name == name);
        Some(SourceStatus {
            name: name.to_owned(),
            kind: source.kind()?,
            reporting: matches!(state, State::Reports),
            problem: match state {
                State::HasProblem(SourceProblem { code, .. }) => {
                    Some(code.chars().take(LONGEST_CODE).collect())
                }
                State::Reports | State::Silent(_) | State::Unknown => None,
            },
            pools: report.and_then(|report| i64::try_from(report.pools).ok()),
        })
    };
    wanted(portal).into_iter().filter_map(describe).collect()
}

/// The sources of the spec with their names.
fn wanted(portal: &HardwarePortal) -> Vec<(&str, &CollectedSource)> {
    let sources = portal.spec.sources.iter().flatten();
    sources.filter_map(|source| Some((source.resolved_name()?, source))).collect()
}
