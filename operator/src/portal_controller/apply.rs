//! The one step that writes children: server-side apply in an order in which nothing waits for what
//! comes later, then the removal of what is no longer wanted.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use k8s_openapi::api::{apps::v1::Deployment, autoscaling::v2::HorizontalPodAutoscaler};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, Preconditions},
};
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tracing::info;

use super::{
    build::Children,
    live::{Cache, LiveDeployment, Migration},
    validate::{Scaling, ValidatedPortal},
};

/// Owner of every field that we render.
const MANAGER: &str = "gill-hicks-operator";
/// Owner of `spec.replicas`, where no autoscaler owns it. A manager of its own, since the main one
/// would reset the field to 1 by no longer naming it.
const REPLICAS_MANAGER: &str = "gill-hicks-operator/replicas";

/// The children as they are after they were applied. Only [`Applier::apply`] makes one.
#[derive(Debug, Default)]
pub struct Applied {
    objects: Vec<(String, Arc<DynamicObject>)>,
}

impl Applied {
    /// The child of this kind and name.
    #[must_use]
    pub fn get(&self, kind: &str, name: &str) -> Option<&DynamicObject> {
        let mut objects = self.objects.iter();
        let found = objects.find(|(its, object)| its == kind && object.name_any() == name);
        found.map(|(_, object)| &**object)
    }

    /// Every child of this kind.
    pub fn of_kind(&self, kind: &str) -> impl Iterator<Item = &DynamicObject> {
        let objects = self.objects.iter().filter(move |(its, _)| its == kind);
        objects.map(|(_, object)| &**object)
    }
}

/// The API server did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
#[error("failed to {verb} {kind} {name}: {source}")]
pub struct ApplyError {
    verb: &'static str,
    kind: String,
    name: String,
    /// What the API server said.
    pub source: Box<kube::Error>,
}

/// Writes children, and remembers what it wrote so that nothing is written twice.
#[derive(Clone)]
pub struct Applier {
    client: Client,
    /// By the portal's uid: the hash of each child as it was last rendered.
    written: Arc<Mutex<HashMap<String, Written>>>,
}

type Written = HashMap<(String, String), [u8; 32]>;

impl Applier {
    /// An applier that has written nothing yet.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client, written: Arc::default() }
    }

    /// Forgets portals that are gone.
    pub fn retain(&self, is_alive: impl Fn(&str) -> bool) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.retain(|uid, _| is_alive(uid));
    }

    /// Writes what differs and removes what is no longer wanted.
    pub async fn apply(
        &self,
        portal: &ValidatedPortal,
        children: Children,
        cache: &Cache,
    ) -> Result<Applied, ApplyError> {
        // Without `..`: a kind of child that is not applied does not compile.
        let Children {
            service_accounts,
            secrets,
            config_maps,
            volume_claims,
            services,
            network_policies,
            migration,
            deployments,
            held_back,
            scaling,
            autoscalers,
            disruption_budgets,
            ingresses,
        } = children;
        let mut pass = Pass { applier: self, portal, cache, applied: Applied::default() };
        pass.put_all(&service_accounts).await?;
        pass.put_all(&secrets).await?;
        pass.put_all(&config_maps).await?;
        pass.put_all(&volume_claims).await?;
        pass.put_all(&services).await?;
        pass.put_all(&network_policies).await?;
        pass.put_all(migration.as_slice()).await?;
        for deployment in &deployments {
            let name = deployment.name_any();
            let scaling = scaling.iter().find(|(its, _)| *its == name).map(|(_, scaling)| scaling);
            pass.put_deployment(deployment, scaling).await?;
        }
        pass.put_all(&autoscalers).await?;
        pass.put_all(&disruption_budgets).await?;
        pass.put_all(&ingresses).await?;
        pass.prune(&held_back).await?;
        Ok(pass.applied)
    }
}

/// One pass over one portal's children.
struct Pass<'a> {
    applier: &'a Applier,
    portal: &'a ValidatedPortal,
    cache: &'a Cache,
    applied: Applied,
}

