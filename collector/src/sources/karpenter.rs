//! What Karpenter asks a cloud for, and what comes of it: attempts. And the offerings that it takes for
//! available, where its metrics are configured.
//!
//! A watch follows NodeClaims, which say what was asked for and given, and another one the events in which
//! Karpenter says that a cloud had too little: it deletes such a NodeClaim at once.

mod followed;
mod node_claim;
mod offerings;
mod requests;

use std::{collections::BTreeMap, time::Duration};

use chrono::TimeDelta;
use hardware_api::Attempt;
use http::{Request, Uri, header};
use k8s_openapi::api::core::v1;
use kube::{Api, Client, api::ListParams, client::Body};
use metrics::counter;
use serde::Deserialize;
use service_kit::Clock;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};

use self::{followed::Event, node_claim::NodeClaim, requests::Requests};
use super::{
    Silence, Source,
    api_server::{self, ask},
    complaints::Complaints,
    service::{self, Service},
    watch::{self, Failure, Following},
};
use crate::statement::{Pools, Problem, Statement};

/// How often the offerings are read, and both kinds are asked for. Karpenter takes an offering for
/// unavailable for three minutes after it was refused.
const INTERVAL: Duration = Duration::from_secs(30);
/// What happens within this time is said together.
const DEBOUNCE: Duration = Duration::from_millis(500);
/// Events that may wait while a batch is posted.
const WAITING: usize = 1024;
/// What ended longer before the start is not told: it says little of today, and was told then.
const LOOK_BACK: TimeDelta = TimeDelta::days(1);

/// Time to read the metrics.
const DEADLINE: Duration = Duration::from_secs(5);
/// All offerings of a region of AWS, with their prices, are 5 MB.
const MAX_BYTES: usize = 32 * 1024 * 1024;
/// Only the leader of Karpenter's replicas has the gauge. Each question goes to one of them by chance.
const TRIES: usize = 4;

const FAILURES_OF_NODE_CLAIMS: &str =
    "involvedObject.kind=NodeClaim,reason=InsufficientCapacityError";

/// Which of Karpenter's requests are followed.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct Options {
    /// Labels of the NodeClaims that are followed; all if there are none.
    node_selector: BTreeMap<String, String>,
    /// Where Karpenter's metrics are, such as `http://karpenter.kube-system:8080/metrics`.
    metrics_url: Option<String>,
}

impl Options {
    /// What is wrong, if anything.
    pub(crate) fn validate(&self) -> Result<(), String> {
        self.metrics_address().map(drop)
    }

    fn metrics_address(&self) -> Result<Option<Uri>, String> {
        let url = self.metrics_url.as_ref();
        url.map(|url| service::parse_address("karpenter.metricsUrl", url)).transpose()
    }

    fn label_selector(&self) -> Option<String> {
        let terms: Vec<String> =
            self.node_selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
        (!terms.is_empty()).then(|| terms.join(","))
    }
}

/// A Karpenter that is followed.
pub(crate) struct Karpenter {
    name: String,
    requests: Requests,
    node_claims: Following,
    events: Following,
    node_claim_api: Api<NodeClaim>,
    event_api: Api<v1::Event>,
    received: mpsc::Receiver<Event>,
    /// When both kinds were last asked for.
    confirmed: Option<Instant>,
    offerings: Option<Offerings>,
}

/// Where the offerings are read.
struct Offerings {
    metrics: Service,
    path: String,
    /// When they were last read, and what they were.
    read: Option<(Instant, Pools)>,
    complaints: Complaints,
}

impl Karpenter {
    /// Begins to follow the Karpenter of the cluster of `client`, for the source `name`. Ends with this value.
    pub(crate) fn follow(
        name: &str,
        client: Client,
        options: &Options,
        clock: &Clock,
    ) -> Result<Self, String> {
        let offerings = options.metrics_address()?.map(Offerings::at);
        let offerings = offerings.transpose()?;
        let (sender, received) = mpsc::channel(WAITING);
        let (node_claim_api, event_api) = (Api::all(client.clone()), Api::all(client));
        let label_selector = options.label_selector();
        tokio::spawn(watch::run(node_claim_api.clone(), label_selector, None, sender.clone()));
        let failures = Some(FAILURES_OF_NODE_CLAIMS.to_owned());
        tokio::spawn(watch::run(event_api.clone(), None, failures, sender));
        Ok(Self {
            name: name.to_owned(),
            requests: Requests::since(clock.now() - LOOK_BACK),
            node_claims: Following::default(),
            events: Following::default(),
            node_claim_api,
            event_api,
            received,
            confirmed: None,
            offerings,
        })
    }

