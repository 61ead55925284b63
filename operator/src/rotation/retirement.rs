//! The end of a portal's accounts: they are locked, or dropped, when the portal is deleted or has left
//! their server.

use std::time::Duration;

use crds::{DeletionPolicy, Reason};
use service_kit::credentials::Candidate;

use super::{
    Trouble,
    login_gate::LoginGate,
    mysql::{self, AccountName, LoginError, Server, Slot},
    place::Place,
    store::Record,
};
use crate::cluster::{client::Fence, retry::Retry};

/// Time after which a login of the root that was refused is repeated.
const REPEAT_AFTER: Duration = Duration::from_mins(1);

/// Locks or drops every account of a portal on one server, logged in as the first of `roots` that is
/// accepted. The account of a migration is dropped in any case.
pub async fn retire_accounts(
    server: &Server,
    account: &AccountName,
    roots: &[Candidate],
    is_dropped: bool,
    fence: &Fence,
    gate: &LoginGate,
) -> Result<(), Trouble> {
    let mut denied = false;
    for root in roots {
        if gate.refusal(server, root, REPEAT_AFTER).is_some() {
            denied = true;
            continue;
        }
        let mut session = match mysql::login_as_root(server, root, fence).await {
            Ok(session) => session,
            Err(error @ (LoginError::Denied { .. } | LoginError::Restricted { .. })) => {
                gate.note_refused(server, root, error.advice());
                denied = true;
                continue;
            }
            Err(error) => return Err(Trouble::new(Reason::RootUnreachable, error.to_string())),
        };
        let retired = retire_as(&mut session, account, is_dropped).await;
        session.close().await;
        return retired.map_err(|error| Trouble::new(Reason::AccountsFailed, error.to_string()));
    }
    let message = if denied {
        "the database refuses every login that is known of its root"
    } else {
        "no login of the database's root is known"
    };
    let retry = Retry::After(REPEAT_AFTER);
    Err(Trouble { retry, ..Trouble::new(Reason::RootRejected, message) })
}

async fn retire_as(
    session: &mut mysql::Session,
    account: &AccountName,
    is_dropped: bool,
) -> Result<(), mysql::SqlError> {
    for slot in [Slot::A, Slot::B] {
        let name = account.in_slot(slot);
        if is_dropped {
            mysql::drop_account(session, &name).await?;
        } else {
            mysql::lock_account(session, &name).await?;
        }
    }
    mysql::drop_account(session, &account.in_slot(Slot::Migration)).await
}

/// Does so with what is stored of a portal, for one of which nothing else is left. `further_roots` are
/// logins for the server that its pods used last.
pub async fn retire_stored(
    record: &Record,
    shipped_authorities: &[u8],
    further_roots: &[Candidate],
    fence: &Fence,
    gate: &LoginGate,
) -> Result<(), Trouble> {
    let state = &record.state;
    let account = AccountName::for_portal(&record.portal.uid, Slot::A)
        .map_err(|error| Trouble::new(Reason::AccountsFailed, error.to_string()))?;
    let is_dropped = record.deletion_policy == DeletionPolicy::DropAccounts;
    // Where its accounts may be, with the logins of the root that are for that server.
    let mut places: Vec<(&Place, Vec<Candidate>)> = Vec::new();
    if let Some(place) = &state.place {
        // In the middle of a move the latest root is of the next server.
        let known = state.root_at(place).or(state.former_root.as_ref());
        let roots: Vec<Candidate> = known.into_iter().chain(further_roots).cloned().collect();
        if !roots.is_empty() || state.publishes_own(&account) {
            places.push((place, roots));
        }
    }
    let change = state.change.as_ref().map(|change| &change.place);
    for place in change.into_iter().chain(&state.root_place) {
        let is_known = places.iter().any(|(known, _)| known.is_on_server_of(place));
        if let (false, Some(root)) = (is_known, state.root_at(place)) {
            places.push((place, vec![root.clone()]));
        }
    }
    places.extend(state.left.iter().map(|left| (&left.place, left.root.iter().cloned().collect())));
    // One server that is gone keeps no account on another one usable.
    let mut first_trouble = None;
    for (place, roots) in places {
        let server = record.server(place, shipped_authorities);
        let server =
            server.map_err(|error| Trouble::new(Reason::AccountsFailed, error.to_string()));
        let retired = match server {
            Ok(server) => retire_accounts(&server, &account, &roots, is_dropped, fence, gate).await,
            Err(trouble) => Err(trouble),
        };
        if let Err(trouble) = retired {
            first_trouble.get_or_insert(trouble);
        }
    }
    first_trouble.map_or(Ok(()), Err)
}

/// The accounts that a portal may have.
#[must_use]
pub fn accounts_of(uid: &str) -> Vec<String> {
    let names = [Slot::A, Slot::B, Slot::Migration].map(|slot| AccountName::for_portal(uid, slot));
    names.into_iter().flatten().map(|name| name.to_string()).collect()
}
