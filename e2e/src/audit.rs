//! The API server's audit log: the independent witness of who asked it for what.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{BufRead, BufReader, Seek, SeekFrom},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use k8s_openapi::{api::core::v1::ConfigMap, jiff::Timestamp};
use kube::{Api, Client};
use serde::Deserialize;
use tokio::time::sleep;

/// The operator, as the API server knows it.
pub const OPERATOR: &str = "system:serviceaccount:gill-hicks-system:gill-hicks-operator";

/// A line that is not written by then never will be.
const LAG: Duration = Duration::from_secs(10);

/// Time between two looks for the end of somebody's work.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// One request, whatever became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// When the API server received it.
    pub received: Timestamp,
    /// Who asked.
    pub user: String,
    /// The pod that asked, if it was one.
    pub pod: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete` or `deletecollection`.
    pub verb: String,
    /// Plural of the kind, with the subresource: `deployments`, `hardwareportals/status`.
    pub resource: String,
    /// Namespace of the object; empty if it has none.
    pub namespace: String,
    /// Name of the object; empty for a list, and where the API server has yet to choose it.
    pub name: String,
    /// Status code of the answer; 0 if there was none.
    pub code: u16,
    /// From then until the answer was sent, or begun for a watch.
    pub took: Duration,
}

impl Request {
    /// Whether it asks for a change. That the object stayed the same does not matter: the API server
    /// had to look, and a watch may have been told.
    #[must_use]
    pub fn is_write(&self) -> bool {
        !matches!(self.verb.as_str(), "get" | "list" | "watch")
    }
}

/// `patch deployments gill-hicks/demo-portal (200)`, for messages of failed tests.
impl std::fmt::Display for Request {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { received, user: _, pod: _, verb, resource, namespace, name, code, took: _ } =
            self;
        write!(formatter, "{received} {verb} {resource} {namespace}/{name} ({code})")
    }
}

/// What is appended to the log from some moment on.
pub struct Witness {
    client: Client,
    log: PathBuf,
    /// Of the file that was read last. Rotation renames it, and `log` is another one from then on.
    inode: u64,
    offset: u64,
    /// Requests seen already: a watch is written down when it starts and when it ends.
    seen: HashSet<String>,
    since: Timestamp,
}

impl Witness {
    /// Starts watching the log of the cluster that `make up` brings up.
    pub async fn of_local_cluster(client: Client) -> Result<Self> {
        Self::of_log(client, &data_folder().join("logs/audit.log")).await
    }

    /// Starts watching a log of the cluster that `client` talks to.
    pub async fn of_log(client: Client, log: &Path) -> Result<Self> {
        let metadata = fs::metadata(log).with_context(|| {
            format!("failed to find the API server's audit log {}", log.display())
        })?;
        let mut witness = Self {
            client,
            log: log.to_owned(),
            inode: metadata.ino(),
            offset: metadata.len(),
            seen: HashSet::new(),
            since: Timestamp::now(),
        };
        witness.catch_up(&mut Vec::new(), &|_| false).await?;
        witness.since = Timestamp::now();
        Ok(witness)
    }

    /// The requests of one user that were received since the last call, or since the beginning. All
    /// that were answered before this call are among them.
    pub async fn requests_of(&mut self, user: &str) -> Result<Vec<Request>> {
        let mut requests = Vec::new();
        self.catch_up(&mut requests, &|request| request.user == user).await?;
        Ok(requests)
    }

    /// The requests of one user until none came for a while that is work, by the word of `is_work`. Fails
    /// if that takes longer than `deadline`.
    pub async fn until_quiet(
        &mut self,
        user: &str,
        quiet: Duration,
        deadline: Duration,
        is_work: impl Fn(&Request) -> bool,
    ) -> Result<Vec<Request>> {
        let (started, mut last) = (Instant::now(), Instant::now());
        let mut requests = Vec::new();
        while last.elapsed() < quiet {
            ensure!(started.elapsed() < deadline, "{user} does not come to rest");
            sleep(LOOK_EVERY).await;
            let new = self.requests_of(user).await?;
            if new.iter().any(&is_work) {
                last = Instant::now();
            }
            requests.extend(new);
        }
        Ok(requests)
    }

    /// The log is written after the answer is sent. So this sends a request of its own, which nobody
    /// else sends, and reads until that one is there.
    async fn catch_up(
        &mut self,
        requests: &mut Vec<Request>,
        is_wanted: &impl Fn(&Request) -> bool,
    ) -> Result<()> {
        let mark = format!("audit-mark-{}", Timestamp::now().as_nanosecond());
        let config_maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), "default");
        ensure!(config_maps.get_opt(&mark).await?.is_none(), "{mark} exists");
        let started = Instant::now();
        while self.read(&mark, requests, is_wanted)? {
            ensure!(started.elapsed() < LAG, "{mark} is still not in {}", self.log.display());
            sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Reads to the end. Whether the mark is still missing.
    fn read(
        &mut self,
        mark: &str,
        requests: &mut Vec<Request>,
        is_wanted: &impl Fn(&Request) -> bool,
    ) -> Result<bool> {
        let mut is_missing = true;
        for file in self.unread_files()? {
            let mut reader = BufReader::with_capacity(1 << 20, File::open(&file)?);
            let inode = reader.get_ref().metadata()?.ino();
            if inode != self.inode {
                (self.inode, self.offset) = (inode, 0);
            }
            reader.seek(SeekFrom::Start(self.offset))?;
            let mut line = String::new();
            // The API server writes a line at once, but this may look in between.
            while reader.read_line(&mut line)? > 0 && line.ends_with('\n') {
                self.offset += u64::try_from(line.len())?;
                let event: Event = serde_json::from_str(&line)
                    .with_context(|| format!("not a line of an audit log: {line}"))?;
                line.clear();
                let (id, request) = event.into_request()?;
                is_missing &= request.name != mark;
                if request.received >= self.since && is_wanted(&request) && self.seen.insert(id) {
                    requests.push(request);
                }
            }
        }
        Ok(is_missing)
    }

    /// The file that was read last, those that came after it, and the one that is written to.
    fn unread_files(&self) -> Result<Vec<PathBuf>> {
        if fs::metadata(&self.log)?.ino() == self.inode {
            return Ok(vec![self.log.clone()]);
        }
        let folder = self.log.parent().context("a log is in a folder")?;
        let mut rotated: Vec<PathBuf> = Vec::new();
        for entry in fs::read_dir(folder)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            // audit-2026-01-31T08-15-00.000.log, so that names are in the order of time.
            if name.starts_with("audit-") && Path::new(&name).extension() == Some("log".as_ref()) {
                rotated.push(folder.join(name));
            }
        }
        rotated.sort();
        let mut last = None;
        for (index, file) in rotated.iter().enumerate() {
            if fs::metadata(file)?.ino() == self.inode {
                last = Some(index);
            }
        }
        let last = last.context("the audit log was rotated away before it was read")?;
        rotated.drain(..last);
        rotated.push(self.log.clone());
        Ok(rotated)
    }
}

/// Where the local cluster writes, by the rule of `e2e/cluster/lib/settings.sh`.
fn data_folder() -> PathBuf {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    variable("GILL_HICKS_DATA")
        .or_else(|| variable("GILL_HICKS_RUN").map(|run| run.join("data")))
        .unwrap_or_else(|| PathBuf::from("/var/lib/gill-hicks"))
}

/// What is of interest of a line.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    #[serde(rename = "auditID")]
    audit_id: String,
    verb: String,
    user: User,
    #[serde(default)]
    object_ref: ObjectRef,
    #[serde(default)]
    response_status: ResponseStatus,
    request_received_timestamp: String,
    stage_timestamp: String,
}

#[derive(Deserialize)]
struct User {
    #[serde(default)]
    username: String,
    #[serde(default)]
    extra: Extra,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Extra {
    #[serde(rename = "authentication.kubernetes.io/pod-name")]
    pod_name: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ObjectRef {
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ResponseStatus {
    code: u16,
}

impl Event {
    fn into_request(self) -> Result<(String, Request)> {
        let ObjectRef { mut resource, subresource, namespace, name } = self.object_ref;
        if !subresource.is_empty() {
            resource = format!("{resource}/{subresource}");
        }
        let received = parse_time(&self.request_received_timestamp)?;
        let took = parse_time(&self.stage_timestamp)?.duration_since(received);
        let User { username: user, extra } = self.user;
        let request = Request {
            received,
            user,
            pod: extra.pod_name.into_iter().next().unwrap_or_default(),
            verb: self.verb,
            resource,
            namespace,
            name,
            code: self.response_status.code,
            took: took.unsigned_abs(),
        };
        Ok((self.audit_id, request))
    }
}

fn parse_time(text: &str) -> Result<Timestamp> {
    text.parse().with_context(|| format!("not a time: {text}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Event;

    #[test]
    fn a_line_of_the_log_says_who_asked_for_what() {
        let line = r#"{"kind":"Event","level":"Metadata","auditID":"6880f004","stage":"ResponseComplete","requestURI":"/apis/gill-hicks.dev/v1alpha1/namespaces/a/hardwareportals/b/status","verb":"patch","user":{"username":"system:serviceaccount:x:y","extra":{"authentication.kubernetes.io/pod-name":["z"]}},"objectRef":{"resource":"hardwareportals","namespace":"a","name":"b","apiGroup":"gill-hicks.dev","subresource":"status"},"responseStatus":{"metadata":{},"code":200},"requestReceivedTimestamp":"2026-11-24T19:48:01.101844Z","stageTimestamp":"2026-11-24T19:48:01.109844Z"}"#;
        let event: Event = serde_json::from_str(line).unwrap();
        let (id, request) = event.into_request().unwrap();
        assert_eq!(id, "6880f004");
        assert_eq!(request.user, "system:serviceaccount:x:y");
        assert_eq!(request.pod, "z");
        assert!(request.is_write());
        assert_eq!(request.took, Duration::from_millis(8));
        assert_eq!(
            request.to_string(),
            "2026-11-24T19:48:01.101844Z patch hardwareportals/status a/b (200)"
        );
    }
}
