//! What EC2 says of reservations and offerings, and the pools that follow. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::statement::{Pool, Pools, Seen};

/// One page of an answer. Both actions call their list by a name of their own.
#[derive(Debug, Deserialize)]
#[serde(bound = "T: Deserialize<'de>")]
pub(super) struct Page<T> {
    #[serde(rename = "capacityReservationSet", alias = "instanceTypeOfferingSet")]
    set: Option<Set<T>>,
    #[serde(rename = "nextToken")]
    next_token: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(bound = "T: Deserialize<'de>")]
struct Set<T> {
    #[serde(default = "Vec::new")]
    item: Vec<T>,
}

impl<T> Page<T> {
    /// Its records, and the token of the next page if there is one.
    pub(super) fn into_parts(self) -> (Vec<T>, Option<String>) {
        let records = self.set.map(|set| set.item).unwrap_or_default();
        (records, self.next_token.filter(|token| !token.is_empty()))
    }
}

/// A capacity reservation, as far as it is counted. Every field is text until it is used: one record that is
/// wrong must not keep the others from being read.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Reservation {
    capacity_reservation_id: String,
    instance_type: String,
    availability_zone: String,
    state: String,
    total_instance_count: String,
    available_instance_count: String,
}

/// That a type is offered in a zone.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Offering {
    instance_type: String,
    location: String,
}

/// Instances that are reserved, by type and zone, and what was wrong with single reservations.
pub(super) fn reserved(region: &str, reservations: &[Reservation]) -> (Pools, Vec<String>) {
    let (mut counts, mut complaints) = (BTreeMap::<Pool, (u32, u32)>::new(), Vec::new());
    for reservation in reservations.iter().filter(|it| it.state == "active") {
        match reservation.count() {
            Ok((total, in_use)) => {
                let Reservation { instance_type, availability_zone, .. } = reservation;
                let pool = pool(region, instance_type, availability_zone, "reserved");
                let sum = counts.entry(pool).or_default();
                *sum = (sum.0.saturating_add(total), sum.1.saturating_add(in_use));
            }
            Err(complaint) => complaints.push(complaint),
        }
    }
    let seen = |(pool, (total, in_use))| (pool, Seen::Counts { total, in_use });
    (counts.into_iter().map(seen).collect(), complaints)
}

impl Reservation {
    /// Its instances, and how many of them run.
    fn count(&self) -> Result<(u32, u32), String> {
        let id = &self.capacity_reservation_id;
        if self.instance_type.is_empty() || self.availability_zone.is_empty() {
            return Err(format!("the reservation {id:?} names no type or no zone"));
        }
        let number = |field: &str, text: &str| {
            text.parse::<u32>()
                .map_err(|_| format!("{field} of the reservation {id:?} is {text:?}, no count"))
        };
        let total = number("totalInstanceCount", &self.total_instance_count)?;
        let available = number("availableInstanceCount", &self.available_instance_count)?;
        Ok((total, total.saturating_sub(available)))
    }
}

/// The pools of `types` that cannot be had, as they are not offered: in each zone in which another one of them
/// is. That a type is offered does not say that it can be had, so that nothing follows from it.
pub(super) fn not_offered(region: &str, types: &[String], offerings: &[Offering]) -> Pools {
    let offered: BTreeSet<(&str, &str)> =
        offerings.iter().map(|it| (it.instance_type.as_str(), it.location.as_str())).collect();
    let zones: BTreeSet<&str> =
        offered.iter().map(|(_, zone)| *zone).filter(|zone| !zone.is_empty()).collect();
    let mut pools = Pools::new();
    for instance_type in types {
        for zone in zones.iter().filter(|zone| !offered.contains(&(instance_type, **zone))) {
            for tier in ["on-demand", "spot"] {
                pools.insert(pool(region, instance_type, zone, tier), Seen::Available(false));
            }
        }
    }
    pools
}

