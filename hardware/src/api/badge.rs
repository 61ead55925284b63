//! Levels as small pictures, for pages that show them beside other badges.

use std::sync::Arc;

use availability::Wanted;
use axum::{
    extract::{Path, State, rejection::PathRejection},
    response::Response,
};
use hardware_api::{Availability, Problem, Want};
use http::{HeaderMap, HeaderValue, Uri, header};

use super::{
    ApiState, Refusal,
    answer::{find_view, respond, run_blocking},
    parameters::{Parameters, unreadable_path},
};
use crate::pools::Wish;

/// Image proxies, such as GitHub's camo, cache a picture for as long as this says.
const CACHE_CONTROL: HeaderValue = HeaderValue::from_static("public, max-age=60, must-revalidate");

/// Of the font that is asked for, in tenths of a pixel, at 11 pixels; wide enough for others.
const CHARACTER_WIDTH: usize = 68;
const PADDING: usize = 100;

/// Show a level as a picture
///
/// An SVG that says in words what it shows. A family shows its best member. What is not known shows UNKNOWN
/// and is no error, so that no page has a broken picture.
#[utoipa::path(
    get,
    path = "/badge/{provider}/{name}",
    tag = "availability",
    params(
        ("provider" = String, Path, description = "Who offers it", example = "aws"),
        ("name" = String, Path, description = "What the provider calls it, or its family; `.svg` at its end \
            is left out", example = "c5.svg"),
        ("units" = Option<u32>, Query, description = "How many at once; 1 if it is missing",
            minimum = 1, maximum = 2_147_483_647),
        ("region" = Option<String>, Query, description = "Only in this region"),
        ("zone" = Option<String>, Query, description = "Only in this zone"),
        ("tier" = Option<String>, Query, description = "Only if sold in this way"),
    ),
    responses(
        (status = OK, body = String, content_type = "image/svg+xml", description = "The picture"),
        (status = NOT_MODIFIED, description = "It still has the tag of If-None-Match"),
        (status = BAD_REQUEST, body = Problem, content_type = "application/problem+json",
            description = "`unknown_parameter`, `invalid_parameter`, `invalid_path`"),
        (status = SERVICE_UNAVAILABLE, body = Problem, content_type = "application/problem+json",
            description = "`starting`: nothing has been read from the database yet"),
    )
)]
pub(super) async fn show_badge(
    State(state): State<Arc<ApiState>>,
    path: Result<Path<(String, String)>, PathRejection>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let Path((provider, name)) = path.map_err(|error| unreadable_path(&error))?;
    let parameters = Parameters::read(&uri, &["units", "region", "zone", "tier"])?;
    let wanted = parameters.units()?;
    let given = |name| parameters.get(name).map(str::to_owned);
    let name = name.strip_suffix(".svg").unwrap_or(&name).to_owned();
    let want = Want {
        provider,
        name,
        region: given("region"),
        zone: given("zone"),
        tier: given("tier"),
        ..Want::default()
    };
    let view = find_view(&state, Wanted::ONE).await?;
    let (pools, wish) = (state.pools.clone(), Wish::from(&want));
    let found = run_blocking(move || pools.read().find(&view, &wish, wanted)).await?;
    let level = found.best.map_or(Availability::Unknown, |pool| pool.level);
    let units = if wanted == Wanted::ONE { String::new() } else { format!("{wanted} × ") };
    let svg = draw(&format!("{units}{} {}", want.provider, want.name), level);
    let mut response = respond(&state, &headers, "image/svg+xml", svg.into_bytes());
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, CACHE_CONTROL);
    // A picture loads and runs nothing.
    let policy = HeaderValue::from_static("default-src 'none'");
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(response)
}

/// White on it has a contrast of 4.5 at least (WCAG 2, AA). The word says what the colour says.
fn colour(level: Availability) -> &'static str {
    match level {
        Availability::High => "#1a7f37",
        Availability::Medium => "#8a5a00",
        Availability::Low => "#6639ba",
        Availability::Unknown => "#57606a",
    }
}

fn draw(label: &str, level: Availability) -> String {
    let width = |text: &str| text.chars().count() * CHARACTER_WIDTH + PADDING;
    let word = level.as_str();
    let (left, right) = (width(label), width(word));
    let pixels = |tenths: usize| format!("{}.{}", tenths / 10, tenths % 10);
    let text = |text: &str, start: usize, all: usize| {
        let (middle, length) = (pixels(start + all / 2), pixels(all - PADDING));
        format!("<text x=\"{middle}\" y=\"14\" textLength=\"{length}\">{text}</text>")
    };
    let label = escaped(label);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{all}\" height=\"20\" role=\"img\" \
         aria-label=\"{label}: {word}\"><title>{label}: {word}</title>\
         <rect width=\"{split}\" height=\"20\" fill=\"#3c4148\"/>\
         <rect x=\"{split}\" width=\"{rest}\" height=\"20\" fill=\"{colour}\"/>\
         <g fill=\"#fff\" text-anchor=\"middle\" font-family=\"Verdana,DejaVu Sans,sans-serif\" \
         font-size=\"11\">{left_text}{right_text}</g></svg>",
        all = pixels(left + right),
        split = pixels(left),
        rest = pixels(right),
        colour = colour(level),
        left_text = text(&label, 0, left),
        right_text = text(word, left, right),
    )
}

/// Text as XML has it. Characters that XML cannot have are left out.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c if c.is_control() || matches!(c, '\u{FFFE}' | '\u{FFFF}') => {}
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use hardware_api::Availability;
    use proptest::prelude::*;

    use super::{colour, draw};

    /// The relative luminance of WCAG 2.
    fn luminance(colour: &str) -> f64 {
        let part = |at: usize| {
            let value = u8::from_str_radix(&colour[at..at + 2], 16).expect("two digits");
            let value = f64::from(value) / 255.0;
            if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * part(1) + 0.7152 * part(3) + 0.0722 * part(5)
    }

    #[test]
    fn words_are_readable_on_every_colour() {
        let colours = Availability::ALL.map(colour);
        for colour in colours.into_iter().chain(["#3c4148"]) {
            let contrast = 1.05 / (luminance(colour) + 0.05);
            assert!(contrast >= 4.5, "{colour}: {contrast:.2}");
        }
    }

    #[test]
    fn nothing_breaks_out_of_a_picture() {
        let svg = draw("<script>\"&'\u{0}", Availability::High);
        assert!(svg.contains("&lt;script&gt;&quot;&amp;': HIGH</title>"), "{svg}");
        assert!(!svg.contains("<script"), "{svg}");
    }

    proptest! {
        #[test]
        fn whatever_a_path_names_is_text_of_the_picture(label in ".{0,20}|[<>&\"'a]{0,10}") {
            let (svg, plain) = (draw(&label, Availability::Low), draw("", Availability::Low));
            for c in ['<', '>', '"'] {
                prop_assert_eq!(svg.matches(c).count(), plain.matches(c).count(), "{}", svg);
            }
            prop_assert!(!svg.contains(char::is_control), "{}", svg);
            let title = svg.split("<title>").nth(1).and_then(|rest| rest.split(": LOW</title>").next());
            let read = title.expect("a title").replace("&lt;", "<").replace("&gt;", ">");
            let read = read.replace("&quot;", "\"").replace("&amp;", "&");
            let is_left_out = |c: char| c.is_control() || matches!(c, '\u{FFFE}' | '\u{FFFF}');
            prop_assert_eq!(read, label.replace(is_left_out, ""));
        }
    }
}
