//! What receivers are sent when a watch fires.

use availability::Timestamp;
use chrono::{DateTime, SecondsFormat, Utc};
use hardware_api::Pool;
use http::{HeaderName, HeaderValue, header};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::file::{Match, Target, TargetKind, Watch};
use crate::pools::time;

/// A watch that has fired, as it is stored until everybody has been told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Firing {
    /// Name of the watch.
    pub(super) watch: String,
    /// What it is about.
    #[serde(rename = "match")]
    pub(super) matches: Match,
    /// How many units are wanted.
    pub(super) units: u32,
    /// The level that is wanted.
    pub(super) level: String,
    /// When it fired.
    pub(super) fired_at: DateTime<Utc>,
    /// Since when the level has held.
    pub(super) holds_since: DateTime<Utc>,
    /// The best of what matches.
    pub(super) pool: Pool,
}

/// A request's headers and body, but for those that every request has.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) body: Vec<u8>,
}

impl Firing {
    pub(super) fn of(watch: &Watch, holds_since: Timestamp, now: Timestamp, pool: Pool) -> Self {
        Self {
            watch: watch.name.clone(),
            matches: watch.matches.clone(),
            units: watch.units.get(),
            level: watch.level.as_str().to_owned(),
            fired_at: time(now).unwrap_or_default(),
            holds_since: time(holds_since).unwrap_or_default(),
            pool,
        }
    }

    /// One line for people.
    fn sentence(&self) -> String {
        let Pool { provider, name, region, zone, tier, level, probability, free, total, .. } =
            &self.pool;
        let place = [region, zone].into_iter().rfind(|text| !text.is_empty());
        let mut words = vec![provider.as_str(), name.as_str()];
        words.extend(place.map(String::as_str));
        words.push(tier);
        let chance = probability.map(|probability| {
            let percent = probability * 100.0;
            format!(", expected to be free for {percent:.0} % of the next hour")
        });
        let count = free.zip(*total).map(|(free, total)| format!(", {free} of {total} free"));
        format!(
            "{} × {} can be had: {level}{}{}.",
            self.units,
            words.join(" "),
            chance.unwrap_or_default(),
            count.unwrap_or_default()
        )
    }

    /// What `target` is sent at `now`; `id` is the same in each try.
    pub(super) fn message(&self, target: &Target, id: &str, now: DateTime<Utc>) -> Message {
        match target.kind {
            TargetKind::Webhook => self.webhook(target, id, now),
            TargetKind::Slack => Message {
                headers: vec![(header::CONTENT_TYPE, JSON)],
                body: json!({"text": format!("{} ({})", self.sentence(), self.watch)})
                    .to_string()
                    .into_bytes(),
            },
            TargetKind::Ntfy => self.ntfy(target),
        }
    }

    fn webhook(&self, target: &Target, id: &str, now: DateTime<Utc>) -> Message {
        let fired_at = self.fired_at.to_rfc3339_opts(SecondsFormat::Millis, true);
        let body = json!({"type": "watch.fired", "timestamp": fired_at, "data": self});
        let body = body.to_string().into_bytes();
        let seconds = now.timestamp();
        let mut headers = vec![
            (header::CONTENT_TYPE, JSON),
            (HeaderName::from_static("webhook-id"), text(id)),
            (HeaderName::from_static("webhook-timestamp"), HeaderValue::from(seconds)),
        ];
        if let Some(key) = &target.signing_key {
            let signature = text(&key.sign(id, seconds, &body));
            headers.push((HeaderName::from_static("webhook-signature"), signature));
        }
        Message { headers, body }
    }

    fn ntfy(&self, target: &Target) -> Message {
        let mut headers = vec![
            (header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8")),
            (HeaderName::from_static("x-title"), text(&self.watch)),
            (HeaderName::from_static("x-tags"), HeaderValue::from_static("white_check_mark")),
        ];
        if let Some(token) = &target.token {
            let mut bearer = text(&format!("Bearer {}", token.expose_secret().trim()));
            bearer.set_sensitive(true);
            headers.push((header::AUTHORIZATION, bearer));
        }
        Message { headers, body: self.sentence().into_bytes() }
    }
}

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What cannot stand in a header is left out.
fn text(text: &str) -> HeaderValue {
    let visible: String = text.chars().filter(|c| matches!(c, ' '..='~')).collect();
    HeaderValue::try_from(visible).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};
    use hardware_api::Pool;
    use serde_json::{Value, json};

