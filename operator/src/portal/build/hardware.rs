//! The API: Deployment, Service, catalog and the volume of an embedded database.

use std::collections::BTreeMap;

use crds::{Storage, TlsMode};
use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        core::v1::{
            ConfigMap, ConfigMapVolumeSource, EmptyDirVolumeSource, KeyToPath,
            PersistentVolumeClaim, PersistentVolumeClaimSpec, PersistentVolumeClaimVolumeSource,
            Service, ServicePort, ServiceSpec, Volume, VolumeMount, VolumeResourceRequirements,
        },
    },
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::pod::{self, Files, Parts};
use crate::{
    cluster::{
        labels::{self, Component},
        names,
    },
    portal::{
        resolve::{ResolvedDatabase, ResolvedPortal},
        stored,
    },
};

/// Port of the API, the original's.
pub const PORT: i32 = 5001;

/// Where the tokens of sources are mounted.
const OBSERVATIONS_FOLDER: &str = "/etc/gill-hicks/observations";

/// Where the API is, for pods of the same namespace.
#[must_use]
pub fn address(portal: &str) -> String {
    format!("{}:{PORT}", names::hardware(portal))
}

/// The Deployment of the API.
#[must_use]
pub fn deployment(portal: &ResolvedPortal) -> Deployment {
    let mut files = database_files(portal, names::CREDENTIALS_KEY);
    files.add(
        "CATALOG_FILE",
        Volume {
            name: "config".to_owned(),
            config_map: Some(ConfigMapVolumeSource {
                name: names::config(&portal.name),
                ..ConfigMapVolumeSource::default()
            }),
            ..Volume::default()
        },
        "/etc/gill-hicks/config",
        names::CATALOG_KEY,
    );
    files.add(
        "OBSERVATIONS_TOKEN_FILE",
        pod::secret_volume("observations", names::observations_secret(&portal.name), Vec::new()),
        OBSERVATIONS_FOLDER,
        names::TOKEN_KEY,
    );
    let source_tokens = format!("{OBSERVATIONS_FOLDER}/{}", names::SOURCE_TOKENS_KEY);
    files.env.push(pod::variable("SOURCE_TOKENS_FILE", &source_tokens));
    files.add(
        "WATCHES_FILE",
        pod::optional_secret_volume("watches", names::watches_secret(&portal.name)),
        "/etc/gill-hicks/watches",
        names::WATCHES_KEY,
    );
    let rolls = matches!(portal.database, ResolvedDatabase::Mysql(_));
    let Files { env, volumes, mounts } = files;
    let name = names::hardware(&portal.name);
    let component = Component::Hardware;
    let parts = Parts {
        component,
        name,
        port: Some(PORT),
        env,
        volumes,
        mounts,
        rolls,
        has_kubernetes_token: false,
    };
    pod::deployment(portal, &portal.hardware, parts)
}

/// How the API and the migration reach the database, each with its own key of the Secret with the
/// credentials.
#[must_use]
pub fn database_files(portal: &ResolvedPortal, key: &str) -> Files {
    let mut files = Files::default();
    match &portal.database {
        ResolvedDatabase::Embedded { storage } => {
            files.env.push(pod::variable("SQLITE_PATH", "/var/lib/gill-hicks/hardware.db"));
            files.mounts.push(VolumeMount {
                name: names::DATA_VOLUME.to_owned(),
                mount_path: "/var/lib/gill-hicks".to_owned(),
                ..VolumeMount::default()
            });
            files.volumes.push(data_volume(portal, storage.as_ref()));
        }
        ResolvedDatabase::Mysql(mysql) => {
            let tls = &mysql.tls;
            let item = |key: &str, path: &str| {
                vec![KeyToPath {
                    key: key.to_owned(),
                    path: path.to_owned(),
                    ..KeyToPath::default()
                }]
            };
            let secret = names::database_secret(&portal.name);
            files.add(
                "MYSQL_CREDENTIALS_FILE",
                pod::secret_volume("database", secret, item(key, names::CREDENTIALS_KEY)),
                "/etc/gill-hicks/database",
                names::CREDENTIALS_KEY,
            );
            if tls.mode == TlsMode::Disabled {
                files.env.push(pod::variable("MYSQL_TLS", "disabled"));
            }
            let ca = tls.ca.clone().unwrap_or_default();
            let volume = match (ca.config_map_key_ref, ca.secret_key_ref) {
                (Some(reference), _) => Some(Volume {
                    name: "ca".to_owned(),
                    config_map: Some(ConfigMapVolumeSource {
                        name: reference.name,
                        items: Some(item(&reference.key, "ca.pem")),
                        ..ConfigMapVolumeSource::default()
                    }),
                    ..Volume::default()
                }),
                (None, Some(reference)) => {
                    Some(pod::secret_volume("ca", reference.name, item(&reference.key, "ca.pem")))
                }
                (None, None) => None,
            };
            if let Some(volume) = volume {
                files.add("MYSQL_TLS_CA_FILE", volume, "/etc/gill-hicks/ca", "ca.pem");
            }
        }
    }
    files
}

fn data_volume(portal: &ResolvedPortal, storage: Option<&Storage>) -> Volume {
    let name = names::DATA_VOLUME.to_owned();
    match storage {
        Some(_) => Volume {
            name,
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: names::data_claim(&portal.name),
                read_only: None,
            }),
            ..Volume::default()
        },
        None => {
            Volume { name, empty_dir: Some(EmptyDirVolumeSource::default()), ..Volume::default() }
        }
    }
}

/// The volume claim of an embedded database that is to outlive its pod. A retained one has no owner,
/// so that it outlives the portal as well.
#[must_use]
pub fn volume_claim(portal: &ResolvedPortal) -> Option<PersistentVolumeClaim> {
    let ResolvedDatabase::Embedded { storage: Some(storage) } = &portal.database else {
        return None;
    };
    let name = names::data_claim(&portal.name);
    let metadata = if storage.retain {
        labels::unowned(portal, Component::Hardware, name)
    } else {
        labels::owned(portal, Component::Hardware, name)
    };
    Some(PersistentVolumeClaim {
        metadata,
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            storage_class_name: storage.storage_class_name.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([(
                    "storage".to_owned(),
                    stored::quantity(&storage.size),
                )])),
                limits: None,
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    })
}

/// The Service of the API.
#[must_use]
pub fn service(portal: &ResolvedPortal) -> Service {
    Service {
        metadata: labels::owned(portal, Component::Hardware, names::hardware(&portal.name)),
        spec: Some(ServiceSpec {
            selector: Some(labels::selecting(&portal.name, Component::Hardware)),
            ports: Some(vec![http_port(PORT)]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

/// The one port of a Service.
#[must_use]
pub fn http_port(number: i32) -> ServicePort {
    ServicePort {
        name: Some("http".to_owned()),
        port: number,
        protocol: Some("TCP".to_owned()),
        target_port: Some(IntOrString::String("http".to_owned())),
        ..ServicePort::default()
    }
}

/// The ConfigMap with the catalog, which the API follows while it runs.
#[must_use]
pub fn config(portal: &ResolvedPortal) -> ConfigMap {
    let catalog = serde_json::to_string(&portal.catalog).expect("plain data");
    ConfigMap {
        metadata: labels::owned(portal, Component::Hardware, names::config(&portal.name)),
        data: Some(pod::strings([(names::CATALOG_KEY, catalog)])),
        ..ConfigMap::default()
    }
}
