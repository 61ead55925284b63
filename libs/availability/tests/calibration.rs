//! Forecasts against what then happened, on simulated pools whose rates are known.
#![expect(clippy::unwrap_used, reason = "helpers of tests, outside #[test]")]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "minutes of a day as milliseconds and small counts"
)]

use std::time::Duration;

use availability::{
    Assessment, History, Level, Model, Nowcast, Parameters, PoolKey, Segment, Timestamp, Wanted,
};
use rand_xoshiro::{
    Xoshiro256PlusPlus,
    rand_core::{RngCore, SeedableRng},
};

const POOLS: u64 = 600;
const FORECASTS_PER_POOL: u32 = 6;
const MINUTE: f64 = 60_000.0;
const DAY: f64 = 1_440.0;
const HORIZON: f64 = 60.0;

struct Forecast {
    assessment: Assessment,
    free_now: f64,
    knowing_the_rates: f64,
    /// Share of the horizon that was free: the success rate of requests at arbitrary times.
    share: f64,
}

impl Forecast {
    fn probability(&self) -> f64 {
        self.assessment.estimate.expect("the history ends at the time of the question").probability
    }
}

#[test]
fn forecasts_avoid_more_than_half_of_the_avoidable_error_of_the_state_of_now() {
    let forecasts = forecast_simulated_pools();
    let error_of_model = root_mean_square(&forecasts, Forecast::probability);
    let error_of_now = root_mean_square(&forecasts, |forecast| forecast.free_now);
    let least_error = root_mean_square(&forecasts, |forecast| forecast.knowing_the_rates);
    let avoided = (error_of_now.powi(2) - error_of_model.powi(2))
        / (error_of_now.powi(2) - least_error.powi(2));
    assert!(
        error_of_model < 0.9 * error_of_now && avoided > 0.5,
        "RMSE of P is {error_of_model:.4}, of the state of now {error_of_now:.4}, and of one who \
         knows the rates {least_error:.4}"
    );
}

#[test]
fn high_succeeds_and_low_fails() {
    let forecasts = forecast_simulated_pools();
    let success = |level| {
        let shares = shares_where(&forecasts, |forecast| forecast.assessment.level == level);
        assert!(shares.len() > 1_000, "only {} forecasts are {level}", shares.len());
        mean(&shares)
    };
    let (low, high) = (success(Level::Low), success(Level::High));
    assert!(high >= 0.90, "HIGH succeeds {high:.3}");
    assert!(low <= 0.20, "LOW succeeds {low:.3}");
}

#[test]
fn probabilities_are_calibrated_in_every_tenth_with_thirty_forecasts() {
    let forecasts = forecast_simulated_pools();
    for tenth in 0..10_u32 {
        let (from, to) = (f64::from(tenth) / 10.0, f64::from(tenth + 1) / 10.0);
        let shares =
            shares_where(&forecasts, |forecast| (from..to).contains(&forecast.probability()));
        if shares.len() < 30 {
            continue;
        }
        let allowed = 0.06 + 1.0 / (shares.len() as f64).sqrt();
        let center = f64::midpoint(from, to);
        let found = mean(&shares);
        assert!(
            (found - center).abs() <= allowed,
            "P of {from}..{to} came true in {found:.3} of {} cases",
            shares.len()
        );
    }
}

/// Pools with mean times free and full drawn log-uniformly from 30 min to 2 days, seen for a day.
/// Pools that change much faster are forecast too surely (measured with 20 min to 12 h: HIGH succeeds
/// 88 %), since the prior of [`Nowcast`] is worth six hours without a change.
fn forecast_simulated_pools() -> Vec<Forecast> {
    let model = Model::new(Parameters::default());
    let mut forecasts = Vec::new();
    for key in 0..POOLS {
        let mut random = Simulation::new(key);
        let mean_times = [random.log_uniform(30.0, 2_880.0), random.log_uniform(30.0, 2_880.0)];
        for _ in 0..FORECASTS_PER_POOL {
            let states = random.states(mean_times, DAY + HORIZON);
            forecasts.push(forecast(&model, PoolKey::new(key), mean_times, &states));
        }
    }
    forecasts
}

/// States are (start, end, free) in minutes; the question is asked at the end of the first day.
fn forecast(
    model: &Model,
    pool: PoolKey,
    [free_mean, full_mean]: [f64; 2],
    states: &[(f64, f64, bool)],
) -> Forecast {
    let at = |minute: f64| Timestamp::from_millis((minute * MINUTE).round() as i64);
    let segments: Vec<Segment> = states
        .iter()
        .filter(|(start, _, _)| *start < DAY)
        .map(|(start, end, free)| {
            Segment::counts(at(*start), at(end.min(DAY)), 1, u32::from(!free))
        })
        .collect();
    let fit = model.fit(History::new(&segments).unwrap(), Wanted::ONE, pool);
    let assessment = fit.assess(at(DAY));
    let free_minutes: f64 = states
        .iter()
        .filter(|(_, end, free)| *free && *end > DAY)
        .map(|(start, end, _)| end.min(DAY + HORIZON) - start.max(DAY))
        .sum();
    let truth = Nowcast {
        usually_free: free_mean / (free_mean + full_mean),
        relaxation_minutes: 1.0 / (1.0 / free_mean + 1.0 / full_mean),
    };
    let free_now = assessment.can_fulfil_now.unwrap();
    Forecast {
        assessment,
        free_now: f64::from(u8::from(free_now)),
        knowing_the_rates: truth.probability(free_now, Duration::ZERO, Duration::from_hours(1)),
        share: free_minutes / HORIZON,
    }
}

struct Simulation(Xoshiro256PlusPlus);

impl Simulation {
    fn new(seed: u64) -> Self {
        Self(Xoshiro256PlusPlus::seed_from_u64(seed))
    }

    /// In (0, 1].
    fn uniform(&mut self) -> f64 {
        ((self.0.next_u64() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    fn log_uniform(&mut self, from: f64, to: f64) -> f64 {
        (from.ln() + self.uniform() * (to / from).ln()).exp()
    }

    /// Alternating exponential times, of at least a second so that each has a start of its own.
    fn states(&mut self, [free_mean, full_mean]: [f64; 2], until: f64) -> Vec<(f64, f64, bool)> {
        let mut free = self.uniform() < free_mean / (free_mean + full_mean);
        let mut states = Vec::new();
        let mut start = 0.0;
        while start < until {
            let mean = if free { free_mean } else { full_mean };
            let end = start + (-self.uniform().ln() * mean).max(1.0 / 60.0);
            states.push((start, end, free));
            (start, free) = (end, !free);
        }
        states
    }
}

fn root_mean_square(forecasts: &[Forecast], forecast: impl Fn(&Forecast) -> f64) -> f64 {
    let squares: Vec<f64> =
        forecasts.iter().map(|each| (forecast(each) - each.share).powi(2)).collect();
    mean(&squares).sqrt()
}

fn shares_where(forecasts: &[Forecast], matches: impl Fn(&Forecast) -> bool) -> Vec<f64> {
    forecasts.iter().filter(|each| matches(each)).map(|each| each.share).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}
