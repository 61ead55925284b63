//! Labels and owner references of children.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference};
use kube::api::ObjectMeta;

/// Label with the name of the portal.
pub const INSTANCE: &str = "app.kubernetes.io/instance";
const NAME: &str = "app.kubernetes.io/name";
/// Label with the [`Component`].
pub const COMPONENT: &str = "app.kubernetes.io/component";
const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// Selects the objects that this operator made, in every watch.
pub const MANAGED_SELECTOR: &str = "app.kubernetes.io/managed-by=gill-hicks-operator";

/// The object that children belong to.
pub trait ChildOwner {
    /// Its name, which is the value of the label [`INSTANCE`].
    fn name(&self) -> &str;
    /// Its namespace, which is that of the children.
    fn namespace(&self) -> &str;
    /// The reference by which the garbage collector removes the children with it.
    fn owner_reference(&self) -> OwnerReference;
}

/// The part of a portal that a child belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    /// The API.
    Hardware,
    /// The web page.
    Portal,
    /// The program that reports for the portal's sources.
    Collector,
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
            Self::Collector => "collector",
            Self::Migration => "migration",
        }
    }
}

/// The labels by which Services, Deployments and policies find the pods of one component. They can
/// never change: a Deployment's selector is immutable.
#[must_use]
pub fn selecting(portal: &str, component: Component) -> BTreeMap<String, String> {
    BTreeMap::from([
        (NAME.to_owned(), "gill-hicks".to_owned()),
        (INSTANCE.to_owned(), portal.to_owned()),
        (COMPONENT.to_owned(), component.as_str().to_owned()),
    ])
}

/// A selector for the pods of one component.
#[must_use]
pub fn selector(portal: &impl ChildOwner, component: Component) -> LabelSelector {
    LabelSelector {
        match_labels: Some(selecting(portal.name(), component)),
        match_expressions: None,
    }
}

/// The metadata of a child that the garbage collector removes with the portal.
#[must_use]
pub fn owned(portal: &impl ChildOwner, component: Component, name: String) -> ObjectMeta {
    ObjectMeta {
        owner_references: Some(vec![portal.owner_reference()]),
        ..unowned(portal, component, name)
    }
}

/// The metadata of a child without an owner reference, which stays when the portal is deleted.
#[must_use]
pub fn unowned(portal: &impl ChildOwner, component: Component, name: String) -> ObjectMeta {
    let mut labels = selecting(portal.name(), component);
    labels.insert(MANAGED_BY.to_owned(), "gill-hicks-operator".to_owned());
    ObjectMeta {
        name: Some(name),
        namespace: Some(portal.namespace().to_owned()),
        labels: Some(labels),
        ..ObjectMeta::default()
    }
}
