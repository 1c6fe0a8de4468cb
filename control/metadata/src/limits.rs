//! Every bound of the metadata. Configuration cannot raise these: replicas with
//! other limits would decide differently.

/// Tenants of a cluster. Each costs every replica and every snapshot some
/// hundred bytes.
pub const TENANTS_MAX: u64 = 10_000;

/// Namespaces of a cluster, of all tenants together.
pub const NAMESPACES_MAX: u64 = 100_000;

/// Resources of a cluster, of all tenants together; as many as a node has room
/// for in its tables.
pub const RESOURCES_MAX: u64 = 131_072;

/// Shards of all resources together. Each costs some 50 bytes in every replica
/// and in every snapshot.
pub const SHARDS_TOTAL_MAX: u64 = 1_048_576;

/// Copies of a shard.
pub const REPLICAS_MAX: u8 = 7;

/// Policies and groupings of a tenant. All of them are read for each that is
/// added.
pub const POLICIES_PER_TENANT_MAX: u64 = 10_000;

/// Policies and groupings of all tenants together.
pub const POLICIES_MAX: u64 = 200_000;

/// Policies, or groupings, that one command adds or deletes.
pub const ROWS_MAX: usize = 256;

/// Objects that the scope of who asks consists of.
pub const SCOPE_MAX: usize = 256;

/// Roles in a row, each of which was given the next.
pub const ROLE_DEPTH_MAX: usize = 4;

/// Identity providers of a tenant.
pub const ISSUERS_PER_TENANT_MAX: u64 = 16;

/// Longest `iss` of an identity provider in bytes.
pub const ISSUER_BYTES_MAX: usize = 512;

/// Longest address of an identity provider's documents in bytes.
pub const URL_BYTES_MAX: usize = 1_024;

/// Audiences of an identity provider.
pub const AUDIENCES_MAX: usize = 16;

/// Longest audience in bytes.
pub const AUDIENCE_BYTES_MAX: usize = 256;

/// Longest name of a claim in bytes.
pub const CLAIM_BYTES_MAX: usize = 128;

/// By how much the clock of an identity provider may be off, in seconds.
pub const CLOCK_SKEW_S_MAX: u16 = 300;

/// API keys of a tenant.
pub const API_KEYS_PER_TENANT_MAX: u64 = 1_000;

/// Longest name of an API key in bytes.
pub const API_KEY_NAME_BYTES_MAX: usize = 256;

/// Shortest and longest time between two beats of a broker, in milliseconds:
/// beats cost the leader a message each, and what is slower finds nobody down.
pub const HEARTBEAT_MS_MIN: u32 = 100;

/// See [`HEARTBEAT_MS_MIN`].
pub const HEARTBEAT_MS_MAX: u32 = 60_000;

/// Most beats in a row that a broker may miss before it is down.
pub const MISSED_MAX: u16 = 100;

/// Shortest life of a token in seconds: clients exchange theirs before.
pub const TOKEN_LIFE_S_MIN: u32 = 60;

/// Longest life of a token in seconds; what is revoked is kept for so long.
pub const TOKEN_LIFE_S_MAX: u32 = 3_600;

/// Milliseconds by which the clocks of nodes may differ: for so long after its
/// end a token may still be taken.
pub const TOKEN_SKEW_MS: u64 = 30_000;

/// Milliseconds that a signing key is kept after it signed for the last time:
/// the longest life of a token, an hour, and the difference of clocks.
pub const RETIRED_KEPT_MS: u64 = TOKEN_LIFE_S_MAX as u64 * 1000 + TOKEN_SKEW_MS;

/// Revocations of all tenants together. Each goes when the tokens that it is
/// about are over; who comes near the limit revokes subjects instead of tokens.
pub const REVOCATIONS_MAX: u64 = 100_000;

/// Revocations of a tenant: a tenth of all, so that it takes ten tenants to keep
/// another from revoking a stolen token. Fewer are too few for a tenant that ends
/// some thousand sessions within the hour that a token may live.
pub const REVOCATIONS_PER_TENANT_MAX: u64 = 10_000;

/// Administrators that a tenant is initialised with.
pub const ADMINS_MAX: usize = 64;

/// Members that vote, or will: each command waits for a majority of them.
pub const VOTERS_MAX: u64 = 7;

/// Members that follow and never vote: the leader sends everything to each.
pub const OBSERVERS_MAX: u64 = 64;

/// Brokers of a cluster.
pub const BROKERS_MAX: u64 = 1_024;

/// Highest number of a broker. A new number a second reaches it in 34 years.
pub const BROKER_NUMBERS_MAX: u64 = 1 << 30;

/// Longest address of a broker in bytes: a DNS name, a colon, a port.
pub const ADDRESS_BYTES_MAX: usize = 255;

/// Longest name of a region or zone in bytes.
pub const SITE_BYTES_MAX: usize = 64;

