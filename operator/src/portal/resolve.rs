//! From what was written and what was read to what can be built: every default decided, every
//! contradiction found. Pure.

use std::collections::BTreeMap;

use crds::{
    ABANDON_EMBEDDED_DATA_ANNOTATION, Autoscaling, CatalogEntry, CollectedSource, Collector,
    Database, Ec2Source, HardwarePortal, Ingress, KarpenterSource, KubernetesSource, MysqlDatabase,
    OvhSource, ROTATE_AT_ANNOTATION, Reason, Resources, ServiceType, Storage, Tls, TlsMode,
    Workload,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::core::v1::ResourceRequirements,
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::OwnerReference},
};
use kube::{Resource, ResourceExt};
use secrecy::SecretString;
use service_kit::config::HostPort;

use super::{
    gather::{Gathered, GatheredMysql},
    live::LiveDeployment,
    stored::{self, as_stored},
};
use crate::{
    cluster::{labels::ChildOwner, retry::Retry},
    rotation::{
        Trouble,
        machine::{ObservedSource, Place, Plan},
        mysql::{AccountName, Authorities, SchemaName, Server, Slot, Tls as ServerTls},
        request::{PortalKey, Request},
        source::Reading,
    },
    settings::{Settings, is_local},
    watch::render::{RenderedWatches, render},
};

/// A portal of which every part is decided: the only input of `build`.
#[derive(Clone, Debug)]
pub struct ResolvedPortal {
    /// Name of the resource.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// The owner reference of its children.
    pub owner: OwnerReference,
    /// Rows that must be in the list.
    pub catalog: Vec<CatalogEntry>,
    /// Where the data are.
    pub database: ResolvedDatabase,
    /// The token that observations are posted with.
    pub observations_token: SecretString,
    /// The tokens of sources that have one of their own, by their names.
    pub source_tokens: BTreeMap<String, SecretString>,
    /// What the API watches for, and what became of each watch.
    pub watches: RenderedWatches,
    /// How the API runs.
    pub hardware: ResolvedWorkload,
    /// How the web page runs.
    pub portal: ResolvedWorkload,
    /// What reports for the sources that the operator runs; none if there are none.
    pub collector: Option<Box<ResolvedCollector>>,
    /// Title of the page, if one was chosen.
    pub title: Option<String>,
    /// Type of the page's Service.
    pub service_type: ServiceType,
    /// The Ingress of the page, if one was asked for.
    pub ingress: Option<Ingress>,
    /// Whose pods may reach admin ports.
    pub operator_namespace: String,
}

/// Where the data are.
#[derive(Clone, Debug)]
pub enum ResolvedDatabase {
    /// In the hardware pod, on a volume if one was asked for.
    Embedded {
        /// The volume.
        storage: Option<Storage>,
    },
    /// On a MySQL server.
    Mysql(Box<ResolvedMysql>),
}

/// A MySQL server, and how the pods get their credential for it.
#[derive(Clone, Debug)]
pub struct ResolvedMysql {
    /// How connections are encrypted, as the user wrote it.
    pub tls: Tls,
    /// What is asked for of the pods' accounts.
    pub request: Request,
}

/// How one component runs.
#[derive(Clone, Debug)]
pub struct ResolvedWorkload {
    /// What the user wrote.
    pub spec: Workload,
    /// Image to run.
    pub image: String,
    /// When to pull it.
    pub pull_policy: Option<String>,
    /// CPU and memory of one pod.
    pub resources: ResourceRequirements,
    /// How many pods.
    pub scaling: Scaling,
}

/// The sources that the operator runs, and how the pod runs that reports for them.
#[derive(Clone, Debug)]
pub struct ResolvedCollector {
    /// How it runs.
    pub workload: ResolvedWorkload,
    /// The sources, with every name and default filled in. As JSON, they are the collector's settings.
    pub sources: Vec<CollectedSource>,
    /// Annotations of its ServiceAccount.
    pub service_account_annotations: BTreeMap<String, String>,
}

