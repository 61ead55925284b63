//! Recorded availability in files: CSV or JSON, also compressed, one row an observation or a segment.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use availability::{
    ExpectedInterval, Observation, Segment, SourceKind, Timestamp, backtest::Recording,
};
use chrono::DateTime;
use flate2::bufread::MultiGzDecoder;
use serde::{Deserialize, Deserializer};

use crate::observation::{MAX_NAME, MAX_PLACE, PoolName};

/// The first bytes of what gzip wrote.
const GZIP_MAGIC: [u8; 2] = [0x1F, 0x8B];

/// Rows that are wrong and named one by one; of the others only the number is told.
const MAX_NAMED: usize = 20;

/// The name of the standard input.
const STDIN: &str = "-";

/// One row, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordedSegment {
    /// Which pool, as the file spells it.
    pub pool: PoolName,
    /// How often the source reported.
    pub interval: ExpectedInterval,
    /// What it said, and when.
    pub segment: Segment,
}

/// A file that cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// It cannot be opened or read.
    #[error("failed to read {}: {reason}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// Its first line does not name the columns.
    #[error(
        "failed to read {}: its first line lacks the column {column}; expected provider, name, \
         started_at and last_seen_at (or observed_at), and total and free (or in_use), or available",
        file.display()
    )]
    Header {
        /// The file.
        file: PathBuf,
        /// What is missing.
        column: &'static str,
    },
}

/// A row that is left out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}:{line}: {reason}", file.display())]
pub struct RowError {
    /// The file.
    pub file: PathBuf,
    /// Its line, counted from 1.
    pub line: u64,
    /// Which field, what was found and what is expected.
    pub reason: String,
}

/// What a file holds: good rows with their lines, in its order, and bad ones.
#[derive(Debug, Default)]
pub struct FileContents {
    /// The good rows.
    pub rows: Vec<(u64, RecordedSegment)>,
    /// The bad ones.
    pub errors: Vec<RowError>,
}

/// Reads a whole file, or the standard input for `-`. Rows that are wrong are left out and named.
pub fn read_file(file: &Path) -> Result<FileContents, RecordingError> {
    let failed = |reason| RecordingError::Read { file: file.to_owned(), reason };
    let raw: Box<dyn Read> = if file.as_os_str() == STDIN {
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(file).map_err(failed)?)
    };
    let mut raw = BufReader::new(raw);
    if raw.fill_buf().map_err(failed)?.starts_with(&GZIP_MAGIC) {
        parse_rows(file, BufReader::new(MultiGzDecoder::new(raw)))
    } else {
        parse_rows(file, raw)
    }
}

fn parse_rows(file: &Path, mut input: impl BufRead) -> Result<FileContents, RecordingError> {
    let failed = |reason| RecordingError::Read { file: file.to_owned(), reason };
    let start = input.fill_buf().map_err(failed)?;
    let first = start.iter().find(|byte| !byte.is_ascii_whitespace());
    if matches!(first, Some(b'{' | b'[')) {
        parse_json(file, input)
    } else {
        parse_csv(file, input)
    }
}

/// Names the first rows of a file that were left out, and says how many more there are.
pub fn report_errors(
    file: &Path,
    errors: &[RowError],
    messages: &mut impl Write,
) -> io::Result<()> {
    for error in errors.iter().take(MAX_NAMED) {
        writeln!(messages, "left out: {error}")?;
    }
    if let Some(more) = errors.len().checked_sub(MAX_NAMED).filter(|more| *more > 0) {
        writeln!(messages, "left out: {more} more rows of {}", file.display())?;
    }
    Ok(())
}

