//! The list of OVHcloud, and the pools that follow from it. Pure.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    sources::places::bounded,
    statement::{Pool, Pools, Seen},
};

/// One configuration of a server.
#[derive(Debug, Deserialize)]
struct Configuration {
    server: String,
    datacenters: Vec<Delivery>,
}

/// When one datacenter delivers it.
#[derive(Debug, Deserialize)]
struct Delivery {
    datacenter: String,
    availability: String,
}

/// The servers that a list names, by datacenter, and what was wrong with single records. A server can be had if
/// some configuration of it can.
pub(super) fn read(
    body: &[u8],
    datacenters: &[String],
    servers: &[String],
) -> Result<(Pools, Vec<String>), String> {
    let records: Vec<&RawValue> = serde_json::from_slice(body)
        .map_err(|error| format!("the answer of OVHcloud is no list ({error}); check ovh.url"))?;
    if records.is_empty() {
        return Err("OVHcloud lists no server at all".to_owned());
    }
    let is_wanted = |wanted: &[String], name: &str| {
        wanted.is_empty() || wanted.iter().any(|it| it.eq_ignore_ascii_case(name))
    };
    let (mut pools, mut complaints) = (Pools::new(), Vec::new());
    let mut is_understood = false;
    for (index, record) in records.into_iter().enumerate() {
        let configuration: Configuration = match serde_json::from_str(record.get()) {
            Ok(configuration) => configuration,
            Err(error) => {
                complaints.push(format!("record {index} is not understood ({error})"));
                continue;
            }
        };
        let Configuration { server, datacenters: deliveries } = configuration;
        is_understood |=
            deliveries.iter().any(|delivery| is_available(&delivery.availability).is_some());
        if server.is_empty() || !is_wanted(servers, &server) {
            continue;
        }
        for Delivery { datacenter, availability } in deliveries {
            if !is_wanted(datacenters, &datacenter) {
                continue;
            }
            match is_available(&availability) {
                Some(is_available) => {
                    let seen = pools.entry(pool(&server, &datacenter));
                    let seen = seen.or_insert(Seen::Available(false));
                    if is_available {
                        *seen = Seen::Available(true);
                    }
                }
                None => complaints.push(format!(
                    "{server} in {datacenter} is {availability:?}, which is not known here"
                )),
            }
        }
    }
    // A list of another form says nothing, least of all that there is nothing.
    match complaints.first() {
        Some(first) if !is_understood => Err(format!("OVHcloud's list is not understood: {first}")),
        _ => Ok((pools, complaints)),
    }
}

/// Whether it comes within the hour for which levels are said. One that comes in a day is ordered today, and
/// cannot be had now.
fn is_available(availability: &str) -> Option<bool> {
    if let "unavailable" | "comingSoon" = availability {
        return Some(false);
    }
    let (hours, _) = availability.split_once('H')?;
    hours.parse::<u32>().ok().map(|hours| hours <= 1)
}

fn pool(server: &str, datacenter: &str) -> Pool {
    Pool {
        provider: "OVHcloud".to_owned(),
        name: bounded(server),
        region: (!datacenter.is_empty()).then(|| bounded(datacenter)),
        zone: None,
        tier: "dedicated".to_owned(),
        unit: "unit".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::read;

    fn configuration(fqn: &str, deliveries: &[(&str, &str)]) -> Value {
        let (server, _) = fqn.split_once('.').expect("a name with its parts");
        let delivery = |(datacenter, availability): &(&str, &str)| json!({"datacenter": datacenter, "availability": availability});
        json!({
            "fqn": fqn, "planCode": server, "server": server, "memory": "ram-32g-ecc-2400",
            "storage": "softraid-2x2000sa", "gpu": null,
            "datacenters": deliveries.iter().map(delivery).collect::<Vec<_>>(),
        })
    }

    fn list() -> Value {
        json!([
            configuration("24rise01.ram-32g.softraid-2x2000sa", &[
                ("gra", "unavailable"), ("rbx", "72H"), ("bhs", "1H-low"), ("fra", "unknown"),
            ]),
            {"fqn": "broken"},
            configuration("24rise01.ram-64g.softraid-2x2000sa", &[("gra", "1H-high"), ("rbx", "24H")]),
            configuration("24sk10.ram-16g.softraid-2x450nvme", &[("gra", "comingSoon")]),
        ])
    }

    fn lines(datacenters: &[&str], servers: &[&str]) -> (Vec<String>, Vec<String>) {
        let owned = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        let body = list().to_string();
        let (pools, complaints) =
            read(body.as_bytes(), &owned(datacenters), &owned(servers)).expect("a list");
        let line = |(pool, seen): (&crate::statement::Pool, &crate::statement::Seen)| {
            format!("{} {} {seen:?}", pool.name, pool.region.as_deref().unwrap_or_default())
        };
        (pools.iter().map(line).collect(), complaints)
    }

    #[test]
    fn a_server_can_be_had_where_some_configuration_comes_within_the_hour() {
        let (pools, complaints) = lines(&[], &[]);
        assert_eq!(
            pools,
            [
                "24rise01 bhs Available(true)",
                "24rise01 gra Available(true)",
                "24rise01 rbx Available(false)",
                "24sk10 gra Available(false)",
            ]
        );
        assert_eq!(
            complaints,
            [
                r#"24rise01 in fra is "unknown", which is not known here"#,
                "record 1 is not understood (missing field `server` at line 1 column 16)",
            ]
        );
    }

    #[test]
    fn only_what_was_chosen_is_reported() {
        assert_eq!(lines(&["GRA"], &["24sk10"]).0, ["24sk10 gra Available(false)"]);
        assert_eq!(lines(&["sgp"], &[]).0, [""; 0]);
    }

    #[test]
    fn what_is_no_list_of_servers_says_nothing() {
        for body in ["{}", "", "<html>", "[]"] {
            assert!(read(body.as_bytes(), &[], &[]).is_err(), "{body}");
        }
    }
}
