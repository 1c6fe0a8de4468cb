//! Each number of a node is told under its own name: every fact that families are made of
//! has a number that no other has, and the table says by hand which series that is.

#![allow(clippy::unwrap_used)]

use core::time::Duration;
use std::collections::BTreeSet;

use pinion_commitlog::{LogId, LogState, LogStats};
use pinion_node::TimedOp;
use pinion_node::facts::{CoreFacts, DiskFacts, Latency, LogFacts};
use pinion_node::views::{
    CacheStats, PartitionDetail, PartitionFacts, QueueFacts, Standing, StreamFacts,
};
use pinion_plane::{PeerName, PlanePeer, PlaneStatus};
use pinion_raft_group::{MemberId, Role, Status};
use pinion_types::{CoreId, ErrorCode, Offset, PartitionId, ResourceId, WallMs};

use super::catalogue::CATALOGUE;
use super::family::{Def, Kind};
use super::text::{Format, render};
use super::{Gathered, HostFacts, Named, ProcessFacts, Resources, families};
use crate::observer::Snapshot;

/// Every series of the node of [`told`] but those of histograms below their count and sum,
/// in the order in which they are told.
const EXPECTED: &str = r#"
pinion_build_info{version="VERSION",node="n1"} 1
pinion_uptime_seconds 90
pinion_ready 1
process_cpu_seconds_total 3
process_resident_memory_bytes 11
process_virtual_memory_bytes 12
process_threads 13
process_open_fds 14
process_max_fds 15
process_start_time_seconds 7
pinion_cpu_throttled_periods_total 16
pinion_storage_free_bytes 17
pinion_storage_size_bytes 18
pinion_facts_age_seconds 4
pinion_facts_gathering_seconds 0
pinion_cores 1
pinion_core_silent_seconds{core="0"} 0.5
pinion_core_busy_seconds_total{core="control"} 2.5
pinion_core_busy_seconds_total{core="0"} 1.5
pinion_core_turns_total{core="0"} 101
pinion_core_stalls_total{core="0",phase="receive"} 102
pinion_core_stalls_total{core="0",phase="mail"} 103
pinion_core_stalls_total{core="0",phase="disk"} 104
pinion_core_stalls_total{core="0",phase="drive"} 105
pinion_core_stall_max_seconds{core="0"} 0.25
pinion_core_sleeps_total{core="0"} 106
pinion_core_mails_total{core="0"} 107
pinion_core_mailbox_depth{core="0"} 217
pinion_core_mailbox_bytes{core="0"} 110
pinion_core_mail_waits_total{core="0"} 111
pinion_core_held_bytes{core="0"} 112
pinion_core_connections{core="0"} 113
pinion_datagrams_received_total{core="0"} 114
pinion_datagrams_dropped_total{core="0"} 115
pinion_transmits_total{core="0",outcome="sent"} 116
pinion_transmits_total{core="0",outcome="blocked"} 117
pinion_transmits_total{core="0",outcome="failed"} 118
pinion_connections 201
pinion_handshakes 202
pinion_handshakes_accepted_total 203
pinion_handshakes_refused_total{reason="draining"} 204
pinion_handshakes_refused_total{reason="full"} 205
pinion_handshakes_refused_total{reason="prefix"} 206
pinion_handshakes_refused_total{reason="unanswered"} 207
pinion_handshakes_failed_total{reason="failed"} 208
pinion_handshakes_failed_total{reason="timed_out"} 209
pinion_quic_retries_total 210
pinion_quic_stray_total{core="0"} 211
pinion_quic_stray_dropped_total{core="0"} 212
pinion_quic_unknown_datagrams_total 213
pinion_sessions_accepted_total 301
pinion_unauthenticated_total 302
pinion_protocol_errors_total 303
pinion_requests_total{op="hello"} 304
pinion_refusals_total{code="busy"} 305
pinion_wrong_shard_total 306
pinion_message_latency_seconds_sum{op="other"} 0
pinion_message_latency_seconds_count{op="other"} 0
pinion_message_latency_seconds_sum{op="publish"} 0.375
pinion_message_latency_seconds_count{op="publish"} 307
pinion_message_latency_seconds_sum{op="fetch"} 0
pinion_message_latency_seconds_count{op="fetch"} 0
pinion_message_latency_seconds_sum{op="queue_put"} 0
pinion_message_latency_seconds_count{op="queue_put"} 0
pinion_message_latency_seconds_sum{op="queue_take"} 0
pinion_message_latency_seconds_count{op="queue_take"} 0
pinion_message_latency_seconds_sum{op="queue_settle"} 0
pinion_message_latency_seconds_count{op="queue_settle"} 0
pinion_message_latency_seconds_sum{op="cache_read"} 0
pinion_message_latency_seconds_count{op="cache_read"} 0
pinion_message_latency_seconds_sum{op="cache_write"} 0
pinion_message_latency_seconds_count{op="cache_write"} 0
pinion_messages_received_total 617
pinion_messages_sent_total 621
pinion_delivered_bytes_total 312
pinion_disk_write_latency_seconds_sum 0.125
pinion_disk_write_latency_seconds_count 401
pinion_disk_written_bytes_total{core="0"} 402
pinion_disk_reads_total{core="0"} 403
pinion_disk_read_bytes_total{core="0"} 404
pinion_disk_flushes_total{core="0"} 405
pinion_disk_errors_total{core="0"} 406
pinion_log_group_records_sum 408
pinion_log_group_records_count 407
pinion_log_appended_records_total{log="5"} 409
pinion_log_appended_bytes_total{log="5"} 410
pinion_log_pending_bytes{log="5"} 411
pinion_log_reads_pending{log="5"} 412
pinion_log_segments{log="5"} 413
pinion_log_disk_bytes{log="5"} 414
pinion_log_removed_segments_total{log="5"} 415
pinion_log_carried_records_total{log="5"} 416
pinion_log_checkpoints_total{log="5"} 417
pinion_log_read_only{log="5"} 1
pinion_log_failed{log="5"} 0
pinion_damage_found_total 418
pinion_partitions_fenced 1
pinion_partitions_barred 419
pinion_resources{kind="stream"} 1
pinion_resources{kind="queue"} 1
pinion_resources{kind="cache"} 1
pinion_partitions{kind="stream"} 1
pinion_partitions{kind="queue"} 1
pinion_partitions{kind="cache"} 1
pinion_records{kind="stream"} 501
pinion_records{kind="queue"} 601
pinion_records{kind="cache"} 701
pinion_memory_bytes{kind="stream"} 502
pinion_memory_bytes{kind="queue"} 602
pinion_memory_bytes{kind="cache"} 702
pinion_durable_bytes{kind="stream"} 503
pinion_durable_bytes{kind="queue"} 603
pinion_durable_bytes{kind="cache"} 703
pinion_subscriptions{kind="stream"} 504
pinion_subscriptions{kind="queue"} 604
pinion_subscriptions{kind="cache"} 704
pinion_stream_lag_records_max 505
pinion_stream_append_sessions 506
pinion_queue_messages{state="ready"} 605
pinion_queue_messages{state="delayed"} 606
pinion_queue_messages{state="in_flight"} 607
pinion_queue_messages{state="blocked"} 608
pinion_queue_messages{state="dead"} 609
pinion_queue_oldest_age_seconds 0.75
pinion_queue_delivered_total 610
pinion_queue_redelivered_total 611
pinion_queue_acked_total 612
pinion_queue_nacked_total 613
pinion_queue_lapsed_total 614
pinion_queue_dead_letters_total 615
pinion_cache_budget_bytes 705
pinion_cache_hits_total 706
pinion_cache_misses_total 707
pinion_cache_evictions_total 708
pinion_cache_expirations_total 709
pinion_resources_left_out 0
pinion_resource_records{CACHE} 701
pinion_resource_records{QUEUE} 601
pinion_resource_records{STREAM} 501
pinion_resource_memory_bytes{CACHE} 702
pinion_resource_memory_bytes{QUEUE} 602
pinion_resource_memory_bytes{STREAM} 502
pinion_resource_durable_bytes{CACHE} 703
pinion_resource_durable_bytes{QUEUE} 603
pinion_resource_durable_bytes{STREAM} 503
pinion_resource_subscriptions{CACHE} 704
pinion_resource_subscriptions{QUEUE} 604
pinion_resource_subscriptions{STREAM} 504
pinion_resource_messages_received_total{CACHE} 710
pinion_resource_messages_received_total{QUEUE} 616
pinion_resource_messages_received_total{STREAM} 507
pinion_resource_messages_sent_total{CACHE} 706
pinion_resource_messages_sent_total{QUEUE} 610
pinion_resource_messages_sent_total{STREAM} 508
pinion_resource_lag_records_max{STREAM} 505
pinion_resource_queue_ready{QUEUE} 605
pinion_resource_queue_in_flight{QUEUE} 607
pinion_resource_queue_dead{QUEUE} 609
pinion_resource_queue_oldest_age_seconds{QUEUE} 0.75
pinion_resource_cache_hit_ratio{CACHE} 0.4996461429582449
pinion_raft_role{role="leader"} 1
pinion_raft_role{role="follower"} 0
pinion_raft_role{role="candidate"} 0
pinion_raft_role{role="pre_candidate"} 0
pinion_raft_has_leader 1
pinion_raft_term 801
pinion_raft_commit_index 802
pinion_raft_applied_index 803
pinion_raft_last_index 804
pinion_raft_snapshot_index 805
pinion_raft_flush_seconds 0.0625
pinion_raft_commit_seconds 0.125
pinion_raft_proposals 806
pinion_raft_members{kind="voter"} 2
pinion_raft_members{kind="learner"} 3
pinion_raft_peer_lag_entries{peer="2"} 807
pinion_raft_peer_active{peer="2"} 1
pinion_metadata_version 808
pinion_plane_requests 809
pinion_plane_watchers 810
"#;

