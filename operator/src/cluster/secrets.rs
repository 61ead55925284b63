//! The content of the operator's own Secrets. It is read again only once the watch, which sees
//! metadata alone, has seen another version of it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt};

use super::cache::{Cache, Child, SECRET};

/// The Secrets of one portal.
pub struct OwnSecrets<'a> {
    /// The Secrets of its namespace.
    pub api: Api<Secret>,
    /// Namespace of the portal.
    pub namespace: &'a str,
    /// Name of the portal.
    pub portal: &'a str,
    /// What the watches have seen.
    pub cache: &'a Cache,
    /// What was read of all portals.
    pub contents: &'a SecretContents,
}

/// Secrets as they were last read or written, by namespace, portal and name.
#[derive(Clone, Default)]
pub struct SecretContents {
    known: Arc<Mutex<HashMap<Key, Secret>>>,
}

type Key = (String, String, String);

impl OwnSecrets<'_> {
    /// Whether the watch shows a Secret of this name that carries the operator's label.
    #[must_use]
    pub fn is_seen(&self, name: &str) -> bool {
        self.cache.get(self.namespace, self.portal, SECRET, name).is_some()
    }

    /// One Secret; none if it does not exist.
    pub async fn get(&self, name: &str) -> Result<Option<Secret>, kube::Error> {
        let seen = self.cache.get(self.namespace, self.portal, SECRET, name);
        if let Some(known) = seen.and_then(|seen| self.known(&seen)) {
            return Ok(Some(known));
        }
        let found = self.api.get_opt(name).await?;
        match &found {
            Some(secret) => self.remember(secret),
            None => {
                self.contents.with(|known| known.remove(&self.key(name)));
            }
        }
        Ok(found)
    }

    /// The content of a Secret as the watch saw it last, if that was read.
    #[must_use]
    pub fn known(&self, seen: &Child) -> Option<Secret> {
        let known = self.contents.with(|known| known.get(&self.key(&seen.name)).cloned());
        known.filter(|known| {
            known.resource_version().as_deref() == Some(seen.resource_version.as_str())
        })
    }

    /// Takes note of a Secret that was just written.
    pub fn remember(&self, secret: &Secret) {
        let mut secret = secret.clone();
        secret.metadata.managed_fields = None;
        self.contents.with(|known| known.insert(self.key(&secret.name_any()), secret));
    }

    fn key(&self, name: &str) -> Key {
        (self.namespace.to_owned(), self.portal.to_owned(), name.to_owned())
    }
}

impl SecretContents {
    /// Forgets Secrets that the watches do not see.
    pub fn retain_seen(&self, cache: &Cache) {
        self.with(|known| {
            known.retain(|(namespace, portal, name), _| {
                cache.get(namespace, portal, SECRET, name).is_some()
            });
        });
    }

    fn with<T>(&self, act: impl FnOnce(&mut HashMap<Key, Secret>) -> T) -> T {
        act(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
