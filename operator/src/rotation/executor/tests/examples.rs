//! One statement each.

use crds::RotationMode::{AlternatingUsers, DualPassword, Follow};

use super::{
    events::{Drift, Event, PodEvent, SourceEvent},
    operator::{Blind, CrashBefore, Done, Faults},
    server::{Flavour, login},
    world::{INTERVAL, World},
};
use crate::rotation::{
    machine::{Cause, Effect, Obstacle, Outcome, Phase},
    mysql::Slot,
};

/// A portal at rest with two pods that hold its login.
fn at_rest(mode: crds::RotationMode) -> World {
    let mut world = World::new(mode, Flavour::MySql);
    world.run_until_blocked();
    world.happen(Event::CreatePod);
    world.happen(Event::CreatePod);
    world.pass(1);
    finish(&mut world);
    world
}

/// A portal whose rotation was asked for and has come as far as this.
fn in_phase(mode: crds::RotationMode, phase: Phase) -> World {
    let mut world = at_rest(mode);
    world.happen(Event::Request(0));
    go_to(&mut world, phase);
    world
}

fn go_to(world: &mut World, phase: Phase) {
    for _ in 0..20 {
        if phase > Phase::Published {
            world.happen(Event::Adopt);
        }
        let reached = world.turn(Faults::default()).phase;
        if reached == Some(phase) {
            return;
        }
        let_time_pass(world, reached);
    }
    panic!("it does not come to {phase:?}: {}", world.describe());
}

/// Pods adopt and nothing fails.
fn finish(world: &mut World) {
    for _ in 0..40 {
        world.happen(Event::Adopt);
        let reached = world.turn(Faults::default()).phase;
        if reached.is_none() {
            world.happen(Event::Adopt);
            return;
        }
        let_time_pass(world, reached);
    }
    panic!("it does not end: {}", world.describe());
}

/// An account has to be unused for a while before it is locked.
fn let_time_pass(world: &mut World, phase: Option<Phase>) {
    if phase == Some(Phase::Adopted) {
        world.pass(5);
    }
}

fn holds(world: &World) -> String {
    world.remember().active().expect("published").username.clone()
}

fn is_in(world: &World) -> bool {
    world.pods.iter().all(|pod| pod.is_let_in(&world.servers))
}

/// Phases and what was done on the way to each.
fn trace(world: &mut World) -> Vec<String> {
    let mut lines = Vec::new();
    for _ in 0..40 {
        let done = world.turn(Faults::default());
        let phase = done.phase.map_or("Idle".to_owned(), |phase| format!("{phase:?}"));
        let effects: Vec<String> = done.effects.iter().map(describe).collect();
        lines.push(
            format!("{phase}: {}", effects.join(", ")).trim_end_matches([':', ' ']).to_owned(),
        );
        if done.phase.is_none() {
            return lines;
        }
        let_time_pass(world, done.phase);
        // They take it up when their kubelet was told to refresh their volumes.
        if done.effects.iter().any(|effect| matches!(effect, Effect::Nudge(_))) {
            world.happen(Event::Adopt);
        }
    }
    panic!("it does not end: {lines:#?}");
}

fn describe(effect: &Effect) -> String {
    match effect {
        Effect::EnsureAccount(login) => format!("ensure {}", login.username),
        Effect::AddPassword { next, .. } => format!("add to {}", next.username),
        Effect::DropOldPassword { next } => format!("drop of {}", next.username),
        Effect::Lock(username) => format!("lock {username}"),
        Effect::Nudge(pods) => format!("nudge {}", pods.join(" ")),
    }
}

fn stall(done: &Done) -> String {
    match &done.obstacle {
        Some(Obstacle::Stalled(what)) => what.clone(),
        other => panic!("expected a stall, found {other:?}"),
    }
}