/// One JSON object a line, also within `[` … `]`.
fn parse_json(file: &Path, input: impl BufRead) -> Result<FileContents, RecordingError> {
    let mut contents = FileContents::default();
    for (line, text) in (1..).zip(input.lines()) {
        let text = text.map_err(|reason| RecordingError::Read { file: file.to_owned(), reason })?;
        let object = text.trim().trim_start_matches('[').trim_end_matches(']');
        let object = object.trim().trim_start_matches(',').trim_end_matches(',').trim();
        if object.is_empty() {
            continue;
        }
        let row = serde_json::from_str::<Row>(object).map_err(|error| error.to_string());
        contents.push(file, line, row.and_then(Row::check));
    }
    Ok(contents)
}

fn parse_csv(file: &Path, input: impl BufRead) -> Result<FileContents, RecordingError> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(input);
    let headers = reader
        .headers()
        .map_err(|error| RecordingError::Read { file: file.to_owned(), reason: error.into() })?
        .clone();
    let has = |column: &str| headers.iter().any(|header| header == column);
    let required = ["provider", "name"].into_iter().chain(if has("observed_at") {
        None
    } else {
        Some("started_at")
    });
    if let Some(column) = required.into_iter().find(|column| !has(column)) {
        return Err(RecordingError::Header { file: file.to_owned(), column });
    }
    let mut contents = FileContents::default();
    let mut record = csv::StringRecord::new();
    loop {
        let line = reader.position().line();
        match reader.read_record(&mut record) {
            Ok(false) => return Ok(contents),
            Ok(true) => {
                let line = record.position().map_or(line, csv::Position::line);
                let row = record.deserialize::<Row>(Some(&headers));
                let row = row.map_err(|error| describe(&error, &headers));
                contents.push(file, line, row.and_then(Row::check));
            }
            Err(error) => match error.into_kind() {
                csv::ErrorKind::Io(reason) => {
                    return Err(RecordingError::Read { file: file.to_owned(), reason });
                }
                csv::ErrorKind::UnequalLengths { pos, expected_len, len } => {
                    let line = pos.map_or(line, |position| position.line());
                    let reason = format!("expected {expected_len} fields, found {len}");
                    contents.push(file, line, Err(reason));
                }
                csv::ErrorKind::Utf8 { pos, err } => {
                    let line = pos.map_or(line, |position| position.line());
                    contents.push(file, line, Err(format!("expected UTF-8: {err}")));
                }
                other => contents.push(file, line, Err(format!("{other:?}"))),
            },
        }
    }
}

/// What the field and its value are, without the position, which stands before the reason.
fn describe(error: &csv::Error, headers: &csv::StringRecord) -> String {
    match error.kind() {
        csv::ErrorKind::Deserialize { err, .. } => {
            let field = err.field().and_then(|index| usize::try_from(index).ok());
            let name = field.and_then(|index| headers.get(index)).unwrap_or("the row");
            format!("{name}: {}", err.kind())
        }
        _ => error.to_string(),
    }
}

impl FileContents {
    fn push(&mut self, file: &Path, line: u64, row: Result<RecordedSegment, String>) {
        match row {
            Ok(row) => self.rows.push((line, row)),
            Err(reason) => {
                self.errors.push(RowError { file: file.to_owned(), line, reason });
            }
        }
    }
}

/// A row as it stands in a file. A segment has `started_at` and `last_seen_at`, an observation has
/// `observed_at`.
#[derive(Debug, Deserialize)]
struct Row {
    provider: String,
    name: String,
    #[serde(default)]
    region: Option<String>,
    #[serde(default)]
    zone: Option<String>,
    #[serde(default)]
    tier: Option<String>,
    #[serde(default)]
    unit: Option<String>,
    #[serde(default)]
    expected_interval_s: Option<f64>,
    #[serde(default)]
    started_at: Option<String>,
    #[serde(default)]
    last_seen_at: Option<String>,
    #[serde(default)]
    observed_at: Option<String>,
    #[serde(default)]
    total: Option<u32>,
    #[serde(default)]
    free: Option<u32>,
    #[serde(default)]
    in_use: Option<u32>,
    #[serde(default, deserialize_with = "yes_or_no")]
    available: Option<bool>,
}

