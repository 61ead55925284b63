//! Every child of every portal as the watches last saw it, found by its portal.

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

/// Objects in one answer of the first list: a thousand portals should not have to fit into memory
/// twice.
pub const PAGE: u32 = 100;

/// Longer than anybody believes that a watch lags behind a write.
const ENDED_REMEMBERED: Duration = Duration::from_mins(1);

/// The kinds of which whole objects are watched: every kind of child but Secrets.
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

/// The kind of which only metadata are watched: what is secret does not come into the cache.
pub const SECRET: &str = "Secret";

/// One object as it was last seen. Its body is kept as text, a fifth of the size of a tree.
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
    /// Its version.
    pub version: String,
    /// Whether it is being deleted.
    pub is_terminating: bool,
    /// Whether anybody has set its number of pods; the API server's own default is nobody's.
    pub is_scaled: bool,
    body: Box<str>,
    /// Whether the body is only what is read of a child that is as it should be.
    is_settled: bool,
}

impl Child {
    /// Keeps what is needed of an object.
    #[must_use]
    pub fn new(kind: &str, mut object: DynamicObject) -> Self {
        let mut managers = object.metadata.managed_fields.iter().flatten();
        let is_scaled = managers.any(|manager| {
            let fields = manager.fields_v1.as_ref();
            fields.is_some_and(|fields| !fields.0["f:spec"]["f:replicas"].is_null())
        });
        // Larger than the object itself, and nothing else here reads them.
        object.metadata.managed_fields = None;
        let owner = object.owner_references().iter().find(|owner| is_portal(owner));
        Self {
            kind: kind.to_owned(),
            name: object.name_any(),
            uid: object.uid().unwrap_or_default(),
            owner: owner.map(|owner| owner.uid.clone()),
            version: object.resource_version().unwrap_or_default(),
            is_terminating: object.metadata.deletion_timestamp.is_some(),
            is_scaled,
            body: text_of(&object),
            is_settled: false,
        }
    }

    /// The object, but for its managed fields, and for what was rendered once it is settled.
    #[must_use]
    pub fn read(&self) -> DynamicObject {
        serde_json::from_str(&self.body).expect("it was an object")
    }

