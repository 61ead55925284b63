//! The one step that writes children: server-side apply in an order in which nothing waits for what
//! comes later, then the removal of what is no longer wanted.

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

/// Owner of every field that we render.
const MANAGER: &str = "gill-hicks-operator";
/// Owner of `spec.replicas`, where no autoscaler owns it. A manager of its own, since the main one
/// would reset the field to 1 by no longer naming it.
const REPLICAS_MANAGER: &str = "gill-hicks-operator/replicas";

/// Hash of a child as it was rendered when it was written last. By it the next leader knows that a
/// field it would no longer render is not there either, and need not write everything anew.
const RENDERED_ANNOTATION: &str = "gill-hicks.dev/rendered";

/// The children that hold what was rendered, as they are. Outside of tests, only
/// [`Applier::apply`] makes one.
#[derive(Debug, Default)]
pub struct Applied {
    children: Vec<Arc<Child>>,
    holds_credentials: bool,
    /// When to look again whether the watches have shown every write; none if they have.
    confirm_after: Option<Duration>,
}

impl Applied {
    /// Children as they are after they were applied.
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

    /// When to look again whether the watches have shown every write; none if they have.
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

/// The API server did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
#[error("failed to {verb} {kind} {name}: {}", api_error::in_words(source))]
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
    written: Written,
}

