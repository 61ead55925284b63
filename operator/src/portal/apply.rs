//! The one step that writes children: server-side apply in an order in which no child needs a later one,
//! then the deletion of children that are no longer wanted.

mod written;

use std::{collections::HashSet, sync::Arc, time::Duration};

use k8s_openapi::api::{
    apps::v1::Deployment, autoscaling::v2::HorizontalPodAutoscaler, batch::v1::Job,
    core::v1::Secret,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, Preconditions},
    core::Status,
};
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tracing::info;

use self::written::{LAG, Record, Written};
use super::{
    build::Children,
    live::{LiveDeployment, Migration},
    resolve::{ResolvedPortal, Scaling},
};
use crate::cluster::{
    api_error,
    cache::{Child, SECRET, resource_of},
    names,
    retry::TAKEN,
    secrets::OwnSecrets,
};

/// Field manager of every field that the operator renders.
const MANAGER: &str = "gill-hicks-operator";
/// Field manager of `spec.replicas`, unless an autoscaler manages it. It is another one than [`MANAGER`],
/// whose applies do not contain the field: the API server would reset it to its default of 1.
const REPLICAS_MANAGER: &str = "gill-hicks-operator/replicas";

/// Hash of the rendered child at its last write. If it equals the present hash, the live object has no
/// field that is no longer rendered, so the next leader need not write every child anew.
const RENDERED_ANNOTATION: &str = "gill-hicks.dev/rendered";

/// The live children that hold what was rendered. Outside of tests, only [`Applier::apply`] makes one.
#[derive(Debug, Default)]
pub struct Applied {
    children: Vec<Arc<Child>>,
    holds_credentials: bool,
    /// Time until the next check whether the watches have shown every write; none if they have.
    confirm_after: Option<Duration>,
}

impl Applied {
    /// Children as if they had been applied.
    #[cfg(test)]
    pub(super) fn of(children: Vec<Child>, holds_credentials: bool) -> Self {
        let children = children.into_iter().map(Arc::new).collect();
        Self { children, holds_credentials, confirm_after: None }
    }

    /// The child of this kind and name.
    #[must_use]
    pub fn get(&self, kind: &str, name: &str) -> Option<DynamicObject> {
        let mut children = self.children.iter();
        let found = children.find(|child| child.kind == kind && child.name == name);
        found.map(|child| child.read())
    }

    /// Whether the child of this kind and name is known to hold what was rendered.
    #[must_use]
    pub fn contains(&self, kind: &str, name: &str) -> bool {
        self.children.iter().any(|child| child.kind == kind && child.name == name)
    }

    /// Whether the pods' Secret is known to hold the credentials file that was rendered.
    #[must_use]
    pub fn holds_credentials(&self) -> bool {
        self.holds_credentials
    }

    /// Time until the next check whether the watches have shown every write; none if they have.
    #[must_use]
    pub fn confirm_after(&self) -> Option<Duration> {
        self.confirm_after
    }

    /// Every child of this kind.
    pub fn of_kind(&self, kind: &str) -> impl Iterator<Item = DynamicObject> {
        let children = self.children.iter().filter(move |child| child.kind == kind);
        children.map(|child| child.read())
    }
}

/// A request to the API server failed.
#[derive(Debug, thiserror::Error)]
#[error("failed to {verb} {kind} {name}: {}", api_error::in_words(source))]
pub struct ApplyError {
    verb: &'static str,
    kind: String,
    name: String,
    /// The answer of the API server, or the lack of one.
    pub source: Box<kube::Error>,
}

/// Writes children, and records what it wrote so that an unchanged child is not written again.
#[derive(Clone)]
pub struct Applier {
    client: Client,
    written: Written,
}

