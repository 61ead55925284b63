//! Observes server and pods for one transition, and no more of them than it needs.

use crds::{Reason, RotationMode};
use service_kit::credentials::Candidate;

use super::World;
use crate::cluster::retry::Retry;
use crate::rotation::{
    Trouble,
    machine::{Needs, Observation, ObservedLogin, ObservedRoot, ObservedSessions, State, is_ours},
    mysql::Slot,
    request::Request,
};

/// What was observed, or why nothing could be.
pub(super) struct Observed {
    pub(super) observation: Observation,
    pub(super) trouble: Option<Trouble>,
}

/// Observes what a transition needs; `tries_active` asks for a login with what the pods use.
pub(super) async fn observe<W: World>(
    request: &Request,
    state: &State,
    needs: Needs,
    tries_active: bool,
    world: &mut W,
) -> Observed {
    let mut observation = Observation {
        source: request.source.as_ref().ok().cloned(),
        is_migrated: request.is_migrated,
        ..Observation::default()
    };
    let mut trouble = None;
    let change = state.change.as_ref();
    // Before the logins, which are sessions themselves.
    if needs.sessions {
        match list_sessions(request, state, world).await {
            Ok(sessions) => observation.sessions = Some(sessions),
            Err(error) => trouble = Some(error),
        }
    }
    if needs.root {
        observation.root = Some(find_root(request, state, world).await);
    }
    if needs.next {
        let next = change.and_then(|change| change.next.first());
        observation.next = try_login(request, next, world).await;
    }
    if needs.old {
        let old = change.and_then(|change| change.old.as_ref());
        observation.old = try_login(request, old, world).await;
    }
    if tries_active && state.is_at(request.place()) {
        observation.active = try_login(request, state.active(), world).await;
    }
    if needs.pods {
        match world.list_pods().await {
            Ok(pods) => observation.pods = Some(pods),
            Err(error) => trouble = Some(error),
        }
    }
    Observed { observation, trouble }
}

/// The logins that may open the session in which accounts are changed: the source's in their order, then
/// the one that worked last, which goes on working for a while after the source changed. In mode Follow
/// the source's is the pods' own, which may hardly change anything, so the one that worked last comes
/// first: what is left of another mode is ended with it.
pub(super) fn root_logins(request: &Request, state: &State) -> Vec<Candidate> {
    let of_source = request.source.iter().flat_map(|source| &source.candidates);
    let last = state.root_at(request.place()).into_iter();
    let logins: Vec<&Candidate> = if request.plan.mode == RotationMode::Follow {
        last.chain(of_source).collect()
    } else {
        of_source.chain(last).collect()
    };
    let mut distinct: Vec<Candidate> = Vec::new();
    for login in logins {
        if !distinct.iter().any(|one| one.is_same(login)) {
            distinct.push(login.clone());
        }
    }
    distinct
}

/// Opens the session in which accounts are changed.
pub(super) async fn open_root<W: World>(
    request: &Request,
    state: &State,
    world: &mut W,
) -> Result<(), Trouble> {
    match world.open_root(&root_logins(request, state)).await {
        ObservedRoot::Works(_) => Ok(()),
        ObservedRoot::Rejected(why) => Err(root_rejected(request, why)),
        ObservedRoot::Unreachable(why) => Err(Trouble::new(Reason::RootUnreachable, why)),
    }
}

/// A denied login is repeated no earlier than after the poll interval.
pub(super) fn root_rejected(request: &Request, why: String) -> Trouble {
    let retry = Retry::After(request.poll_interval);
    Trouble { retry, ..Trouble::new(Reason::RootRejected, why) }
}

/// In mode Follow the source's logins are the pods' own, and are tried as those.
async fn find_root<W: World>(request: &Request, state: &State, world: &mut W) -> ObservedRoot {
    if state.change.as_ref().is_none_or(|change| change.mode != RotationMode::Follow) {
        return world.open_root(&root_logins(request, state)).await;
    }
    let of_source = request.source.iter().flat_map(|source| &source.candidates);
    let logins: Vec<Candidate> = of_source.cloned().collect();
    world.find_source_login(&logins).await
}

/// Accounts of ours must have exactly the rights that were issued; others only have to work.
async fn try_login<W: World>(
    request: &Request,
    login: Option<&Candidate>,
    world: &mut W,
) -> Option<ObservedLogin> {
    let login = login?;
    Some(world.try_login(login, is_ours(&request.plan.account, login)).await)
}

async fn list_sessions<W: World>(
    request: &Request,
    state: &State,
    world: &mut W,
) -> Result<ObservedSessions, Trouble> {
    open_root(request, state, world).await?;
    let slots = [Slot::A, Slot::B].map(|slot| request.plan.account.in_slot(slot));
    let mut users: Vec<String> = slots.iter().map(ToString::to_string).collect();
    let old = state.change.as_ref().and_then(|change| change.old.as_ref());
    users.extend(old.map(|old| old.username.clone()).filter(|old| !users.contains(old)));
    world.list_sessions(&users).await
}
