//! What the portal layer asks of a rotation: its only input from above.

use std::time::Duration;

use crds::DeletionPolicy;
use serde::{Deserialize, Serialize};
use service_kit::credentials::CredentialSet;

use super::{
    Trouble,
    machine::{ObservedSource, Place, Plan},
    mysql::Server,
    source::StateVersion,
};

/// The portal whose accounts a rotation is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// The certificate authorities in PEM form, if they are not those that the operator ships.
    pub own_authorities: Option<String>,
    /// What is asked for of the credential.
    pub plan: Plan,
    /// What the source says, or why it says nothing. That alone stops nobody: the pods keep what they hold.
    pub source: Result<ObservedSource, Trouble>,
    /// Which terraform state that was, if it was one.
    pub terraform: Option<StateVersion>,
    /// How often the source is read and the pods' login is tried.
    pub poll_interval: Duration,
    /// What becomes of the accounts when the portal is deleted.
    pub deletion_policy: DeletionPolicy,
    /// What the pods' Secret holds.
    pub published: Option<CredentialSet>,
    /// The generation that the status names, for when state and Secret are lost: generations only go up.
    pub last_generation: u64,
    /// Whether the schema at the place of the plan is migrated for the image that is to run.
    pub is_migrated: bool,
}

impl Request {
    /// Server and schema.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.plan.place
    }
}
