//! What labels were worth: what was said of pools is compared with what came, and teaches what to say next.

use std::collections::BTreeMap;

use availability::{Cell, CorrectionTable, Level, SourceKind, Timestamp, Wanted};
use hardware_api::{Decile, LevelRecord, QualityOfKind, Reliability};

use crate::{
    pools::{round, word},
    store::QualityRow,
};

/// Over how many days it is said what labels were worth.
pub const QUALITY_DAYS: u32 = 30;

/// What was said of a pool.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Forecast {
    /// The pool.
    pub pool_id: i32,
    /// What its source can know.
    pub kind: SourceKind,
    /// N.
    pub wanted: Wanted,
    /// The case.
    pub cell: Cell,
    /// P before correction.
    pub uncorrected: f64,
    /// P.
    pub corrected: f64,
    /// What a person read.
    pub level: Level,
}

/// What was learned, by kind of source.
pub type Corrections = BTreeMap<SourceKind, CorrectionTable>;

/// What forecasts are put together by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Curve {
    /// Tenths of P before correction.
    Uncorrected,
    /// Tenths of P.
    Corrected,
    /// Levels, in the order of [`Level::ALL`].
    Level,
}

impl Curve {
    /// Its stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uncorrected => "uncorrected",
            Self::Corrected => "corrected",
            Self::Level => "level",
        }
    }
}

/// A band of a curve, for one kind of source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Band {
    /// The kind of source.
    pub kind: SourceKind,
    /// The curve.
    pub curve: Curve,
    /// Its place on the curve, from 0.
    pub place: usize,
}

/// Sums over the forecasts of a band.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sum {
    /// How many there are.
    pub forecasts: i64,
    /// Sum of P.
    pub predicted: f64,
    /// Sum of y, the share of the hour that was free.
    pub observed: f64,
    /// Sum of y(1−P)² + (1−y)P².
    pub brier: f64,
}

/// Forecasts that were scored together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scores {
    /// The sums.
    pub bands: BTreeMap<Band, Sum>,
    /// How many forecasts they are of.
    pub count: usize,
}

/// Compares forecasts with what came, and learns from them at `now`. Of forecasts without an outcome nothing is
/// learned.
pub fn score(
    forecasts: &[Forecast],
    outcomes: &[Option<f64>],
    now: Timestamp,
    corrections: &mut Corrections,
) -> Scores {
    let mut scores = Scores::default();
    for (forecast, outcome) in forecasts.iter().zip(outcomes) {
        let Some(outcome) = *outcome else { continue };
        let table = corrections.entry(forecast.kind).or_default();
        table.learn(now, forecast.cell, forecast.uncorrected, outcome);
        scores.add(forecast, outcome);
    }
    scores
}

impl Scores {
    fn add(&mut self, forecast: &Forecast, outcome: f64) {
        let level = Level::ALL.iter().position(|level| *level == forecast.level).unwrap_or(0);
        for (curve, place, p) in [
            (Curve::Uncorrected, tenth(forecast.uncorrected), forecast.uncorrected),
            (Curve::Corrected, tenth(forecast.corrected), forecast.corrected),
            (Curve::Level, level, forecast.corrected),
        ] {
            let sum = self.bands.entry(Band { kind: forecast.kind, curve, place }).or_default();
            sum.forecasts += 1;
            sum.predicted += p;
            sum.observed += outcome;
            sum.brier += outcome * (1.0 - p).powi(2) + (1.0 - outcome) * p.powi(2);
        }
        self.count += 1;
    }
}

/// The tenth in which P lies.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a probability times ten"
)]
fn tenth(probability: f64) -> usize {
    ((probability * 10.0) as usize).min(9)
}

