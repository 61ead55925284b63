//! The types and reasons of conditions. Users build alerts and automation on these words: new ones may be
//! added, and none is renamed.

use std::fmt;

/// What a condition of a portal is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConditionType {
    /// The portal serves: both components are available on the latest spec.
    Ready,
    /// The live state is being changed to match the spec.
    Progressing,
    /// The operator or a controller is at work, and nobody has to do anything. One of the two conditions
    /// that kstatus reads; false at rest.
    Reconciling,
    /// Nothing advances until somebody else acts. The other condition that kstatus reads; false at rest.
    Stalled,
    /// The database is chosen and its schema is up to date.
    DatabaseReady,
    /// The pods have an account for the database.
    CredentialsReady,
    /// Enough pods of the API are available.
    HardwareAvailable,
    /// Enough pods of the web page are available.
    PortalAvailable,
    /// Every source that the operator runs reports in time, without a problem.
    SourcesReporting,
    /// Numbers of pods follow the load.
    AutoscalingActive,
    /// The operator writes nothing, as the spec asks.
    Suspended,
}

impl ConditionType {
    /// Every type, in the order in which status lists them.
    pub const ALL: [Self; 11] = [
        Self::Ready,
        Self::Progressing,
        Self::Reconciling,
        Self::Stalled,
        Self::DatabaseReady,
        Self::CredentialsReady,
        Self::HardwareAvailable,
        Self::PortalAvailable,
        Self::SourcesReporting,
        Self::AutoscalingActive,
        Self::Suspended,
    ];

    /// The word in `status.conditions[].type`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Progressing => "Progressing",
            Self::Reconciling => "Reconciling",
            Self::Stalled => "Stalled",
            Self::DatabaseReady => "DatabaseReady",
            Self::CredentialsReady => "CredentialsReady",
            Self::HardwareAvailable => "HardwareAvailable",
            Self::PortalAvailable => "PortalAvailable",
            Self::SourcesReporting => "SourcesReporting",
            Self::AutoscalingActive => "AutoscalingActive",
            Self::Suspended => "Suspended",
        }
    }
}

impl fmt::Display for ConditionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Why a condition is as it is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $($(#[$doc])* $name,)*
        }

        impl Reason {
            /// Every reason.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The word in `status.conditions[].reason` and in events.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }
        }
    };
}

