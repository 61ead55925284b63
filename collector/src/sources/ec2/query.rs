//! The signed Query API of Amazon EC2.
//!
//! Requests go to one address, over TLS, without a redirect and without a proxy of the environment. The
//! SDK's own chain finds the credentials; they are asked for anew for each statement, so that those that
//! were rotated are never used for long.

use std::{error::Error, time::Duration};

use aws_config::{BehaviorVersion, Region, SdkConfig, timeout::TimeoutConfig};
use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials, error::CredentialsError},
};
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};
use aws_smithy_http_client::tls;
use backon::{ExponentialBuilder, Retryable};
use http::{Request, StatusCode, Uri, header};
use kube::client::Body;
use serde::{Deserialize, de::DeserializeOwned};
use service_kit::Clock;
use tokio::sync::OnceCell;

use super::records::Page;
use crate::{sources::service::Service, statement::Problem};

/// Of the API; it has been the same since 2016.
const VERSION: &str = "2016-11-15";
/// Time for one answer.
const DEADLINE: Duration = Duration::from_secs(5);
/// A page of 1 000 records is less than 2 MB.
const MAX_BYTES: usize = 8 * 1024 * 1024;
/// Records of a page; the API gives no more.
const PAGE: &str = "1000";
/// Pages of one answer at most.
const MOST_PAGES: usize = 50;
/// Tries of a request that is one too many, or that the service fails to answer.
const TRIES: usize = 4;
/// Pause before the second try; each further one is twice as long.
const SHORTEST_PAUSE: Duration = Duration::from_millis(500);

/// Longest sentence of AWS that is passed on.
const LONGEST_MESSAGE: usize = 300;

const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";

/// Answers of one region to one account.
pub(super) struct QueryApi {
    region: String,
    endpoint: Uri,
    service: Service,
    /// Read once; it knows where credentials come from, and keeps none.
    sdk: OnceCell<SdkConfig>,
    clock: Clock,
}

/// Why a request was not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum QueryError {
    /// Somebody has to change something.
    Problem(Problem),
    /// It was one request too many, or the service failed: the next try may succeed.
    TryAgain(String),
    /// It may pass.
    Passing(String),
}

/// Body of an answer with another status than 200.
#[derive(Debug, Deserialize)]
struct Failure {
    #[serde(rename = "Errors")]
    errors: Failures,
}

#[derive(Debug, Deserialize)]
struct Failures {
    #[serde(rename = "Error")]
    error: Vec<ApiError>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ApiError {
    code: String,
    #[serde(default)]
    message: String,
}

impl QueryApi {
    /// Will ask the service at `endpoint` for what is in `region`.
    pub(super) fn new(region: &str, endpoint: Uri, clock: Clock) -> Result<Self, String> {
        Ok(Self {
            region: region.to_owned(),
            service: Service::new(endpoint.clone(), DEADLINE, MAX_BYTES)?,
            endpoint,
            sdk: OnceCell::new(),
            clock,
        })
    }

    /// Whoever the collector is for AWS now.
    pub(super) async fn credentials(&self) -> Result<Credentials, QueryError> {
        let sdk = self.sdk.get_or_init(|| Box::pin(load(self.region.clone()))).await;
        let Some(provider) = sdk.credentials_provider() else { return Err(no_credentials()) };
        provider.provide_credentials().await.map_err(|error| explain_credentials(&error))
    }

    /// All records that an action gives for these parameters.
    pub(super) async fn list<T: DeserializeOwned>(
        &self,
        credentials: &Credentials,
        action: &'static str,
        parameters: &[(String, String)],
    ) -> Result<Vec<T>, QueryError> {
        let (mut records, mut token) = (Vec::new(), None::<String>);
        for _ in 0..MOST_PAGES {
            let form = write_form(action, parameters, token.as_deref());
            let body = self.ask_patiently(credentials, action, &form).await?;
            let page: Page<T> = read(&body).map_err(|reason| {
                passing(format!("the answer to {action} is not understood: {reason}"))
            })?;
            let (some, next) = page.into_parts();
            records.extend(some);
            match next {
                None => return Ok(records),
                // It would go on for ever.
                Some(next) if Some(&next) == token.as_ref() => {
                    return Err(passing(format!("{action} gives the same page again and again")));
                }
                next => token = next,
            }
        }
        Err(passing(format!("{action} gives more than {MOST_PAGES} pages; name instanceTypes")))
    }

