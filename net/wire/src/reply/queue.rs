//! Replies and deliveries of queues and cursors, written where they are sent
//! from.

use pinion_types::limits::{FRAME_BYTES_MAX, QUEUE_TOKENS_MAX};
use pinion_types::{Epoch, ErrorCode, WallMs};

use super::ListFrame;
use crate::codec::Writer;
use crate::message::{
    CURSOR_ITEMS_MAX, CursorItem, DeadItem, Durability, GROUPS_MAX, GroupItem, MESSAGES_MAX,
    PeekItem, QueueMessage, REASONS_MAX, Reason, Token,
};
use crate::opcode;

macro_rules! counted {
    ($($builder:ident,)*) => {$(
        impl $builder<'_> {
            /// Items so far.
            #[must_use]
            pub const fn len(&self) -> u16 {
                self.0.count
            }

            /// Whether there is no item yet.
            #[must_use]
            pub const fn is_empty(&self) -> bool {
                self.0.count == 0
            }
        }
    )*};
}

counted!(
    TakenBuilder,
    SettledBuilder,
    QueuePageBuilder,
    DeadPageBuilder,
    CursorPageBuilder,
);

/// Writes TAKEN, or QUEUE_MESSAGES, which has the same body.
#[derive(Debug)]
pub struct TakenBuilder<'o>(ListFrame<'o>);

impl<'o> TakenBuilder<'o> {
    /// Bytes of a message beside its last error and its record.
    pub const MESSAGE_HEAD_BYTES: usize = 8 + 16 + 2 + 8 + 1;

    /// Begins the answer to a take at the end of `out`.
    #[must_use]
    pub fn new(out: &'o mut Vec<u8>, correlation: u32, lease_ms: u32) -> Self {
        Self::begin(out, opcode::TAKEN, correlation, lease_ms)
    }

    /// Begins a frame of a subscription's own stream.
    #[must_use]
    pub fn delivery(out: &'o mut Vec<u8>, lease_ms: u32) -> Self {
        Self::begin(out, opcode::QUEUE_MESSAGES, 0, lease_ms)
    }

    fn begin(out: &'o mut Vec<u8>, opcode: u8, correlation: u32, lease_ms: u32) -> Self {
        Self(ListFrame::begin(
            out,
            opcode,
            correlation,
            MESSAGES_MAX,
            |writer| writer.put(lease_ms),
        ))
    }

    /// Whether a message fits whose record takes `record_bytes`, its length
    /// field included. Ask before reserving it: what is reserved must be sent.
    #[must_use]
    pub fn fits(&self, last_error: &str, record_bytes: usize) -> bool {
        self.0.count < self.0.count_max
            && Self::MESSAGE_HEAD_BYTES + last_error.len() + record_bytes <= self.room()
    }

    /// Bytes of messages that still fit.
    #[must_use]
    pub fn room(&self) -> usize {
        let body = self.0.out.len() - self.0.frame.body_start();
        (FRAME_BYTES_MAX as usize).saturating_sub(body)
    }

    /// One message. `false`, with nothing written, when the frame is full or a
    /// field over its limit.
    #[must_use]
    pub fn push(&mut self, message: QueueMessage<'_>) -> bool {
        self.0.push(|writer| QueueMessage::write(writer, message))
    }

    /// One message whose record is encoded already, as it was put: its bytes
    /// are taken as they are. As [`TakenBuilder::push`].
    #[must_use]
    pub fn push_encoded(
        &mut self,
        id: u64,
        token: Token,
        attempt: u16,
        enqueued: WallMs,
        last_error: &str,
        record: &[u8],
    ) -> bool {
        debug_assert!(is_one_record(record), "not one record: {record:02x?}");
        self.0.push(|writer| {
            writer.put(id);
            writer.put(token);
            writer.put(attempt);
            writer.put(enqueued);
            writer.text8("last_error", last_error)?;
            writer.rest("record", record)
        })
    }

    /// Completes the frame; gives how many messages it holds.
    pub fn finish(mut self) -> u16 {
        self.0.finish(|_| {});
        self.0.count
    }
}

fn is_one_record(encoded: &[u8]) -> bool {
    let mut walk = pinion_types::block::records(encoded);
    matches!(walk.next(), Some(Ok(_))) && walk.rest().is_empty()
}

/// Writes SETTLED: one push for each token, in that order.
#[derive(Debug)]
pub struct SettledBuilder<'o>(ListFrame<'o>);

impl<'o> SettledBuilder<'o> {
    /// Begins the frame at the end of `out`.
    #[must_use]
    pub fn new(out: &'o mut Vec<u8>, correlation: u32) -> Self {
        let durability = |writer: &mut Writer<'_>| writer.put(Durability::Memory);
        Self(ListFrame::begin(
            out,
            opcode::SETTLED,
            correlation,
            QUEUE_TOKENS_MAX,
            durability,
        ))
    }

