//! How large the images are, and how soon a container of one is ready.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use reqwest::Client;

use crate::{
    figure::{Figure, Goal},
    footprint::{READY_GOAL, STARTS},
    node::Node,
    rounds::median,
    services::Programs,
};

/// The images of the product.
pub(crate) const NAMES: [&str; 3] = ["operator", "hardware", "portal"];

/// In MB.
fn size_goal(name: &str) -> Goal {
    Goal::AtMost(if name == "portal" { 8.0 } else { 15.0 })
}

/// What deploy/docker/Dockerfile puts into the images that talk to databases and clouds.
const AUTHORITIES: [&str; 2] = ["/etc/ssl/certs/ca-certificates.crt", "deploy/docker/rds-ca.pem"];

/// What the node of the local cluster holds and does.
pub(crate) async fn measure(
    node: &Node,
    client: &Client,
    mut found: impl FnMut(Figure),
) -> Result<()> {
    for name in NAMES {
        let figure = size(format!("{name}_image_size"), node.image_bytes(name)?);
        found(figure.with_goal(size_goal(name)));
    }
    // The operator would join the election of the one that runs.
    let hardware = [("SQLITE_PATH", "/data/hardware.db".to_owned())];
    // Nobody listens there: the page is to be ready before hardware is.
    let portal = [("HARDWARE_HOST", "127.0.0.1:1".to_owned())];
    for (name, environment) in [("hardware", &hardware), ("portal", &portal)] {
        let mut times = Vec::new();
        while times.len() < STARTS {
            let time = node.time_to_ready(client, name, environment).await?;
            times.push(time.as_secs_f64() * 1e3);
        }
        let figure = Figure::new(format!("{name}_container_start_to_ready"), median(times), "ms");
        found(figure.with_goal(READY_GOAL));
    }
    Ok(())
}

/// The size of the files in the images, for want of images.
pub(crate) fn estimate_sizes(programs: &Programs, mut found: impl FnMut(Figure)) -> Result<()> {
    for name in NAMES {
        let mut bytes = file_bytes(&programs.path(name))?;
        if name != "portal" {
            for file in AUTHORITIES {
                bytes += file_bytes(Path::new(file))?;
            }
        }
        found(size(format!("{name}_image_size_estimated"), bytes).with_goal(size_goal(name)));
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "far fewer bytes than 2^52")]
fn size(name: String, bytes: u64) -> Figure {
    Figure::new(name, bytes as f64 / 1e6, "MB")
}

fn file_bytes(path: &Path) -> Result<u64> {
    let metadata = fs::metadata(path);
    Ok(metadata.with_context(|| format!("failed to look at {}", path.display()))?.len())
}
