//! The document by which a portal's pods know what to watch for. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use crds::{HardwareWatch, PoolMatch, Reason, WatchLevel, Watches};
use jiff::tz::TimeZone;
use kube::ResourceExt;
use secrecy::SecretString;
use serde::Serialize;
use serde_json::json;

use super::{
    secrets::{Found, next_look},
    target::{Problem, Target, Values, references},
};
use crate::cluster::GuardedWatch;

/// Most bytes of the document. A Secret holds 1 MiB at most.
const LONGEST_DOCUMENT: usize = 900 * 1024;

/// What was read for the watches of one portal.
#[derive(Debug, Default)]
pub struct GatheredWatches {
    /// The watches, by name.
    pub watches: Vec<Arc<GuardedWatch>>,
    /// The Secrets that they name.
    pub secrets: Found,
}

/// The document, and what became of each watch.
#[derive(Clone, Debug)]
pub struct RenderedWatches {
    /// The document, as JSON. It holds addresses and keys.
    pub document: SecretString,
    /// What became of each watch, by uid.
    pub outcomes: Outcomes,
    /// Time after which the Secrets are to be looked at again; none if no watch names one.
    pub next_look: Option<Duration>,
}

/// What became of each watch, by uid. Those that are suspended are not in it.
pub type Outcomes = BTreeMap<String, Outcome>;

/// What became of one watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Its name.
    pub name: String,
    /// The generation that was rendered.
    pub generation: i64,
    /// What is wrong with it.
    pub problems: Vec<Problem>,
}

/// A watch as the pods read it.
#[derive(Serialize)]
struct Entry<'a> {
    name: &'a str,
    uid: &'a str,
    generation: i64,
    #[serde(rename = "match")]
    pools: &'a PoolMatch,
    units: i32,
    level: WatchLevel,
    for_s: u64,
    cooldown_s: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    quiet_hours: Option<EntryQuietHours<'a>>,
    deliver: Vec<PlacedTarget<'a>>,
}

/// A receiver with its place in `spec.deliver`, by which messages find it: that stays the same when another
/// one is left out.
#[derive(Serialize)]
struct PlacedTarget<'a> {
    place: usize,
    #[serde(flatten)]
    target: Target<'a>,
}

#[derive(Serialize)]
struct EntryQuietHours<'a> {
    from: &'a str,
    to: &'a str,
    time_zone: &'a str,
}

/// The names of the Secrets that have to be read for these watches.
#[must_use]
pub fn secret_names(watches: &[Arc<GuardedWatch>]) -> BTreeSet<String> {
    let deliveries = watched(watches).flat_map(|watch| &watch.spec.deliver);
    deliveries.flat_map(references).map(|(_, reference)| reference.name.clone()).collect()
}

/// Renders the watches of a portal.
#[must_use]
pub fn render(portal: &str, rules: &Watches, gathered: &GatheredWatches) -> RenderedWatches {
    let values = Values { portal, secrets: &gathered.secrets, allow_http: rules.allow_http };
    let addresses = rules.allow_addresses.as_deref().unwrap_or_default();
    let mut document = format!(
        "{{\"allow_http\":{},\"allow_addresses\":{},\"watches\":[",
        rules.allow_http,
        json!(addresses)
    );
    let mut outcomes = Outcomes::new();
    let (mut is_first, mut is_full) = (true, false);
    for watch in watched(&gathered.watches) {
        let (mut outcome, entry) = render_one(watch, &values);
        if let Some(entry) = entry {
            // The comma before it and the end of the document. Once one does not fit, none after it is
            // looked at, so that it does not depend on their lengths which ones are left out.
            is_full |= document.len() + entry.len() + 3 > LONGEST_DOCUMENT;
            if is_full {
                outcome.problems = vec![too_many(portal)];
            } else {
                if !std::mem::take(&mut is_first) {
                    document.push(',');
                }
                document.push_str(&entry);
            }
        }
        outcomes.insert(watch.uid().unwrap_or_default(), outcome);
    }
    document.push_str("]}");
    RenderedWatches {
        document: document.into(),
        outcomes,
        next_look: gathered.secrets.values().map(next_look).min(),
    }
}

/// Those that are to be watched for.
fn watched(watches: &[Arc<GuardedWatch>]) -> impl Iterator<Item = &HardwareWatch> {
    let readable = watches.iter().filter_map(|watch| watch.0.as_ref().ok());
    readable.filter(|watch| !watch.spec.suspend)
}

