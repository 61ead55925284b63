//! The commands of docs/mcp.md, as they stand there.

use std::process::Command;

use super::with_agents;
use crate::support::clients::python;

const PAGE: &str = include_str!("../../../../docs/mcp.md");

/// The only block of a language.
fn block(language: &str) -> &'static str {
    let mut marked = PAGE.split("```").skip(1).step_by(2);
    let block = marked.find_map(|block| block.strip_prefix(language)?.strip_prefix('\n'));
    block.expect("a block of this language")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_and_the_program_answer() {
    let service = with_agents().await;
    for (program, option, script) in [
        ("bash".into(), "-c", block("sh").replace("curl ", "curl --fail ")),
        (python(), "-c", block("python").to_owned()),
    ] {
        let mut command = Command::new(program);
        command.args([option, &script]).env("HARDWARE", &service.url).env("no_proxy", "*");
        let ran = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic");
        let ran = ran.expect("it starts");
        let printed = String::from_utf8_lossy(&ran.stdout);
        assert!(ran.status.success(), "{ran:?}");
        assert!(printed.contains("can be had: HIGH for 4: Amazon p4d.24xlarge"), "{printed}");
    }
}