/// `true`, `false`, `1` and `0`, with or without quotes.
fn yes_or_no<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Value {
        Bool(bool),
        Number(u8),
        Text(String),
    }
    match Option::<Value>::deserialize(deserializer)? {
        None => Ok(None),
        Some(Value::Bool(value)) => Ok(Some(value)),
        Some(Value::Number(number)) if number < 2 => Ok(Some(number == 1)),
        Some(Value::Text(text)) => match text.to_ascii_lowercase().as_str() {
            "" => Ok(None),
            "true" | "yes" | "1" => Ok(Some(true)),
            "false" | "no" | "0" => Ok(Some(false)),
            _ => Err(serde::de::Error::custom(format!("expected true or false, found {text:?}"))),
        },
        Some(Value::Number(number)) => {
            Err(serde::de::Error::custom(format!("expected true or false, found {number}")))
        }
    }
}

impl Row {
    fn check(self) -> Result<RecordedSegment, String> {
        let pool = self.pool()?;
        let interval = self.expected_interval_s.unwrap_or(60.0);
        let interval = Duration::try_from_secs_f64(interval)
            .ok()
            .and_then(|interval| ExpectedInterval::new(interval).ok())
            .ok_or_else(|| {
                format!("expected_interval_s: expected 1 to 86400 seconds, found {interval}")
            })?;
        let (started, last_seen) = match (&self.observed_at, &self.started_at) {
            (Some(at), _) if !at.is_empty() => {
                let at = parse_time("observed_at", at)?;
                (at, at)
            }
            (_, Some(started)) => {
                let last_seen = self.last_seen_at.as_ref().unwrap_or(started);
                (parse_time("started_at", started)?, parse_time("last_seen_at", last_seen)?)
            }
            _ => return Err("observed_at: expected a time, found nothing".to_owned()),
        };
        if last_seen < started {
            return Err("last_seen_at: expected a time that is not before started_at".to_owned());
        }
        let observation = self.observation()?;
        Ok(RecordedSegment { pool, interval, segment: Segment { started, last_seen, observation } })
    }

    /// The names, with the defaults and within the lengths of `POST /v1/observations`.
    fn pool(&self) -> Result<PoolName, String> {
        let text = |field: &str, text: Option<&str>, default: &str, longest: usize| {
            let text = text.map(str::trim).filter(|text| !text.is_empty()).unwrap_or(default);
            if text.chars().count() > longest || text.chars().any(char::is_control) {
                return Err(format!(
                    "{field}: expected at most {longest} characters, none of them a control character"
                ));
            }
            Ok(text.to_owned())
        };
        let required = |field: &str, value: &str| match text(field, Some(value), "", MAX_NAME)? {
            empty if empty.is_empty() => Err(format!("{field}: expected a text that is not empty")),
            name => Ok(name),
        };
        Ok(PoolName {
            provider: required("provider", &self.provider)?,
            name: required("name", &self.name)?,
            region: text("region", self.region.as_deref(), "", MAX_PLACE)?,
            zone: text("zone", self.zone.as_deref(), "", MAX_PLACE)?,
            tier: text("tier", self.tier.as_deref(), "on-demand", MAX_PLACE)?,
            unit: text("unit", self.unit.as_deref(), "unit", MAX_PLACE)?,
        })
    }

    fn observation(&self) -> Result<Observation, String> {
        if let Some(available) = self.available {
            return Ok(Observation::Available(available));
        }
        match (self.total, self.free, self.in_use) {
            (Some(total), Some(free), None) if free <= total => {
                Ok(Observation::counts(total, total - free))
            }
            (Some(total), Some(free), None) => {
                Err(format!("free: expected at most total, which is {total}, found {free}"))
            }
            (Some(total), None, Some(in_use)) => Ok(Observation::counts(total, in_use)),
            (Some(_), Some(_), Some(_)) => {
                Err("in_use: expected nothing here, as free is given".to_owned())
            }
            // Without a total, the source says yes or no.
            (None, Some(free @ 0..=1), None) => Ok(Observation::Available(free == 1)),
            (None, Some(free), None) => {
                Err(format!("free: expected 1 or 0, as total is empty, found {free}"))
            }
            _ => Err("total: expected total with free or in_use, or available".to_owned()),
        }
    }
}