/// What becomes of one watch, and its entry; none if nothing can be sent.
fn render_one(watch: &HardwareWatch, values: &Values<'_>) -> (Outcome, Option<String>) {
    let mut outcome = Outcome {
        name: watch.name_any(),
        generation: watch.metadata.generation.unwrap_or_default(),
        problems: Vec::new(),
    };
    let times = match Times::of(watch) {
        Ok(times) => times,
        Err(message) => {
            outcome.problems.push(Problem { reason: Reason::InvalidSpec, message });
            return (outcome, None);
        }
    };
    let mut deliver = Vec::new();
    for (index, delivery) in watch.spec.deliver.iter().enumerate() {
        let Some(kind) = delivery.kind() else {
            let message = format!(
                "deliver[{index}]: expected exactly one of webhook, slack and ntfy, found none or several"
            );
            outcome.problems.push(Problem { reason: Reason::InvalidSpec, message });
            continue;
        };
        match values.target(&format!("deliver[{index}].{}", kind.as_str()), kind) {
            Ok(target) => deliver.push(PlacedTarget { place: index, target }),
            Err(problem) => outcome.problems.push(problem),
        }
    }
    // Without a receiver, what it fires for would be lost.
    if deliver.is_empty() {
        return (outcome, None);
    }
    let spec = &watch.spec;
    let entry = Entry {
        name: &outcome.name,
        uid: watch.metadata.uid.as_deref().unwrap_or_default(),
        generation: outcome.generation,
        pools: &spec.pools,
        units: spec.units,
        level: spec.level,
        for_s: times.hold.as_secs(),
        cooldown_s: times.cooldown.as_secs(),
        quiet_hours: spec.quiet_hours.as_ref().map(|hours| EntryQuietHours {
            from: &hours.from,
            to: &hours.to,
            time_zone: &hours.time_zone,
        }),
        deliver,
    };
    let entry = serde_json::to_string(&entry).expect("texts and numbers are JSON");
    (outcome, Some(entry))
}

struct Times {
    hold: Duration,
    cooldown: Duration,
}

impl Times {
    /// The times of a watch, or what is wrong with them. The CRD's rules refuse most of it, but not in an
    /// object that was stored before they were there.
    fn of(watch: &HardwareWatch) -> Result<Self, String> {
        let spec = &watch.spec;
        if let Some(hours) = &spec.quiet_hours {
            let zone = &hours.time_zone;
            if TimeZone::get(zone).is_err() {
                return Err(format!(
                    "quietHours.timeZone is \"{zone}\": expected a name of the IANA database, such as Europe/Berlin or UTC"
                ));
            }
        }
        Ok(Self {
            hold: duration("for", &spec.hold)?,
            cooldown: duration("cooldown", &spec.cooldown)?,
        })
    }
}

fn duration(field: &str, text: &str) -> Result<Duration, String> {
    let parsed = humantime::parse_duration(text);
    parsed.map_err(|_| format!("{field} is \"{text}\": expected a time such as 30m"))
}

