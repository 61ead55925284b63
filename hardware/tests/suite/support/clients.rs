//! Clients that others wrote, in the Python of `e2e/with-clients`.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

/// Where our programs are that use them.
const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/suite/clients");

/// That Python; its packages have their programs beside it.
pub(crate) fn python() -> PathBuf {
    let python = std::env::var_os("TEST_CLIENTS_PYTHON").expect(
        "TEST_CLIENTS_PYTHON is not set. This test needs clients that others wrote: run `make unit`, or put \
         `e2e/with-clients` before the command",
    );
    python.into()
}

/// What a program of ours prints as JSON, when it is given `input`. If it fails, the test does, with what it
/// said and with `about`.
pub(crate) async fn run(script: &str, arguments: &[&str], input: &[u8], about: &str) -> Value {
    let mut command = Command::new(python());
    command.arg(Path::new(SCRIPTS).join(script)).args(arguments).env("no_proxy", "*");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut program = command.spawn().expect("Python starts");
    let input = input.to_vec();
    let ended = tokio::task::spawn_blocking(move || {
        program.stdin.take().expect("piped").write_all(&input).expect("it reads all");
        program.wait_with_output().expect("it ends")
    });
    let ended = ended.await.expect("no panic");
    assert!(ended.status.success(), "{}\n{about}", String::from_utf8_lossy(&ended.stderr));
    serde_json::from_slice(&ended.stdout).expect("JSON")
}