reasons! {
    /// The state matches the spec.
    AsExpected,
    /// Pods are being started, replaced or ended.
    RollingOut,
    /// A Deployment is paused, and has something to roll out.
    Paused,
    /// The component has no pods, as none are wanted.
    ScaledToZero,
    /// Too few pods are available.
    MinimumReplicasUnavailable,
    /// A pod does not get its image. The kubelet tries again by itself.
    ImagePullBackOff,
    /// A pod ends repeatedly, and the kubelet restarts it with an increasing delay.
    CrashLoopBackOff,
    /// A pod's container cannot be created, mostly because an object that it refers to does not exist.
    ContainerNotCreated,
    /// No node has room for a pod, or none that it may run on.
    Unschedulable,
    /// A rollout did not advance within its deadline.
    ProgressDeadlineExceeded,
    /// The component does not exist yet.
    NotCreated,
    /// The database is SQLite on a volume.
    EmbeddedPersistent,
    /// The database is SQLite without a volume: its data are lost with the pod.
    EmbeddedEphemeral,
    /// The volume claim of the embedded database is not bound to a volume yet.
    VolumePending,
    /// The database does not answer the pods' login.
    DatabaseUnreachable,
    /// The migration Job runs.
    Migrating,
    /// The migration Job failed.
    MigrationFailed,
    /// The portal uses no database account, or has no sources that the operator runs; a watch has had
    /// nothing to deliver.
    NotNeeded,
    /// The pods' account is the source's latest.
    Published,
    /// The source does not exist.
    SourceNotFound,
    /// The source lacks the label or tag that lets this portal read it, or the operator lacks a right.
    SourceNotAllowed,
    /// The source lacks a value, or a value in it cannot be used.
    SourceInvalid,
    /// The source does not answer. Everything is kept as it is, and the operator tries again.
    SourceUnavailable,
    /// Terraform holds the lock of its state. The operator waits until it is released.
    StateLocked,
    /// The Terraform state is written only in part. The operator reads it again.
    StateIncomplete,
    /// The Terraform state is encrypted by OpenTofu, and the operator cannot read it.
    StateEncrypted,
    /// The Terraform state is older than the one that was read before, and is not used.
    StateOutdated,
    /// The Terraform state is another one than before, and no annotation accepts it.
    StateLineageChanged,
    /// The stored state of a rotation names accounts that are not this portal's. It is not used.
    StateRefused,
    /// The credential comes without its host, and its administrator names none that it may be sent to.
    HostNotNamed,
    /// The server refused the source's account. The pods keep theirs.
    RootRejected,
    /// The server cannot be reached with the source's account. The pods keep theirs.
    RootUnreachable,
    /// The pods' credential is being changed.
    Rotating,
    /// Pods or sessions that still use the old credential hold its end up; it stays valid.
    RotationStalled,
    /// A change of the credential failed, and the pods use the old one, which stays valid.
    RolledBack,
    /// The pods have a new credential, and the old one is no longer used.
    Rotated,
    /// A deleted portal leaves accounts on its server, which could not be dropped in time.
    AccountsLeft,
    /// The pods' account may create users, which is more than they need.
    AccountPrivileged,
    /// The server refused a statement about the pods' accounts.
    AccountsFailed,
    /// The certificate authority that the spec refers to does not exist.
    CaNotFound,
    /// The spec cannot be read, or asks for something that cannot be done; the message says why.
    InvalidSpec,
    /// The database's host is not one that this operator may send credentials to.
    HostNotAllowed,
    /// The move would leave data behind, and no annotation accepts that.
    DataWouldBeLost,
    /// The API server refused or did not answer; the operator tries again.
    ApiError,
    /// The API server refused a child or its pods, by quota, policy or admission webhook.
    Refused,
    /// The operator may not list a kind of object that it depends on.
    ListForbidden,
    /// A source has not reported a pool yet; its collector has been started.
    ReportPending,
    /// A source has not reported for longer than it should.
    SourceSilent,
    /// A source lacks the right to read what it reports of. An administrator has to grant it.
    SourceForbidden,
    /// A source reports that it has a problem, and no levels follow from it.
    SourceFailing,
    /// The portal's API, which knows who reports, does not answer the operator.
    HardwareUnreachable,
    /// The portal's pods watch for what a watch asks for.
    Watching,
    /// The portal that a watch refers to does not exist.
    PortalNotFound,
    /// A Secret that a watch refers to does not exist, or lacks the key.
    SecretNotFound,
    /// A Secret that a watch refers to lacks the label that lets the portal read it.
    SecretNotAllowed,
    /// A value of a Secret that a watch refers to cannot be used.
    SecretInvalid,
    /// The watches of a portal are too long together, and this one is left out.
    TooManyWatches,
    /// The portal's pods have not read the latest spec of a watch yet.
    RolloutPending,
    /// A receiver does not take the messages of a watch. They are tried again.
    DeliveryFailing,
    /// The autoscalers have no metrics.
    MetricsUnavailable,
    /// Autoscaling is off.
    Disabled,
    /// The spec asks the operator to write nothing, or a watch to send nothing.
    SuspendedBySpec,
    /// The spec does not suspend the operator.
    NotSuspended,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::Reason;

    #[test]
    fn every_reason_is_explained_with_what_to_do_and_no_other_is() {
        let page = include_str!("../../docs/conditions.md");
        let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
        let explained: Vec<&str> = rows
            .map(|row| {
                let cells: Vec<&str> = row.split(" | ").collect();
                assert_eq!(cells.len(), 3, "reason, meaning, what to do: {row}");
                cells[0].split('`').next().unwrap_or_default()
            })
            .collect();
        for reason in Reason::ALL {
            let rows = explained.iter().filter(|name| **name == reason.as_str()).count();
            assert_eq!(rows, 1, "rows about {reason} in docs/conditions.md");
        }
        assert_eq!(explained.len(), Reason::ALL.len(), "{explained:?}");
    }
}
