//! Every family that a node tells, by name: what dashboards, alerts and people go by.
//! `docs/metrics.md` is this table for reading; a test compares them.
//!
//! Counters begin at 0 with the process. What is of this node alone says nothing of
//! others: every node is asked.

use super::family::{Def, Kind, Unit};

macro_rules! families {
    ($($name:ident: $kind:ident $text:literal $unit:ident [$($label:literal),*] $help:literal;)*) => {
        $(pub(crate) static $name: Def = Def {
            name: $text,
            kind: Kind::$kind,
            unit: Unit::$unit,
            labels: &[$($label),*],
            help: $help,
        };)*

        /// All of them, as they are told.
        pub(crate) static CATALOGUE: &[&Def] = &[$(&$name),*];
    };
}

families! {
    // The process and its machine.
    BUILD_INFO: Gauge "pinion_build_info" None ["version", "node"]
        "1, with the release of the node and its name.";
    UPTIME: Gauge "pinion_uptime_seconds" Seconds []
        "Time since the node began to serve administrators.";
    READY: Gauge "pinion_ready" None []
        "1 when the node has caught up with what was decided before it was started and its data cores answer; as /readyz.";
    PROCESS_CPU: Counter "process_cpu_seconds_total" Seconds []
        "Processor time of the process, with that of the kernel for it. Cores that look for work spend it, too: see pinion_core_busy_seconds_total.";
    PROCESS_RESIDENT: Gauge "process_resident_memory_bytes" Bytes []
        "Memory of the process that is in RAM.";
    PROCESS_VIRTUAL: Gauge "process_virtual_memory_bytes" Bytes []
        "Address space of the process.";
    PROCESS_THREADS: Gauge "process_threads" None []
        "Threads of the process.";
    PROCESS_FILES: Gauge "process_open_fds" None []
        "Files and sockets that the process has open.";
    PROCESS_FILES_MAX: Gauge "process_max_fds" None []
        "Files and sockets that it may have open.";
    PROCESS_START: Gauge "process_start_time_seconds" Seconds []
        "When the node began to serve administrators, since 1970.";
    CPU_THROTTLED: Counter "pinion_cpu_throttled_periods_total" None []
        "Periods in which the kernel held the node back because its CPU quota was used up (nr_throttled of its control group).";
    STORAGE_FREE: Gauge "pinion_storage_free_bytes" Bytes []
        "Bytes free for the node in the file system of its data directory.";
    STORAGE_SIZE: Gauge "pinion_storage_size_bytes" Bytes []
        "Bytes of that file system in all.";
    FACTS_AGE: Gauge "pinion_facts_age_seconds" Seconds []
        "How old the facts of data cores on this page are. They are gathered at most once a second.";
    FACTS_TOOK: Gauge "pinion_facts_gathering_seconds" Seconds []
        "How long it took to gather them from all cores.";

    // Cores.
    CORES: Gauge "pinion_cores" None []
        "Data cores of the node.";
    CORE_SILENT: Gauge "pinion_core_silent_seconds" Seconds ["core"]
        "Time since a data core last answered; each is asked every second. Above 5 the node says on /livez that it is stuck.";
    CORE_BUSY: Counter "pinion_core_busy_seconds_total" Seconds ["core"]
        "Time a core worked. Of a data core that is time in turns that did something, looking for work does not count; of the control core (`control`) processor time of its thread.";
    CORE_SKEW: Gauge "pinion_core_busy_skew_ratio" Ratio []
        "Busy time of the busiest data core by the mean of all of them, between the last two gatherings: 1 is even. Missing while all are idle.";
    CORE_TURNS: Counter "pinion_core_turns_total" None ["core"]
        "Turns that did something.";
    CORE_STALLS: Counter "pinion_core_stalls_total" None ["core", "phase"]
        "Turns longer than 5 ms, by the part of the turn that took most of it.";
    CORE_STALL_MAX: Gauge "pinion_core_stall_max_seconds" Seconds ["core"]
        "The longest turn among them since the start.";
    CORE_SLEEPS: Counter "pinion_core_sleeps_total" None ["core"]
        "Times a core went to sleep because nothing came.";
    CORE_MAILS: Counter "pinion_core_mails_total" None ["core"]
        "Mails taken from other cores and the control thread.";
    CORE_MAILBOX: Gauge "pinion_core_mailbox_depth" None ["core"]
        "Mails for other cores and the control thread that wait on this one because a box was full.";
    CORE_MAILBOX_BYTES: Gauge "pinion_core_mailbox_bytes" Bytes ["core"]
        "Bytes of those for other cores, about.";
    CORE_MAIL_WAITS: Counter "pinion_core_mail_waits_total" None ["core"]
        "Times that a mail met a full box.";
    CORE_HELD: Gauge "pinion_core_held_bytes" Bytes ["core"]
        "Bytes received and not worked off yet.";
    CORE_CONNECTIONS: Gauge "pinion_core_connections" None ["core"]
        "Connections of a core.";
    DATAGRAMS: Counter "pinion_datagrams_received_total" None ["core"]
        "Datagrams received.";
    DATAGRAMS_DROPPED: Counter "pinion_datagrams_dropped_total" None ["core"]
        "Datagrams that the kernel dropped because the socket of a core was full. Wraps at 2^32.";
    TRANSMITS: Counter "pinion_transmits_total" None ["core", "outcome"]
        "Sends of one datagram or a train of them: taken by the kernel (sent), put off because the socket was full (blocked), refused (failed).";

    // Connections.
    CONNECTIONS: Gauge "pinion_connections" None []
        "Connections of the node in any state, handshakes under way included.";
    HANDSHAKES: Gauge "pinion_handshakes" None []
        "Handshakes under way.";
    HANDSHAKES_ACCEPTED: Counter "pinion_handshakes_accepted_total" None []
        "Attempts to connect that were let in.";
    HANDSHAKES_REFUSED: Counter "pinion_handshakes_refused_total" None ["reason"]
        "Attempts refused: the node drains (draining), has as many connections as it may (full), their network has (prefix), or too many handshakes were under way and nobody answered (unanswered).";
    HANDSHAKES_FAILED: Counter "pinion_handshakes_failed_total" None ["reason"]
        "Handshakes that were begun and came to nothing: failed, or timed_out.";
    QUIC_RETRIES: Counter "pinion_quic_retries_total" None []
        "Retry packets sent to addresses that had not proven themselves (RFC 9000 section 8.1.2).";
    QUIC_STRAY: Counter "pinion_quic_stray_total" None ["core"]
        "Datagrams that the kernel gave to a core that does not own their connection. They are handed over.";
    QUIC_STRAY_DROPPED: Counter "pinion_quic_stray_dropped_total" None ["core"]
        "Of those, dropped because too many waited.";
    QUIC_UNKNOWN: Counter "pinion_quic_unknown_datagrams_total" None []
        "Datagrams that belong to no connection: malformed, unknown or too late.";
    SESSIONS: Counter "pinion_sessions_accepted_total" None []
        "Connections that said HELLO with a good credential.";
    UNAUTHENTICATED: Counter "pinion_unauthenticated_total" None []
        "Connections refused for their credential.";
    PROTOCOL_ERRORS: Counter "pinion_protocol_errors_total" None []
        "Connections closed for breaking the protocol.";

    // Requests.
    REQUESTS: Counter "pinion_requests_total" None ["op"]
        "Requests read from clients, by operation as docs/wire-protocol.md names them.";
    REFUSALS: Counter "pinion_refusals_total" None ["code"]
        "Requests answered with an error, by its code. quota_exceeded is throttling by a quota, busy and backlogged by load.";
    WRONG_SHARD: Counter "pinion_wrong_shard_total" None []
        "Requests that had to go to another core because the client aimed at the wrong one.";
    WRONG_SHARD_RATIO: Gauge "pinion_wrong_shard_ratio" Ratio []
        "Those by all requests, between the last two gatherings. Missing while nothing is asked.";
    MESSAGE_LATENCY: Histogram "pinion_message_latency_seconds" Seconds ["op"]
        "Time of requests on the node, of one request in 64: from the beginning of the turn that read it from the socket to the end of the turn that gave its answer to the socket, with the disk and other cores if it waits for them. Not in it: waiting in the kernel before, the network, requests that wait because the client asked for that, and answers to connections that are gone.";
    MESSAGES_RECEIVED: Counter "pinion_messages_received_total" None []
        "Stream records and queue messages taken from clients. Repeats and writes of caches are not counted.";
    MESSAGES_SENT: Counter "pinion_messages_sent_total" None []
        "Stream records given to subscriptions and queue messages handed to consumers, redeliveries included. What is read by FETCH or from a cache is not counted.";
    DELIVERED_BYTES: Counter "pinion_delivered_bytes_total" Bytes []
        "Bytes given to the transport for subscriptions.";

    // Disk and logs.
    DISK_WRITE: Histogram "pinion_disk_write_latency_seconds" Seconds []
        "From asking for a write of a log until it is durable: the write and its fdatasync.";
    DISK_WRITTEN: Counter "pinion_disk_written_bytes_total" Bytes ["core"]
        "Bytes that became durable.";
    DISK_READS: Counter "pinion_disk_reads_total" None ["core"]
        "Reads of logs.";
    DISK_READ: Counter "pinion_disk_read_bytes_total" Bytes ["core"]
        "Their bytes.";
    DISK_FLUSHES: Counter "pinion_disk_flushes_total" None ["core"]
        "Flushes of files made or shortened, and of folders, besides those of writes.";
    DISK_ERRORS: Counter "pinion_disk_errors_total" None ["core"]
        "Requests that the disk failed.";
    GROUP_RECORDS: Histogram "pinion_log_group_records" None []
        "Records that became durable with one write, of all logs: the size of group commits.";
    LOG_RECORDS: Counter "pinion_log_appended_records_total" None ["log"]
        "Records appended to a log.";
    LOG_BYTES: Counter "pinion_log_appended_bytes_total" Bytes ["log"]
        "Bytes of them, with their headers.";
    LOG_PENDING: Gauge "pinion_log_pending_bytes" Bytes ["log"]
        "Bytes appended and not durable yet.";
    LOG_READS_PENDING: Gauge "pinion_log_reads_pending" None ["log"]
        "Reads of a log that wait or are under way.";
    LOG_SEGMENTS: Gauge "pinion_log_segments" None ["log"]
        "Segments of a log.";
    LOG_DISK: Gauge "pinion_log_disk_bytes" Bytes ["log"]
        "Bytes of their files.";
    LOG_REMOVED: Counter "pinion_log_removed_segments_total" None ["log"]
        "Segments removed, because nothing in them was needed any more.";
    LOG_CARRIED: Counter "pinion_log_carried_records_total" None ["log"]
        "Records written forward, so that their segment could go.";
    LOG_CHECKPOINTS: Counter "pinion_log_checkpoints_total" None ["log"]
        "Checkpoints that became durable.";
    LOG_READ_ONLY: Gauge "pinion_log_read_only" None ["log"]
        "1 while a log takes only what frees space, because the disk is full.";
    LOG_FAILED: Gauge "pinion_log_failed" None ["log"]
        "1 when a write of a log failed: it takes nothing until the node is started again.";
    DAMAGE: Counter "pinion_damage_found_total" None []
        "Times that committed data was found damaged while it was read.";
    FENCED: Gauge "pinion_partitions_fenced" None []
        "Partitions closed by damage or a failed write.";
    BARRED: Gauge "pinion_partitions_barred" None []
        "Partitions of declared resources that stay closed until the next start, because a log holds records of before.";

    // What the node has, by kind.
    RESOURCES: Gauge "pinion_resources" None ["kind"]
        "Resources with a partition on this node.";
    PARTITIONS: Gauge "pinion_partitions" None ["kind"]
        "Their partitions here.";
    RECORDS: Gauge "pinion_records" None ["kind"]
        "Records, messages or entries that they have.";
    MEMORY: Gauge "pinion_memory_bytes" Bytes ["kind"]
        "Bytes that they hold in memory, as their budgets count them.";
    DURABLE: Gauge "pinion_durable_bytes" Bytes ["kind"]
        "Bytes that logs keep of them, about.";
    SUBSCRIPTIONS: Gauge "pinion_subscriptions" None ["kind"]
        "Subscriptions of streams, waiting takes and subscriptions of queues, watches of caches.";
    STREAM_LAG_MAX: Gauge "pinion_stream_lag_records_max" None []
        "Records that the subscription furthest behind has not been given.";
    STREAM_SESSIONS: Gauge "pinion_stream_append_sessions" None []
        "Append sessions that are open.";
    QUEUE_MESSAGES: Gauge "pinion_queue_messages" None ["state"]
        "Messages of queues, by group: ready, delayed, in_flight, blocked behind an earlier one of their key, dead.";
    QUEUE_OLDEST: Gauge "pinion_queue_oldest_age_seconds" Seconds []
        "How long the oldest message that is ready has waited, in the group where that is longest.";
    QUEUE_DELIVERED: Counter "pinion_queue_delivered_total" None []
        "Messages handed to consumers, since the partitions were opened.";
    QUEUE_REDELIVERED: Counter "pinion_queue_redelivered_total" None []
        "Of those, not for the first time.";
    QUEUE_ACKED: Counter "pinion_queue_acked_total" None []
        "Messages that consumers were done with.";
    QUEUE_NACKED: Counter "pinion_queue_nacked_total" None []
        "Messages that consumers gave back as failed.";
    QUEUE_LAPSED: Counter "pinion_queue_lapsed_total" None []
        "Reservations that ran out.";
    QUEUE_DEAD: Counter "pinion_queue_dead_letters_total" None []
        "Messages that became dead letters.";
    CACHE_BUDGET: Gauge "pinion_cache_budget_bytes" Bytes []
        "What caches may hold.";
    CACHE_HITS: Counter "pinion_cache_hits_total" None []
        "Reads of caches that found a current entry. The hit ratio is hits by hits and misses.";
    CACHE_MISSES: Counter "pinion_cache_misses_total" None []
        "Reads of caches that did not.";
    CACHE_EVICTIONS: Counter "pinion_cache_evictions_total" None []
        "Entries that made room for others.";
    CACHE_EXPIRATIONS: Counter "pinion_cache_expirations_total" None []
        "Entries whose time to live ended.";

    // Of single resources, the most active first.
    SERIES_LEFT_OUT: Gauge "pinion_resources_left_out" None []
        "Resources that have no series of their own here because there are too many; the totals have them.";
    RESOURCE_RECORDS: Gauge "pinion_resource_records" None ["kind", "tenant", "namespace", "name"]
        "Records, messages or entries that a resource has on this node.";
    RESOURCE_MEMORY: Gauge "pinion_resource_memory_bytes" Bytes ["kind", "tenant", "namespace", "name"]
        "Bytes that it holds in memory.";
    RESOURCE_DURABLE: Gauge "pinion_resource_durable_bytes" Bytes ["kind", "tenant", "namespace", "name"]
        "Bytes that logs keep of it, about.";
    RESOURCE_SUBSCRIPTIONS: Gauge "pinion_resource_subscriptions" None ["kind", "tenant", "namespace", "name"]
        "Subscriptions and the like, as pinion_subscriptions.";
    RESOURCE_IN: Counter "pinion_resource_messages_received_total" None ["kind", "tenant", "namespace", "name"]
        "Records or messages taken, of a cache changes, since its partitions were opened.";
    RESOURCE_OUT: Counter "pinion_resource_messages_sent_total" None ["kind", "tenant", "namespace", "name"]
        "Records given to subscriptions, messages handed to consumers, of a cache reads that found something.";
    RESOURCE_LAG: Gauge "pinion_resource_lag_records_max" None ["kind", "tenant", "namespace", "name"]
        "Of a stream: records that its subscription furthest behind has not been given.";
    RESOURCE_READY: Gauge "pinion_resource_queue_ready" None ["kind", "tenant", "namespace", "name"]
        "Of a queue: messages that may be delivered, by group.";
    RESOURCE_IN_FLIGHT: Gauge "pinion_resource_queue_in_flight" None ["kind", "tenant", "namespace", "name"]
        "Of a queue: messages that are reserved, by group.";
    RESOURCE_DEAD: Gauge "pinion_resource_queue_dead" None ["kind", "tenant", "namespace", "name"]
        "Of a queue: dead letters.";
    RESOURCE_OLDEST: Gauge "pinion_resource_queue_oldest_age_seconds" Seconds ["kind", "tenant", "namespace", "name"]
        "Of a queue: how long the oldest message that is ready has waited, in the group where that is longest.";
    RESOURCE_HIT_RATIO: Gauge "pinion_resource_cache_hit_ratio" Ratio ["kind", "tenant", "namespace", "name"]
        "Of a cache: reads that found a current entry by all, between the last two gatherings. Missing while it is not read.";

    // The control plane.
    RAFT_ROLE: Gauge "pinion_raft_role" None ["role"]
        "1 for what this node is in the group of the control plane, 0 for what it is not.";
    RAFT_LEADER: Gauge "pinion_raft_has_leader" None []
        "1 when this node knows who leads.";
    RAFT_TERM: Gauge "pinion_raft_term" None []
        "The term that this node is in.";
    RAFT_COMMIT: Gauge "pinion_raft_commit_index" None []
        "Last entry that is decided, as far as this node knows.";
    RAFT_APPLIED: Gauge "pinion_raft_applied_index" None []
        "Last entry that is in the metadata of this node.";
    RAFT_LAST: Gauge "pinion_raft_last_index" None []
        "Last entry of this node's log.";
    RAFT_SNAPSHOT: Gauge "pinion_raft_snapshot_index" None []
        "Last entry in its durable snapshot.";
    RAFT_FLUSH: Gauge "pinion_raft_flush_seconds" Seconds []
        "Median of the last flushes of this node's log: what a decision waits for on each node that votes. Missing until there were enough of them.";
    RAFT_DECISION: Gauge "pinion_raft_commit_seconds" Seconds []
        "Median of the last decisions on commands that this node proposed while it led, from proposal to decision. Missing until there were enough of them.";
    RAFT_PROPOSALS: Gauge "pinion_raft_proposals" None []
        "Proposals of this node that are not applied yet.";
    RAFT_MEMBERS: Gauge "pinion_raft_members" None ["kind"]
        "Members of the group: voters, and learners that only listen.";
    RAFT_PEER_LAG: Gauge "pinion_raft_peer_lag_entries" None ["peer"]
        "On the leader: entries that another member lacks.";
    RAFT_PEER_ACTIVE: Gauge "pinion_raft_peer_active" None ["peer"]
        "On the leader: 1 when another member was heard within the last election timeout or two.";
    METADATA_VERSION: Gauge "pinion_metadata_version" None []
        "Version of the metadata.";
    PLANE_REQUESTS: Gauge "pinion_plane_requests" None []
        "Requests to the control plane of this node that are not answered yet.";
    PLANE_WATCHERS: Gauge "pinion_plane_watchers" None []
        "Those who follow the changes of the metadata here.";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_as_conventions_want_them() {
        let mut seen = BTreeSet::new();
        for def in CATALOGUE {
            let name = def.name;
            assert!(seen.insert(name), "{name} is there twice");
            let chars =
                |char: char| char.is_ascii_lowercase() || char == '_' || char.is_ascii_digit();
            assert!(name.chars().all(chars), "{name}");
            assert!(
                name.starts_with("pinion_") || name.starts_with("process_"),
                "{name}"
            );
            assert_eq!(
                name.ends_with("_total"),
                def.kind == Kind::Counter,
                "{name}"
            );
            // OpenMetrics wants the unit last, and nothing that looks like one elsewhere.
            if def.unit != Unit::None {
                assert!(
                    def.stem().ends_with(&format!("_{}", def.unit.text())),
                    "{name}"
                );
            } else {
                for unit in ["seconds", "bytes", "ratio"] {
                    assert!(!def.stem().ends_with(unit), "{name} has a unit");
                }
            }
            assert!(
                def.help.ends_with('.') && !def.help.contains('\n'),
                "{name}"
            );
            let labels: BTreeSet<_> = def.labels.iter().collect();
            assert_eq!(labels.len(), def.labels.len(), "{name}");
            assert!(
                !labels.contains(&"le") && !labels.contains(&"quantile"),
                "{name}"
            );
        }
    }
}
