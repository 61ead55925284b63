//! Where an operator works.

use std::fmt;

use k8s_openapi::NamespaceResourceScope;
use kube::{Api, Client, Resource};

/// Where an operator works: in one namespace, or in all.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// One namespace.
    Namespace(String),
    /// Every namespace.
    Cluster,
}

impl Scope {
    /// The objects of one kind in this scope.
    #[must_use]
    pub fn api<K>(&self, client: &Client) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType: Default>,
    {
        match self {
            Self::Namespace(name) => Api::namespaced(client.clone(), name),
            Self::Cluster => Api::all(client.clone()),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Namespace(name) => write!(f, "namespace {name}"),
            Self::Cluster => f.write_str("all namespaces"),
        }
    }
}
