//! Every number that bounds something more than one room must agree on.

/// Longest frame after its header. Larger lets one request hold a core for
/// longer; smaller makes bulk publishes pay more headers.
pub const FRAME_BYTES_MAX: u32 = (1 << 20) + 4096;

/// Largest record (length field excluded): key, headers and value together.
/// A record must fit one frame beside the block header.
pub const RECORD_BYTES_MAX: u32 = 1 << 20;

/// Most records in one publish. Bounds the work of one validation walk.
pub const BATCH_RECORDS_MAX: u32 = 16_384;

/// Longest record key or cache key. It must fit a `u16` and stay small beside values.
pub const KEY_BYTES_MAX: u16 = 1024;

/// Longest header block of one record.
pub const HEADERS_BYTES_MAX: u16 = 8192;

/// Most headers on one record.
pub const HEADERS_MAX: usize = 64;

/// Largest cache value. It must fit one frame beside its key.
pub const CACHE_VALUE_BYTES_MAX: u32 = 1 << 20;

/// Most keys in one multi-get or multi-set.
pub const CACHE_MULTI_MAX: u16 = 1024;

/// Most items a scan page may ask for.
pub const SCAN_ITEMS_MAX: u32 = 4096;

/// Most shards a resource may have.
pub const SHARDS_MAX: u16 = 1024;

/// Most data cores of one node; the steering arithmetic needs it to stay ≤ 4096.
pub const DATA_CORES_MAX: u16 = 1024;

/// Request streams one connection may have open at once.
pub const REQUEST_STREAMS_MAX: u8 = 16;

/// Requests of one connection that may await a reply at once.
pub const IN_FLIGHT_MAX: u32 = 4096;

/// Subscriptions and watches of one connection.
pub const SUBSCRIPTIONS_MAX: u32 = 1024;

/// Resource handles of one connection.
pub const HANDLES_MAX: u32 = 4096;

/// Largest record credit a subscription may hold at once.
pub const CREDIT_RECORDS_MAX: u32 = 1 << 20;

/// Largest byte credit a subscription may hold at once.
pub const CREDIT_BYTES_MAX: u32 = 16 << 20;

/// Longest bearer token a HELLO may carry.
pub const TOKEN_BYTES_MAX: u16 = 4096;

/// Records one append session may stage (domains.md §1).
pub const STAGED_RECORDS_MAX: u32 = 10_000;

/// Bytes one append session may stage.
pub const STAGED_BYTES_MAX: u32 = 10 << 20;

/// Longest time a get-or-lease may wait for another filler, in milliseconds.
pub const LEASE_WAIT_MS_MAX: u32 = 30_000;

/// Most terms of a record filter.
pub const FILTER_TERMS_MAX: usize = 16;

/// Longest header name or filter value.
pub const HEADER_NAME_BYTES_MAX: usize = 255;

/// Named cursors one partition of a stream may have. Each is kept in memory
/// and in every checkpoint.
pub const CURSORS_MAX: u32 = 1024;

/// Longest name of a cursor or of a consumer group; its length is one byte.
pub const GROUP_BYTES_MAX: u8 = u8::MAX;

/// Consumer groups of one queue. Each keeps a state for every message it has
/// not finished.
pub const QUEUE_GROUPS_MAX: u16 = 64;

/// Messages one take may ask for. Higher lets one consumer starve the others
/// of a queue for longer.
pub const QUEUE_TAKE_MAX: u32 = 1024;

/// Tokens one ack, nack, extend or release may name, and ids one replay or
/// purge of dead letters may. Bounds the work of one request.
pub const QUEUE_TOKENS_MAX: u16 = 1024;

/// Messages of one page of a peek or of the dead letters.
pub const QUEUE_PAGE_MAX: u32 = 1024;

/// Longest wait of a take for a message, in milliseconds.
pub const QUEUE_WAIT_MS_MAX: u32 = 30_000;

/// Longest reservation a take or extend may ask for: 12 hours in milliseconds.
/// Longer work extends its reservation as it goes on.
pub const QUEUE_LEASE_MS_MAX: u32 = 12 * 3600 * 1000;

/// Longest delay or time to live of a message: ten years in milliseconds, so
/// that no sum of a wall time and a delay leaves a `u64`.
pub const QUEUE_TIME_MS_MAX: u64 = 10 * 365 * 24 * 3600 * 1000;

/// Longest error text of a nack; it is kept beside the message.
pub const QUEUE_ERROR_BYTES_MAX: u8 = u8::MAX;

// A record must fit a frame together with the block header.
const _: () = assert!(
    RECORD_BYTES_MAX as usize + crate::block::BLOCK_HEADER_BYTES <= FRAME_BYTES_MAX as usize
);
const _: () = assert!(CACHE_VALUE_BYTES_MAX + KEY_BYTES_MAX as u32 + 64 <= FRAME_BYTES_MAX);
// A message alone must fit a frame: list head, id, token, attempt, time, error text, record.
const _: () = assert!(
    RECORD_BYTES_MAX as usize + 4 + 6 + 8 + 16 + 2 + 8 + 1 + QUEUE_ERROR_BYTES_MAX as usize
        <= FRAME_BYTES_MAX as usize
);