/// How many pods a component has, and who decides it.
#[derive(Clone, Debug, PartialEq)]
pub enum Scaling {
    /// An autoscaler.
    Automatic(Autoscaling),
    /// The user, the database that has one writer, or the collector, which reports once.
    Fixed(i32),
    /// Neither of them: the present number is kept, and this many are started at first.
    Kept {
        /// Pods to start with.
        initial: i32,
    },
}

impl ChildOwner for ResolvedPortal {
    fn name(&self) -> &str {
        &self.name
    }

    fn namespace(&self) -> &str {
        &self.namespace
    }

    fn owner_reference(&self) -> OwnerReference {
        self.owner.clone()
    }
}

impl Scaling {
    /// Most pods that can run, as far as that is known.
    #[must_use]
    pub fn most(&self) -> i32 {
        match self {
            Self::Automatic(autoscaling) => autoscaling.max_replicas,
            Self::Fixed(replicas) => *replicas,
            // Users may scale it at any time.
            Self::Kept { .. } => i32::MAX,
        }
    }
}

/// Why a portal cannot be built.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The object lacks what the API server gives every object.
    #[error("metadata.{0}: expected a value, found none; the API server sets it")]
    Metadata(&'static str),
    /// Neither the spec nor the source gives the server.
    #[error("database.mysql.{0}: expected a value here or in the source, found none in either")]
    Missing(&'static str),
    /// The spec would send the source's credential elsewhere.
    #[error(
        "database.mysql.{field}: the source gives \"{given}\" and cannot be overridden with \"{written}\"; remove the field"
    )]
    Overridden {
        /// The field.
        field: &'static str,
        /// What the source says.
        given: String,
        /// What the spec says.
        written: String,
    },
    /// A value of the source is of the wrong form.
    #[error("the source's {field} is \"{found}\": {expected}")]
    Malformed {
        /// What it is.
        field: &'static str,
        /// What was found; never a password.
        found: String,
        /// What would be right.
        expected: String,
    },
    /// The host is one that credentials must not be sent to.
    #[error(
        "the database host \"{0}\" is refused: it is the pod or the node itself; name the server"
    )]
    LocalHost(String),
    /// The administrator allows other hosts only.
    #[error(
        "the database host \"{0}\" is not covered by this operator's ALLOWED_DATABASE_HOSTS; ask its administrator"
    )]
    HostNotAllowed(String),
    /// The credential comes without a host, and its administrator has not named this one.
    #[error(
        "{what} holds a login without a host, which is not sent to \"{host}\": it lacks {permission} by which its administrator would allow that{}; or let the operator's administrator list the host in ALLOWED_DATABASE_HOSTS, which then has to list those of all portals",
        instead(.named.as_deref())
    )]
    HostNotNamed {
        /// The object that holds the login.
        what: String,
        /// The host that the spec or a state gives, with the port if that is what differs.
        host: String,
        /// What its administrator would write to allow the host.
        permission: String,
        /// The host that its administrator names instead.
        named: Option<String>,
    },
    /// The source says nothing, and nothing is known from before.
    #[error("{message}")]
    NoSource {
        /// The reason of the condition.
        reason: Reason,
        /// The error of the read.
        message: String,
        /// What it asks for.
        retry: Retry,
    },
    /// The annotation that asks for a rotation is no time.
    #[error(
        "the annotation {ROTATE_AT_ANNOTATION} is \"{0}\": expected a time such as 2026-01-31T12:00:00Z, at or after which to rotate once"
    )]
    RotateAt(String),
    /// Data would be left behind, and no annotation accepts that.
    #[error(
        "the embedded database's data would be left behind: move them, then set the annotation {ABANDON_EMBEDDED_DATA_ANNOTATION}=\"true\" on this HardwarePortal"
    )]
    DataWouldBeLost,
}

