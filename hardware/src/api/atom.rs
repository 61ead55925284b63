//! Changes of levels as an Atom feed (RFC 4287).

use std::{borrow::Cow, io};

use availability::Timestamp;
use chrono::{DateTime, SecondsFormat};
use quick_xml::{
    Writer,
    events::{BytesDecl, BytesText, Event},
};
use sha2::{Digest, Sha256};
use url::form_urlencoded;

use super::parameters::Parameters;
use crate::{
    levels::LevelChange,
    pools::{Feed, FoundChange},
};

const NAMESPACE: &str = "http://www.w3.org/2005/Atom";

/// How hardware is sold unless something else is said of it.
const USUAL_TIER: &str = "on-demand";

type Xml = Writer<Vec<u8>>;

/// The feed of a filter. `root` leads from where it was asked for to where the API begins.
pub(super) fn write(feed: &Feed, parameters: &Parameters, root: &str) -> io::Result<Vec<u8>> {
    let mut xml = Writer::new_with_indent(Vec::new(), b' ', 2);
    xml.write_event(Event::Decl(BytesDecl::new("1.0", Some("utf-8"), None)))?;
    let filter = parameters.without("limit");
    xml.create_element("feed").with_attribute(("xmlns", NAMESPACE)).write_inner_content(|xml| {
        // Another filter is another feed; more entries of it are the same one.
        write_text(xml, "id", &id_of(&[&feed.seed, "feed", &filter]))?;
        write_text(xml, "title", &feed_title(&filter))?;
        let updated = feed.changes.iter().map(|found| found.change.at).max();
        write_text(xml, "updated", &time(updated.unwrap_or(feed.created)))?;
        let this = format!("?{}", parameters.query());
        write_link(xml, "self", "application/atom+xml", &this)?;
        xml.create_element("author")
            .write_inner_content(|xml| write_text(xml, "name", "Gill Hicks hardware"))?;
        feed.changes.iter().try_for_each(|found| write_entry(xml, &feed.seed, found, root))
    })?;
    let mut bytes = xml.into_inner();
    bytes.push(b'\n');
    Ok(bytes)
}

fn write_entry(xml: &mut Xml, seed: &str, found: &FoundChange, root: &str) -> io::Result<()> {
    let FoundChange { supply, change } = found;
    let supply = format!("{supply:016x}");
    let entry = xml.create_element("entry").write_inner_content(|xml| {
        let at = change.at.as_millis().to_string();
        let id = id_of(&[seed, &supply, &at, change.from.as_str(), change.to.as_str()]);
        write_text(xml, "id", &id)?;
        write_text(xml, "title", &title(change))?;
        write_text(xml, "updated", &time(change.at))?;
        write_link(xml, "alternate", "application/json", &format!("{root}v1/pools/{supply}"))?;
        xml.create_element("category")
            .with_attribute(("term", change.to.as_str()))
            .write_empty()?;
        write_text(xml, "summary", &summary(change))
    });
    entry.map(|_| ())
}

fn feed_title(filter: &str) -> String {
    let terms = form_urlencoded::parse(filter.as_bytes());
    let terms: Vec<String> = terms.map(|(name, value)| format!("{name}={value}")).collect();
    let colon = if terms.is_empty() { "" } else { ": " };
    format!("Changes of level{colon}{}", terms.join(", "))
}

fn title(change: &LevelChange) -> String {
    let pool = &change.pool;
    let place = if pool.zone.is_empty() { &pool.region } else { &pool.zone };
    let tier = if pool.tier == USUAL_TIER { "" } else { &pool.tier };
    let names = [&pool.provider, &pool.name, place, tier];
    let names: Vec<&str> = names.into_iter().filter(|name| !name.is_empty()).collect();
    format!("{}: {} → {}", names.join(" "), change.from, change.to)
}

fn summary(change: &LevelChange) -> String {
    let probability = match change.probability {
        Some(probability) => format!("P {probability}"),
        None => "P not known".to_owned(),
    };
    let summary = format!("{probability} for one {}, {}.", change.pool.unit, change.pool.tier);
    [summary.as_str(), &change.sentence].join(" ").trim_end().to_owned()
}

