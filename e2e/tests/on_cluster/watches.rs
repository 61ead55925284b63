//! Watches, from the resource to whoever is told.

use std::{
    net::{IpAddr, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use axum::{Router, extract::Path, routing::post};
use crds::HardwareWatch;
use e2e::{Namespace, node, wait::eventually};
use http::{HeaderMap, StatusCode};
use k8s_openapi::{
    api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::Condition, jiff::Timestamp,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// How long a kubelet may take until a pod has what changed in a Secret, and the operator to hear of it.
const KUBELET: Duration = Duration::from_mins(3);

const PORTAL: &str = "watched";
const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// What a receiver got: the path, the id of a webhook, and the body.
type Received = (String, Option<String>, String);

/// Takes messages on this machine, and answers with the status that it is told to.
#[derive(Clone)]
struct Receiver {
    url: String,
    status: Arc<AtomicU16>,
    all: Arc<Mutex<Vec<Received>>>,
}

impl Receiver {
    async fn start(address: IpAddr) -> Result<Self> {
        let listener = TcpListener::bind((address, 0)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let receiver = Self { url, status: Arc::new(AtomicU16::new(200)), all: Arc::default() };
        let own = receiver.clone();
        let take = async move |Path(path): Path<String>, headers: HeaderMap, body: String| {
            let id = headers.get("webhook-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
            own.all.lock().expect("no panic").push((path, id, body));
            StatusCode::from_u16(own.status.load(Ordering::Relaxed)).expect("a status")
        };
        let routes = Router::new().route("/{*path}", post(take));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Ok(receiver)
    }

    fn answer_with(&self, status: u16) {
        self.status.store(status, Ordering::Relaxed);
    }

    /// What came at a path.
    fn received(&self, path: &str) -> Vec<Received> {
        let all = self.all.lock().expect("no panic");
        all.iter().filter(|(at, ..)| at == path).cloned().collect()
    }

    async fn wait_for(&self, path: &str, count: usize) -> Result<Vec<Received>> {
        eventually(&format!("{count} messages at {path}"), Duration::from_mins(2), async || {
            let received = self.received(path);
            ensure!(received.len() >= count, "{received:?}");
            Ok(received)
        })
        .await
    }
}

/// The address by which pods reach this machine.
async fn address_for_pods(namespace: &Namespace) -> Result<IpAddr> {
    let pods = namespace.running_pods(PORTAL, "hardware").await?;
    let pod = pods.first().and_then(|pod| pod.status.as_ref()?.pod_ip.clone());
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    // Nothing is sent: this chooses a route.
    socket.connect((pod.context("a pod with an address")?.as_str(), 9))?;
    Ok(socket.local_addr()?.ip())
}

fn watches(namespace: &Namespace) -> Api<HardwareWatch> {
    namespace.api()
}

async fn apply_watch(namespace: &Namespace, name: &str, spec: Value) -> Result<()> {
    let watch = json!({"apiVersion": "gill-hicks.dev/v1alpha1", "kind": "HardwareWatch",
        "metadata": {"name": name}, "spec": spec});
    let parameters = PatchParams::apply("e2e").force();
    watches(namespace).patch(name, &parameters, &Patch::Apply(watch)).await?;
    Ok(())
}

async fn wait_for_watch(
    namespace: &Namespace,
    name: &str,
    what: &str,
    is_there: impl Fn(&HardwareWatch) -> bool,
) -> Result<HardwareWatch> {
    eventually(what, KUBELET, async || {
        let watch = watches(namespace).get(name).await?;
        ensure!(is_there(&watch), "{:?}", watch.status);
        Ok(watch)
    })
    .await
}

fn condition<'a>(watch: &'a HardwareWatch, kind: &str) -> Option<&'a Condition> {
    watch.status.as_ref()?.conditions.iter().find(|condition| condition.type_ == kind)
}

fn is(watch: &HardwareWatch, kind: &str, status: &str, reason: &str) -> bool {
    let is_current = watch.status.as_ref().and_then(|status| status.observed_generation)
        == watch.metadata.generation;
    is_current
        && condition(watch, kind).is_some_and(|it| it.status == status && it.reason == reason)
}

/// Observations of a pool of so many units, all of them free, at each of these minutes before now.
async fn observe(
    namespace: &Namespace,
    total: u32,
    minutes: impl Iterator<Item = i64>,
) -> Result<()> {
    let now = Timestamp::now().as_second();
    let mut observations = Vec::new();
    for minute in minutes {
        let at = Timestamp::from_second(now - minute * 60)?;
        observations.push(json!({"provider": "Lab", "name": "h100", "total": total, "in_use": 0,
            "observed_at": at.to_string()}));
    }
    namespace.observe(PORTAL, &json!({"source": "lab", "observations": observations})).await
}

#[tokio::test]
async fn a_watch_tells_its_receivers_and_its_status_what_came_of_that() -> Result<()> {
    let namespace = Namespace::open("e2e-watches").await?;
    let all = ListParams::default();
    watches(&namespace).delete_collection(&DeleteParams::default(), &all).await?;
    let from = |key: &str| json!({"secretKeyRef": {"name": "receivers", "key": key}});
    let spec = json!({
        "portalRef": {"name": PORTAL}, "match": {"provider": "lab", "name": "h1*"}, "units": 2,
        "level": "MEDIUM", "for": "0s", "cooldown": "0s",
        "deliver": [
            {"webhook": {"urlFrom": from("webhook"), "signingKeyFrom": from("signing-key")}},
            {"slack": {"urlFrom": from("slack")}},
        ],
    });
    // It may come before everything that it names.
    apply_watch(&namespace, "gpus", spec).await?;
    wait_for_watch(&namespace, "gpus", "the portal is missing", |it| {
        is(it, "Ready", "False", "PortalNotFound")
    })
    .await?;
    let allowed = json!({"watches": {"allowHttp": true, "allowAddresses": ["10.0.0.0/8"]}});
    namespace.apply_portal(PORTAL, allowed).await?;
    namespace.wait_until_ready(PORTAL).await?;
    // What an earlier run left; there need be none.
    let left = ListParams::default().fields("metadata.name=receivers");
    namespace.api::<Secret>().delete_collection(&DeleteParams::default(), &left).await?;
    let missing = wait_for_watch(&namespace, "gpus", "the Secret is missing", |it| {
        is(it, "Ready", "False", "SecretNotFound")
    });
    missing.await?;
    let receiver = Receiver::start(address_for_pods(&namespace).await?).await?;
    let labels = json!({"gill-hicks.dev/allow-portal": PORTAL});
    let secret = json!({"webhook": format!("{}/webhook", receiver.url), "signing-key": KEY,
        "slack": format!("{}/slack", receiver.url)});
    namespace.apply_secret("receivers", labels, secret).await?;
    wait_for_watch(&namespace, "gpus", "it is watched for", |it| {
        is(it, "Ready", "True", "Watching")
    })
    .await?;

    observe(&namespace, 8, (0..=180).rev()).await?;
    let (_, first, body) = receiver.wait_for("webhook", 1).await?.remove(0);
    let said: Value = serde_json::from_str(&body)?;
    ensure!(said["data"]["pool"]["free"] == 8 && first.is_some(), "{body}");
    let (_, _, text) = receiver.wait_for("slack", 1).await?.remove(0);
    ensure!(text.contains("2 × Lab h100 on-demand can be had"), "{text}");
    let told = wait_for_watch(&namespace, "gpus", "status says so", |it| {
        let status = it.status.clone().unwrap_or_default();
        status.armed == Some(false)
            && status.last_delivered.is_some()
            && status.pending_deliveries == Some(0)
            && is(it, "Delivering", "True", "AsExpected")
    })
    .await?;
    ensure!(!serde_json::to_string(&told)?.contains(&receiver.url), "its status has the address");
    tells_after_the_receiver_was_away(&namespace, &receiver).await?;
    refuses_addresses_that_the_portal_does_not_allow(&namespace, &receiver).await?;
    watches(&namespace).delete("gpus", &DeleteParams::default()).await?;
    eventually("the pods do not get it any more", Duration::from_secs(30), async || {
        let secret = namespace.api::<Secret>().get(&format!("{PORTAL}-watches")).await?;
        let content = secret.data.and_then(|mut data| data.remove("watches.json"));
        let content: Value = serde_json::from_slice(&content.context("a document")?.0)?;
        ensure!(content["watches"] == json!([]), "it is still there");
        Ok(())
    })
    .await?;
    namespace.delete_portal(PORTAL).await
}

/// Lets the level go and come, so that the watch fires.
async fn fire_again(namespace: &Namespace) -> Result<()> {
    let before = watches(namespace).get("gpus").await?.status.and_then(|it| it.last_fired);
    observe(namespace, 1, std::iter::once(0)).await?;
    wait_for_watch(namespace, "gpus", "it is armed again", |it| {
        it.status.as_ref().is_some_and(|status| status.armed == Some(true))
    })
    .await?;
    observe(namespace, 8, std::iter::once(0)).await?;
    wait_for_watch(namespace, "gpus", "it fires again", |it| {
        it.status.as_ref().is_some_and(|status| status.last_fired != before)
    })
    .await
    .map(drop)
}

async fn tells_after_the_receiver_was_away(
    namespace: &Namespace,
    receiver: &Receiver,
) -> Result<()> {
    receiver.answer_with(503);
    fire_again(namespace).await?;
    let failing = wait_for_watch(namespace, "gpus", "the failure is told", |it| {
        is(it, "Delivering", "False", "DeliveryFailing")
    })
    .await?;
    let message = condition(&failing, "Delivering").map(|it| it.message.clone());
    let message = message.unwrap_or_default();
    ensure!(message.contains("503"), "{message}");
    // Whoever was sending dies, and what is pending does not.
    let pods = namespace.running_pods(PORTAL, "hardware").await?;
    for pod in &pods {
        node::kill(pod)?;
    }
    let tried = receiver.received("webhook");
    receiver.answer_with(200);
    let told = receiver.wait_for("webhook", tried.len() + 1).await?;
    let (earlier, later) = told.split_at(tried.len());
    let last = earlier.last().context("it was tried")?;
    ensure!(later[0].1 == last.1, "another id: {:?} after {:?}", later[0], last);
    wait_for_watch(namespace, "gpus", "nothing is pending", |it| {
        is(it, "Delivering", "True", "AsExpected")
    })
    .await
    .map(drop)
}

async fn refuses_addresses_that_the_portal_does_not_allow(
    namespace: &Namespace,
    receiver: &Receiver,
) -> Result<()> {
    namespace.apply_portal(PORTAL, json!({"watches": {"allowHttp": true}})).await?;
    // The kubelet brings the new rules to the pods some time later, so that one more message may arrive.
    let refused = "not in the portal's spec.watches.allowAddresses";
    eventually("the address is refused", KUBELET, async || {
        fire_again(namespace).await?;
        let watch = watches(namespace).get("gpus").await?;
        let delivering = condition(&watch, "Delivering").map(|it| it.message.clone());
        let message = delivering.unwrap_or_default();
        ensure!(message.contains(refused), "{}: {message}", watch.name_any());
        Ok(())
    })
    .await?;
    let before = receiver.received("webhook").len();
    fire_again(namespace).await?;
    ensure!(receiver.received("webhook").len() == before, "a refused address was sent something");
    Ok(())
}
