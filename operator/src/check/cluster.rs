//! The cluster itself: its version, and whether it serves the metrics that autoscalers need.

use kube::Client;

/// The oldest minor version that supports every field of the rendered children.
const OLDEST_MINOR: u32 = 33;

/// The problem if the version is too old: the API server then drops or refuses rendered fields.
pub(super) async fn version_problem(client: &Client) -> Result<Option<String>, kube::Error> {
    let version = client.apiserver_version().await?;
    // Some clouds write "33+".
    let minor = version.minor.trim_end_matches(|it: char| !it.is_ascii_digit());
    let is_old = version.major == "1" && minor.parse::<u32>().is_ok_and(|it| it < OLDEST_MINOR);
    Ok(is_old.then(|| {
        let found = version.git_version;
        format!(
            "the cluster runs Kubernetes {found}, expected 1.{OLDEST_MINOR} or later; update it"
        )
    }))
}

/// The problem if `metrics.k8s.io`, from which autoscalers read CPU use, is not served.
pub(super) async fn metrics_problem(client: &Client) -> Result<Option<String>, kube::Error> {
    const ADVICE: &str = "portals do not scale with their load; install metrics-server, or write autoscaling: {disabled: true}";
    match client.list_api_group_resources("metrics.k8s.io/v1beta1").await {
        Ok(list) if list.resources.iter().any(|resource| resource.name == "pods") => Ok(None),
        Ok(_) => Ok(Some(format!("metrics.k8s.io serves no metrics of pods: {ADVICE}"))),
        Err(kube::Error::Api(status)) if status.code == 404 => {
            Ok(Some(format!("the cluster does not serve metrics.k8s.io: {ADVICE}")))
        }
        Err(kube::Error::Api(status)) if status.code >= 500 => Ok(Some(format!(
            "metrics.k8s.io is registered and does not answer ({}): {ADVICE}",
            status.message
        ))),
        Err(error) => Err(error),
    }
}
