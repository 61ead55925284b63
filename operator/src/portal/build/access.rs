//! The `ServiceAccount` of each component. It has no RBAC rights, and its token is not mounted.

use k8s_openapi::api::core::v1::ServiceAccount;

use crate::{
    cluster::{
        labels::{self, Component},
        names,
    },
    portal::resolve::ResolvedPortal,
};

/// One ServiceAccount per component.
#[must_use]
pub fn service_accounts(portal: &ResolvedPortal) -> Vec<ServiceAccount> {
    let account = |component, name| ServiceAccount {
        metadata: labels::owned(portal, component, name),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    };
    vec![
        account(Component::Hardware, names::hardware(&portal.name)),
        account(Component::Portal, names::portal(&portal.name)),
    ]
}
