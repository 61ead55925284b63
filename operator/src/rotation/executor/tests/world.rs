//! Everything outside of the operator, and what must hold of it after each event.

use std::collections::BTreeSet;

use crds::RotationMode;
use jiff::{SignedDuration, Timestamp};
use service_kit::credentials::Candidate;

use super::{
    pods::{File, Pod, place, server_of},
    server::{Flavour, Server, login, password},
};
use crate::rotation::{
    machine::{ObservedSource, Place, Plan},
    mysql::{AccountName, Slot},
};

pub(super) const INTERVAL: SignedDuration = SignedDuration::from_hours(24);

/// Whose act an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Actor {
    Operator,
    /// It takes up the file, which the operator answers for.
    Pod,
    /// Whoever may do as they please.
    Outsider,
}

/// Server, account, password and schema.
type Key = (usize, String, String, String);

#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) now: Timestamp,
    pub(super) servers: Vec<Server>,
    pub(super) pods: Vec<Pod>,
    pub(super) plan: Plan,
    pub(super) source: ObservedSource,
    pub(super) source_is_up: bool,
    /// The Secret that pods mount.
    pub(super) file: Option<File>,
    /// The operator's own Secret.
    pub(super) memory: Option<String>,
    /// Whether somebody deleted the state while a server was being left. Nobody knows then that logins may
    /// be under way there, nor has its root.
    pub(super) has_forgotten_servers: bool,
    /// Places whose schema was migrated.
    pub(super) migrated: Vec<Place>,
    /// What the status says of the generation.
    pub(super) status: u64,
    /// The root's passwords, the latest last.
    pub(super) roots: Vec<String>,
    /// What was let in until an outsider ended it, by server.
    destroyed: BTreeSet<Key>,
    /// What was ever let in, by server.
    known: BTreeSet<Key>,
    names: u64,
    passwords: u64,
}

impl World {
    /// One server that only the root knows, no pods, and a source that tells the truth.
    pub(super) fn new(mode: RotationMode, flavour: Flavour) -> Self {
        let root = login("root", "s3cret-root-1");
        let account = AccountName::for_portal("0a1b2c3d-4e5f-4607-8899-aabbccddeeff", Slot::A);
        let account = account.expect("a uid");
        Self {
            now: "2026-01-01T00:00:00Z".parse().expect("a time"),
            servers: vec![Server::new(flavour, &root), Server::new(flavour, &root)],
            pods: Vec::new(),
            plan: Plan { account, mode, interval: INTERVAL, place: place(0, 0), requested: None },
            source: ObservedSource { version: "1".to_owned(), candidates: vec![root.clone()] },
            source_is_up: true,
            file: None,
            memory: None,
            has_forgotten_servers: false,
            migrated: Vec::new(),
            status: 0,
            roots: vec![password(&root)],
            destroyed: BTreeSet::new(),
            known: BTreeSet::new(),
            names: 0,
            passwords: 0,
        }
    }

    pub(super) fn account(&self, slot: Slot) -> String {
        self.plan.account.in_slot(slot).to_string()
    }

    pub(super) fn server(&mut self) -> &mut Server {
        &mut self.servers[server_of(&self.plan.place)]
    }

    pub(super) fn accepts(&self, place: &Place, login: &Candidate) -> bool {
        self.servers[server_of(place)].accepts(login)
    }

    pub(super) fn serves(&self, place: &Place, login: &Candidate) -> bool {
        self.servers[server_of(place)].serves(place, login)
    }

    pub(super) fn new_password(&mut self) -> String {
        self.passwords += 1;
        format!("s3cret-{}", self.passwords)
    }

    pub(super) fn create_pod(&mut self) {
        self.names += 1;
        self.pods.push(Pod::new(format!("pod-{}", self.names), self.file.clone()));
    }

    /// Every pod that can takes the file up, logs in anew and closes what is older.
    pub(super) fn let_pods_adopt(&mut self) {
        for pod in &mut self.pods {
            pod.pick_up(self.file.as_ref());
            pod.connect(&mut self.servers);
            pod.retire(&mut self.servers);
        }
    }

    pub(super) fn pass(&mut self, seconds: i64) {
        self.now += SignedDuration::from_secs(seconds);
    }

    pub(super) fn set_source(&mut self, passwords: &[String]) {
        let version: u64 = self.source.version.parse().expect("a number");
        self.source.version = (version + 1).to_string();
        self.source.candidates = passwords.iter().map(|text| login("root", text)).collect();
    }

    /// Gives the root another password, in the database only.
    pub(super) fn change_root(&mut self) -> String {
        let next = format!("s3cret-root-{}", self.roots.len() + 1);
        for server in &mut self.servers {
            server.ensure_account(&login("root", &next), &place(0, 0));
        }
        self.roots.push(next.clone());
        next
    }