/// Families of two moments, which one moment has nothing to say of; `cores.rs` tests what
/// they are made with.
const BETWEEN: [&str; 2] = ["pinion_core_busy_skew_ratio", "pinion_wrong_shard_ratio"];

fn latency(count: u64, sum: Duration) -> Latency {
    let mut latency = Latency {
        count,
        sum,
        ..Latency::default()
    };
    latency.buckets[3] = count;
    latency
}

fn core() -> CoreFacts {
    let mut core = CoreFacts {
        core: CoreId(0),
        connections: 113,
        held_bytes: 112,
        barred: 419,
        mails_waiting: 108,
        control_waiting: 109,
        mail_bytes: 110,
        ..CoreFacts::default()
    };
    let turns = &mut core.pump.turns;
    turns.busy = Duration::from_millis(1_500);
    turns.turns_busy = 101;
    turns.stalls = [102, 103, 104, 105];
    turns.stall_max = Duration::from_millis(250);
    turns.parks = 106;
    turns.mails_received = 107;
    turns.datagrams_received = 114;
    turns.datagrams_dropped = Some(115);
    turns.transmits_sent = 116;
    turns.transmits_blocked = 117;
    turns.transmits_failed = 118;
    // What no family is made of, so that it cannot stand in for what one is.
    (turns.naps, turns.receive_errors) = (9_001, 9_002);
    let quic = &mut core.pump.quic;
    quic.connections = 201;
    quic.handshakes = 202;
    quic.accepted = 203;
    quic.refused_draining = 204;
    quic.refused_full = 205;
    quic.refused_prefix = 206;
    quic.ignored_handshakes = 207;
    quic.handshakes_failed = 208;
    quic.handshakes_timed_out = 209;
    quic.retries_sent = 210;
    quic.strays = 211;
    quic.strays_dropped = 212;
    quic.datagrams_unknown = 213;
    quic.strays_waiting = 9_003;
    let stats = &mut core.stats;
    stats.mail_waits = 111;
    stats.sessions = 301;
    stats.unauthenticated = 302;
    stats.protocol_errors = 303;
    stats.wrong_shard = 306;
    (stats.published, stats.enqueued) = (308, 309);
    (stats.delivered, stats.taken) = (310, 311);
    stats.delivered_bytes = 312;
    stats.damage_found = 418;
    (stats.requests, stats.refused, stats.signatures) = (9_004, 9_005, 9_006);
    stats.logs_failed = 9_007;
    let hello = pinion_node::stats::Tally::default();
    core.tally = Box::new(hello);
    core.tally.requests[1] = 304;
    core.tally.refusals[usize::from(ErrorCode::Busy as u16)] = 305;
    core.pump.requests[TimedOp::Publish.index()] = latency(307, Duration::from_millis(375));
    core.pump.disk = Some(Box::new(DiskFacts {
        write: latency(401, Duration::from_millis(125)),
        written_bytes: 402,
        reads: 403,
        read_bytes: 404,
        flushes: 405,
        errors: 406,
    }));
    let mut log = LogStats {
        committed_records: 408,
        records: 409,
        bytes: 410,
        pending_bytes: 411,
        reads_pending: 412,
        segments: 413,
        disk_bytes: 414,
        removed: 415,
        carried: 416,
        checkpoints: 417,
        state: LogState::ReadOnly,
        writes: 9_008,
        groups: 9_009,
        reads: 9_010,
        read_bytes: 9_011,
        ..LogStats::default()
    };
    log.groups_by_records[2] = 407;
    core.logs = vec![LogFacts {
        log: LogId(5),
        stats: log,
    }];
    core
}

