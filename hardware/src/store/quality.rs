//! Forecasts until they are scored, what they teach, and the record of each day.

use std::collections::BTreeMap;

use availability::{
    Cell, CorrectionTable, DEFAULT_HORIZON, Level, Record, SourceKind, Timestamp, Wanted,
    free_share,
};
use diesel::{
    QueryResult, QueryableByName,
    sql_types::{BigInt, Double, Integer, Text},
};

use super::{
    Db, StoreError,
    connection::{Connection, Insert, OnConflict, Statement},
    history,
    lease::{Lease, Step},
    rows::DAY_MS,
};
use crate::quality::{Corrections, Forecast, Scores, score};

/// How long after its hour a forecast waits for what is reported late.
const LATE_FOR_MS: i64 = 10 * 60_000;

/// A band of a curve on one day.
#[derive(Clone, Debug, PartialEq, QueryableByName)]
pub struct QualityRow {
    /// Days since the Unix epoch.
    #[diesel(sql_type = Integer)]
    pub day: i32,
    /// The kind of source.
    #[diesel(sql_type = Text)]
    pub kind: String,
    /// `uncorrected`, `corrected` or `level`.
    #[diesel(sql_type = Text)]
    pub curve: String,
    /// P times ten, or the place of the level in [`Level::ALL`].
    #[diesel(sql_type = Integer)]
    pub band: i32,
    /// How many forecasts were scored.
    #[diesel(sql_type = BigInt)]
    pub forecasts: i64,
    /// Sum of P.
    #[diesel(sql_type = Double)]
    pub predicted: f64,
    /// Sum of y.
    #[diesel(sql_type = Double)]
    pub observed: f64,
    /// Sum of y(1−P)² + (1−y)P².
    #[diesel(sql_type = Double)]
    pub brier: f64,
}

#[derive(QueryableByName)]
struct ForecastRow {
    #[diesel(sql_type = Integer)]
    pool_id: i32,
    #[diesel(sql_type = Integer)]
    n: i32,
    #[diesel(sql_type = Text)]
    kind: String,
    #[diesel(sql_type = Integer)]
    cell: i32,
    #[diesel(sql_type = Double)]
    uncorrected: f64,
    #[diesel(sql_type = Double)]
    corrected: f64,
    #[diesel(sql_type = Text)]
    level: String,
}

impl ForecastRow {
    /// None for a row that another version or somebody by hand wrote.
    fn read(&self) -> Option<Forecast> {
        Some(Forecast {
            pool_id: self.pool_id,
            kind: SourceKind::from_name(&self.kind)?,
            wanted: u32::try_from(self.n).ok().and_then(Wanted::new)?,
            cell: u8::try_from(self.cell).ok().and_then(Cell::from_index)?,
            uncorrected: self.uncorrected,
            corrected: self.corrected,
            level: Level::ALL.into_iter().find(|level| level.as_str() == self.level)?,
        })
    }
}

#[derive(QueryableByName)]
struct CalibrationRow {
    #[diesel(sql_type = Text)]
    kind: String,
    #[diesel(sql_type = Integer)]
    cell: i32,
    #[diesel(sql_type = BigInt)]
    as_of: i64,
    #[diesel(sql_type = Double)]
    forecasts: f64,
    #[diesel(sql_type = Double)]
    predicted: f64,
    #[diesel(sql_type = Double)]
    observed: f64,
}

impl Db {
    /// Keeps forecasts until they are scored.
    pub async fn add_forecasts(
        &self,
        lease: &Lease,
        made: Timestamp,
        forecasts: &[Forecast],
    ) -> Result<Step, StoreError> {
        self.transaction(async |connection| {
            if !lease.is_held(connection).await? {
                return Ok(Step::LostLease);
            }
            let columns =
                ["made", "pool_id", "n", "kind", "cell", "uncorrected", "corrected", "level"];
            let on_conflict = OnConflict::Ignore;
            let into = Insert { table: "forecast", columns: &columns, on_conflict };
            let rows = forecasts.iter().map(|forecast| {
                vec![
                    made.as_millis().into(),
                    forecast.pool_id.into(),
                    i64::from(forecast.wanted.get()).into(),
                    forecast.kind.name().into(),
                    i64::from(forecast.cell.index()).into(),
                    forecast.uncorrected.into(),
                    forecast.corrected.into(),
                    forecast.level.as_str().into(),
                ]
            });
            connection.insert(&into, rows.collect::<Vec<_>>()).await?;
            Ok(Step::Did(forecasts.len()))
        })
        .await
    }

    /// Scores the forecasts that were made together and whose hour has passed for longest. Each is counted
    /// once: it is deleted in the same transaction.
    pub async fn score_forecasts(&self, lease: &Lease, now: Timestamp) -> Result<Step, StoreError> {
        self.transaction(async |connection| {
            if !lease.is_held(connection).await? {
                return Ok(Step::LostLease);
            }
            score_step(connection, now).await
        })
        .await
    }

    /// What was learned from all forecasts so far.
    pub async fn list_corrections(&self) -> Result<Corrections, StoreError> {
        self.read(async |connection| load_corrections(connection).await).await
    }

