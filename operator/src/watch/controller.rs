//! One pass over one watch. It writes the status alone: what the pods are told is a matter of the portal's
//! pass.

use std::{sync::Arc, time::Duration};

use crds::HardwareWatch;
use jiff::Timestamp;
use kube::{Resource, ResourceExt, core::error_boundary::InvalidObject};
use kube_runtime::{controller::Action, reflector::ObjectRef};
use tracing::{debug, warn};

use super::{
    context::WatchContext,
    reports::Reports,
    status::{Seen, SeenPortal, compute, next_pass},
};
use crate::cluster::{
    GuardedWatch,
    malformed::{self, Explanation},
    retry::Retry,
};

/// Time in which a new leader waits for the first pass over a portal before it judges the portal's watches:
/// until then it does not know which Secrets are missing, and the status of the last leader stays.
const FIRST_PASSES: Duration = Duration::from_secs(30);
/// How often it looks meanwhile. The portal's pass makes one at once.
const UNTIL_THE_FIRST_PASS: Duration = Duration::from_secs(5);

const EXPLANATION: Explanation<'_> =
    Explanation { judged: &[("Ready", "False")], meanwhile: "nothing is watched for" };

/// Brings the status of one watch up to date. Gives the time of the next pass.
pub async fn reconcile(object: Arc<GuardedWatch>, context: Arc<WatchContext>) -> Action {
    if object.meta().deletion_timestamp.is_some() {
        return Action::await_change();
    }
    let watch = match &object.0 {
        Ok(watch) => watch,
        Err(invalid) => return explain_malformed(invalid, &context).await,
    };
    let watch = context.publisher.up_to_date(watch);
    let namespace = watch.namespace().unwrap_or_default();
    let Some(seen) = context.closing.run_until_cancelled(see(&watch, &namespace, &context)).await
    else {
        return Action::await_change();
    };
    let Some(seen) = seen else { return Action::requeue(UNTIL_THE_FIRST_PASS) };
    let status = compute(&watch, &seen, Timestamp::now());
    let uid = watch.uid().unwrap_or_default();
    match context.publisher.publish(&watch, &status).await {
        Ok(()) => {
            context.retries.succeeded(&uid);
            debug!(namespace, name = watch.name_any(), "the status of a watch is up to date");
            Action::requeue(jittered(next_pass(&status)))
        }
        Err(error) => {
            let delay = context.retries.delay(&uid, &Retry::of_api(&error), next_pass(&status));
            let name = watch.name_any();
            warn!(namespace, name, %error, "failed to write the status of a watch");
            Action::requeue(delay)
        }
    }
}

/// What can be seen of a watch now; none if it is too early to judge it.
async fn see(watch: &HardwareWatch, namespace: &str, context: &WatchContext) -> Option<Seen> {
    // Before the portals are listed, each of them looks missing.
    if context.portals.wait_until_ready().await.is_err() {
        return None;
    }
    let name = &watch.spec.portal_ref.name;
    let portal = match context.portals.get(&ObjectRef::new(name).within(namespace)) {
        None => SeenPortal::Missing,
        Some(portal) if portal.0.as_ref().is_ok_and(|it| it.spec.suspend) => SeenPortal::Suspended,
        Some(_) => SeenPortal::Present,
    };
    let uid = watch.uid().unwrap_or_default();
    let (is_recorded, outcome) = context.renditions.get(namespace, name, &uid);
    let is_needed = portal != SeenPortal::Missing && !watch.spec.suspend;
    let is_early = context.started.elapsed() < FIRST_PASSES && !is_recorded;
    if is_needed && portal == SeenPortal::Present && is_early {
        return None;
    }
    let reports = if is_needed {
        context.reports.ask(namespace, name).await
    } else {
        Reports::Unanswered("it was not asked".to_owned())
    };
    Some(Seen { portal, outcome, reports })
}

async fn explain_malformed(invalid: &InvalidObject, context: &WatchContext) -> Action {
    let WatchContext { client, events, retries, .. } = context;
    match malformed::explain::<HardwareWatch>(invalid, &EXPLANATION, client, events).await {
        Ok(()) => Action::await_change(),
        Err(error) => {
            let namespace = invalid.metadata.namespace.as_deref().unwrap_or_default();
            let name = invalid.metadata.name.as_deref().unwrap_or_default();
            warn!(namespace, name, %error, "failed to say that an object is no HardwareWatch");
            let uid = invalid.metadata.uid.as_deref().unwrap_or_default();
            let at_rest = Duration::from_mins(5);
            Action::requeue(retries.delay(uid, &Retry::of_api(&error), at_rest))
        }
    }
}

