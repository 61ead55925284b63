//! Everything that was said is searched for passwords.

use std::process::Command;

use anyhow::{Result, ensure};
use crds::HardwarePortal;
use e2e::{
    Namespace,
    database::Database,
    program::run,
    rotation::{published, rotate_in_a_row, start_portal},
    source,
};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::{ListParams, LogParams},
};

/// Everything that was said while a portal lived is searched for its passwords.
#[tokio::test]
async fn no_password_is_in_a_log_an_event_a_status_or_an_argument() -> Result<()> {
    let (namespace, database) = (Namespace::open("e2e-silent").await?, Database::from_settings()?);
    let root = start_portal(
        &namespace,
        &database,
        "silent",
        "e2e_silent",
        source::rotating("AlternatingUsers"),
    )
    .await?;
    let (_, first) = published(&namespace, "silent").await?;
    rotate_in_a_row(&namespace, "silent", 1).await?;
    let (_, second) = published(&namespace, "silent").await?;
    let secrets: Vec<&str> =
        [&root, &first[0].1, &second[0].1].map(String::as_str).into_iter().collect();

    let mut said = Vec::new();
    let portal: HardwarePortal = namespace.api().get("silent").await?;
    said.push(("the portal".to_owned(), serde_json::to_string(&portal)?));
    let operators: Api<Pod> = Api::namespaced(namespace.client(), "gill-hicks-system");
    for (pods, list) in [
        (&operators, operators.list(&ListParams::default()).await?),
        (&namespace.api::<Pod>(), namespace.api::<Pod>().list(&ListParams::default()).await?),
    ] {
        for pod in list {
            let name = pod.name_any();
            said.push((
                format!("the log of {name}"),
                pods.logs(&name, &LogParams::default()).await?,
            ));
            said.push((format!("pod {name}"), serde_json::to_string(&pod)?));
        }
    }
    let events = namespace.api::<k8s_openapi::api::events::v1::Event>();
    said.push((
        "events".to_owned(),
        serde_json::to_string(&events.list(&ListParams::default()).await?.items)?,
    ));
    ensure!(said.len() > 5, "too little was searched");
    for (what, text) in &said {
        for secret in &secrets {
            ensure!(!text.contains(secret), "{what} holds a password");
        }
    }
    let commands = run(Command::new("ps").args(["axww", "-o", "args"]), "")?;
    ensure!(commands.contains("/hardware serve"), "the pods' processes are not listed");
    ensure!(secrets.iter().all(|secret| !commands.contains(secret)), "an argument is a password");
    namespace.delete_portal("silent").await
}
