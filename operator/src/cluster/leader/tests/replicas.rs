//! Replicas that compete for one Lease of a server in memory, on a clock that the tests move.

use axum::body::Body as AnyBody;
use futures::{FutureExt, StreamExt, stream};
use http::{Method, Request, Response, StatusCode};
use kube::{Api, Client, client::Body};
use tokio::{sync::watch, time::sleep};
use tower::{BoxError, service_fn};

use super::{Arc, Duration, Instant, Lease, Mutex, json, seconds};
use crate::cluster::{
    client::Fence,
    leader::{Claim, LeaderElector, Times, claim::holder},
};

/// A server with one Lease. A replica that is cut off gets no answer.
#[derive(Clone)]
struct Server {
    lease: watch::Sender<Option<Lease>>,
    cut_off: Arc<Mutex<Vec<&'static str>>>,
}

impl Server {
    fn new() -> Self {
        Self { lease: watch::Sender::new(None), cut_off: Arc::default() }
    }

    fn replica(&self, name: &'static str) -> Replica {
        let server = self.clone();
        let service = service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move { server.answer(name, request).await }.boxed()
        });
        let leases: Api<Lease> = Api::default_namespaced(Client::new(service, "default"));
        let fence = Fence::default();
        let elector = LeaderElector::new(leases, name.to_owned(), fence.clone(), Times::default());
        Replica { elector, fence }
    }

    fn cut_off(&self, name: &'static str) {
        self.cut_off.lock().expect("no panic").push(name);
    }

    fn holder(&self) -> Option<String> {
        self.lease.borrow().as_ref().and_then(holder).map(str::to_owned)
    }

    async fn answer(
        &self,
        name: &'static str,
        request: Request<Body>,
    ) -> Result<Response<AnyBody>, BoxError> {
        if self.cut_off.lock().expect("no panic").contains(&name) {
            return std::future::pending().await;
        }
        let query = request.uri().query().unwrap_or_default().to_owned();
        match *request.method() {
            Method::GET if query.contains("watch=true") => Ok(self.watch()),
            Method::GET if query.contains("fieldSelector") => {
                let items: Vec<_> = self.lease.borrow().iter().cloned().collect();
                let list = json!({"metadata": {"resourceVersion": "1"}, "items": items});
                Ok(respond(StatusCode::OK, &list))
            }
            Method::GET => Ok(respond(StatusCode::OK, &json!(*self.lease.borrow()))),
            _ => Ok(self.write(&request.into_body().collect_bytes().await?)),
        }
    }

    fn write(&self, body: &[u8]) -> Response<AnyBody> {
        let mut new: Lease = serde_json::from_slice(body).expect("a Lease");
        let written = self.lease.send_if_modified(|lease| {
            let version = lease.as_ref().and_then(|lease| lease.metadata.resource_version.clone());
            let is_current = version == new.metadata.resource_version;
            if is_current {
                let next = version.map_or(1, |version| version.parse().unwrap_or(0) + 1);
                new.metadata.resource_version = Some(next.to_string());
                *lease = Some(new.clone());
            }
            is_current
        });
        if written {
            return respond(StatusCode::OK, &json!(new));
        }
        let conflict = json!({
            "kind": "Status", "status": "Failure", "code": 409, "reason": "Conflict", "message": "",
        });
        respond(StatusCode::CONFLICT, &conflict)
    }

    fn watch(&self) -> Response<AnyBody> {
        let changes = self.lease.subscribe();
        let events = stream::unfold(changes, async |mut changes| {
            changes.changed().await.ok()?;
            let event = json!({"type": "MODIFIED", "object": *changes.borrow_and_update()});
            Some((Ok::<_, BoxError>(format!("{event}\n")), changes))
        });
        Response::new(AnyBody::from_stream(events.boxed()))
    }
}

fn respond(status: StatusCode, body: &serde_json::Value) -> Response<AnyBody> {
    let builder = Response::builder().status(status);
    builder.body(AnyBody::from(body.to_string())).expect("a response")
}

