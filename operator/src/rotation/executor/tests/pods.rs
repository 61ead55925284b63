//! Pods that take up the file when their kubelet brings it, or never.

use std::collections::BTreeMap;

use jiff::Timestamp;
use service_kit::credentials::Candidate;

use super::server::Server;
use crate::rotation::machine::{Place, PodReport};

/// The pods' file.
#[derive(Clone, Debug)]
pub(super) struct File {
    pub(super) generation: u64,
    pub(super) place: Place,
    pub(super) candidates: Vec<Candidate>,
}

#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is an independent fault")]
pub(super) struct Pod {
    pub(super) name: String,
    /// What it holds in memory; none while its containers start.
    pub(super) file: Option<File>,
    /// What was published when it was created. Its kubelet may mount that, but nothing older, as it
    /// fetches a Secret anew when it learns of a pod.
    pub(super) born_with: Option<File>,
    /// Sessions by server, number and the generation that they logged in with.
    pub(super) connections: Vec<(usize, u64, u64)>,
    /// A login that is under way: server, its number there, the login and the generation that it is of.
    pub(super) login: Option<(usize, u64, Candidate, u64)>,
    pub(super) nudged: Option<(u64, Timestamp)>,
    pub(super) answers: bool,
    pub(super) adopts: bool,
    pub(super) is_terminating: bool,
    /// Both Secrets were lost, or the data moved away, while it held this file: nobody knows its
    /// logins any more.
    pub(super) is_orphan: bool,
}

impl Pod {
    pub(super) fn new(name: String, born_with: Option<File>) -> Self {
        Self {
            name,
            file: None,
            born_with,
            connections: Vec::new(),
            login: None,
            nudged: None,
            answers: true,
            adopts: true,
            is_terminating: false,
            is_orphan: false,
        }
    }

    pub(super) fn pick_up(&mut self, file: Option<&File>) {
        let Some(file) = file.filter(|_| self.adopts && !self.is_terminating) else { return };
        if self.file.as_ref().is_none_or(|own| own.generation != file.generation) {
            self.is_orphan = false;
        }
        self.file = Some(file.clone());
    }

    /// Its containers start, with the oldest file that is possible.
    pub(super) fn start(&mut self) {
        if self.file.is_none() && !self.is_terminating {
            self.file = self.born_with.take();
        }
    }

    /// Opens one more connection, with the first login that is let in.
    pub(super) fn connect(&mut self, servers: &mut [Server]) {
        let Some(file) = &self.file else { return };
        let server = server_of(&file.place);
        let mut tried = file.candidates.iter();
        let id = tried.find_map(|login| servers[server].log_in(login, Some(&self.name)));
        self.connections.extend(id.map(|id| (server, id, file.generation)));
    }

    /// Sends its password, which the server does not answer yet.
    pub(super) fn begin_login(&mut self, servers: &mut [Server]) {
        // Of an orphan's logins nobody knows.
        let is_known = self.login.is_none() && !self.is_orphan;
        let Some(file) = self.file.as_ref().filter(|_| is_known) else { return };
        let server = server_of(&file.place);
        let tried = file.candidates.iter().find(|login| servers[server].serves(&file.place, login));
        let Some(login) = tried else { return };
        let id = servers[server].begin_login();
        self.login = Some((server, id, login.clone(), file.generation));
    }

    /// Gets the answer to the login that is under way, and says whether it is let in.
    pub(super) fn end_login(&mut self, servers: &mut [Server]) -> Option<(usize, Candidate, bool)> {
        let (server, id, login, generation) = self.login.take()?;
        servers[server].unauthenticated.remove(&id);
        let session = servers[server].log_in(&login, Some(&self.name));
        self.connections.extend(session.map(|id| (server, id, generation)));
        Some((server, login, session.is_some()))
    }

    /// Closes the connections of older generations.
    pub(super) fn retire(&mut self, servers: &mut [Server]) {
        let own = self.file.as_ref().map_or(0, |file| file.generation);
        self.connections.retain(|(server, id, generation)| {
            let stays = *generation >= own;
            if !stays {
                servers[*server].sessions.remove(id);
            }
            stays
        });
    }

    pub(super) fn end(&mut self, servers: &mut [Server]) {
        if let Some((server, id, ..)) = self.login.take() {
            servers[server].unauthenticated.remove(&id);
        }
        for (server, id, _) in self.connections.drain(..) {
            servers[server].sessions.remove(&id);
        }
    }

    pub(super) fn has_adopted(&self, generation: u64) -> bool {
        self.file.as_ref().is_some_and(|file| file.generation >= generation)
    }

    pub(super) fn is_let_in(&self, servers: &[Server]) -> bool {
        self.file.as_ref().is_some_and(|file| {
            let server = &servers[server_of(&file.place)];
            file.candidates.iter().any(|login| server.serves(&file.place, login))
        })
    }

    pub(super) fn report(&self) -> PodReport {
        let mut connections = BTreeMap::new();
        for (_, _, generation) in self.connections.iter().filter(|_| self.answers) {
            *connections.entry(*generation).or_default() += 1;
        }
        if let Some((.., generation)) = self.login.as_ref().filter(|_| self.answers) {
            *connections.entry(*generation).or_default() += 1;
        }
        let file = self.file.as_ref().filter(|_| self.answers);
        PodReport {
            name: self.name.clone(),
            generation: self.answers.then(|| file.map_or(0, |file| file.generation)),
            connections,
            nudged: self.nudged,
        }
    }
}

/// Servers are told apart by their ports. Each has two schemas.
pub(super) fn place(server: usize, schema: usize) -> Place {
    let port = 3306 + u16::try_from(server).expect("few");
    Place { host: "db".to_owned(), port, database: format!("hardware{schema}") }
}

pub(super) fn server_of(place: &Place) -> usize {
    usize::from(place.port - 3306)
}
