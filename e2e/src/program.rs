//! Runs other programs, with what they are told on standard input and what they say in the error.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use crate::setting;

/// Runs a program to its end and gives what it prints. Fails with what it complains about.
pub fn run(command: &mut Command, input: &str) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("failed to run {name}"))?;
    let mut stdin = child.stdin.take().context("a pipe")?;
    stdin.write_all(input.as_bytes())?;
    drop(stdin);
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{name} failed ({}): {said} {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(said)
}

/// Runs commands in bash with the cluster's own kubectl on the path, and gives what they print.
pub fn run_in_shell(commands: &str) -> Result<String> {
    let kubectl = PathBuf::from(setting("KUBECTL")?);
    let folder = kubectl.parent().context("kubectl is in a folder")?.display();
    let path = format!("{folder}:{}", setting("PATH")?);
    let said =
        run(Command::new("bash").args(["-euo", "pipefail", "-c", commands]).env("PATH", path), "");
    said.with_context(|| commands.to_owned())
}

/// Runs commands in the root of the repository, where `make` is.
pub fn run_in_root(commands: &str) -> Result<String> {
    run_in_shell(&format!("cd ..\n{commands}"))
}

/// Runs commands in the root of the repository that have to fail, and gives what they say.
pub fn refusal_in_root(commands: &str) -> Result<String> {
    match run_in_root(commands) {
        Ok(said) => anyhow::bail!("{commands} was not refused; it said: {said}"),
        Err(error) => Ok(format!("{error:#}")),
    }
}

/// A page of the documentation, whose commands are run as they stand there.
pub fn read_page(name: &str) -> Result<String> {
    let path = Path::new("../docs").join(name);
    std::fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))
}
