//! The root in the state of a real terraform.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use crds::RotationCause;
use e2e::{
    Namespace,
    database::{Database, random_password},
    rotation::{ROTATED, last_rotation, published, wait_for_reason, wait_for_rotation},
    source,
    store_load::StoreLoad,
    terraform::Terraform,
    wait::{eventually, throughout},
};
use k8s_openapi::{
    ByteString,
    api::{coordination::v1::Lease, core::v1::Secret},
};
use kube::{
    ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};

/// The portal `formed`, whose root is in the state of a terraform.
struct Formed {
    namespace: Namespace,
    database: Database,
    terraform: Terraform,
    outputs: Value,
}

fn spec() -> Value {
    let mut spec = source::rotating("AlternatingUsers");
    spec["database"]["mysql"]["source"] = json!({"terraformState": {"secretSuffix": "rds"}});
    spec
}

async fn start_portal(namespace: &str, root: &str, padding: usize) -> Result<Formed> {
    let (namespace, database) = (Namespace::open(namespace).await?, Database::from_settings()?);
    for piece in pieces(&namespace).await? {
        namespace.api::<Secret>().delete(&piece.name_any(), &DeleteParams::default()).await?;
    }
    let password = database.create_root(root).await?;
    // For the certificate authority; without the label this Secret is not a source.
    source::offer(&namespace, &database, root, &password, json!({})).await?;
    let terraform = Terraform::init(namespace.name(), "formed")?;
    let outputs = source::data(&database, root, root, &password)?;
    terraform.apply(&outputs, padding)?;
    namespace.apply_portal("formed", spec()).await?;
    namespace.wait_until_ready("formed").await?;
    Ok(Formed { namespace, database, terraform, outputs })
}

/// The root's password is changed on the server and then by a real `terraform apply`, whose state is
/// too large for one Secret.
#[tokio::test(flavor = "multi_thread")]
async fn a_root_that_terraform_changes_reaches_the_pods_without_a_failed_request() -> Result<()> {
    let Formed { namespace, database, terraform, mut outputs } =
        start_portal("e2e-terraform", "e2e_terraform", 1000).await?;
    let mut last = last_rotation(&namespace, "formed").await?;

    let changed = random_password()?;
    let load = StoreLoad::start(&namespace, "formed", &database).await?;
    let started = Instant::now();
    // A state holds the padding twice, as what went into the resource and as what came out: 3 MiB.
    change_root(&database, &terraform, &mut outputs, &changed, 3 << 19).await?;
    let applied = started.elapsed();
    last = wait_for_rotation(&namespace, "formed", last.generation).await?;
    let figures = load.stop(&database).await?;
    println!(
        "terraform apply with a state of 3 MiB: {figures}; applied after {:.1} s, revoked after {:.1} s",
        applied.as_secs_f64(),
        started.elapsed().as_secs_f64()
    );
    figures.expect_no_failure()?;
    assert_eq!(last.reason, RotationCause::SourceChanged);
    ensure!(pieces(&namespace).await?.len() >= 4, "the state is in one Secret");

    // One of more than 8 MiB is refused, and the pods keep what they have. Without the load, as terraform
    // keeps both cores busy for a quarter of a minute here.
    let before = published(&namespace, "formed").await?;
    let changed = random_password()?;
    change_root(&database, &terraform, &mut outputs, &changed, 6 << 20).await?;
    wait_for_reason(&namespace, "formed", "SourceInvalid", "at most 8 MiB").await?;
    assert_eq!(published(&namespace, "formed").await?, before, "the pods' file was not touched");
    change_root(&database, &terraform, &mut outputs, &changed, 1000).await?;
    last = wait_for_rotation(&namespace, "formed", last.generation).await?;
    assert_eq!(last.reason, RotationCause::SourceChanged);
    namespace.delete_portal("formed").await
}

