//! Where a watch stands, and what moves it.

use std::time::Duration;

use availability::Timestamp;

/// What the levels say of a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Hardware that matches has the level.
    Holds,
    /// No hardware that matches has it.
    Gone,
    /// Nothing is known of any hardware that matches, which is neither.
    Unknown,
}

/// When a watch fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// For how long the level must have held.
    pub hold_for: Duration,
    /// How long after it has fired it may fire again.
    pub cooldown: Duration,
}

/// Where a watch stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whether it may fire: not again before its level has gone.
    pub armed: bool,
    /// Since when the level holds; none while it does not.
    pub holds_since: Option<Timestamp>,
    /// When it last fired.
    pub fired: Option<Timestamp>,
}

impl Standing {
    /// Of a watch that has seen nothing.
    pub const NEW: Self = Self { armed: true, holds_since: None, fired: None };

    /// After the watch was changed: what it asks for now was never told, and it still does not fire too often.
    #[must_use]
    pub fn of_changed_watch(self) -> Self {
        Self { fired: self.fired, ..Self::NEW }
    }

    /// Moves on by what is seen at `now`; true if the watch fires with that. While `is_quiet` it does not, and
    /// fires afterwards if the level still holds.
    #[must_use]
    pub fn step(self, seen: Seen, now: Timestamp, rules: Rules, is_quiet: bool) -> (Self, bool) {
        match seen {
            Seen::Gone => (Self { armed: true, holds_since: None, ..self }, false),
            Seen::Unknown => (Self { holds_since: None, ..self }, false),
            Seen::Holds => {
                let since = self.holds_since.unwrap_or(now);
                let has_held = now.since(since) >= rules.hold_for;
                let is_cool = self.fired.is_none_or(|fired| now.since(fired) >= rules.cooldown);
                let holding = Self { holds_since: Some(since), ..self };
                if self.armed && has_held && is_cool && !is_quiet {
                    (Self { armed: false, fired: Some(now), ..holding }, true)
                } else {
                    (holding, false)
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use availability::Timestamp;
    use proptest::prelude::*;

    use super::{Rules, Seen, Standing};

    const RULES: Rules =
        Rules { hold_for: Duration::from_mins(2), cooldown: Duration::from_mins(30) };

    fn minute(minute: i64) -> Timestamp {
        Timestamp::from_millis(minute * 60_000)
    }

    /// The minutes in which a watch fires, given what is seen in each minute: h, g or u, and H while it is quiet.
    fn fires(seen: &str, rules: Rules) -> Vec<usize> {
        let mut standing = Standing::NEW;
        let mut fired = Vec::new();
        for (index, letter) in seen.chars().enumerate() {
            let what = match letter {
                'h' | 'H' => Seen::Holds,
                'g' => Seen::Gone,
                _ => Seen::Unknown,
            };
            let now = minute(i64::try_from(index).expect("small"));
            let (next, does_fire) = standing.step(what, now, rules, letter == 'H');
            standing = next;
            if does_fire {
                fired.push(index);
            }
        }
        fired
    }

    #[test]
    fn a_watch_fires_once_when_its_level_has_held_and_again_when_that_had_gone() {
        let at_once = Rules { hold_for: Duration::ZERO, cooldown: Duration::ZERO };
        let short = Rules { cooldown: Duration::from_mins(4), ..RULES };
        let table = [
            ("hhhhhhhh", RULES, vec![2]),
            ("gghhghhhh", RULES, vec![7]),
            // Not known is not gone: the hold begins anew, and what has fired stays disarmed.
            ("hhuhhh", RULES, vec![5]),
            ("hhhhuuhhhh", at_once, vec![0]),
            ("hghgh", at_once, vec![0, 2, 4]),
            // Within the cooldown it waits, and fires when that is over.
            ("hhhghhhh", short, vec![2, 6]),
            ("hhhghg", short, vec![2]),
            // In quiet hours as well.
            ("HHHHHh", RULES, vec![5]),
            ("HHHHHg", RULES, vec![]),
        ];
        for (seen, rules, expected) in table {
            assert_eq!(fires(seen, rules), expected, "{seen} {rules:?}");
        }
    }

    #[test]
    fn a_changed_watch_is_armed_anew_and_keeps_its_cooldown() {
        let before =
            Standing { armed: false, holds_since: Some(minute(1)), fired: Some(minute(3)) };
        let changed = before.of_changed_watch();
        assert_eq!(changed, Standing { fired: Some(minute(3)), ..Standing::NEW });
        let (_, does_fire) = changed.step(Seen::Holds, minute(10), RULES, false);
        assert!(!does_fire);
    }

    proptest! {
        /// Whatever is seen, and with clocks that go back: between two firings the level has gone.
        #[test]
        fn it_never_fires_twice_for_one_time_of_its_level(
            seen in prop::collection::vec((0_u8..3, -2_i64..5, any::<bool>()), 0..60),
        ) {
            let mut standing = Standing::NEW;
            let (mut now, mut has_gone) = (0, true);
            for (what, pause, is_quiet) in seen {
                now += pause;
                let what = [Seen::Holds, Seen::Gone, Seen::Unknown][usize::from(what)];
                let (next, fires) = standing.step(what, minute(now), RULES, is_quiet);
                if fires {
                    prop_assert!(has_gone && !is_quiet && what == Seen::Holds);
                    has_gone = false;
                }
                has_gone |= what == Seen::Gone;
                standing = next;
            }
        }
    }
}
