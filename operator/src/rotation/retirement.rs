//! The end of a portal's accounts: they are locked, or dropped, when the portal is deleted or has left
//! their server.

use crds::{DeletionPolicy, Reason};
use service_kit::credentials::Candidate;

use super::{
    Trouble,
    mysql::{self, AccountName, LoginError, Server, Slot},
    store::Record,
};
use crate::cluster::client::Fence;

/// Locks or drops every account of a portal on one server, logged in as the first of `roots` that is
/// accepted. The account of a migration is dropped in any case.
pub async fn retire_accounts(
    server: &Server,
    account: &AccountName,
    roots: &[Candidate],
    is_dropped: bool,
    fence: &Fence,
) -> Result<(), Trouble> {
    let mut denied = false;
    for root in roots {
        let mut session = match mysql::login_as_root(server, root, fence).await {
            Ok(session) => session,
            Err(LoginError::Denied { .. } | LoginError::Restricted { .. }) => {
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
    Err(Trouble::new(Reason::RootRejected, message))
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
) -> Result<(), Trouble> {
    let Some(place) = record.state.place.as_ref() else { return Ok(()) };
    let account = AccountName::for_portal(&record.portal.uid, Slot::A)
        .map_err(|error| Trouble::new(Reason::AccountsFailed, error.to_string()))?;
    let is_dropped = record.deletion_policy == DeletionPolicy::DropAccounts;
    // In the middle of a move the latest root is of the next server.
    let known = record.state.root_at(place).or(record.state.former_root.as_ref());
    let roots: Vec<Candidate> = known.into_iter().chain(further_roots).cloned().collect();
    if roots.is_empty() && record.state.left.is_empty() && !record.state.publishes_own(&account) {
        // Mode Follow from the beginning: no account was ever made.
        return Ok(());
    }
    let server = |place| {
        record
            .server(place, shipped_authorities)
            .map_err(|error| Trouble::new(Reason::AccountsFailed, error.to_string()))
    };
    for left in &record.state.left {
        let roots: Vec<Candidate> = left.root.iter().cloned().collect();
        retire_accounts(&server(&left.place)?, &account, &roots, is_dropped, fence).await?;
    }
    retire_accounts(&server(place)?, &account, &roots, is_dropped, fence).await
}

/// The accounts that a portal may have.
#[must_use]
pub fn accounts_of(uid: &str) -> Vec<String> {
    let names = [Slot::A, Slot::B, Slot::Migration].map(|slot| AccountName::for_portal(uid, slot));
    names.into_iter().flatten().map(|name| name.to_string()).collect()
}
