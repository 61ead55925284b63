//! What is published, and what comes next.

use crds::{ConditionType, Reason, RotationMode};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::{World, failure, on_mysql, serving};
use crate::{
    portal::{
        build::{migration, tests::example},
        live::Migration,
        resolve::ResolvedDatabase,
        status::{
            credentials::{describe, ready},
            plan,
        },
    },
    rotation::{
        Credentials, Trouble,
        machine::{Change, Place, Plan, State},
    },
};

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

/// What a portal on MySQL holds a day after its last rotation, with an interval of 30 days.
fn world() -> (Credentials, Plan) {
    let resolved = example::validated(on_mysql(), &example::settings());
    let plan = plan(&resolved).expect("it is on MySQL").clone();
    assert_eq!(plan.interval, SignedDuration::from_hours(720));
    let state = State { last_rotation: Some(at("2026-01-01T00:00:00Z")), ..State::default() };
    let credentials = example::credentials(RotationMode::AlternatingUsers);
    (Credentials { state, ..credentials }, plan)
}

#[test]
fn only_what_the_secret_was_seen_to_hold_is_published() {
    let (mut credentials, plan) = world();
    let refused = failure(ConditionType::Progressing, Reason::Refused);
    let found = ready(Some(&credentials), Some(&plan), true, None);
    assert_eq!((found.is_true, found.reason), (true, Reason::Published));
    assert_eq!(found.message, "generation 3 is published to the pods");
    let found = ready(Some(&credentials), Some(&plan), true, Some(&refused));
    assert_eq!(found.reason, Reason::Published, "another child was refused");
    let unpublished = "generation 3 is not published yet: something is in the way";
    let trouble = Trouble::new(Reason::SourceNotFound, "m");
    for trouble in [None, Some(trouble)] {
        credentials.trouble = trouble;
        let found = ready(Some(&credentials), Some(&plan), false, Some(&refused));
        assert_eq!((found.is_true, found.reason), (false, Reason::Refused));
        assert_eq!(found.message, unpublished);
    }
    let found = ready(None, None, false, Some(&refused));
    assert_eq!((found.is_true, found.reason), (true, Reason::NotNeeded));
}

#[test]
fn a_refused_secret_leaves_pods_with_their_older_login_serving() {
    let mut world = World::new(on_mysql());
    let job = migration::name(&world.resolved).expect("it is on MySQL");
    world.live.jobs.insert(job, Migration::Succeeded);
    world.credentials = Some(example::credentials(RotationMode::AlternatingUsers));
    world.set_deployments(&serving());
    world.apply();
    assert_eq!(world.condition("CredentialsReady"), ("True", "Published", Some(1)));
    world.apply_in_vain(&failure(ConditionType::Progressing, Reason::Refused), false);
    assert_eq!(world.condition("CredentialsReady"), ("False", "Refused", Some(1)));
    assert_eq!(world.condition("Ready"), ("True", "AsExpected", Some(1)));
}

#[test]
fn the_next_rotation_is_known_and_a_request_is_named() {
    let by_interval = at("2026-01-31T00:00:00Z");
    let (earlier, later) = (at("2026-01-10T00:00:00Z"), at("2026-02-10T00:00:00Z"));
    let request = "(requested by the annotation gill-hicks.dev/rotate-at)";
    let published = "generation 3 is published to the pods";
    let cases = [
        (None, by_interval, published.to_owned()),
        (
            Some(earlier),
            earlier,
            format!("{published}; the next rotation is planned for 2026-01-10T00:00:00Z {request}"),
        ),
        (
            Some(later),
            by_interval,
            format!(
                "{published}; the next rotation is planned for 2026-01-31T00:00:00Z (rotation.interval), and another one for 2026-02-10T00:00:00Z {request}"
            ),
        ),
    ];
    for (requested, next, message) in cases {
        let (credentials, mut plan) = world();
        plan.requested = requested;
        let described = describe(&credentials, Some(&plan)).next_rotation_time;
        assert_eq!(described.map(|time| time.0), Some(next));
        assert_eq!(ready(Some(&credentials), Some(&plan), true, None).message, message);
    }
}

#[test]
fn no_rotation_is_planned_where_none_would_begin() {
    let requested = at("2026-01-10T00:00:00Z");
    let next = |change: &dyn Fn(&mut Credentials)| {
        let (mut credentials, mut plan) = world();
        plan.requested = Some(requested);
        change(&mut credentials);
        describe(&credentials, Some(&plan)).next_rotation_time.map(|time| time.0)
    };
    assert_eq!(next(&|_| ()), Some(requested));
    assert_eq!(next(&|it| it.mode = RotationMode::Follow), None);
    let met = next(&|it| it.state.requested = Some(requested));
    assert_eq!(met, Some(at("2026-01-31T00:00:00Z")), "it was met");
    let later = at("2026-02-20T00:00:00Z");
    assert_eq!(next(&|it| it.state.not_before = Some(later)), Some(later), "rolled back");
    let begun = next(&|it| {
        let resolved = example::validated(on_mysql(), &example::settings());
        let ResolvedDatabase::Mysql(mysql) = &resolved.database else { panic!("on MySQL") };
        it.state.change = Some(begun_change(&mysql.request.plan.place));
    });
    assert_eq!(begun, None, "one is under way");
}

fn begun_change(place: &Place) -> Change {
    serde_json::from_value(json!({
        "phase": "Observed", "mode": "AlternatingUsers", "cause": "Interval", "place": place,
        "next": [], "old": null, "sourceVersion": null, "requested": null,
        "startedAt": "2026-01-01T00:00:00Z", "since": "2026-01-01T00:00:00Z",
        "adoptedAt": null, "emptyLists": 0,
    }))
    .expect("a change")
}