    /// What became of one token. `false` after `QUEUE_TOKENS_MAX` of them.
    #[must_use]
    pub fn push(&mut self, result: Result<(), ErrorCode>) -> bool {
        let code = result.err().map_or(0, |code| code as u16);
        self.0.push(|writer| writer.fixed("code", code))
    }

    /// Completes the frame with what the changes survive; gives how many
    /// tokens it answers.
    pub fn finish(mut self, durability: Durability) -> u16 {
        self.0.finish(|body| body[0] = durability as u8);
        self.0.count
    }
}

/// A page: the id the next one begins with, then items.
macro_rules! page {
    ($(#[$doc:meta])* $builder:ident, $opcode:ident, $item:ident) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $builder<'o>(ListFrame<'o>);

        impl<'o> $builder<'o> {
            /// Begins the frame at the end of `out`.
            #[must_use]
            pub fn new(out: &'o mut Vec<u8>, correlation: u32) -> Self {
                Self(ListFrame::begin(
                    out,
                    opcode::$opcode,
                    correlation,
                    MESSAGES_MAX,
                    |writer| writer.put(0_u64),
                ))
            }

            /// One message. `false`, with nothing written, when the page is
            /// full or a field over its limit: finish with its id.
            #[must_use]
            pub fn push(&mut self, item: $item<'_>) -> bool {
                self.0.push(|writer| $item::write(writer, item))
            }

            /// Completes the frame with the id the next page begins with, 0
            /// after the last; gives how many messages it holds.
            pub fn finish(mut self, next: u64) -> u16 {
                self.0
                    .finish(|body| body[..8].copy_from_slice(&next.to_le_bytes()));
                self.0.count
            }
        }
    };
}

page! {
    /// Writes QUEUE_PAGE.
    QueuePageBuilder, QUEUE_PAGE, PeekItem
}

page! {
    /// Writes DEAD_PAGE.
    DeadPageBuilder, DEAD_PAGE, DeadItem
}

/// Writes CURSOR_PAGE.
#[derive(Debug)]
pub struct CursorPageBuilder<'o>(ListFrame<'o>);

impl<'o> CursorPageBuilder<'o> {
    /// Begins the frame at the end of `out`.
    #[must_use]
    pub fn new(out: &'o mut Vec<u8>, correlation: u32) -> Self {
        Self(ListFrame::begin(
            out,
            opcode::CURSOR_PAGE,
            correlation,
            CURSOR_ITEMS_MAX,
            |writer| writer.put(false),
        ))
    }

    /// One cursor, in the order of their names. `false`, with nothing written,
    /// when the page is full: finish with `more`.
    #[must_use]
    pub fn push(&mut self, item: CursorItem<'_>) -> bool {
        self.0.push(|writer| CursorItem::write(writer, item))
    }

    /// Completes the frame; gives how many cursors it holds.
    pub fn finish(mut self, more: bool) -> u16 {
        self.0.finish(|body| body[0] = u8::from(more));
        self.0.count
    }
}

/// Writes QUEUE_STATUS.
#[derive(Debug)]
pub struct QueueStatusBuilder<'o>(ListFrame<'o>);

impl<'o> QueueStatusBuilder<'o> {
    /// Begins the frame at the end of `out`; the numbers as in
    /// [`QueueStatus`](crate::message::QueueStatus).
    #[must_use]
    pub fn new(
        out: &'o mut Vec<u8>,
        correlation: u32,
        next_id: u64,
        messages: u64,
        bytes: u64,
        resident_bytes: u64,
        epoch: Epoch,
    ) -> Self {
        let head = |writer: &mut Writer<'_>| {
            for number in [next_id, messages, bytes, resident_bytes] {
                writer.put(number);
            }
            writer.put(epoch);
        };
        Self(ListFrame::begin(
            out,
            opcode::QUEUE_STATUS,
            correlation,
            GROUPS_MAX,
            head,
        ))
    }

    /// One group. `false` after `QUEUE_GROUPS_MAX` of them.
    #[must_use]
    pub fn push(&mut self, group: GroupItem<'_>) -> bool {
        self.0.push(|writer| GroupItem::write(writer, group))
    }

    /// Completes the frame; gives how many groups it holds.
    pub fn finish(mut self) -> u16 {
        self.0.finish(|_| {});
        self.0.count
    }
}

/// Writes QUEUE_REASONS.
#[derive(Debug)]
pub struct ReasonsBuilder<'o>(ListFrame<'o>);

impl<'o> ReasonsBuilder<'o> {
    /// Begins the frame at the end of `out`.
    #[must_use]
    pub fn new(out: &'o mut Vec<u8>, correlation: u32) -> Self {
        Self(ListFrame::begin(
            out,
            opcode::QUEUE_REASONS,
            correlation,
            REASONS_MAX,
            |_| {},
        ))
    }

    /// One reason. `false` after 16 of them.
    #[must_use]
    pub fn push(&mut self, reason: Reason) -> bool {
        self.0.push(|writer| Reason::write(writer, reason))
    }

    /// Completes the frame; gives how many reasons it holds.
    pub fn finish(mut self) -> u16 {
        self.0.finish(|_| {});
        self.0.count
    }
}
