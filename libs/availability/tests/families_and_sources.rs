//! Many pools behind one row, and many sources behind one pool.

use availability::{
    Assessment, Level, Parameters, Reading, Reason, SourceKind, Timestamp, Wanted,
    canonical_provider, combine_sources, family_contains, summarize_family,
};

const NOON: Timestamp = Timestamp::from_millis(1_700_000_000_000);

fn saying(level: Level) -> Assessment {
    Assessment::published(level, Wanted::ONE, NOON, NOON, &Parameters::default())
}

fn reading(kind: SourceKind, level: Level) -> Reading {
    Reading { kind, assessment: saying(level) }
}

#[test]
fn aliases_name_one_provider() {
    for (names, canonical) in [
        (&["amazon", "AWS", " ec2 ", "Amazon"][..], "amazon"),
        (&["Azure", "microsoft"], "azure"),
        (&["google", "GCP", "gce"], "google"),
        (&["Hetzner"], "hetzner"),
    ] {
        for name in names {
            assert_eq!(canonical_provider(name), canonical, "{name:?}");
        }
    }
}

#[test]
fn family_contains_its_members_only() {
    let table = [
        ("Amazon", "c5", "c5.large", true),
        ("aws", "C5", "c5.24xlarge", true),
        ("ec2", "c5", "c5", true),
        ("Amazon", "c5", "c5a.large", false),
        ("Amazon", "c5", "c5n.large", false),
        ("Amazon", "c5", "mc5.large", false),
        ("Amazon", "c5.large", "c5.large", true),
        ("Amazon", "c5.large", "c5.xlarge", false),
        ("Amazon", "", "c5.large", false),
        ("Azure", "H16mr", "Standard_H16mr", true),
        ("Azure", "Standard_H16mr", "h16mr", true),
        ("Azure", "H16", "Standard_H16mr", false),
        ("Azure", "H16mr", "Basic_H16mr", false),
        ("gcp", "n2", "n2-standard-4", true),
        ("gcp", "n2", "n2d-standard-4", false),
        ("Hetzner", "cx22", "cx22", true),
        ("Hetzner", "cx", "cx-22", false),
    ];
    for (provider, family, member, expected) in table {
        let found = family_contains(provider, family, member);
        assert_eq!(found, expected, "{provider}: {member} in {family}");
    }
}

#[test]
fn family_has_the_level_of_its_best_member_and_counts_types_once() {
    let pools = [
        ("c5.large", saying(Level::Low)),
        ("c5.large", saying(Level::High)),
        ("c5.large", saying(Level::High)),
        ("c5.xlarge", saying(Level::Medium)),
        ("c5.metal", saying(Level::Unknown)),
    ];
    let summary = summarize_family(pools).unwrap();
    assert_eq!(summary.best.level, Level::High);
    assert_eq!((summary.high_types, summary.types), (1, 3));
    assert_eq!(summarize_family([]), None);
}

#[test]
fn best_kind_of_source_speaks_unless_it_knows_nothing() {
    use Level::{High, Low, Medium, Unknown};
    use SourceKind::{Boolean, Counts, ProviderLevel};
    let table = [
        (vec![(ProviderLevel, High), (Boolean, Medium), (Counts, Low)], 2, vec![0]),
        (vec![(Counts, Unknown), (Boolean, Medium), (ProviderLevel, Low)], 1, vec![]),
        (vec![(Counts, High), (ProviderLevel, Low), (Boolean, Low)], 0, vec![1, 2]),
        (vec![(Counts, High), (Boolean, Medium)], 0, vec![]),
        (vec![(ProviderLevel, Low), (ProviderLevel, High)], 0, vec![1]),
        (vec![(Boolean, Unknown), (Counts, Unknown)], 1, vec![]),
    ];
    for (sources, chosen, dissenting) in table {
        let readings: Vec<_> = sources.iter().map(|(kind, level)| reading(*kind, *level)).collect();
        let combined = combine_sources(&readings).unwrap();
        assert_eq!(combined.chosen, chosen, "{sources:?}");
        assert_eq!(combined.dissenting, dissenting, "{sources:?}");
        assert_eq!(combined.assessment.level, sources[chosen].1, "nothing is averaged");
        let disagree = combined.assessment.reasons.contains(Reason::SourcesDisagree);
        assert_eq!(disagree, !dissenting.is_empty(), "{sources:?}");
    }
    assert_eq!(combine_sources(&[]), None);
}

#[test]
fn sources_that_see_opposite_states_disagree_whatever_their_levels() {
    let seen = |free| Assessment { can_fulfil_now: Some(free), ..saying(Level::Medium) };
    let readings =
        [true, false].map(|free| Reading { kind: SourceKind::Boolean, assessment: seen(free) });
    assert_eq!(combine_sources(&readings).unwrap().dissenting, [1]);
}

#[test]
fn of_equal_sources_the_newest_speaks() {
    let older = reading(SourceKind::Counts, Level::Low);
    let mut newer = reading(SourceKind::Counts, Level::Medium);
    newer.assessment.observed_at = Some(Timestamp::from_millis(NOON.as_millis() + 1));
    assert_eq!(combine_sources(&[older, newer]).unwrap().chosen, 1);
    assert_eq!(combine_sources(&[newer, older]).unwrap().chosen, 0);
}

#[test]
fn published_level_ages_like_an_observation() {
    let parameters = Parameters::default();
    let table = [
        (0, Level::High, Level::High),
        (5, Level::High, Level::High),
        (6, Level::High, Level::Medium),
        (6, Level::Low, Level::Low),
        (30, Level::Low, Level::Low),
        (31, Level::Low, Level::Unknown),
    ];
    for (minutes, level, expected) in table {
        let now = Timestamp::from_millis(NOON.as_millis() + minutes * 60_000);
        let found = Assessment::published(level, Wanted::ONE, NOON, now, &parameters);
        assert_eq!(found.level, expected, "{level} after {minutes} min");
    }
}

#[test]
fn limit_lowers_a_level_and_says_why_but_never_raises_one() {
    let limited = |level| saying(level).limited_to(Level::Medium, Reason::NeverConfirmed);
    assert_eq!(limited(Level::High).level, Level::Medium);
    assert!(limited(Level::High).reasons.contains(Reason::NeverConfirmed));
    assert_eq!(limited(Level::Low), saying(Level::Low));
}