    /// The same with what is read of one that is known to hold all that was rendered: its state, and
    /// what state is told by. Two thirds of the text of a portal's children are the rest. None if all of
    /// it is kept.
    fn settled(&self) -> Option<Self> {
        if self.is_settled {
            return None;
        }
        let mut object = match self.kind.as_str() {
            "ServiceAccount" | "ConfigMap" | "NetworkPolicy" | "PodDisruptionBudget" => {
                DynamicObject { data: Value::Null, ..self.read() }
            }
            // Its address.
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
            version: self.version.clone(),
            body: text_of(&object),
            is_settled: true,
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

/// Every object that carries our label. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Cache {
    children: Arc<RwLock<HashMap<PortalKey, Children>>>,
    /// Uids of objects whose end was seen, and when.
    ended: Arc<RwLock<HashMap<String, Instant>>>,
    /// Kinds that have been listed.
    filled: watch::Sender<HashSet<String>>,
    /// Why the last list or watch of a kind failed, where it did.
    failures: Arc<RwLock<BTreeMap<String, String>>>,
    scope: Scope,
}

/// Namespace and name.
type PortalKey = ObjectRef<Guarded>;
/// Kind and name.
type ChildKey = (String, String);
type Children = HashMap<ChildKey, Arc<Child>>;

impl Cache {
    /// Starts the watches. The stream names the portal of each object that moves; it must be polled,
    /// as that is what keeps the cache up to date.
    pub fn watch(
        client: &Client,
        scope: &Scope,
    ) -> (Self, impl Stream<Item = ObjectRef<Guarded>> + Send + 'static) {
        let cache = Self {
            children: Arc::default(),
            ended: Arc::default(),
            filled: watch::Sender::default(),
            failures: Arc::default(),
            scope: scope.clone(),
        };
        let mut moves = stream::SelectAll::new();
        for resource in WHOLE.iter() {
            let objects = match scope {
                Scope::Namespace(name) => Api::namespaced_with(client.clone(), name, resource),
                Scope::Cluster => Api::all_with(client.clone(), resource),
            };
            let with_types = |object: DynamicObject| DynamicObject {
                types: object.types.or_else(|| Some(types_of(resource))),
                ..object
            };
            moves.push(cache.follow(&resource.kind, objects, with_types).boxed());
        }
        let without_content = |secret: PartialObjectMeta<Secret>| DynamicObject {
            types: secret.types,
            metadata: secret.metadata,
            data: Value::Null,
        };
        moves.push(cache.follow(SECRET, scope.api(client), without_content).boxed());
        (cache, moves)
    }

    /// Waits until every watch has seen what is there. Without that, "not in the cache" does not mean
    /// "does not exist".
    pub async fn wait_until_filled(&self) {
        let mut filled = self.filled.subscribe();
        let is_complete = |kinds: &HashSet<String>| kinds.len() > WHOLE.len();
        filled.wait_for(is_complete).await.expect("the cache itself holds the sender");
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

    /// Which kinds have not been listed, and why, for a person.
    #[must_use]
    pub fn describe_unlisted(&self) -> String {
        let filled = self.filled.borrow().clone();
        let failures = self.failures.read().unwrap_or_else(PoisonError::into_inner);
        let kinds = WHOLE.iter().map(|resource| &*resource.kind).chain([SECRET]);
        let unlisted = kinds.filter(|kind| !filled.contains(*kind)).map(|kind| {
            let why = failures.get(kind).map_or("no answer yet", String::as_str);
            format!("{kind} ({why})")
        });
        let unlisted: Vec<String> = unlisted.collect();
        format!(
            "failed to list {} in {}; apply the Role of deploy/manifests there, or take the namespace out of the operator's WATCH_NAMESPACES",
            unlisted.join(", "),
            self.scope
        )
    }

    /// One child of a portal.
    #[must_use]
    pub fn get(&self, namespace: &str, portal: &str, kind: &str, name: &str) -> Option<Arc<Child>> {
        let children = self.children.read().unwrap_or_else(PoisonError::into_inner);
        let of_portal = children.get(&key(namespace, portal))?;
        of_portal.get(&(kind.to_owned(), name.to_owned())).cloned()
    }

    /// Keeps less of a child that is known to hold all that was rendered, if this is what the watch has
    /// shown. What it shows next is kept whole until that is known of it too.
    pub fn settle(&self, namespace: &str, portal: &str, child: &Child) {
        let mut children = self.children.write().unwrap_or_else(PoisonError::into_inner);
        let of_portal = children.get_mut(&key(namespace, portal));
        if let Some(kept) = of_portal.and_then(|children| children.get_mut(&child_key(child)))
            && kept.version == child.version
            && let Some(settled) = kept.settled()
        {
            *kept = Arc::new(settled);
        }
    }

    /// Whether a watch has shown the end of this object, as far as that is remembered.
    #[must_use]
    pub fn has_ended(&self, uid: &str) -> bool {
        self.ended.read().unwrap_or_else(PoisonError::into_inner).contains_key(uid)
    }

    /// Forgets the ends of objects that nobody asks for any more.
    pub fn forget_ended(&self) {
        let mut ended = self.ended.write().unwrap_or_else(PoisonError::into_inner);
        ended.retain(|_, at| at.elapsed() < ENDED_REMEMBERED);
    }

    /// Every object that says it belongs to a portal of this name. Whether it does is told by
    /// [`Child::owner`].
    #[must_use]
    pub fn of_portal(&self, namespace: &str, portal: &str) -> Vec<Arc<Child>> {
        let children = self.children.read().unwrap_or_else(PoisonError::into_inner);
        let of_portal = children.get(&key(namespace, portal));
        of_portal.into_iter().flat_map(HashMap::values).cloned().collect()
    }

    fn follow<K>(
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
            let moved = match event {
                Ok(event) => {
                    // `Init` comes before each list, also one that will fail.
                    if !matches!(event, Event::Init) {
                        cache.note_failure(&kind, None);
                    }
                    cache.note(&kind, event, &convert, &mut listed)
                }
                Err(error) => {
                    warn!(kind, %error, "a watch was interrupted and starts again");
                    cache.note_failure(&kind, Some(describe(&error)));
                    Vec::new()
                }
            };
            stream::iter(moved)
        })
    }

    fn note_failure(&self, kind: &str, why: Option<String>) {
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

    /// Takes note of an event, and names the portals that it concerns.
    fn note<K>(
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
                // First: whoever does not find it has to be able to learn why.
                self.note_end(&child.uid);
                self.remove(&portal, &child_key(&child));
                vec![portal]
            }
        }
    }

    fn note_end(&self, uid: &str) {
        let mut ended = self.ended.write().unwrap_or_else(PoisonError::into_inner);
        ended.insert(uid.to_owned(), Instant::now());
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

    /// Forgets the objects of a kind that a list no longer had, and names their portals.
    fn retain(&self, kind: &str, listed: &HashSet<(PortalKey, ChildKey)>) -> Vec<PortalKey> {
        let mut children = self.children.write().unwrap_or_else(PoisonError::into_inner);
        let mut gone = Vec::new();
        children.retain(|portal, of_portal| {
            of_portal.retain(|child, _| {
                let is_there = child.0 != kind || listed.contains(&(portal.clone(), child.clone()));
                if !is_there {
                    gone.push(portal.clone());
                }
                is_there
            });
            !of_portal.is_empty()
        });
        gone
    }
}

/// What the API server said, without the structure around it.
fn describe(error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error) => {
            api_error::in_words(error)
        }
        error => error.to_string(),
    }
}