impl Applier {
    /// An applier that has written nothing yet.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client, written: Written::default() }
    }

    /// Forgets portals that no longer exist.
    pub fn retain(&self, is_alive: impl Fn(&str) -> bool) {
        self.written.retain(is_alive);
    }

    /// Writes children that differ and deletes those that are no longer wanted. It ends at the first error,
    /// and returns it with the children that were applied until then.
    pub async fn apply(
        &self,
        portal: &ResolvedPortal,
        children: &Children,
        live: &OwnSecrets<'_>,
    ) -> (Applied, Result<(), ApplyError>) {
        let mut pass = ChildrenWriter { applier: self, portal, live, applied: Applied::default() };
        let outcome = pass.put_children(children).await;
        pass.applied.holds_credentials = pass.holds_credentials(&children.secrets);
        let is_pending =
            self.written.of(&portal.owner.uid, |records| records.values().any(Record::is_pending));
        pass.applied.confirm_after = is_pending.then_some(LAG);
        (pass.applied, outcome)
    }
}

/// One pass over one portal's children.
struct ChildrenWriter<'a> {
    applier: &'a Applier,
    portal: &'a ResolvedPortal,
    live: &'a OwnSecrets<'a>,
    applied: Applied,
}

impl ChildrenWriter<'_> {
    async fn put_children(&mut self, children: &Children) -> Result<(), ApplyError> {
        // No `..`, so that a kind of child that is not applied does not compile.
        let Children {
            service_accounts,
            secrets,
            config_maps,
            volume_claims,
            services,
            network_policies,
            migration,
            deployments,
            blocked_by_migration,
            scaling,
            autoscalers,
            disruption_budgets,
            ingresses,
        } = children;
        self.put_all(service_accounts).await?;
        self.put_all(secrets).await?;
        self.put_all(config_maps).await?;
        self.put_all(volume_claims).await?;
        self.put_all(services).await?;
        self.put_all(network_policies).await?;
        if let Some(job) = migration {
            self.put_migration(job).await?;
        }
        for deployment in deployments {
            let name = deployment.name_any();
            let scaling = scaling.iter().find(|(its, _)| *its == name).map(|(_, scaling)| scaling);
            self.put_deployment(deployment, scaling).await?;
        }
        self.put_all(autoscalers).await?;
        self.put_all(disruption_budgets).await?;
        self.put_all(ingresses).await?;
        self.prune(blocked_by_migration).await
    }

    /// Whether the pods can read the credentials file that was rendered. That depends neither on the
    /// other children, of which one may be refused, nor on the other key of the same Secret.
    fn holds_credentials(&self, secrets: &[Secret]) -> bool {
        let name = names::database_secret(&self.portal.name);
        if self.applied.contains(SECRET, &name) {
            return true;
        }
        let file = |secret: &Secret| secret.data.as_ref()?.get(names::CREDENTIALS_KEY).cloned();
        let rendered = secrets.iter().find(|secret| secret.name_any() == name).and_then(file);
        let known = self.see(SECRET, &name).and_then(|seen| self.live.known(&seen));
        rendered.is_some() && rendered == known.as_ref().and_then(file)
    }

    async fn put_all<K>(&mut self, objects: &[K]) -> Result<(), ApplyError>
    where
        K: Resource<DynamicType = ()> + Serialize,
    {
        for object in objects {
            self.put(object).await?;
        }
        Ok(())
    }

    /// Applies one child, unless the live object holds what is rendered.
    async fn put<K>(&mut self, object: &K) -> Result<(), ApplyError>
    where
        K: Resource<DynamicType = ()> + Serialize,
    {
        let resource = ApiResource::erase::<K>(&());
        let name = object.meta().name.clone().unwrap_or_default();
        let mut rendered = serde_json::to_value(object).expect("children are plain data");
        let hash = hash_of(&rendered);
        // A hash of secret values must not be readable as an annotation.
        if resource.kind != SECRET {
            rendered["metadata"]["annotations"][RENDERED_ANNOTATION] = hex::encode(hash).into();
        }
        let seen = self.see(&resource.kind, &name);
        let up_to_date =
            self.find_up_to_date(&resource.kind, &name, hash, &rendered, seen.as_ref());
        let current = if let Some(child) = up_to_date {
            self.live.cache.evict_rendered(&self.portal.namespace, &self.portal.name, &child);
            child
        } else {
            if self.current(&resource.kind, &name).is_none() {
                self.ensure_name_is_free(&resource, &name).await?;
            }
            let written = self.write(&resource, &name, rendered).await?;
            let before = seen.map(|seen| seen.resource_version.clone());
            self.record_write(&resource.kind, hash, before, written)
        };
        self.applied.children.push(current);
        Ok(())
    }

    /// The live child, if it holds everything rendered and so needs no write.
    fn find_up_to_date(
        &self,
        kind: &str,
        name: &str,
        hash: [u8; 32],
        rendered: &Value,
        seen: Option<&Arc<Child>>,
    ) -> Option<Arc<Child>> {
        let is_up_to_date = |seen: &Child| match kind {
            // The watch shows no content, but it may have been read.
            SECRET => {
                let known = self.live.known(seen);
                known.is_some_and(|known| is_part_of(rendered, &json!(known)))
            }
            _ => is_part_of(rendered, &json!(seen.read())),
        };
        let recorded = self.with_record(kind, name, |record| {
            if record.hash != hash {
                return None;
            }
            if let Some(current) = record.current(seen, |uid| self.live.cache.was_deleted(uid)) {
                return Some(current);
            }
            let seen = seen.filter(|seen| is_up_to_date(seen))?;
            record.confirm(seen);
            Some(Arc::clone(seen))
        });
        if let Some(recorded) = recorded {
            return recorded;
        }
        // Written by an earlier leader.
        let seen = seen.filter(|seen| is_up_to_date(seen))?;
        self.insert_record(kind, name, Record::found(hash, seen));
        Some(Arc::clone(seen))
    }

    /// Applies a Job, whose template is immutable. One that has succeeded is left as it is; one that has not
    /// is deleted if it was rendered differently, and created anew by the next pass.
    async fn put_migration(&mut self, job: &Job) -> Result<(), ApplyError> {
        let resource = ApiResource::erase::<Job>(&());
        let name = job.name_any();
        let Some(current) = self.current(&resource.kind, &name) else { return self.put(job).await };
        let object = current.read();
        let rendered = serde_json::to_value(job).expect("children are plain data");
        // What others changed of its metadata is put right as with every other child.
        let template = |job: &Value| job["spec"]["template"].clone();
        let has_template = is_part_of(&template(&rendered), &template(&object.data));
        let is_ours = current.owner.as_ref() == Some(&self.portal.owner.uid);
        if has_template || !is_ours {
            return self.put(job).await;
        }
        if Migration::read(&object) != Migration::Succeeded && !current.is_terminating {
            self.delete(&resource, &current).await?;
        }
        self.applied.children.push(current);
        Ok(())
    }

    /// Applies a Deployment and, where the operator decides it, the number of its pods.
    async fn put_deployment(
        &mut self,
        deployment: &Deployment,
        scaling: Option<&Scaling>,
    ) -> Result<(), ApplyError> {
        let name = deployment.name_any();
        let resource = ApiResource::erase::<Deployment>(&());
        let autoscaler = ApiResource::erase::<HorizontalPodAutoscaler>(&());
        let namespace = &self.portal.namespace;
        // A Deployment whose number of pods was never set counts as new: the operator may have ended between
        // the two writes.
        let before = self.current(&resource.kind, &name).filter(|child| child.is_scaled);
        let before = before.and_then(|child| LiveDeployment::read(&child.read()));
        let scaler = self.see(&autoscaler.kind, &name);
        let is_automatic = matches!(scaling, Some(Scaling::Automatic(_)));
        // The autoscaler is deleted first: it would set the number again.
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
        // It is written even if it equals the API server's default: of a field without a manager, the API
        // server does not record that an autoscaler has changed it.
        let Some(replicas) = replicas else { return Ok(()) };
        info!(namespace, deployment = name, replicas, "setting the number of pods");
        let only_replicas = json!({
            "apiVersion": resource.api_version, "kind": resource.kind,
            "metadata": {"name": name},
            "spec": {"replicas": replicas},
        });
        let mut parameters = PatchParams::apply(REPLICAS_MANAGER);
        // A number that the watches have not shown yet belongs to whoever set it.
        parameters.force = live.is_some();
        let written =
            self.api(&resource).patch(&name, &parameters, &Patch::Apply(only_replicas)).await;
        let written = match written {
            Err(error) if live.is_none() && api_error::is_owned_by_another(&error) => {
                info!(namespace, deployment = name, "somebody else has set the number of pods");
                return Ok(());
            }
            written => written.map_err(failed("apply", &resource.kind, &name))?,
        };
        let written = Arc::new(Child::new(&resource.kind, written));
        self.with_record(&resource.kind, &name, |record| record.supersede(&written));
        self.applied.children.retain(|child| child.kind != resource.kind || child.name != name);
        self.applied.children.push(written);
        Ok(())
    }

    /// Deletes this portal's children that are no longer wanted.
    async fn prune(&mut self, blocked_by_migration: &[String]) -> Result<(), ApplyError> {
        let wanted: HashSet<(&str, &str)> = self
            .applied
            .children
            .iter()
            .map(|child| (child.kind.as_str(), child.name.as_str()))
            .collect();
        let mut unwanted = Vec::new();
        for child in self.live.cache.of_portal(&self.portal.namespace, &self.portal.name) {
            // Secrets are not pruned; the garbage collector removes them with the portal.
            let Some(resource) = resource_of(&child.kind) else { continue };
            let is_ours = child.owner.as_ref() == Some(&self.portal.owner.uid);
            let is_wanted = wanted.contains(&(child.kind.as_str(), child.name.as_str()));
            let is_waiting =
                child.kind == "Deployment" && blocked_by_migration.contains(&child.name);
            // A failed migration is deleted, so that the next pass creates it anew: its cause may have ended.
            let has_failed = child.kind == "Job" && has_failed_and_rested(&child.read());
            if is_ours && !child.is_terminating && !is_waiting && (!is_wanted || has_failed) {
                unwanted.push((resource, child));
            }
        }
        for (resource, child) in unwanted {
            self.delete(resource, &child).await?;
        }
        Ok(())
    }

    /// A forced apply would take over any object of this name. An object that the watches do not show lacks
    /// the operator's label, so it is not this portal's unless its owner reference says so.
    async fn ensure_name_is_free(
        &self,
        resource: &ApiResource,
        name: &str,
    ) -> Result<(), ApplyError> {
        let found = self.api(resource).get_metadata_opt(name).await;
        let Some(found) = found.map_err(failed("read", &resource.kind, name))? else {
            return Ok(());
        };
        let portal = &self.portal.owner.uid;
        if found.owner_references().iter().any(|owner| owner.uid == *portal) {
            return Ok(());
        }
        let taken = "an object of this name exists and is not this portal's; delete it, or give the portal another name";
        let status = Status::failure(taken, TAKEN).with_code(409).boxed();
        Err(failed("apply", &resource.kind, name)(kube::Error::Api(status)))
    }

    async fn write(
        &self,
        resource: &ApiResource,
        name: &str,
        object: Value,
    ) -> Result<DynamicObject, ApplyError> {
        let parameters = PatchParams::apply(MANAGER).force();
        let written = self.api(resource).patch(name, &parameters, &Patch::Apply(object)).await;
        written.map_err(failed("apply", &resource.kind, name))
    }

    async fn delete(&mut self, resource: &ApiResource, child: &Child) -> Result<(), ApplyError> {
        let name = child.name.clone();
        info!(namespace = self.portal.namespace, kind = resource.kind, name, "deleting a child");
        let parameters = DeleteParams {
            // An object of the same name that was created meanwhile must not be deleted.
            preconditions: Some(Preconditions {
                uid: Some(child.uid.clone()),
                resource_version: None,
            }),
            ..DeleteParams::background()
        };
        self.forget_write(&resource.kind, &name);
        match self.api(resource).delete(&name, &parameters).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
            Err(error) => Err(failed("delete", &resource.kind, &name)(error)),
        }
    }

    fn api(&self, resource: &ApiResource) -> Api<DynamicObject> {
        Api::namespaced_with(self.applier.client.clone(), &self.portal.namespace, resource)
    }

    /// One child as the watches last showed it.
    fn see(&self, kind: &str, name: &str) -> Option<Arc<Child>> {
        self.live.cache.get(&self.portal.namespace, &self.portal.name, kind, name)
    }

    /// The same, or the answer to a write that the watches have not shown yet.
    fn current(&self, kind: &str, name: &str) -> Option<Arc<Child>> {
        let seen = self.see(kind, name);
        let was_deleted = |uid: &str| self.live.cache.was_deleted(uid);
        let current =
            self.with_record(kind, name, |record| record.current(seen.as_ref(), was_deleted));
        current.flatten().or(seen)
    }

    fn with_record<T>(
        &self,
        kind: &str,
        name: &str,
        act: impl FnOnce(&mut Record) -> T,
    ) -> Option<T> {
        let key = (kind.to_owned(), name.to_owned());
        let portal = &self.portal.owner.uid;
        self.applier.written.of(portal, |records| records.get_mut(&key).map(act))
    }

    fn record_write(
        &self,
        kind: &str,
        hash: [u8; 32],
        before: Option<String>,
        written: DynamicObject,
    ) -> Arc<Child> {
        let mut child = written;
        if kind == SECRET {
            if let Ok(secret) = child.clone().try_parse::<Secret>() {
                self.live.remember(&secret);
            }
            child.data = Value::Null;
        }
        let child = Arc::new(Child::new(kind, child));
        self.insert_record(kind, &child.name, Record::new(hash, before, Arc::clone(&child)));
        child
    }

    fn insert_record(&self, kind: &str, name: &str, record: Record) {
        let key = (kind.to_owned(), name.to_owned());
        self.applier.written.of(&self.portal.owner.uid, |records| records.insert(key, record));
    }

    fn forget_write(&self, kind: &str, name: &str) {
        let key = (kind.to_owned(), name.to_owned());
        self.applier.written.of(&self.portal.owner.uid, |records| records.remove(&key));
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

fn hash_of(rendered: &Value) -> [u8; 32] {
    Sha256::digest(rendered.to_string()).into()
}

/// Whether a Job failed at least a minute ago. The pause bounds the number of Jobs if the cause lasts.
fn has_failed_and_rested(job: &DynamicObject) -> bool {
    if !matches!(Migration::read(job), Migration::Failed { .. }) {
        return false;
    }
    let conditions = job.data.pointer("/status/conditions").and_then(Value::as_array);
    let failed = conditions.into_iter().flatten().find(|one| one["type"] == "Failed");
    let since = failed.and_then(|one| one["lastTransitionTime"].as_str()?.parse().ok());
    since.is_some_and(|since: jiff::Timestamp| {
        jiff::Timestamp::now().duration_since(since) >= jiff::SignedDuration::from_mins(1)
    })
}

/// The number of pods to write now, if any. `live` is none if it was never set.
#[must_use]
pub fn replicas_to_set(scaling: &Scaling, live: Option<i32>, was_automatic: bool) -> Option<i32> {
    match (scaling, live) {
        // An autoscaler does not scale a Deployment of 0 replicas.
        (Scaling::Automatic(chosen), None | Some(0)) => Some(chosen.min_replicas),
        (Scaling::Automatic(_), Some(_)) => None,
        (Scaling::Fixed(wanted), live) => (live != Some(*wanted)).then_some(*wanted),
        (Scaling::Kept { initial }, None) => Some(*initial),
        // The number that the autoscaler reached is kept, and the operator becomes its field manager.
        (Scaling::Kept { .. }, Some(live)) => was_automatic.then_some(live),
    }
}

/// Whether everything rendered is in the live object with the same value. Other fields of the live object
/// are defaults of the API server, or belong to other field managers.
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
    fn the_number_of_pods_is_written_only_at_creation_and_when_scaling_changes() {
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
    fn a_field_differs_if_it_is_missing_or_changed_and_not_if_it_was_added() {
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
