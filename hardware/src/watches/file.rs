//! The file of watches, as the operator renders it.

use std::time::Duration;

use availability::{Level, Wanted};
use hardware_api::filter::{Field, Filter, Pattern, Term};
use http::Uri;
use ipnet::IpNet;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{quiet_hours::QuietHours, signature::SigningKey, standing::Rules};

/// Longest name of a watch and longest id, in bytes, as Kubernetes has them.
const MAX_NAME: usize = 253;
const MAX_UID: usize = 64;

/// The watches of a portal.
#[derive(Clone, Debug, Default)]
pub struct WatchFile {
    /// Where requests may go besides public addresses.
    pub(super) rules: AddressRules,
    /// The watches.
    pub watches: Vec<Watch>,
    /// Those that cannot be understood, each with a sentence; they leave the others alone.
    pub refused: Vec<String>,
}

/// Where requests may go, as the owner of the portal says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct AddressRules {
    /// Whether `http://` is let through, which anybody on the way can read.
    #[serde(default)]
    pub(super) allow_http: bool,
    /// Networks besides the public internet.
    #[serde(default)]
    pub(super) allow_addresses: Vec<IpNet>,
}

/// One watch.
#[derive(Clone, Debug)]
pub struct Watch {
    /// Name of the resource.
    pub name: String,
    /// What tells it from one of the same name that was deleted.
    pub uid: String,
    /// Grows with each change of it.
    pub generation: i64,
    /// What it is about.
    pub matches: Match,
    /// How many units are wanted.
    pub units: Wanted,
    /// The level that is wanted, or a better one.
    pub level: Level,
    /// When it fires.
    pub rules: Rules,
    /// When it does not.
    pub quiet_hours: Option<QuietHours>,
    /// Who is told.
    pub deliver: Vec<Target>,
}

/// What a watch is about: each field that is there is the whole text, in which `*` stands for any characters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Match {
    /// Who offers it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// What the provider calls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Region of the provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Zone of the region.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// How it is sold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
}

/// A receiver. Its address is a secret, as who knows it may write there.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its place in the resource, by which messages find it; others may be left out of the file.
    pub place: u32,
    /// What it understands.
    pub kind: TargetKind,
    /// Where it is; an http or https URL with a host.
    pub(super) url: SecretString,
    /// What a webhook's messages are signed with.
    pub(super) signing_key: Option<SigningKey>,
    /// What opens an ntfy server.
    pub(super) token: Option<SecretString>,
}

/// What a receiver understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetKind {
    /// A message of the Standard Webhooks specification.
    Webhook,
    /// Slack's incoming webhooks, and what takes the same.
    Slack,
    /// A topic of an ntfy server.
    Ntfy,
}

#[derive(Deserialize)]
struct Document<'a> {
    #[serde(borrow, default)]
    watches: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct RenderedWatch<'a> {
    name: String,
    uid: String,
    generation: i64,
    #[serde(rename = "match")]
    matches: Match,
    units: u32,
    level: String,
    for_s: u64,
    cooldown_s: u64,
    #[serde(default)]
    quiet_hours: Option<QuietHours>,
    /// Not read with the rest: what is wrong with it is told without its secrets.
    #[serde(borrow)]
    deliver: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct RenderedTarget {
    place: u32,
    kind: TargetKind,
    url: SecretString,
    #[serde(default)]
    signing_key: Option<SigningKey>,
    #[serde(default)]
    token: Option<SecretString>,
}

impl WatchFile {
    /// Reads what the operator rendered. No error shows a secret.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let expected = |error: serde_json::Error| {
            format!(
                "expected {{\"watches\": […]}}, found something else in line {}, column {}",
                error.line(),
                error.column()
            )
        };
        // A list would do for a struct of defaults.
        if bytes.trim_ascii_start().first() != Some(&b'{') {
            return Err("expected {\"watches\": […]}, found no object".to_owned());
        }
        // Not in one go: serde keeps no raw text beside fields that it flattens.
        let rules: AddressRules = serde_json::from_slice(bytes).map_err(expected)?;
        let document: Document<'_> = serde_json::from_slice(bytes).map_err(expected)?;
        let mut file = Self { rules, ..Self::default() };
        for (index, watch) in document.watches.into_iter().enumerate() {
            match Watch::parse(watch) {
                Ok(watch) => file.watches.push(watch),
                Err(error) => file.refused.push(format!("watches[{index}]: {error}")),
            }
        }
        Ok(file)
    }
}