impl ResolveError {
    /// What to do next.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            // The object itself has to change, or its children, which are watched.
            Self::Metadata(_) | Self::RotateAt(_) | Self::DataWouldBeLost => Retry::AfterChange,
            // The source may have to change, which is not watched.
            Self::Missing(_)
            | Self::Overridden { .. }
            | Self::Malformed { .. }
            | Self::LocalHost(_)
            | Self::HostNotAllowed(_)
            | Self::HostNotNamed { .. } => Retry::Poll,
            Self::NoSource { retry, .. } => retry.clone(),
        }
    }
}

fn instead(named: Option<&str>) -> String {
    named.map(|named| format!(" (it names \"{named}\")")).unwrap_or_default()
}

/// Decides every part of a portal.
pub fn resolve(
    portal: &HardwarePortal,
    read: &Gathered,
    settings: &Settings,
) -> Result<ResolvedPortal, ResolveError> {
    let spec = &portal.spec;
    let owner = portal.controller_owner_ref(&()).ok_or(ResolveError::Metadata("uid"))?;
    let database = resolve_database(portal, spec.database.as_ref(), read, settings)?;
    let is_embedded = matches!(database, ResolvedDatabase::Embedded { .. });
    let page = spec.portal.clone().unwrap_or_default();
    let hardware = spec.hardware.clone().unwrap_or_default();
    let scaling = if is_embedded {
        Scaling::Fixed(hardware.replicas.unwrap_or(1).min(1))
    } else {
        plan_scaling(&hardware)
    };
    Ok(ResolvedPortal {
        name: portal.name_any(),
        namespace: portal.namespace().ok_or(ResolveError::Metadata("namespace"))?,
        owner,
        catalog: spec.catalog.clone().unwrap_or_default(),
        database,
        observations_token: read.observations_token.clone(),
        source_tokens: read.source_tokens.clone(),
        watches: {
            let rules = spec.watches.clone().unwrap_or_default();
            render(&portal.name_any(), &rules, &read.watches)
        },
        hardware: resolve_workload(hardware, &settings.hardware_image, scaling, settings),
        portal: {
            let scaling = plan_scaling(&page.workload);
            resolve_workload(page.workload, &settings.portal_image, scaling, settings)
        },
        collector: resolve_collector(portal, settings),
        title: page.title,
        service_type: page.service.unwrap_or_default().type_,
        ingress: page.ingress,
        operator_namespace: settings.namespace.clone(),
    })
}

fn resolve_workload(
    spec: Workload,
    default_image: &str,
    scaling: Scaling,
    settings: &Settings,
) -> ResolvedWorkload {
    ResolvedWorkload {
        image: spec.image.clone().unwrap_or_else(|| default_image.to_owned()),
        pull_policy: spec
            .image_pull_policy
            .map(|policy| policy.as_str().to_owned())
            .or_else(|| settings.image_pull_policy.clone()),
        resources: plan_resources(spec.resources.as_ref(), [["100m", "100Mi"], ["1", "300Mi"]]),
        scaling,
        spec,
    }
}

/// The collector, if there are sources to report for.
fn resolve_collector(
    portal: &HardwarePortal,
    settings: &Settings,
) -> Option<Box<ResolvedCollector>> {
    let sources = portal.spec.sources.iter().flatten().map(resolve_source);
    let sources: Vec<CollectedSource> = sources.collect();
    if sources.is_empty() {
        return None;
    }
    let Collector {
        image,
        image_pull_policy,
        image_pull_secrets,
        resources,
        scheduling,
        extra_env,
        pod_annotations,
        pod_labels,
        service_account_annotations,
    } = portal.spec.collector.clone().unwrap_or_default();
    let spec = Workload {
        image,
        image_pull_policy,
        image_pull_secrets,
        scheduling,
        extra_env,
        pod_annotations,
        pod_labels,
        ..Workload::default()
    };
    let workload = resolve_workload(spec, &settings.collector_image, Scaling::Fixed(1), settings);
    let resources = plan_resources(resources.as_ref(), [["50m", "64Mi"], ["500m", "128Mi"]]);
    Some(Box::new(ResolvedCollector {
        workload: ResolvedWorkload { resources, ..workload },
        sources,
        service_account_annotations: service_account_annotations.unwrap_or_default(),
    }))
}

