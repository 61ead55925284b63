//! What the tests of both services need: waiting, options, and the program as a process; and, as those of
//! the whole do, a login that is slow.

pub mod held_login;

use std::{
    ffi::OsString,
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use clap::{Parser, builder::Resettable};
use tokio::time::sleep;

/// How long a condition may take to become true.
const DEADLINE: Duration = Duration::from_secs(20);

/// Waits until `condition` gives something.
///
/// # Panics
///
/// If it does not within 20 seconds.
pub async fn eventually<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(started.elapsed() < DEADLINE, "waited {DEADLINE:?} in vain: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Reads options without the caller's variables: they may name a database that is not for tests.
///
/// # Panics
///
/// If the options are bad.
pub fn parse<C: Parser>(arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> C {
    let command = C::command();
    let command =
        command.mut_subcommands(|one| one.mut_args(|option| option.env(Resettable::Reset)));
    let matches = command.try_get_matches_from(arguments).expect("good options");
    C::from_arg_matches(&matches).expect("good options")
}

/// Two addresses that were free a moment ago.
///
/// # Panics
///
/// If there are none.
#[must_use]
pub fn free_addresses() -> [String; 2] {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("bound").to_string())
}

/// A program that ends with its test.
#[derive(Debug)]
pub struct Running(pub Child);

impl Running {
    /// Starts it, with a pipe for its log.
    ///
    /// # Panics
    ///
    /// If it cannot be run.
    pub fn start(command: &mut Command) -> Self {
        Self(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts"))
    }

    /// Tells it to end, as a kubelet does.
    ///
    /// # Panics
    ///
    /// If it cannot be told.
    pub fn terminate(&self) {
        let done = Command::new("kill").arg(self.0.id().to_string()).status().expect("kill runs");
        assert!(done.success(), "kill: {done}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already unless the test failed, which is what is reported then.
        drop(self.0.kill().and_then(|()| self.0.wait()));
    }
}