/// On the server first and in the source later, as it goes with every rotation by somebody else.
async fn change_root(
    database: &Database,
    terraform: &Terraform,
    outputs: &mut Value,
    password: &str,
    padding: usize,
) -> Result<()> {
    let user = outputs["MYSQL_USER"].as_str().context("the outputs name the account")?;
    database.execute(&format!("ALTER USER '{user}'@'%' IDENTIFIED BY '{password}'")).await?;
    outputs["MYSQL_PASSWORD"] = json!(password);
    terraform.apply(outputs, padding)
}

/// The Secrets of the state, by name, which is by number for as few as ten.
async fn pieces(namespace: &Namespace) -> Result<Vec<Secret>> {
    let of_state = ListParams::default().labels("tfstateSecretSuffix=rds");
    Ok(namespace.api::<Secret>().list(&of_state).await?.items)
}

/// Writes a piece as it was.
async fn put_back(namespace: &Namespace, piece: &Secret) -> Result<()> {
    write(namespace, piece, piece.data.as_ref().and_then(|data| data.get("tfstate"))).await
}

async fn write(namespace: &Namespace, piece: &Secret, data: Option<&ByteString>) -> Result<()> {
    let patch = Patch::Merge(json!({"data": {"tfstate": data}}));
    let secrets = namespace.api::<Secret>();
    secrets.patch(&piece.name_any(), &PatchParams::default(), &patch).await?;
    Ok(())
}

async fn set_suspended(namespace: &Namespace, suspend: bool) -> Result<()> {
    let mut spec = spec();
    spec["suspend"] = json!(suspend);
    namespace.apply_portal("formed", spec).await?;
    let status = if suspend { "True" } else { "False" };
    namespace.wait_for_condition("formed", "Suspended", status).await.map(drop)
}