fn parse_time(field: &str, text: &str) -> Result<Timestamp, String> {
    DateTime::parse_from_rfc3339(text)
        .map(|at| Timestamp::from_millis(at.timestamp_millis()))
        .map_err(|_| {
            format!("{field}: expected a time such as 2026-01-31T12:00:00Z, found {text:?}")
        })
}

/// Puts the rows of each pool in order of time. A row that overlaps another one of its pool is left out
/// and named. The pools have their canonical names.
pub fn into_recordings(
    file: &Path,
    rows: Vec<(u64, RecordedSegment)>,
    errors: &mut Vec<RowError>,
) -> BTreeMap<PoolName, Recording> {
    let mut by_pool: BTreeMap<PoolName, Vec<(u64, ExpectedInterval, Segment)>> = BTreeMap::new();
    for (line, RecordedSegment { pool, interval, segment }) in rows {
        by_pool.entry(pool.canonical()).or_default().push((line, interval, segment));
    }
    let recordings = by_pool.into_iter().map(|(pool, mut rows)| {
        rows.sort_by_key(|(line, _, segment)| (segment.started, *line));
        let interval = rows[0].1;
        let mut segments: Vec<Segment> = Vec::with_capacity(rows.len());
        for (line, _, segment) in rows {
            match segments.last() {
                Some(before) if segment.started <= before.last_seen => {
                    let reason = "the time overlaps that of another row of this pool".to_owned();
                    errors.push(RowError { file: file.to_owned(), line, reason });
                }
                _ => segments.push(segment),
            }
        }
        let counts = segments.iter().any(|segment| segment.observation.total().is_some());
        let kind = if counts { SourceKind::Counts } else { SourceKind::Boolean };
        (pool, Recording { kind, interval, segments })
    });
    recordings.collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use availability::{Observation, Timestamp};
    use proptest::prelude::*;

    use super::{FileContents, into_recordings, parse_rows};

    fn parse(text: &str) -> FileContents {
        parse_rows(Path::new("past.csv"), text.as_bytes()).expect("a header")
    }

    fn complaints(text: &str) -> Vec<String> {
        parse(text).errors.iter().map(ToString::to_string).collect()
    }

    const HEADER: &str = "provider,name,expected_interval_s,started_at,last_seen_at,total,free\n";

    #[test]
    fn segments_and_observations_are_read_from_csv_and_json() {
        let at = Timestamp::from_millis(1_767_225_600_000);
        let texts = [
            "provider,name,started_at,last_seen_at,total,free\n\
             AWS, c5 ,2026-01-01T00:00:00Z,2026-01-01T00:00:00Z,8,2\n",
            "name,provider,observed_at,total,in_use\nC5,Amazon,2026-01-01T01:00:00+01:00,8,6\n",
            "[{\"provider\":\"ec2\",\"name\":\"c5\",\"observed_at\":\"2026-01-01T00:00:00Z\",\
             \"total\":8,\"in_use\":6}\n]\n",
        ];
        for text in texts {
            let contents = parse(text);
            assert_eq!(contents.errors, [], "{text}");
            let (_, row) = &contents.rows[0];
            let pool = row.pool.canonical();
            assert_eq!((pool.provider.as_str(), pool.name.as_str()), ("amazon", "c5"));
            assert_eq!((row.segment.started, row.segment.last_seen), (at, at), "{text}");
            assert_eq!(row.segment.observation, Observation::counts(8, 6), "{text}");
        }
        let yes = "provider,name,observed_at,available\nlab,a100,2026-01-01T00:00:00Z,true\n";
        assert_eq!(parse(yes).rows[0].1.segment.observation, Observation::Available(true));
    }

    #[test]
    fn a_bad_row_is_named_by_its_line_and_keeps_no_other_out() {
        let text = format!(
            "{HEADER}lab,a,60,2026-01-01T00:00:00Z,2026-01-01T01:00:00Z,8,9\n\
             lab,a,60,2026-01-01T00:00:00Z,2026-01-01T01:00:00Z,8\n\
             lab,a,60,yesterday,2026-01-01T01:00:00Z,8,2\n\
             lab,a,0,2026-01-01T00:00:00Z,2026-01-01T01:00:00Z,8,2\n\
             lab,a,60,2026-01-01T00:00:00Z,2026-01-01T01:00:00Z,eight,2\n\
             lab,,60,2026-01-01T00:00:00Z,2026-01-01T01:00:00Z,8,2\n\
             lab,a,60,2026-01-01T00:00:00Z,2026-01-01T01:00:00Z,8,2\n"
        );
        assert_eq!(parse(&text).rows.len(), 1);
        assert_eq!(
            complaints(&text),
            [
                "past.csv:2: free: expected at most total, which is 8, found 9",
                "past.csv:3: expected 7 fields, found 6",
                "past.csv:4: started_at: expected a time such as 2026-01-31T12:00:00Z, found \
                 \"yesterday\"",
                "past.csv:5: expected_interval_s: expected 1 to 86400 seconds, found 0",
                "past.csv:6: total: invalid digit found in string",
                "past.csv:7: name: expected a text that is not empty",
            ]
        );
    }

    #[test]
    fn a_file_without_its_columns_is_refused() {
        let error =
            parse_rows(Path::new("past.csv"), "a,b\n1,2\n".as_bytes()).expect_err("refused");
        assert!(error.to_string().contains("lacks the column provider"), "{error}");
    }

    #[test]
    fn rows_of_a_pool_are_put_in_order_and_do_not_overlap() {
        let text = format!(
            "{HEADER}lab,a,60,2026-01-01T02:00:00Z,2026-01-01T03:00:00Z,8,1\n\
             lab,a,60,2026-01-01T00:00:00Z,2026-01-01T01:00:00Z,8,2\n\
             lab,a,60,2026-01-01T00:30:00Z,2026-01-01T01:30:00Z,8,3\n"
        );
        let mut errors = Vec::new();
        let recordings = into_recordings(Path::new("past.csv"), parse(&text).rows, &mut errors);
        let segments = &recordings.values().next().expect("a pool").segments;
        assert!(segments.is_sorted_by_key(|segment| segment.started));
        assert_eq!((segments.len(), errors.len(), errors[0].line), (2, 1, 4));
    }

    proptest! {
        #[test]
        fn no_file_makes_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            drop(parse_rows(Path::new("any"), bytes.as_slice()));
        }

        #[test]
        fn quoted_names_are_read_as_they_were_written(names in prop::collection::vec("[a-z\",;' é|=]{1,20}", 1..5)) {
            let mut writer = csv::Writer::from_writer(HEADER.as_bytes().to_vec());
            for name in &names {
                let times = ["2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z"];
                let row = ["lab", name, "60", times[0], times[1], "8", "2"];
                writer.write_record(row).expect("written");
            }
            let file = writer.into_inner().expect("written");
            let contents = parse_rows(Path::new("past.csv"), file.as_slice()).expect("a header");
            let read: Vec<&str> = contents.rows.iter().map(|(_, row)| &*row.pool.name).collect();
            let expected: Vec<&str> =
                names.iter().map(|name| name.trim()).filter(|name| !name.is_empty()).collect();
            prop_assert_eq!(read, expected);
        }

        #[test]
        fn no_row_makes_the_parser_panic(row in "[-a-z0-9TZ:,.\"\\[{}]{0,80}") {
            parse(&format!("{HEADER}{row}\n"));
        }
    }
}
