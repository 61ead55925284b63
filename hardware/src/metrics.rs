//! Gauges and counters of this service; requests are observed by service-kit.

use std::{fmt::Write, sync::Arc, time::Duration};

use hardware_api::ObservationSummary;
use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};

use crate::{
    observation::Warning,
    pools::{Chance, SharedPools},
    store::Db,
    watches::WatchReports,
};

/// Series of `hardware_availability_probability` at most, so that nobody's Prometheus is flooded by a list or a
/// watch that matches everything.
const MOST_SERIES: usize = 1000;

/// Gives text for `/metrics`.
pub type Series = Arc<dyn Fn() -> String + Send + Sync>;

/// P of what is watched and of what the list stands for.
pub fn series(pools: SharedPools, reports: Option<WatchReports>) -> impl Fn() -> String + Clone {
    move || {
        let watched = reports.as_ref().map(WatchReports::filters).unwrap_or_default();
        write_chances(&pools.chances(&watched, MOST_SERIES))
    }
}

fn write_chances(chances: &[Chance]) -> String {
    let mut text = String::new();
    if chances.is_empty() {
        return text;
    }
    text.push_str(
        "# HELP hardware_availability_probability Expected share of the next hour in which so many \
         units are free.\n# TYPE hardware_availability_probability gauge\n",
    );
    let labels = ["provider", "name", "region", "zone", "tier", "unit"];
    for Chance { names, units, probability } in chances {
        text.push_str("hardware_availability_probability{");
        for (label, name) in labels.into_iter().zip(names) {
            let escaped = name.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            write!(text, "{label}=\"{escaped}\",").expect("a String takes all");
        }
        let units = units.get();
        writeln!(text, "units=\"{units}\"}} {probability:.4}").expect("a String takes all");
    }
    text
}

/// What each metric means, for whoever reads `/metrics`.
pub fn describe() {
    describe_gauge!("hardware_snapshot_age_seconds", "Time since the database confirmed the list.");
    describe_counter!("hardware_snapshot_refresh_failures_total", "Refreshes that failed.");
    describe_counter!("hardware_store_operations_total", "Database operations by outcome.");
    describe_counter!(
        "hardware_store_connections_discarded_total",
        "Connections thrown away because the work on them was cut off."
    );
    describe_counter!(
        "hardware_history_deleted_total",
        "Rows of history that this process deleted as they were too old."
    );
    describe_counter!(
        "hardware_forecasts_scored_total",
        "Forecasts that this process compared with what came."
    );
    describe_counter!(
        "hardware_level_changes_total",
        "Changes of levels that this process recorded for the feed."
    );
    describe_gauge!("hardware_watches", "Watches of the portal that this process has read.");
    describe_counter!("hardware_watch_firings_total", "Watches that fired in this process.");
    describe_counter!(
        "hardware_deliveries_total",
        "Messages of watches that this process sent, by what became of them."
    );
    describe_gauge!("hardware_store_connections", "Database connections by state.");
    describe_gauge!("hardware_credential_generation", "Generation of the database credential.");
    describe_gauge!("hardware_unreadable_rows", "Rows of the table hardware that cannot be shown.");
    describe_counter!("hardware_observations_total", "Observations by what became of them.");
    describe_counter!(
        "hardware_observation_warnings_total",
        "Warnings in answers to sources, by their code."
    );
}

/// Instruments of the refresh task.
pub struct RefreshMetrics {
    age: Gauge,
    failures: Counter,
    idle: Gauge,
    busy: Gauge,
    generation: Gauge,
    unreadable: Gauge,
}

impl RefreshMetrics {
    /// Registers them.
    #[must_use]
    pub fn register() -> Self {
        let connections =
            |state: &'static str| gauge!("hardware_store_connections", "state" => state);
        Self {
            age: gauge!("hardware_snapshot_age_seconds"),
            failures: counter!("hardware_snapshot_refresh_failures_total"),
            idle: connections("idle"),
            busy: connections("busy"),
            generation: gauge!("hardware_credential_generation"),
            unreadable: gauge!("hardware_unreadable_rows"),
        }
    }

    /// Shows the state after a refresh.
    pub fn observe(&self, db: &Db, age: Duration) {
        self.age.set(age);
        let (open, idle) = db.connections();
        self.idle.set(as_gauge(idle));
        self.busy.set(as_gauge(open.saturating_sub(idle)));
        if let Some(report) = db.session_report() {
            #[expect(clippy::cast_precision_loss, reason = "a count of rotations")]
            self.generation.set(report.generation as f64);
        }
    }

    /// Shows how many rows of the original table cannot be shown.
    pub fn show_unreadable(&self, rows: usize) {
        self.unreadable.set(as_gauge(rows));
    }

    /// Counts a refresh that failed.
    pub fn count_failure(&self) {
        self.failures.increment(1);
    }
}

#[expect(clippy::cast_precision_loss, reason = "far fewer than 2⁵²")]
fn as_gauge(count: usize) -> f64 {
    count as f64
}

/// Instruments of the ingest.
pub struct IngestMetrics {
    by_outcome: [Counter; 5],
    by_warning: [(&'static str, Counter); Warning::ALL.len()],
}

impl IngestMetrics {
    /// Registers them.
    #[must_use]
    pub fn register() -> Self {
        let outcomes = ["accepted", "unchanged", "duplicate", "late", "refused"];
        let counter =
            |outcome: &'static str| counter!("hardware_observations_total", "outcome" => outcome);
        let warning_counter = |warning: Warning| {
            let code = warning.code();
            (code, counter!("hardware_observation_warnings_total", "code" => code))
        };
        Self { by_outcome: outcomes.map(counter), by_warning: Warning::ALL.map(warning_counter) }
    }

    /// Counts what became of a batch.
    pub fn count(&self, summary: &ObservationSummary) {
        let ObservationSummary {
            accepted,
            unchanged,
            duplicates,
            late,
            retired: _,
            refused_total,
            refused: _,
            warnings,
        } = summary;
        let counts = [accepted, unchanged, duplicates, late, refused_total];
        for (counter, count) in self.by_outcome.iter().zip(counts) {
            counter.increment(u64::from(*count));
        }
        for (code, counter) in &self.by_warning {
            let given = warnings.iter().filter(|warning| warning.code == *code);
            counter.increment(given.map(|_| 1).sum());
        }
    }
}

#[cfg(test)]
mod tests {
    use availability::Wanted;

    use super::{Chance, write_chances};

    #[test]
    fn series_are_in_the_format_of_prometheus_whatever_names_have_in_them() {
        let names = ["lab", "a\"b\\c\nd", "", "", "owned", "gpu"].map(str::to_owned);
        let units = Wanted::new(8).expect("8");
        let text = write_chances(&[Chance { names, units, probability: 0.912_345 }]);
        let last = text.lines().last().expect("a line");
        assert_eq!(
            last,
            r#"hardware_availability_probability{provider="lab",name="a\"b\\c\nd",region="",zone="",tier="owned",unit="gpu",units="8"} 0.9123"#
        );
        assert_eq!(text.lines().count(), 3);
        assert_eq!(write_chances(&[]), "");
    }
}
