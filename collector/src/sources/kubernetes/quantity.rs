//! Amounts of resources as Kubernetes writes them: `500m`, `1.5`, `2Gi`, `1e3`.

/// Thousandths of a unit: of a core, a byte or a device.
pub(super) type Thousandths = i128;

/// Reads a quantity, and rounds away from zero to thousandths, as the scheduler does. None if it is not
/// one. The grammar is that of `k8s.io/apimachinery/pkg/api/resource`.
pub(super) fn parse(text: &str) -> Option<Thousandths> {
    let (is_negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let digits = text.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
    let (number, suffix) = text.split_at(digits);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let mantissa: i128 = format!("0{whole}{fraction}").parse().ok()?;
    let decimals = i32::try_from(fraction.len()).ok()?;
    let (factor, exponent) = scale(suffix)?;
    let amount =
        shift(mantissa.checked_mul(factor)?, exponent.checked_sub(decimals)?.checked_add(3)?)?;
    Some(if is_negative { -amount } else { amount })
}

/// What a suffix multiplies by: a factor, and a power of ten.
fn scale(suffix: &str) -> Option<(i128, i32)> {
    let binary = |power: u32| Some((1_i128 << (10 * power), 0));
    match suffix {
        "n" => Some((1, -9)),
        "u" => Some((1, -6)),
        "m" => Some((1, -3)),
        "" => Some((1, 0)),
        "k" => Some((1, 3)),
        "M" => Some((1, 6)),
        "G" => Some((1, 9)),
        "T" => Some((1, 12)),
        "P" => Some((1, 15)),
        "E" => Some((1, 18)),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        _ => Some((1, suffix.strip_prefix(['e', 'E'])?.parse().ok()?)),
    }
}

/// `number` × 10^`exponent`, rounded up.
fn shift(number: i128, exponent: i32) -> Option<i128> {
    let power = 10_i128.checked_pow(exponent.unsigned_abs());
    if exponent >= 0 {
        return if number == 0 { Some(0) } else { number.checked_mul(power?) };
    }
    // A power that does not fit is larger than every number: what is left of it is rounded up to one.
    let Some(power) = power else { return Some(i128::from(number > 0)) };
    number.checked_add(power - 1).map(|number| number / power)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::parse;

    #[test]
    fn quantities_are_those_of_kubernetes() {
        for (text, thousandths) in [
            ("0", 0),
            ("1", 1_000),
            ("500m", 500),
            ("1.5", 1_500),
            (".5", 500),
            ("5.", 5_000),
            ("+2", 2_000),
            ("-2", -2_000),
            ("100u", 1),
            ("1n", 1),
            ("1999u", 2),
            ("2Gi", 2 * 1024 * 1024 * 1024 * 1_000),
            ("1.5Gi", 3 * 512 * 1024 * 1024 * 1_000),
            ("128M", 128_000_000_000),
            ("1k", 1_000_000),
            ("1e3", 1_000_000),
            ("1E3", 1_000_000),
            ("12e-1", 1_200),
            ("1E", 1_000_000_000_000_000_000_000),
            ("8Ei", 8 * (1_i128 << 60) * 1_000),
            ("0e99", 0),
            ("1e-99", 1),
        ] {
            assert_eq!(parse(text), Some(thousandths), "{text}");
        }
        for text in
            ["", ".", "m", "1.2.3", "1 Gi", "1gi", "1KiB", "one", "1e", "--1", "1e99", "0x1"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[0-9.eEkKMGimnu+-]{0,40}|\\PC{0,20}") {
            parse(&text);
        }
    }
}
