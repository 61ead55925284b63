//! From what was written and what was read to what can be built: every default decided, every
//! contradiction found. Pure.

use std::collections::BTreeMap;

use crds::{
    ABANDON_EMBEDDED_DATA_ANNOTATION, Autoscaling, CatalogEntry, Database, DeletionPolicy,
    HardwarePortal, Ingress, MysqlDatabase, ROTATE_AT_ANNOTATION, Reason, Resources, ServiceType,
    Storage, Tls, TlsMode, Workload,
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
    dereference::{Dereferenced, MysqlRead},
    live::LiveDeployment,
};
use crate::{
    credentials::{
        accounts::{AccountName, SchemaName, Server, Slot, Tls as ServerTls},
        rotation::{Place, Plan, SourceSeen},
        source::{Reading, StateVersion},
    },
    settings::{Settings, is_local},
};

/// A portal of which every part is decided: the only input of `build`.
#[derive(Clone, Debug)]
pub struct ValidatedPortal {
    /// Name of the resource.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// What children name as their owner.
    pub owner: OwnerReference,
    /// Rows that must be in the list.
    pub catalog: Vec<CatalogEntry>,
    /// Where the data are.
    pub database: ValidatedDatabase,
    /// The token that observations are posted with.
    pub observations_token: SecretString,
    /// How the API runs.
    pub hardware: ValidatedWorkload,
    /// How the web page runs.
    pub portal: ValidatedWorkload,
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
pub enum ValidatedDatabase {
    /// In the hardware pod, on a volume if one was asked for.
    Embedded {
        /// The volume.
        storage: Option<Storage>,
    },
    /// On a MySQL server.
    Mysql(Box<ValidatedMysql>),
}

/// A MySQL server, and how the pods get their credential for it.
#[derive(Clone, Debug)]
pub struct ValidatedMysql {
    /// Where the server is, as the operator itself reaches it.
    pub server: Server,
    /// How connections are encrypted, as the user wrote it.
    pub tls: Tls,
    /// What is asked for of the credential.
    pub plan: Plan,
    /// What the source says, if it says anything.
    pub source: Option<SourceSeen>,
    /// Which terraform state that was, if it was one.
    pub terraform: Option<StateVersion>,
    /// How often to look at the source.
    pub poll_interval: std::time::Duration,
    /// What becomes of the accounts when the portal is deleted.
    pub deletion_policy: DeletionPolicy,
}

impl ValidatedMysql {
    /// Server and schema.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.plan.place
    }
}

