//! Why a level is what it is, as codes that programs may rely on.

use std::fmt;

/// One reason. The codes of [`Reason::as_str`] are part of the HTTP API and never change meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Reason {
    /// Nothing was ever observed.
    NoData,
    /// More units are wanted than the pool has.
    ExceedsPool,
    /// Fewer units are free than wanted, as last seen.
    FullNow,
    /// The wanted units are free at least 70 % of the time.
    UsuallyFree,
    /// The wanted units are free less than 40 % of the time.
    UsuallyFull,
    /// Less than a quarter of the window was observed.
    ThinHistory,
    /// The source is silent for longer than it should.
    StaleSource,
    /// The source says yes or no, not how many.
    UnitsUnknown,
    /// Another source for the same pool says the opposite.
    SourcesDisagree,
    /// The provider does not offer this here. Given by the caller.
    NotOffered,
    /// Offered, but not to this account. Given by the caller.
    Restricted,
    /// An attempt to get it failed not long ago. Given by the caller.
    RecentFailure,
    /// No attempt has succeeded yet, and the source alone is not enough for HIGH. Given by the caller.
    NeverConfirmed,
    /// Pods cannot be listed, so what is in use is not known. Given by the caller.
    PodsForbidden,
}

impl Reason {
    /// Every reason, in the order in which they are listed.
    pub const ALL: [Self; 14] = [
        Self::NoData,
        Self::ExceedsPool,
        Self::FullNow,
        Self::UsuallyFree,
        Self::UsuallyFull,
        Self::ThinHistory,
        Self::StaleSource,
        Self::UnitsUnknown,
        Self::SourcesDisagree,
        Self::NotOffered,
        Self::Restricted,
        Self::RecentFailure,
        Self::NeverConfirmed,
        Self::PodsForbidden,
    ];

    /// The stable code.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoData => "no_data",
            Self::ExceedsPool => "exceeds_pool",
            Self::FullNow => "full_now",
            Self::UsuallyFree => "usually_free",
            Self::UsuallyFull => "usually_full",
            Self::ThinHistory => "thin_history",
            Self::StaleSource => "stale_source",
            Self::UnitsUnknown => "units_unknown",
            Self::SourcesDisagree => "sources_disagree",
            Self::NotOffered => "not_offered",
            Self::Restricted => "restricted",
            Self::RecentFailure => "recent_failure",
            Self::NeverConfirmed => "never_confirmed",
            Self::PodsForbidden => "pods_forbidden",
        }
    }

    const fn bit(self) -> u16 {
        1 << self as u8
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A set of reasons in two bytes: there are hundreds of thousands of assessments in a snapshot.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Reasons(u16);

impl Reasons {
    /// Adds a reason; twice is once.
    pub const fn insert(&mut self, reason: Reason) {
        self.0 |= reason.bit();
    }

    /// With the reason if `applies`.
    #[must_use]
    pub const fn with(mut self, reason: Reason, applies: bool) -> Self {
        if applies {
            self.insert(reason);
        }
        self
    }

    /// Whether the reason is among them.
    #[must_use]
    pub const fn contains(self, reason: Reason) -> bool {
        self.0 & reason.bit() != 0
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The reasons in the order of [`Reason::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Reason> {
        Reason::ALL.into_iter().filter(move |reason| self.contains(*reason))
    }
}

impl FromIterator<Reason> for Reasons {
    fn from_iter<I: IntoIterator<Item = Reason>>(reasons: I) -> Self {
        reasons.into_iter().fold(Self::default(), |set, reason| set.with(reason, true))
    }
}

impl fmt::Debug for Reasons {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_listed_once_in_order_with_a_code_of_its_own() {
        for pair in Reason::ALL.windows(2) {
            assert!(pair[0] < pair[1], "{} stands before {}", pair[0], pair[1]);
        }
        let mut codes: Vec<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Reason::ALL.len());
    }

    #[test]
    fn a_set_holds_what_was_put_in() {
        for reason in Reason::ALL {
            let set = Reasons::from_iter([reason, reason]);
            assert_eq!(set.iter().collect::<Vec<_>>(), [reason]);
        }
        assert!(Reasons::default().is_empty());
        assert_eq!(Reasons::from_iter(Reason::ALL).iter().count(), Reason::ALL.len());
    }
}
