//! Random sequences of everything that may happen. What must hold after each event is asserted by
//! the world itself; here is what must hold in the end.

use crds::RotationMode;
use jiff::SignedDuration;
use proptest::{collection::vec, prelude::*};

use super::{
    events::{Event, any_event, any_flavour, any_mode},
    operator::{Blind, Faults},
    server::Flavour,
    world::World,
};
use crate::rotation::machine::{Obstacle, Outcome, STALL_AFTER};

/// Passes, ten seconds apart, within which a rotation has ended once all faults have ceased. The
/// longest wait is the one after a rotation that was rolled back, five minutes.
const PATIENCE: usize = 100;

fn run(mode: RotationMode, flavour: Flavour, pods: usize, events: &[Event]) -> World {
    let mut world = World::new(mode, flavour);
    for _ in 0..pods {
        world.happen(Event::CreatePod);
    }
    for event in events {
        world.happen(*event);
    }
    world
}

/// Runs passes until it rests, and returns the last obstacle if it does not.
fn rest(world: &mut World) -> Result<(), String> {
    let mut last = None;
    for _ in 0..PATIENCE {
        world.pass(10);
        world.happen(Event::Adopt);
        let turns = world.run_until_blocked();
        let state = world.remember();
        let waits = state.not_before.is_some_and(|until| world.now < until);
        if state.change.is_none() && !state.published.is_empty() && !waits && turns.len() == 1 {
            return Ok(());
        }
        last = turns.into_iter().last();
    }
    Err(format!("it does not come to rest: {last:?}; {}", world.describe()))
}

fn assert_at_rest(world: &mut World) {
    let state = world.remember();
    let active = state.active().expect("published").clone();
    assert!(state.is_at(&world.plan.place), "it rests at {:?}", state.place);
    assert!(
        world.serves(&world.plan.place, &active),
        "it rests, and its login is refused: {}",
        world.describe()
    );
    if world.plan.mode != RotationMode::Follow {
        assert_eq!(state.published.len(), 1, "an old login is published at rest");
        let is_ours = active.username.starts_with("hw_");
        assert!(is_ours, "it rests with the login of somebody else: {}", active.username);
    }
    let file = world.file.as_ref().expect("published");
    assert_eq!(file.generation, state.generation, "the file is not what is remembered");
}

fn config() -> ProptestConfig {
    // More with PROPTEST_CASES.
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok());
    ProptestConfig {
        cases: cases.unwrap_or(1500),
        failure_persistence: None,
        max_shrink_iters: 20_000,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn whatever_happens_pods_keep_a_login_and_every_path_ends_at_rest(
        mode in any_mode(),
        flavour in any_flavour(),
        pods in 0..3_usize,
        events in vec(any_event(), 1..80),
    ) {
        let mut world = run(mode, flavour, pods, &events);
        world.heal();
        rest(&mut world).unwrap();
        assert_at_rest(&mut world);

        // And it is able to go on: one more rotation ends with a revoked login.
        let before = world.remember().generation;
        world.plan.requested = Some(world.now);
        rest(&mut world).unwrap();
        assert_at_rest(&mut world);
        let state = world.remember();
        if world.plan.mode != RotationMode::Follow {
            prop_assert!(state.generation > before, "nothing came of the request");
            prop_assert_eq!(state.history[0].outcome, Outcome::Revoked);
        }
    }

    #[test]
    fn whatever_persists_is_named(
        mode in any_mode(),
        flavour in any_flavour(),
        pods in 0..3_usize,
        events in vec(any_event(), 1..40),
        fault in any_lasting(),
    ) {
        let mut world = run(mode, flavour, pods, &events);
        world.heal();
        let faults = fault.begin(&mut world);
        let mut stuck_since = None;
        let mut is_named = false;
        for look in 0..60 {
            world.pass(10);
            if !matches!(fault, Lasting::NobodyAdopts) {
                world.happen(Event::Adopt);
            }
            let done = world.turn(faults);
            is_named |= look >= 40 && done.obstacle.is_some();
            let silent = done.phase.is_some() && !done.has_moved && done.obstacle.is_none();
            let since = *stuck_since.get_or_insert(world.now);
            if !silent {
                stuck_since = None;
            }
            let for_long = world.now.duration_since(since);
            prop_assert!(
                for_long <= STALL_AFTER + SignedDuration::from_secs(10),
                "silent for {for_long:?} in {:?} with {fault:?}: {}", done.phase, world.describe()
            );
        }
        let phase = world.remember().change.map(|change| change.phase);
        prop_assert!(is_named || phase.is_none(), "{phase:?} goes on and on without an obstacle");
    }
}

/// A fault that does not cease.
#[derive(Clone, Copy, Debug)]
enum Lasting {
    ServerIsDown,
    RootIsRejected,
    NobodyAdopts,
    NobodyAnswers,
    StrangerStays,
    Blind(Blind),
}

impl Lasting {
    fn begin(self, world: &mut World) -> Faults {
        match self {
            Self::ServerIsDown => world.happen(Event::ServerDown(true)),
            Self::RootIsRejected => world.happen(Event::ChangeRoot),
            Self::NobodyAdopts => world.pods.iter_mut().for_each(|pod| pod.adopts = false),
            Self::NobodyAnswers => world.pods.iter_mut().for_each(|pod| pod.answers = false),
            Self::StrangerStays => world.happen(Event::OpenStranger(0)),
            Self::Blind(what) => return Faults { blind: Some(what), ..Faults::default() },
        }
        Faults::default()
    }
}

fn any_lasting() -> impl Strategy<Value = Lasting> {
    prop_oneof![
        Just(Lasting::ServerIsDown),
        Just(Lasting::RootIsRejected),
        Just(Lasting::NobodyAdopts),
        Just(Lasting::NobodyAnswers),
        Just(Lasting::StrangerStays),
        Just(Lasting::Blind(Blind::Root)),
        Just(Lasting::Blind(Blind::Next)),
        Just(Lasting::Blind(Blind::Old)),
        Just(Lasting::Blind(Blind::Pods)),
        Just(Lasting::Blind(Blind::Sessions)),
    ]
}

/// A stranger who comes and goes, always there at the last observation, must not hide that
/// it waits.
#[test]
fn a_session_that_comes_and_goes_is_a_stall_all_the_same() {
    let mut world = World::new(RotationMode::AlternatingUsers, Flavour::MariaDb);
    world.happen(Event::RunUntilBlocked);
    world.happen(Event::CreatePod);
    rest(&mut world).unwrap();
    world.plan.requested = Some(world.now);
    let mut stalled = None;
    for _ in 0..30 {
        world.happen(Event::Adopt);
        world.pass(10);
        let is_last_look = format!("{:?}", world.remember().change.map(|change| change.phase));
        if is_last_look.contains("Drained") {
            world.happen(Event::OpenStranger(1));
        }
        let done = world.turn(Faults::default());
        world.close_strangers();
        if let Some(Obstacle::Stalled(what)) = done.obstacle {
            stalled = Some(what);
        }
    }
    let stalled = stalled.expect("a stall");
    assert!(stalled.contains("stranger"), "{stalled}");
}