#[test]
fn two_accounts_take_turns() {
    let mut world = at_rest(AlternatingUsers);
    world.happen(Event::Request(0));
    let expected = [
        "Observed",
        "RootVerified",
        "Staged",
        "Applied: ensure hw_0a1b2c3d4e5f46078899_b",
        "Verified",
        "Published",
        "Published: nudge pod-1 pod-2",
        "Adopted",
        "Adopted",
        "Drained",
        "Revoked: lock hw_0a1b2c3d4e5f46078899_a",
        "Idle",
    ];
    assert_eq!(trace(&mut world), expected);
    finish(&mut world);
    world.happen(Event::Pass(1));
    world.happen(Event::Request(0));
    let back = trace(&mut world);
    assert!(back.contains(&"Revoked: lock hw_0a1b2c3d4e5f46078899_b".to_owned()), "{back:#?}");
}

#[test]
fn one_account_has_two_passwords_for_a_while() {
    let mut world = at_rest(DualPassword);
    world.happen(Event::Request(0));
    let expected = [
        "Observed",
        "RootVerified",
        "Staged",
        "Applied: ensure hw_0a1b2c3d4e5f46078899_a, add to hw_0a1b2c3d4e5f46078899_a",
        "Verified",
        "Published",
        "Published: nudge pod-1 pod-2",
        "Adopted",
        "Adopted",
        "Drained",
        "Revoked: drop of hw_0a1b2c3d4e5f46078899_a",
        "Idle",
    ];
    assert_eq!(trace(&mut world), expected);
    assert_eq!(world.server().accounts["hw_0a1b2c3d4e5f46078899_a"].passwords.len(), 1);
}

#[test]
fn where_others_rotate_the_source_is_followed_and_nothing_is_changed() {
    let mut world = at_rest(Follow);
    world.happen(Event::ChangeRoot);
    world.happen(Event::Source(SourceEvent::TellTruth));
    let expected = [
        "Observed",
        "RootVerified",
        "Verified",
        "Published",
        "Published: nudge pod-1 pod-2",
        "Adopted",
        "Adopted",
        "Drained",
        "Idle",
    ];
    assert_eq!(trace(&mut world), expected);
    assert_eq!(world.remember().published.len(), 2, "current and previous");
    assert!(is_in(&world));
}

#[test]
fn the_first_login_waits_for_nobody() {
    let mut world = World::new(AlternatingUsers, Flavour::MariaDb);
    let expected = [
        "Observed",
        "RootVerified",
        "Staged",
        "Applied: ensure hw_0a1b2c3d4e5f46078899_a",
        "Verified",
        "Published",
        "Idle",
    ];
    assert_eq!(trace(&mut world), expected);
    assert_eq!(world.remember().history[0].outcome, Outcome::Adopted);
}

#[test]
fn a_password_that_was_added_before_a_crash_is_not_added_again() {
    let mut world = in_phase(DualPassword, Phase::Staged);
    world.turn(Faults { crash: Some(CrashBefore::StoredState), ..Faults::default() });
    assert_eq!(world.server().accounts["hw_0a1b2c3d4e5f46078899_a"].passwords.len(), 2, "added");
    let done = world.turn(Faults::default());
    assert_eq!(done.phase, Some(Phase::Applied));
    assert!(done.effects.is_empty(), "{:?}", done.effects);
    assert!(is_in(&world));
}

/// MySQL retains the first password, whichever it is.
#[test]
fn a_password_of_a_forgotten_rotation_does_not_push_the_pods_one_out() {
    let mut world = in_phase(DualPassword, Phase::Verified);
    world.happen(Event::LoseMemory);
    finish(&mut world);
    assert!(is_in(&world));
    assert_eq!(world.remember().history[0].outcome, Outcome::Revoked);
}

#[test]
fn standby_is_the_account_without_a_session_when_both_secrets_were_lost() {
    for used in ["hw_0a1b2c3d4e5f46078899_a", "hw_0a1b2c3d4e5f46078899_b"] {
        let mut world = at_rest(AlternatingUsers);
        if holds(&world) != used {
            world.happen(Event::Request(0));
            finish(&mut world);
        }
        assert_eq!(holds(&world), used);
        world.happen(Event::LoseBoth);
        go_to(&mut world, Phase::Published);
        assert_ne!(holds(&world), used);
        assert!(is_in(&world), "the pods of the lost login were cut off: {}", world.describe());
    }
}

