//! How others read a portal's status: kstatus, by which Flux, Helm and kpt wait, Argo CD with the script
//! of `deploy/argocd`, and `kubectl wait`.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{
    Namespace,
    namespace::SETTLED,
    program::{run, run_in_shell},
    setting,
    wait::eventually,
};

/// The script that Argo CD is given.
pub const ARGO_CD_SCRIPT: &str = "../deploy/argocd/health.lua";

/// What a program calls a portal, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// One of the program's own words.
    pub word: String,
    /// Its sentence for people.
    pub message: String,
}

/// What kstatus calls a portal: `Current`, `InProgress`, `Failed` or `Terminating`.
pub fn kstatus(portal: &Value) -> Result<Verdict> {
    let said = run(&mut Command::new(setting("E2E_KSTATUS")?), &portal.to_string())?;
    verdict(&said)
}

/// The health that Argo CD gives a portal: `Healthy`, `Progressing`, `Degraded` or `Suspended`.
pub fn argo_cd(portal: &Value) -> Result<Verdict> {
    let mut program = Command::new(setting("E2E_ARGOCD_HEALTH")?);
    verdict(&run(program.arg(ARGO_CD_SCRIPT), &portal.to_string())?)
}

fn verdict(said: &str) -> Result<Verdict> {
    let (word, message) = said.split_once('\n').with_context(|| format!("one line: {said}"))?;
    Ok(Verdict { word: word.to_owned(), message: message.trim_end().to_owned() })
}

/// Fails unless kstatus and Argo CD give a portal these words, in this order, for the same status. Gives
/// the portal and what kstatus and Argo CD say about it.
pub async fn expect_health(
    namespace: &Namespace,
    portal: &str,
    words: [&str; 2],
) -> Result<(Value, [Verdict; 2])> {
    let stored = namespace.stored_portal(portal).await?;
    let verdicts = [kstatus(&stored)?, argo_cd(&stored)?];
    let found = verdicts.each_ref().map(|verdict| verdict.word.as_str());
    ensure!(
        found == words,
        "{portal} is {found:?}, expected {words:?}: {verdicts:?}; its status: {}",
        stored["status"]
    );
    Ok((stored, verdicts))
}

/// Waits until they do.
pub async fn wait_for_health(
    namespace: &Namespace,
    portal: &str,
    words: [&str; 2],
) -> Result<(Value, [Verdict; 2])> {
    eventually(&format!("{words:?} of portal {portal}"), SETTLED, async || {
        expect_health(namespace, portal, words).await
    })
    .await
}

/// Waits for `Ready` as people do in scripts. Fails with what kubectl says.
pub fn kubectl_wait(namespace: &Namespace, portal: &str, timeout: &str) -> Result<String> {
    run_in_shell(&format!(
        "kubectl --namespace {} wait hardwareportal/{portal} --for=condition=Ready --timeout={timeout}",
        namespace.name()
    ))
}

/// Fails unless `kubectl wait` gives up waiting.
pub fn expect_kubectl_to_wait(namespace: &Namespace, portal: &str) -> Result<()> {
    let outcome = kubectl_wait(namespace, portal, "5s");
    let error = outcome.err().with_context(|| format!("kubectl called {portal} ready"))?;
    let said = format!("{error:#}");
    ensure!(said.contains("timed out waiting for the condition"), "kubectl said: {said}");
    Ok(())
}