/// How one component runs.
#[derive(Clone, Debug)]
pub struct ValidatedWorkload {
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
pub enum ValidateError {
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
pub fn validate(
    portal: &HardwarePortal,
    read: &Dereferenced,
    settings: &Settings,
) -> Result<ValidatedPortal, ValidateError> {
    let spec = &portal.spec;
    let owner = portal.controller_owner_ref(&()).ok_or(ValidateError::Metadata("uid"))?;
    let database = validate_database(portal, spec.database.as_ref(), read, settings)?;
    let is_embedded = matches!(database, ValidatedDatabase::Embedded { .. });
    let page = spec.portal.clone().unwrap_or_default();
    let hardware = spec.hardware.clone().unwrap_or_default();
    let scaling = if is_embedded {
        Scaling::Fixed(hardware.replicas.unwrap_or(1).min(1))
    } else {
        plan_scaling(&hardware)
    };
    Ok(ValidatedPortal {
        name: portal.name_any(),
        namespace: portal.namespace().ok_or(ValidateError::Metadata("namespace"))?,
        owner,
        catalog: spec.catalog.clone().unwrap_or_else(default_catalog),
        database,
        observations_token: read.observations_token.clone(),
        hardware: validate_workload(hardware, &settings.hardware_image, scaling, settings),
        portal: {
            let scaling = plan_scaling(&page.workload);
            validate_workload(page.workload, &settings.portal_image, scaling, settings)
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

fn validate_workload(
    spec: Workload,
    default_image: &str,
    scaling: Scaling,
    settings: &Settings,
) -> ValidatedWorkload {
    ValidatedWorkload {
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

fn validate_database(
    portal: &HardwarePortal,
    database: Option<&Database>,
    read: &Dereferenced,
    settings: &Settings,
) -> Result<ValidatedDatabase, ValidateError> {
    let Some(mysql) = database.and_then(|database| database.mysql.as_ref()) else {
        let storage =
            database.and_then(|it| it.embedded.as_ref()).and_then(|it| it.storage.clone());
        return Ok(ValidatedDatabase::Embedded { storage });
    };
    let has_embedded_data =
        read.live.hardware.as_ref().is_some_and(|live: &LiveDeployment| live.is_embedded);
    let abandons = portal.annotations().get(ABANDON_EMBEDDED_DATA_ANNOTATION);
    if has_embedded_data && abandons.map(String::as_str) != Some("true") {
        return Err(ValidateError::DataWouldBeLost);
    }
    let read = read.mysql.as_ref().ok_or(ValidateError::Missing("source"))?;
    let place = decide_place(mysql, read)?;
    if is_local(&place.host) {
        return Err(ValidateError::LocalHost(place.host));
    }
    let allowed = &settings.allowed_database_hosts;
    if !allowed.is_empty() && !allowed.iter().any(|pattern| pattern.covers(&place.host)) {
        return Err(ValidateError::HostNotAllowed(place.host));
    }
    let rotation = mysql.rotation.clone().unwrap_or_default();
    let uid = portal.uid().ok_or(ValidateError::Metadata("uid"))?;
    let tls = mysql.tls.clone().unwrap_or_default();
    let source = read.source.as_ref().ok();
    Ok(ValidatedDatabase::Mysql(Box::new(ValidatedMysql {
        server: Server {
            host: place.host.clone(),
            port: place.port,
            schema: SchemaName::new(&place.database).map_err(|error| ValidateError::Malformed {
                field: "database",
                found: place.database.clone(),
                expected: error.to_string(),
            })?,
            tls: match tls.mode {
                TlsMode::Disabled => ServerTls::Disabled,
                TlsMode::Required => ServerTls::Required {
                    ca_pem: read
                        .authorities
                        .clone()
                        .unwrap_or_else(|| settings.rds_authorities.to_vec()),
                },
            },
        },
        tls,
        plan: Plan {
            account: AccountName::for_portal(&uid, Slot::A)
                .map_err(|_| ValidateError::Metadata("uid"))?,
            mode: rotation.mode,
            interval: parse_duration("rotation.interval", &rotation.interval)?
                .try_into()
                .unwrap_or(SignedDuration::MAX),
            place,
            requested: parse_request(portal)?,
        },
        source: source.map(|reading| SourceSeen {
            version: reading.version.clone(),
            candidates: reading.candidates.clone(),
        }),
        terraform: source.and_then(|reading| reading.state.clone()),
        poll_interval: parse_duration("rotation.pollInterval", &rotation.poll_interval)?,
        deletion_policy: mysql.deletion_policy,
    })))
}

/// A time in the spec, which the definition's own rules have bounded.
fn parse_duration(field: &'static str, text: &str) -> Result<std::time::Duration, ValidateError> {
    humantime::parse_duration(text).map_err(|_| ValidateError::Malformed {
        field,
        found: text.to_owned(),
        expected: "expected a time such as 60s, 5m or 720h".to_owned(),
    })
}

fn parse_request(portal: &HardwarePortal) -> Result<Option<Timestamp>, ValidateError> {
    let Some(text) = portal.annotations().get(ROTATE_AT_ANNOTATION) else { return Ok(None) };
    text.parse().map(Some).map_err(|_| ValidateError::RotateAt(text.clone()))
}

/// The place that the source gives, or the one known from before while the source says nothing.
fn decide_place(mysql: &MysqlDatabase, read: &MysqlRead) -> Result<Place, ValidateError> {
    match &read.source {
        Ok(source) => {
            let (host, port) = locate_server(mysql, source)?;
            let database = one_of("database", source.database.as_ref(), mysql.database.as_ref())?;
            Ok(Place { host, port, database })
        }
        Err(error) => {
            let known = read.memory.state.as_ref().and_then(|state| state.place.clone());
            known.ok_or_else(|| ValidateError::NoSource {
                reason: error.reason(),
                message: error.to_string(),
            })
        }
    }
}

/// Where the server is. What the source says counts; the spec only fills in what the source lacks, so
/// that a credential is never sent to a server of somebody else's choice.
fn locate_server(mysql: &MysqlDatabase, source: &Reading) -> Result<(String, u16), ValidateError> {
    let written = one_of("host", source.host.as_ref(), mysql.host.as_ref())?;
    let HostPort { host, port: port_of_host } = written.parse().map_err(|expected| {
        ValidateError::Malformed { field: "host", found: written.clone(), expected }
    })?;
    let port_of_source = source.port.as_ref().map(|text| match text.parse::<u16>() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(ValidateError::Malformed {
            field: "port",
            found: text.clone(),
            expected: "expected a number from 1 to 65535".to_owned(),
        }),
    });
    let given = match (port_of_host, port_of_source.transpose()?) {
        (Some(a), Some(b)) if a != b => {
            return Err(ValidateError::Malformed {
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
        (Some(given), Some(chosen)) if given != chosen => Err(ValidateError::Overridden {
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
) -> Result<String, ValidateError> {
    match (given, written) {
        (Some(given), Some(written)) if given != written => {
            Err(ValidateError::Overridden { field, given: given.clone(), written: written.clone() })
        }
        (given, written) => given.or(written).cloned().ok_or(ValidateError::Missing(field)),
    }
}
