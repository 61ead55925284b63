//! What the portal layer asks of a rotation: its only input from above.

use std::time::Duration;

use crds::DeletionPolicy;

use super::{
    machine::{ObservedSource, Place, Plan},
    mysql::Server,
    source::StateVersion,
};

/// The portal whose accounts a rotation is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortalKey {
    /// Its namespace, in which its pods run.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid, of which its accounts' names are made.
    pub uid: String,
}

/// What is asked for of one portal's accounts.
#[derive(Clone, Debug)]
pub struct Request {
    /// The portal.
    pub portal: PortalKey,
    /// The database server, as the operator itself reaches it.
    pub server: Server,
    /// What is asked for of the credential.
    pub plan: Plan,
    /// What the source says, if it says anything.
    pub source: Option<ObservedSource>,
    /// Which terraform state that was, if it was one.
    pub terraform: Option<StateVersion>,
    /// How often the source is read and the pods' login is tried.
    pub poll_interval: Duration,
    /// What becomes of the accounts when the portal is deleted.
    pub deletion_policy: DeletionPolicy,
}

impl Request {
    /// Server and schema.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.plan.place
    }
}
