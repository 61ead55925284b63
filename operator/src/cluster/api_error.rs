//! Errors of the API server as messages, with advice on what to do.

/// The message of the API server's `Status`, followed by [`advice`] if there is any.
#[must_use]
pub fn in_words(error: &kube::Error) -> String {
    let kube::Error::Api(status) = error else { return error.to_string() };
    match advice(&status.message) {
        Some(advice) => format!("{}; {advice}", status.message),
        None => status.message.clone(),
    }
}

/// What can be done about a refusal, and by whom. None if nothing is known beyond the message.
#[must_use]
pub fn advice(message: &str) -> Option<&'static str> {
    // Quota and terminating namespaces come first: their messages contain "forbidden" too.
    let known = [
        (
            "exceeded quota",
            "raise the ResourceQuota of this namespace, or lower what the spec asks for",
        ),
        (
            "failed quota",
            "the ResourceQuota of this namespace requires these amounts to be set; set them under resources in the spec",
        ),
        ("being terminated", "the namespace is being deleted, so no object can be created in it"),
        (
            "ValidatingAdmissionPolicy",
            "change the spec so that the policy allows it, or ask the cluster's administrator for an exception",
        ),
        (
            "admission webhook",
            "change the spec so that the webhook allows it, or ask the cluster's administrator for an exception",
        ),
        (
            "violates PodSecurity",
            "the pods meet the restricted standard; ask the cluster's administrator which one this namespace enforces",
        ),
        (
            "cannot ",
            "the operator lacks a right; its administrator binds its Role in this namespace",
        ),
    ];
    known.into_iter().find(|(mark, _)| message.contains(mark)).map(|(_, advice)| advice)
}

/// Whether an apply without force was refused because another field manager owns a field that it would
/// change.
#[must_use]
pub fn is_owned_by_another(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return false };
    let mut causes = status.details.iter().flat_map(|details| &details.causes);
    causes.any(|cause| cause.reason == "FieldManagerConflict")
}

#[cfg(test)]
mod tests {
    use kube::core::Status;
    use serde_json::json;

    use super::{in_words, is_owned_by_another};

    #[test]
    fn a_field_of_another_manager_is_told_from_an_object_that_has_changed() {
        let refused = |causes: serde_json::Value| {
            let status: Status = serde_json::from_value(json!({
                "status": "Failure", "message": "", "reason": "Conflict", "code": 409,
                "details": {"causes": causes},
            }))
            .expect("a status");
            kube::Error::Api(status.boxed())
        };
        let owned = json!([{"reason": "FieldManagerConflict", "field": ".spec.replicas"}]);
        assert!(is_owned_by_another(&refused(owned)));
        assert!(!is_owned_by_another(&refused(json!([]))));
    }

    #[test]
    fn a_refusal_is_the_servers_message_followed_by_advice() {
        let refused = |message: &str| {
            kube::Error::Api(Status::failure(message, "Forbidden").with_code(403).boxed())
        };
        let by_quota = in_words(&refused("services \"p\" is forbidden: exceeded quota: q"));
        assert_eq!(
            by_quota,
            "services \"p\" is forbidden: exceeded quota: q; raise the ResourceQuota of this namespace, or lower what the spec asks for"
        );
        let by_rights = in_words(&refused(
            "services is forbidden: User \"u\" cannot create resource \"services\"",
        ));
        assert!(by_rights.ends_with("binds its Role in this namespace"), "{by_rights}");
        assert_eq!(in_words(&refused("port: Invalid value")), "port: Invalid value");
    }
}