#[test]
fn pods_that_hold_a_lost_login_are_waited_for() {
    let mut world = at_rest(AlternatingUsers);
    world.happen(Event::LoseBoth);
    go_to(&mut world, Phase::Published);
    world.happen(Event::Request(0));
    world.run_until_blocked();
    assert!(is_in(&world), "the lost login was overwritten: {}", world.describe());
    assert_eq!(world.remember().change.expect("under way").phase, Phase::Published);
}

#[test]
fn a_rotation_whose_state_is_lost_goes_on_from_the_pods_file() {
    let mut world = in_phase(AlternatingUsers, Phase::Published);
    world.happen(Event::Pod(0, PodEvent::PickUp));
    world.happen(Event::LoseMemory);
    world.run_until_blocked();
    let change = world.remember().change.expect("under way");
    assert_eq!((change.phase, change.cause), (Phase::Published, Cause::Resumed));
    assert!(is_in(&world), "pod-2 holds the old login only");
    finish(&mut world);
    assert_eq!(world.remember().history[0].outcome, Outcome::Revoked);
}

/// A pod whose first login is refused for a while logs in with the older one, under the generation that is
/// published. What is issued again, and then forgotten, has to be published again.
#[test]
fn sessions_of_the_older_login_end_though_the_state_was_lost() {
    let mut world = in_phase(AlternatingUsers, Phase::Published);
    world.happen(Event::Drift(Slot::B, Drift::Drop));
    world.happen(Event::Adopt);
    world.happen(Event::Drift(Slot::A, Drift::Password));
    world.pass(61);
    go_to(&mut world, Phase::Applied);
    world.happen(Event::LoseMemory);
    finish(&mut world);
    let state = world.remember();
    assert_eq!(state.history[0].outcome, Outcome::Revoked);
    assert_eq!((state.history[0].cause, state.generation), (Cause::Resumed, 4));
}

#[test]
fn nothing_is_staged_before_every_pod_holds_what_is_published() {
    let mut world = in_phase(AlternatingUsers, Phase::Drained);
    world.turn(Faults::default());
    assert_eq!(world.turn(Faults::default()).phase, None);
    world.happen(Event::Pass(1));
    world.happen(Event::Request(0));
    world.run_until_blocked();
    assert_eq!(world.turn(Faults::default()).phase, Some(Phase::RootVerified));
    world.happen(Event::Adopt);
    assert_eq!(world.turn(Faults::default()).phase, Some(Phase::Staged));
}

#[test]
fn an_account_is_locked_only_after_five_seconds_without_a_session() {
    let mut world = in_phase(AlternatingUsers, Phase::Published);
    world.happen(Event::OpenStranger(1));
    world.happen(Event::Adopt);
    world.turn(Faults::default());
    let waits = |world: &mut World| world.turn(Faults::default()).phase == Some(Phase::Adopted);
    world.pass(10);
    assert!(waits(&mut world), "the stranger is logged in");
    world.close_strangers();
    assert!(waits(&mut world), "the first list without a session");
    world.pass(4);
    assert!(waits(&mut world), "four seconds");
    world.pass(1);
    assert_eq!(world.turn(Faults::default()).phase, Some(Phase::Drained), "five");
    world.happen(Event::OpenStranger(1));
    assert!(waits(&mut world), "somebody came before the lock");
    world.close_strangers();
    assert!(waits(&mut world) && waits(&mut world), "the time begins again");
}

#[test]
fn a_login_that_is_under_way_keeps_its_account_from_being_locked() {
    let mut world = in_phase(AlternatingUsers, Phase::Published);
    world.happen(Event::Pod(0, PodEvent::BeginLogin));
    world.happen(Event::Adopt);
    for _ in 0..20 {
        world.pass(5);
        world.turn(Faults::default());
    }
    assert_eq!(world.remember().change.expect("under way").phase, Phase::Adopted);
    world.happen(Event::Pod(0, PodEvent::EndLogin));
    finish(&mut world);
    assert_eq!(world.remember().history[0].outcome, Outcome::Revoked);
}

