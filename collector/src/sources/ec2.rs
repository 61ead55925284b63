//! A region of Amazon EC2, as one account sees it: the instances that it has reserved, counted, and the types
//! that a zone does not offer.

mod query;
mod records;

use std::time::Duration;

use http::Uri;
use serde::Deserialize;
use service_kit::Clock;
use tokio::time::{Instant, timeout};

use self::{
    query::{QueryApi, QueryError},
    records::{Offering, Reservation},
};
use super::{Silence, Source, complaints::Complaints, service};
use crate::statement::{Pools, Statement};

/// How often reservations are counted. An account's requests are limited, and others need them too.
const INTERVAL: Duration = Duration::from_mins(1);
/// How often it is asked what a zone offers, which changes every few months.
const OFFERINGS_AFTER: Duration = Duration::from_hours(6);
/// Time to look.
const DEADLINE: Duration = Duration::from_secs(25);
/// Types that may be named; the API takes no more values of a filter.
const MOST_TYPES: usize = 200;

/// Which part of EC2 is asked.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Options {
    /// Such as `eu-west-1`.
    region: String,
    /// Types that are reported; all that are reserved if there are none.
    #[serde(default)]
    instance_types: Vec<String>,
    /// Address of the API instead of the one that AWS has for the region.
    #[serde(default)]
    endpoint: Option<String>,
}

impl Options {
    /// What is wrong, if anything.
    pub(crate) fn validate(&self) -> Result<(), String> {
        let is_word = |text: &str| {
            let is_allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
            !text.is_empty() && text.len() <= 64 && text.chars().all(is_allowed)
        };
        if !is_word(&self.region) || self.region.contains('.') {
            return Err(format!("ec2.region is {:?}, expected one such as eu-west-1", self.region));
        }
        if self.instance_types.len() > MOST_TYPES {
            let found = self.instance_types.len();
            return Err(format!(
                "ec2.instanceTypes has {found} entries, expected at most {MOST_TYPES}"
            ));
        }
        if let Some(wrong) = self.instance_types.iter().find(|it| !is_word(it)) {
            return Err(format!(
                "ec2.instanceTypes has {wrong:?}, expected one such as p5.48xlarge"
            ));
        }
        self.address().map(drop)
    }

    /// The session's token goes there: over TLS, or to this machine.
    fn address(&self) -> Result<Uri, String> {
        let region = &self.region;
        let china = if region.starts_with("cn-") { ".cn" } else { "" };
        let text = match &self.endpoint {
            Some(endpoint) => endpoint.clone(),
            None => format!("https://ec2.{region}.amazonaws.com{china}"),
        };
        let address = service::parse_address("ec2.endpoint", &text)?;
        let is_here = matches!(address.host(), Some("127.0.0.1" | "localhost"));
        if address.scheme_str() != Some("https") && !is_here {
            return Err(format!("ec2.endpoint is {text:?}, expected https://HOST"));
        }
        if address.path() != "/" {
            return Err(format!("ec2.endpoint is {text:?}, expected https://HOST without a path"));
        }
        Ok(address)
    }

    /// Only these types.
    fn filter(&self, number: usize) -> Vec<(String, String)> {
        if self.instance_types.is_empty() {
            return Vec::new();
        }
        filter(number, "instance-type", &self.instance_types)
    }
}

/// A filter, as the Query API writes lists.
fn filter(number: usize, name: &str, values: &[String]) -> Vec<(String, String)> {
    let values = values.iter().enumerate();
    let values = values
        .map(|(index, value)| (format!("Filter.{number}.Value.{}", index + 1), value.clone()));
    std::iter::once((format!("Filter.{number}.Name"), name.to_owned())).chain(values).collect()
}

/// A region that is asked again and again.
pub(crate) struct Ec2 {
    name: String,
    options: Options,
    api: QueryApi,
    /// When it was last asked what is offered, and what is not.
    not_offered: Option<(Instant, Pools)>,
    complaints: Complaints,
}

impl Ec2 {
    /// Will ask for the source `name`.
    pub(crate) fn new(name: &str, options: &Options, clock: &Clock) -> Result<Self, String> {
        Ok(Self {
            name: name.to_owned(),
            api: QueryApi::new(&options.region, options.address()?, clock.clone())?,
            options: options.clone(),
            not_offered: None,
            complaints: Complaints::default(),
        })
    }

