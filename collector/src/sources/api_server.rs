//! Questions to the API server of a cluster, and what it means when it gives no answer.

use std::time::Duration;

use kube::Client;
use tokio::time::timeout;

use super::{Silence, watch::Failure};

/// Time for one question.
const DEADLINE: Duration = Duration::from_secs(5);

/// A client of the cluster of the pod's service account, or of KUBECONFIG.
pub(super) async fn connect() -> Result<Client, String> {
    Client::try_default().await.map_err(|error| {
        format!(
            "failed to find the API server: {error}; run in a pod with a service account, or set KUBECONFIG"
        )
    })
}

/// Whether a question is answered.
pub(super) async fn ask<T>(question: impl Future<Output = kube::Result<T>>) -> Result<(), Failure> {
    match timeout(DEADLINE, question).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(Failure::of(&error)),
        Err(_) => Err(Failure::no_answer(DEADLINE)),
    }
}

/// Of a failure that passes, or is not known to stay.
pub(super) fn silence(kind: &str, failure: &Failure) -> Silence {
    let reason = match failure {
        Failure::Forbidden(_) => "a right is missing",
        Failure::UnknownKind => "it does not know that kind",
        Failure::Other(reason) => reason,
    };
    Silence::Unconfirmed(format!("the API server gives no {kind}: {reason}"))
}

/// What to do about a missing right. `account` is the user that the API server refused.
pub(super) fn describe_forbidden(kind: &str, account: Option<&str>) -> String {
    let service_account = account
        .and_then(|account| account.strip_prefix("system:serviceaccount:"))
        .and_then(|account| account.split_once(':'));
    let Some((namespace, name)) = service_account else {
        let user = account.unwrap_or("the collector's user");
        return format!(
            "{user} may not list {kind} of the cluster; an administrator of the cluster allows it by binding the \
             ClusterRole gill-hicks-collector to it"
        );
    };
    let portal = name.strip_suffix("-collector").unwrap_or(name);
    format!(
        "the collector may not list {kind} of the cluster; an administrator of the cluster allows it with: \
         kubectl create clusterrolebinding gill-hicks-collector-{namespace}-{portal} \
         --clusterrole=gill-hicks-collector --serviceaccount={namespace}:{name}"
    )
}
