//! Texts with labels in them: `rack {rack}` is `rack 7` for a series with the label `rack="7"`.

use std::collections::BTreeMap;

/// A text with labels in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Label(String),
}

impl Template {
    /// Reads one, or says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let Some((label, after)) = after.split_once('}') else {
                return Err(format!("{text:?} has {{ without }}"));
            };
            let is_start = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
            let is_label = label.bytes().next().is_some_and(is_start)
                && label.bytes().all(|byte| is_start(byte) || byte.is_ascii_digit());
            if !is_label {
                return Err(format!(
                    "{text:?} names the label {label:?}, which is not one of Prometheus"
                ));
            }
            parts.push(Part::Text(before.to_owned()));
            parts.push(Part::Label(label.to_owned()));
            rest = after;
        }
        if rest.contains('}') {
            return Err(format!("{text:?} has }} without {{"));
        }
        parts.push(Part::Text(rest.to_owned()));
        Ok(Self(parts))
    }

    /// The text of a series with these labels, without space around it; or the first label that it lacks.
    pub(super) fn fill(&self, labels: &BTreeMap<String, String>) -> Result<String, &str> {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(part) => text.push_str(part),
                Part::Label(label) => text.push_str(labels.get(label).ok_or(label.as_str())?),
            }
        }
        Ok(text.trim().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::Template;

    #[test]
    fn labels_are_filled_in() {
        let labels = BTreeMap::from([
            ("partition".to_owned(), "gpu".to_owned()),
            ("rack_2".to_owned(), " 7 ".to_owned()),
        ]);
        for (text, expected) in [
            ("Lab", Ok("Lab")),
            ("{partition}", Ok("gpu")),
            ("{partition}/{rack_2}", Ok("gpu/ 7")),
            ("{partition} of {cluster}", Err("cluster")),
            ("", Ok("")),
        ] {
            let template = Template::parse(text).expect("a template");
            let filled = template.fill(&labels);
            assert_eq!(filled.as_deref().map_err(|label| *label), expected, "{text}");
        }
        for text in ["{", "}", "{}", "{a", "a}", "{a-b}", "{1}", "{{a}}", "{a}}"] {
            assert!(Template::parse(text).is_err(), "{text}");
        }
    }
}