fn partition(
    resource: u64,
    bytes: u64,
    durable_bytes: u64,
    detail: PartitionDetail,
) -> PartitionFacts {
    PartitionFacts {
        core: CoreId(0),
        resource: ResourceId(resource),
        partition: PartitionId(0),
        log: None,
        standing: Standing::Served,
        fenced: resource == 1,
        read_only: false,
        bytes,
        durable_bytes,
        detail,
    }
}

fn partitions() -> Vec<PartitionFacts> {
    let stream = StreamFacts {
        first: Offset(1_000),
        end: Offset(1_501),
        appended_end: Offset(9_012),
        records_in: 507,
        records_out: 508,
        bytes_out: 9_013,
        subscriptions: 504,
        lag_max: 505,
        append_sessions: 506,
        producers: 9_014,
    };
    let mut queue = QueueFacts {
        messages_in: 616,
        ..QueueFacts::default()
    };
    queue.counts.messages = 601;
    let groups = &mut queue.groups;
    groups.demands = 604;
    groups.ready = 605;
    groups.delayed = 606;
    groups.in_flight = 607;
    groups.blocked = 608;
    groups.dead = 609;
    groups.oldest = Some(WallMs(9_250));
    groups.counters.delivered = 610;
    groups.counters.redelivered = 611;
    groups.counters.acked = 612;
    groups.counters.nacked = 613;
    groups.counters.lapsed = 614;
    groups.counters.dead = 615;
    let cache = CacheStats {
        entries: 701,
        watches: 704,
        budget: 705,
        hits: 706,
        misses: 707,
        evictions: 708,
        expirations: 709,
        changes: 710,
        ..CacheStats::default()
    };
    vec![
        partition(1, 502, 503, PartitionDetail::Stream(stream)),
        partition(2, 602, 603, PartitionDetail::Queue(queue)),
        partition(3, 702, 703, PartitionDetail::Cache(cache)),
    ]
}

