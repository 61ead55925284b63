//! A page of pools as a table, for spreadsheets and for issues and chats.

use hardware_api::Pool;
use http::{HeaderMap, header};
use utoipa::ToSchema;

use service_kit::negotiation::weight_among;

use super::{Refusal, parameters::invalid};

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ToSchema)]
#[schema(rename_all = "lowercase")]
pub(super) enum Format {
    Json,
    Csv,
    Markdown,
}

const COLUMNS: [&str; 18] = [
    "id",
    "provider",
    "name",
    "region",
    "zone",
    "tier",
    "unit",
    "units",
    "level",
    "probability",
    "low",
    "high",
    "free",
    "total",
    "most_at_high",
    "observed_at",
    "freshness",
    "source",
];

/// The columns that a person reads.
const FEW_COLUMNS: [&str; 9] =
    ["provider", "name", "region", "zone", "tier", "level", "probability", "free", "total"];

impl Format {
    /// The word `format=` if there is one, else the first media type of Accept that is known.
    pub(super) fn choose(word: Option<&str>, headers: &HeaderMap) -> Result<Self, Refusal> {
        let words = ["json", "csv", "markdown"];
        match word {
            Some("json") => return Ok(Self::Json),
            Some("csv") => return Ok(Self::Csv),
            Some("markdown") => return Ok(Self::Markdown),
            Some(other) => {
                return Err(invalid("format", other, "json, csv or markdown").allowing(words));
            }
            None => {}
        }
        let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|it| it.to_str().ok());
        let known = accepted.flat_map(|value| value.split(',')).find_map(|range| {
            let mut parts = range.split(';').map(str::trim);
            let media_type = parts.next().unwrap_or_default();
            if weight_among(parts.map(str::as_bytes)) == 0 {
                return None;
            }
            match media_type {
                "application/json" | "application/*" | "*/*" => Some(Self::Json),
                "text/csv" => Some(Self::Csv),
                "text/markdown" => Some(Self::Markdown),
                _ => None,
            }
        });
        Ok(known.unwrap_or(Self::Json))
    }
}

fn cell(pool: &Pool, column: &str) -> String {
    fn known(value: Option<impl ToString>) -> String {
        value.map_or_else(String::new, |value| value.to_string())
    }
    match column {
        "id" => pool.id.clone(),
        "provider" => pool.provider.clone(),
        "name" => pool.name.clone(),
        "region" => pool.region.clone(),
        "zone" => pool.zone.clone(),
        "tier" => pool.tier.clone(),
        "unit" => pool.unit.clone(),
        "units" => pool.units.to_string(),
        "level" => pool.level.to_string(),
        "probability" => known(pool.probability),
        "low" => known(pool.interval.map(|interval| interval.low)),
        "high" => known(pool.interval.map(|interval| interval.high)),
        "free" => known(pool.free),
        "total" => known(pool.total),
        "most_at_high" => known(pool.most_at_high),
        "observed_at" => known(pool.observed_at.map(|at| at.to_rfc3339())),
        "freshness" => pool.freshness.as_str().to_owned(),
        "source" => pool.source.clone(),
        _ => unreachable!("no column {column}"),
    }
}

/// CSV (RFC 4180) with a line of names. A text that a spreadsheet would take for a formula gets an
/// apostrophe before it, as they come from whoever reports.
pub(super) fn to_csv(pools: &[Pool]) -> Result<Vec<u8>, csv::Error> {
    let mut writer =
        csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    writer.write_record(COLUMNS)?;
    for pool in pools {
        writer.write_record(COLUMNS.map(|column| {
            let text = cell(pool, column);
            if text.starts_with(['=', '+', '-', '@', '\t', '\r']) {
                format!("'{text}")
            } else {
                text
            }
        }))?;
    }
    writer.into_inner().map_err(|error| error.into_error().into())
}

/// A table of GitHub's Markdown.
pub(super) fn to_markdown(pools: &[Pool]) -> String {
    let row = |cells: [String; FEW_COLUMNS.len()]| format!("| {} |\n", cells.join(" | "));
    let mut table = row(FEW_COLUMNS.map(str::to_owned));
    table.push_str(&row(FEW_COLUMNS.map(|_| "---".to_owned())));
    for pool in pools {
        table.push_str(&row(FEW_COLUMNS.map(|column| escaped(&cell(pool, column)))));
    }
    table
}

