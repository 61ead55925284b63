//! The condition `AutoscalingActive`.

use crds::{ConditionType, Reason};
use serde_json::Value;

use super::Judgement;
use crate::portal::apply::Applied;

/// By the autoscalers' own conditions.
pub(super) fn active(applied: &Applied) -> Judgement {
    let kind = ConditionType::AutoscalingActive;
    let mut scalers = applied.of_kind("HorizontalPodAutoscaler").peekable();
    if scalers.peek().is_none() {
        return Judgement::new(kind, false, Reason::Disabled, "the numbers of pods are fixed");
    }
    let inactive = scalers.find_map(|scaler| {
        let name = scaler.metadata.name.clone().unwrap_or_default();
        let conditions = scaler.data.pointer("/status/conditions").and_then(Value::as_array);
        let active = conditions.into_iter().flatten().find(|one| one["type"] == "ScalingActive");
        match active {
            Some(active) if active["status"] == "True" => None,
            Some(active) => {
                Some(format!("{name}: {}", active["message"].as_str().unwrap_or_default()))
            }
            None => Some(format!("{name} has not looked at metrics yet")),
        }
    });
    match inactive {
        Some(message) => Judgement::new(kind, false, Reason::MetricsUnavailable, message),
        None => {
            Judgement::new(kind, true, Reason::AsExpected, "the numbers of pods follow the load")
        }
    }
}