    /// AWS wants a client that is throttled to come back later, each time later.
    async fn ask_patiently(
        &self,
        credentials: &Credentials,
        action: &'static str,
        form: &str,
    ) -> Result<Vec<u8>, QueryError> {
        let pauses = ExponentialBuilder::new()
            .with_min_delay(SHORTEST_PAUSE)
            .with_jitter()
            .with_max_times(TRIES - 1);
        let asked = || self.ask(credentials, action, form);
        asked.retry(pauses).when(|error| matches!(error, QueryError::TryAgain(_))).await
    }

    async fn ask(
        &self,
        credentials: &Credentials,
        action: &'static str,
        form: &str,
    ) -> Result<Vec<u8>, QueryError> {
        let request = self.sign(credentials, form).map_err(|reason| {
            passing(format!("failed to sign a request with the credentials: {reason}"))
        })?;
        let (status, body) =
            self.service.ask(request).await.map_err(|reason| passing(format!("EC2 {reason}")))?;
        if status == StatusCode::OK { Ok(body) } else { Err(self.explain(action, status, &body)) }
    }

    /// A request with the signature of AWS, version 4.
    fn sign(&self, credentials: &Credentials, form: &str) -> Result<Request<Body>, String> {
        let host = self.endpoint.authority().map_or("", |authority| authority.as_str());
        let url = format!("{}://{host}/", self.endpoint.scheme_str().unwrap_or("https"));
        let identity = credentials.clone().into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("ec2")
            .time(self.clock.now().into())
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| error.to_string())?;
        let headers = [(header::HOST.as_str(), host), (header::CONTENT_TYPE.as_str(), FORM)];
        let body = SignableBody::Bytes(form.as_bytes());
        let signable = SignableRequest::new("POST", url, headers.into_iter(), body)
            .map_err(|error| error.to_string())?;
        let signed = sign(signable, &parameters.into()).map_err(|error| error.to_string())?;
        let mut request = Request::post("/");
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let mut request = request
            .body(Body::from(form.as_bytes().to_vec()))
            .map_err(|error| error.to_string())?;
        let (instructions, _) = signed.into_parts();
        instructions.apply_to_request_http1x(&mut request);
        Ok(request)
    }

    /// What an answer with another status than 200 means.
    fn explain(&self, action: &str, status: StatusCode, body: &[u8]) -> QueryError {
        let failure: Option<Failure> = read(body).ok();
        let error = failure.and_then(|failure| failure.errors.error.into_iter().next());
        let Some(ApiError { code, message }) = error else {
            let reason =
                format!("EC2 answers {status}, and nothing of its API; check ec2.endpoint");
            return if status.is_server_error() { try_again(reason) } else { passing(reason) };
        };
        let said = said(&code, &message);
        match code.as_str() {
            "RequestLimitExceeded" | "Throttling" | "ThrottlingException" | "SlowDown" => {
                try_again(format!("EC2 wants fewer requests from this account: {said}"))
            }
            "UnauthorizedOperation" | "AccessDenied" => problem(
                "ec2_unauthorized",
                format!(
                    "AWS does not allow the collector's role {action} in {}; allow ec2:{action} in its policy",
                    self.region
                ),
            ),
            "RequestExpired" | "ExpiredToken" | "ExpiredTokenException" => problem(
                "ec2_credentials_expired",
                format!(
                    "AWS says that the credentials, or the request by the node's clock, have expired ({code}); \
                     renew them where the collector gets them from, or set the clock"
                ),
            ),
            "AuthFailure"
            | "InvalidClientTokenId"
            | "SignatureDoesNotMatch"
            | "UnrecognizedClientException"
            | "OptInRequired" => problem(
                "ec2_credentials_refused",
                format!(
                    "AWS does not accept the collector's credentials in {} ({code}); check the role of \
                     collector.serviceAccountAnnotations, and that the account has enabled the region",
                    self.region
                ),
            ),
            _ if status.is_server_error() => try_again(format!("EC2 answers {status}: {said}")),
            _ => problem("ec2_refused", format!("EC2 refuses {action}: {said}")),
        }
    }
}