fn too_many(portal: &str) -> Problem {
    Problem {
        reason: Reason::TooManyWatches,
        message: format!(
            "the watches of the portal \"{portal}\" take more than {} KiB, and this one is left out, as it comes last by name; delete others, or let this one refer to another portal",
            LONGEST_DOCUMENT / 1024
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc, time::Duration};

    use crds::{Reason, Watches};
    use secrecy::ExposeSecret;
    use serde_json::{Value, json};

    use super::{GatheredWatches, LONGEST_DOCUMENT, RenderedWatches, render, secret_names};
    use crate::{
        cluster::GuardedWatch,
        watch::secrets::{SecretLookup, Value as SecretText},
    };

    const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn slack() -> Value {
        json!({"slack": {"urlFrom": {"secretKeyRef": {"name": "slack", "key": "url"}}}})
    }

    fn watch(name: &str, changes: &Value) -> Arc<GuardedWatch> {
        let mut spec = json!({
            "portalRef": {"name": "demo"}, "match": {"name": "p5*"}, "deliver": [slack()],
        });
        for (field, value) in changes.as_object().expect("fields") {
            spec[field] = value.clone();
        }
        let watch = serde_json::from_value(json!({
            "apiVersion": "gill-hicks.dev/v1alpha1", "kind": "HardwareWatch",
            "metadata": {
                "name": name, "namespace": "team", "uid": format!("uid-{name}"), "generation": 3,
            },
            "spec": spec,
        }));
        Arc::new(watch.expect("an object"))
    }

    fn secrets() -> BTreeMap<String, SecretLookup> {
        let values = |values: &[(&str, &str)]| {
            let values = values
                .iter()
                .map(|(key, value)| ((*key).to_owned(), SecretText::Text((*value).into())));
            SecretLookup::Values(values.collect())
        };
        BTreeMap::from([
            (
                "slack".to_owned(),
                values(&[("url", "https://slack.test/secret"), ("plain", "http://a.test")]),
            ),
            ("hook".to_owned(), values(&[("url", "https://hook.test/secret"), ("key", KEY)])),
            (
                "ntfy".to_owned(),
                values(&[("url", "https://ntfy.test/topic"), ("token", "tk_secret")]),
            ),
            ("others".to_owned(), SecretLookup::NotAllowed),
            ("missing".to_owned(), SecretLookup::Absent),
        ])
    }

    fn rendered(watches: Vec<Arc<GuardedWatch>>) -> (Value, RenderedWatches) {
        let rules =
            Watches { allow_http: false, allow_addresses: Some(vec!["10.0.0.0/8".to_owned()]) };
        let rendered = render("demo", &rules, &GatheredWatches { watches, secrets: secrets() });
        let document = serde_json::from_str(rendered.document.expose_secret()).expect("JSON");
        (document, rendered)
    }

    #[test]
    fn a_watch_is_written_as_the_pods_read_it() {
        let of = |name: &str, key: &str| json!({"secretKeyRef": {"name": name, "key": key}});
        let h100 = watch(
            "h100",
            &json!({
                "match": {"provider": "aws", "region": "us-*"}, "units": 8, "for": "1m30s", "cooldown": "0s",
                "quietHours": {"from": "22:00", "to": "07:00", "timeZone": "Europe/Berlin"},
                "deliver": [
                    {"webhook": {"urlFrom": of("hook", "url"), "signingKeyFrom": of("hook", "key")}},
                    slack(),
                    {"ntfy": {"urlFrom": of("ntfy", "url"), "tokenFrom": of("ntfy", "token")}},
                ],
            }),
        );
        let (document, found) = rendered(vec![h100]);
        assert_eq!(
            document,
            json!({
                "allow_http": false, "allow_addresses": ["10.0.0.0/8"],
                "watches": [{
                    "name": "h100", "uid": "uid-h100", "generation": 3,
                    "match": {"provider": "aws", "region": "us-*"}, "units": 8, "level": "HIGH",
                    "for_s": 90, "cooldown_s": 0,
                    "quiet_hours": {"from": "22:00", "to": "07:00", "time_zone": "Europe/Berlin"},
                    "deliver": [
                        {"place": 0, "kind": "webhook", "url": "https://hook.test/secret", "signing_key": KEY},
                        {"place": 1, "kind": "slack", "url": "https://slack.test/secret"},
                        {"place": 2, "kind": "ntfy", "url": "https://ntfy.test/topic", "token": "tk_secret"},
                    ],
                }],
            })
        );
        let outcome = &found.outcomes["uid-h100"];
        assert_eq!(outcome.generation, 3);
        assert_eq!(outcome.problems, []);
        assert!(!format!("{found:?}").contains("slack.test"), "the document must not be shown");
    }

    #[test]
    fn what_may_be_absent_is_left_out_and_a_portal_without_watches_has_a_document() {
        let (document, found) = rendered(vec![watch("w", &json!({"level": "MEDIUM"}))]);
        let entry = &document["watches"][0];
        assert_eq!(
            (&entry["level"], &entry["for_s"], &entry["cooldown_s"]),
            (&json!("MEDIUM"), &json!(120), &json!(1800))
        );
        assert_eq!(entry.get("quiet_hours"), None);
        assert_eq!(found.next_look, Some(Duration::from_secs(10)), "a Secret is missing");
        let nothing = render("demo", &Watches::default(), &GatheredWatches::default());
        let expected = r#"{"allow_http":false,"allow_addresses":[],"watches":[]}"#;
        assert_eq!(nothing.document.expose_secret(), expected);
        assert_eq!(nothing.next_look, None, "nothing has to be read again");
    }

    #[test]
    fn each_receiver_that_cannot_be_used_is_named_and_the_others_are_kept() {
        let of = |name: &str, key: &str| json!({"slack": {"urlFrom": {"secretKeyRef": {"name": name, "key": key}}}});
        for (name, key, reason, words) in [
            ("missing", "url", Reason::SecretNotFound, "the Secret \"missing\" does not exist"),
            ("unread", "url", Reason::SecretNotFound, "the Secret \"unread\" does not exist"),
            ("slack", "no", Reason::SecretNotFound, "has no key \"no\""),
            ("others", "url", Reason::SecretNotAllowed, "gill-hicks.dev/allow-portal=demo"),
            ("hook", "key", Reason::SecretInvalid, "found other text"),
            ("slack", "plain", Reason::SecretInvalid, "spec.watches.allowHttp: true"),
        ] {
            let deliver = json!({"deliver": [of(name, key), slack()]});
            let (document, found) = rendered(vec![watch("w", &deliver)]);
            let outcome = &found.outcomes["uid-w"];
            let [problem] = outcome.problems.as_slice() else { panic!("{outcome:?}") };
            assert_eq!(problem.reason, reason, "{problem:?}");
            assert!(problem.message.starts_with("deliver[0].slack.urlFrom: "), "{problem:?}");
            assert!(problem.message.contains(words), "{problem:?}");
            assert!(!problem.message.contains("a.test"), "{problem:?}");
            let deliver = document["watches"][0]["deliver"].as_array().expect("receivers");
            assert_eq!(deliver.len(), 1, "the other one is left");
            assert_eq!(deliver[0]["place"], 1, "with its own place");
        }
    }

    #[test]
    fn a_watch_without_a_receiver_is_not_in_the_document_and_neither_is_a_suspended_one() {
        let missing =
            json!({"slack": {"urlFrom": {"secretKeyRef": {"name": "missing", "key": "url"}}}});
        let watches = vec![
            watch("alone", &json!({"deliver": [missing]})),
            watch("suspended", &json!({"suspend": true})),
            watch("kept", &json!({})),
        ];
        let names = secret_names(&watches);
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["missing", "slack"]);
        let (document, found) = rendered(watches);
        let listed = document["watches"].as_array().expect("a list");
        assert_eq!(listed.len(), 1, "{document}");
        assert_eq!(listed[0]["name"], "kept");
        assert_eq!(found.outcomes.len(), 2, "nothing became of the suspended one");
    }

    #[test]
    fn a_value_that_only_the_operator_can_judge_is_named_with_what_is_expected() {
        for (changes, words) in [
            (
                json!({"quietHours": {"from": "22:00", "to": "07:00", "timeZone": "Europe/Berln"}}),
                "quietHours.timeZone is \"Europe/Berln\": expected a name of the IANA database",
            ),
            (
                json!({"quietHours": {"from": "22:00", "to": "07:00", "timeZone": "Europe/Berln"}}),
                "\"Europe/Berln\"",
            ),
            (json!({"for": "soon"}), "for is \"soon\": expected a time"),
            (json!({"cooldown": ""}), "cooldown is \"\": expected a time"),
            (
                json!({"deliver": [{}]}),
                "deliver[0]: expected exactly one of webhook, slack and ntfy",
            ),
        ] {
            let (document, found) = rendered(vec![watch("w", &changes), watch("x", &json!({}))]);
            let outcome = &found.outcomes["uid-w"];
            assert_eq!(outcome.problems[0].reason, Reason::InvalidSpec, "{changes}");
            assert!(outcome.problems[0].message.contains(words), "{outcome:?}");
            assert_eq!(document["watches"][0]["name"], "x", "it does not take others with it");
        }
    }

    #[test]
    fn watches_that_do_not_fit_are_left_out_by_name_and_told_so() {
        let long = "a".repeat(128);
        let mut watches: Vec<_> = (0..3000)
            .map(|number| watch(&format!("w-{number:04}"), &json!({"match": {"name": long}})))
            .collect();
        // It would fit into what is left.
        watches.push(watch("x", &json!({"match": {"name": "p"}})));
        let (document, found) = rendered(watches);
        assert!(found.document.expose_secret().len() <= LONGEST_DOCUMENT);
        let kept = document["watches"].as_array().expect("a list").len();
        assert!(kept > 1500, "only {kept} fit");
        let is_left_out = |name: &str| {
            let problems = &found.outcomes[&format!("uid-{name}")].problems;
            problems.iter().any(|problem| problem.reason == Reason::TooManyWatches)
        };
        assert!(!is_left_out("w-0000") && is_left_out("w-2999") && is_left_out("x"));
        let left_out = found.outcomes.values().filter(|one| !one.problems.is_empty()).count();
        assert_eq!(kept + left_out, 3001);
    }
}
