//! The gauge by which Karpenter's AWS provider says which offerings it takes for available, as the text
//! format of Prometheus has it.

use crate::{
    sources::places::{aws_region, bounded},
    statement::{Pool, Pools, Seen},
};

/// 1 for an offering that has not been refused within three minutes.
const GAUGE: &str = "karpenter_cloudprovider_instance_type_offering_available";

/// The pools that an exposition says something of, and what was wrong with single lines.
pub(super) fn parse(exposition: &str) -> (Pools, Vec<String>) {
    let (mut pools, mut complaints) = (Pools::new(), Vec::new());
    let lines = exposition.lines().filter_map(|line| line.strip_prefix(GAUGE));
    for line in lines.filter(|line| line.starts_with('{')) {
        match parse_sample(line) {
            Ok((pool, is_available)) => {
                let seen = pools.entry(pool).or_insert(Seen::Available(false));
                if is_available {
                    *seen = Seen::Available(true);
                }
            }
            Err(complaint) => complaints.push(complaint),
        }
    }
    (pools, complaints)
}

/// Labels in braces, a value, and perhaps a time.
fn parse_sample(sample: &str) -> Result<(Pool, bool), String> {
    let unreadable = || format!("a line of {GAUGE} is not in the text format of Prometheus");
    let (labels, rest) = parse_labels(&sample[1..]).ok_or_else(unreadable)?;
    let label = |name: &str| {
        let value = labels.iter().find(|(known, _)| known == name).map(|(_, value)| value.trim());
        let value = value.filter(|value| !value.is_empty());
        value.map(bounded).ok_or_else(|| format!("a series of {GAUGE} lacks the label {name}"))
    };
    let (name, zone) = (label("instance_type")?, label("zone")?);
    let value: Option<f64> = rest.split_whitespace().next().and_then(|value| value.parse().ok());
    let is_available = match value {
        Some(1.0) => true,
        Some(0.0) => false,
        _ => return Err(format!("{GAUGE} of {name} in {zone} is neither 1 nor 0")),
    };
    let pool = Pool {
        provider: "Amazon".to_owned(),
        name,
        region: aws_region(&zone).map(str::to_owned),
        zone: Some(zone),
        tier: label("capacity_type")?,
        unit: "unit".to_owned(),
    };
    Ok((pool, is_available))
}

type Labels = Vec<(String, String)>;

/// What is before the closing brace, and what is after it.
fn parse_labels(mut text: &str) -> Option<(Labels, &str)> {
    let mut labels = Vec::new();
    loop {
        text = text.trim_start_matches([' ', ',']);
        if let Some(rest) = text.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, rest) = text.split_once("=\"")?;
        let (value, rest) = parse_value(rest)?;
        labels.push((name.trim().to_owned(), value));
        text = rest;
    }
}

/// What is before the closing quote, without its escapes, and what is after it.
fn parse_value(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((place, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[place + 1..])),
            '\\' => value.push(match characters.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::parse;
    use crate::statement::Seen;

    /// As Karpenter 1.x writes it.
    const EXPOSITION: &str = r#"# HELP karpenter_cloudprovider_instance_type_offering_available Instance type offering availability, based on instance type, capacity type, and zone
# TYPE karpenter_cloudprovider_instance_type_offering_available gauge
karpenter_cloudprovider_instance_type_offering_available{capacity_type="on-demand",instance_type="c5.large",zone="us-west-2a"} 1
karpenter_cloudprovider_instance_type_offering_available{capacity_type="spot",instance_type="c5.large",zone="us-west-2a"} 0
karpenter_cloudprovider_instance_type_offering_available{capacity_type="spot",instance_type="c5.large",zone="us-west-2-lax-1a"} 1 1767225600000
# TYPE karpenter_cloudprovider_instance_type_offering_price_estimate gauge
karpenter_cloudprovider_instance_type_offering_price_estimate{capacity_type="spot",instance_type="c5.large",zone="us-west-2a"} 0.0331
karpenter_nodes_total_pod_requests{a="}",b="c"} 4
"#;

    fn lines(exposition: &str) -> (Vec<String>, Vec<String>) {
        let (pools, complaints) = parse(exposition);
        let line = |(pool, seen): (&crate::statement::Pool, &Seen)| {
            let place = [&pool.region, &pool.zone].map(|it| it.clone().unwrap_or_default());
            format!("{} {} {} {seen:?}", pool.name, place.join(" "), pool.tier)
        };
        (pools.iter().map(line).collect(), complaints)
    }

    #[test]
    fn each_offering_is_a_pool_that_can_be_had_or_not() {
        let (pools, complaints) = lines(EXPOSITION);
        assert_eq!(
            pools,
            [
                "c5.large us-west-2 us-west-2-lax-1a spot Available(true)",
                "c5.large us-west-2 us-west-2a on-demand Available(true)",
                "c5.large us-west-2 us-west-2a spot Available(false)",
            ]
        );
        assert_eq!(complaints, [""; 0]);
    }

    #[test]
    fn a_line_that_is_wrong_leaves_the_others_alone() {
        let gauge = super::GAUGE;
        let wrong = [
            format!(r#"{gauge}{{capacity_type="spot",zone="a"}} 1"#),
            format!(r#"{gauge}{{capacity_type="spot",instance_type="",zone="a"}} 1"#),
            format!(r#"{gauge}{{capacity_type="spot",instance_type="x",zone="a"}} NaN"#),
            format!(r#"{gauge}{{capacity_type="spot",instance_type="x",zone="a"}}"#),
            format!(r#"{gauge}{{capacity_type="spot",instance_type="x"#),
            format!(r#"{gauge}{{capacity_type="spot",instance_type="a\"b\\",zone="z-1a"}} 1"#),
        ];
        let (pools, complaints) = lines(&wrong.join("\n"));
        assert_eq!(pools, [r#"a"b\ z-1 z-1a spot Available(true)"#]);
        let lacks = format!("a series of {gauge} lacks the label instance_type");
        let neither = format!("{gauge} of x in a is neither 1 nor 0");
        let unreadable = format!("a line of {gauge} is not in the text format of Prometheus");
        assert_eq!(complaints, [&lacks, &lacks, &neither, &neither, &unreadable].map(Clone::clone));
    }
}
