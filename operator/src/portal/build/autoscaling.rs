//! Autoscalers and disruption budgets.

use k8s_openapi::{
    api::{
        autoscaling::v2::{
            CrossVersionObjectReference, HorizontalPodAutoscaler, HorizontalPodAutoscalerSpec,
            MetricSpec, MetricTarget, ResourceMetricSource,
        },
        policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec},
    },
    apimachinery::pkg::util::intstr::IntOrString,
};

use crate::{
    cluster::labels::{self, Component},
    portal::{
        resolve::{ResolvedPortal, ResolvedWorkload, Scaling},
        stored::as_stored,
    },
};

/// The autoscaler of a component, unless its number of pods is fixed or kept.
#[must_use]
pub fn autoscaler(
    portal: &ResolvedPortal,
    workload: &ResolvedWorkload,
    component: Component,
    name: String,
) -> Option<HorizontalPodAutoscaler> {
    let Scaling::Automatic(chosen) = &workload.scaling else { return None };
    Some(HorizontalPodAutoscaler {
        metadata: labels::owned(portal, component, name.clone()),
        spec: Some(HorizontalPodAutoscalerSpec {
            scale_target_ref: CrossVersionObjectReference {
                api_version: Some("apps/v1".to_owned()),
                kind: "Deployment".to_owned(),
                name,
            },
            min_replicas: Some(chosen.min_replicas),
            max_replicas: chosen.max_replicas,
            metrics: Some(vec![MetricSpec {
                type_: "Resource".to_owned(),
                resource: Some(ResourceMetricSource {
                    name: "cpu".to_owned(),
                    target: MetricTarget {
                        type_: "Utilization".to_owned(),
                        average_utilization: Some(chosen.cpu_utilization),
                        ..MetricTarget::default()
                    },
                }),
                ..MetricSpec::default()
            }]),
            behavior: chosen.behavior.clone().map(as_stored),
        }),
        status: None,
    })
}

/// The disruption budget of a component that can have more than one pod. None for a single pod, since an
/// eviction by a node drain could then only wait.
#[must_use]
pub fn disruption_budget(
    portal: &ResolvedPortal,
    workload: &ResolvedWorkload,
    component: Component,
    name: String,
) -> Option<PodDisruptionBudget> {
    if workload.scaling.most() <= 1 {
        return None;
    }
    let budget = workload.spec.pod_disruption_budget.clone().unwrap_or_default();
    Some(PodDisruptionBudget {
        metadata: labels::owned(portal, component, name),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(budget.max_unavailable)),
            selector: Some(labels::selector(portal, component)),
            // A pod that is not ready must not block the drain of its node.
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            min_available: None,
        }),
        status: None,
    })
}