fn plane() -> PlaneStatus {
    let member = MemberId;
    let group = Status {
        id: Some(member(1)),
        role: Role::Leader,
        leader: Some(member(1)),
        term: 801,
        vote: (9_015, None),
        commit: 802,
        applied: 803,
        first: 9_016,
        last: 804,
        snapshot: 805,
        entries_bytes: 9_017,
        proposals: 806,
        voters: vec![member(1), member(2)],
        learners: vec![member(3), member(4), member(5)],
        flush: Some(Duration::from_micros(62_500)),
        peers: Vec::new(),
    };
    PlaneStatus {
        node: PeerName::new("n1").unwrap(),
        broker: None,
        leader: None,
        peers: vec![PlanePeer {
            name: None,
            member: member(2),
            voter: true,
            matched: 9_018,
            lag: 807,
            active: true,
        }],
        heard: Vec::new(),
        group,
        version: pinion_metadata::MetaVersion(808),
        ready: true,
        commit: Some(Duration::from_millis(125)),
        requests: 809,
        watchers: 810,
    }
}

/// Such a node.
fn snapshot() -> Snapshot {
    let mut snapshot = Snapshot::of_test(&partitions());
    snapshot.taken_at = WallMs(10_000);
    snapshot.cores = vec![core()].into();
    snapshot
}

