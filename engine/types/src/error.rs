//! What a refusal says: a stable code, whether and when to retry, what
//! happened to the request, and the facts, as numbers rather than prose.

/// Stable number of a refusal on the wire. Never reused, never renumbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum ErrorCode {
    /// The bytes are not a frame of this protocol. The connection is closed.
    Malformed = 1,
    /// No common protocol version. Facts: `Min`, `Max` the server speaks.
    UnsupportedVersion = 2,
    /// The opcode is not known to this version.
    UnknownOpcode = 3,
    /// A flag or capability bit this server does not know. Fact: `Actual` bits.
    UnknownBits = 4,
    /// A frame longer than allowed. Fact: `Limit`.
    FrameTooLarge = 5,
    /// A frame where the conversation does not allow it (before HELLO, twice HELLO).
    WrongOrder = 6,
    /// The correlation id is already in flight on this connection.
    DuplicateRequest = 7,

    /// Missing or wrong token. Get one from the operator (`--dev` writes one).
    Unauthenticated = 20,
    /// The principal has no grant for this operation on this target.
    Forbidden = 21,
    /// Sent as 0-RTT data, which may be replayed; resend after the handshake.
    TooEarly = 22,

    /// No such resource, and creation on first use is off.
    NotFound = 40,
    /// The name breaks the grammar.
    BadName = 41,
    /// The handle was not opened on this connection.
    BadHandle = 42,
    /// The partition does not exist. Fact: `Limit` = shards.
    WrongPartition = 43,
    /// The operation does not fit the kind of the resource.
    WrongKind = 44,
    /// The resource exists with another specification.
    SpecConflict = 45,
    /// The specification asks for what this node cannot give (durability, shards).
    Unsupported = 46,
    /// The subscription, watch or append session is not known on this connection.
    UnknownSubscription = 47,
    /// A field is outside its range. Facts: `Actual`, `Limit`.
    BadArgument = 48,
    /// The resource is deleted; its data is kept until its grace is over.
    ResourceClosed = 49,

    /// The core is over its budget; retry after the hint.
    Busy = 60,
    /// The node is shutting down; reconnect, possibly elsewhere.
    Draining = 61,
    /// A named limit is reached. Facts: `Limit`.
    LimitReached = 62,
    /// Another node or core owns this. Facts: `Core`, `Epoch`, `Node`.
    Redirect = 63,
    /// A blocking subscriber has not kept up; the ring cannot take more yet.
    Backlogged = 64,
    /// The core that had the request went away; the outcome is unknown.
    CoreLost = 65,
    /// The tenant or namespace has used what its quota allows. Fact: `Limit`.
    QuotaExceeded = 66,
    /// An administrator ended the session or the subscription. Begin another if it is
    /// still wanted.
    EndedByOperator = 67,

    /// A record is too large. Fact: `Limit`.
    RecordTooLarge = 80,
    /// Records are missing; resend from `Expected`.
    SequenceGap = 81,
    /// A repeat older than what the partition remembers. Fact: `Expected`.
    SequenceTooOld = 82,
    /// Conditional append lost. Fact: `Actual` = the end of the partition.
    OffsetConflict = 83,
    /// The ack asked for is weaker than the stream promises or stronger than it can give.
    AckUnavailable = 84,
    /// Another exclusive append session is active.
    SessionActive = 85,
    /// The append session is over (committed, rolled back or aborted).
    SessionUnknown = 86,
    /// The append session has staged as much as it may. Fact: `Limit`.
    StagedTooLarge = 87,
    /// The subscription fell behind and its policy is `disconnect`.
    SlowSubscriber = 88,
    /// The records of a batch contradict its header. Nothing was stored.
    BadBatch = 89,

    /// Compare-and-set lost. Fact: `Actual` = the entry's version, 0 if absent.
    VersionConflict = 100,
    /// The key exists and the condition was `absent`. Fact: `Actual` = its version.
    KeyExists = 101,
    /// The key is absent and the operation needs it.
    KeyAbsent = 102,
    /// The value is not an 8-byte counter.
    NotACounter = 103,
    /// The key or value is too large. Fact: `Limit`.
    ValueTooLarge = 104,
    /// The fill lease passed to another caller or the key was set meanwhile.
    LeaseLost = 105,
    /// Nothing arrived within the time the caller gave.
    TimedOut = 106,
    /// The sum would leave the range of i64.
    CounterOverflow = 107,

    /// The write that was to make it durable failed. Its outcome is unknown:
    /// look before sending it again.
    DurabilityFailed = 110,
    /// The disk is full; what frees space is still taken. Nothing happened.
    ReadOnly = 111,
    /// Data of the partition is damaged or a write of it failed. Only repair helps.
    PartitionFenced = 112,
    /// The log has taken as much as it may before the disk has it. Fact: `Limit` bytes.
    LogBacklogged = 113,

    /// Not a token of this queue and group, or of a reservation that ended otherwise.
    InvalidToken = 120,
    /// The reservation ran out; the message is or will be given to someone else.
    TokenExpired = 121,
    /// The queue holds as many messages or bytes as it may. Fact: `Limit`.
    QueueFull = 122,
    /// The queue has no such consumer group.
    UnknownGroup = 123,
    /// The queue has no such message (any more), or not in that state.
    UnknownMessage = 124,
    /// The partition has no cursor of that name.
    CursorUnknown = 125,
}