struct Replica {
    elector: LeaderElector,
    fence: Fence,
}

impl Replica {
    async fn lead(&self) -> Claim {
        self.elector.become_leader().await
    }
}

/// Runs a future for a while and expects that it does not end.
async fn run_for<T>(time: Duration, future: impl Future<Output = T>) {
    tokio::select! {
        _ = future => panic!("it was to go on"),
        () = sleep(time) => {}
    }
}

#[tokio::test(start_paused = true)]
async fn one_replica_leads_and_the_other_waits_while_it_renews() {
    let server = Server::new();
    let (first, second) = (server.replica("first"), server.replica("second"));
    let mut claim = first.lead().await;
    assert!(first.fence.is_open());
    run_for(seconds(120), async {
        tokio::select! {
            () = first.elector.stay_leader(&mut claim) => {}
            _ = second.lead() => {}
        }
    })
    .await;
    assert_eq!(server.holder().as_deref(), Some("first"));
    assert!(first.fence.is_open() && !second.fence.is_open());
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_resigns_is_followed_at_once() {
    let server = Server::new();
    let (first, second) = (server.replica("first"), server.replica("second"));
    let claim = first.lead().await;
    let next = tokio::spawn(async move {
        second.lead().await;
        Instant::now()
    });
    sleep(seconds(3)).await;
    let resigned = Instant::now();
    first.elector.resign(claim).await;
    assert!(!first.fence.is_open());
    let followed = next.await.expect("no panic");
    assert!(followed - resigned < seconds(1), "{:?}", followed - resigned);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_cut_off_writes_nothing_well_before_it_is_followed() {
    let server = Server::new();
    let (first, second) = (server.replica("first"), server.replica("second"));
    let mut claim = first.lead().await;
    let next = tokio::spawn(async move {
        second.lead().await;
        Instant::now()
    });
    sleep(seconds(1)).await;
    server.cut_off("first");
    first.elector.stay_leader(&mut claim).await;
    let stopped = Instant::now();
    assert!(!first.fence.is_open());
    let followed = next.await.expect("no panic");
    // The difference is what a request that was under way may take.
    assert!(followed - stopped >= crate::cluster::client::DEADLINE, "{:?}", followed - stopped);
    assert!(followed - stopped <= seconds(8), "{:?}", followed - stopped);
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_lease_was_taken_stops_at_its_next_renewal() {
    let server = Server::new();
    let (first, second) = (server.replica("first"), server.replica("second"));
    let mut claim = first.lead().await;
    // As an administrator may do.
    let mut taken = server.lease.borrow().clone().expect("a Lease");
    taken.spec.get_or_insert_default().holder_identity = Some("second".to_owned());
    server.write(&serde_json::to_vec(&taken).expect("plain data"));
    let started = Instant::now();
    first.elector.stay_leader(&mut claim).await;
    assert!(started.elapsed() <= Times::default().period);
    assert!(!first.fence.is_open());
    drop(second);
}

#[tokio::test(start_paused = true)]
async fn an_annotation_on_the_lease_does_not_end_the_lead() {
    let server = Server::new();
    let first = server.replica("first");
    let mut claim = first.lead().await;
    let mut noted = server.lease.borrow().clone().expect("a Lease");
    noted.metadata.annotations = Some([("note".to_owned(), "hello".to_owned())].into());
    server.write(&serde_json::to_vec(&noted).expect("plain data"));
    run_for(seconds(60), first.elector.stay_leader(&mut claim)).await;
    assert!(first.fence.is_open());
}

#[tokio::test(start_paused = true)]
async fn of_two_that_claim_at_once_one_is_refused() {
    let server = Server::new();
    let (first, second) = (server.replica("first"), server.replica("second"));
    tokio::select! {
        _ = first.lead() => {}
        _ = second.lead() => {}
    }
    let holder = server.holder().expect("one of them has it");
    let (winner, loser) = if holder == "first" { (first, second) } else { (second, first) };
    assert!(winner.fence.is_open() && !loser.fence.is_open());
}
