//! What an executor needs of the world outside: the database server, the pods, the store and the clock.
//! Its property tests drive the executor itself on a simulated one.

use jiff::Timestamp;
use secrecy::SecretString;
use service_kit::credentials::Candidate;

use crate::rotation::{
    Trouble,
    machine::{LeftPlace, ObservedLogin, ObservedRoot, ObservedSessions, PodReport, State},
    mysql::AccountName,
    store::StoreError,
};

/// A change of accounts, made as the root login that was opened last. Each may be repeated.
#[derive(Clone, Copy, Debug)]
pub enum AccountChange<'a> {
    /// Create the account, or give it this password and its constant rights, and unlock it.
    Ensure(&'a AccountName, &'a Candidate),
    /// The same for the account that migrates the schema.
    EnsureMigration(&'a AccountName, &'a Candidate),
    /// Give the account a second password beside the one that it has.
    AddPassword {
        /// The account.
        account: &'a AccountName,
        /// It with its new password.
        next: &'a Candidate,
        /// It with the password that it has.
        old: &'a Candidate,
    },
    /// Take every password but this one from the account.
    DropOldPassword(&'a AccountName, &'a Candidate),
    /// Refuse further logins of the account.
    Lock(&'a AccountName),
    /// Remove the account.
    Drop(&'a AccountName),
}

/// Why an account was not changed.
#[derive(Clone, Debug)]
pub struct ChangeFailed {
    /// What is in the way.
    pub trouble: Trouble,
    /// Whether a policy of the server refuses the password, so that another one may be taken.
    pub is_password_refused: bool,
}

impl From<Trouble> for ChangeFailed {
    fn from(trouble: Trouble) -> Self {
        Self { trouble, is_password_refused: false }
    }
}

/// The world of one portal's rotation, for one pass.
pub trait World: Send {
    /// The time.
    fn now(&self) -> Timestamp;

    /// A new password.
    fn new_password(&mut self) -> SecretString;

    /// Opens the session in which accounts are changed, as the first of these logins that the server
    /// accepts, unless it is open already.
    fn open_root(&mut self, logins: &[Candidate]) -> impl Future<Output = ObservedRoot> + Send;

    /// Logs in as pods do. Whether the login is one of our own accounts, whose rights are then compared
    /// with those that were issued, is told by `is_own`.
    fn try_login(
        &mut self,
        login: &Candidate,
        is_own: bool,
    ) -> impl Future<Output = ObservedLogin> + Send;

    /// The first of the source's logins that pods could use. One that the server denied is not repeated
    /// before the poll interval is over.
    fn find_source_login(
        &mut self,
        logins: &[Candidate],
    ) -> impl Future<Output = ObservedRoot> + Send;

    /// The sessions of these accounts, and those that have not authenticated yet.
    fn list_sessions(
        &mut self,
        users: &[String],
    ) -> impl Future<Output = Result<ObservedSessions, Trouble>> + Send;

    /// Changes an account.
    fn change_account(
        &mut self,
        change: AccountChange<'_>,
    ) -> impl Future<Output = Result<(), ChangeFailed>> + Send;

    /// Locks or drops the accounts on a server that the portal has left, unless it accepts the login that the
    /// pods use: then it is the same server under another name.
    fn retire_left(
        &mut self,
        left: &LeftPlace,
        active: Option<&Candidate>,
    ) -> impl Future<Output = Result<(), Trouble>> + Send;

    /// Every pod of hardware that is not terminating, ready or not, with what it reports.
    fn list_pods(&mut self) -> impl Future<Output = Result<Vec<PodReport>, Trouble>> + Send;

    /// Makes the kubelet of a pod refresh its volumes now.
    fn nudge(
        &mut self,
        pod: &str,
        generation: u64,
    ) -> impl Future<Output = Result<(), Trouble>> + Send;

    /// Keeps a state.
    fn store(&mut self, state: &State) -> impl Future<Output = Result<(), StoreError>> + Send;
}
