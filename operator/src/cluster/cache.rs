//! Every child of every portal as the watches last delivered it, indexed by its portal.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, LazyLock, PoisonError, RwLock},
    time::Duration,
};

use crds::HardwarePortal;
use futures::{Stream, StreamExt, stream};
use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        autoscaling::v2::HorizontalPodAutoscaler,
        batch::v1::Job,
        core::v1::{ConfigMap, PersistentVolumeClaim, Secret, Service, ServiceAccount},
        networking::v1::{Ingress, NetworkPolicy},
        policy::v1::PodDisruptionBudget,
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ApiResource, DynamicObject, TypeMeta},
    core::PartialObjectMeta,
};
use kube_runtime::{
    WatchStreamExt,
    reflector::ObjectRef,
    watcher::{self, Event, watcher},
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::{sync::watch, time::Instant};
use tracing::warn;

use super::{Guarded, api_error, labels, scope::Scope, watches::WatchBackoff};

/// `limit` of lists: the children of a thousand portals must not be in memory twice, as a response and in
/// the cache.
pub const PAGE: u32 = 100;

/// How long the uid of a deleted object is kept. Longer than the applier waits until a watch shows a
/// write.
const DELETED_REMEMBERED: Duration = Duration::from_mins(1);

/// The kinds whose objects are watched as a whole: every kind of child except Secrets.
static WHOLE: LazyLock<Vec<ApiResource>> = LazyLock::new(|| {
    vec![
        ApiResource::erase::<ServiceAccount>(&()),
        ApiResource::erase::<ConfigMap>(&()),
        ApiResource::erase::<PersistentVolumeClaim>(&()),
        ApiResource::erase::<Service>(&()),
        ApiResource::erase::<NetworkPolicy>(&()),
        ApiResource::erase::<Job>(&()),
        ApiResource::erase::<Deployment>(&()),
        ApiResource::erase::<HorizontalPodAutoscaler>(&()),
        ApiResource::erase::<PodDisruptionBudget>(&()),
        ApiResource::erase::<Ingress>(&()),
    ]
});

/// The kind whose metadata alone are watched, so that the cache holds no secret value.
pub const SECRET: &str = "Secret";

/// One object as the watch last delivered it. Its body is kept as JSON text, which takes a fifth of the
/// memory of the parsed value.
#[derive(Debug)]
pub struct Child {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Uid of the portal that owns it.
    pub owner: Option<String>,
    /// Its resourceVersion.
    pub resource_version: String,
    /// Whether it is being deleted.
    pub is_terminating: bool,
    /// Whether a field manager owns `spec.replicas`. The API server's default is owned by none.
    pub is_scaled: bool,
    body: Box<str>,
    /// Whether the rendered fields were evicted from the body.
    is_evicted: bool,
}

impl Child {
    /// Keeps the parts of an object that the operator reads.
    #[must_use]
    pub fn new(kind: &str, mut object: DynamicObject) -> Self {
        let mut managers = object.metadata.managed_fields.iter().flatten();
        let is_scaled = managers.any(|manager| {
            let fields = manager.fields_v1.as_ref();
            fields.is_some_and(|fields| !fields.0["f:spec"]["f:replicas"].is_null())
        });
        // They are larger than the object itself, and are not read again.
        object.metadata.managed_fields = None;
        let owner = object.owner_references().iter().find(|owner| is_portal(owner));
        Self {
            kind: kind.to_owned(),
            name: object.name_any(),
            uid: object.uid().unwrap_or_default(),
            owner: owner.map(|owner| owner.uid.clone()),
            resource_version: object.resource_version().unwrap_or_default(),
            is_terminating: object.metadata.deletion_timestamp.is_some(),
            is_scaled,
            body: text_of(&object),
            is_evicted: false,
        }
    }

    /// The object without its managed fields and, once evicted, without its rendered fields.
    #[must_use]
    pub fn read(&self) -> DynamicObject {
        serde_json::from_str(&self.body).expect("it was an object")
    }

    /// The same with only those fields that are read of a child that holds everything rendered: its status
    /// and the fields that the status is judged by. The other fields are two thirds of the text of a portal's
    /// children. None if there is nothing to evict.
    fn without_rendered(&self) -> Option<Self> {
        if self.is_evicted {
            return None;
        }
        let mut object = match self.kind.as_str() {
            "ServiceAccount" | "ConfigMap" | "NetworkPolicy" | "PodDisruptionBudget" => {
                DynamicObject { data: Value::Null, ..self.read() }
            }
            // The status holds the address.
            "Ingress" => {
                let mut ingress = self.read();
                keep(&mut ingress.data, "", &["status"]);
                ingress
            }
            "Service" | "HorizontalPodAutoscaler" => self.read(),
            "Deployment" => {
                let mut deployment = self.read();
                keep(
                    &mut deployment.data,
                    "/spec",
                    &["paused", "replicas", "strategy", "template"],
                );
                keep(&mut deployment.data, "/spec/template", &["spec"]);
                keep(&mut deployment.data, "/spec/template/spec", &["containers", "volumes"]);
                keep(&mut deployment.data, "/spec/template/spec/containers/0", &["image"]);
                deployment
            }
            _ => return None,
        };
        let (name, generation) = (object.metadata.name, object.metadata.generation);
        object.metadata = ObjectMeta { name, generation, ..ObjectMeta::default() };
        Some(Self {
            kind: self.kind.clone(),
            name: self.name.clone(),
            uid: self.uid.clone(),
            owner: self.owner.clone(),
            resource_version: self.resource_version.clone(),
            body: text_of(&object),
            is_evicted: true,
            ..*self
        })
    }
}

fn text_of(object: &DynamicObject) -> Box<str> {
    serde_json::to_string(object).expect("an object is plain data").into()
}

/// Keeps only these keys of the object at a path.
fn keep(data: &mut Value, path: &str, keys: &[&str]) {
    if let Some(object) = data.pointer_mut(path).and_then(Value::as_object_mut) {
        object.retain(|key, _| keys.contains(&key.as_str()));
    }
}

/// Every object that carries the operator's label. Clones share the content.
#[derive(Clone, Debug)]
pub struct Cache {
    children: Arc<RwLock<HashMap<PortalKey, Children>>>,
    /// Uids of objects whose deletion a watch has shown, and when.
    deleted: Arc<RwLock<HashMap<String, Instant>>>,
    /// Kinds whose initial list is complete.
    filled: watch::Sender<HashSet<String>>,
    /// By kind, why its last list or watch failed.
    failures: Arc<RwLock<BTreeMap<String, String>>>,
    scope: Scope,
}

/// Namespace and name.
type PortalKey = ObjectRef<Guarded>;
/// Kind and name.
type ChildKey = (String, String);
type Children = HashMap<ChildKey, Arc<Child>>;

impl Cache {
    /// Starts the watches. The stream yields the portal of each object that changes. It must be polled,
    /// since polling it is what updates the cache.
    pub fn watch(
        client: &Client,
        scope: &Scope,
    ) -> (Self, impl Stream<Item = ObjectRef<Guarded>> + Send + 'static) {
        let cache = Self {
            children: Arc::default(),
            deleted: Arc::default(),
            filled: watch::Sender::default(),
            failures: Arc::default(),
            scope: scope.clone(),
        };
        let mut changes = stream::SelectAll::new();
        for resource in WHOLE.iter() {
            let objects = match scope {
                Scope::Namespace(name) => Api::namespaced_with(client.clone(), name, resource),
                Scope::Cluster => Api::all_with(client.clone(), resource),
            };
            let with_types = |object: DynamicObject| DynamicObject {
                types: object.types.or_else(|| Some(types_of(resource))),
                ..object
            };
            changes.push(cache.watch_kind(&resource.kind, objects, with_types).boxed());
        }
        let without_content = |secret: PartialObjectMeta<Secret>| DynamicObject {
            types: secret.types,
            metadata: secret.metadata,
            data: Value::Null,
        };
        changes.push(cache.watch_kind(SECRET, scope.api(client), without_content).boxed());
        (cache, changes)
    }

    /// Waits until the initial list of every kind is complete. Before that, an object may exist without
    /// being in the cache.
    pub async fn wait_until_filled(&self) {
        let mut filled = self.filled.subscribe();
        filled.wait_for(is_complete).await.expect("the cache itself holds the sender");
    }

    /// Whether the initial list of every kind is complete.
    #[must_use]
    pub fn is_filled(&self) -> bool {
        is_complete(&self.filled.borrow())
    }

    /// Whether a kind has been listed.
    #[must_use]
    pub fn is_listed(&self, kind: &str) -> bool {
        self.filled.borrow().contains(kind)
    }

    /// Whether a list fails, and is not merely late.
    #[must_use]
    pub fn has_failed_lists(&self) -> bool {
        let failures = self.failures.read().unwrap_or_else(PoisonError::into_inner);
        !failures.is_empty()
    }

    /// A message that names the kinds that have not been listed, and why.
    #[must_use]
    pub fn describe_unlisted(&self) -> String {
        let filled = self.filled.borrow().clone();
        let failures = self.failures.read().unwrap_or_else(PoisonError::into_inner);
        let kinds = WHOLE.iter().map(|resource| &*resource.kind).chain([SECRET]);
        let unlisted = kinds.filter(|kind| !filled.contains(*kind)).map(|kind| {
            let why = failures.get(kind).map_or("no answer yet", String::as_str);
            format!("{kind} ({why})")
        });
        unlisted_message(&unlisted.collect::<Vec<_>>(), &self.scope)
    }

    /// One child of a portal.
    #[must_use]
    pub fn get(&self, namespace: &str, portal: &str, kind: &str, name: &str) -> Option<Arc<Child>> {
        let children = self.children.read().unwrap_or_else(PoisonError::into_inner);
        let of_portal = children.get(&key(namespace, portal))?;
        of_portal.get(&(kind.to_owned(), name.to_owned())).cloned()
    }

    /// Evicts the rendered fields of a child that is known to hold everything rendered, if the cache still
    /// holds this resourceVersion of it. The next one that the watch shows is kept whole.
    pub fn evict_rendered(&self, namespace: &str, portal: &str, child: &Child) {
        let mut children = self.children.write().unwrap_or_else(PoisonError::into_inner);
        let of_portal = children.get_mut(&key(namespace, portal));
        if let Some(kept) = of_portal.and_then(|children| children.get_mut(&child_key(child)))
            && kept.resource_version == child.resource_version
            && let Some(evicted) = kept.without_rendered()
        {
            *kept = Arc::new(evicted);
        }
    }

    /// Whether a watch has shown the deletion of this object lately.
    #[must_use]
    pub fn was_deleted(&self, uid: &str) -> bool {
        self.deleted.read().unwrap_or_else(PoisonError::into_inner).contains_key(uid)
    }

    /// Forgets deletions that are no longer asked for.
    pub fn forget_deleted(&self) {
        let mut deleted = self.deleted.write().unwrap_or_else(PoisonError::into_inner);
        deleted.retain(|_, at| at.elapsed() < DELETED_REMEMBERED);
    }

    /// Every object whose owner reference or label names a portal of this name. A portal that was created
    /// anew has the same name, and [`Child::owner`] tells its children from those of the earlier one.
    #[must_use]
    pub fn of_portal(&self, namespace: &str, portal: &str) -> Vec<Arc<Child>> {
        let children = self.children.read().unwrap_or_else(PoisonError::into_inner);
        let of_portal = children.get(&key(namespace, portal));
        of_portal.into_iter().flat_map(HashMap::values).cloned().collect()
    }

    fn watch_kind<K>(
        &self,
        kind: &str,
        objects: Api<K>,
        convert: impl Fn(K) -> DynamicObject + Send + 'static,
    ) -> impl Stream<Item = ObjectRef<Guarded>> + Send + 'static
    where
        K: Resource + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
    {
        let config = watcher::Config::default().labels(labels::MANAGED_SELECTOR).page_size(PAGE);
        let (cache, kind) = (self.clone(), kind.to_owned());
        let mut listed = HashSet::new();
        watcher(objects, config).backoff(WatchBackoff::default()).flat_map(move |event| {
            let changed = match event {
                Ok(event) => {
                    // The watcher emits `Init` before each list, even if the list then fails.
                    if !matches!(event, Event::Init) {
                        cache.record_failure(&kind, None);
                    }
                    cache.apply_event(&kind, event, &convert, &mut listed)
                }
                Err(error) => {
                    warn!(kind, %error, "a watch was interrupted and starts again");
                    cache.record_failure(&kind, Some(describe_watch_error(&error)));
                    Vec::new()
                }
            };
            stream::iter(changed)
        })
    }

    fn record_failure(&self, kind: &str, why: Option<String>) {
        let is_known =
            self.failures.read().unwrap_or_else(PoisonError::into_inner).contains_key(kind);
        if why.is_none() && !is_known {
            return;
        }
        let mut failures = self.failures.write().unwrap_or_else(PoisonError::into_inner);
        match why {
            Some(why) => failures.insert(kind.to_owned(), why),
            None => failures.remove(kind),
        };
    }

    /// Applies a watch event to the cache and returns the portals that it concerns.
    fn apply_event<K>(
        &self,
        kind: &str,
        event: Event<K>,
        convert: impl Fn(K) -> DynamicObject,
        listed: &mut HashSet<(PortalKey, ChildKey)>,
    ) -> Vec<PortalKey> {
        match event {
            Event::Init => {
                listed.clear();
                Vec::new()
            }
            Event::InitApply(object) => {
                let Some((portal, child)) = placed(kind, convert(object)) else {
                    return Vec::new();
                };
                listed.insert((portal.clone(), child_key(&child)));
                self.insert(portal.clone(), child);
                vec![portal]
            }
            Event::InitDone => {
                let gone = self.retain(kind, &std::mem::take(listed));
                self.filled.send_modify(|filled| {
                    filled.insert(kind.to_owned());
                });
                gone
            }
            Event::Apply(object) => {
                let Some((portal, child)) = placed(kind, convert(object)) else {
                    return Vec::new();
                };
                self.insert(portal.clone(), child);
                vec![portal]
            }
            Event::Delete(object) => {
                let Some((portal, child)) = placed(kind, convert(object)) else {
                    return Vec::new();
                };
                // Recorded before the removal: a reader that does not find the object must find its deletion.
                self.record_deletion(&child.uid);
                self.remove(&portal, &child_key(&child));
                vec![portal]
            }
        }
    }

    fn record_deletion(&self, uid: &str) {
        let mut deleted = self.deleted.write().unwrap_or_else(PoisonError::into_inner);
        deleted.insert(uid.to_owned(), Instant::now());
    }

    fn insert(&self, portal: PortalKey, child: Child) {
        let mut children = self.children.write().unwrap_or_else(PoisonError::into_inner);
        children.entry(portal).or_default().insert(child_key(&child), Arc::new(child));
    }

    fn remove(&self, portal: &PortalKey, child: &ChildKey) {
        let mut children = self.children.write().unwrap_or_else(PoisonError::into_inner);
        let Some(of_portal) = children.get_mut(portal) else { return };
        of_portal.remove(child);
        if of_portal.is_empty() {
            children.remove(portal);
        }
    }

    /// Removes the objects of a kind that a list did not contain, and returns their portals.
    fn retain(&self, kind: &str, listed: &HashSet<(PortalKey, ChildKey)>) -> Vec<PortalKey> {
        let mut children = self.children.write().unwrap_or_else(PoisonError::into_inner);
        let mut gone = Vec::new();
        children.retain(|portal, of_portal| {
            of_portal.retain(|child, _| {
                let is_kept = child.0 != kind || listed.contains(&(portal.clone(), child.clone()));
                if !is_kept {
                    gone.push(portal.clone());
                }
                is_kept
            });
            !of_portal.is_empty()
        });
        gone
    }
}

/// Whether these are all kinds: those that are watched as a whole, and Secrets.
fn is_complete(listed: &HashSet<String>) -> bool {
    listed.len() > WHOLE.len()
}

/// A message that names kinds that have not been listed, each with the reason, and says what to do.
#[must_use]
pub fn unlisted_message(kinds: &[String], scope: &Scope) -> String {
    format!(
        "failed to list {} in {scope}; apply the Role of deploy/manifests there, or take the namespace out of the operator's WATCH_NAMESPACES",
        kinds.join(", "),
    )
}

/// The message of a list or watch that failed.
#[must_use]
pub fn describe_watch_error(error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error) => {
            api_error::in_words(error)
        }
        error => error.to_string(),
    }
}