fn write_form(action: &str, parameters: &[(String, String)], token: Option<&str>) -> String {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.append_pair("Action", action).append_pair("Version", VERSION);
    form.append_pair("MaxResults", PAGE).extend_pairs(parameters);
    if let Some(token) = token {
        form.append_pair("NextToken", token);
    }
    form.finish()
}

fn read<T: DeserializeOwned>(xml: &[u8]) -> Result<T, String> {
    let text = std::str::from_utf8(xml).map_err(|_| "it is not text".to_owned())?;
    quick_xml::de::from_str(text).map_err(|error| error.to_string())
}

/// Code and message of AWS, short and on one line.
fn said(code: &str, message: &str) -> String {
    let text = format!("{code}: {message}");
    text.chars().map(|it| if it.is_control() { ' ' } else { it }).take(LONGEST_MESSAGE).collect()
}

fn problem(code: &'static str, detail: String) -> QueryError {
    QueryError::Problem(Problem { code, detail })
}

fn try_again(reason: String) -> QueryError {
    QueryError::TryAgain(reason)
}

fn passing(reason: String) -> QueryError {
    QueryError::Passing(reason)
}

/// The chain of the SDK: environment, web identity (IRSA), Pod Identity, the node's own role.
async fn load(region: String) -> SdkConfig {
    let times = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(2))
        .operation_attempt_timeout(Duration::from_secs(3))
        .operation_timeout(Duration::from_secs(8))
        .build();
    // The default one would ask the environment for a proxy.
    let client = aws_smithy_http_client::Builder::new()
        .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::AwsLc))
        .build_https();
    aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new(region))
        .timeout_config(times)
        .http_client(client)
        .load()
        .await
}

fn no_credentials() -> QueryError {
    problem(
        "ec2_credentials_missing",
        "the collector has no credentials of AWS; give it a role, with eks.amazonaws.com/role-arn in \
         collector.serviceAccountAnnotations or with a Pod Identity association of its ServiceAccount"
            .to_owned(),
    )
}

