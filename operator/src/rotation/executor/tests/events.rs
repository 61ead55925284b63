//! What may happen, in any order.

use crds::RotationMode;
use proptest::prelude::*;

use super::{
    operator::{Blind, CrashBefore, Faults, Happened},
    pods::{place, server_of},
    server::Flavour,
    world::{Actor, World},
};
use crate::rotation::mysql::Slot;

#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    /// The operator takes a step.
    Step(Faults),
    /// It takes steps until it has to wait.
    RunUntilBlocked,
    Pass(i64),
    Pod(u8, PodEvent),
    /// Every pod takes the file up.
    Adopt,
    CreatePod,
    /// A stranger logs in with one of the published logins.
    OpenStranger(u8),
    CloseStrangers,
    /// The root's password changes in the database; the source says so later.
    ChangeRoot,
    Source(SourceEvent),
    /// Someone changes one of the accounts on the server.
    Drift(Slot, Drift),
    ServerDown(bool),
    Request(i64),
    Mode(RotationMode),
    Move(u8),
    Migrate,
    LoseMemory,
    LoseFile,
    LoseBoth,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum PodEvent {
    Start,
    PickUp,
    Connect,
    Retire,
    BeginLogin,
    EndLogin,
    Terminate,
    End,
    Answers(bool),
    Adopts(bool),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum SourceEvent {
    /// It gives the root's password of today, and that of yesterday.
    TellTruth,
    /// It gives the old password first, as while a rotation is pending.
    TellOldFirst,
    /// A password that never was.
    TellWrong,
    /// A new version with the same content.
    Relabel,
    /// Current and pending are the same, and given twice.
    Repeat,
    Available(bool),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Drift {
    Password,
    Lock,
    Rights,
    Drop,
}

impl World {
    pub(super) fn happen(&mut self, event: Event) {
        match event {
            Event::Step(faults) => drop(self.turn(faults)),
            Event::RunUntilBlocked => drop(self.run_until_blocked()),
            Event::Pass(seconds) => self.pass(seconds),
            Event::Pod(number, event) => {
                self.act(Actor::Pod, |world| world.happen_to(number, event));
            }
            Event::Adopt => self.act(Actor::Pod, Self::let_pods_adopt),
            Event::CreatePod => {
                if self.pods.len() < 4 {
                    self.create_pod();
                }
            }
            Event::OpenStranger(number) => {
                if let Some(file) = self.file.clone() {
                    let login = &file.candidates[usize::from(number) % file.candidates.len()];
                    self.servers[server_of(&file.place)].log_in(login, None);
                }
            }
            Event::CloseStrangers => self.close_strangers(),
            Event::ChangeRoot => drop(self.act(Actor::Outsider, Self::change_root)),
            Event::Source(event) => self.happen_to_source(event),
            Event::Drift(slot, drift) => {
                self.act(Actor::Outsider, |world| world.drift(slot, drift));
            }
            Event::ServerDown(is_down) => self.server().is_down = is_down,
            Event::Request(seconds) => {
                let at = self.now + jiff::SignedDuration::from_secs(seconds);
                self.plan.requested = Some(at);
            }
            Event::Mode(mode) => self.plan.mode = mode,
            Event::Move(number) => self.move_to(number),
            Event::Migrate => self.migrate(),
            Event::LoseMemory => {
                self.forget_servers();
                self.memory = None;
                self.orphan_if_all_is_lost();
            }
            Event::LoseFile => {
                self.file = None;
                self.orphan_if_all_is_lost();
            }
            Event::LoseBoth => {
                self.forget_servers();
                (self.memory, self.file) = (None, None);
                self.orphan_if_all_is_lost();
            }
        }
    }

    fn orphan_if_all_is_lost(&mut self) {
        if self.memory.is_none() && self.file.is_none() {
            self.orphan_pods();
        }
    }

    fn forget_servers(&mut self) {
        if self.memory.is_some() {
            let state = self.remember();
            let is_leaving = state.place.as_ref().is_some_and(|place| *place != self.plan.place);
            self.has_forgotten_servers |= is_leaving || !state.left.is_empty();
        }
    }

    pub(super) fn move_to(&mut self, number: u8) {
        let number = usize::from(number);
        self.plan.place = place(number / 2 % self.servers.len(), number % 2);
    }

    pub(super) fn close_strangers(&mut self) {
        for server in &mut self.servers {
            server.sessions.retain(|_, session| session.pod.is_some());
        }
    }

    fn happen_to(&mut self, number: u8, event: PodEvent) {
        if self.pods.is_empty() {
            return;
        }
        let number = usize::from(number) % self.pods.len();
        let pod = &mut self.pods[number];
        match event {
            PodEvent::Start => {
                pod.start();
                pod.connect(&mut self.servers);
            }
            PodEvent::PickUp => pod.pick_up(self.file.as_ref()),
            PodEvent::Connect => pod.connect(&mut self.servers),
            PodEvent::Retire => pod.retire(&mut self.servers),
            PodEvent::BeginLogin => pod.begin_login(&mut self.servers),
            PodEvent::EndLogin => self.end_login(number),
            PodEvent::Terminate => pod.is_terminating = true,
            PodEvent::End => {
                pod.end(&mut self.servers);
                self.pods.remove(number);
            }
            PodEvent::Answers(answers) => pod.answers = answers,
            PodEvent::Adopts(adopts) => pod.adopts = adopts,
        }
    }

    fn happen_to_source(&mut self, event: SourceEvent) {
        let latest: Vec<String> = self.roots.iter().rev().take(2).cloned().collect();
        match event {
            SourceEvent::TellTruth => self.set_source(&latest),
            SourceEvent::TellOldFirst => {
                let latest: Vec<String> = latest.into_iter().rev().collect();
                self.set_source(&latest);
            }
            SourceEvent::TellWrong => self.set_source(&["s3cret-wrong".to_owned()]),
            SourceEvent::Relabel => self.source.version.push('0'),
            SourceEvent::Repeat => self.set_source(&[latest[0].clone(), latest[0].clone()]),
            SourceEvent::Available(is_up) => self.source_is_up = is_up,
        }
    }

    fn drift(&mut self, slot: Slot, drift: Drift) {
        let name = self.account(slot);
        let server = self.server();
        let Some(account) = server.accounts.get_mut(&name) else { return };
        match drift {
            Drift::Password if server.flavour == Flavour::MySql => {
                account.passwords[0] = "s3cret-strange".to_owned();
            }
            Drift::Password => account.passwords = vec!["s3cret-strange".to_owned()],
            Drift::Lock => account.is_locked = true,
            Drift::Rights => account.schema = None,
            Drift::Drop => drop(server.accounts.remove(&name)),
        }
    }

    /// All faults cease: the server is up, the source tells the truth, strangers are gone, and every
    /// pod answers and takes the file up.
    pub(super) fn heal(&mut self) {
        for server in &mut self.servers {
            server.is_down = false;
        }
        self.source_is_up = true;
        self.happen_to_source(SourceEvent::TellTruth);
        self.close_strangers();
        self.migrate();
        for number in 0..self.pods.len() {
            self.end_login(number);
        }
        for pod in self.pods.iter_mut().filter(|pod| pod.is_terminating) {
            pod.end(&mut self.servers);
        }
        self.pods.retain(|pod| !pod.is_terminating);
        for pod in &mut self.pods {
            (pod.answers, pod.adopts) = (true, true);
        }
    }
}

pub(super) fn any_mode() -> impl Strategy<Value = RotationMode> {
    prop_oneof![
        3 => Just(RotationMode::AlternatingUsers),
        2 => Just(RotationMode::DualPassword),
        1 => Just(RotationMode::Follow),
    ]
}

pub(super) fn any_flavour() -> impl Strategy<Value = Flavour> {
    prop_oneof![Just(Flavour::MySql), Just(Flavour::MariaDb)]
}

pub(super) fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        16 => any_faults().prop_map(Event::Step),
        8 => Just(Event::RunUntilBlocked),
        6 => prop_oneof![Just(1_i64), Just(10), Just(61), Just(400), Just(90_000)]
            .prop_map(Event::Pass),
        8 => (any::<u8>(), any_pod_event()).prop_map(|(pod, event)| Event::Pod(pod, event)),
        6 => Just(Event::Adopt),
        3 => Just(Event::CreatePod),
        1 => any::<u8>().prop_map(Event::OpenStranger),
        1 => Just(Event::CloseStrangers),
        2 => Just(Event::ChangeRoot),
        4 => any_source_event().prop_map(Event::Source),
        3 => (prop_oneof![Just(Slot::A), Just(Slot::B)], any_drift())
            .prop_map(|(slot, drift)| Event::Drift(slot, drift)),
        1 => any::<bool>().prop_map(Event::ServerDown),
        2 => prop_oneof![Just(-10_i64), Just(0), Just(300)].prop_map(Event::Request),
        1 => any_mode().prop_map(Event::Mode),
        1 => any::<u8>().prop_map(Event::Move),
        2 => Just(Event::Migrate),
        1 => Just(Event::LoseMemory),
        1 => prop_oneof![Just(Event::LoseFile), Just(Event::LoseBoth)],
    ]
}

