use super::thresholds::*;
use super::*;

fn at(name: &str) -> Address {
    Address {
        tenant: "acme".into(),
        namespace: "jobs".into(),
        name: name.into(),
    }
}

fn issues(found: Vec<Finding>) -> (Vec<Issue>, usize) {
    told(&Since::default().look(found, 0), 0)
}

fn titles(found: Vec<Finding>) -> Vec<String> {
    issues(found)
        .0
        .into_iter()
        .map(|issue| issue.title)
        .collect()
}

#[test]
fn the_worst_comes_first_and_a_cause_before_what_it_causes() {
    let found = vec![
        Finding::Throttled { per_s: 9.0 },
        Finding::Fenced {
            what: What::Stream,
            address: at("mail"),
            partitions: 2,
            first: 1,
        },
        Finding::CoreBusy {
            core: 0,
            permille: 950,
        },
        Finding::LogFailed { log: 1 },
    ];
    assert_eq!(
        titles(found),
        [
            "Log 1 takes nothing more",
            "acme/jobs/mail has closed partitions",
            "Core 0 is busy",
            "Quotas refuse requests",
        ]
    );
}

#[test]
fn many_of_a_sort_are_told_by_some_of_them() {
    let dead = |dead| Finding::DeadLetters {
        address: at(&format!("q{dead}")),
        dead,
        growing: false,
    };
    let found: Vec<Finding> = (1..=40).map(dead).chain([Finding::NoLeader]).collect();
    let (issues, all) = issues(found);
    assert_eq!(all, 41);
    assert_eq!(issues.len(), 1 + ISSUES_OF_SORT_MAX + 1);
    assert_eq!(issues[1].title, "Dead letters in acme/jobs/q40");
    let last = issues.last().expect("eight");
    assert_eq!(last.detail, "34 more like these.");
    assert_eq!(last.place, Place::Queues);
}

#[test]
fn a_list_ends() {
    let found = (0..2_000)
        .map(|core| match core % 8 {
            0 => Finding::CoreBusy {
                core,
                permille: 950,
            },
            1 => Finding::Stalls { core, stalls: 9 },
            2 => Finding::LogFailed { log: core },
            3 => Finding::ReadOnly { log: core },
            4 => Finding::CoreSilent { core, for_ms: None },
            5 => Finding::BrokerDown {
                name: core.to_string(),
            },
            6 => Finding::MemberSilent {
                name: core.to_string(),
            },
            _ => Finding::BrokerDraining {
                name: core.to_string(),
            },
        })
        .collect();
    let (issues, all) = issues(found);
    assert_eq!((issues.len(), all), (ISSUES_MAX + 1, 2_000));
}

#[test]
fn an_issue_is_as_old_as_it_was_seen_without_a_break() {
    let mut since = Since::default();
    let mut look = |found: &[Finding], now| {
        let (issues, _) = told(&since.look(found.to_vec(), now), now);
        issues.first().map(|issue| issue.since_ms)
    };
    let busy = |permille| [Finding::CoreBusy { core: 1, permille }];
    assert_eq!(look(&busy(900), 10_000), Some(0));
    assert_eq!(
        look(&busy(980), 14_000),
        Some(4_000),
        "another number is no other issue"
    );
    assert_eq!(look(&[], 15_000), None);
    assert_eq!(look(&busy(980), 16_000), Some(0));
}

#[test]
fn a_tenant_is_told_of_its_own_resources_alone() {
    let own = of_dead(&at("a"), 1, None).expect("a dead letter");
    assert_eq!(own.tenant(), Some("acme"));
    for one in [Finding::NoLeader, Finding::LogFailed { log: 0 }] {
        assert_eq!(one.tenant(), None);
    }
}

#[test]
fn a_core_is_busy_when_it_is_so_for_long() {
    let mut seconds = vec![300; 5];
    seconds.extend([900; BUSY_SECONDS - 1]);
    assert_eq!(of_busy(0, &seconds), None);
    seconds.push(999);
    assert_eq!(
        of_busy(0, &seconds),
        Some(Finding::CoreBusy {
            core: 0,
            permille: 909
        })
    );
    seconds.push(0);
    assert_eq!(of_busy(0, &seconds), None);
    assert_eq!(of_busy(0, &[]), None);
}

#[test]
fn what_is_below_its_threshold_is_nothing() {
    let a = at("a");
    assert_eq!(of_silence(0, Some(SILENT_MS - 1)), None);
    assert_eq!(of_stalls(0, STALLS_MINUTE - 1), None);
    assert_eq!(of_disk(1_000, 151), None);
    assert_eq!(of_disk(0, 0), None);
    assert_eq!(of_certificate(CERTIFICATE_MS + 2, 1), None);
    assert_eq!(of_dead(&a, 0, Some(0)), None);
    assert_eq!(of_oldest(&a, OLDEST_MS - 1, 9), None);
    assert_eq!(of_oldest(&a, OLDEST_MS, 0), None, "nobody could take it");
    assert_eq!(of_lag(&a, LAG_RECORDS - 1, 0.0), None);
    assert_eq!(of_lag(&a, 1_000_000, 200_000.0), None, "it is 5 s behind");
    assert_eq!(of_member("b", true, MEMBER_LAG - 1), None);
    assert_eq!(of_throttling(0.9), None);
}

#[test]
fn what_is_above_it_has_the_level_of_how_far() {
    let level = |found: Option<Finding>| found.map(|one| one.level());
    let a = at("a");
    assert_eq!(level(of_silence(0, Some(SILENT_MS))), Some(Level::Warn));
    assert_eq!(level(of_silence(0, Some(SILENT_BAD_MS))), Some(Level::Bad));
    assert_eq!(level(of_silence(0, None)), Some(Level::Bad));
    assert_eq!(level(of_disk(1_000, 150)), Some(Level::Warn));
    assert_eq!(level(of_disk(1_000, 50)), Some(Level::Bad));
    assert_eq!(level(of_certificate(CERTIFICATE_MS, 0)), Some(Level::Warn));
    assert_eq!(level(of_certificate(5, 9)), Some(Level::Bad));
    assert_eq!(level(of_dead(&a, 7, None)), Some(Level::Info));
    assert_eq!(level(of_dead(&a, 7, Some(GROWING_MS))), Some(Level::Info));
    assert_eq!(level(of_dead(&a, 7, Some(0))), Some(Level::Warn));
    assert_eq!(level(of_oldest(&a, OLDEST_BAD_MS, 1)), Some(Level::Bad));
    assert_eq!(level(of_lag(&a, LAG_RECORDS, 10.0)), Some(Level::Warn));
    assert_eq!(level(of_member("b", false, 0)), Some(Level::Warn));
    assert_eq!(level(of_throttling(1.0)), Some(Level::Info));
}

#[test]
fn titles_stay_while_numbers_change() {
    let pairs = [
        (of_silence(1, Some(4_000)), of_silence(1, Some(5_000))),
        (of_disk(1_000, 150), of_disk(1_000, 10)),
        (of_dead(&at("a"), 1, None), of_dead(&at("a"), 9, Some(1))),
        (
            of_oldest(&at("a"), 70_000, 1),
            of_oldest(&at("a"), 80_000, 2),
        ),
        (of_lag(&at("a"), 10_000, 1.0), of_lag(&at("a"), 20_000, 1.0)),
        (of_stalls(1, 5), of_stalls(1, 6)),
    ];
    for (before, after) in pairs {
        let title = |found: Option<Finding>| found.map(|one| one.issue().title);
        assert!(before.is_some());
        assert_eq!(title(before), title(after));
    }
}