    use super::{Firing, Message};
    use crate::watches::{Target, TargetKind, WatchFile};

    fn firing() -> Firing {
        let pool: Pool = serde_json::from_value(json!({
            "id": "5d41402abc4b2a76", "provider": "aws", "name": "p5.48xlarge",
            "region": "us-east-1", "zone": "", "tier": "spot", "unit": "unit", "units": 8,
            "level": "HIGH", "probability": 0.914, "interval": null, "interpolated": false,
            "free": 12, "total": 20, "can_fulfil_now": true, "most_at_high": 10, "since": null,
            "observed_at": null, "age_s": 20, "freshness": "fresh", "source": "lab", "reasons": [],
            "record": null,
        }))
        .expect("a pool");
        let at: DateTime<Utc> = "2026-03-01T12:00:00Z".parse().expect("a time");
        Firing {
            watch: "h100".to_owned(),
            matches: serde_json::from_value(json!({"provider": "aws"})).expect("a match"),
            units: 8,
            level: "HIGH".to_owned(),
            fired_at: at,
            holds_since: at,
            pool,
        }
    }

    fn target(json: &Value) -> Target {
        let document = json!({"watches": [{
            "name": "h100", "uid": "u", "generation": 1, "match": {}, "units": 8, "level": "HIGH",
            "for_s": 0, "cooldown_s": 0, "deliver": [json],
        }]});
        let file = WatchFile::parse(document.to_string().as_bytes()).expect("a file");
        file.watches[0].deliver[0].clone()
    }

    fn header<'a>(message: &'a Message, name: &str) -> Option<&'a str> {
        let mut headers = message.headers.iter();
        headers.find(|(known, _)| known == name).map(|(_, value)| value.to_str().expect("ASCII"))
    }

    const SENTENCE: &str = "8 × aws p5.48xlarge us-east-1 spot can be had: HIGH, expected to be free for \
        91 % of the next hour, 12 of 20 free.";

    #[test]
    fn each_kind_of_receiver_gets_what_it_understands() {
        let now: DateTime<Utc> = "2026-03-01T12:00:05Z".parse().expect("a time");
        let slack =
            target(&json!({"place": 0, "kind": "slack", "url": "https://hooks.example/T1"}));
        let message = firing().message(&slack, "msg_1", now);
        let body: Value = serde_json::from_slice(&message.body).expect("JSON");
        assert_eq!(body, json!({"text": format!("{SENTENCE} (h100)")}));

        let ntfy = target(
            &json!({"place": 0, "kind": "ntfy", "url": "https://ntfy.example/t", "token": "tk"}),
        );
        let message = firing().message(&ntfy, "msg_1", now);
        assert_eq!(String::from_utf8_lossy(&message.body), SENTENCE);
        assert_eq!(header(&message, "x-title"), Some("h100"));
        assert_eq!(header(&message, "authorization"), Some("Bearer tk"));
        assert!(!format!("{message:?}").contains("tk"), "{message:?}");

        let key = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let webhook =
            json!({"place": 0, "kind": "webhook", "url": "https://a.example", "signing_key": key});
        let webhook = target(&webhook);
        assert_eq!(webhook.kind, TargetKind::Webhook);
        let message = firing().message(&webhook, "msg_1", now);
        assert_eq!(header(&message, "webhook-id"), Some("msg_1"));
        assert_eq!(header(&message, "webhook-timestamp"), Some("1772366405"));
        assert!(header(&message, "webhook-signature").is_some_and(|it| it.starts_with("v1,")));
        let body: Value = serde_json::from_slice(&message.body).expect("JSON");
        assert_eq!(body["type"], "watch.fired");
        assert_eq!(body["timestamp"], "2026-03-01T12:00:00.000Z");
        assert_eq!(body["data"]["pool"]["free"], 12);
        assert_eq!(body["data"]["match"], json!({"provider": "aws"}));
        let unsigned = target(&json!({"place": 0, "kind": "webhook", "url": "https://a.example"}));
        assert_eq!(header(&firing().message(&unsigned, "m", now), "webhook-signature"), None);
    }
}