/// The record of a kind of source over the days of `rows`; none if there is none.
#[must_use]
pub fn summarize(kind: SourceKind, rows: &[QualityRow]) -> Option<QualityOfKind> {
    let mut bands: BTreeMap<(&str, i32), Sum> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.kind == kind.name()) {
        let sum = bands.entry((&row.curve, row.band)).or_default();
        sum.forecasts += row.forecasts;
        sum.predicted += row.predicted;
        sum.observed += row.observed;
        sum.brier += row.brier;
    }
    let of_curve = |curve: Curve| {
        let bands = bands.iter().filter(move |((name, _), _)| *name == curve.name());
        bands.filter_map(|((_, band), sum)| Some((usize::try_from(*band).ok()?, *sum)))
    };
    let reliability = |curve| {
        let deciles = of_curve(curve).map(|(place, sum)| Decile {
            decile: u32::try_from(place).unwrap_or(u32::MAX),
            forecasts: count(&sum),
            predicted: mean(sum.predicted, &sum),
            observed: mean(sum.observed, &sum),
        });
        let all = of_curve(curve).fold(Sum::default(), |all, (_, sum)| Sum {
            forecasts: all.forecasts + sum.forecasts,
            brier: all.brier + sum.brier,
            ..all
        });
        Reliability { brier: mean(all.brier, &all), deciles: deciles.collect() }
    };
    let levels: Vec<LevelRecord> = of_curve(Curve::Level)
        .filter_map(|(place, sum)| {
            Some(LevelRecord {
                level: word(*Level::ALL.get(place)?),
                forecasts: count(&sum),
                came_true: mean(sum.observed, &sum),
            })
        })
        .collect();
    let forecasts = levels.iter().map(|level| level.forecasts).sum();
    (forecasts > 0).then(|| QualityOfKind {
        kind: kind.name().to_owned(),
        forecasts,
        uncorrected: reliability(Curve::Uncorrected),
        corrected: reliability(Curve::Corrected),
        levels,
    })
}

fn count(sum: &Sum) -> u64 {
    u64::try_from(sum.forecasts).unwrap_or(0)
}

#[expect(clippy::cast_precision_loss, reason = "a number of forecasts")]
fn mean(total: f64, sum: &Sum) -> f64 {
    round(total / (sum.forecasts.max(1) as f64))
}

#[cfg(test)]
mod tests {
    use availability::{Cell, Level, SourceKind, Timestamp, Wanted};

    use super::{Band, Corrections, Curve, Forecast, score};

    fn forecast(uncorrected: f64, corrected: f64, level: Level) -> Forecast {
        Forecast {
            pool_id: 1,
            kind: SourceKind::Counts,
            wanted: Wanted::ONE,
            cell: Cell::from_index(7).expect("a cell"),
            uncorrected,
            corrected,
            level,
        }
    }

    #[test]
    fn forecasts_are_put_together_by_what_was_said() {
        let said = [
            forecast(0.85, 0.92, Level::High),
            forecast(0.95, 1.0, Level::High),
            forecast(0.5, 0.5, Level::Medium),
        ];
        let mut corrections = Corrections::default();
        let now = Timestamp::from_millis(0);
        let scores = score(&said, &[Some(1.0), Some(0.5), None], now, &mut corrections);
        assert_eq!(scores.count, 2);
        let sum = |curve, place| {
            let kind = SourceKind::Counts;
            scores.bands.get(&Band { kind, curve, place }).copied()
        };
        let high = Level::ALL.iter().position(|level| *level == Level::High).expect("a level");
        let level = sum(Curve::Level, high).expect("both");
        assert_eq!(level.forecasts, 2);
        assert!((level.observed - 1.5).abs() < 1e-9, "{level:?}");
        assert!((level.predicted - 1.92).abs() < 1e-9, "{level:?}");
        // (1 − .92)² and ½·0 + ½·1.
        assert!((level.brier - 0.5064).abs() < 1e-9, "{level:?}");
        assert_eq!(sum(Curve::Corrected, 9).expect("both").forecasts, 2);
        assert_eq!(sum(Curve::Uncorrected, 8).expect("one").forecasts, 1);
        assert_eq!(sum(Curve::Uncorrected, 5), None, "what came is not known");
        let record = *corrections[&SourceKind::Counts].record(said[0].cell);
        assert!((record.predicted - 1.8).abs() < 1e-9, "P before correction: {record:?}");
        assert!((record.observed - 1.5).abs() < 1e-9, "{record:?}");
    }
}