fn resolve_source(source: &CollectedSource) -> CollectedSource {
    let CollectedSource { name: _, kubernetes, karpenter, ec2, ovh, prometheus } = source;
    CollectedSource {
        name: source.resolved_name().map(str::to_owned),
        kubernetes: kubernetes.as_ref().map(|it| KubernetesSource {
            slot: Some(it.slot.clone().unwrap_or_default()),
            provider: it.provider.clone(),
            node_selector: it.node_selector.clone().filter(|all| !all.is_empty()),
            tolerations: it.tolerations.clone().filter(|all| !all.is_empty()).map(as_stored),
        }),
        karpenter: karpenter.as_ref().map(|KarpenterSource { node_selector, metrics_url }| {
            KarpenterSource {
                node_selector: node_selector.clone().filter(|all| !all.is_empty()),
                metrics_url: metrics_url.clone(),
            }
        }),
        ec2: ec2.as_ref().map(|Ec2Source { region, instance_types, endpoint }| Ec2Source {
            region: region.clone(),
            instance_types: instance_types.clone().filter(|all| !all.is_empty()),
            endpoint: endpoint.clone(),
        }),
        ovh: ovh.as_ref().map(|OvhSource { url, datacenters, servers }| OvhSource {
            url: url.clone(),
            datacenters: datacenters.clone().filter(|all| !all.is_empty()),
            servers: servers.clone().filter(|all| !all.is_empty()),
        }),
        prometheus: prometheus.clone(),
    }
}

/// Who decides the number of pods.
fn plan_scaling(workload: &Workload) -> Scaling {
    match (&workload.autoscaling, workload.replicas) {
        (Some(Autoscaling { disabled: true, .. }), Some(replicas)) => Scaling::Fixed(replicas),
        (Some(autoscaling @ Autoscaling { disabled: true, .. }), None) => {
            Scaling::Kept { initial: autoscaling.min_replicas }
        }
        (chosen, _) => Scaling::Automatic(chosen.clone().unwrap_or_default()),
    }
}

/// Requests and limits, or the defaults of both, each as CPU and memory, where the user wrote neither.
fn plan_resources(
    chosen: Option<&Resources>,
    [requests, limits]: [[&str; 2]; 2],
) -> ResourceRequirements {
    let default = |[cpu, memory]: [&str; 2]| {
        let quantity = |text: &str| Quantity(text.to_owned());
        BTreeMap::from([("cpu".to_owned(), quantity(cpu)), ("memory".to_owned(), quantity(memory))])
    };
    let Some(Resources { requests, limits }) = chosen else {
        return ResourceRequirements {
            requests: Some(default(requests)),
            limits: Some(default(limits)),
            claims: None,
        };
    };
    let quantities = |amounts: &BTreeMap<String, Quantity>| -> BTreeMap<String, Quantity> {
        let amounts = amounts.iter();
        amounts.map(|(name, Quantity(text))| (name.clone(), stored::quantity(text))).collect()
    };
    let is_given = |amounts: &&BTreeMap<_, _>| !amounts.is_empty();
    ResourceRequirements {
        requests: requests.as_ref().filter(is_given).map(quantities),
        limits: limits.as_ref().filter(is_given).map(quantities),
        claims: None,
    }
}

