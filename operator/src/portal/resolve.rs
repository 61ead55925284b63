//! From what was written and what was read to what can be built: every default decided, every
//! contradiction found. Pure.

use std::collections::BTreeMap;

use crds::{
    ABANDON_EMBEDDED_DATA_ANNOTATION, Autoscaling, CatalogEntry, Database, HardwarePortal, Ingress,
    MysqlDatabase, ROTATE_AT_ANNOTATION, Reason, Resources, ServiceType, Storage, Tls, TlsMode,
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
    build::{pod, stored},
    gather::{Gathered, GatheredMysql},
    live::LiveDeployment,
};
use crate::{
    cluster::labels::ChildOwner,
    rotation::{
        machine::{ObservedSource, Place, Plan},
        mysql::{AccountName, Authorities, SchemaName, Server, Slot, Tls as ServerTls},
        request::{PortalKey, Request},
        source::Reading,
    },
    settings::{Settings, is_local},
};

/// A portal of which every part is decided: the only input of `build`.
#[derive(Clone, Debug)]
pub struct ResolvedPortal {
    /// Name of the resource.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// What children name as their owner.
    pub owner: OwnerReference,
    /// Rows that must be in the list.
    pub catalog: Vec<CatalogEntry>,
    /// Where the data are.
    pub database: ResolvedDatabase,
    /// The token that observations are posted with.
    pub observations_token: SecretString,
    /// How the API runs.
    pub hardware: ResolvedWorkload,
    /// How the web page runs.
    pub portal: ResolvedWorkload,
    /// Title of the page, if one was chosen.
    pub title: Option<String>,
    /// Type of the page's Service.
    pub service_type: ServiceType,
    /// The way in from outside, if one was asked for.
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

/// How many pods a component has, and who decides it.
#[derive(Clone, Debug, PartialEq)]
pub enum Scaling {
    /// An autoscaler.
    Automatic(Autoscaling),
    /// The user, or the database that has one writer.
    Fixed(i32),
    /// Whoever did so before: what runs is kept, and this many are started at first.
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
            // Anybody may scale it up at any time.
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
    /// Nobody says where the server is.
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
    /// The source says nothing, and nothing is known from before.
    #[error("{message}")]
    NoSource {
        /// The word for machines.
        reason: Reason,
        /// What the source's reader said.
        message: String,
    },
    /// The annotation that asks for a rotation is no time.
    #[error(
        "the annotation {ROTATE_AT_ANNOTATION} is \"{0}\": expected a time such as 2026-01-31T12:00:00Z, at or after which to rotate once"
    )]
    RotateAt(String),
    /// Data would be left behind without anybody having said so.
    #[error(
        "the embedded database's data would be left behind: move them, then set the annotation {ABANDON_EMBEDDED_DATA_ANNOTATION}=\"true\" on this HardwarePortal"
    )]
    DataWouldBeLost,
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
        catalog: spec.catalog.clone().unwrap_or_else(default_catalog),
        database,
        observations_token: read.observations_token.clone(),
        hardware: resolve_workload(hardware, &settings.hardware_image, scaling, settings),
        portal: {
            let scaling = plan_scaling(&page.workload);
            resolve_workload(page.workload, &settings.portal_image, scaling, settings)
        },
        title: page.title,
        service_type: page.service.unwrap_or_default().type_,
        ingress: page.ingress,
        operator_namespace: settings.namespace.clone(),
    })
}

/// The rows that the original's table came with.
fn default_catalog() -> Vec<CatalogEntry> {
    [("Amazon", "c5"), ("Azure", "H16mr")]
        .map(|(provider, name)| CatalogEntry {
            provider: provider.to_owned(),
            name: name.to_owned(),
        })
        .to_vec()
}

fn resolve_workload(
    spec: Workload,
    default_image: &str,
    scaling: Scaling,
    settings: &Settings,
) -> ResolvedWorkload {
    ResolvedWorkload {
        image: spec.image.clone().unwrap_or_else(|| default_image.to_owned()),
        pull_policy: pod::pull_policy(spec.image_pull_policy, settings.image_pull_policy.as_ref()),
        resources: plan_resources(spec.resources.as_ref()),
        scaling,
        spec,
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

/// Requests and limits, each with its default where the user wrote neither it nor the other.
fn plan_resources(chosen: Option<&Resources>) -> ResourceRequirements {
    let default = |cpu: &str, memory: &str| {
        let quantity = |text: &str| Quantity(text.to_owned());
        BTreeMap::from([("cpu".to_owned(), quantity(cpu)), ("memory".to_owned(), quantity(memory))])
    };
    let Some(Resources { requests, limits }) = chosen else {
        return ResourceRequirements {
            requests: Some(default("100m", "100Mi")),
            limits: Some(default("1", "300Mi")),
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
    let allowed = &settings.allowed_database_hosts;
    if !allowed.is_empty() && !allowed.iter().any(|pattern| pattern.covers(&place.host)) {
        return Err(ResolveError::HostNotAllowed(place.host));
    }
    let rotation = mysql.rotation.clone().unwrap_or_default();
    let uid = portal.uid().ok_or(ResolveError::Metadata("uid"))?;
    let tls = mysql.tls.clone().unwrap_or_default();
    let source = read.source.as_ref().ok();
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
            source: source.map(|reading| ObservedSource {
                version: reading.version.clone(),
                candidates: reading.candidates.clone(),
            }),
            terraform: source.and_then(|reading| reading.state.clone()),
            poll_interval: parse_duration("rotation.pollInterval", &rotation.poll_interval)?,
            deletion_policy: mysql.deletion_policy,
        },
        tls,
    })))
}

/// A time in the spec, which the definition's own rules have bounded.
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
            let known = read.stored.state.as_ref().and_then(|state| state.place.clone());
            known.ok_or_else(|| ResolveError::NoSource {
                reason: error.reason(),
                message: error.to_string(),
            })
        }
    }
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