    async fn ask(&mut self) -> Result<Pools, QueryError> {
        let credentials = self.api.credentials().await?;
        let region = &self.options.region;
        let mut parameters = filter(1, "state", &["active".to_owned()]);
        parameters.extend(self.options.filter(2));
        let reservations: Vec<Reservation> =
            self.api.list(&credentials, "DescribeCapacityReservations", &parameters).await?;
        let (mut pools, mut complaints) = records::reserved(region, &reservations);
        let types = &self.options.instance_types;
        let is_old =
            self.not_offered.as_ref().is_none_or(|(at, _)| at.elapsed() >= OFFERINGS_AFTER);
        if is_old && !types.is_empty() {
            let mut parameters = self.options.filter(1);
            parameters.push(("LocationType".to_owned(), "availability-zone".to_owned()));
            let offerings =
                self.api.list(&credentials, "DescribeInstanceTypeOfferings", &parameters).await;
            match offerings {
                Ok(offerings) => {
                    let offerings: Vec<Offering> = offerings;
                    let not_offered = records::not_offered(region, types, &offerings);
                    self.not_offered = Some((Instant::now(), not_offered));
                }
                // What is reserved is known, and what was not offered before is still the best guess.
                Err(QueryError::Passing(reason) | QueryError::TryAgain(reason)) => {
                    complaints.push(reason);
                }
                Err(problem @ QueryError::Problem(_)) => return Err(problem),
            }
        }
        pools.extend(self.not_offered.iter().flat_map(|(_, pools)| pools.clone()));
        self.complaints.say(&self.name, complaints);
        Ok(pools)
    }
}

impl Source for Ec2 {
    fn interval(&self) -> Duration {
        INTERVAL
    }

    async fn look(&mut self) -> Result<Statement, Silence> {
        match timeout(DEADLINE, self.ask()).await {
            Ok(Ok(pools)) => Ok(Statement::Pools(pools)),
            Ok(Err(QueryError::Problem(problem))) => Ok(Statement::Problem(problem)),
            Ok(Err(QueryError::Passing(reason) | QueryError::TryAgain(reason))) => {
                Err(Silence::Unconfirmed(reason))
            }
            Err(_) => Err(Silence::Unconfirmed(format!(
                "EC2 does not answer within {} s",
                DEADLINE.as_secs()
            ))),
        }
    }

    async fn changed(&mut self) {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::Options;

    fn options(json: &str) -> Options {
        serde_json::from_str(json).expect("options")
    }

    #[test]
    fn the_address_is_that_of_the_region_or_the_one_that_was_chosen() {
        for (json, expected) in [
            (r#"{"region": "eu-west-1"}"#, "https://ec2.eu-west-1.amazonaws.com/"),
            (r#"{"region": "cn-north-1"}"#, "https://ec2.cn-north-1.amazonaws.com.cn/"),
            (
                r#"{"region": "eu-west-1", "endpoint": "https://vpce-1.ec2.eu-west-1.vpce.amazonaws.com/"}"#,
                "https://vpce-1.ec2.eu-west-1.vpce.amazonaws.com/",
            ),
            (
                r#"{"region": "eu-west-1", "endpoint": "http://127.0.0.1:5000"}"#,
                "http://127.0.0.1:5000/",
            ),
        ] {
            let address = options(json).address().expect(json);
            assert_eq!(address.to_string(), expected, "{json}");
        }
    }

    #[test]
    fn what_cannot_be_asked_is_named() {
        for (json, expected) in [
            (r#"{"region": ""}"#, r#"ec2.region is "", expected one such as eu-west-1"#),
            (r#"{"region": "a.example"}"#, "ec2.region is \"a.example\""),
            (
                r#"{"region": "a", "instanceTypes": ["p5 large"]}"#,
                "ec2.instanceTypes has \"p5 large\"",
            ),
            (r#"{"region": "a", "endpoint": "http://elsewhere"}"#, "expected https://HOST"),
            (r#"{"region": "a", "endpoint": "https://h/path"}"#, "without a path"),
        ] {
            let refusal = options(json).validate().expect_err(json);
            assert!(refusal.contains(expected), "{refusal}");
        }
        options(r#"{"region": "us-gov-west-1", "instanceTypes": ["u-6tb1.112xlarge"]}"#)
            .validate()
            .expect("good");
    }

    #[test]
    fn a_filter_is_numbered_as_the_query_api_wants_it() {
        let filter = options(r#"{"region": "a", "instanceTypes": ["x", "y"]}"#).filter(2);
        let written: Vec<String> =
            filter.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            written,
            ["Filter.2.Name=instance-type", "Filter.2.Value.1=x", "Filter.2.Value.2=y"]
        );
    }
}
