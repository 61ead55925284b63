//! What came after a forecast.

use std::time::Duration;

use crate::{ExpectedInterval, Segment, Timestamp, Wanted};

/// Of a horizon of which less than this share was observed nothing is learned.
const OBSERVED_AT_LEAST: f64 = 0.5;

/// y: the share of the observed time after `from`, within `horizon`, in which `wanted` units were free.
/// An observation speaks for at most [`ExpectedInterval::speaks_for`] after it, as in [`crate::State`].
/// `None` if less than half of the horizon was observed, or the source cannot tell for so many units.
///
/// The segments are in order of time and do not overlap; those before and after the horizon may be among
/// them.
#[must_use]
pub fn free_share(
    segments: &[Segment],
    interval: ExpectedInterval,
    wanted: Wanted,
    from: Timestamp,
    horizon: Duration,
) -> Option<f64> {
    let from = from.as_millis();
    let horizon = i64::try_from(horizon.as_millis()).ok()?;
    let until = from.saturating_add(horizon);
    let spoken_for = i64::try_from(interval.speaks_for().as_millis()).ok()?;
    let (mut free, mut all) = (0, 0);
    for (index, segment) in segments.iter().enumerate() {
        let next = segments.get(index + 1).map_or(i64::MAX, |next| next.started.as_millis());
        let end = segment.last_seen.as_millis().saturating_add(spoken_for).min(next).min(until);
        let lasted = end - segment.started.as_millis().max(from);
        if lasted <= 0 {
            continue;
        }
        all += lasted;
        if segment.observation.is_free(wanted)? {
            free += lasted;
        }
    }
    let is_enough = as_f64(all) >= as_f64(horizon) * OBSERVED_AT_LEAST && all > 0;
    is_enough.then(|| as_f64(free) / as_f64(all))
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds of a few hours")]
fn as_f64(millis: i64) -> f64 {
    millis as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Observation;

    fn segment(from: i64, to: i64, free: u32) -> Segment {
        let at = |minute: i64| Timestamp::from_millis(minute * 60_000);
        Segment {
            started: at(from),
            last_seen: at(to),
            observation: Observation::counts(8, 8 - free),
        }
    }

    #[test]
    fn the_share_is_that_of_the_observed_time() {
        let share = |segments: &[Segment], wanted: u32| {
            let wanted = Wanted::new(wanted).unwrap();
            let from = Timestamp::from_millis(0);
            free_share(segments, ExpectedInterval::default(), wanted, from, Duration::from_hours(1))
        };
        let whole = [segment(-30, 29, 3), segment(30, 90, 0)];
        assert_eq!(share(&whole, 1), Some(0.5));
        assert_eq!(share(&whole, 4), Some(0.0));
        // Each speaks for two minutes after it was seen: 22 of 42.
        let with_a_gap = [segment(-30, 20, 3), segment(40, 50, 0), segment(51, 70, 0)];
        assert_eq!(share(&with_a_gap, 1), Some(22.0 / 42.0));
        assert_eq!(share(&[segment(0, 27, 3)], 1), None, "29 of 60 minutes");
        assert_eq!(share(&[segment(0, 28, 3)], 1), Some(1.0));
        assert_eq!(share(&[], 1), None);
        let yes = [Segment { observation: Observation::Available(true), ..segment(0, 60, 0) }];
        assert_eq!((share(&yes, 1), share(&yes, 2)), (Some(1.0), None));
    }
}
