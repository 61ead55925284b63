//! What a request's header says of the answer that it wants: encodings, weights, tags.

use http::{HeaderMap, HeaderValue, header};

/// How a body is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// `br`.
    Brotli,
    /// `gzip`.
    Gzip,
    /// As it is.
    Identity,
}

/// The encoding that fits best by RFC 9110, section 12.5.3: the one of most weight, of equal ones the
/// smallest. Identity if nothing fits, as an unreadable 406 would help nobody.
#[must_use]
pub fn choose_encoding(request: &HeaderMap) -> Encoding {
    let (mut brotli, mut gzip, mut identity, mut others) = (None, None, None, None);
    for value in request.get_all(header::ACCEPT_ENCODING) {
        for item in split(value.as_bytes(), b',') {
            let mut parts = split(item, b';');
            let coding = parts.next().unwrap_or_default();
            let weight = Some(weight_among(parts));
            let place = match coding {
                _ if coding.eq_ignore_ascii_case(b"br") => &mut brotli,
                _ if coding.eq_ignore_ascii_case(b"gzip") => &mut gzip,
                _ if coding.eq_ignore_ascii_case(b"x-gzip") => &mut gzip,
                _ if coding.eq_ignore_ascii_case(b"identity") => &mut identity,
                b"*" => &mut others,
                _ => continue,
            };
            *place = weight;
        }
    }
    let brotli = brotli.or(others).unwrap_or(0);
    let gzip = gzip.or(others).unwrap_or(0);
    // Identity is acceptable unless it is refused, and then still better than nothing.
    let identity = identity.unwrap_or(1).max(1);
    if brotli >= gzip && brotli >= identity {
        Encoding::Brotli
    } else if gzip >= identity {
        Encoding::Gzip
    } else {
        Encoding::Identity
    }
}

/// Whether one of the tags of If-None-Match is `etag`, by the weak comparison of RFC 9110, section
/// 13.1.2.
#[must_use]
pub fn has_tag(request: &HeaderMap, etag: &HeaderValue) -> bool {
    fn opaque(tag: &[u8]) -> &[u8] {
        tag.strip_prefix(b"W/").unwrap_or(tag)
    }
    let values = request.get_all(header::IF_NONE_MATCH);
    let mut tags = values.iter().flat_map(|value| split(value.as_bytes(), b','));
    tags.any(|tag| tag == b"*" || opaque(tag) == opaque(etag.as_bytes()))
}

/// The weight that the parameters of an item of Accept or Accept-Encoding give, in thousandths: 1000
/// unless there is a well-formed `q`.
pub fn weight_among<'a>(parameters: impl IntoIterator<Item = &'a [u8]>) -> u16 {
    let mut parameters = parameters.into_iter();
    let weight = parameters.find_map(|parameter| {
        parameter.strip_prefix(b"q=").or_else(|| parameter.strip_prefix(b"Q="))
    });
    weight.and_then(parse_weight).unwrap_or(1000)
}

/// `0`, `0.5`, `1.000`: at most three digits after the point, as section 12.4.2 has it.
fn parse_weight(text: &[u8]) -> Option<u16> {
    let (whole, fraction) = match text {
        [whole] => (whole, &[][..]),
        [whole, b'.', fraction @ ..] if fraction.len() <= 3 => (whole, fraction),
        _ => return None,
    };
    let whole = u16::from(whole.checked_sub(b'0').filter(|digit| *digit <= 1)?);
    let mut thousandths = whole;
    for place in 0..3 {
        let digit = fraction.get(place).map_or(Some(0), |digit| digit.checked_sub(b'0'))?;
        thousandths = thousandths * 10 + u16::from(Some(digit).filter(|digit| *digit <= 9)?);
    }
    (thousandths <= 1000).then_some(thousandths)
}

/// The parts between separators, without spaces around them.
fn split(value: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    value.split(move |byte| *byte == separator).map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, header};
    use proptest::prelude::*;

    use super::{Encoding, choose_encoding, has_tag, parse_weight};

    fn accepting(value: &[u8]) -> Option<Encoding> {
        let value = HeaderValue::from_bytes(value).ok()?;
        Some(choose_encoding(&HeaderMap::from_iter([(header::ACCEPT_ENCODING, value)])))
    }

    #[test]
    fn the_client_chooses_the_encoding() {
        use Encoding::{Brotli, Gzip, Identity};
        for (value, expected) in [
            ("gzip, deflate, br, zstd", Brotli),
            ("GZIP", Gzip),
            ("x-gzip", Gzip),
            ("gzip;q=1.0, br;q=0.5", Gzip),
            ("br;q=0, gzip;q=0.1", Gzip),
            ("br; q=0.000, gzip", Gzip),
            ("identity, gzip;q=0.5", Identity),
            ("*", Brotli),
            ("*;q=0.5, br;q=0", Gzip),
            ("identity;q=0", Identity),
            ("brotli, deflate", Identity),
            ("", Identity),
            ("gzip;q=nonsense", Gzip),
        ] {
            assert_eq!(accepting(value.as_bytes()), Some(expected), "{value}");
        }
        assert_eq!(choose_encoding(&HeaderMap::new()), Identity);
    }

    #[test]
    fn several_lines_are_one_list() {
        let mut request = HeaderMap::new();
        for value in ["deflate", "gzip;q=0.2", "br;q=0.1"] {
            request.append(header::ACCEPT_ENCODING, HeaderValue::from_static(value));
        }
        assert_eq!(choose_encoding(&request), Encoding::Gzip);
    }

    #[test]
    fn a_weight_has_at_most_three_digits_after_the_point() {
        for (text, expected) in [
            ("1", Some(1000)),
            ("1.", Some(1000)),
            ("0", Some(0)),
            ("0.5", Some(500)),
            ("0.001", Some(1)),
            ("1.001", None),
            ("0.0001", None),
            ("2", None),
            ("0,5", None),
            ("-1", None),
            ("", None),
        ] {
            assert_eq!(parse_weight(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn a_tag_is_known_whether_it_is_weak_or_not() {
        let etag = HeaderValue::from_static("W/\"abc\"");
        for (tags, expected) in [
            ("W/\"abc\"", true),
            ("\"abc\"", true),
            ("\"other\", \"abc\"", true),
            ("*", true),
            ("\"other\"", false),
            ("abc", false),
            ("", false),
        ] {
            let request =
                HeaderMap::from_iter([(header::IF_NONE_MATCH, HeaderValue::from_static(tags))]);
            assert_eq!(has_tag(&request, &etag), expected, "{tags:?}");
        }
    }

    proptest! {
        #[test]
        fn no_header_makes_the_choice_panic(value in proptest::collection::vec(any::<u8>(), 0..60)) {
            accepting(&value);
        }
    }
}
