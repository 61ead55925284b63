//! `portal check`: what works with a configuration, in words.

use std::io::{self, Write};

use crate::{app::StartError, config::HardwareArgs, hardware_client::HardwareClient};

/// Asks `hardware` once, writes what came of it to `out`, and returns whether it was good.
pub async fn run(args: &HardwareArgs, out: &mut impl Write) -> io::Result<bool> {
    let client = args.base_url().map_err(StartError::from);
    let client = client.and_then(|base_url| Ok(HardwareClient::new(&base_url)?));
    let mut client = match client {
        Ok(client) => client,
        Err(error) => {
            writeln!(out, "FAIL  configuration: {error}")?;
            return Ok(false);
        }
    };
    writeln!(out, "ok    configuration: hardware is asked at {}", client.list_url())?;
    match client.fetch_list().await {
        Ok(answer) => {
            let rows = answer.rows.map_or(0, |rows| rows.len());
            let age = answer.freshness.age.as_secs();
            let freshness = if answer.freshness.is_stale { "stale" } else { "fresh" };
            writeln!(out, "ok    hardware: {rows} rows, {freshness}, confirmed {age} s ago")?;
            Ok(true)
        }
        Err(error) => {
            writeln!(out, "FAIL  hardware: {error}")?;
            Ok(false)
        }
    }
}