/// Nobody reports it, as when the login of a pod that has ended is still on its way to the server.
#[test]
fn a_session_that_has_not_authenticated_yet_keeps_the_account_from_being_locked() {
    let mut world = in_phase(AlternatingUsers, Phase::Published);
    let id = world.server().begin_login();
    world.happen(Event::Adopt);
    for _ in 0..14 {
        world.pass(5);
        world.turn(Faults::default());
    }
    let stalled = stall(&world.turn(Faults::default()));
    assert_eq!(stalled, "1 logins are under way for longer than usual");
    // Logins that begin later do not count: every pod tries the new account first.
    world.server().begin_login();
    world.server().unauthenticated.remove(&id);
    finish(&mut world);
    assert_eq!(world.remember().history[0].outcome, Outcome::Revoked);
}

#[test]
fn a_move_to_another_schema_waits_for_its_migration_and_uses_the_other_account() {
    for mode in [AlternatingUsers, DualPassword] {
        let mut world = at_rest(mode);
        let used = holds(&world);
        world.happen(Event::Move(1));
        world.run_until_blocked();
        world.pass(60);
        let stalled = stall(&world.turn(Faults::default()));
        assert!(stalled.contains("once the migration there has succeeded"), "{stalled}");
        assert!(is_in(&world), "they go on at the schema that they have");
        world.happen(Event::Migrate);
        finish(&mut world);
        assert!(is_in(&world), "{}", world.describe());
        assert_ne!(holds(&world), used);
        assert_eq!(world.remember().history[0].outcome, Outcome::Revoked);
        assert!(world.server().accounts[&used].is_locked, "the account of the other schema");
    }
}

#[test]
fn accounts_on_a_server_that_was_left_are_locked_once_no_pod_uses_them() {
    let mut world = at_rest(AlternatingUsers);
    let used = holds(&world);
    world.happen(Event::Move(2));
    world.happen(Event::Migrate);
    world.run_until_blocked();
    assert!(is_in(&world) && !world.servers[0].accounts[&used].is_locked);
    finish(&mut world);
    world.turn(Faults::default());
    assert!(is_in(&world), "{}", world.describe());
    assert!(world.servers[0].accounts[&used].is_locked, "{}", world.describe());
    assert!(world.remember().left.is_empty());
}

/// Its first change was given up with an account made, and the server counted as left.
#[test]
fn a_portal_that_returns_before_it_had_a_login_keeps_its_account() {
    let mut world = World::new(AlternatingUsers, Flavour::MySql);
    for _ in 0..3 {
        world.turn(Faults::default());
    }
    world.servers[0].is_down = true;
    world.happen(Event::Move(2));
    world.turn(Faults::default());
    assert!(!world.remember().left.is_empty(), "{}", world.describe());
    world.happen(Event::Move(0));
    world.servers[0].is_down = false;
    world.run_until_blocked();
    world.happen(Event::Migrate);
    world.happen(Event::CreatePod);
    world.pass(1);
    finish(&mut world);
    for _ in 0..3 {
        world.turn(Faults::default());
    }
    assert!(world.remember().left.is_empty());
    assert!(is_in(&world), "{}", world.describe());
}

#[test]
fn a_pod_that_comes_in_the_last_moment_keeps_the_old_login_valid() {
    let mut world = in_phase(AlternatingUsers, Phase::Verified);
    world.happen(Event::CreatePod);
    world.happen(Event::Pod(2, PodEvent::Answers(false)));
    world.turn(Faults::default());
    world.happen(Event::Pod(2, PodEvent::PickUp));
    world.happen(Event::Pod(2, PodEvent::Answers(true)));
    go_to(&mut world, Phase::Drained);
    world.happen(Event::CreatePod);
    let done = world.turn(Faults::default());
    assert_eq!((done.phase, done.effects.len()), (Some(Phase::Adopted), 0), "it is not there yet");
    world.happen(Event::Adopt);
    finish(&mut world);
    assert_eq!(world.remember().history[0].outcome, Outcome::Revoked);
}

#[test]
fn a_stall_names_the_pods_that_hold_it_up() {
    let mut world = in_phase(AlternatingUsers, Phase::Published);
    world.happen(Event::Pod(0, PodEvent::PickUp));
    world.pass(59);
    assert_eq!(world.turn(Faults::default()).obstacle, None);
    world.pass(1);
    let stall = stall(&world.turn(Faults::default()));
    assert_eq!(stall, "pod pod-2 holds generation 1 and not yet 2");
    world.pass(100_000);
    world.run_until_blocked();
    assert!(is_in(&world), "nothing is revoked because time has passed");
}