    /// Takes what happened. Says whether there may be something else to say.
    fn take(&mut self, event: Event) -> bool {
        match event {
            Event::NodeClaims(change) => self.node_claims.take(change, &mut self.requests),
            Event::Events(change) => self.events.take(change, &mut self.requests),
        }
    }

    fn take_waiting(&mut self) {
        while let Ok(event) = self.received.try_recv() {
            self.take(event);
        }
    }

    /// What keeps it from speaking, of what the watches said. Without Karpenter nothing else matters, and a
    /// right that is missing is said although the other list is still under way.
    fn trouble(&self) -> Option<Result<Problem, Silence>> {
        let of = |kind: Kind, following: &Following| match following {
            Following::Current => None,
            Following::Listing => Some(Err(Silence::Starting)),
            Following::Failed(failure) => Some(explain(kind, failure)),
        };
        let (claims, events) =
            (of(Kind::NodeClaims, &self.node_claims), of(Kind::Events, &self.events));
        match (claims, events) {
            (Some(Ok(problem)), _) | (_, Some(Ok(problem))) => Some(Ok(problem)),
            (claims, events) => claims.or(events),
        }
    }

    /// Asks for one object of each kind, which takes the same right and the same way as the watches.
    async fn confirm(&mut self) -> Result<(), (Kind, Failure)> {
        let one = ListParams::default().limit(1);
        let claims = ask(self.node_claim_api.list_metadata(&one)).await;
        claims.map_err(|failure| (Kind::NodeClaims, failure))?;
        let of_claims = one.fields(FAILURES_OF_NODE_CLAIMS);
        let events = ask(self.event_api.list_metadata(&of_claims)).await;
        events.map_err(|failure| (Kind::Events, failure))?;
        self.confirmed = Some(Instant::now());
        Ok(())
    }
}

impl Source for Karpenter {
    fn interval(&self) -> Duration {
        INTERVAL
    }

    async fn look(&mut self) -> Result<Statement, Silence> {
        self.take_waiting();
        if let Some(trouble) = self.trouble() {
            return trouble.map(Statement::Problem);
        }
        if self.confirmed.is_none_or(|at| at.elapsed() >= INTERVAL / 2)
            && let Err((kind, failure)) = self.confirm().await
        {
            return explain(kind, &failure).map(Statement::Problem);
        }
        match &mut self.offerings {
            Some(offerings) => offerings.read(&self.name).await.map(Statement::Pools),
            None => Ok(Statement::Pools(Pools::new())),
        }
    }

    async fn changed(&mut self) {
        loop {
            // The watches end with this value only.
            let Some(event) = self.received.recv().await else {
                return std::future::pending().await;
            };
            if self.take(event) {
                break;
            }
        }
        sleep(DEBOUNCE).await;
        tracing::debug!(node_claims = self.requests.len(), "Karpenter's requests changed");
    }

    fn take_attempts(&mut self) -> Vec<Attempt> {
        self.take_waiting();
        let ambiguous = self.requests.take_ambiguous();
        counter!("collector_ambiguous_failures_total", "source" => self.name.clone())
            .increment(ambiguous);
        self.requests.take_attempts()
    }
}

impl Offerings {
    fn at(address: Uri) -> Result<Self, String> {
        let (address, path) = service::split_path(address);
        let metrics = Service::new(address, DEADLINE, MAX_BYTES)?;
        Ok(Self { metrics, path, read: None, complaints: Complaints::default() })
    }