/// A little earlier or later, so that a thousand watches do not have their passes at the same time.
fn jittered(time: Duration) -> Duration {
    time.mul_f64(rand::random_range(0.8..=1.2))
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::{Arc, Mutex},
        time::Duration,
    };

    use crds::HardwareWatch;
    use http::{Method, Request, Response};
    use http_body_util::BodyExt;
    use kube::{Client, client::Body};
    use kube_runtime::{
        reflector::{self, store::Writer},
        watcher::Event,
    };
    use serde_json::{Value, json};
    use tokio::time::{Instant, advance};
    use tokio_util::sync::CancellationToken;
    use tower::service_fn;

    use super::{FIRST_PASSES, reconcile};
    use crate::{
        cluster::{Guarded, GuardedWatch, events::Events, pod_http::PodHttp, retry::Retries},
        watch::{
            context::WatchContext, index::WatchIndex, publisher::WatchPublisher,
            renditions::Renditions, reports::WatchReports, secrets::ReceiverSecrets,
        },
    };

    /// A scope of one watch, and every write of its status.
    struct World {
        context: Arc<WatchContext>,
        portals: Writer<Guarded>,
        written: Arc<Mutex<Vec<Value>>>,
    }

    impl World {
        fn new() -> Self {
            let written = Arc::<Mutex<Vec<Value>>>::default();
            let client = api_server(Arc::clone(&written));
            let (portals, mut writer) = reflector::store::<Guarded>();
            // An initial list without a portal.
            writer.apply_watcher_event(&Event::Init);
            writer.apply_watcher_event(&Event::InitDone);
            let events = Events::new(client.clone(), "test".to_owned());
            let http = PodHttp::new().expect("a client");
            let context = WatchContext {
                index: WatchIndex::of(reflector::store().0),
                portals,
                secrets: ReceiverSecrets::new(client.clone()),
                renditions: Renditions::new().0,
                reports: WatchReports::new(client.clone(), http),
                publisher: WatchPublisher::new(client.clone(), events.clone()),
                client,
                events,
                retries: Retries::default(),
                started: Instant::now(),
                closing: CancellationToken::new(),
            };
            Self { context: Arc::new(context), portals: writer, written }
        }

        fn add_portal(&mut self) {
            let portal: Guarded = serde_json::from_value(json!({
                "apiVersion": "gill-hicks.dev/v1alpha1", "kind": "HardwarePortal",
                "metadata": {"name": "demo", "namespace": "team", "uid": "p"}, "spec": {},
            }))
            .expect("a portal");
            self.portals.apply_watcher_event(&Event::Apply(portal));
        }

        async fn reconcile(&self, object: &Value) {
            let watch: GuardedWatch = serde_json::from_value(object.clone()).expect("an object");
            let _next = reconcile(Arc::new(watch), Arc::clone(&self.context)).await;
        }

        /// Reason and message of the last condition Ready that was written, and how many were.
        fn written(&self) -> (usize, String, String) {
            let written = self.written.lock().expect("no test has failed");
            let conditions = &written.last().expect("a write")["status"]["conditions"];
            let ready =
                conditions.as_array().into_iter().flatten().find(|it| it["type"] == "Ready");
            let text = |field: &str| {
                ready.and_then(|ready| ready[field].as_str()).unwrap_or_default().to_owned()
            };
            (written.len(), text("reason"), text("message"))
        }
    }

    /// One that has no pods, and that stores what it is told about statuses.
    fn api_server(written: Arc<Mutex<Vec<Value>>>) -> Client {
        let service = service_fn(move |request: Request<Body>| {
            let written = Arc::clone(&written);
            async move {
                let is_status =
                    request.method() == Method::PATCH && request.uri().path().ends_with("/status");
                let is_pods = request.uri().path().ends_with("/pods");
                let body = request.into_body().collect().await.expect("a body").to_bytes();
                let answer = if is_status {
                    let patch = serde_json::from_slice(&body).expect("JSON");
                    written.lock().expect("no test has failed").push(patch);
                    object(&json!({"portalRef": {"name": "demo"}}))
                } else if is_pods {
                    json!({"apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": []})
                } else {
                    // The object as it is stored, or an event.
                    object(&json!({"portalRef": {"name": 7}}))
                };
                let body = Body::from(answer.to_string().into_bytes());
                Ok::<_, Infallible>(Response::builder().body(body).expect("an answer"))
            }
        });
        Client::new(service, "default")
    }

    fn object(changes: &Value) -> Value {
        let slack = json!({"slack": {"urlFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}});
        let mut object = json!({
            "apiVersion": "gill-hicks.dev/v1alpha1", "kind": "HardwareWatch",
            "metadata": {
                "name": "w", "namespace": "team", "uid": "u", "generation": 1, "resourceVersion": "1",
            },
            "spec": {"portalRef": {"name": "demo"}, "match": {"name": "p5"}, "deliver": [slack]},
        });
        for (field, value) in changes.as_object().expect("fields") {
            object["spec"][field] = value.clone();
        }
        object
    }

    #[tokio::test]
    async fn a_watch_without_a_portal_says_so_in_one_write() {
        let world = World::new();
        let watch = object(&json!({}));
        world.reconcile(&watch).await;
        let (writes, reason, message) = world.written();
        assert_eq!((writes, reason.as_str()), (1, "PortalNotFound"), "{message}");
        // The reflector does not show the write yet.
        world.reconcile(&watch).await;
        assert_eq!(world.written().0, 1, "nothing has changed");
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_leader_judges_a_watch_once_its_portal_had_a_pass_or_time_for_one() {
        let mut world = World::new();
        world.add_portal();
        world.reconcile(&object(&json!({}))).await;
        assert!(world.written.lock().expect("unused").is_empty(), "it is too early");
        advance(FIRST_PASSES + Duration::from_secs(1)).await;
        world.reconcile(&object(&json!({}))).await;
        let (writes, reason, message) = world.written();
        assert_eq!((writes, reason.as_str()), (1, "HardwareUnreachable"), "{message}");
        assert_eq!(message, "no pod of demo-hardware is ready");
    }

    #[tokio::test]
    async fn an_object_that_is_no_watch_says_so() {
        let world = World::new();
        let malformed = object(&json!({"portalRef": {"name": 7}}));
        assert!(serde_json::from_value::<HardwareWatch>(malformed.clone()).is_err());
        world.reconcile(&malformed).await;
        let (_, reason, message) = world.written();
        assert_eq!(reason, "InvalidSpec");
        assert!(message.contains("cannot be read as a HardwareWatch"), "{message}");
        assert!(message.ends_with("until then nothing is watched for"), "{message}");
    }
}