impl Pass<'_> {
    async fn put_all<K>(&mut self, objects: &[K]) -> Result<(), ApplyError>
    where
        K: Resource<DynamicType = ()> + Serialize,
    {
        for object in objects {
            self.put(object).await?;
        }
        Ok(())
    }

    /// Applies one child, unless it was written like this before and still is like this.
    async fn put<K>(&mut self, object: &K) -> Result<(), ApplyError>
    where
        K: Resource<DynamicType = ()> + Serialize,
    {
        let resource = ApiResource::erase::<K>(&());
        let name = object.meta().name.clone().unwrap_or_default();
        let rendered = serde_json::to_value(object).expect("children are plain data");
        let hash: [u8; 32] = Sha256::digest(rendered.to_string()).into();
        let live = self.cache.get(&resource, &self.portal.namespace, &name);
        let was_written = self.recall(&resource.kind, &name) == Some(hash);
        let current = match live {
            Some(live) if was_written && is_part_of(&rendered, &as_value(&live)) => live,
            // Secrets are not watched: what was read of them went into the hash.
            None if was_written && resource.kind == "Secret" => return Ok(()),
            _ => {
                let written = self.write(&resource, &name, MANAGER, rendered).await?;
                self.remember(&resource.kind, &name, hash);
                Arc::new(written)
            }
        };
        self.applied.objects.push((resource.kind, current));
        Ok(())
    }

    /// A Deployment, and the number of its pods where that is ours to say.
    async fn put_deployment(
        &mut self,
        deployment: &Deployment,
        scaling: Option<&Scaling>,
    ) -> Result<(), ApplyError> {
        let name = deployment.name_any();
        let resource = ApiResource::erase::<Deployment>(&());
        let autoscaler = ApiResource::erase::<HorizontalPodAutoscaler>(&());
        let namespace = &self.portal.namespace;
        let before = self.cache.get(&resource, namespace, &name);
        let before = before.and_then(|object| LiveDeployment::read(&object));
        let scaler = self.cache.get(&autoscaler, namespace, &name);
        let is_automatic = matches!(scaling, Some(Scaling::Automatic(_)));
        // First: an autoscaler that is still there would take the number over again.
        let was_automatic = match scaler {
            Some(scaler) if !is_automatic => {
                self.delete(&autoscaler, &scaler).await?;
                true
            }
            _ => false,
        };
        self.put(deployment).await?;
        let live = before.map(|before| before.replicas);
        let replicas = scaling.and_then(|scaling| replicas_to_set(scaling, live, was_automatic));
        let Some(replicas) = replicas else { return Ok(()) };
        info!(namespace, deployment = name, replicas, "setting the number of pods");
        let only_replicas = json!({
            "apiVersion": resource.api_version, "kind": resource.kind,
            "metadata": {"name": name},
            "spec": {"replicas": replicas},
        });
        let written = self.write(&resource, &name, REPLICAS_MANAGER, only_replicas).await?;
        self.applied
            .objects
            .retain(|(kind, object)| *kind != resource.kind || object.name_any() != name);
        self.applied.objects.push((resource.kind, Arc::new(written)));
        Ok(())
    }

    /// Removes what is ours and no longer wanted, of the kinds that we manage.
    async fn prune(&mut self, held_back: &[String]) -> Result<(), ApplyError> {
        let wanted: HashSet<(String, String)> = self
            .applied
            .objects
            .iter()
            .map(|(kind, object)| (kind.clone(), object.name_any()))
            .collect();
        for (resource, object) in
            self.cache.owned_by(&self.portal.namespace, &self.portal.owner.uid)
        {
            let name = object.name_any();
            let is_wanted = wanted.contains(&(resource.kind.clone(), name.clone()));
            let is_waiting = resource.kind == "Deployment" && held_back.contains(&name);
            // A failed migration is made anew by the next pass, in case its cause has gone.
            let has_failed = resource.kind == "Job"
                && matches!(Migration::read(&object), Migration::Failed(_))
                && has_rested(&object);
            let is_going = object.metadata.deletion_timestamp.is_some();
            if (is_wanted && !has_failed) || is_waiting || is_going {
                continue;
            }
            self.delete(&resource, &object).await?;
        }
        Ok(())
    }

    async fn write(
        &self,
        resource: &ApiResource,
        name: &str,
        manager: &str,
        object: Value,
    ) -> Result<DynamicObject, ApplyError> {
        let parameters = PatchParams::apply(manager).force();
        let written = self.api(resource).patch(name, &parameters, &Patch::Apply(object)).await;
        written.map_err(failed("apply", &resource.kind, name))
    }

    async fn delete(
        &mut self,
        resource: &ApiResource,
        object: &DynamicObject,
    ) -> Result<(), ApplyError> {
        let name = object.name_any();
        info!(namespace = self.portal.namespace, kind = resource.kind, name, "removing a child");
        let parameters = DeleteParams {
            // Not another object of the same name that came in between.
            preconditions: Some(Preconditions {
                uid: object.metadata.uid.clone(),
                resource_version: None,
            }),
            ..DeleteParams::background()
        };
        self.forget(&resource.kind, &name);
        match self.api(resource).delete(&name, &parameters).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
            Err(error) => Err(failed("delete", &resource.kind, &name)(error)),
        }
    }

    fn api(&self, resource: &ApiResource) -> Api<DynamicObject> {
        Api::namespaced_with(self.applier.client.clone(), &self.portal.namespace, resource)
    }

    fn with_written<T>(&self, act: impl FnOnce(&mut Written) -> T) -> T {
        let mut all = self.applier.written.lock().unwrap_or_else(PoisonError::into_inner);
        act(all.entry(self.portal.owner.uid.clone()).or_default())
    }

    fn recall(&self, kind: &str, name: &str) -> Option<[u8; 32]> {
        self.with_written(|written| written.get(&(kind.to_owned(), name.to_owned())).copied())
    }

    fn remember(&self, kind: &str, name: &str, hash: [u8; 32]) {
        self.with_written(|written| written.insert((kind.to_owned(), name.to_owned()), hash));
    }

    fn forget(&self, kind: &str, name: &str) {
        self.with_written(|written| written.remove(&(kind.to_owned(), name.to_owned())));
    }
}