    /// Does something, then looks at whether pods can still log in.
    pub(super) fn act<T>(&mut self, actor: Actor, what: impl FnOnce(&mut Self) -> T) -> T {
        let before: Vec<(String, bool)> =
            self.pods.iter().map(|pod| (pod.name.clone(), pod.is_let_in(&self.servers))).collect();
        let accepted_before = self.accepted();
        let outcome = what(self);
        let accepted = self.accepted();
        if actor == Actor::Outsider {
            self.destroyed.extend(accepted_before.difference(&accepted).cloned());
        }
        self.known.extend(accepted_before);
        self.destroyed.retain(|login| !accepted.contains(login));
        for pod in self.pods.iter().filter(|pod| !pod.is_terminating && !pod.is_orphan) {
            let Some(file) = &pod.file else { continue };
            let was_let_in = before.iter().any(|(name, is)| *name == pod.name && *is);
            let is_to_blame = match actor {
                Actor::Operator => was_let_in,
                Actor::Pod => !file.candidates.iter().any(|login| self.was_destroyed(file, login)),
                Actor::Outsider => false,
            };
            assert!(
                !is_to_blame || pod.is_let_in(&self.servers),
                "{} holds no login that the server accepts after an act of the {actor:?}; it holds \
                 generation {} with {:?}; {}",
                pod.name,
                file.generation,
                file.candidates.iter().map(show).collect::<Vec<_>>(),
                self.describe(),
            );
        }
        for server in &self.servers {
            let ours = server.accounts.keys().filter(|name| name.starts_with("hw_")).count();
            assert!(ours <= 2, "more than two application accounts: {:?}", server.accounts.keys());
        }
        outcome
    }

    fn was_destroyed(&self, file: &File, login: &Candidate) -> bool {
        self.destroyed.contains(&key(file, login))
    }

    /// Every login that is let in, with each schema that it may use.
    fn accepted(&self) -> BTreeSet<Key> {
        let mut accepted = BTreeSet::new();
        for (at, server) in self.servers.iter().enumerate() {
            for (place, (name, account)) in [place(at, 0), place(at, 1)]
                .iter()
                .flat_map(|it| server.accounts.iter().map(move |one| (it, one)))
            {
                if !account.is_locked && server.has_rights(place, name) {
                    let logins = account.passwords.iter();
                    accepted.extend(
                        logins.map(|text| (at, name.clone(), text.clone(), place.database.clone())),
                    );
                }
            }
        }
        accepted
    }

    /// The operator writes the pods' file.
    pub(super) fn write_file(&mut self, file: File, mode: RotationMode) {
        let is_same_content = self.file.as_ref().is_some_and(|old| {
            old.place == file.place
                && old.candidates.len() == file.candidates.len()
                && old.candidates.iter().zip(&file.candidates).all(|(a, b)| a.is_same(b))
        });
        let has_moved = self.file.as_ref().is_some_and(|old| old.place != file.place);
        assert!(
            !has_moved || self.migrated.contains(&file.place),
            "pods are sent to {:?}, whose schema is not migrated",
            file.place
        );
        if let Some(old) = &self.file {
            let grew = file.generation > old.generation;
            assert!(
                grew || (file.generation == old.generation && is_same_content),
                "the pods' file went from generation {} to {} with other content",
                old.generation,
                file.generation
            );
        }
        let seen_by_pods =
            self.pods.iter().filter(|pod| !pod.is_orphan).filter_map(|pod| pod.file.as_ref());
        let highest = seen_by_pods.map(|file| file.generation).max().unwrap_or(0);
        assert!(
            file.generation >= highest,
            "generation {} is published, and a pod holds {highest} already",
            file.generation
        );
        // What the source says besides the login that works is not the operator's to vouch for.
        let vouched = if mode == RotationMode::Follow { 1 } else { file.candidates.len() };
        for login in &file.candidates[..vouched] {
            assert!(
                self.accepts(&file.place, login) || self.known.contains(&key(&file, login)),
                "{} is published, and no server ever knew it",
                show(login)
            );
        }
        self.file = Some(file);
    }

    /// The migration at the place of the plan succeeds.
    pub(super) fn migrate(&mut self) {
        self.migrated.push(self.plan.place.clone());
    }

    /// A slow login is answered. It must not fail because the operator ended its account meanwhile.
    pub(super) fn end_login(&mut self, number: usize) {
        let pod = &mut self.pods[number];
        let Some((server, login, is_let_in)) = pod.end_login(&mut self.servers) else { return };
        let is_excused = self.servers[server].is_down
            || self.has_forgotten_servers
            || self.pods[number].is_terminating
            || self.pods[number].is_orphan
            || self.destroyed.iter().any(|(at, name, text, _)| {
                *at == server && *name == login.username && *text == password(&login)
            });
        assert!(
            is_let_in || is_excused,
            "a login of {} that was under way was locked out: {}",
            show(&login),
            self.describe()
        );
    }

    /// Nobody knows any more what the pods hold.
    pub(super) fn orphan_pods(&mut self) {
        for pod in &mut self.pods {
            pod.is_orphan = true;
            // Neither does anybody know of the logins that are under way.
            if let Some((server, id, ..)) = pod.login.take() {
                self.servers[server].unauthenticated.remove(&id);
            }
        }
    }

    pub(super) fn describe(&self) -> String {
        let accounts: Vec<String> = self
            .servers
            .iter()
            .enumerate()
            .flat_map(|(at, server)| server.accounts.iter().map(move |one| (at, one)))
            .map(|(at, (name, account))| {
                let locked = if account.is_locked { " locked" } else { "" };
                format!("{at}:{name}{:?}{locked}", account.passwords)
            })
            .collect();
        format!("accounts {accounts:?}, remembered {:?}", self.memory)
    }
}

/// For messages of tests, whose passwords are none.
pub(super) fn show(login: &Candidate) -> String {
    format!("{}/{}", login.username, password(login))
}

fn key(file: &File, login: &Candidate) -> Key {
    let database = file.place.database.clone();
    (server_of(&file.place), login.username.clone(), password(login), database)
}
