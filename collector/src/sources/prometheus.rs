//! What a Prometheus server, or what speaks its HTTP API, gives for two queries: units in all, and taken.

mod answer;
mod template;

use std::{collections::BTreeMap, time::Duration};

use http::{Method, Request, header};
use kube::client::Body;
use serde::Deserialize;

use self::{
    answer::{Answer, Series},
    template::Template,
};
use super::{
    Silence, Source,
    complaints::Complaints,
    service::{self, Service},
};
use crate::statement::{Pool, Pools, Problem, Statement};

/// How often it is asked unless the user says otherwise.
const DEFAULT_INTERVAL: Duration = Duration::from_mins(1);
/// Time for one query.
const DEADLINE: Duration = Duration::from_secs(15);
/// About 50 000 series.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// How a server is asked.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Options {
    /// Base address, such as `http://prometheus.monitoring:9090`.
    url: String,
    /// How often to ask.
    #[serde(default)]
    interval: Option<String>,
    /// What to ask.
    pools: Vec<PoolOptions>,
}

/// Two queries, and the names of the pools that they are of. Names may have labels in them: `{partition}`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct PoolOptions {
    total: String,
    in_use: String,
    provider: String,
    name: String,
    #[serde(default)]
    region: String,
    #[serde(default)]
    zone: String,
    #[serde(default = "default_tier")]
    tier: String,
    #[serde(default = "default_unit")]
    unit: String,
}

fn default_tier() -> String {
    "owned".to_owned()
}

fn default_unit() -> String {
    "unit".to_owned()
}

impl Options {
    /// What is wrong, if anything.
    pub(crate) fn validate(&self) -> Result<(), String> {
        self.address()?;
        self.interval()?;
        self.queries().map(drop)
    }

    fn address(&self) -> Result<http::Uri, String> {
        service::parse_address("prometheus.url", &self.url)
    }

    fn interval(&self) -> Result<Duration, String> {
        let Some(text) = &self.interval else { return Ok(DEFAULT_INTERVAL) };
        let interval = humantime::parse_duration(text).ok();
        let range = Duration::from_secs(5)..=Duration::from_hours(24);
        interval.filter(|interval| range.contains(interval)).ok_or_else(|| {
            format!("prometheus.interval is {text:?}, expected a time from 5s to 24h such as 1m")
        })
    }

    fn queries(&self) -> Result<Vec<PoolQuery>, String> {
        if self.pools.is_empty() {
            return Err("prometheus.pools is empty, expected at least one entry".to_owned());
        }
        let queries = self.pools.iter().enumerate();
        queries.map(|(index, pool)| PoolQuery::of(pool, index)).collect()
    }
}

/// Two queries, ready to be asked.
struct PoolQuery {
    total: String,
    in_use: String,
    provider: Template,
    name: Template,
    region: Template,
    zone: Template,
    tier: Template,
    unit: Template,
}

impl PoolQuery {
    fn of(options: &PoolOptions, index: usize) -> Result<Self, String> {
        let wrong =
            |field: &str, reason: &str| format!("prometheus.pools[{index}].{field}: {reason}");
        for (field, query) in [("total", &options.total), ("inUse", &options.in_use)] {
            if query.trim().is_empty() {
                return Err(wrong(field, "expected a PromQL expression, found nothing"));
            }
        }
        let template =
            |field: &str, text: &str| Template::parse(text).map_err(|reason| wrong(field, &reason));
        Ok(Self {
            total: options.total.clone(),
            in_use: options.in_use.clone(),
            provider: template("provider", &options.provider)?,
            name: template("name", &options.name)?,
            region: template("region", &options.region)?,
            zone: template("zone", &options.zone)?,
            tier: template("tier", &options.tier)?,
            unit: template("unit", &options.unit)?,
        })
    }

    /// The pool of a series with these labels.
    fn pool(&self, labels: &BTreeMap<String, String>) -> Result<Pool, String> {
        let fill = |field: &str, template: &Template| {
            template.fill(labels).map_err(|label| {
                format!("a series lacks the label {label}, which {field} is made of")
            })
        };
        let required = |field: &str, template: &Template| {
            let text = fill(field, template)?;
            if text.is_empty() { Err(format!("{field} is empty for a series")) } else { Ok(text) }
        };
        let some = |text: String| (!text.is_empty()).then_some(text);
        Ok(Pool {
            provider: required("provider", &self.provider)?,
            name: required("name", &self.name)?,
            region: some(fill("region", &self.region)?),
            zone: some(fill("zone", &self.zone)?),
            tier: required("tier", &self.tier)?,
            unit: required("unit", &self.unit)?,
        })
    }
}

