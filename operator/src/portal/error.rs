//! Why a pass over a portal did not reach its end. Each error says its own reason and its retry.

use crds::{ConditionType, Reason};

use super::{apply::ApplyError, gather::GatherError, resolve::ResolveError, status::Failure};
use crate::{
    cluster::{api_error, retry::Retry},
    rotation::{executor::RotationError, store::StoreError},
};

/// Why a pass did not reach its end. The variant's name is the label in metrics.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// What the spec refers to could not be read.
    #[error(transparent)]
    Gather(#[from] GatherError),
    /// The state that an earlier version kept could not be moved.
    #[error(transparent)]
    MoveState(StoreError),
    /// The children cannot be listed, so that nothing is known of what exists.
    #[error("{message}")]
    Unlisted {
        /// Which kinds, and why.
        message: String,
        /// Whether the API server refuses a list, and is not merely slow.
        is_refused: bool,
    },
    /// The spec contradicts itself, the source or the administrator.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// There is no credential for the pods yet, and none could be made.
    #[error(transparent)]
    Rotate(#[from] RotationError),
    /// A child could not be written.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// The finalizer could not be written.
    #[error("failed to write the finalizer: {}", api_error::in_words(.0))]
    Finalizer(Box<kube::Error>),
    /// The status could not be written.
    #[error("failed to write the status: {}", api_error::in_words(.0))]
    Status(Box<kube::Error>),
}

impl ReconcileError {
    /// The variant, as the label of a metric.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Gather(_) => "gather",
            Self::MoveState(_) => "move_state",
            Self::Unlisted { .. } => "list",
            Self::Resolve(_) => "resolve",
            Self::Rotate(_) => "rotate",
            Self::Apply(_) => "apply",
            Self::Finalizer(_) => "finalizer",
            Self::Status(_) => "status",
        }
    }

    /// What to do next.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::Resolve(error) => error.retry(),
            Self::Rotate(error) => error.retry(),
            Self::Gather(GatherError::Api { source, .. }) => Retry::of_api(source),
            Self::Gather(GatherError::Store(error)) | Self::MoveState(error) => error.retry(),
            // What is missing is not watched: it is polled.
            Self::Gather(_) | Self::Unlisted { .. } => Retry::Poll,
            Self::Apply(error) => Retry::of_api(&error.source),
            Self::Finalizer(error) | Self::Status(error) => Retry::of_api(error),
        }
    }

    /// What the status says of it.
    #[must_use]
    pub fn failure(&self) -> Failure {
        let (concerns, reason) = match self {
            Self::Gather(error) => match error {
                GatherError::CaNotFound { .. } => {
                    (ConditionType::DatabaseReady, Reason::CaNotFound)
                }
                GatherError::CaNotAllowed { .. } => {
                    (ConditionType::DatabaseReady, Reason::SourceNotAllowed)
                }
                GatherError::Store(error) => (ConditionType::CredentialsReady, error.reason()),
                GatherError::Api { .. } => (ConditionType::Progressing, Reason::ApiError),
            },
            Self::Resolve(error) => match error {
                ResolveError::LocalHost(_) | ResolveError::HostNotAllowed(_) => {
                    (ConditionType::DatabaseReady, Reason::HostNotAllowed)
                }
                ResolveError::HostNotNamed { .. } => {
                    (ConditionType::DatabaseReady, Reason::HostNotNamed)
                }
                ResolveError::DataWouldBeLost => {
                    (ConditionType::DatabaseReady, Reason::DataWouldBeLost)
                }
                ResolveError::Malformed { .. } => {
                    (ConditionType::CredentialsReady, Reason::SourceInvalid)
                }
                ResolveError::NoSource { reason, .. } => (ConditionType::CredentialsReady, *reason),
                ResolveError::RotateAt(_) => (ConditionType::CredentialsReady, Reason::InvalidSpec),
                ResolveError::Metadata(_)
                | ResolveError::Missing(_)
                | ResolveError::Overridden { .. } => {
                    (ConditionType::DatabaseReady, Reason::InvalidSpec)
                }
            },
            Self::MoveState(error) => (ConditionType::CredentialsReady, error.reason()),
            Self::Unlisted { is_refused: true, .. } => {
                (ConditionType::Progressing, Reason::ListForbidden)
            }
            Self::Unlisted { .. } => (ConditionType::Progressing, Reason::ApiError),
            Self::Rotate(error) => (ConditionType::CredentialsReady, error.reason()),
            Self::Apply(error) if Retry::of_api(&error.source) == Retry::Poll => {
                (ConditionType::Progressing, Reason::Refused)
            }
            Self::Apply(_) | Self::Finalizer(_) | Self::Status(_) => {
                (ConditionType::Progressing, Reason::ApiError)
            }
        };
        Failure { concerns, reason, message: self.to_string() }
    }
}