/// The type of the items of a list, which do not carry it themselves.
fn types_of(resource: &ApiResource) -> TypeMeta {
    TypeMeta { api_version: resource.api_version.clone(), kind: resource.kind.clone() }
}

fn key(namespace: &str, portal: &str) -> PortalKey {
    ObjectRef::new(portal).within(namespace)
}

fn child_key(child: &Child) -> ChildKey {
    (child.kind.clone(), child.name.clone())
}

fn placed(kind: &str, object: DynamicObject) -> Option<(PortalKey, Child)> {
    Some((portal_of(&object)?, Child::new(kind, object)))
}

/// The resource of a kind that is watched as a whole.
#[must_use]
pub fn resource_of(kind: &str) -> Option<&'static ApiResource> {
    WHOLE.iter().find(|resource| resource.kind == kind)
}

fn is_portal(owner: &OwnerReference) -> bool {
    owner.kind == HardwarePortal::kind(&())
}

fn portal_of(object: &DynamicObject) -> Option<PortalKey> {
    let name = match object.owner_references().iter().find(|owner| is_portal(owner)) {
        Some(owner) => owner.name.clone(),
        // A retained volume claim has no owner; its label names the portal.
        None => object.labels().get(labels::INSTANCE)?.clone(),
    };
    Some(key(object.metadata.namespace.as_deref()?, &name))
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, sync::Arc};

    use kube::api::DynamicObject;
    use kube_runtime::watcher::Event;
    use serde_json::json;
    use tokio::sync::watch;

    use super::{Cache, Scope, key};

    fn service(portal: &str, name: &str) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {
                "name": name, "namespace": "n", "uid": name, "resourceVersion": "1",
                "ownerReferences": [{
                    "apiVersion": "gill-hicks.dev/v1alpha1", "kind": "HardwarePortal",
                    "name": portal, "uid": format!("uid-of-{portal}"),
                }],
            },
            "spec": {"type": "ClusterIP"},
        }))
        .expect("a Service")
    }

    fn cache() -> Cache {
        Cache {
            children: Arc::default(),
            deleted: Arc::default(),
            filled: watch::Sender::default(),
            failures: Arc::default(),
            scope: Scope::Cluster,
        }
    }

    #[test]
    fn a_child_is_found_by_its_portal_until_it_is_deleted() {
        let (cache, mut listed) = (cache(), HashSet::new());
        let mut apply = |event| cache.apply_event("Service", event, |object| object, &mut listed);
        assert_eq!(apply(Event::Apply(service("a", "a-portal"))), [key("n", "a")]);
        let child = cache.get("n", "a", "Service", "a-portal").expect("it was seen");
        assert_eq!(child.owner.as_deref(), Some("uid-of-a"));
        assert_eq!(child.read().data["spec"]["type"], "ClusterIP");
        assert!(cache.get("n", "b", "Service", "a-portal").is_none());
        assert!(cache.get("m", "a", "Service", "a-portal").is_none());
        assert_eq!(apply(Event::Delete(service("a", "a-portal"))), [key("n", "a")]);
        assert!(cache.of_portal("n", "a").is_empty());
        assert!(cache.was_deleted("a-portal") && !cache.was_deleted("b-portal"), "by uid");
    }

    #[test]
    fn an_object_deleted_while_the_watch_was_down_is_removed_by_the_next_list() {
        let (cache, mut listed) = (cache(), HashSet::new());
        let mut apply = |event| cache.apply_event("Service", event, |object| object, &mut listed);
        apply(Event::Apply(service("a", "a-portal")));
        apply(Event::Apply(service("b", "b-portal")));
        apply(Event::Init);
        apply(Event::InitApply(service("b", "b-portal")));
        assert!(cache.get("n", "a", "Service", "a-portal").is_some(), "the list has not ended");
        assert_eq!(apply(Event::InitDone), [key("n", "a")]);
        assert!(cache.get("n", "a", "Service", "a-portal").is_none());
        assert!(cache.get("n", "b", "Service", "b-portal").is_some());
    }

    #[test]
    fn a_list_of_one_kind_removes_no_object_of_another() {
        let (cache, mut listed) = (cache(), HashSet::new());
        cache.apply_event("Service", Event::Apply(service("a", "a-portal")), |it| it, &mut listed);
        let gone =
            cache.apply_event("Ingress", Event::<DynamicObject>::InitDone, |it| it, &mut listed);
        assert!(gone.is_empty());
        assert!(cache.get("n", "a", "Service", "a-portal").is_some());
    }

    #[test]
    fn eviction_keeps_the_status_until_the_watch_shows_another_version() {
        let (cache, mut listed) = (cache(), HashSet::new());
        let mut deployment = service("a", "a-portal");
        deployment.metadata.generation = Some(3);
        deployment.data = json!({
            "spec": {
                "paused": true, "replicas": 2, "strategy": {"type": "Recreate"},
                "selector": {"matchLabels": {"a": "b"}},
                "template": {
                    "metadata": {"labels": {"a": "b"}},
                    "spec": {
                        "containers": [{"name": "portal", "image": "portal:1", "env": []}],
                        "volumes": [{"name": "data"}], "nodeSelector": {},
                    },
                },
            },
            "status": {"readyReplicas": 1},
        });
        let mut apply = |object: &DynamicObject| {
            let event = Event::Apply(object.clone());
            cache.apply_event("Deployment", event, |it| it, &mut listed);
            cache.get("n", "a", "Deployment", "a-portal").expect("it was seen")
        };
        let whole = apply(&deployment);
        cache.evict_rendered("n", "a", &whole);
        let evicted = cache.get("n", "a", "Deployment", "a-portal").expect("it is there");
        let kept = json!({
            "spec": {
                "paused": true, "replicas": 2, "strategy": {"type": "Recreate"},
                "template": {"spec": {
                    "containers": [{"image": "portal:1"}], "volumes": [{"name": "data"}],
                }},
            },
            "status": {"readyReplicas": 1},
        });
        let object = evicted.read();
        assert_eq!(object.data, kept);
        assert_eq!(
            (object.metadata.name.as_deref(), object.metadata.generation),
            (Some("a-portal"), Some(3))
        );
        assert_eq!((&evicted.uid, &evicted.owner), (&whole.uid, &whole.owner));
        assert_eq!(evicted.resource_version, whole.resource_version);

        deployment.metadata.resource_version = Some("2".to_owned());
        assert_eq!(apply(&deployment).read().data, deployment.data);
        cache.evict_rendered("n", "a", &whole);
        let newer = cache.get("n", "a", "Deployment", "a-portal").expect("it is there");
        assert_eq!(newer.read().data, deployment.data, "nothing is known of this version");
    }

    #[test]
    fn eviction_keeps_the_address_of_an_ingress() {
        let (cache, mut listed) = (cache(), HashSet::new());
        let status = json!({"loadBalancer": {"ingress": [{"hostname": "lb.example"}]}});
        let mut ingress = service("a", "a-portal");
        ingress.data = json!({"spec": {"rules": []}, "status": status});
        cache.apply_event("Ingress", Event::Apply(ingress), |it| it, &mut listed);
        let whole = cache.get("n", "a", "Ingress", "a-portal").expect("it was seen");
        cache.evict_rendered("n", "a", &whole);
        let evicted = cache.get("n", "a", "Ingress", "a-portal").expect("it is there");
        assert_eq!(evicted.read().data, json!({"status": status}));
    }
}