/// A server that is asked again and again.
pub(crate) struct Prometheus {
    name: String,
    service: Service,
    interval: Duration,
    queries: Vec<PoolQuery>,
    /// About single series.
    complaints: Complaints,
}

/// Why a query gave nothing.
enum QueryError {
    /// Somebody has to change something.
    Problem(Problem),
    /// It may pass.
    Passing(String),
}

impl Prometheus {
    /// Will ask the server of `options`, for the source `name`.
    pub(crate) fn new(name: &str, options: &Options) -> Result<Self, String> {
        Ok(Self {
            name: name.to_owned(),
            service: Service::new(options.address()?, DEADLINE, MAX_BYTES)?,
            interval: options.interval()?,
            queries: options.queries()?,
            complaints: Complaints::default(),
        })
    }

    async fn ask(&self, query: &str) -> Result<Vec<Series>, QueryError> {
        let form: String = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("query", query)
            .finish();
        let request = Request::builder()
            .method(Method::POST)
            .uri("/api/v1/query")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::ACCEPT, "application/json")
            .body(Body::from(form.into_bytes()))
            .expect("a constant path and headers");
        let passing = |reason: String| QueryError::Passing(reason);
        let answered = self.service.ask(request).await;
        let (status, body) = answered.map_err(|reason| passing(format!("Prometheus {reason}")))?;
        let answer: Result<Answer, _> = serde_json::from_slice(&body);
        match (status.as_u16(), answer) {
            (401 | 403, _) => Err(QueryError::Problem(Problem {
                code: "prometheus_unauthorized",
                detail: format!(
                    "Prometheus answers {status}: let the collector ask it without a login"
                ),
            })),
            (200, Ok(Answer { status, data: Some(data), .. })) if status == "success" => {
                data.into_series().map_err(|found| invalid(query, &format!("it gives {found}")))
            }
            (400 | 422, Ok(Answer { error: Some(error), .. })) => Err(invalid(query, &error)),
            (status, Ok(Answer { error: Some(error), .. })) => {
                Err(passing(format!("Prometheus answers {status}: {error}")))
            }
            (status, _) => Err(passing(format!(
                "Prometheus answers {status}, and nothing of its API; check prometheus.url"
            ))),
        }
    }

    async fn ask_all(&self) -> Result<(Pools, Vec<String>), QueryError> {
        let (mut pools, mut complaints) = (Pools::new(), Vec::new());
        for query in &self.queries {
            let (total, in_use) = (self.ask(&query.total).await?, self.ask(&query.in_use).await?);
            if total.is_empty() {
                // An exporter that is gone looks like this, and so does a query that is wrong.
                let reason = format!("the query {:?} gives no series", shortened(&query.total));
                return Err(QueryError::Passing(reason));
            }
            let (some, complained) = answer::pools(query, &total, &in_use);
            for (pool, seen) in some {
                if pools.insert(pool.clone(), seen).is_some() {
                    complaints.push(format!("two entries of pools give {}", pool.name));
                }
            }
            complaints.extend(complained);
        }
        Ok((pools, complaints))
    }
}

fn invalid(query: &str, reason: &str) -> QueryError {
    let detail = format!("Prometheus refuses the query {:?}: {reason}", shortened(query));
    let detail =
        detail.chars().map(|it| if it.is_control() { ' ' } else { it }).take(500).collect();
    QueryError::Problem(Problem { code: "query_invalid", detail })
}

fn shortened(query: &str) -> String {
    query.chars().take(120).collect()
}

impl Source for Prometheus {
    fn interval(&self) -> Duration {
        self.interval
    }

    async fn look(&mut self) -> Result<Statement, Silence> {
        match self.ask_all().await {
            Ok((pools, complaints)) => {
                self.complaints.say(&self.name, complaints);
                Ok(Statement::Pools(pools))
            }
            Err(QueryError::Problem(problem)) => Ok(Statement::Problem(problem)),
            Err(QueryError::Passing(reason)) => Err(Silence::Unconfirmed(reason)),
        }
    }

    async fn changed(&mut self) {
        std::future::pending::<()>().await;
    }
}
