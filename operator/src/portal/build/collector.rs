//! The collector: one pod that reports for all sources that the operator runs. It serves nobody, so that it
//! has no Service, and only the admin port.

use crds::{CollectedSource, SourceKind};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::KeyToPath};

use super::{
    hardware,
    pod::{self, Files, Parts},
};
use crate::{
    cluster::{labels::Component, names},
    portal::resolve::{ResolvedCollector, ResolvedPortal},
};

/// Where the tokens of its sources are mounted, each as a file of the source's name.
const TOKENS_FOLDER: &str = "/etc/gill-hicks/tokens";

/// The Deployment of the collector. A second pod would report the same a second time, so the old one ends
/// before the new one starts.
#[must_use]
pub fn deployment(portal: &ResolvedPortal, collector: &ResolvedCollector) -> Deployment {
    let mut files = Files::default();
    files.env.push(pod::variable("HARDWARE_HOST", &hardware::address(&portal.name)));
    let sources = serde_json::to_string(&collector.sources).expect("plain data");
    // The kubelet replaces $(NAME) in a value by another variable, and $$ by $.
    let sources = sources.replace('$', "$$");
    files.env.push(pod::variable("SOURCES", &sources));
    // Not the whole Secret: the tokens of other sources, and the one that those share, are none of its
    // business.
    let tokens = collector.sources.iter().filter_map(|source| {
        let name = source.resolved_name()?;
        let (key, path) = (names::source_token_key(name), name.to_owned());
        Some(KeyToPath { key, path, mode: None })
    });
    let tokens =
        pod::secret_volume("tokens", names::observations_secret(&portal.name), tokens.collect());
    files.add_folder("SOURCE_TOKENS_FOLDER", tokens, TOKENS_FOLDER);
    let mut kinds = collector.sources.iter().filter_map(CollectedSource::kind);
    let Files { env, volumes, mounts } = files;
    let parts = Parts {
        component: Component::Collector,
        name: names::collector(&portal.name),
        port: None,
        env,
        volumes,
        mounts,
        rolls: false,
        has_kubernetes_token: kinds.any(SourceKind::needs_kubernetes_api),
    };
    pod::deployment(portal, &collector.workload, parts)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{PodSpec, ServiceAccount};
    use serde_json::{Value, json};

    use crate::portal::build::tests::example::{rendered, settings, typed};

    /// The pod of the collector, as an API server gets it.
    fn pod(spec: Value) -> PodSpec {
        let children = rendered(spec, &settings());
        let mut deployments = children.iter().filter(|child| child["kind"] == "Deployment");
        let found = deployments.find(|child| child["metadata"]["name"] == "demo-collector");
        let pod = found.expect("a collector")["spec"]["template"]["spec"].clone();
        serde_json::from_value(pod).expect("a pod")
    }

    fn variable(pod: &PodSpec, name: &str) -> String {
        let mut env = pod.containers[0].env.iter().flatten();
        let found = env.find(|variable| variable.name == name).and_then(|it| it.value.clone());
        found.unwrap_or_else(|| panic!("{name} is not set"))
    }

    #[test]
    fn the_settings_of_the_sources_have_every_name_and_only_what_was_chosen() {
        let tolerations = json!([{"key": "dedicated", "operator": "Exists"}]);
        let pod = pod(json!({"sources": [
            {"kubernetes": {}},
            {"name": "lab", "kubernetes": {
                "slot": {"cpu": 2}, "provider": "Lab", "nodeSelector": {"a": "b"},
                "tolerations": tolerations,
            }},
        ]}));
        let sources: Value = serde_json::from_str(&variable(&pod, "SOURCES")).expect("JSON");
        assert_eq!(
            sources,
            json!([
                {"name": "kubernetes", "kubernetes": {"slot": {"cpu": "1", "memory": "2Gi"}}},
                {"name": "lab", "kubernetes": {
                    "slot": {"cpu": "2", "memory": "2Gi"}, "provider": "Lab",
                    "nodeSelector": {"a": "b"}, "tolerations": tolerations,
                }},
            ])
        );
        assert_eq!(variable(&pod, "HARDWARE_HOST"), "demo-hardware:5001");
    }

    #[test]
    fn no_other_variable_is_put_into_the_settings_of_a_source() {
        let kubernetes = json!({"provider": "$(HARDWARE_HOST)"});
        let pod = pod(json!({"sources": [{"kubernetes": kubernetes}]}));
        let sources = variable(&pod, "SOURCES");
        assert!(sources.contains(r#""provider":"$$(HARDWARE_HOST)""#), "{sources}");
    }

    #[test]
    fn the_pod_reads_the_tokens_of_its_own_sources_only() {
        let pod = pod(json!({
            "observations": {"sources": [{"name": "lab"}, {"name": "power-meter"}]},
            "sources": [{"kubernetes": {}}, {"name": "lab", "kubernetes": {}}],
        }));
        let volumes = pod.volumes.as_deref().unwrap_or_default();
        let [tokens] = volumes else { panic!("{volumes:?}") };
        let secret = tokens.secret.as_ref().expect("a Secret");
        assert_eq!(secret.secret_name.as_deref(), Some("demo-observations"));
        let items = secret.items.iter().flatten();
        let items: Vec<(&str, &str)> =
            items.map(|item| (item.key.as_str(), item.path.as_str())).collect();
        assert_eq!(items, [("source-kubernetes", "kubernetes"), ("source-lab", "lab")]);
        let mounts = pod.containers[0].volume_mounts.as_deref().unwrap_or_default();
        let folders: Vec<&str> = mounts.iter().map(|mount| mount.mount_path.as_str()).collect();
        assert_eq!(folders, [variable(&pod, "SOURCE_TOKENS_FOLDER").as_str()]);
    }

    #[test]
    fn the_token_of_the_kubernetes_api_is_mounted_into_this_pod_alone() {
        let children = rendered(json!({"sources": [{"kubernetes": {}}]}), &settings());
        for account in typed::<ServiceAccount>(&children, "ServiceAccount") {
            assert_eq!(
                account.automount_service_account_token,
                Some(false),
                "a pod may ask for it"
            );
        }
        let deployments = children.iter().filter(|child| child["kind"] == "Deployment");
        let with_token: Vec<&Value> = deployments
            .filter(|it| it["spec"]["template"]["spec"]["automountServiceAccountToken"] == true)
            .map(|it| &it["metadata"]["name"])
            .collect();
        assert_eq!(with_token, ["demo-collector"]);
    }

    #[test]
    fn there_is_a_collector_only_for_sources_and_it_is_one_pod() {
        for spec in [json!({}), json!({"sources": []}), json!({"collector": {"image": "i"}})] {
            let children = rendered(spec.clone(), &settings());
            let names = children.iter().map(|child| child["metadata"]["name"].to_string());
            assert!(!names.into_iter().any(|name| name.contains("collector")), "{spec}");
        }
        let children = rendered(json!({"sources": [{"kubernetes": {}}]}), &settings());
        let of_collector = children
            .iter()
            .filter(|child| child["metadata"]["name"] == "demo-collector")
            .map(|child| child["kind"].as_str().unwrap_or_default());
        let kinds: Vec<&str> = of_collector.collect();
        assert_eq!(kinds, ["ServiceAccount", "NetworkPolicy", "Deployment"]);
    }
}