/// Whether, when and where to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RetryClass {
    /// Trying again will not help until something else changes.
    Fatal = 0,
    /// Safe to send again at once (with the caller's own backoff).
    Retry = 1,
    /// Safe to send again after `retry_after_ms`.
    RetryAfter = 2,
    /// Send it to the core or node named in the facts.
    Redirect = 3,
    /// It may have happened; look before sending it again.
    OutcomeUnknown = 4,
}

/// What became of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Outcome {
    /// It was done, with what was promised.
    Done = 0,
    /// Nothing happened.
    NotAdmitted = 1,
    /// It may or may not have happened.
    Unknown = 2,
}

/// Name of a number that comes with a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FactId {
    /// The bound that was reached.
    Limit = 1,
    /// What the server expected.
    Expected = 2,
    /// What the server found.
    Actual = 3,
    /// A data core.
    Core = 4,
    /// Epoch of the shard map.
    Epoch = 5,
    /// Smallest value allowed.
    Min = 6,
    /// Largest value allowed.
    Max = 7,
    /// A node of the cluster, by its number.
    Node = 8,
}

/// One number of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fact {
    /// What it is.
    pub id: FactId,
    /// Its value.
    pub value: u64,
}

/// Most facts a refusal carries.
pub const FACTS_MAX: usize = 3;

/// A request was not done. Small and `Copy`, so refusing costs no allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The stable code.
    pub code: ErrorCode,
    /// What the caller may do.
    pub retry: RetryClass,
    /// What happened.
    pub outcome: Outcome,
    /// With [`RetryClass::RetryAfter`]: how long, in milliseconds.
    pub retry_after_ms: u32,
    facts: [Option<Fact>; FACTS_MAX],
}

impl Refusal {
    /// A refusal with the usual retry class of `code`; nothing happened.
    #[must_use]
    pub const fn new(code: ErrorCode) -> Self {
        Self {
            code,
            retry: code.retry(),
            outcome: code.outcome(),
            retry_after_ms: code.retry_after_ms(),
            facts: [None; FACTS_MAX],
        }
    }

    /// The same with one more fact.
    ///
    /// # Panics
    /// With more than [`FACTS_MAX`] facts: a bug of the caller.
    #[must_use]
    pub const fn with(mut self, id: FactId, value: u64) -> Self {
        let mut i = 0;
        while i < FACTS_MAX {
            if self.facts[i].is_none() {
                self.facts[i] = Some(Fact { id, value });
                return self;
            }
            i += 1;
        }
        panic!("a refusal carries at most FACTS_MAX facts");
    }

    /// The same with another hint when to retry.
    #[must_use]
    pub const fn after_ms(mut self, ms: u32) -> Self {
        self.retry = RetryClass::RetryAfter;
        self.retry_after_ms = ms;
        self
    }

    /// The facts, in the order they were added.
    pub fn facts(&self) -> impl Iterator<Item = Fact> + '_ {
        self.facts.iter().flatten().copied()
    }

    /// The value of one fact.
    #[must_use]
    pub fn fact(&self, id: FactId) -> Option<u64> {
        self.facts().find(|f| f.id == id).map(|f| f.value)
    }
}

impl core::fmt::Display for Refusal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} (code {})", self.code.advice(), self.code as u16)?;
        for fact in self.facts() {
            write!(f, ", {:?} {}", fact.id, fact.value)?;
        }
        Ok(())
    }
}

impl core::error::Error for Refusal {}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Self {
        Self::new(code)
    }
}

macro_rules! codes {
    ($($name:ident => $retry:ident, $advice:literal;)*) => {
        impl ErrorCode {
            /// Every code, for tables and tests.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The code behind a wire number, if there is one.
            #[must_use]
            pub const fn from_u16(number: u16) -> Option<Self> {
                $(if number == Self::$name as u16 { return Some(Self::$name); })*
                None
            }

            /// The retry class this code has unless the refusal says otherwise.
            #[must_use]
            pub const fn retry(self) -> RetryClass {
                match self { $(Self::$name => RetryClass::$retry,)* }
            }

            /// One sentence for people; never parsed.
            #[must_use]
            pub const fn advice(self) -> &'static str {
                match self { $(Self::$name => $advice,)* }
            }
        }
    };
}

