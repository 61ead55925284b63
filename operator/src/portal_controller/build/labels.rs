//! Labels and owner references of children.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::ObjectMeta;

use crate::portal_controller::validate::ValidatedPortal;

/// Label with the name of the portal.
pub const INSTANCE: &str = "app.kubernetes.io/instance";
const NAME: &str = "app.kubernetes.io/name";
/// Label with what a pod does for the portal.
pub const COMPONENT: &str = "app.kubernetes.io/component";
const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// Selects what this operator made, in every watch.
pub const MANAGED_SELECTOR: &str = "app.kubernetes.io/managed-by=gill-hicks-operator";

/// What a child belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    /// The API.
    Hardware,
    /// The web page.
    Portal,
    /// The Job that brings the schema up to date.
    Migration,
}

impl Component {
    /// The value of the component label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hardware => "hardware",
            Self::Portal => "portal",
            Self::Migration => "migration",
        }
    }
}

/// The labels by which Services, Deployments and policies find the pods of one component. They can
/// never change: a Deployment's selector is immutable.
#[must_use]
pub fn selecting(portal: &ValidatedPortal, component: Component) -> BTreeMap<String, String> {
    BTreeMap::from([
        (NAME.to_owned(), "gill-hicks".to_owned()),
        (INSTANCE.to_owned(), portal.name.clone()),
        (COMPONENT.to_owned(), component.as_str().to_owned()),
    ])
}

/// A selector for the pods of one component.
#[must_use]
pub fn selector(portal: &ValidatedPortal, component: Component) -> LabelSelector {
    LabelSelector { match_labels: Some(selecting(portal, component)), match_expressions: None }
}

/// The metadata of a child that goes when the portal goes.
#[must_use]
pub fn owned(portal: &ValidatedPortal, component: Component, name: String) -> ObjectMeta {
    ObjectMeta {
        owner_references: Some(vec![portal.owner.clone()]),
        ..unowned(portal, component, name)
    }
}

/// The metadata of a child that stays.
#[must_use]
pub fn unowned(portal: &ValidatedPortal, component: Component, name: String) -> ObjectMeta {
    let mut labels = selecting(portal, component);
    labels.insert(MANAGED_BY.to_owned(), "gill-hicks-operator".to_owned());
    ObjectMeta {
        name: Some(name),
        namespace: Some(portal.namespace.clone()),
        labels: Some(labels),
        ..ObjectMeta::default()
    }
}