fn write_text(xml: &mut Xml, name: &str, text: &str) -> io::Result<()> {
    let text = allowed(text);
    xml.create_element(name).write_text_content(BytesText::new(&text)).map(|_| ())
}

fn write_link(xml: &mut Xml, rel: &str, media_type: &str, href: &str) -> io::Result<()> {
    let link = xml.create_element("link").with_attribute(("rel", rel));
    link.with_attribute(("type", media_type)).with_attribute(("href", href)).write_empty()?;
    Ok(())
}

/// Text with U+FFFD for each character that XML 1.0 cannot have, not even escaped.
fn allowed(text: &str) -> Cow<'_, str> {
    let is_forbidden = |c: char| matches!(c, '\0'..='\u{8}' | '\u{B}' | '\u{C}' | '\u{E}'..='\u{1F}' | '\u{FFFE}' | '\u{FFFF}');
    if text.contains(is_forbidden) {
        text.replace(is_forbidden, "\u{FFFD}").into()
    } else {
        text.into()
    }
}

/// The same from each process, and nowhere else: a UUID of version 8 (RFC 9562), from SHA-256.
fn id_of(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        // With its length, so that no two lists are the same bytes.
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    }
    let digest = hash.finalize().into_iter().take(16);
    let bits = digest.fold(0_u128, |bits, byte| bits << 8 | u128::from(byte));
    let bits = bits & !(0xF << 76 | 0b11 << 62) | 0x8 << 76 | 0b10 << 62;
    let digits = format!("{bits:032x}");
    let groups = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
    format!("urn:uuid:{}", groups.join("-"))
}

/// As RFC 3339 has it. A time that no calendar has, which nobody but a human can have written, is the epoch.
fn time(at: Timestamp) -> String {
    let time = DateTime::from_timestamp_millis(at.as_millis()).unwrap_or_default();
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use availability::{Level, Timestamp};

    use super::{allowed, id_of, summary, time, title};
    use crate::{levels::LevelChange, observation::PoolName};

    fn change(zone: &str, tier: &str) -> LevelChange {
        LevelChange {
            at: Timestamp::from_millis(1_767_225_600_250),
            pool: PoolName {
                provider: "aws".to_owned(),
                name: "p5.48xlarge".to_owned(),
                region: "eu-west-1".to_owned(),
                zone: zone.to_owned(),
                tier: tier.to_owned(),
                unit: "unit".to_owned(),
            },
            source: "lab".to_owned(),
            from: Level::Low,
            to: Level::High,
            probability: Some(0.91),
            sentence: "It is so.".to_owned(),
        }
    }

    #[test]
    fn an_entry_says_what_has_changed() {
        let zoned = change("eu-west-1a", "on-demand");
        assert_eq!(title(&zoned), "aws p5.48xlarge eu-west-1a: LOW → HIGH");
        assert_eq!(title(&change("", "spot")), "aws p5.48xlarge eu-west-1 spot: LOW → HIGH");
        assert_eq!(summary(&zoned), "P 0.91 for one unit, on-demand. It is so.");
        let silent = LevelChange { probability: None, sentence: String::new(), ..zoned };
        assert_eq!(summary(&silent), "P not known for one unit, on-demand.");
        assert_eq!(time(silent.at), "2026-01-01T00:00:00.250Z");
    }

    #[test]
    fn an_id_is_a_uuid_of_its_parts() {
        let id = id_of(&["seed", "feed", ""]);
        assert_eq!(id, id_of(&["seed", "feed", ""]));
        assert_ne!(id, id_of(&["seed", "fee", "d"]));
        let digits = id.strip_prefix("urn:uuid:").expect("the scheme");
        assert_eq!(digits.len(), 36, "{id}");
        assert_eq!(&digits[14..15], "8", "the version: {id}");
        assert!(matches!(&digits[19..20], "8" | "9" | "a" | "b"), "the variant: {id}");
    }

    #[test]
    fn what_xml_cannot_have_is_replaced() {
        assert_eq!(allowed("a\0b\u{1B}\u{FFFF}c"), "a\u{FFFD}b\u{FFFD}\u{FFFD}c");
        let kept = "\t\n\r\u{7F}\u{85} <&\"'> 🚀 \u{202E}\u{FFFD}";
        assert_eq!(allowed(kept), kept);
    }
}