#[test]
fn a_stall_names_the_sessions_that_hold_it_up() {
    let mut world = in_phase(AlternatingUsers, Phase::Published);
    world.happen(Event::OpenStranger(1));
    world.happen(Event::Adopt);
    world.run_until_blocked();
    world.pass(60);
    let stall = stall(&world.turn(Faults::default()));
    assert!(stall.contains("hw_0a1b2c3d4e5f46078899_a is logged in from stranger"), "{stall}");
}

#[test]
fn what_cannot_be_observed_is_reported() {
    for (phase, blind) in [
        (Phase::Observed, Blind::Root),
        (Phase::RootVerified, Blind::Sessions),
        (Phase::Applied, Blind::Next),
        (Phase::Published, Blind::Pods),
        (Phase::Adopted, Blind::Sessions),
        (Phase::Drained, Blind::Pods),
        (Phase::Revoked, Blind::Old),
    ] {
        let mut world = in_phase(AlternatingUsers, phase);
        world.pass(60);
        let done = world.turn(Faults { blind: Some(blind), ..Faults::default() });
        assert!(done.obstacle.is_some(), "{phase:?}: {done:?}");
    }
}

#[test]
fn a_new_login_that_stops_working_is_rolled_back() {
    let mut world = in_phase(AlternatingUsers, Phase::Published);
    world.happen(Event::Drift(Slot::B, Drift::Lock));
    world.pass(60);
    let done = world.turn(Faults::default());
    assert_eq!(done.phase, None);
    let state = world.remember();
    assert_eq!((holds(&world).as_str(), state.published.len()), ("hw_0a1b2c3d4e5f46078899_a", 1));
    assert_eq!((state.generation, state.history[0].outcome), (3, Outcome::RolledBack));
    world.pass(299);
    assert_eq!(world.turn(Faults::default()).phase, None, "it waits before it tries again");
    world.pass(1);
    assert_eq!(world.turn(Faults::default()).phase, Some(Phase::Observed));
}

#[test]
fn the_old_login_is_not_revoked_while_the_new_one_is_refused() {
    let mut world = in_phase(AlternatingUsers, Phase::Drained);
    world.happen(Event::Drift(Slot::B, Drift::Lock));
    world.run_until_blocked();
    assert!(is_in(&world), "they can go back to the old login");
    world.pass(60);
    world.run_until_blocked();
    assert_eq!(holds(&world), "hw_0a1b2c3d4e5f46078899_a");
}

#[test]
fn a_login_that_somebody_spoilt_is_issued_again_before_the_pods_move() {
    for mode in [AlternatingUsers, DualPassword] {
        let mut world = at_rest(mode);
        world.happen(Event::Drift(Slot::A, Drift::Lock));
        assert!(!is_in(&world));
        world.happen(Event::Pod(0, PodEvent::Adopts(false)));
        world.run_until_blocked();
        assert!(is_in(&world), "{}", world.describe());
    }
}

#[test]
fn rights_that_somebody_took_away_are_given_back() {
    for mode in [AlternatingUsers, DualPassword] {
        let mut world = at_rest(mode);
        world.happen(Event::Drift(Slot::A, Drift::Rights));
        world.turn(Faults::default());
        finish(&mut world);
        let name = holds(&world);
        assert!(world.server().accounts[&name].schema.is_some(), "{mode:?}");
        assert_eq!(world.remember().history[0].cause, Cause::Drift);
    }
}

#[test]
fn a_change_of_a_label_of_the_source_starts_nothing() {
    for mode in [AlternatingUsers, DualPassword, Follow] {
        let mut world = at_rest(mode);
        world.happen(Event::Source(SourceEvent::Relabel));
        assert_eq!(world.turn(Faults::default()).phase, None);
        assert_eq!(world.remember().source_version, Some("10".to_owned()));
    }
}

#[test]
fn a_source_that_gives_one_login_twice_is_followed_once() {
    let mut world = at_rest(Follow);
    world.happen(Event::Source(SourceEvent::Repeat));
    assert_eq!(world.turn(Faults::default()).phase, None);
}

