//! Options of the `collector` program.

use std::{collections::BTreeSet, path::PathBuf};

use clap::{Args, Parser, Subcommand};
use service_kit::config::{AdminArgs, ConfigError, LogArgs, ShutdownArgs, service_address};

use crate::sources::{Kind, SourceConfig};

/// The port of `hardware` unless one is given.
const DEFAULT_HARDWARE_PORT: u16 = 5001;

/// What a list of sources looks like, for whoever wrote something else.
const EXPECTED_SOURCES: &str = r#"a JSON list of sources such as [{"kubernetes": {}}]"#;

/// Posts what Kubernetes and other sources know of hardware to a portal.
#[derive(Debug, Parser)]
#[command(name = "collector", version, about, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Post what the sources see, whenever it changes
    Serve(ServeArgs),
    /// Show what the sources see now as a table, post nothing, and exit; 1 if a source sees nothing
    Check(CheckArgs),
}

/// Options of `serve`.
#[derive(Args, Debug)]
pub struct ServeArgs {
    /// The hardware service: HOST, HOST:PORT or `http://HOST:PORT` (5001 without a port). Required
    #[arg(long, env = "HARDWARE_HOST", value_name = "HOST")]
    pub hardware_host: Option<String>,
    /// Folder with the tokens: a file for each source, named like it. Each is read when it is needed
    #[arg(
        long,
        env = "SOURCE_TOKENS_FOLDER",
        default_value = "/etc/gill-hicks/tokens",
        value_name = "FOLDER"
    )]
    pub source_tokens_folder: PathBuf,
    /// The sources.
    #[command(flatten)]
    pub sources: SourcesArgs,
    /// The admin listener.
    #[command(flatten)]
    pub admin: AdminArgs,
    /// The shutdown.
    #[command(flatten)]
    pub shutdown: ShutdownArgs,
    /// The log.
    #[command(flatten)]
    pub log: LogArgs,
}

/// Options of `check`.
#[derive(Args, Debug)]
pub struct CheckArgs {
    /// The sources.
    #[command(flatten)]
    pub sources: SourcesArgs,
}

/// Which sources.
#[derive(Args, Debug)]
pub struct SourcesArgs {
    /// The sources, as spec.sources of a HardwarePortal lists them, in JSON. The cluster is that of the
    /// pod's service account, or of KUBECONFIG
    #[arg(long, env = "SOURCES", default_value = r#"[{"kubernetes": {}}]"#, value_name = "JSON")]
    pub sources: String,
}

impl ServeArgs {
    /// Base address of the service.
    pub(crate) fn hardware_address(&self) -> Result<String, ConfigError> {
        service_address("HARDWARE_HOST", self.hardware_host.as_deref(), DEFAULT_HARDWARE_PORT)
    }
}

impl SourcesArgs {
    /// Names and kinds.
    pub(crate) fn resolve(&self) -> Result<Vec<(String, Kind)>, ConfigError> {
        let wrong = |found: String| ConfigError {
            option: "SOURCES",
            found,
            expected: EXPECTED_SOURCES.to_owned(),
        };
        let sources: Vec<SourceConfig> = serde_json::from_str(&self.sources)
            .map_err(|error| wrong(format!("not understood ({error})")))?;
        let resolve = |source: &SourceConfig| {
            source.resolve().map_err(|reason| wrong(format!("not usable ({reason})")))
        };
        let resolved = sources.iter().map(resolve).collect::<Result<Vec<_>, _>>()?;
        if resolved.is_empty() {
            return Err(wrong("an empty list".to_owned()));
        }
        let mut names = BTreeSet::new();
        match resolved.iter().find(|(name, _)| !names.insert(name)) {
            Some((name, _)) => Err(wrong(format!("a list with two sources named {name:?}"))),
            None => Ok(resolved),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::SourcesArgs;

    fn names(sources: &str) -> Result<Vec<String>, String> {
        let resolved = SourcesArgs { sources: sources.to_owned() }.resolve();
        let resolved = resolved.map_err(|error| error.to_string())?;
        Ok(resolved.into_iter().map(|(name, _)| name).collect())
    }

    #[test]
    fn sources_are_those_of_the_resource() {
        for (sources, expected) in [
            (r#"[{"kubernetes": {}}]"#, vec!["kubernetes"]),
            (r#"[{"name": "here", "kubernetes": {"slot": {"cpu": "500m"}}}]"#, vec!["here"]),
            (
                r#"[{"kubernetes": {"slot": {"cpu": "1", "memory": "1Gi"}, "provider": "lab",
                    "nodeSelector": {"pool": "a"}, "tolerations": [{"operator": "Exists"}]}},
                    {"name": "small", "kubernetes": {}}]"#,
                vec!["kubernetes", "small"],
            ),
        ] {
            assert_eq!(names(sources).expect(sources), expected, "{sources}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_named_with_what_is_expected() {
        for (sources, found) in [
            ("", "not understood (EOF while parsing"),
            ("{}", "not understood (invalid type: map"),
            ("[]", "an empty list"),
            ("[{}]", "the source without a name has not exactly one kind"),
            (r#"[{"name": "lab"}]"#, "the source lab has not exactly one kind"),
            (
                r#"[{"kubernetes": {}, "prometheus": {"url": "http://p", "pools": []}}]"#,
                "has not exactly one kind",
            ),
            (r#"[{"prometheus": {"pools": []}}]"#, "missing field `url`"),
            (r#"[{"prometheus": {"url": "http://p", "pools": []}}]"#, "prometheus.pools is empty"),
            (
                r#"[{"prometheus": {"url": "ftp://p", "pools": []}}]"#,
                r#"prometheus.url is "ftp://p", expected http://HOST:PORT"#,
            ),
            (
                r#"[{"prometheus": {"url": "http://p", "interval": "1s", "pools": []}}]"#,
                r#"prometheus.interval is "1s", expected a time from 5s to 24h"#,
            ),
            (
                r#"[{"prometheus": {"url": "http://p", "pools": [{"total": "a", "inUse": " ",
                    "provider": "Lab", "name": "x"}]}}]"#,
                "prometheus.pools[0].inUse: expected a PromQL expression",
            ),
            (
                r#"[{"prometheus": {"url": "http://p", "pools": [{"total": "a", "inUse": "b",
                    "provider": "Lab", "name": "{x"}]}}]"#,
                r#"prometheus.pools[0].name: "{x" has { without }"#,
            ),
            (r#"[{"cubernetes": {}}]"#, "unknown field `cubernetes`"),
            (r#"[{"kubernetes": {"slots": 1}}]"#, "unknown field `slots`"),
            (
                r#"[{"kubernetes": {"slot": {"cpu": "0"}}}]"#,
                r#"kubernetes.slot.cpu is "0", expected a"#,
            ),
            (
                r#"[{"kubernetes": {"slot": {"memory": "2GB"}}}]"#,
                r#"kubernetes.slot.memory is "2GB""#,
            ),
            (r#"[{"name": "A", "kubernetes": {}}]"#, r#"the name "A" is not 1 to 63"#),
            (r#"[{"kubernetes": {}}, {"kubernetes": {}}]"#, r#"two sources named "kubernetes""#),
        ] {
            let error = names(sources).expect_err(sources);
            assert!(error.contains(found), "expected {found}\nfound {error}");
            assert!(
                error.contains("SOURCES is ") && error.contains("expected a JSON list"),
                "{error}"
            );
        }
    }
}
