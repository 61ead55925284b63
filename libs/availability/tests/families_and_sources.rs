//! Many pools behind one row, and many sources behind one pool.

use std::time::Duration;

use availability::{
    Assessment, CorrectionTable, ExpectedInterval, Level, Observation, PoolState, Reading, Reason,
    SourceKind, Timestamp, Wanted, canonical_name, canonical_provider, canonical_tier,
    combine_sources, family_contains, summarize_family,
};

const NOON: Timestamp = Timestamp::from_millis(1_700_000_000_000);

fn saying(level: Level) -> Assessment {
    Assessment::published(level, Wanted::ONE, NOON, NOON, ExpectedInterval::default())
}

fn reading(kind: SourceKind, level: Level) -> Reading<'static> {
    let interval = ExpectedInterval::default();
    Reading { kind, interval, source: "lab", assessment: saying(level) }
}

#[test]
fn aliases_name_one_provider() {
    for (names, canonical) in [
        (&["amazon", "AWS", " ec2 ", "Amazon", "Amazon Web Services"][..], "amazon"),
        (&["Azure", "microsoft", "Microsoft Azure"], "azure"),
        (&["google", "GCP", "gce", "Google Cloud"], "google"),
        (&["Hetzner"], "hetzner"),
    ] {
        for name in names {
            assert_eq!(canonical_provider(name), canonical, "{name:?}");
        }
    }
}

#[test]
fn other_spellings_are_the_same_name() {
    let composed = "caf\u{e9}";
    let decomposed = "Cafe\u{301} ";
    for (provider, one, other) in [
        ("Amazon", "c5.Large", " C5.LARGE"),
        ("Microsoft Azure", "Standard_H16mr", "h16mr"),
        ("lab", composed, decomposed),
    ] {
        assert_eq!(canonical_name(provider, one), canonical_name(provider, other), "{one:?}");
    }
    assert_ne!(canonical_name("lab", "Standard_H16mr"), canonical_name("lab", "H16mr"));
    for tier in ["on-demand", "On Demand", "on_demand"] {
        assert_eq!(canonical_tier(tier), "on_demand");
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
    let readings = [true, false].map(|free| Reading {
        assessment: seen(free),
        ..reading(SourceKind::Boolean, Level::Medium)
    });
    assert_eq!(combine_sources(&readings).unwrap().dissenting, [1]);
}

#[test]
fn of_equal_sources_the_one_with_the_shorter_interval_speaks_then_the_first_by_name() {
    let every = |seconds| ExpectedInterval::new(Duration::from_secs(seconds)).unwrap();
    let slow = Reading { interval: every(600), ..reading(SourceKind::Counts, Level::Low) };
    let quick = Reading { interval: every(60), ..reading(SourceKind::Counts, Level::High) };
    assert_eq!(combine_sources(&[slow, quick]).unwrap().chosen, 1);
    let other = Reading { source: "basement", ..quick };
    assert_eq!(combine_sources(&[quick, other]).unwrap().chosen, 1);
    let mut newer = quick;
    newer.assessment.observed_at = Some(Timestamp::from_millis(NOON.as_millis() + 1));
    assert_eq!(combine_sources(&[newer, other]).unwrap().chosen, 1, "they do not take turns");
}

#[test]
fn a_stale_source_never_speaks_before_a_fresh_one() {
    let later = Timestamp::from_millis(NOON.as_millis() + 20 * 60_000);
    let stale =
        Assessment::published(Level::High, Wanted::ONE, NOON, later, ExpectedInterval::default());
    let counts = Reading { assessment: stale, ..reading(SourceKind::Counts, Level::High) };
    let word = reading(SourceKind::ProviderLevel, Level::Low);
    let combined = combine_sources(&[counts, word]).unwrap();
    assert_eq!(
        (combined.chosen, combined.dissenting),
        (1, vec![]),
        "what is stale contradicts nobody"
    );
}

#[test]
fn published_level_ages_like_an_observation() {
    let table = [
        (0, Level::High, Level::High),
        (5, Level::High, Level::High),
        (6, Level::High, Level::Medium),
        (6, Level::Low, Level::Low),
        (60, Level::Low, Level::Low),
        (61, Level::Low, Level::Unknown),
    ];
    for (minutes, level, expected) in table {
        let now = Timestamp::from_millis(NOON.as_millis() + minutes * 60_000);
        let found =
            Assessment::published(level, Wanted::ONE, NOON, now, ExpectedInterval::default());
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

#[test]
fn what_is_withheld_keeps_what_was_seen_and_never_speaks_before_another() {
    let seen = Observation::counts(8, 6);
    let pool = PoolState::begin(NOON, seen, ExpectedInterval::default());
    let said = pool.assess(Wanted::ONE, NOON, &CorrectionTable::default());
    let withheld = said.withheld();
    assert_eq!(
        (withheld.level, withheld.estimate, withheld.can_fulfil_now),
        (Level::Unknown, None, None)
    );
    assert!(withheld.reasons.is_empty(), "{:?}", withheld.reasons);
    assert_eq!((withheld.free, withheld.observed_at), (seen.free(), Some(NOON)));

    let counts = Reading { assessment: withheld, ..reading(SourceKind::Counts, Level::High) };
    let readings = [counts, reading(SourceKind::ProviderLevel, Level::Low)];
    let combined = combine_sources(&readings).expect("two readings");
    assert_eq!((combined.chosen, combined.dissenting), (1, vec![]));
}
