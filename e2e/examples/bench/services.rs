//! The programs that are measured, each in a folder of its own.

use std::{path::PathBuf, time::Duration};

use anyhow::Result;
use reqwest::Client;
use serde_json::json;
use tempfile::TempDir;

use crate::{
    answer::Answer,
    process::{Process, Start, free_addresses},
};

/// Where cargo put the programs.
pub(crate) struct Programs {
    pub(crate) folder: PathBuf,
}

/// A running service.
pub(crate) struct Service {
    pub(crate) process: Process,
    pub(crate) address: String,
    /// The address that says whether it is ready.
    pub(crate) ready_url: String,
    /// Removed after the process has ended.
    _folder: TempDir,
}

impl Programs {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// An example of one of the crates.
    pub(crate) fn example(&self, name: &str) -> PathBuf {
        self.folder.join("examples").join(name)
    }

    /// Starts `hardware` on a new embedded database with `rows` rows.
    pub(crate) fn start_hardware(&self, rows: usize, cpus: Option<&[usize]>) -> Result<Service> {
        self.start_hardware_with(Vec::new(), rows, cpus)
    }

    /// The same on the database that `environment` names, if it names one.
    pub(crate) fn start_hardware_with(
        &self,
        mut environment: Vec<(&'static str, String)>,
        rows: usize,
        cpus: Option<&[usize]>,
    ) -> Result<Service> {
        let folder = tempfile::tempdir()?;
        let catalog = folder.path().join("catalog.json");
        std::fs::write(&catalog, write_catalog(rows))?;
        environment.extend([
            ("SQLITE_PATH", folder.path().join("hardware.db").display().to_string()),
            ("CATALOG_FILE", catalog.display().to_string()),
        ]);
        self.start("hardware", "HARDWARE_LISTEN", environment, cpus, folder)
    }

    /// Starts `portal`, which asks the `hardware` at that address.
    pub(crate) fn start_portal(&self, hardware: &str, cpus: Option<&[usize]>) -> Result<Service> {
        let environment = vec![("HARDWARE_HOST", hardware.to_owned())];
        self.start("portal", "PORTAL_LISTEN", environment, cpus, tempfile::tempdir()?)
    }

    fn start(
        &self,
        name: &str,
        listen: &'static str,
        mut environment: Vec<(&'static str, String)>,
        cpus: Option<&[usize]>,
        folder: TempDir,
    ) -> Result<Service> {
        let [address, admin] = free_addresses()?;
        environment.extend([(listen, address.clone()), ("ADMIN_LISTEN", admin.clone())]);
        let process = Process::start(Start {
            program: self.path(name),
            arguments: vec!["serve".to_owned()],
            environment,
            cpus,
            folder: folder.path(),
        })?;
        let ready_url = format!("http://{admin}/readyz");
        Ok(Service { process, address, ready_url, _folder: folder })
    }

    /// Starts the bare server, which gives `answer` to every request, and waits for it.
    pub(crate) async fn start_bare(
        &self,
        client: &Client,
        answer: &Answer,
        cpus: &[usize],
    ) -> Result<Service> {
        let folder = tempfile::tempdir()?;
        let [address] = free_addresses()?;
        let [headers, body] = answer.save(folder.path())?.map(|path| path.display().to_string());
        let process = Process::start(Start {
            program: self.example("bare_server"),
            arguments: vec![address.clone(), headers, body],
            environment: Vec::new(),
            cpus: Some(cpus),
            folder: folder.path(),
        })?;
        let ready_url = format!("http://{address}/");
        let mut service = Service { process, address, ready_url, _folder: folder };
        service.wait_until_ready(client).await?;
        Ok(service)
    }
}

impl Service {
    /// One that was started elsewhere, in `folder`.
    pub(crate) fn new(
        process: Process,
        address: String,
        ready_url: String,
        folder: TempDir,
    ) -> Self {
        Self { process, address, ready_url, _folder: folder }
    }

    /// See [`Process::wait_until_ready`].
    pub(crate) async fn wait_until_ready(&mut self, client: &Client) -> Result<Duration> {
        self.process.wait_until_ready(client, &self.ready_url).await
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

/// The name of one of the rows.
pub(crate) fn row_name(row: usize) -> String {
    format!("c5.{row}")
}

fn write_catalog(rows: usize) -> String {
    let entry = |row| json!({"provider": "Amazon", "name": row_name(row)});
    (0..rows).map(entry).collect::<serde_json::Value>().to_string()
}

#[cfg(test)]
mod tests {
    use super::write_catalog;

    #[test]
    fn a_catalog_is_a_list_of_providers_and_names() {
        let expected =
            r#"[{"name":"c5.0","provider":"Amazon"},{"name":"c5.1","provider":"Amazon"}]"#;
        assert_eq!(write_catalog(2), expected);
    }
}