/// A list says of what it is, and its items do not.
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
            ended: Arc::default(),
            filled: watch::Sender::default(),
            failures: Arc::default(),
            scope: Scope::Cluster,
        }
    }

    #[test]
    fn a_child_is_found_by_its_portal_until_it_is_deleted() {
        let (cache, mut listed) = (cache(), HashSet::new());
        let mut note = |event| cache.note("Service", event, |object| object, &mut listed);
        assert_eq!(note(Event::Apply(service("a", "a-portal"))), [key("n", "a")]);
        let child = cache.get("n", "a", "Service", "a-portal").expect("it was seen");
        assert_eq!(child.owner.as_deref(), Some("uid-of-a"));
        assert_eq!(child.read().data["spec"]["type"], "ClusterIP");
        assert!(cache.get("n", "b", "Service", "a-portal").is_none());
        assert!(cache.get("m", "a", "Service", "a-portal").is_none());
        assert_eq!(note(Event::Delete(service("a", "a-portal"))), [key("n", "a")]);
        assert!(cache.of_portal("n", "a").is_empty());
        assert!(cache.has_ended("a-portal") && !cache.has_ended("b-portal"), "by uid");
    }

    #[test]
    fn what_was_deleted_while_the_watch_was_down_is_noticed_by_the_next_list() {
        let (cache, mut listed) = (cache(), HashSet::new());
        let mut note = |event| cache.note("Service", event, |object| object, &mut listed);
        note(Event::Apply(service("a", "a-portal")));
        note(Event::Apply(service("b", "b-portal")));
        note(Event::Init);
        note(Event::InitApply(service("b", "b-portal")));
        assert!(cache.get("n", "a", "Service", "a-portal").is_some(), "the list has not ended");
        assert_eq!(note(Event::InitDone), [key("n", "a")]);
        assert!(cache.get("n", "a", "Service", "a-portal").is_none());
        assert!(cache.get("n", "b", "Service", "b-portal").is_some());
    }

    #[test]
    fn a_list_of_one_kind_says_nothing_of_another() {
        let (cache, mut listed) = (cache(), HashSet::new());
        cache.note("Service", Event::Apply(service("a", "a-portal")), |it| it, &mut listed);
        let gone = cache.note("Ingress", Event::<DynamicObject>::InitDone, |it| it, &mut listed);
        assert!(gone.is_empty());
        assert!(cache.get("n", "a", "Service", "a-portal").is_some());
    }

    #[test]
    fn of_a_settled_child_its_state_is_kept_until_the_watch_shows_another_version() {
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
        let mut note = |object: &DynamicObject| {
            let event = Event::Apply(object.clone());
            cache.note("Deployment", event, |it| it, &mut listed);
            cache.get("n", "a", "Deployment", "a-portal").expect("it was seen")
        };
        let whole = note(&deployment);
        cache.settle("n", "a", &whole);
        let settled = cache.get("n", "a", "Deployment", "a-portal").expect("it is there");
        let kept = json!({
            "spec": {
                "paused": true, "replicas": 2, "strategy": {"type": "Recreate"},
                "template": {"spec": {
                    "containers": [{"image": "portal:1"}], "volumes": [{"name": "data"}],
                }},
            },
            "status": {"readyReplicas": 1},
        });
        let object = settled.read();
        assert_eq!(object.data, kept);
        assert_eq!(
            (object.metadata.name.as_deref(), object.metadata.generation),
            (Some("a-portal"), Some(3))
        );
        assert_eq!((&settled.uid, &settled.owner), (&whole.uid, &whole.owner));
        assert_eq!(settled.version, whole.version);

        deployment.metadata.resource_version = Some("2".to_owned());
        assert_eq!(note(&deployment).read().data, deployment.data);
        cache.settle("n", "a", &whole);
        let newer = cache.get("n", "a", "Deployment", "a-portal").expect("it is there");
        assert_eq!(newer.read().data, deployment.data, "nothing is known of this version");
    }

    #[test]
    fn of_a_settled_ingress_its_address_is_kept() {
        let (cache, mut listed) = (cache(), HashSet::new());
        let status = json!({"loadBalancer": {"ingress": [{"hostname": "lb.example"}]}});
        let mut ingress = service("a", "a-portal");
        ingress.data = json!({"spec": {"rules": []}, "status": status});
        cache.note("Ingress", Event::Apply(ingress), |it| it, &mut listed);
        let whole = cache.get("n", "a", "Ingress", "a-portal").expect("it was seen");
        cache.settle("n", "a", &whole);
        let settled = cache.get("n", "a", "Ingress", "a-portal").expect("it is there");
        assert_eq!(settled.read().data, json!({"status": status}));
    }
}