impl Applier {
    /// An applier that has written nothing yet.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client, written: Written::default() }
    }

    /// Forgets portals that are gone.
    pub fn retain(&self, is_alive: impl Fn(&str) -> bool) {
        self.written.retain(is_alive);
    }

    /// Writes what differs and removes what is no longer wanted. The first error ends it; the children
    /// that were applied until then are returned with it.
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

    /// Applies one child, unless it was written like this before and still is like this.
    async fn put<K>(&mut self, object: &K) -> Result<(), ApplyError>
    where
        K: Resource<DynamicType = ()> + Serialize,
    {
        let resource = ApiResource::erase::<K>(&());
        let name = object.meta().name.clone().unwrap_or_default();
        let mut rendered = serde_json::to_value(object).expect("children are plain data");
        let hash = hash_of(&rendered);
        // Nothing that is made of a secret is shown.
        if resource.kind != SECRET {
            rendered["metadata"]["annotations"][RENDERED_ANNOTATION] = hex::encode(hash).into();
        }
        let seen = self.see(&resource.kind, &name);
        let settled = self.find_settled(&resource.kind, &name, hash, &rendered, seen.as_ref());
        let current = if let Some(settled) = settled {
            self.live.cache.settle(&self.portal.namespace, &self.portal.name, &settled);
            settled
        } else {
            if self.current(&resource.kind, &name).is_none() {
                self.expect_free(&resource, &name).await?;
            }
            let written = self.write(&resource, &name, MANAGER, rendered).await?;
            let before = seen.map(|seen| seen.version.clone());
            self.remember(&resource.kind, hash, before, written)
        };
        self.applied.children.push(current);
        Ok(())
    }

    /// The child, if it needs no write.
    fn find_settled(
        &self,
        kind: &str,
        name: &str,
        hash: [u8; 32],
        rendered: &Value,
        seen: Option<&Arc<Child>>,
    ) -> Option<Arc<Child>> {
        let is_up_to_date = |seen: &Child| match kind {
            // The watch shows no content, but it may be known.
            SECRET => {
                let known = self.live.known(seen);
                known.is_some_and(|known| is_part_of(rendered, &json!(known)))
            }
            _ => is_part_of(rendered, &json!(seen.read())),
        };
        let settled = self.with_record(kind, name, |record| {
            if record.hash != hash {
                return None;
            }
            if let Some(settled) = record.settle(seen, |uid| self.live.cache.has_ended(uid)) {
                return Some(settled);
            }
            let seen = seen.filter(|seen| is_up_to_date(seen))?;
            record.confirm(seen);
            Some(Arc::clone(seen))
        });
        if let Some(settled) = settled {
            return settled;
        }
        // Written by another leader, or by this process's predecessor.
        let seen = seen.filter(|seen| is_up_to_date(seen))?;
        self.insert_record(kind, name, Record::found(hash, seen));
        Some(Arc::clone(seen))
    }

    /// A Job, whose template cannot be changed. One that has succeeded is left as it is; one that has not is
    /// deleted if it was rendered otherwise, and made anew by the next pass.
    async fn put_migration(&mut self, job: &Job) -> Result<(), ApplyError> {
        let resource = ApiResource::erase::<Job>(&());
        let name = job.name_any();
        let Some(current) = self.current(&resource.kind, &name) else { return self.put(job).await };
        let object = current.read();
        let rendered = serde_json::to_value(job).expect("children are plain data");
        let is_as_rendered =
            object.annotations().get(RENDERED_ANNOTATION) == Some(&hex::encode(hash_of(&rendered)));
        let is_ours = current.owner.as_ref() == Some(&self.portal.owner.uid);
        if is_as_rendered || !is_ours {
            return self.put(job).await;
        }
        if Migration::read(&object) != Migration::Succeeded && !current.is_terminating {
            self.delete(&resource, &current).await?;
        }
        self.applied.children.push(current);
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
        // Where it was made and no number written, as when the operator died in between, that is done now.
        let before = self.current(&resource.kind, &name).filter(|child| child.is_scaled);
        let before = before.and_then(|child| LiveDeployment::read(&child.read()));
        let scaler = self.see(&autoscaler.kind, &name);
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
        // Also where it is the API server's default: of a number that nobody owns, that server does not
        // say that an autoscaler has changed it.
        let Some(replicas) = replicas else { return Ok(()) };
        info!(namespace, deployment = name, replicas, "setting the number of pods");
        let only_replicas = json!({
            "apiVersion": resource.api_version, "kind": resource.kind,
            "metadata": {"name": name},
            "spec": {"replicas": replicas},
        });
        let written = self.write(&resource, &name, REPLICAS_MANAGER, only_replicas).await?;
        let written = Arc::new(Child::new(&resource.kind, written));
        self.with_record(&resource.kind, &name, |record| record.supersede(&written));
        self.applied.children.retain(|child| child.kind != resource.kind || child.name != name);
        self.applied.children.push(written);
        Ok(())
    }

    /// Removes what is ours and no longer wanted, of the kinds that we manage.
    async fn prune(&mut self, blocked_by_migration: &[String]) -> Result<(), ApplyError> {
        let wanted: HashSet<(&str, &str)> = self
            .applied
            .children
            .iter()
            .map(|child| (child.kind.as_str(), child.name.as_str()))
            .collect();
        let mut unwanted = Vec::new();
        for child in self.live.cache.of_portal(&self.portal.namespace, &self.portal.name) {
            // Secrets are not deleted: the operator has no right to.
            let Some(resource) = resource_of(&child.kind) else { continue };
            let is_ours = child.owner.as_ref() == Some(&self.portal.owner.uid);
            let is_wanted = wanted.contains(&(child.kind.as_str(), child.name.as_str()));
            let is_waiting =
                child.kind == "Deployment" && blocked_by_migration.contains(&child.name);
            // A failed migration is made anew by the next pass, in case its cause has gone.
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

    /// An apply takes over whatever has the name. What the watches do not show carries no label of ours,
    /// if it is there: it is somebody else's, unless only the label was taken off.
    async fn expect_free(&self, resource: &ApiResource, name: &str) -> Result<(), ApplyError> {
        let found = self.api(resource).get_metadata_opt(name).await;
        let Some(found) = found.map_err(failed("read", &resource.kind, name))? else {
            return Ok(());
        };
        let portal = &self.portal.owner.uid;
        if found.owner_references().iter().any(|owner| owner.uid == *portal) {
            return Ok(());
        }
        let taken = "an object of this name is there already and is not this portal's; delete it, or give the portal another name";
        let status = Status::failure(taken, TAKEN).with_code(409).boxed();
        Err(failed("apply", &resource.kind, name)(kube::Error::Api(status)))
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

    async fn delete(&mut self, resource: &ApiResource, child: &Child) -> Result<(), ApplyError> {
        let name = child.name.clone();
        info!(namespace = self.portal.namespace, kind = resource.kind, name, "removing a child");
        let parameters = DeleteParams {
            // Not another object of the same name that came in between.
            preconditions: Some(Preconditions {
                uid: Some(child.uid.clone()),
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

    /// One child as the watches last saw it.
    fn see(&self, kind: &str, name: &str) -> Option<Arc<Child>> {
        self.live.cache.get(&self.portal.namespace, &self.portal.name, kind, name)
    }

    /// The same, or the answer to a write that the watches have not shown yet.
    fn current(&self, kind: &str, name: &str) -> Option<Arc<Child>> {
        let seen = self.see(kind, name);
        let has_ended = |uid: &str| self.live.cache.has_ended(uid);
        let settled =
            self.with_record(kind, name, |record| record.settle(seen.as_ref(), has_ended));
        settled.flatten().or(seen)
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

    fn remember(
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

    fn forget(&self, kind: &str, name: &str) {
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

/// Whether a Job has failed and was left alone for a minute, so that a lasting cause does not make
/// Jobs in a row.
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

/// The number of pods that we have to write now, if any. `live` is none where nobody has set one yet.
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
