//! Two candidates measured in turn, so that whatever else the machine does meets both.

/// Pairs of rounds per comparison. Odd, so that the median is one of them.
pub(crate) const PAIRS: usize = 7;

/// What one pair of rounds gave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pair<T> {
    pub(crate) service: T,
    pub(crate) bare: T,
}

/// Who of a pair is measured first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum First {
    Service,
    Bare,
}

/// A B, B A, A B, …: a machine that gets slower all the time would favour whoever always starts.
pub(crate) fn order() -> impl Iterator<Item = First> {
    (0..PAIRS).map(|pair| if pair % 2 == 0 { First::Service } else { First::Bare })
}

/// The middle one; of an even number, the mean of the two in the middle.
///
/// # Panics
///
/// Without values.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    assert!(!values.is_empty(), "the median of nothing");
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle - 1], values[middle])
    }
}

#[cfg(test)]
mod tests {
    use super::{First, median, order};

    #[test]
    fn the_median_is_in_the_middle_whatever_the_order() {
        for (values, expected) in
            [(vec![3.0], 3.0), (vec![9.0, 1.0, 2.0], 2.0), (vec![4.0, 1.0, 3.0, 2.0], 2.5)]
        {
            assert!((median(values.clone()) - expected).abs() < 1e-12, "{values:?}");
        }
    }

    #[test]
    fn both_start_about_as_often() {
        let firsts: Vec<First> = order().collect();
        assert_eq!(firsts[..3], [First::Service, First::Bare, First::Service]);
        let services = firsts.iter().filter(|first| **first == First::Service).count();
        assert!(services.abs_diff(firsts.len() - services) <= 1);
    }
}