impl Watch {
    fn parse(json: &RawValue) -> Result<Self, String> {
        let read: RenderedWatch<'_> =
            serde_json::from_str(json.get()).map_err(|error| error.to_string())?;
        let RenderedWatch { name, uid, generation, matches, units, level, .. } = read;
        if name.is_empty() || name.len() > MAX_NAME || uid.is_empty() || uid.len() > MAX_UID {
            return Err(format!(
                "expected a name of 1 to {MAX_NAME} bytes and a uid of 1 to {MAX_UID}, found \
                 {name:?} and {uid:?}"
            ));
        }
        let about = |error: String| format!("{name}: {error}");
        let wanted = Wanted::new(units)
            .ok_or_else(|| about("units is 0, expected at least 1".to_owned()))?;
        let wanted_level = match level.as_str() {
            "HIGH" => Level::High,
            "MEDIUM" => Level::Medium,
            _ => return Err(about(format!("level is {level:?}, expected HIGH or MEDIUM"))),
        };
        let mut deliver = Vec::with_capacity(read.deliver.len());
        for (index, target) in read.deliver.iter().enumerate() {
            let target = Target::parse(target);
            deliver.push(target.map_err(|error| about(format!("deliver[{index}]: {error}")))?);
        }
        let rules = Rules {
            hold_for: Duration::from_secs(read.for_s),
            cooldown: Duration::from_secs(read.cooldown_s),
        };
        let quiet_hours = read.quiet_hours;
        let (units, level) = (wanted, wanted_level);
        Ok(Self { name, uid, generation, matches, units, level, rules, quiet_hours, deliver })
    }

    /// The receiver at a place of the resource.
    #[must_use]
    pub fn target(&self, place: u32) -> Option<&Target> {
        self.deliver.iter().find(|target| target.place == place)
    }

    /// What rows of a view it is about.
    #[must_use]
    pub fn filter(&self) -> Filter {
        let Match { provider, name, region, zone, tier } = &self.matches;
        let fields = [
            (Field::Provider, provider),
            (Field::Name, name),
            (Field::Region, region),
            (Field::Zone, zone),
            (Field::Tier, tier),
        ];
        let terms = fields.into_iter().filter_map(|(field, text)| {
            let values = vec![Pattern::with_stars(text.as_deref()?)];
            Some(Term { is_negated: false, field: Some(field), values })
        });
        Filter { terms: terms.collect() }
    }
}