fn any_faults() -> impl Strategy<Value = Faults> {
    let blind = prop_oneof![
        Just(Blind::Root),
        Just(Blind::Active),
        Just(Blind::Next),
        Just(Blind::Old),
        Just(Blind::Pods),
        Just(Blind::Sessions),
    ];
    let happened = prop_oneof![Just(Happened::No), Just(Happened::Yes)];
    let crash = prop_oneof![
        Just(CrashBefore::Effects),
        Just(CrashBefore::StoredState),
        Just(CrashBefore::File),
        Just(CrashBefore::Status),
    ];
    prop_oneof![
        5 => Just(Faults::default()),
        1 => blind.prop_map(|what| Faults { blind: Some(what), ..Faults::default() }),
        1 => (0..2_usize, happened)
            .prop_map(|fault| Faults { effect: Some(fault), ..Faults::default() }),
        1 => crash.prop_map(|point| Faults { crash: Some(point), ..Faults::default() }),
    ]
}

fn any_pod_event() -> impl Strategy<Value = PodEvent> {
    prop_oneof![
        2 => Just(PodEvent::Start),
        3 => Just(PodEvent::PickUp),
        3 => Just(PodEvent::Connect),
        3 => Just(PodEvent::Retire),
        2 => Just(PodEvent::BeginLogin),
        2 => Just(PodEvent::EndLogin),
        1 => Just(PodEvent::Terminate),
        1 => Just(PodEvent::End),
        1 => any::<bool>().prop_map(PodEvent::Answers),
        1 => any::<bool>().prop_map(PodEvent::Adopts),
    ]
}

fn any_source_event() -> impl Strategy<Value = SourceEvent> {
    prop_oneof![
        4 => Just(SourceEvent::TellTruth),
        1 => Just(SourceEvent::TellOldFirst),
        1 => Just(SourceEvent::TellWrong),
        1 => Just(SourceEvent::Relabel),
        1 => Just(SourceEvent::Repeat),
        1 => any::<bool>().prop_map(SourceEvent::Available),
    ]
}

fn any_drift() -> impl Strategy<Value = Drift> {
    prop_oneof![Just(Drift::Password), Just(Drift::Lock), Just(Drift::Rights), Just(Drift::Drop)]
}
