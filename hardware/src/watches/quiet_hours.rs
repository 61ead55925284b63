//! Hours of each day in which nobody wants to be told anything.

use availability::Timestamp;
use jiff::{civil::Time, tz::TimeZone};
use serde::Deserialize;

/// From one time of the day to another, by the clocks of a time zone; over midnight if it ends before it begins.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "Rendered")]
pub struct QuietHours {
    from: Time,
    to: Time,
    zone: TimeZone,
}

#[derive(Deserialize)]
struct Rendered {
    from: String,
    to: String,
    time_zone: String,
}

impl TryFrom<Rendered> for QuietHours {
    type Error = String;

    fn try_from(rendered: Rendered) -> Result<Self, String> {
        let time = |field: &str, text: &str| {
            let wrong = || format!("quiet_hours.{field} is {text:?}, expected HH:MM");
            Time::strptime("%H:%M", text).map_err(|_| wrong())
        };
        let Rendered { from, to, time_zone } = rendered;
        let zone = TimeZone::get(&time_zone).map_err(|_| {
            format!("quiet_hours.time_zone is {time_zone:?}, expected a name such as Europe/Berlin")
        })?;
        Ok(Self { from: time("from", &from)?, to: time("to", &to)?, zone })
    }
}

impl QuietHours {
    /// Whether `now` is one of them. Those that begin when they end are none.
    #[must_use]
    pub fn contain(&self, now: Timestamp) -> bool {
        let Ok(now) = jiff::Timestamp::from_millisecond(now.as_millis()) else { return false };
        let now = now.to_zoned(self.zone.clone()).time();
        if self.from <= self.to {
            self.from <= now && now < self.to
        } else {
            self.from <= now || now < self.to
        }
    }
}

#[cfg(test)]
mod tests {
    use availability::Timestamp;
    use serde_json::json;

    use super::QuietHours;

    fn hours(from: &str, to: &str, time_zone: &str) -> Result<QuietHours, String> {
        let rendered = json!({"from": from, "to": to, "time_zone": time_zone});
        serde_json::from_value(rendered).map_err(|error| error.to_string())
    }

    #[test]
    fn hours_are_those_of_the_zone_with_its_summer_time_and_over_midnight() {
        let table = [
            ("22:00", "07:00", "UTC", "2026-01-01T21:59:59Z", false),
            ("22:00", "07:00", "UTC", "2026-01-01T22:00:00Z", true),
            ("22:00", "07:00", "UTC", "2026-01-01T06:59:59Z", true),
            ("22:00", "07:00", "UTC", "2026-01-01T07:00:00Z", false),
            ("12:00", "13:30", "UTC", "2026-01-01T13:29:00Z", true),
            ("12:00", "13:30", "UTC", "2026-01-01T11:59:00Z", false),
            ("00:00", "00:00", "UTC", "2026-01-01T00:00:00Z", false),
            // One hour ahead in winter, two in summer.
            ("22:00", "07:00", "Europe/Berlin", "2026-01-01T21:30:00Z", true),
            ("22:00", "07:00", "Europe/Berlin", "2026-01-01T20:30:00Z", false),
            ("22:00", "07:00", "Europe/Berlin", "2026-07-01T20:30:00Z", true),
            ("22:00", "07:00", "Asia/Kolkata", "2026-07-01T16:31:00Z", true),
        ];
        for (from, to, zone, now, expected) in table {
            let at: jiff::Timestamp = now.parse().expect("a time");
            let quiet = hours(from, to, zone).expect("good");
            let found = quiet.contain(Timestamp::from_millis(at.as_millisecond()));
            assert_eq!(found, expected, "{from}–{to} {zone} at {now}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let table = [
            (hours("25:00", "07:00", "UTC"), "quiet_hours.from is \"25:00\", expected HH:MM"),
            (hours("22:00", "7", "UTC"), "quiet_hours.to is \"7\", expected HH:MM"),
            (hours("22:00", "07:00", "Berlin"), "quiet_hours.time_zone is \"Berlin\""),
        ];
        for (outcome, expected) in table {
            let error = outcome.expect_err(expected);
            assert!(error.contains(expected), "{error}");
        }
    }
}
