//! How soon a service is ready, and how much memory it takes while nobody asks it.

use std::time::Duration;

use anyhow::Result;
use reqwest::Client;
use tokio::time::sleep;

use crate::{
    figure::{Figure, Goal},
    rounds::median,
    services::{Programs, Service},
};

/// Starts per service.
pub(crate) const STARTS: usize = 5;

/// Ready in less time than people notice, so that a new pod helps at once.
pub(crate) const READY_GOAL: Goal = Goal::AtMost(150.0);

/// Some refreshes of both services.
const IDLE: Duration = Duration::from_secs(6);

/// Of hardware and of portal, in MB.
const MEMORY_GOALS: [Goal; 2] = [Goal::AtMost(10.0), Goal::AtMost(7.0)];

/// The original's list.
const ROWS: usize = 2;

/// Starts both services several times and looks at the last of each after a while.
pub(crate) async fn measure(
    programs: &Programs,
    client: &Client,
    mut found: impl FnMut(Figure),
) -> Result<()> {
    let start = || programs.start_hardware(ROWS, None);
    let (hardware, time) = start_often("hardware", client, start).await?;
    found(time);
    let start = || programs.start_portal(&hardware.address, None);
    let (portal, time) = start_often("portal", client, start).await?;
    found(time);

    sleep(IDLE).await;
    let services = [("hardware", hardware), ("portal", portal)];
    for ((name, service), goal) in services.iter().zip(MEMORY_GOALS) {
        found(memory(name, service.process.resident_bytes()?).with_goal(goal));
    }
    Ok(())
}

/// The last one goes on running.
async fn start_often(
    name: &str,
    client: &Client,
    start: impl Fn() -> Result<Service>,
) -> Result<(Service, Figure)> {
    let mut service = start()?;
    let mut times = vec![service.wait_until_ready(client).await?];
    while times.len() < STARTS {
        service = start()?;
        times.push(service.wait_until_ready(client).await?);
    }
    let milliseconds = median(times.iter().map(|time| time.as_secs_f64() * 1e3));
    let figure = Figure::new(format!("{name}_process_start_to_ready"), milliseconds, "ms");
    Ok((service, figure.with_goal(READY_GOAL)))
}

#[expect(clippy::cast_precision_loss, reason = "far fewer bytes than 2^52")]
fn memory(name: &str, bytes: u64) -> Figure {
    Figure::new(format!("{name}_idle_memory"), bytes as f64 / 1e6, "MB")
}
