//! Why a level is what it is, as codes that programs may rely on, each with a sentence.

use std::fmt;

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $code:literal: $sentence:literal;)*) => {
        /// One reason. The codes of [`Reason::as_str`] are part of the HTTP API and never change meaning.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Reason {
            $($(#[$doc])* $name,)*
        }

        impl Reason {
            /// Every reason, in the order in which they are listed.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The stable code.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $code,)*
                }
            }

            /// The same for a person to read.
            #[must_use]
            pub const fn sentence(self) -> &'static str {
                match self {
                    $(Self::$name => $sentence,)*
                }
            }
        }
    };
}

reasons! {
    /// Nothing was ever observed.
    NoData = "no_data": "No source has reported this yet.";
    /// More units are wanted than the pool has.
    ExceedsPool = "exceeds_pool": "More units are wanted than the pool has.";
    /// Fewer units were free than wanted when the pool was last seen.
    FullNow = "full_now": "Fewer units are free than are wanted, as last seen.";
    /// The usual share is at least [`crate::HIGH_FROM`].
    UsuallyFree = "usually_free": "The wanted units are free most of the time.";
    /// The usual share is below [`crate::LOW_BELOW`].
    UsuallyFull = "usually_full": "The wanted units are taken most of the time.";
    /// Less than [`crate::HIGH_NEEDS`] was observed.
    ThinHistory = "thin_history": "Less than two hours have been observed, too little for HIGH.";
    /// The state is younger than ten minutes.
    JustChanged = "just_changed": "This changed less than ten minutes ago, and may change back.";
    /// The source is silent for longer than it should.
    StaleSource = "stale_source": "The source has not reported when it should have.";
    /// The source says yes or no, not how many.
    UnitsUnknown = "units_unknown": "The source says only whether one can be had, not how many.";
    /// Another source for the same pool says the opposite.
    SourcesDisagree = "sources_disagree": "Another source says the opposite.";
    /// The provider does not offer this here. Given by the caller.
    NotOffered = "not_offered": "The provider does not offer this here.";
    /// Offered, but not to this account. Given by the caller.
    Restricted = "restricted": "The provider does not offer this to this account.";
    /// An attempt to get it failed not long ago. Given by the caller.
    RecentFailure = "recent_failure": "An attempt to get it failed a few minutes ago.";
    /// No attempt has succeeded yet, and the source alone is not enough for HIGH. Given by the caller.
    NeverConfirmed = "never_confirmed": "Nobody has got it yet, and an offer alone is not enough for HIGH.";
}

impl Reason {
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
        Reason::ALL.iter().copied().filter(move |reason| self.contains(*reason))
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
        for &reason in Reason::ALL {
            let set = Reasons::from_iter([reason, reason]);
            assert_eq!(set.iter().collect::<Vec<_>>(), [reason]);
        }
        assert!(Reasons::default().is_empty());
        assert_eq!(
            Reason::ALL.iter().copied().collect::<Reasons>().iter().count(),
            Reason::ALL.len()
        );
    }
}
