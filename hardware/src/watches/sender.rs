//! Requests to receivers.

use std::{
    error::Error,
    fmt, io,
    net::{IpAddr, SocketAddr},
    str::FromStr,
    task::{Context, Poll},
    time::Duration,
    vec,
};

use chrono::{DateTime, Utc};
use futures::future::BoxFuture;
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{
        Client,
        connect::{HttpConnector, dns::Name},
    },
    rt::TokioExecutor,
};
use ipnet::IpNet;
use rustls::crypto::aws_lc_rs;
use secrecy::ExposeSecret;
use tokio::{net::lookup_host, time::timeout};
use tower::Service;

use super::{
    address::may_be_reached,
    file::{AddressRules, Target},
    message::Message,
};

/// Time for a whole request, and for its connection alone.
const DEADLINE: Duration = Duration::from_secs(10);
const CONNECT_DEADLINE: Duration = Duration::from_secs(3);

/// The longest pause that a receiver may ask for.
const MOST_RETRY_AFTER: Duration = Duration::from_hours(1);

/// Sends messages to receivers that may be reached. It follows no redirect and uses no proxy, and an address is
/// checked after its name was resolved, in the connection that is then used: another answer of the name server
/// is another address that is checked.
pub(super) struct Sender {
    rules: AddressRules,
    client: Client<HttpsConnector<HttpConnector<Resolver>>, Full<Bytes>>,
}

/// Why a receiver has not taken a message. Shows neither its address nor its name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SendError {
    /// Encryption is required.
    #[error("its url is http://, and the portal's spec.watches.allowHttp is false")]
    NotEncrypted,
    /// No address of it may be reached.
    #[error(
        "its host has the address {0}, which is not a public one and not in the portal's \
         spec.watches.allowAddresses"
    )]
    Refused(IpAddr),
    /// Its name has no address.
    #[error("the name of its host was not resolved")]
    NoAddress,
    /// Nothing listens there.
    #[error("it takes no connection")]
    NoConnection,
    /// Its certificate is not trusted.
    #[error("its certificate is not trusted")]
    Certificate,
    /// It is too slow.
    #[error("it did not answer within {} s", DEADLINE.as_secs())]
    Late,
    /// It spoke something else than HTTP, or stopped.
    #[error("the connection broke before it had answered")]
    Broken,
    /// It answered something else than 2xx.
    #[error("it answered with the status {status}")]
    Status {
        /// The status.
        status: StatusCode,
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
    },
}

impl SendError {
    /// How long the receiver wants not to be asked.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

impl Sender {
    /// One that keeps to `rules`. Fails if the machine has no certificate authorities.
    pub(super) fn new(rules: AddressRules) -> io::Result<Self> {
        let mut tcp = HttpConnector::new_with_resolver(Resolver(rules.allow_addresses.clone()));
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT_DEADLINE));
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(aws_lc_rs::default_provider())?
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        // A message now and then: a connection that is kept has been closed by then.
        let client =
            Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        Ok(Self { rules, client })
    }

    /// What it keeps to.
    pub(super) fn rules(&self) -> &AddressRules {
        &self.rules
    }

    /// Sends a message once.
    pub(super) async fn send(&self, target: &Target, message: Message) -> Result<(), SendError> {
        let uri = Uri::from_str(target.url.expose_secret()).expect("checked when it was read");
        if uri.scheme_str() != Some("https") && !self.rules.allow_http {
            return Err(SendError::NotEncrypted);
        }
        // A host that is an address is not resolved.
        let host = uri.host().expect("checked when it was read");
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = host.parse()
            && !may_be_reached(address, &self.rules.allow_addresses)
        {
            return Err(SendError::Refused(address));
        }
        let mut request = Request::builder().method(Method::POST).uri(uri);
        request =
            request.header(header::USER_AGENT, concat!("gill-hicks/", env!("CARGO_PKG_VERSION")));
        for (name, value) in message.headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::from(message.body)).expect("good headers");
        let Ok(answer) = timeout(DEADLINE, self.client.request(request)).await else {
            return Err(SendError::Late);
        };
        let answer = answer.map_err(|error| explain(&error))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let retry_after = answer.headers().get(header::RETRY_AFTER);
        let retry_after = retry_after.and_then(|value| read_retry_after(value.to_str().ok()?));
        Err(SendError::Status { status, retry_after })
    }
}

