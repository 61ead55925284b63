//! How many files, sockets among them, the process may have open.

use rustix::process::{Resource, getrlimit, setrlimit};
use tracing::{info, warn};

use crate::server::Limits;

/// What a service has open besides the connections of its public listener: those of its admin listener, to
/// its database, logs and watched files.
const RESERVE: u64 = 128;

/// Public connections that a service has in any case.
const FEWEST: usize = 16;

/// Raises the limit to what the process may raise it to, as container runtimes start programs with 1024,
/// and returns as many public connections as there is room for.
#[must_use]
pub fn limits_of_public_listener() -> Limits {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current < limit.maximum || limit.maximum.is_none() && limit.current.is_some() {
        let raised = rustix::process::Rlimit { current: limit.maximum, ..limit };
        match setrlimit(Resource::Nofile, raised) {
            Ok(()) => limit = raised,
            Err(error) => warn!(%error, "failed to raise the limit of open files"),
        }
    }
    let limits = Limits::default();
    let connections = limit.current.map_or(limits.connections, |files| room(files, &limits));
    if connections < limits.connections {
        info!(connections, "fewer connections than usual, as the limit of open files is low");
    }
    Limits { connections, ..limits }
}

/// Nobody but probes and Prometheus asks the admin listener.
#[must_use]
pub fn limits_of_admin_listener() -> Limits {
    Limits { connections: 64, ..Limits::default() }
}

fn room(files: u64, limits: &Limits) -> usize {
    let connections = usize::try_from(files.saturating_sub(RESERVE)).unwrap_or(usize::MAX);
    connections.clamp(FEWEST, limits.connections)
}

#[cfg(test)]
mod tests {
    use super::{Limits, room};

    #[test]
    fn connections_leave_room_for_what_else_is_open() {
        for (files, expected) in [(64, 16), (256, 128), (1024, 896), (1_048_576, 4096)] {
            assert_eq!(room(files, &Limits::default()), expected, "{files} files");
        }
    }
}
