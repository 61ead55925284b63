//! The contrast of the page's colours, by the formula of WCAG 2.2 ("relative luminance").

use std::collections::HashMap;

const STYLE: &str = include_str!("../../assets/portal.css");

/// Level AA for text of normal size.
const LEAST_CONTRAST: f64 = 4.5;

#[test]
fn text_can_be_read_in_light_and_dark() {
    let (light, dark) = STYLE.split_once("prefers-color-scheme: dark").expect("a dark mode");
    let dark = dark.split_once("\n}\n").expect("an end").0;
    for (mode, colours) in [("light", colours(light)), ("dark", colours(dark))] {
        for (text, ground) in [
            ("text", "ground"),
            ("text", "surface"),
            ("quiet", "ground"),
            ("quiet", "surface"),
            ("accent", "ground"),
            ("accent", "surface"),
            ("high", "high-ground"),
            ("medium", "medium-ground"),
            ("low", "low-ground"),
            ("unknown", "unknown-ground"),
        ] {
            let contrast = contrast(colours[text], colours[ground]);
            assert!(contrast >= LEAST_CONTRAST, "{mode}: {text} on {ground} is {contrast:.2}");
        }
    }
}

/// The custom properties that are colours.
fn colours(style: &str) -> HashMap<&str, [u8; 3]> {
    let properties = style.lines().filter_map(|line| line.trim().strip_prefix("--"));
    let colours = properties.filter_map(|property| {
        let (name, value) = property.split_once(": #")?;
        let number = u32::from_str_radix(value.trim_end_matches(';'), 16).ok()?;
        let [_, red, green, blue] = number.to_be_bytes();
        Some((name, [red, green, blue]))
    });
    colours.collect()
}

fn contrast(one: [u8; 3], other: [u8; 3]) -> f64 {
    let (one, other) = (luminance(one), luminance(other));
    (one.max(other) + 0.05) / (one.min(other) + 0.05)
}

fn luminance(colour: [u8; 3]) -> f64 {
    let linear = colour.map(|channel| {
        let channel = f64::from(channel) / 255.0;
        if channel <= 0.04045 { channel / 12.92 } else { ((channel + 0.055) / 1.055).powf(2.4) }
    });
    0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
}