fn resolve_database(
    portal: &HardwarePortal,
    database: Option<&Database>,
    read: &Gathered,
    settings: &Settings,
) -> Result<ResolvedDatabase, ResolveError> {
    let Some(mysql) = database.and_then(|database| database.mysql.as_ref()) else {
        let storage =
            database.and_then(|it| it.embedded.as_ref()).and_then(|it| it.storage.clone());
        return Ok(ResolvedDatabase::Embedded { storage });
    };
    let has_embedded_data =
        read.live.hardware.as_ref().is_some_and(|live: &LiveDeployment| live.is_embedded);
    let abandons = portal.annotations().get(ABANDON_EMBEDDED_DATA_ANNOTATION);
    if has_embedded_data && abandons.map(String::as_str) != Some("true") {
        return Err(ResolveError::DataWouldBeLost);
    }
    let read = read.mysql.as_ref().ok_or(ResolveError::Missing("source"))?;
    let place = decide_place(mysql, read)?;
    if is_local(&place.host) {
        return Err(ResolveError::LocalHost(place.host));
    }
    // Why there is none goes into the request below.
    let source = read.source.as_ref().ok();
    expect_allowed(&place, source, settings)?;
    let rotation = mysql.rotation.clone().unwrap_or_default();
    let uid = portal.uid().ok_or(ResolveError::Metadata("uid"))?;
    let tls = mysql.tls.clone().unwrap_or_default();
    Ok(ResolvedDatabase::Mysql(Box::new(ResolvedMysql {
        request: Request {
            portal: PortalKey {
                namespace: portal.namespace().ok_or(ResolveError::Metadata("namespace"))?,
                name: portal.name_any(),
                uid: uid.clone(),
            },
            server: Server {
                host: place.host.clone(),
                port: place.port,
                schema: SchemaName::new(&place.database).map_err(|error| {
                    ResolveError::Malformed {
                        field: "database",
                        found: place.database.clone(),
                        expected: error.to_string(),
                    }
                })?,
                tls: match tls.mode {
                    TlsMode::Disabled => ServerTls::Disabled,
                    TlsMode::Required => ServerTls::Required(Authorities::from_pem(
                        read.authorities.as_deref().unwrap_or(&settings.rds_authorities),
                    )),
                },
            },
            plan: Plan {
                account: AccountName::for_portal(&uid, Slot::A)
                    .map_err(|_| ResolveError::Metadata("uid"))?,
                mode: rotation.mode,
                interval: parse_duration("rotation.interval", &rotation.interval)?
                    .try_into()
                    .unwrap_or(SignedDuration::MAX),
                place,
                requested: parse_request(portal)?,
            },
            source: match &read.source {
                Ok(reading) => Ok(ObservedSource {
                    version: reading.version.clone(),
                    candidates: reading.candidates.clone(),
                }),
                Err(error) => Err(Trouble {
                    retry: error.retry(),
                    ..Trouble::new(error.reason(), error.to_string())
                }),
            },
            terraform: source.and_then(|reading| reading.state.clone()),
            poll_interval: parse_duration("rotation.pollInterval", &rotation.poll_interval)?,
            deletion_policy: mysql.deletion_policy,
            own_authorities: read
                .authorities
                .as_ref()
                .map(|pem| String::from_utf8_lossy(pem).into_owned()),
            published: read.published.clone(),
            last_generation: last_generation(portal),
            is_migrated: false,
        },
        tls,
    })))
}

/// The generation that the status names, for when state and Secret are lost: generations only go up.
fn last_generation(portal: &HardwarePortal) -> u64 {
    let status = portal.status.as_ref();
    let credentials = status.and_then(|status| status.credentials.as_ref());
    credentials.and_then(|it| u64::try_from(it.generation).ok()).unwrap_or_default()
}

/// A time in the spec, which the CRD's rules have bounded.
fn parse_duration(field: &'static str, text: &str) -> Result<std::time::Duration, ResolveError> {
    humantime::parse_duration(text).map_err(|_| ResolveError::Malformed {
        field,
        found: text.to_owned(),
        expected: "expected a time such as 60s, 5m or 720h".to_owned(),
    })
}

fn parse_request(portal: &HardwarePortal) -> Result<Option<Timestamp>, ResolveError> {
    let Some(text) = portal.annotations().get(ROTATE_AT_ANNOTATION) else { return Ok(None) };
    text.parse().map(Some).map_err(|_| ResolveError::RotateAt(text.clone()))
}