#[test]
fn a_source_that_changes_again_is_followed_though_a_pod_lags() {
    let mut world = at_rest(Follow);
    world.happen(Event::Pod(1, PodEvent::Adopts(false)));
    for _ in 0..2 {
        world.happen(Event::ChangeRoot);
        world.happen(Event::Source(SourceEvent::TellTruth));
        world.run_until_blocked();
        world.happen(Event::Adopt);
    }
    assert!(world.pods[0].is_let_in(&world.servers), "{}", world.describe());
}

#[test]
fn a_new_root_is_a_cause_even_if_it_comes_while_nothing_may_start() {
    let mut world = in_phase(AlternatingUsers, Phase::Published);
    world.happen(Event::Drift(Slot::B, Drift::Lock));
    world.pass(60);
    world.run_until_blocked();
    world.plan.requested = None;
    world.happen(Event::ChangeRoot);
    world.happen(Event::Source(SourceEvent::TellTruth));
    world.run_until_blocked();
    world.pass(300);
    world.turn(Faults::default());
    assert_eq!(world.remember().change.expect("under way").cause, Cause::SourceChanged);
}

#[test]
fn a_request_in_the_future_waits_for_its_time() {
    let mut world = at_rest(AlternatingUsers);
    world.happen(Event::Request(7200));
    assert_eq!(world.turn(Faults::default()).phase, None);
    // Another rotation meanwhile does not meet it.
    world.happen(Event::ChangeRoot);
    world.happen(Event::Source(SourceEvent::TellTruth));
    world.turn(Faults::default());
    finish(&mut world);
    assert_eq!(world.remember().requested, None);
    world.pass(7200);
    assert_eq!(world.turn(Faults::default()).phase, Some(Phase::Observed));
    finish(&mut world);
    assert_eq!(world.remember().history[0].cause, Cause::Requested);
    assert_eq!(world.turn(Faults::default()).phase, None, "it is met once");
}

#[test]
fn a_login_is_replaced_at_its_age() {
    let mut world = at_rest(AlternatingUsers);
    let age = INTERVAL.as_secs();
    world.pass(age - 2);
    assert_eq!(world.turn(Faults::default()).phase, None);
    world.pass(2);
    assert_eq!(world.turn(Faults::default()).phase, Some(Phase::Observed));
}

#[test]
fn the_account_of_somebody_else_is_never_locked() {
    for mode in [AlternatingUsers, DualPassword] {
        let mut world = at_rest(Follow);
        world.happen(Event::Mode(mode));
        let lines = trace(&mut world);
        assert!(
            !lines.iter().any(|line| line.contains("lock") || line.contains("drop")),
            "{lines:#?}"
        );
        assert_eq!(world.remember().history[0].outcome, Outcome::Adopted);
        assert_eq!(world.remember().published.len(), 1);
        assert!(world.accepts(&world.plan.place, &login("root", "s3cret-root-1")));
    }
}

#[test]
fn a_root_that_changes_in_the_middle_is_found_again() {
    let mut world = in_phase(AlternatingUsers, Phase::Staged);
    world.happen(Event::ChangeRoot);
    assert_eq!(
        world.turn(Faults::default()).obstacle,
        Some(Obstacle::RootRejected("refused".to_owned()))
    );
    assert!(is_in(&world));
    world.happen(Event::Source(SourceEvent::TellTruth));
    finish(&mut world);
    assert_eq!(world.remember().history[0].outcome, Outcome::Revoked);
}

#[test]
fn a_mode_that_the_server_refuses_can_be_left() {
    let mut world = in_phase(DualPassword, Phase::Staged);
    let fails = Faults { effect: Some((0, super::operator::Happened::No)), ..Faults::default() };
    assert_eq!(world.turn(fails).phase, Some(Phase::Staged));
    world.happen(Event::Mode(Follow));
    for _ in 0..20 {
        world.happen(Event::Adopt);
        world.turn(fails);
    }
    assert_eq!(holds(&world), "root");
}