    /// The offerings as they are now, or were a moment ago.
    async fn read(&mut self, source: &str) -> Result<Pools, Silence> {
        if let Some((at, pools)) = &self.read
            && at.elapsed() < INTERVAL / 2
        {
            return Ok(pools.clone());
        }
        for _ in 0..TRIES {
            let exposition = self.scrape().await.map_err(Silence::Unconfirmed)?;
            let (pools, complaints) = offerings::parse(&String::from_utf8_lossy(&exposition));
            if !pools.is_empty() {
                self.complaints.say(source, complaints);
                self.read = Some((Instant::now(), pools.clone()));
                return Ok(pools);
            }
        }
        Err(Silence::Unconfirmed(
            "the metrics of karpenter.metricsUrl have no offerings, which only the leader of Karpenter's AWS \
             provider has; with another provider, remove metricsUrl"
                .to_owned(),
        ))
    }

    async fn scrape(&self) -> Result<Vec<u8>, String> {
        let request = Request::get(&self.path)
            .header(header::ACCEPT, "text/plain")
            // The next question may go to another replica.
            .header(header::CONNECTION, "close")
            .body(Body::empty())
            .expect("a path of an address, and constant headers");
        match self.metrics.ask(request).await {
            Ok((status, body)) if status.is_success() => Ok(body),
            Ok((status, _)) => Err(format!(
                "karpenter.metricsUrl answers {status}; it has to give Karpenter's metrics without a login"
            )),
            Err(reason) => Err(format!("karpenter.metricsUrl {reason}")),
        }
    }
}

/// What is followed.
#[derive(Clone, Copy)]
enum Kind {
    NodeClaims,
    Events,
}

/// A missing right is a problem that somebody can solve, and so is a cluster without Karpenter. Everything
/// else passes, or is not known to be so.
fn explain(kind: Kind, failure: &Failure) -> Result<Problem, Silence> {
    let (code, name) = match kind {
        Kind::NodeClaims => ("nodeclaims_forbidden", "nodeclaims.karpenter.sh"),
        Kind::Events => ("events_forbidden", "events"),
    };
    match (kind, failure) {
        (_, Failure::Forbidden(account)) => {
            let detail = api_server::describe_forbidden(name, account.as_deref());
            Ok(Problem { code, detail })
        }
        (Kind::NodeClaims, Failure::UnknownKind) => Ok(Problem {
            code: "karpenter_not_installed",
            detail: "the cluster has no nodeclaims.karpenter.sh of version v1; install Karpenter 1.0 or later, or \
                     remove the source"
                .to_owned(),
        }),
        (_, other) => Err(api_server::silence(name, other)),
    }
}

#[cfg(test)]
mod tests {
    use super::{Failure, Kind, Options, explain};

    #[test]
    fn each_trouble_has_a_code_and_says_what_to_do() {
        let forbidden =
            Failure::Forbidden(Some("system:serviceaccount:team:demo-collector".to_owned()));
        let command = "kubectl create clusterrolebinding gill-hicks-collector-team-demo \
                       --clusterrole=gill-hicks-collector --serviceaccount=team:demo-collector";
        for (kind, failure, code, hint) in [
            (Kind::NodeClaims, &forbidden, "nodeclaims_forbidden", command),
            (Kind::Events, &forbidden, "events_forbidden", command),
            (
                Kind::NodeClaims,
                &Failure::UnknownKind,
                "karpenter_not_installed",
                "install Karpenter",
            ),
        ] {
            let problem = explain(kind, failure).expect("a problem");
            assert_eq!(problem.code, code);
            assert!(problem.detail.contains(hint), "{}", problem.detail);
        }
        let silence = explain(Kind::Events, &Failure::Other("500 later".to_owned()));
        let silence = silence.expect_err("it passes").to_string();
        assert_eq!(silence, "the API server gives no events: 500 later");
    }

    #[test]
    fn node_claims_are_selected_by_all_labels() {
        let options = |json: &str| serde_json::from_str::<Options>(json).expect("options");
        assert_eq!(options("{}").label_selector(), None);
        let two = options(r#"{"nodeSelector": {"karpenter.sh/nodepool": "gpu", "a": "b"}}"#);
        assert_eq!(two.label_selector().as_deref(), Some("a=b,karpenter.sh/nodepool=gpu"));
    }
}