/// Seconds, or a date.
fn read_retry_after(text: &str) -> Option<Duration> {
    let text = text.trim();
    let pause = if let Ok(seconds) = text.parse() {
        Duration::from_secs(seconds)
    } else {
        let until = DateTime::parse_from_rfc2822(text).ok()?;
        (until.to_utc() - Utc::now()).to_std().unwrap_or_default()
    };
    Some(pause.min(MOST_RETRY_AFTER))
}

fn explain(error: &(dyn Error + 'static)) -> SendError {
    let mut cause = Some(error);
    let mut found = SendError::Broken;
    while let Some(error) = cause {
        if let Some(Unreachable::Refused(address)) = inner(error) {
            return SendError::Refused(*address);
        }
        if let Some(Unreachable::Unknown) = inner(error) {
            return SendError::NoAddress;
        }
        if inner::<rustls::Error>(error)
            .is_some_and(|it| matches!(it, rustls::Error::InvalidCertificate(_)))
        {
            return SendError::Certificate;
        }
        let legacy = error.downcast_ref::<hyper_util::client::legacy::Error>();
        if legacy.is_some_and(hyper_util::client::legacy::Error::is_connect) {
            found = SendError::NoConnection;
        }
        cause = error.source();
    }
    found
}

/// The error of a type: itself, or within one of the operating system's.
fn inner<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let within = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    error.downcast_ref().or_else(|| within?.downcast_ref())
}

/// Resolves names to addresses that may be reached.
#[derive(Clone)]
struct Resolver(Vec<IpNet>);

#[derive(Debug)]
enum Unreachable {
    /// No address of it may be reached; this is one of them.
    Refused(IpAddr),
    /// It has none.
    Unknown,
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the host has no address that may be reached")
    }
}

impl Error for Unreachable {}

impl Service<Name> for Resolver {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = Unreachable;
    type Future = BoxFuture<'static, Result<Self::Response, Unreachable>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Unreachable>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let allowed = self.0.clone();
        Box::pin(async move {
            let all = lookup_host((name.as_str(), 0)).await.map_err(|_| Unreachable::Unknown)?;
            choose(all.collect(), &allowed).map(Vec::into_iter)
        })
    }
}

/// Those that may be reached.
fn choose(all: Vec<SocketAddr>, allowed: &[IpNet]) -> Result<Vec<SocketAddr>, Unreachable> {
    let refused = all.first().map_or(Unreachable::Unknown, |it| Unreachable::Refused(it.ip()));
    let mut reachable = all;
    reachable.retain(|it| may_be_reached(it.ip(), allowed));
    if reachable.is_empty() { Err(refused) } else { Ok(reachable) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Unreachable, choose, read_retry_after};

    #[test]
    fn of_the_addresses_of_a_name_only_those_are_used_that_may_be_reached() {
        let parse = |all: &[&str]| all.iter().map(|it| it.parse().expect("one")).collect();
        let mixed = parse(&["10.0.0.1:0", "1.1.1.1:0", "[::1]:0"]);
        assert_eq!(choose(mixed, &[]).expect("one is public"), parse(&["1.1.1.1:0"]));
        let private = choose(parse(&["10.0.0.1:0", "127.0.0.1:0"]), &[]);
        assert!(matches!(private, Err(Unreachable::Refused(it)) if it.to_string() == "10.0.0.1"));
        assert!(matches!(choose(Vec::new(), &[]), Err(Unreachable::Unknown)));
    }

    #[test]
    fn the_pause_that_a_receiver_asks_for_is_read_and_bounded() {
        assert_eq!(read_retry_after("120"), Some(Duration::from_mins(2)));
        assert_eq!(read_retry_after("99999999"), Some(Duration::from_hours(1)));
        assert_eq!(read_retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert_eq!(read_retry_after("soon"), None);
    }
}