/// What has a meaning in Markdown stands for itself.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '\\' | '|' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '#' | '~' | '&' | '$')
        {
            escaped.push('\\');
        }
        escaped.push(if c.is_control() { ' ' } else { c });
    }
    escaped
}

#[cfg(test)]
mod tests {
    use hardware_api::{Availability, Freshness, Pool};
    use http::{HeaderMap, HeaderValue, header};
    use proptest::prelude::*;

    use super::{COLUMNS, Format, cell, escaped, to_csv, to_markdown};

    fn pool(texts: [String; 7]) -> Pool {
        let [provider, name, region, zone, tier, unit, source] = texts;
        Pool {
            id: "5d41402abc4b2a76".to_owned(),
            provider,
            name,
            region,
            zone,
            tier,
            unit,
            units: 2,
            level: Availability::High,
            probability: Some(0.93),
            interval: None,
            interpolated: false,
            free: Some(3),
            total: None,
            can_fulfil_now: Some(true),
            most_at_high: Some(3),
            since: None,
            observed_at: None,
            age_s: None,
            freshness: Freshness::Fresh,
            source,
            reasons: Vec::new(),
            record: None,
        }
    }

    /// Names with what has a meaning in tables, and with anything else.
    fn name() -> impl Strategy<Value = String> {
        prop_oneof!["[-=+@,;|\"'\\\\\r\n\t a-z]{0,8}", ".{0,8}"]
    }

    fn pools() -> impl Strategy<Value = Vec<Pool>> {
        prop::collection::vec(prop::array::uniform7(name()).prop_map(pool), 0..5)
    }

    #[test]
    fn a_format_is_asked_for_by_word_or_by_accept() {
        let choose = |word, accept: &'static str| {
            let value = HeaderValue::from_static(accept);
            Format::choose(word, &HeaderMap::from_iter([(header::ACCEPT, value)])).ok()
        };
        assert_eq!(choose(None, "text/csv;q=0.9, */*"), Some(Format::Csv));
        assert_eq!(choose(None, "text/html,*/*"), Some(Format::Json));
        assert_eq!(choose(None, "text/csv;q=0, text/markdown"), Some(Format::Markdown));
        assert_eq!(choose(None, "image/png"), Some(Format::Json));
        assert_eq!(choose(Some("markdown"), "text/csv"), Some(Format::Markdown));
        assert_eq!(choose(Some("xml"), "text/csv"), None);
    }

    #[test]
    fn nothing_breaks_out_of_a_cell() {
        assert_eq!(escaped("a|b\n<i>`x`"), "a\\|b \\<i\\>\\`x\\`");
    }

    proptest! {
        #[test]
        fn no_accept_makes_the_choice_panic_or_fail(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let value = HeaderValue::from_bytes(&bytes);
            let headers = value.map(|value| HeaderMap::from_iter([(header::ACCEPT, value)]));
            prop_assert!(Format::choose(None, &headers.unwrap_or_default()).is_ok());
        }

        #[test]
        fn only_words_that_are_known_choose_a_format(word in "json|csv|markdown|.{0,10}") {
            let is_known = ["json", "csv", "markdown"].contains(&&*word);
            prop_assert_eq!(Format::choose(Some(&word), &HeaderMap::new()).is_ok(), is_known);
        }

        #[test]
        fn csv_reads_back_as_it_was_written(pools in pools()) {
            let csv = to_csv(&pools).expect("written");
            let mut reader = csv::Reader::from_reader(csv.as_slice());
            prop_assert_eq!(reader.headers().expect("names"), &COLUMNS[..]);
            let rows: Vec<csv::StringRecord> = reader.records().map(|row| row.expect("a row")).collect();
            prop_assert_eq!(rows.len(), pools.len());
            for (row, pool) in rows.iter().zip(&pools) {
                for (read, column) in row.iter().zip(COLUMNS) {
                    let written = cell(pool, column);
                    // No spreadsheet takes what it reads for a formula.
                    prop_assert!(!read.starts_with(['=', '+', '-', '@', '\t', '\r']), "{read:?}");
                    prop_assert!(read == written || read == format!("'{written}"), "{read:?}");
                }
            }
        }

        #[test]
        fn a_table_has_a_line_for_each_pool_and_as_many_cells_in_each(pools in pools()) {
            let table = to_markdown(&pools);
            prop_assert_eq!(table.matches('\n').count(), pools.len() + 2);
            for line in table.lines() {
                let plain = line.replace("\\\\", "").replace("\\|", "");
                prop_assert_eq!(plain.matches('|').count(), 10, "{}", line);
            }
        }
    }
}