/// The backend writes one Secret after the other. What lies between is put together from the pieces of
/// two states that terraform wrote, the second with another root.
#[tokio::test(flavor = "multi_thread")]
async fn a_half_written_state_leaves_the_pods_alone_until_it_is_whole() -> Result<()> {
    let Formed { namespace, database, terraform, mut outputs } =
        start_portal("e2e-torn", "e2e_torn", 3 << 18).await?;
    let last = last_rotation(&namespace, "formed").await?;
    let before = published(&namespace, "formed").await?;
    let load = StoreLoad::start(&namespace, "formed", &database).await?;

    // The operator is to meet the new state half written first.
    set_suspended(&namespace, true).await?;
    let older = pieces(&namespace).await?;
    let changed = random_password()?;
    change_root(&database, &terraform, &mut outputs, &changed, 3 << 18).await?;
    let newer = pieces(&namespace).await?;
    ensure!(older.len() == 2 && newer.len() == 2, "{} and {} pieces", older.len(), newer.len());
    put_back(&namespace, &older[1]).await?;
    set_suspended(&namespace, false).await?;
    let told =
        wait_for_reason(&namespace, "formed", "StateIncomplete", "no complete gzip file").await?;
    println!("a state of which half is written: {told}");
    let error = terraform.apply(&outputs, 1000).err().context("terraform reads half a state")?;
    let error = format!("{error:#}");
    ensure!(error.contains("error loading state"), "terraform fails otherwise: {error}");
    // Created, and not filled yet.
    write(&namespace, &newer[1], None).await?;
    wait_for_reason(&namespace, "formed", "StateIncomplete", "no complete gzip file").await?;
    assert_eq!(published(&namespace, "formed").await?, before, "the pods' file was not touched");

    put_back(&namespace, &newer[1]).await?;
    let ended = wait_for_rotation(&namespace, "formed", last.generation).await?;
    namespace.wait_for_condition("formed", "CredentialsReady", "True").await?;
    let figures = load.stop(&database).await?;
    println!("a state that was half written for a while: {figures}");
    figures.expect_no_failure()?;
    assert_eq!(ended.reason, RotationCause::SourceChanged);
    namespace.delete_portal("formed").await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_state_is_refused_and_another_one_is_taken_only_by_a_persons_word() -> Result<()> {
    let Formed { namespace, database, terraform, mut outputs } =
        start_portal("e2e-states", "e2e_states", 1000).await?;
    let first = last_rotation(&namespace, "formed").await?;
    let load = StoreLoad::start(&namespace, "formed", &database).await?;

    let older = pieces(&namespace).await?;
    change_root(&database, &terraform, &mut outputs, &random_password()?, 1000).await?;
    let second = wait_for_rotation(&namespace, "formed", first.generation).await?;
    let newer = pieces(&namespace).await?;
    let before = published(&namespace, "formed").await?;
    put_back(&namespace, &older[0]).await?;
    let told = wait_for_reason(&namespace, "formed", "StateOutdated", "serial").await?;
    println!("a state that was put back: {told}");
    assert_eq!(published(&namespace, "formed").await?, before, "the pods' file was not touched");
    put_back(&namespace, &newer[0]).await?;
    namespace.wait_for_condition("formed", "CredentialsReady", "True").await?;

    // Terraform begins a new state where it finds none.
    namespace.api::<Secret>().delete(&newer[0].name_any(), &DeleteParams::default()).await?;
    change_root(&database, &terraform, &mut outputs, &random_password()?, 1000).await?;
    let told = wait_for_reason(&namespace, "formed", "StateLineageChanged", "lineage").await?;
    println!("a state that was begun anew: {told}");
    throughout("the pods' file is not touched", Duration::from_secs(5), async || {
        ensure!(published(&namespace, "formed").await? == before, "it was");
        Ok(())
    })
    .await?;
    let annotation = told.split_once("set the annotation ").and_then(|(_, rest)| {
        let (annotation, _) = rest.split_once(" on this HardwarePortal")?;
        annotation.split_once('=')
    });
    let (name, lineage) = annotation.context("the message shows the annotation")?;
    let annotations = json!({name: lineage.trim_matches('"')});
    namespace.apply_annotated_portal("formed", annotations, spec()).await?;
    let third = wait_for_rotation(&namespace, "formed", second.generation).await?;
    namespace.wait_for_condition("formed", "CredentialsReady", "True").await?;
    let figures = load.stop(&database).await?;
    println!("an older state and another lineage: {figures}");
    figures.expect_no_failure()?;
    assert_eq!(second.reason, RotationCause::SourceChanged);
    assert_eq!(third.reason, RotationCause::SourceChanged);
    namespace.delete_portal("formed").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_terraform_has_locked_is_read_when_terraform_is_done() -> Result<()> {
    let Formed { namespace, database, terraform, mut outputs } =
        start_portal("e2e-locked", "e2e_locked", 1000).await?;
    let last = last_rotation(&namespace, "formed").await?;
    let before = published(&namespace, "formed").await?;
    let load = StoreLoad::start(&namespace, "formed", &database).await?;

    let changed = random_password()?;
    database.execute(&format!("ALTER USER 'e2e_locked'@'%' IDENTIFIED BY '{changed}'")).await?;
    outputs["MYSQL_PASSWORD"] = json!(changed);
    let proposal = terraform.propose(&outputs, 1000)?;
    let holder = eventually("terraform's lock", ROTATED, async || {
        let lease: Lease = namespace.api().get("lock-tfstate-default-rds").await?;
        lease.spec.and_then(|spec| spec.holder_identity).context("nobody holds it")
    })
    .await?;
    let told = wait_for_reason(&namespace, "formed", "StateLocked", &holder).await?;
    println!("a state under terraform's lock: {told}");
    assert_eq!(published(&namespace, "formed").await?, before, "the pods' file was not touched");

    let approved = Instant::now();
    proposal.approve()?;
    let ended = wait_for_rotation(&namespace, "formed", last.generation).await?;
    let figures = load.stop(&database).await?;
    println!(
        "a locked state: {figures}; revoked {:.1} s after the word that terraform waited for",
        approved.elapsed().as_secs_f64()
    );
    figures.expect_no_failure()?;
    assert_eq!(ended.reason, RotationCause::SourceChanged);
    namespace.delete_portal("formed").await
}
