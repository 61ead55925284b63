//! What a server answers, byte for byte.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use reqwest::{
    Client,
    header::{CONTENT_ENCODING, CONTENT_LENGTH, DATE, HeaderMap, HeaderName},
};

/// "HTTP/1.1 200 OK", the line's end, and the empty line behind the headers.
const FIXED_BYTES: usize = 15 + 2 + 2;

/// Characters of a body that an error quotes.
const EXCERPT: usize = 120;

/// A successful answer without a content encoding, as wrk gets it.
pub(crate) struct Answer {
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    /// Requests `url`.
    pub(crate) async fn fetch(client: &Client, url: &str) -> Result<Self> {
        let response = client.get(url).send().await?;
        let status = response.status();
        ensure!(status == 200, "{url} answered {status}");
        let headers = response.headers().clone();
        ensure!(!headers.contains_key(CONTENT_ENCODING), "{url} compressed its answer unasked");
        let body = response.bytes().await.with_context(|| format!("failed to read {url}"))?;
        Ok(Self { headers, body: body.to_vec() })
    }

    pub(crate) fn body(&self) -> &[u8] {
        &self.body
    }

    /// Bytes that cross the network for it.
    pub(crate) fn wire_bytes(&self) -> u64 {
        let header = |(name, value): (&HeaderName, &reqwest::header::HeaderValue)| {
            name.as_str().len() + value.len() + ": \r\n".len()
        };
        let bytes = FIXED_BYTES + self.headers.iter().map(header).sum::<usize>() + self.body.len();
        bytes as u64
    }

    /// Writes what `bare_server` needs to give the same answer: a file of headers, without those
    /// that hyper adds itself, and the body.
    pub(crate) fn save(&self, folder: &Path) -> Result<[PathBuf; 2]> {
        let kept = self.headers.iter().filter(|(name, _)| ![CONTENT_LENGTH, DATE].contains(name));
        let lines: Vec<String> = kept
            .map(|(name, value)| Ok(format!("{name}: {}\n", value.to_str()?)))
            .collect::<Result<_>>()?;
        let [headers, body] = ["headers", "body"].map(|name| folder.join(name));
        fs::write(&headers, lines.concat())?;
        fs::write(&body, &self.body)?;
        Ok([headers, body])
    }

    /// Fails unless `other` is the same answer, possibly given at another time: the header `date`
    /// and what a page says in `<time>` may differ, though not in length.
    pub(crate) fn ensure_same_as(&self, other: &Self) -> Result<()> {
        let names = |answer: &Self| {
            let mut names: Vec<_> = answer.headers.keys().map(HeaderName::to_string).collect();
            names.sort();
            names.join(", ")
        };
        ensure!(names(self) == names(other), "headers differ: {} / {}", names(self), names(other));
        let [our_text, their_text] = [self, other].map(|answer| without_times(&answer.body));
        if our_text != their_text {
            let at = common_length(&our_text, &their_text);
            let [ours, theirs] = [&our_text, &their_text].map(|text| excerpt(text, at));
            bail!("bodies differ: …{ours}… / …{theirs}…");
        }
        let (ours, theirs) = (self.wire_bytes(), other.wire_bytes());
        ensure!(ours == theirs, "answers differ in length: {ours} / {theirs}");
        Ok(())
    }
}

/// A body whose `<time>` elements are empty.
fn without_times(body: &[u8]) -> String {
    let body = String::from_utf8_lossy(body);
    let mut parts = body.split("<time ");
    let before_the_first = parts.next().unwrap_or_default().to_owned();
    parts.fold(before_the_first, |text, part| match part.split_once("</time>") {
        Some((_, rest)) => text + "<time/>" + rest,
        None => text + "<time " + part,
    })
}

/// Where two texts begin to differ, counted in characters.
fn common_length(ours: &str, theirs: &str) -> usize {
    std::iter::zip(ours.chars(), theirs.chars()).take_while(|(our, their)| our == their).count()
}

/// What stands around the character at `at`.
fn excerpt(text: &str, at: usize) -> String {
    text.chars().skip(at.saturating_sub(EXCERPT / 2)).take(EXCERPT).collect()
}

#[cfg(test)]
mod tests {
    use reqwest::header::{HeaderMap, HeaderName};

    use super::Answer;

    fn answer(headers: &[(&'static str, &str)], body: &str) -> Answer {
        let parse = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), value.parse().unwrap())
        };
        let headers: HeaderMap = headers.iter().map(parse).collect();
        Answer { headers, body: body.as_bytes().to_vec() }
    }

    #[test]
    fn bytes_on_the_wire_are_those_of_the_whole_message() {
        let message = "HTTP/1.1 200 OK\r\nage: 0\r\ncontent-length: 4\r\n\r\nbody";
        let answer = answer(&[("age", "0"), ("content-length", "4")], "body");
        assert_eq!(answer.wire_bytes(), message.len() as u64);
    }

    #[test]
    fn what_hyper_adds_itself_is_not_saved() {
        let folder = tempfile::tempdir().unwrap();
        let answer =
            answer(&[("etag", "\"a\""), ("date", "today"), ("content-length", "4")], "body");
        let [headers, body] = answer.save(folder.path()).unwrap();
        assert_eq!(std::fs::read_to_string(headers).unwrap(), "etag: \"a\"\n");
        assert_eq!(std::fs::read(body).unwrap(), b"body");
    }

    #[test]
    fn answers_are_the_same_although_their_dates_differ() {
        let first = answer(&[("age", "0"), ("date", "10:00:00")], "body");
        first.ensure_same_as(&answer(&[("age", "1"), ("date", "10:00:01")], "body")).unwrap();
        for other in [
            answer(&[("age", "1"), ("date", "10:00:01")], "bodY"),
            answer(&[("age", "10"), ("date", "10:00:01")], "body"),
            answer(&[("date", "10:00:01")], "body"),
        ] {
            assert!(first.ensure_same_as(&other).is_err());
        }
    }

    #[test]
    fn a_page_is_the_same_a_minute_later_and_not_with_another_level() {
        let page = |minute, level| {
            let time = format!(r#"<time datetime="12:{minute}Z">12:{minute} UTC</time>"#);
            answer(&[], &format!("<p>c5: {level}</p><p>Last confirmed at {time}.</p>"))
        };
        page("09", "HIGH").ensure_same_as(&page("10", "HIGH")).unwrap();
        let error = page("09", "HIGH").ensure_same_as(&page("09", "LOW")).unwrap_err();
        assert!(error.to_string().contains("c5: HIGH</p>"), "{error}");
        assert!(error.to_string().contains("c5: LOW</p>"), "{error}");
        assert!(page("09", "HIGH").ensure_same_as(&page("9", "HIGH")).is_err());
        assert!(page("09", "HIGH").ensure_same_as(&answer(&[], "<p>c5: HIGH</p>")).is_err());
    }
}