/// What the chain says may name files and roles, and never a secret.
fn explain_credentials(error: &CredentialsError) -> QueryError {
    let mut texts = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(error) = cause {
        texts.push(error.to_string());
        cause = error.source();
    }
    let is_refused = |text: &String| {
        ["AccessDenied", "InvalidIdentityToken", "ExpiredToken", "not authorized"]
            .iter()
            .any(|word| text.contains(word))
    };
    match error {
        CredentialsError::CredentialsNotLoaded(_) => no_credentials(),
        _ if texts.iter().any(is_refused) => problem(
            "ec2_credentials_refused",
            "AWS does not let the collector take its role; the role's trust policy has to name the \
             ServiceAccount of the collector"
                .to_owned(),
        ),
        _ => passing(format!(
            "failed to get credentials of AWS: {}",
            texts.last().map_or("it does not say why", String::as_str)
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use aws_credential_types::{Credentials, provider::error::CredentialsError};
    use chrono::DateTime;
    use http::StatusCode;
    use service_kit::Clock;

    use super::{QueryApi, QueryError, explain_credentials, read};
    use crate::sources::ec2::records::{Page, Reservation};

    fn api(endpoint: &str) -> QueryApi {
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let start = DateTime::from_timestamp(1_767_225_600, 0).expect("a time");
        let endpoint = endpoint.parse().expect("an address");
        QueryApi::new("eu-west-1", endpoint, Clock::new(move || start)).expect("a client")
    }

    fn explain(status: u16, code: &str) -> QueryError {
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Response><Errors><Error><Code>{code}</Code>\
             <Message>You are not\nallowed</Message></Error></Errors>\
             <RequestID>ea966190-f9aa-478e-9ede-example</RequestID></Response>"
        );
        let status = StatusCode::from_u16(status).expect("a status");
        let api = api("https://ec2.eu-west-1.amazonaws.com");
        api.explain("DescribeCapacityReservations", status, body.as_bytes())
    }

    #[tokio::test]
    async fn a_refusal_of_aws_has_a_code_and_says_what_to_do() {
        for (status, code, expected, hint) in [
            (
                403,
                "UnauthorizedOperation",
                "ec2_unauthorized",
                "allow ec2:DescribeCapacityReservations",
            ),
            (400, "RequestExpired", "ec2_credentials_expired", "renew them"),
            (401, "AuthFailure", "ec2_credentials_refused", "check the role"),
            (403, "SignatureDoesNotMatch", "ec2_credentials_refused", "check the role"),
            (
                400,
                "InvalidParameterValue",
                "ec2_refused",
                "InvalidParameterValue: You are not allowed",
            ),
        ] {
            let QueryError::Problem(problem) = explain(status, code) else { panic!("{code}") };
            assert_eq!(problem.code, expected, "{code}");
            assert!(problem.detail.contains(hint), "{}", problem.detail);
        }
        for (status, code) in
            [(503, "RequestLimitExceeded"), (400, "Throttling"), (500, "InternalError")]
        {
            assert!(matches!(explain(status, code), QueryError::TryAgain(_)), "{code}");
        }
        let api = api("https://ec2.eu-west-1.amazonaws.com");
        let proxy = api.explain("X", StatusCode::FORBIDDEN, b"<html>no</html>");
        assert!(matches!(proxy, QueryError::Passing(_)), "{proxy:?}");
    }

    #[tokio::test]
    async fn a_request_is_signed_for_its_address_with_the_token_of_its_session() {
        let api = api("https://127.0.0.1:8443");
        let credentials = Credentials::new(
            "AKIDEXAMPLE",
            "very-secret",
            Some("session".to_owned()),
            None,
            "test",
        );
        let request = api.sign(&credentials, "Action=X").expect("signed");
        let header = |name: &str| request.headers()[name].to_str().expect("visible characters");
        assert_eq!((header("host"), header("x-amz-date")), ("127.0.0.1:8443", "20260101T000000Z"));
        assert_eq!(header("x-amz-security-token"), "session");
        let start = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260101/eu-west-1/ec2/aws4_request, \
                     SignedHeaders=content-type;host;x-amz-date;x-amz-security-token, Signature=";
        assert!(header("authorization").starts_with(start), "{}", header("authorization"));
        assert!(request.headers()["x-amz-security-token"].is_sensitive(), "no log may show it");
    }

    #[test]
    fn credentials_that_are_missing_or_refused_are_told_from_those_that_come_later() {
        let code = |error: &CredentialsError| match explain_credentials(error) {
            QueryError::Problem(problem) => problem.code,
            QueryError::Passing(_) | QueryError::TryAgain(_) => "passing",
        };
        assert_eq!(code(&CredentialsError::not_loaded("none")), "ec2_credentials_missing");
        let refused = CredentialsError::provider_error("AccessDenied: not authorized to perform");
        assert_eq!(code(&refused), "ec2_credentials_refused");
        let late = CredentialsError::provider_timed_out(Duration::from_secs(5));
        assert_eq!(code(&late), "passing");
    }

    #[test]
    fn an_answer_without_records_is_none_and_another_one_is_not_understood() {
        let empty = r#"<DescribeCapacityReservationsResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">
            <requestId>x</requestId><capacityReservationSet/></DescribeCapacityReservationsResponse>"#;
        let page: Page<Reservation> = read(empty.as_bytes()).expect("a page");
        assert!(page.into_parts().0.is_empty());
        assert!(read::<Page<Reservation>>(b"\xff").is_err());
        assert!(read::<Page<Reservation>>(b"<a>").is_err());
    }
}