codes! {
    Malformed => Fatal, "the bytes are not a frame of this protocol";
    UnsupportedVersion => Fatal, "no common protocol version";
    UnknownOpcode => Fatal, "this server does not know the opcode";
    UnknownBits => Fatal, "this server does not know a flag or capability bit";
    FrameTooLarge => Fatal, "the frame is longer than allowed";
    WrongOrder => Fatal, "the frame is not allowed at this point of the conversation";
    DuplicateRequest => Fatal, "the correlation id is already in flight";
    Unauthenticated => Fatal, "missing or wrong token: pass --token FILE or set PINION_TOKEN (a node started with --dev writes DIR/dev/client.token)";
    Forbidden => Fatal, "the token has no grant for this operation on this resource";
    TooEarly => Retry, "0-RTT data may be replayed: resend after the handshake";
    NotFound => Fatal, "no such resource: declare it in the configuration, or start the node with --dev to create on first use";
    BadName => Fatal, "the name breaks the grammar: segments of A-Z a-z 0-9 . _ - joined by '/'";
    BadHandle => Fatal, "the handle was not opened on this connection";
    WrongPartition => Fatal, "the resource has no such partition";
    WrongKind => Fatal, "the operation does not fit the kind of resource";
    SpecConflict => Fatal, "the resource exists with another specification";
    Unsupported => Fatal, "this node cannot give what the specification asks for";
    UnknownSubscription => Fatal, "no such subscription on this connection";
    BadArgument => Fatal, "a field is outside its range";
    ResourceClosed => Fatal, "the resource is deleted: an administrator can take that back until its data is removed";
    Busy => RetryAfter, "the core is over its budget";
    Draining => RetryAfter, "the node is shutting down";
    LimitReached => Fatal, "a limit is reached";
    Redirect => Redirect, "another core or node owns this";
    Backlogged => RetryAfter, "a blocking subscriber has not kept up";
    CoreLost => OutcomeUnknown, "the core that had the request went away";
    QuotaExceeded => RetryAfter, "the tenant or namespace has used what its quota allows";
    EndedByOperator => Fatal, "an administrator ended it";
    RecordTooLarge => Fatal, "a record is too large";
    SequenceGap => Fatal, "records are missing before this sequence: resend from the expected one";
    SequenceTooOld => Fatal, "a repeat older than the partition remembers";
    OffsetConflict => Fatal, "the partition's end is not the expected offset";
    AckUnavailable => Fatal, "the stream cannot give this acknowledgement";
    SessionActive => RetryAfter, "another exclusive append session is active";
    SessionUnknown => Fatal, "the append session is over";
    StagedTooLarge => Fatal, "the append session has staged as much as it may";
    SlowSubscriber => Fatal, "the subscription fell behind and its policy is to disconnect";
    BadBatch => Fatal, "the records contradict the batch header";
    VersionConflict => Fatal, "the entry has another version";
    KeyExists => Fatal, "the key exists";
    KeyAbsent => Fatal, "the key is absent";
    NotACounter => Fatal, "the value is not an 8-byte counter";
    ValueTooLarge => Fatal, "the key or value is too large";
    LeaseLost => Fatal, "the fill lease is no longer held";
    TimedOut => Retry, "nothing arrived within the time given";
    CounterOverflow => Fatal, "the counter would leave the range of a 64-bit integer";
    DurabilityFailed => OutcomeUnknown, "the write failed: it may or may not survive; look before sending again";
    ReadOnly => RetryAfter, "the disk is full: deletes and acknowledgements are still taken";
    PartitionFenced => Fatal, "data of the partition is damaged or a write of it failed: see pinion doctor";
    LogBacklogged => RetryAfter, "the log waits for the disk";
    InvalidToken => Fatal, "the token is of no reservation";
    TokenExpired => Fatal, "the reservation of this token ran out";
    QueueFull => RetryAfter, "the queue holds as much as it may";
    UnknownGroup => Fatal, "the queue has no such group";
    UnknownMessage => Fatal, "the queue has no such message";
    CursorUnknown => Fatal, "the partition has no cursor of this name";
}

impl ErrorCode {
    const fn outcome(self) -> Outcome {
        match self.retry() {
            RetryClass::OutcomeUnknown => Outcome::Unknown,
            _ => Outcome::NotAdmitted,
        }
    }

    const fn retry_after_ms(self) -> u32 {
        match self {
            Self::Busy => 5,
            Self::Backlogged => 10,
            Self::Draining => 1000,
            Self::SessionActive => 50,
            Self::QuotaExceeded => 1000,
            Self::ReadOnly => 1000,
            Self::LogBacklogged => 5,
            Self::QueueFull => 100,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives_its_number_and_numbers_are_unique() {
        for (i, code) in ErrorCode::ALL.iter().enumerate() {
            assert_eq!(ErrorCode::from_u16(*code as u16), Some(*code));
            assert!(
                ErrorCode::ALL[i + 1..]
                    .iter()
                    .all(|c| *c as u16 != *code as u16)
            );
        }
        assert_eq!(ErrorCode::from_u16(0), None);
    }

    #[test]
    fn a_refusal_keeps_its_facts_and_says_nothing_happened() {
        let refusal = Refusal::new(ErrorCode::SequenceGap)
            .with(FactId::Expected, 7)
            .with(FactId::Actual, 9);
        assert_eq!(refusal.fact(FactId::Expected), Some(7));
        assert_eq!(refusal.fact(FactId::Limit), None);
        assert_eq!(refusal.outcome, Outcome::NotAdmitted);
        assert_eq!(Refusal::new(ErrorCode::CoreLost).outcome, Outcome::Unknown);
        assert!(Refusal::new(ErrorCode::Busy).retry_after_ms > 0);
    }
}
