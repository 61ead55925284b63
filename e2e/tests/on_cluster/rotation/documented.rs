//! The commands of docs/rotate.md.

use anyhow::{Context, Result};
use crds::RotationCause;
use e2e::{
    Namespace,
    database::Database,
    program::{read_page, run_in_shell},
    rotation::{last_rotation, start_portal, wait_for_rotation},
    source,
};
use serde_json::Value;

/// The commands of docs/rotate.md as they stand there; only the names are filled in.
#[tokio::test]
async fn the_documented_way_to_ask_for_a_rotation_works_as_written() -> Result<()> {
    let (namespace, database) =
        (Namespace::open("e2e-documented").await?, Database::from_settings()?);
    let spec = source::rotating("AlternatingUsers");
    start_portal(&namespace, &database, "asked", "e2e_documented", spec).await?;
    let last = last_rotation(&namespace, "asked").await?;
    let page = read_page("rotate.md")?;
    let fill_in = |command: &str| {
        // The page shows commands for the namespace that kubectl is in, where it names none.
        let in_namespace = format!("kubectl -n {}", namespace.name());
        let command = command.replace("kubectl -n NAMESPACE", "kubectl");
        command.replace("kubectl", &in_namespace).replace("NAME", "asked")
    };

    let request = page.lines().find(|line| line.contains("annotate hwp"));
    run_in_shell(&fill_in(request.context("the page shows how to ask")?))?;
    let ended = wait_for_rotation(&namespace, "asked", last.generation).await?;
    assert_eq!(ended.reason, RotationCause::Requested);

    let command = page.split('`').find(|code| code.contains("status.credentials.history"));
    let history = run_in_shell(&fill_in(command.context("the page shows the history")?))?;
    let history: Value = serde_json::from_str(&history).with_context(|| history.clone())?;
    assert_eq!(history[0]["reason"], "Requested", "{history}");
    namespace.delete_portal("asked").await
}