    /// The record of the days from `since` on.
    pub async fn list_quality(&self, since: i32) -> Result<Vec<QualityRow>, StoreError> {
        let query = Statement::new(
            "SELECT day, kind, curve, band, forecasts, predicted, observed, brier \
             FROM quality_day WHERE day >= ? ORDER BY day, kind, curve, band",
        );
        let query = query.bind(since);
        self.read(async |connection| connection.load(query).await).await
    }
}

async fn load_corrections(connection: &mut Connection<'_>) -> QueryResult<Corrections> {
    let query = "SELECT kind, cell, as_of, forecasts, predicted, observed FROM calibration";
    let rows: Vec<CalibrationRow> = connection.load(Statement::new(query)).await?;
    let mut by_kind: BTreeMap<SourceKind, (i64, Vec<(Cell, Record)>)> = BTreeMap::new();
    for row in rows {
        let cell = u8::try_from(row.cell).ok().and_then(Cell::from_index);
        let Some((kind, cell)) = SourceKind::from_name(&row.kind).zip(cell) else { continue };
        let record =
            Record { forecasts: row.forecasts, predicted: row.predicted, observed: row.observed };
        let (as_of, records) = by_kind.entry(kind).or_default();
        *as_of = (*as_of).max(row.as_of);
        records.push((cell, record));
    }
    let table = |(kind, (as_of, records))| {
        (kind, CorrectionTable::from_records(Timestamp::from_millis(as_of), records))
    };
    Ok(by_kind.into_iter().map(table).collect())
}

async fn score_step(connection: &mut Connection<'_>, now: Timestamp) -> QueryResult<Step> {
    let horizon_ms = i64::try_from(DEFAULT_HORIZON.as_millis()).unwrap_or(i64::MAX);
    let due = now.as_millis() - horizon_ms - LATE_FOR_MS;
    let oldest = Statement::new("SELECT MIN(made) AS value FROM forecast");
    let Some(made) = connection.number(oldest).await?.filter(|made| *made <= due) else {
        return Ok(Step::Done);
    };
    let query = Statement::new(
        "SELECT pool_id, n, kind, cell, uncorrected, corrected, level FROM forecast WHERE made = ?",
    );
    let rows: Vec<ForecastRow> = connection.load(query.bind(made)).await?;
    let forecasts: Vec<Forecast> = rows.iter().filter_map(ForecastRow::read).collect();
    let outcomes = find_outcomes(connection, Timestamp::from_millis(made), &forecasts).await?;

    let mut corrections = load_corrections(connection).await?;
    let scores = score(&forecasts, &outcomes, now, &mut corrections);
    if scores.count > 0 {
        write_corrections(connection, now, &corrections).await?;
        add_to_day(connection, made.div_euclid(DAY_MS), &scores).await?;
    }
    connection.execute(Statement::new("DELETE FROM forecast WHERE made = ?").bind(made)).await?;
    Ok(Step::Did(scores.count))
}

/// y of each forecast; none where too little was observed.
async fn find_outcomes(
    connection: &mut Connection<'_>,
    made: Timestamp,
    forecasts: &[Forecast],
) -> QueryResult<Vec<Option<f64>>> {
    let ids: Vec<i32> = forecasts.iter().map(|forecast| forecast.pool_id).collect();
    let forever = Timestamp::from_millis(i64::MAX);
    let seen = history::load_seen(connection, &ids, made, forever).await?;
    let outcomes = forecasts.iter().map(|forecast| {
        let pool = seen.get(&forecast.pool_id)?;
        free_share(&pool.segments, pool.interval?, forecast.wanted, made, DEFAULT_HORIZON)
    });
    Ok(outcomes.collect())
}

async fn write_corrections(
    connection: &mut Connection<'_>,
    as_of: Timestamp,
    corrections: &Corrections,
) -> QueryResult<()> {
    let columns = ["kind", "cell", "as_of", "forecasts", "predicted", "observed"];
    let on_conflict = OnConflict::Overwrite { key: &["kind", "cell"] };
    let into = Insert { table: "calibration", columns: &columns, on_conflict };
    let mut rows = Vec::new();
    for (kind, table) in corrections {
        let mut table = table.clone();
        // The records of one table have one time.
        table.decay_to(as_of);
        for (cell, record) in table.records().filter(|(_, record)| record.forecasts > 0.0) {
            rows.push(vec![
                kind.name().into(),
                i64::from(cell.index()).into(),
                as_of.as_millis().into(),
                record.forecasts.into(),
                record.predicted.into(),
                record.observed.into(),
            ]);
        }
    }
    connection.insert(&into, rows).await
}

async fn add_to_day(connection: &mut Connection<'_>, day: i64, scores: &Scores) -> QueryResult<()> {
    let columns = ["day", "kind", "curve", "band", "forecasts", "predicted", "observed", "brier"];
    let on_conflict = OnConflict::Add { key: &["day", "kind", "curve", "band"] };
    let into = Insert { table: "quality_day", columns: &columns, on_conflict };
    let rows = scores.bands.iter().map(|(band, sum)| {
        vec![
            day.into(),
            band.kind.name().into(),
            band.curve.name().into(),
            i64::try_from(band.place).unwrap_or(i64::MAX).into(),
            sum.forecasts.into(),
            sum.predicted.into(),
            sum.observed.into(),
            sum.brier.into(),
        ]
    });
    connection.insert(&into, rows.collect::<Vec<_>>()).await
}