impl Target {
    fn parse(json: &RawValue) -> Result<Self, String> {
        // What serde found may be an address or a key.
        let read: RenderedTarget = serde_json::from_str(json.get()).map_err(|_| {
            "expected {place, kind, url, signing_key, token}, of kind webhook, slack or ntfy and with a \
             key that begins with whsec_"
                .to_owned()
        })?;
        let RenderedTarget { place, kind, url, signing_key, token } = read;
        let uri: Option<Uri> = url.expose_secret().parse().ok();
        let is_good = |uri: &Uri| {
            let has_login = uri.authority().is_some_and(|it| it.as_str().contains('@'));
            let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
            is_http && uri.host().is_some_and(|host| !host.is_empty()) && !has_login
        };
        if !uri.as_ref().is_some_and(is_good) {
            return Err(
                "the url is not http:// or https:// with a host and without a login".to_owned()
            );
        }
        Ok(Self { place, kind, url, signing_key, token })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use availability::{Level, Wanted};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::{TargetKind, WatchFile};

    fn watch(change: impl FnOnce(&mut Value)) -> Value {
        let mut watch = json!({
            "name": "h100", "uid": "u-1", "generation": 3,
            "match": {"provider": "aws", "region": "us-*"},
            "units": 8, "level": "HIGH", "for_s": 120, "cooldown_s": 1800,
            "quiet_hours": {"from": "22:00", "to": "07:00", "time_zone": "Europe/Berlin"},
            "deliver": [
                {"place": 0, "kind": "webhook", "url": "https://example.com/s3cret",
                    "signing_key": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"},
                {"place": 2, "kind": "ntfy", "url": "http://ntfy.lab/gpus", "token": "tk_s3cret"},
            ],
        });
        change(&mut watch);
        watch
    }

    fn parse(document: &Value) -> Result<WatchFile, String> {
        WatchFile::parse(document.to_string().as_bytes())
    }

    #[test]
    fn what_the_operator_renders_is_read() {
        let document = json!({"allow_http": true, "allow_addresses": ["10.0.0.0/8"],
            "watches": [watch(|_| {})]});
        let file = parse(&document).expect("good");
        assert!(file.rules.allow_http && file.rules.allow_addresses.len() == 1);
        let [watch] = file.watches.as_slice() else { panic!("{file:?}") };
        assert_eq!((watch.units, watch.level), (Wanted::new(8).expect("8"), Level::High));
        assert_eq!(watch.rules.hold_for, Duration::from_mins(2));
        assert_eq!(watch.filter(), "provider:aws region:us-*".parse().expect("a filter"));
        assert_eq!(watch.deliver[1].kind, TargetKind::Ntfy);
        assert_eq!(watch.target(2).map(|target| target.kind), Some(TargetKind::Ntfy));
        assert!(watch.target(1).is_none(), "it was left out");
        let empty = parse(&json!({"watches": []})).expect("good");
        assert!(empty.watches.is_empty() && !empty.rules.allow_http);
    }

    #[test]
    fn a_bad_watch_leaves_the_others_alone_and_is_explained_without_secrets() {
        type Change = fn(&mut Value);
        let table: [(Change, &str); 11] = [
            (|it| it["units"] = json!(0), "h100: units is 0"),
            (|it| it["units"] = json!(-1), "invalid value: integer `-1`"),
            (|it| it["level"] = json!("LOW"), "level is \"LOW\", expected HIGH or MEDIUM"),
            (|it| it["match"]["colour"] = json!("red"), "unknown field `colour`"),
            (|it| it["name"] = json!(""), "expected a name of 1 to 253 bytes"),
            (|it| it["quiet_hours"]["to"] = json!("7"), "quiet_hours.to is \"7\""),
            (|it| it["deliver"][0]["url"] = json!("s3cret"), "deliver[0]: the url is not http"),
            (|it| it["deliver"][0]["url"] = json!("https://s3cret@a.b"), "and without a login"),
            (
                |it| it["deliver"][0]["url"] = json!({"s3cret": 1}),
                "deliver[0]: expected {place, kind",
            ),
            (|it| it["deliver"][1]["kind"] = json!("s3cret"), "deliver[1]: expected {place, kind"),
            (
                |it| it["deliver"][0]["signing_key"] = json!("s3cret"),
                "deliver[0]: expected {place, kind",
            ),
        ];
        for (change, expected) in table {
            let document = json!({"watches": [watch(|_| {}), watch(change), watch(|_| {})]});
            let file = parse(&document).expect("a document");
            assert_eq!((file.watches.len(), file.refused.len()), (2, 1), "{expected}");
            let refused = &file.refused[0];
            assert!(refused.starts_with("watches[1]: ") && refused.contains(expected), "{refused}");
            assert!(!format!("{file:?}").contains("s3cret"), "{file:?}");
        }
        for document in [json!([]), json!({"watches": 5}), json!({"allow_addresses": ["ten"]})] {
            let error = parse(&document).expect_err("no document");
            assert!(error.starts_with("expected {\"watches\": […]}"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_file_makes_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            drop(WatchFile::parse(&bytes));
        }
    }
}