fn failed<'a>(
    verb: &'static str,
    kind: &'a str,
    name: &'a str,
) -> impl Fn(kube::Error) -> ApplyError + 'a {
    move |source| ApplyError {
        verb,
        kind: kind.to_owned(),
        name: name.to_owned(),
        source: Box::new(source),
    }
}

fn as_value(object: &DynamicObject) -> Value {
    serde_json::to_value(object).expect("a stored object is plain data")
}

/// Whether a failed Job has been left alone for a minute, so that a lasting cause does not make Jobs
/// in a row.
fn has_rested(job: &DynamicObject) -> bool {
    let conditions = job.data.pointer("/status/conditions").and_then(Value::as_array);
    let failed = conditions.into_iter().flatten().find(|one| one["type"] == "Failed");
    let since = failed.and_then(|one| one["lastTransitionTime"].as_str()?.parse().ok());
    since.is_some_and(|since: jiff::Timestamp| {
        jiff::Timestamp::now().duration_since(since) >= jiff::SignedDuration::from_mins(1)
    })
}

/// The number of pods that we have to write now, if any.
#[must_use]
pub fn replicas_to_set(scaling: &Scaling, live: Option<i32>, was_automatic: bool) -> Option<i32> {
    match (scaling, live) {
        // An autoscaler leaves a Deployment with no pods alone.
        (Scaling::Automatic(chosen), None | Some(0)) => Some(chosen.min_replicas),
        (Scaling::Automatic(_), Some(_)) => None,
        (Scaling::Fixed(wanted), live) => (live != Some(*wanted)).then_some(*wanted),
        (Scaling::Kept { initial }, None) => Some(*initial),
        // What the autoscaler had reached is kept, and is ours from now on.
        (Scaling::Kept { .. }, Some(live)) => was_automatic.then_some(live),
    }
}

/// Whether everything rendered is in the live object with the same value. The rest of the live object
/// is the API server's and other managers' business.
fn is_part_of(rendered: &Value, live: &Value) -> bool {
    match (rendered, live) {
        (Value::Object(rendered), Value::Object(live)) => rendered
            .iter()
            .all(|(key, value)| live.get(key).is_some_and(|live| is_part_of(value, live))),
        (Value::Array(rendered), Value::Array(live)) => {
            rendered.len() == live.len()
                && rendered.iter().zip(live).all(|(rendered, live)| is_part_of(rendered, live))
        }
        (rendered, live) => rendered == live,
    }
}

#[cfg(test)]
mod tests {
    use crds::Autoscaling;
    use serde_json::json;

    use super::{Scaling, is_part_of, replicas_to_set};

    #[test]
    fn the_number_of_pods_is_written_at_creation_and_at_each_switch_only() {
        let automatic =
            Scaling::Automatic(Autoscaling { min_replicas: 3, ..Autoscaling::default() });
        let kept = Scaling::Kept { initial: 2 };
        let cases = [
            (&automatic, None, false, Some(3), "at creation, the autoscaler's least"),
            (&automatic, Some(7), false, None, "the autoscaler's own number is left alone"),
            (&automatic, Some(0), false, Some(3), "an autoscaler does not start from none"),
            (&kept, None, false, Some(2), "at creation"),
            (&kept, Some(7), true, Some(7), "switched off: what runs goes on running"),
            (&kept, Some(7), false, None, "anybody may scale it afterwards"),
            (&Scaling::Fixed(4), Some(7), true, Some(4), "switched to a number"),
            (&Scaling::Fixed(4), Some(4), false, None, "as it should be"),
            (&Scaling::Fixed(4), None, false, Some(4), "at creation"),
            (&Scaling::Fixed(0), Some(2), false, Some(0), "stopped"),
        ];
        for (scaling, live, was_automatic, expected, why) in cases {
            assert_eq!(replicas_to_set(scaling, live, was_automatic), expected, "{why}");
        }
    }

    #[test]
    fn what_others_added_is_no_difference_and_what_is_missing_or_changed_is() {
        let rendered = json!({"spec": {"ports": [{"port": 80}], "type": "ClusterIP"}});
        let live =
            json!({"spec": {"ports": [{"port": 80, "nodePort": 1}], "type": "ClusterIP", "x": 1}});
        assert!(is_part_of(&rendered, &live));
        for changed in [
            json!({"spec": {"ports": [{"port": 81}], "type": "ClusterIP"}}),
            json!({"spec": {"ports": [{"port": 80}]}}),
            json!({"spec": {"ports": [{"port": 80}, {"port": 81}], "type": "ClusterIP"}}),
        ] {
            assert!(!is_part_of(&rendered, &changed), "{changed}");
        }
    }
}