/// Labels of a broker.
pub const LABELS_MAX: usize = 16;

/// Longest name of a label in bytes.
pub const LABEL_NAME_BYTES_MAX: usize = 64;

/// Longest value of a label in bytes.
pub const LABEL_BYTES_MAX: usize = 256;

/// Bytes that one partition may ask for, of memory or of disk: 16 TiB.
pub const PARTITION_BYTES_MAX: u64 = 1 << 44;

/// Bytes of memory that a partition of a durable stream is promised: its table entries and
/// a small tail. The log has the rest, and tails that are busy share a budget of their core.
pub const DURABLE_PARTITION_BYTES: u64 = 4 << 10;

/// Bytes that all resources together may ask for, so that no sum of two such
/// leaves a `u64`.
pub const TOTAL_BYTES_MAX: u64 = 1 << 62;

/// Objects that one command deletes or takes back, so that no command holds up
/// the others for long. More are deleted namespace by namespace, or one by one.
pub const TREE_MAX: usize = 16_384;

/// Longest grace of a deletion: ten years in milliseconds.
pub const GRACE_MS_MAX: u64 = 10 * 365 * 24 * 3600 * 1000;

/// Purged resources whose data some broker may still have. Nothing more is
/// purged until brokers confirm, or an operator says that they never will.
pub const TOMBSTONES_MAX: u64 = 131_072;

/// Resources that one command takes over from before there was metadata. With many shards
/// fewer fit into a command.
pub const IMPORTED_MAX: usize = 1_024;

/// Resources that one command confirms as purged.
pub const CONFIRMED_MAX: usize = 1_024;

/// Commands of a batch.
pub const BATCH_COMMANDS_MAX: usize = 256;

/// Changes that are kept for those who follow. A watcher that has been away for
/// more reads a snapshot.
pub const WATCH_CHANGES_KEPT: usize = 65_536;

/// Bytes of objects in those changes, each as it is archived.
pub const WATCH_BYTES_KEPT: u64 = 32 << 20;

/// Objects of one page of a list. Bounds the work and the answer of one request.
pub const PAGE_MAX: usize = 1_000;

/// Longest display name of a tenant in bytes; it stands in tables.
pub const DISPLAY_NAME_BYTES_MAX: usize = 256;

/// Longest free text, such as a description, in bytes.
pub const TEXT_BYTES_MAX: usize = 1_024;

/// Longest name of an encryption key in bytes.
pub const KEY_ID_BYTES_MAX: usize = 128;

/// Longest principal in bytes. One stands in every envelope and in every row
/// of the table of requests.
pub const PRINCIPAL_BYTES_MAX: usize = 256;

/// Requests whose outcome is remembered, oldest forgotten first. A client that
/// repeats a request after this many others may see it done twice. At the
/// longest principal they are 5 MiB of a snapshot.
pub const DUPLICATES_KEPT: usize = 16_384;

/// Largest command with its header. It must fit one entry of the replicated
/// log, one frame between peers and one record.
pub const COMMAND_BYTES_MAX: usize = 1 << 20;

/// Largest snapshot with its header. It is built and read in memory.
pub const SNAPSHOT_BYTES_MAX: usize = 256 << 20;

/// Bytes of all objects, each as it is archived. A command that would add more
/// is refused, because a snapshot could no longer be made.
pub const STATE_BYTES_MAX: u64 = 192 << 20;

/// Highest version, index, generation or number that a snapshot may speak of.
/// A node that makes one a nanosecond reaches it in a hundred years; a snapshot
/// that is beyond it was made up, and would make the next sum overflow.
pub const COUNT_MAX: u64 = 1 << 62;

// No tenant alone must keep the others from revoking.
const _: () = assert!(10 * REVOCATIONS_PER_TENANT_MAX <= REVOCATIONS_MAX);
// One resource alone must not exceed what all together may.
const _: () =
    assert!(PARTITION_BYTES_MAX * (pinion_types::limits::SHARDS_MAX as u64) <= TOTAL_BYTES_MAX);
// The largest declaration: every shard with all its copies.
const _: () = assert!(
    (pinion_types::limits::SHARDS_MAX as usize) * (32 + 4 * REPLICAS_MAX as usize)
        <= COMMAND_BYTES_MAX / 2
);

// A command's own limits must leave room for a batch of them.
const _: () = assert!(
    DISPLAY_NAME_BYTES_MAX + TEXT_BYTES_MAX + KEY_ID_BYTES_MAX + PRINCIPAL_BYTES_MAX
        <= COMMAND_BYTES_MAX / 256
);
// All objects and all remembered requests must fit a snapshot, with room for its lists.
const _: () = assert!(
    STATE_BYTES_MAX + (DUPLICATES_KEPT * (PRINCIPAL_BYTES_MAX + 512)) as u64
        <= (SNAPSHOT_BYTES_MAX - (16 << 20)) as u64
);