/// The place that the source gives, or the one known from before while the source says nothing.
fn decide_place(mysql: &MysqlDatabase, read: &GatheredMysql) -> Result<Place, ResolveError> {
    match &read.source {
        Ok(source) => {
            let (host, port) = locate_server(mysql, source)?;
            let database = one_of("database", source.database.as_ref(), mysql.database.as_ref())?;
            Ok(Place { host, port, database })
        }
        Err(error) => {
            // A move that is under way goes on.
            let known = read.state.as_ref().and_then(|state| {
                let change = state.change.as_ref().map(|change| &change.place);
                change.or(state.place.as_ref()).cloned()
            });
            known.ok_or_else(|| ResolveError::NoSource {
                reason: error.reason(),
                message: error.to_string(),
                retry: error.retry(),
            })
        }
    }
}

/// The author of a spec must not choose where somebody else's credential is sent. The administrator of
/// the operator decides it, or else the administrator of the object that holds the credential. A place
/// that is known from before was allowed then.
fn expect_allowed(
    place: &Place,
    source: Option<&Reading>,
    settings: &Settings,
) -> Result<(), ResolveError> {
    let allowed = &settings.allowed_database_hosts;
    if !allowed.is_empty() {
        return if allowed.iter().any(|pattern| pattern.covers(&place.host)) {
            Ok(())
        } else {
            Err(ResolveError::HostNotAllowed(place.host.clone()))
        };
    }
    let Some(Reading { allowed_host, holder, .. }) = source else { return Ok(()) };
    // One that cannot be read allows nothing.
    let named = allowed_host.as_ref().and_then(|text| text.parse::<HostPort>().ok());
    let is_host = named.as_ref().is_some_and(|it| it.host.eq_ignore_ascii_case(&place.host));
    let port = named.as_ref().and_then(|it| it.port);
    if is_host && port.is_none_or(|port| port == place.port) {
        return Ok(());
    }
    let port = is_host.then_some(place.port);
    let host = HostPort { host: place.host.clone(), port }.to_string();
    Err(ResolveError::HostNotNamed {
        what: holder.what.clone(),
        permission: holder.permission_to_send_to(&host),
        host,
        named: allowed_host.clone(),
    })
}

/// Where the server is. What the source says counts; the spec only fills in what the source lacks, so
/// that a credential is never sent to a server of somebody else's choice.
fn locate_server(mysql: &MysqlDatabase, source: &Reading) -> Result<(String, u16), ResolveError> {
    let written = one_of("host", source.host.as_ref(), mysql.host.as_ref())?;
    let HostPort { host, port: port_of_host } = written.parse().map_err(|expected| {
        ResolveError::Malformed { field: "host", found: written.clone(), expected }
    })?;
    let port_of_source = source.port.as_ref().map(|text| match text.parse::<u16>() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(ResolveError::Malformed {
            field: "port",
            found: text.clone(),
            expected: "expected a number from 1 to 65535".to_owned(),
        }),
    });
    let given = match (port_of_host, port_of_source.transpose()?) {
        (Some(a), Some(b)) if a != b => {
            return Err(ResolveError::Malformed {
                field: "port",
                found: b.to_string(),
                expected: format!("the host says {a}; write one of them"),
            });
        }
        (of_host, of_source) => of_host.or(of_source),
    };
    // The schema bounds it to 1 to 65535.
    let chosen = mysql.port.and_then(|port| u16::try_from(port).ok());
    match (given, chosen) {
        (Some(given), Some(chosen)) if given != chosen => Err(ResolveError::Overridden {
            field: "port",
            given: given.to_string(),
            written: chosen.to_string(),
        }),
        (given, chosen) => Ok((host, given.or(chosen).unwrap_or(3306))),
    }
}