/// What a node tells, as lines.
fn told(snapshot: &Snapshot) -> Vec<String> {
    let named = |name: &str| Named {
        tenant: "acme".into(),
        namespace: "pay".into(),
        name: name.into(),
    };
    let names = [(1, "orders"), (2, "jobs"), (3, "hot")];
    let names = names.map(|(id, name)| (ResourceId(id), named(name)));
    let plane = plane();
    let all = families(&Gathered {
        node: "n1",
        now: WallMs(14_000),
        began: WallMs(7_000),
        uptime: Duration::from_secs(90),
        ready: true,
        process: ProcessFacts {
            resident_bytes: Some(11),
            virtual_bytes: Some(12),
            threads: Some(13),
            cpu: Some(Duration::from_secs(3)),
            open_files: Some(14),
            files_max: Some(15),
        },
        host: HostFacts {
            space: Some((17, 18)),
            throttled: Some(16),
        },
        snapshot,
        silent: &[Duration::from_millis(500)],
        control_busy: Some(Duration::from_millis(2_500)),
        resources: &Resources::of(snapshot, 10),
        names: &names.into(),
        plane: Some(&plane),
    });
    let lines = render(&all, Format::Prometheus);
    let lines = lines
        .lines()
        .filter(|line| !line.starts_with('#') && !line.contains("_bucket"));
    // Whole numbers of seconds are told with a nought behind.
    let whole = |line: &str| line.strip_suffix(".0").unwrap_or(line).to_owned();
    lines.map(whole).collect()
}

#[test]
fn every_number_is_told_under_its_own_name() {
    let labels = |kind: &str, name: &str| {
        format!(r#"kind="{kind}",tenant="acme",namespace="pay",name="{name}""#)
    };
    let expected = EXPECTED
        .trim()
        .replace("VERSION", env!("CARGO_PKG_VERSION"))
        .replace("STREAM", &labels("stream", "orders"))
        .replace("QUEUE", &labels("queue", "jobs"))
        .replace("CACHE", &labels("cache", "hot"));
    let expected: Vec<&str> = expected.lines().collect();
    let told = told(&snapshot());
    let told: Vec<&str> = told.iter().map(String::as_str).collect();
    let wrong: Vec<&&str> = told
        .iter()
        .filter(|line| !expected.contains(line))
        .collect();
    assert!(wrong.is_empty(), "{} are wrong: {wrong:#?}", wrong.len());
    assert_eq!(told, expected, "each once, in their order");
}

#[test]
fn no_family_is_left_out_of_the_table() {
    let named: BTreeSet<&str> = EXPECTED
        .trim()
        .lines()
        .map(|line| line.split(['{', ' ']).next().unwrap())
        .collect();
    for def in CATALOGUE {
        let there = ["", "_sum"]
            .iter()
            .any(|part| named.contains(format!("{}{part}", def.name).as_str()));
        assert_eq!(there, !BETWEEN.contains(&def.name), "{}", def.name);
    }
}

#[test]
fn a_silent_core_and_what_is_gone_take_nothing_from_any_total() {
    let counts = |line: &str| {
        let name = line.split(['{', ' ']).next().unwrap();
        let is = |def: &&&Def| {
            let ends = ["", "_sum", "_count"];
            ends.iter().any(|end| name == format!("{}{end}", def.name))
        };
        let def = CATALOGUE.iter().find(is).unwrap();
        // A series of one core, log or resource may end, as this one does.
        let ends = def
            .labels
            .iter()
            .any(|one| ["core", "log", "name"].contains(one));
        def.kind != Kind::Gauge && !ends
    };
    let totals = |snapshot: &Snapshot| {
        let mut told = told(snapshot);
        told.retain(|line| counts(line));
        told
    };
    let first = snapshot();
    let silent = first.silenced_of_test();
    let before = totals(&first);
    assert!(before.len() > 40, "{before:#?}");
    assert_eq!(totals(&silent), before);
    assert_eq!(totals(&silent.silenced_of_test()), before, "nor later");
    let is = told(&silent);
    assert!(
        !is.iter()
            .any(|line| line.contains("core=\"0\"") && !line.contains("silent"))
    );
    assert!(is.contains(&"pinion_connections 0".to_owned()));
}

#[test]
fn what_a_resource_counted_is_not_told_without_the_cores_that_may_have_some_of_it() {
    let mut snapshot = snapshot();
    let is = |line: &String| line.starts_with("pinion_resource_messages_");
    assert_eq!(told(&snapshot).iter().filter(|line| is(line)).count(), 6);
    snapshot.missing = vec![CoreId(1)].into();
    assert_eq!(told(&snapshot).iter().filter(|line| is(line)).count(), 0);
}