fn pool(region: &str, instance_type: &str, zone: &str, tier: &str) -> Pool {
    Pool {
        provider: "Amazon".to_owned(),
        name: instance_type.to_owned(),
        region: Some(region.to_owned()),
        zone: Some(zone.to_owned()),
        tier: tier.to_owned(),
        unit: "unit".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Offering, Page, Reservation, not_offered, reserved};
    use crate::statement::Pools;

    /// As the reference of the API has it, with a second item.
    const RESERVATIONS: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<DescribeCapacityReservationsResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">
    <requestId>1d7c9bc9-example</requestId>
    <capacityReservationSet>
        <item>
            <capacityReservationId>cr-1</capacityReservationId>
            <capacityReservationArn>arn:aws:ec2:eu-west-1:1:capacity-reservation/cr-1</capacityReservationArn>
            <availabilityZone>eu-west-1a</availabilityZone>
            <instanceType>p5.48xlarge</instanceType>
            <instancePlatform>Linux/UNIX</instancePlatform>
            <totalInstanceCount>8</totalInstanceCount>
            <availableInstanceCount>3</availableInstanceCount>
            <ebsOptimized>true</ebsOptimized>
            <state>active</state>
            <endDateType>unlimited</endDateType>
            <tagSet><item><key>team</key><value>a &amp; b</value></item></tagSet>
        </item>
        <item>
            <capacityReservationId>cr-2</capacityReservationId>
            <availabilityZone>eu-west-1a</availabilityZone>
            <instanceType>p5.48xlarge</instanceType>
            <totalInstanceCount>2</totalInstanceCount>
            <availableInstanceCount>0</availableInstanceCount>
            <state>active</state>
        </item>
        <item>
            <capacityReservationId>cr-3</capacityReservationId>
            <availabilityZone>eu-west-1b</availabilityZone>
            <instanceType>m5.large</instanceType>
            <totalInstanceCount>many</totalInstanceCount>
            <state>active</state>
        </item>
        <item>
            <capacityReservationId>cr-4</capacityReservationId>
            <availabilityZone>eu-west-1b</availabilityZone>
            <instanceType>m5.large</instanceType>
            <totalInstanceCount>4</totalInstanceCount>
            <availableInstanceCount>4</availableInstanceCount>
            <state>expired</state>
        </item>
        <item/>
    </capacityReservationSet>
    <nextToken>eyJ2IjoiMiJ9</nextToken>
</DescribeCapacityReservationsResponse>"#;

    const OFFERINGS: &str = r#"<DescribeInstanceTypeOfferingsResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">
    <instanceTypeOfferingSet>
        <item><instanceType>m5.large</instanceType><location>eu-west-1a</location>
            <locationType>availability-zone</locationType></item>
        <item><instanceType>m5.large</instanceType><location>eu-west-1b</location>
            <locationType>availability-zone</locationType></item>
        <item><instanceType>p5.48xlarge</instanceType><location>eu-west-1b</location>
            <locationType>availability-zone</locationType></item>
    </instanceTypeOfferingSet>
    <nextToken></nextToken>
</DescribeInstanceTypeOfferingsResponse>"#;

    fn lines(pools: &Pools) -> Vec<String> {
        let line = |(pool, seen): (&crate::statement::Pool, &crate::statement::Seen)| {
            let zone = pool.zone.as_deref().unwrap_or_default();
            format!("{} {zone} {} {seen:?}", pool.name, pool.tier)
        };
        pools.iter().map(line).collect()
    }

    #[test]
    fn active_reservations_of_a_type_in_a_zone_are_one_pool() {
        let page: Page<Reservation> = quick_xml::de::from_str(RESERVATIONS).expect("a page");
        let (records, next) = page.into_parts();
        assert_eq!((records.len(), next.as_deref()), (5, Some("eyJ2IjoiMiJ9")));
        let (pools, complaints) = reserved("eu-west-1", &records);
        assert_eq!(
            lines(&pools),
            ["p5.48xlarge eu-west-1a reserved Counts { total: 10, in_use: 7 }"]
        );
        assert_eq!(
            complaints,
            [r#"totalInstanceCount of the reservation "cr-3" is "many", no count"#]
        );
    }

    #[test]
    fn what_is_offered_elsewhere_only_cannot_be_had_and_what_is_offered_says_nothing() {
        let page: Page<Offering> = quick_xml::de::from_str(OFFERINGS).expect("a page");
        let (records, next) = page.into_parts();
        assert_eq!(next, None);
        let types = ["m5.large".to_owned(), "p5.48xlarge".to_owned()];
        assert_eq!(
            lines(&not_offered("eu-west-1", &types, &records)),
            [
                "p5.48xlarge eu-west-1a on-demand Available(false)",
                "p5.48xlarge eu-west-1a spot Available(false)",
            ]
        );
        assert!(not_offered("eu-west-1", &types, &[]).is_empty(), "no zone is known");
    }
}