fn one_of(
    field: &'static str,
    given: Option<&String>,
    written: Option<&String>,
) -> Result<String, ResolveError> {
    match (given, written) {
        (Some(given), Some(written)) if given != written => {
            Err(ResolveError::Overridden { field, given: given.clone(), written: written.clone() })
        }
        (given, written) => given.or(written).cloned().ok_or(ResolveError::Missing(field)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crds::{HardwarePortal, Reason};
    use secrecy::SecretString;
    use serde_json::{Value, json};
    use service_kit::credentials::Candidate;

    use super::{ResolveError, ResolvedDatabase, resolve};
    use crate::{
        cluster::retry::Retry,
        portal::{
            gather::{Gathered, GatheredMysql},
            live::Live,
        },
        rotation::source::{Holder, Mark, Reading, SourceError},
        settings::Settings,
        watch::render::GatheredWatches,
    };

    fn settings(allowed: &[&str]) -> Settings {
        Settings {
            hardware_image: "hardware".to_owned(),
            portal_image: "portal".to_owned(),
            collector_image: "collector".to_owned(),
            image_pull_policy: None,
            allowed_database_hosts: allowed.iter().map(|it| it.parse().unwrap()).collect(),
            namespace: "system".to_owned(),
            rds_authorities: [].into(),
            aws_endpoint: None,
        }
    }

    /// A login that is in a secret of Secrets Manager.
    fn reading(host: Option<&str>, allowed_host: Option<&str>) -> Reading {
        let what = "the secret \"db\" of Secrets Manager in eu-west-1".to_owned();
        Reading {
            version: "v1".to_owned(),
            host: host.map(str::to_owned),
            allowed_host: allowed_host.map(str::to_owned),
            holder: Holder { what, mark: Mark::Tag },
            port: None,
            database: Some("hardware".to_owned()),
            candidates: vec![Candidate { username: "root".to_owned(), password: "x".into() }],
            state: None,
        }
    }

    /// The server that the credential is sent to, as `host:port`.
    fn server(
        fields: &Value,
        source: Result<Reading, SourceError>,
        allowed: &[&str],
    ) -> Result<String, ResolveError> {
        let mut mysql = json!({"source": {"secretsManager": {
            "secretId": "db", "region": "eu-west-1",
        }}});
        for (field, value) in fields.as_object().expect("fields") {
            mysql[field] = value.clone();
        }
        let portal: HardwarePortal = serde_json::from_value(json!({
            "apiVersion": "gill-hicks.dev/v1alpha1", "kind": "HardwarePortal",
            "metadata": {"name": "p", "namespace": "n", "uid": "8d7f2c3e-0000-4000-8000-000000000000"},
            "spec": {"database": {"mysql": mysql}},
        }))
        .expect("a portal");
        portal.validate_cel().expect("the rules admit it");
        let read = Gathered {
            mysql: Some(GatheredMysql { source, state: None, published: None, authorities: None }),
            source_tokens: [].into(),
            observations_token: SecretString::from("token"),
            watches: GatheredWatches::default(),
            live: Live::default(),
        };
        let resolved = resolve(&portal, &read, &settings(allowed))?;
        let ResolvedDatabase::Mysql(mysql) = resolved.database else { panic!("it is on MySQL") };
        let place = mysql.request.place();
        Ok(format!("{}:{}", place.host, place.port))
    }

    #[test]
    fn a_credential_goes_where_its_own_object_says() {
        let own = |host: &str| Ok(reading(Some(host), Some(host)));
        let found = server(&json!({}), own("db.example:3307"), &[]);
        assert_eq!(found.as_deref(), Ok("db.example:3307"));
        let found = server(&json!({"host": "db.example", "port": 3307}), own("db.example"), &[]);
        assert_eq!(found.as_deref(), Ok("db.example:3307"), "the spec may repeat it");
        let found = server(&json!({"host": "evil.example"}), own("db.example"), &[]);
        assert!(matches!(found, Err(ResolveError::Overridden { .. })), "{found:?}");
    }

    /// RDS keeps no host beside the password that it manages.
    #[test]
    fn a_credential_without_a_host_goes_only_where_its_administrator_says() {
        // The host of the spec, or of a state that refers to the secret, and its tag.
        for (host, port, named, is_allowed) in [
            ("db.example", 3306, Some("db.example"), true),
            ("db.example", 3307, Some("db.example"), true),
            ("DB.example", 3306, Some("db.EXAMPLE"), true),
            ("db.example", 3307, Some("db.example:3307"), true),
            ("db.example", 3306, Some("db.example:3307"), false),
            ("evil.example", 3306, Some("db.example"), false),
            ("evil.example", 3306, None, false),
            ("db.example", 3306, Some("http://db.example"), false),
            ("db.example", 3306, Some("*"), false),
            ("db.example", 3306, Some("*.example"), false),
            ("db.example", 3306, Some("db.example other.example"), false),
        ] {
            let of_spec =
                server(&json!({"host": host, "port": port}), Ok(reading(None, named)), &[]);
            let of_state = server(&json!({"port": port}), Ok(reading(Some(host), named)), &[]);
            for found in [of_spec, of_state] {
                let is_refused = matches!(found, Err(ResolveError::HostNotNamed { .. }));
                assert_eq!((found.is_ok(), is_refused), (is_allowed, !is_allowed), "{found:?}");
            }
        }
    }

    #[test]
    fn the_operators_administrator_decides_before_anybody_else() {
        let host = json!({"host": "db.rds.example"});
        let listed = server(&host, Ok(reading(None, None)), &["*.rds.example"]);
        assert_eq!(listed.as_deref(), Ok("db.rds.example:3306"));
        let named = Ok(reading(None, Some("db.rds.example")));
        let not_listed = server(&host, named, &["other.example"]);
        assert!(matches!(not_listed, Err(ResolveError::HostNotAllowed(_))), "{not_listed:?}");
        let named = Ok(reading(None, Some("localhost")));
        let local = server(&json!({"host": "localhost"}), named, &["localhost"]);
        assert!(matches!(local, Err(ResolveError::LocalHost(_))), "{local:?}");
    }

    #[test]
    fn the_message_says_what_to_write() {
        let host = json!({"host": "db.example"});
        let message = |named: Option<&str>| {
            server(&host, Ok(reading(None, named)), &[]).expect_err("not named").to_string()
        };
        let unnamed = message(None);
        for words in [
            "the secret \"db\" of Secrets Manager in eu-west-1",
            "it lacks the tag gill-hicks.dev/database-host=db.example ",
            "ALLOWED_DATABASE_HOSTS",
        ] {
            assert!(unnamed.contains(words), "{words}: {unnamed}");
        }
        assert!(!unnamed.contains("it names"), "{unnamed}");
        let other = message(Some("other.example"));
        assert!(other.contains("(it names \"other.example\")"), "{other}");
        let port = message(Some("db.example:3307"));
        assert!(port.contains("database-host=db.example:3306 "), "{port}");
    }

    #[test]
    fn a_source_that_is_unavailable_is_asked_when_it_said_so() {
        let wait = Retry::After(Duration::from_secs(7));
        let unavailable = Err(SourceError::Unavailable {
            what: "it".to_owned(),
            cause: "busy".to_owned(),
            retry: wait.clone(),
        });
        let error = server(&json!({}), unavailable, &[]).expect_err("no source");
        assert_eq!(error.retry(), wait);
        let gone = Err(SourceError::NotFound { what: "it".to_owned() });
        let error = server(&json!({}), gone, &[]).expect_err("no source");
        assert_eq!(error.retry(), Retry::Poll);
        assert!(matches!(error, ResolveError::NoSource { reason: Reason::SourceNotFound, .. }));
        // What the source says may be what is wrong.
        let error = server(&json!({}), Ok(reading(None, None)), &[]).expect_err("no host");
        assert_eq!((&error, error.retry()), (&ResolveError::Missing("host"), Retry::Poll));
    }
}
