//! Numbers of the messages, and what is known of each request before its body
//! is looked at.

/// What the principal must be granted on the target of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Permission {
    /// Nothing beyond a valid token.
    None,
    /// To read the resource.
    Read,
    /// To add to the resource or change what is in it.
    Write,
    /// Both of these: the request changes what is in the resource, and its answer tells of
    /// what was there.
    ReadWrite,
    /// To take messages of a queue and say what became of them.
    Consume,
    /// To declare and configure resources, and to undo what work others leave behind.
    Admin,
}

/// What is known of a request by its opcode alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// First byte after the length.
    pub opcode: u8,
    /// As in `docs/wire-protocol.md`.
    pub name: &'static str,
    /// Replies it may get besides ERROR; empty when it is never answered.
    pub replies: &'static [u8],
    /// A replay does no harm: 0-RTT data may carry it. For OPEN only without a spec.
    pub idempotent: bool,
    /// For OPEN without a spec and QUEUE_GROUP that makes one; OPEN with a spec and
    /// QUEUE_GROUP that forgets one need [`Permission::Admin`].
    pub needs: Permission,
}

macro_rules! opcodes {
    ($($(#[$doc:meta])* $name:ident = $number:literal;)*) => {
        $($(#[$doc])* pub const $name: u8 = $number;)*
    };
}

opcodes! {
    /// First frame of a connection.
    HELLO = 0x01;
    /// Echo.
    PING = 0x02;
    /// Name to handle, or declare.
    OPEN = 0x04;
    /// Append a batch.
    PUBLISH = 0x10;
    /// Deliver a partition.
    SUBSCRIBE = 0x11;
    /// More deliveries may come.
    CREDIT = 0x12;
    /// End a subscription or watch.
    UNSUBSCRIBE = 0x13;
    /// Read a range once.
    FETCH = 0x14;
    /// Begin an append session.
    APPEND_BEGIN = 0x15;
    /// Stage records.
    APPEND_STAGE = 0x16;
    /// Make staged records visible.
    APPEND_COMMIT = 0x17;
    /// Forget staged records.
    APPEND_ROLLBACK = 0x18;
    /// Ends and sizes of a partition.
    STREAM_INFO = 0x19;
    /// Set a named cursor.
    CURSOR_COMMIT = 0x1A;
    /// Ask for a named cursor.
    CURSOR_GET = 0x1B;
    /// One page of cursors.
    CURSOR_LIST = 0x1C;
    /// Forget a named cursor.
    CURSOR_DELETE = 0x1D;
    /// Read one key.
    CACHE_GET = 0x20;
    /// Write one key.
    CACHE_SET = 0x21;
    /// Delete one key.
    CACHE_DELETE = 0x22;
    /// Set the time to live of one key.
    CACHE_TOUCH = 0x23;
    /// Add to a counter.
    CACHE_INCR = 0x24;
    /// Read many keys.
    CACHE_GET_MANY = 0x25;
    /// Write many keys.
    CACHE_SET_MANY = 0x26;
    /// One page of keys.
    CACHE_SCAN = 0x27;
    /// Read one key or fill it.
    CACHE_LEASE = 0x28;
    /// Deliver changes.
    CACHE_WATCH = 0x29;
    /// Sizes and counts of a partition.
    CACHE_INFO = 0x2A;
    /// Put messages.
    QUEUE_PUT = 0x30;
    /// Reserve messages.
    QUEUE_TAKE = 0x31;
    /// Work is done.
    QUEUE_ACK = 0x32;
    /// Work failed.
    QUEUE_NACK = 0x33;
    /// Work goes on.
    QUEUE_EXTEND = 0x34;
    /// Work was not begun.
    QUEUE_RELEASE = 0x35;
    /// Look at messages.
    QUEUE_PEEK = 0x36;
    /// List dead letters.
    QUEUE_DEAD_LIST = 0x37;
    /// Make dead letters ready again.
    QUEUE_DEAD_REPLAY = 0x38;
    /// Forget dead letters.
    QUEUE_DEAD_PURGE = 0x39;
    /// Counts of a partition.
    QUEUE_INFO = 0x3A;
    /// Why nothing is delivered.
    QUEUE_WHY = 0x3B;
    /// Deliver messages as they become ready.
    QUEUE_SUBSCRIBE = 0x3C;
    /// Make or forget a group.
    QUEUE_GROUP = 0x3D;

    /// To HELLO.
    WELCOME = 0x81;
    /// To PING.
    PONG = 0x82;
    /// To OPEN.
    OPENED = 0x84;
    /// To PUBLISH and APPEND_COMMIT.
    PUBLISHED = 0x90;
    /// To SUBSCRIBE, CACHE_WATCH and QUEUE_SUBSCRIBE.
    SUBSCRIBED = 0x91;
    /// To UNSUBSCRIBE, APPEND_ROLLBACK, CURSOR_DELETE and QUEUE_GROUP.
    DONE = 0x93;
    /// To FETCH.
    FETCHED = 0x94;
    /// To APPEND_BEGIN.
    APPEND_BEGUN = 0x95;
    /// To APPEND_STAGE.
    APPEND_STAGED = 0x96;
    /// To STREAM_INFO.
    STREAM_STATUS = 0x99;
    /// To CURSOR_COMMIT and CURSOR_GET.
    CURSOR = 0x9A;
    /// To CURSOR_LIST.
    CURSOR_PAGE = 0x9B;
    /// To CACHE_GET that hit and CACHE_LEASE answered with a value.
    CACHE_VALUE = 0xA0;
    /// To CACHE_GET that missed.
    CACHE_MISS = 0xA1;
    /// To CACHE_SET and CACHE_TOUCH.
    CACHE_STORED = 0xA2;
    /// To CACHE_DELETE.
    CACHE_DELETED = 0xA3;
    /// To CACHE_INCR.
    CACHE_COUNTER = 0xA4;
    /// To CACHE_GET_MANY.
    CACHE_VALUES = 0xA5;
    /// To CACHE_SET_MANY.
    CACHE_STORED_MANY = 0xA6;
    /// To CACHE_SCAN.
    CACHE_PAGE = 0xA7;
    /// To CACHE_LEASE: the caller fills.
    CACHE_LEASED = 0xA8;
    /// To CACHE_INFO.
    CACHE_STATUS = 0xAA;
    /// To QUEUE_PUT.
    ENQUEUED = 0xB0;
    /// To QUEUE_TAKE.
    TAKEN = 0xB1;
    /// To QUEUE_ACK, QUEUE_NACK, QUEUE_EXTEND and QUEUE_RELEASE.
    SETTLED = 0xB2;
    /// To QUEUE_PEEK.
    QUEUE_PAGE = 0xB3;
    /// To QUEUE_DEAD_LIST.
    DEAD_PAGE = 0xB4;
    /// To QUEUE_DEAD_REPLAY and QUEUE_DEAD_PURGE.
    MOVED = 0xB5;
    /// To QUEUE_INFO.
    QUEUE_STATUS = 0xB6;
    /// To QUEUE_WHY.
    QUEUE_REASONS = 0xB7;
    /// To any request.
    ERROR = 0xFF;

    /// First frame of a delivery stream.
    STREAM_HEAD = 0xC0;
    /// A block of records.
    RECORDS = 0xC1;
    /// Something was skipped.
    LAG = 0xC2;
    /// Changes of a cache.
    EVENTS = 0xC3;
    /// Last frame of a delivery stream.
    END = 0xC4;
    /// Messages of a queue.
    QUEUE_MESSAGES = 0xC5;
}

// A block is a frame of a delivery stream as it is.
const _: () = assert!(RECORDS == pinion_types::block::RECORDS_OPCODE);

const fn entry(
    opcode: u8,
    name: &'static str,
    replies: &'static [u8],
    idempotent: bool,
    needs: Permission,
) -> Entry {
    Entry {
        opcode,
        name,
        replies,
        idempotent,
        needs,
    }
}

/// Every request, by opcode.
pub const REQUESTS: &[Entry] = {
    use Permission::{Admin, Consume, None, Read, ReadWrite, Write};
    &[
        entry(HELLO, "HELLO", &[WELCOME], true, None),
        entry(PING, "PING", &[PONG], true, None),
        entry(OPEN, "OPEN", &[OPENED], true, None),
        entry(PUBLISH, "PUBLISH", &[PUBLISHED], false, Write),
        entry(SUBSCRIBE, "SUBSCRIBE", &[SUBSCRIBED], false, Read),
        entry(CREDIT, "CREDIT", &[], false, None),
        entry(UNSUBSCRIBE, "UNSUBSCRIBE", &[DONE], false, None),
        entry(FETCH, "FETCH", &[FETCHED], true, Read),
        entry(APPEND_BEGIN, "APPEND_BEGIN", &[APPEND_BEGUN], false, Write),
        entry(APPEND_STAGE, "APPEND_STAGE", &[APPEND_STAGED], false, Write),
        entry(APPEND_COMMIT, "APPEND_COMMIT", &[PUBLISHED], false, Write),
        entry(APPEND_ROLLBACK, "APPEND_ROLLBACK", &[DONE], false, Write),
        entry(STREAM_INFO, "STREAM_INFO", &[STREAM_STATUS], true, Read),
        // A cursor is its reader's own: keeping it asks for no more than reading.
        entry(CURSOR_COMMIT, "CURSOR_COMMIT", &[CURSOR], false, Read),
        entry(CURSOR_GET, "CURSOR_GET", &[CURSOR], true, Read),
        entry(CURSOR_LIST, "CURSOR_LIST", &[CURSOR_PAGE], true, Read),
        entry(CURSOR_DELETE, "CURSOR_DELETE", &[DONE], false, Read),
        entry(
            CACHE_GET,
            "CACHE_GET",
            &[CACHE_VALUE, CACHE_MISS],
            true,
            Read,
        ),
        entry(CACHE_SET, "CACHE_SET", &[CACHE_STORED], false, Write),
        entry(CACHE_DELETE, "CACHE_DELETE", &[CACHE_DELETED], false, Write),
        entry(CACHE_TOUCH, "CACHE_TOUCH", &[CACHE_STORED], false, Write),
        // The sum tells what was there: adding nothing reads any value of 8 bytes.
        entry(CACHE_INCR, "CACHE_INCR", &[CACHE_COUNTER], false, ReadWrite),
        entry(
            CACHE_GET_MANY,
            "CACHE_GET_MANY",
            &[CACHE_VALUES],
            true,
            Read,
        ),
        entry(
            CACHE_SET_MANY,
            "CACHE_SET_MANY",
            &[CACHE_STORED_MANY],
            false,
            Write,
        ),
        entry(CACHE_SCAN, "CACHE_SCAN", &[CACHE_PAGE], true, Read),
        entry(
            CACHE_LEASE,
            "CACHE_LEASE",
            &[CACHE_VALUE, CACHE_LEASED],
            false,
            ReadWrite,
        ),
        entry(CACHE_WATCH, "CACHE_WATCH", &[SUBSCRIBED], false, Read),
        entry(CACHE_INFO, "CACHE_INFO", &[CACHE_STATUS], true, Read),
        // Taking keeps a message from everyone else in the group: it changes
        // the queue as much as putting does.
        entry(QUEUE_PUT, "QUEUE_PUT", &[ENQUEUED], false, Write),
        entry(QUEUE_TAKE, "QUEUE_TAKE", &[TAKEN], false, Consume),
        entry(QUEUE_ACK, "QUEUE_ACK", &[SETTLED], false, Consume),
        entry(QUEUE_NACK, "QUEUE_NACK", &[SETTLED], false, Consume),
        entry(QUEUE_EXTEND, "QUEUE_EXTEND", &[SETTLED], false, Consume),
        entry(QUEUE_RELEASE, "QUEUE_RELEASE", &[SETTLED], false, Consume),
        entry(QUEUE_PEEK, "QUEUE_PEEK", &[QUEUE_PAGE], true, Read),
        entry(QUEUE_DEAD_LIST, "QUEUE_DEAD_LIST", &[DEAD_PAGE], true, Read),
        // Dead letters are what a group's work has come to, and not one consumer's.
        entry(
            QUEUE_DEAD_REPLAY,
            "QUEUE_DEAD_REPLAY",
            &[MOVED],
            false,
            Admin,
        ),
        entry(QUEUE_DEAD_PURGE, "QUEUE_DEAD_PURGE", &[MOVED], false, Admin),
        entry(QUEUE_INFO, "QUEUE_INFO", &[QUEUE_STATUS], true, Read),
        entry(QUEUE_WHY, "QUEUE_WHY", &[QUEUE_REASONS], true, Read),
        entry(
            QUEUE_SUBSCRIBE,
            "QUEUE_SUBSCRIBE",
            &[SUBSCRIBED],
            false,
            Consume,
        ),
        entry(QUEUE_GROUP, "QUEUE_GROUP", &[DONE], false, Consume),
    ]
};

/// Every reply and its name, by opcode.
pub const REPLIES: &[(u8, &str)] = &[
    (WELCOME, "WELCOME"),
    (PONG, "PONG"),
    (OPENED, "OPENED"),
    (PUBLISHED, "PUBLISHED"),
    (SUBSCRIBED, "SUBSCRIBED"),
    (DONE, "DONE"),
    (FETCHED, "FETCHED"),
    (APPEND_BEGUN, "APPEND_BEGUN"),
    (APPEND_STAGED, "APPEND_STAGED"),
    (STREAM_STATUS, "STREAM_STATUS"),
    (CURSOR, "CURSOR"),
    (CURSOR_PAGE, "CURSOR_PAGE"),
    (CACHE_VALUE, "CACHE_VALUE"),
    (CACHE_MISS, "CACHE_MISS"),
    (CACHE_STORED, "CACHE_STORED"),
    (CACHE_DELETED, "CACHE_DELETED"),
    (CACHE_COUNTER, "CACHE_COUNTER"),
    (CACHE_VALUES, "CACHE_VALUES"),
    (CACHE_STORED_MANY, "CACHE_STORED_MANY"),
    (CACHE_PAGE, "CACHE_PAGE"),
    (CACHE_LEASED, "CACHE_LEASED"),
    (CACHE_STATUS, "CACHE_STATUS"),
    (ENQUEUED, "ENQUEUED"),
    (TAKEN, "TAKEN"),
    (SETTLED, "SETTLED"),
    (QUEUE_PAGE, "QUEUE_PAGE"),
    (DEAD_PAGE, "DEAD_PAGE"),
    (MOVED, "MOVED"),
    (QUEUE_STATUS, "QUEUE_STATUS"),
    (QUEUE_REASONS, "QUEUE_REASONS"),
    (ERROR, "ERROR"),
];

/// Every frame of a delivery stream and its name, by opcode.
pub const DELIVERIES: &[(u8, &str)] = &[
    (STREAM_HEAD, "STREAM_HEAD"),
    (RECORDS, "RECORDS"),
    (LAG, "LAG"),
    (EVENTS, "EVENTS"),
    (END, "END"),
    (QUEUE_MESSAGES, "QUEUE_MESSAGES"),
];

/// Opcode to place in [`REQUESTS`] plus one, so that a lookup is one load.
const INDEX: [u8; 256] = {
    let mut index = [0_u8; 256];
    let mut i = 0;
    let mut place = 1;
    while i < REQUESTS.len() {
        index[REQUESTS[i].opcode as usize] = place;
        place += 1;
        i += 1;
    }
    index
};

/// What is known of a request opcode; `None` for every other byte.
#[must_use]
pub const fn lookup(opcode: u8) -> Option<&'static Entry> {
    match INDEX[opcode as usize] {
        0 => None,
        place => Some(&REQUESTS[place as usize - 1]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_is_found_by_its_opcode_and_nothing_else_is() {
        for opcode in 0..=u8::MAX {
            let listed = REQUESTS.iter().find(|entry| entry.opcode == opcode);
            assert_eq!(lookup(opcode), listed, "{opcode:#04x}");
        }
    }

    #[test]
    fn opcodes_are_in_order_and_the_three_kinds_are_apart() {
        assert!(REQUESTS.is_sorted_by(|a, b| a.opcode < b.opcode));
        assert!(REQUESTS.iter().all(|entry| entry.opcode < 0x80));
        assert!(REPLIES.is_sorted_by(|a, b| a.0 < b.0));
        assert!(
            REPLIES
                .iter()
                .all(|(code, _)| matches!(code, 0x80..0xC0 | 0xFF))
        );
        assert!(DELIVERIES.is_sorted_by(|a, b| a.0 < b.0));
        assert!(
            DELIVERIES
                .iter()
                .all(|(code, _)| matches!(code, 0xC0..=0xFE))
        );
    }

    #[test]
    fn every_reply_answers_something() {
        for (reply, name) in REPLIES {
            let answers = REQUESTS.iter().any(|entry| entry.replies.contains(reply));
            assert!(answers || *reply == ERROR, "{name}");
        }
    }
}