#[test]
fn an_account_of_ours_is_locked_when_others_rotate_from_now_on() {
    let mut world = at_rest(AlternatingUsers);
    world.happen(Event::Mode(Follow));
    let expected = [
        "Observed",
        "RootVerified",
        "Verified",
        "Published",
        "Published: nudge pod-1 pod-2",
        "Adopted",
        "Adopted",
        "Drained",
        "Revoked: lock hw_0a1b2c3d4e5f46078899_a",
        "Idle",
    ];
    assert_eq!(trace(&mut world), expected);
    assert_eq!(world.remember().history[0].outcome, Outcome::Revoked);
    assert_eq!(holds(&world), "root");
}

#[test]
fn an_account_of_ours_that_cannot_be_locked_stops_nobody_from_following() {
    let mut world = at_rest(AlternatingUsers);
    world.happen(Event::OpenStranger(0));
    world.happen(Event::Mode(Follow));
    go_to(&mut world, Phase::Adopted);
    world.pass(60);
    let stalled = stall(&world.turn(Faults::default()));
    assert!(stalled.contains("hw_0a1b2c3d4e5f46078899_a"), "{stalled}");

    world.happen(Event::ChangeRoot);
    world.happen(Event::Source(SourceEvent::TellTruth));
    world.turn(Faults::default());
    go_to(&mut world, Phase::Adopted);
    let latest = world.source.candidates[0].clone();
    assert!(world.remember().active().expect("published").is_same(&latest));

    // A person does what the operator may not.
    world.close_strangers();
    world.happen(Event::Drift(Slot::A, Drift::Drop));
    assert!(!trace(&mut world).iter().any(|line| line.contains("lock")));
    assert_eq!(world.remember().history[0].outcome, Outcome::Revoked);
}

#[test]
fn a_dead_login_that_the_source_still_gives_is_not_revoked() {
    let mut world = at_rest(Follow);
    world.happen(Event::ChangeRoot);
    world.happen(Event::Source(SourceEvent::TellTruth));
    go_to(&mut world, Phase::Drained);
    // So late that the old login is tried as well.
    world.pass(60);
    finish(&mut world);
    assert_eq!(world.remember().history[0].outcome, Outcome::Adopted);
    assert_eq!(world.remember().published.len(), 2, "yesterday's is given as well");
}

#[test]
fn a_move_is_followed_though_a_rotation_waits_for_pods() {
    let mut world = in_phase(AlternatingUsers, Phase::Published);
    world.servers[0].is_down = true;
    world.happen(Event::Move(2));
    world.happen(Event::Migrate);
    world.turn(Faults::default());
    finish(&mut world);
    finish(&mut world);
    let state = world.remember();
    assert!(state.is_at(&world.plan.place), "{:?}", state.place);
    assert_eq!(state.history[0].cause, Cause::Moved);
}

#[test]
fn a_wrong_password_of_the_source_leaves_the_pods_alone() {
    let mut world = at_rest(AlternatingUsers);
    let before = world.remember().generation;
    world.happen(Event::ChangeRoot);
    world.happen(Event::Source(SourceEvent::TellWrong));
    world.run_until_blocked();
    assert_eq!(
        world.turn(Faults::default()).obstacle,
        Some(Obstacle::RootRejected("refused".to_owned()))
    );
    assert_eq!(world.remember().generation, before);
    assert!(is_in(&world));
}

#[test]
fn a_session_of_somebody_elses_account_holds_nothing_up() {
    let mut world = at_rest(Follow);
    world.happen(Event::OpenStranger(0));
    world.happen(Event::Mode(AlternatingUsers));
    world.turn(Faults::default());
    finish(&mut world);
    assert_eq!(holds(&world), "hw_0a1b2c3d4e5f46078899_a");
}

#[test]
fn no_account_is_left_beside_the_two() {
    let mut world = at_rest(AlternatingUsers);
    for _ in 0..5 {
        world.pass(1);
        world.happen(Event::Request(0));
        world.turn(Faults::default());
        finish(&mut world);
    }
    let (first, second) = (world.account(Slot::A), world.account(Slot::B));
    let names: Vec<String> = world.server().accounts.keys().cloned().collect();
    assert_eq!(names, [first, second, "root".to_owned()]);
}
