//! A snapshot on its way to another member, in chunks: both ends.
//!
//! What is sent is the snapshot state of a checkpoint ([`crate::format`]), so that
//! what arrives is checked by the code that reads it from the disk. The sender keeps a
//! few chunks under way and goes back to the first one that was not taken when it hears
//! that a later one arrived, or nothing; raft-rs is told of the end exactly once,
//! however it comes.

use std::collections::BTreeMap;

use bytes::Bytes;
use pinion_types::Monotonic;

use crate::MemberId;
use crate::limits::{CHUNK_BYTES, CHUNK_WINDOW, STATE_BYTES_MAX, TRANSFER_RETRY, TRANSFER_TIMEOUT};
use crate::peer::{Chunk, ChunkAck, ChunkVerdict, Offer, PeerMessage};

/// One snapshot for one member.
struct Outgoing {
    offer: Offer,
    /// Of the snapshot.
    index: u64,
    bytes: Bytes,
    /// The member has everything before it.
    taken: usize,
    /// Sent up to here.
    sent: usize,
    /// The offer was answered.
    answered: bool,
    /// Where it last went back to because something did not arrive.
    back_at: Option<usize>,
    retry_at: Monotonic,
    give_up_at: Monotonic,
}

/// What a leader sends.
#[derive(Default)]
pub(crate) struct Outgoings {
    by_member: BTreeMap<MemberId, Outgoing>,
    started: u64,
}

/// How a transfer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The member has it.
    Arrived,
    /// It does not.
    Failed,
}

impl Outgoings {
    /// Begins a transfer of the snapshot of `index`, in place of one to the same member.
    ///
    /// All who are sent that one share its bytes: many come back at once when a network heals,
    /// and a copy and a checksum for each, in one turn, could cost the lead and as much memory
    /// as all of them together.
    pub(crate) fn begin(
        &mut self,
        now: Monotonic,
        to: MemberId,
        (term, index): (u64, u64),
        encode: impl FnOnce() -> Bytes,
    ) -> PeerMessage {
        self.started += 1;
        let shared = self.by_member.values().find(|one| one.index == index);
        let (bytes, crc) = if let Some(with) = shared {
            (with.bytes.clone(), with.offer.crc)
        } else {
            let bytes = encode();
            let crc = crc32c::crc32c(&bytes);
            (bytes, crc)
        };
        let offer = Offer {
            transfer: self.started,
            term,
            total: bytes.len() as u64,
            crc,
        };
        let outgoing = Outgoing {
            offer,
            index,
            bytes,
            taken: 0,
            sent: 0,
            answered: false,
            back_at: None,
            retry_at: now + TRANSFER_RETRY,
            give_up_at: now + TRANSFER_TIMEOUT,
        };
        self.by_member.insert(to, outgoing);
        PeerMessage::Offer(offer)
    }

    /// A member says how far it is. Gives what it is sent next, and the end.
    pub(crate) fn handle_ack(
        &mut self,
        now: Monotonic,
        from: MemberId,
        ack: ChunkAck,
    ) -> (Vec<PeerMessage>, Option<End>) {
        let Some(one) = self.by_member.get_mut(&from) else {
            return (Vec::new(), None);
        };
        if one.offer.transfer != ack.transfer {
            return (Vec::new(), None);
        }
        let offset = usize::try_from(ack.offset).unwrap_or(usize::MAX);
        match ack.verdict {
            ChunkVerdict::Taken if offset <= one.bytes.len() => {
                if offset > one.taken || !one.answered {
                    one.answered = true;
                    one.taken = one.taken.max(offset);
                    one.sent = one.sent.max(offset);
                    one.retry_at = now + TRANSFER_RETRY;
                    one.give_up_at = now + TRANSFER_TIMEOUT;
                } else if offset == one.taken && one.back_at != Some(offset) {
                    // A later part is there and this one is not. Once for each: what was
                    // only late is answered like this several times.
                    one.back_at = Some(offset);
                    one.sent = offset;
                }
                (one.next_chunks(), None)
            }
            ChunkVerdict::Done => {
                self.by_member.remove(&from);
                (Vec::new(), Some(End::Arrived))
            }
            ChunkVerdict::Taken | ChunkVerdict::Refused | ChunkVerdict::Corrupt => {
                self.by_member.remove(&from);
                (Vec::new(), Some(End::Failed))
            }
        }
    }

    /// The member cannot be reached; true when something was on its way to it.
    pub(crate) fn handle_unreachable(&mut self, peer: MemberId) -> bool {
        self.by_member.remove(&peer).is_some()
    }

    /// The time has come: what is to be said again, and to whom nothing gets through.
    pub(crate) fn handle_timeout(
        &mut self,
        now: Monotonic,
    ) -> (Vec<(MemberId, PeerMessage)>, Vec<MemberId>) {
        let (mut again, mut failed) = (Vec::new(), Vec::new());
        for (to, one) in &mut self.by_member {
            if one.give_up_at <= now {
                failed.push(*to);
            } else if one.retry_at <= now {
                one.retry_at = now + TRANSFER_RETRY;
                if one.answered {
                    one.sent = one.taken;
                    again.extend(one.next_chunks().into_iter().map(|chunk| (*to, chunk)));
                } else {
                    again.push((*to, PeerMessage::Offer(one.offer)));
                }
            }
        }
        for to in &failed {
            self.by_member.remove(to);
        }
        (again, failed)
    }

    /// This member leads no more: raft-rs has forgotten them.
    pub(crate) fn clear(&mut self) {
        self.by_member.clear();
    }

    pub(crate) fn next_deadline(&self) -> Option<Monotonic> {
        let due = |one: &Outgoing| one.retry_at.min(one.give_up_at);
        self.by_member.values().map(due).min()
    }
}

impl Outgoing {
    fn next_chunks(&mut self) -> Vec<PeerMessage> {
        let mut chunks = Vec::new();
        while self.sent < self.bytes.len() && self.sent < self.taken + CHUNK_WINDOW * CHUNK_BYTES {
            let end = self.bytes.len().min(self.sent + CHUNK_BYTES);
            chunks.push(PeerMessage::Chunk(Chunk {
                transfer: self.offer.transfer,
                offset: self.sent as u64,
                bytes: self.bytes.slice(self.sent..end),
            }));
            self.sent = end;
        }
        chunks
    }
}

/// What a follower is being sent: one at a time, the newest term's.
#[derive(Default)]
pub(crate) struct Incoming {
    current: Option<(MemberId, Offer, Vec<u8>)>,
    /// The last that came through, for a sender that did not hear so.
    last: Option<(MemberId, Offer)>,
}

/// What came of a chunk.
pub(crate) enum Taken {
    /// To be answered so.
    Answer(ChunkAck),
    /// All of it is here and unharmed: sent in `term`, to be answered with `ack` when
    /// it is what it should be.
    Whole {
        term: u64,
        bytes: Bytes,
        ack: ChunkAck,
    },
}

impl Incoming {
    /// Somebody offers a snapshot; `term` is this member's.
    pub(crate) fn handle_offer(&mut self, from: MemberId, term: u64, offer: Offer) -> ChunkAck {
        let ack = |offset, verdict| ChunkAck {
            transfer: offer.transfer,
            offset,
            verdict,
        };
        if self.last == Some((from, offer)) {
            return ack(offer.total, ChunkVerdict::Done);
        }
        let known = self.current.as_ref();
        if let Some((who, has, bytes)) = known
            && (*who, *has) == (from, offer)
        {
            return ack(bytes.len() as u64, ChunkVerdict::Taken);
        }
        let newer = known.is_some_and(|(who, has, _)| *who != from && has.term >= offer.term);
        let sized = (1..=STATE_BYTES_MAX as u64).contains(&offer.total);
        if offer.term < term || !sized || newer {
            return ack(0, ChunkVerdict::Refused);
        }
        // Room is taken as the bytes come, not because somebody says how many.
        self.current = Some((from, offer, Vec::new()));
        ack(0, ChunkVerdict::Taken)
    }

    /// A chunk arrives; `None` when nobody is to be told.
    pub(crate) fn handle_chunk(&mut self, from: MemberId, chunk: &Chunk) -> Option<Taken> {
        let transfer = chunk.transfer;
        if let Some((who, offer)) = self.last
            && (who, offer.transfer) == (from, transfer)
        {
            return Some(Taken::Answer(ChunkAck {
                transfer,
                offset: offer.total,
                verdict: ChunkVerdict::Done,
            }));
        }
        let (who, offer, bytes) = self.current.as_mut()?;
        if *who != from || offer.transfer != transfer {
            return None;
        }
        let fits = (bytes.len() + chunk.bytes.len()) as u64 <= offer.total;
        if chunk.offset == bytes.len() as u64 && fits {
            bytes.extend_from_slice(&chunk.bytes);
        }
        let ack = |offset, verdict| ChunkAck {
            transfer,
            offset,
            verdict,
        };
        let has = bytes.len() as u64;
        if has < offer.total {
            return Some(Taken::Answer(ack(has, ChunkVerdict::Taken)));
        }
        let (_, offer, bytes) = self.current.take()?;
        if crc32c::crc32c(&bytes) != offer.crc {
            return Some(Taken::Answer(ack(0, ChunkVerdict::Corrupt)));
        }
        self.last = Some((from, offer));
        Some(Taken::Whole {
            term: offer.term,
            bytes: bytes.into(),
            ack: ack(has, ChunkVerdict::Done),
        })
    }

    /// What came through was not what it should be.
    pub(crate) fn reject(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const TO: MemberId = MemberId(2);

    fn at(ms: u64) -> Monotonic {
        Monotonic::from_millis(ms)
    }

    /// As many bytes as fill the window twice, and one more.
    fn state() -> Bytes {
        let len = 2 * CHUNK_WINDOW * CHUNK_BYTES + 1;
        let bytes: Vec<u8> = (0..=250).cycle().take(len).collect();
        bytes.into()
    }

    fn begin(outgoing: &mut Outgoings) -> Offer {
        match outgoing.begin(at(0), TO, (3, 7), state) {
            PeerMessage::Offer(offer) => offer,
            other => panic!("{other:?}"),
        }
    }

    fn ack(offer: Offer, offset: usize, verdict: ChunkVerdict) -> ChunkAck {
        ChunkAck {
            transfer: offer.transfer,
            offset: offset as u64,
            verdict,
        }
    }

    fn offsets(messages: &[PeerMessage]) -> Vec<usize> {
        let chunks = messages.iter().map(|message| match message {
            PeerMessage::Chunk(chunk) => usize::try_from(chunk.offset).unwrap() / CHUNK_BYTES,
            other => panic!("{other:?}"),
        });
        chunks.collect()
    }

    fn taken(outgoing: &mut Outgoings, offer: Offer, now: u64, chunks: usize) -> Vec<usize> {
        let said = ack(offer, chunks * CHUNK_BYTES, ChunkVerdict::Taken);
        let (messages, end) = outgoing.handle_ack(at(now), TO, said);
        assert_eq!(end, None);
        offsets(&messages)
    }

    #[test]
    fn a_window_goes_on_with_every_answer() {
        let mut outgoing = Outgoings::default();
        let offer = begin(&mut outgoing);
        assert_eq!(taken(&mut outgoing, offer, 1, 0), [0, 1, 2, 3]);
        assert_eq!(taken(&mut outgoing, offer, 2, 1), [4]);
        assert_eq!(taken(&mut outgoing, offer, 3, 4), [5, 6, 7]);
        assert!(
            taken(&mut outgoing, offer, 4, 2).is_empty(),
            "an answer that comes late says nothing"
        );
        assert_eq!(taken(&mut outgoing, offer, 5, 8), [8]);
        let done = ack(offer, state().len(), ChunkVerdict::Done);
        assert_eq!(outgoing.handle_ack(at(6), TO, done).1, Some(End::Arrived));
        assert_eq!(outgoing.handle_ack(at(7), TO, done).1, None, "told once");
        assert_eq!(outgoing.next_deadline(), None);
    }

    #[test]
    fn all_who_are_sent_one_snapshot_share_it() {
        let mut outgoing = Outgoings::default();
        let (mut made, mut offers) = (0, Vec::new());
        for (to, index) in [(2, 7), (3, 7), (4, 8), (5, 7), (2, 7)] {
            let encode = || {
                made += 1;
                state()
            };
            let message = outgoing.begin(at(0), MemberId(to), (3, index), encode);
            let PeerMessage::Offer(offer) = message else {
                panic!("{message:?}");
            };
            offers.push((offer.transfer, offer.crc, offer.total));
        }
        assert_eq!(made, 2);
        let (crc, total) = (crc32c::crc32c(&state()), state().len() as u64);
        let expected = (1..=5).map(|transfer| (transfer, crc, total));
        assert!(expected.eq(offers));
        // Nothing is kept of what nobody is sent any more.
        outgoing.clear();
        outgoing.begin(at(0), TO, (3, 7), || {
            made += 1;
            state()
        });
        assert_eq!(made, 3);
    }

    #[test]
    fn what_did_not_arrive_goes_again_once_for_a_repeated_answer() {
        let mut outgoing = Outgoings::default();
        let offer = begin(&mut outgoing);
        taken(&mut outgoing, offer, 1, 0);
        assert_eq!(taken(&mut outgoing, offer, 2, 1), [4]);
        assert_eq!(taken(&mut outgoing, offer, 3, 1), [1, 2, 3, 4]);
        assert!(taken(&mut outgoing, offer, 4, 1).is_empty());
        assert_eq!(taken(&mut outgoing, offer, 5, 2), [5]);
        assert_eq!(taken(&mut outgoing, offer, 6, 2), [2, 3, 4, 5]);
    }

    #[test]
    fn it_is_said_again_after_silence_and_given_up_without_progress() {
        let mut outgoing = Outgoings::default();
        let offer = begin(&mut outgoing);
        let retry = at(0) + TRANSFER_RETRY;
        assert_eq!(outgoing.next_deadline(), Some(retry));
        let (again, failed) = outgoing.handle_timeout(retry);
        assert_eq!(again, [(TO, PeerMessage::Offer(offer))]);
        assert!(failed.is_empty());
        taken(&mut outgoing, offer, 1500, 0);
        let (again, _) = outgoing.handle_timeout(at(1500) + TRANSFER_RETRY);
        let again: Vec<PeerMessage> = again.into_iter().map(|(_, message)| message).collect();
        assert_eq!(offsets(&again), [0, 1, 2, 3]);
        // Answers that say nothing new are no progress.
        for now in 3..11 {
            taken(&mut outgoing, offer, now * 1000, 0);
        }
        let (_, failed) = outgoing.handle_timeout(at(1500) + TRANSFER_TIMEOUT);
        assert_eq!(failed, [TO]);
        assert_eq!(outgoing.next_deadline(), None);
    }

    #[test]
    fn it_ends_when_it_is_refused_or_answered_with_what_cannot_be() {
        for (offset, verdict) in [
            (0, ChunkVerdict::Refused),
            (0, ChunkVerdict::Corrupt),
            (state().len() + 1, ChunkVerdict::Taken),
        ] {
            let mut outgoing = Outgoings::default();
            let offer = begin(&mut outgoing);
            let other = ack(
                Offer {
                    transfer: 9,
                    ..offer
                },
                offset,
                verdict,
            );
            assert_eq!(outgoing.handle_ack(at(1), TO, other).1, None);
            let said = ack(offer, offset, verdict);
            assert_eq!(outgoing.handle_ack(at(1), MemberId(3), said).1, None);
            let (_, end) = outgoing.handle_ack(at(1), TO, said);
            assert_eq!(end, Some(End::Failed));
        }
        let mut outgoing = Outgoings::default();
        begin(&mut outgoing);
        assert!(!outgoing.handle_unreachable(MemberId(3)));
        assert!(outgoing.handle_unreachable(TO));
        assert!(!outgoing.handle_unreachable(TO));
        begin(&mut outgoing);
        outgoing.clear();
        assert_eq!(outgoing.next_deadline(), None);
    }

    const FROM: MemberId = MemberId(1);

    fn offer() -> Offer {
        Offer {
            transfer: 5,
            term: 3,
            total: 8,
            crc: crc32c::crc32c(b"snapshot"),
        }
    }

    fn chunk(incoming: &mut Incoming, from: MemberId, offset: u64, bytes: &'static [u8]) -> Taken {
        let bytes = Bytes::from_static(bytes);
        let transfer = offer().transfer;
        let chunk = Chunk {
            transfer,
            offset,
            bytes,
        };
        let taken = incoming.handle_chunk(from, &chunk);
        taken.unwrap_or(Taken::Answer(ack(offer(), 99, ChunkVerdict::Refused)))
    }

    fn answer(taken: &Taken) -> (u64, ChunkVerdict) {
        match taken {
            Taken::Answer(ack) | Taken::Whole { ack, .. } => (ack.offset, ack.verdict),
        }
    }

    #[test]
    fn parts_are_taken_in_their_order_and_the_whole_once() {
        let mut incoming = Incoming::default();
        let offered = |incoming: &mut Incoming| {
            let ack = incoming.handle_offer(FROM, 3, offer());
            (ack.offset, ack.verdict)
        };
        assert_eq!(offered(&mut incoming), (0, ChunkVerdict::Taken));
        let taken = chunk(&mut incoming, FROM, 4, b"shot");
        assert_eq!(answer(&taken), (0, ChunkVerdict::Taken));
        let taken = chunk(&mut incoming, FROM, 0, b"snap");
        assert_eq!(answer(&taken), (4, ChunkVerdict::Taken));
        let taken = chunk(&mut incoming, FROM, 0, b"snap");
        assert_eq!(answer(&taken), (4, ChunkVerdict::Taken));
        assert_eq!(offered(&mut incoming), (4, ChunkVerdict::Taken));
        let taken = chunk(&mut incoming, FROM, 4, b"shots");
        assert_eq!(
            answer(&taken),
            (4, ChunkVerdict::Taken),
            "more than was offered"
        );
        let Taken::Whole { term, bytes, ack } = chunk(&mut incoming, FROM, 4, b"shot") else {
            panic!("all of it is here");
        };
        assert_eq!((term, &bytes[..]), (3, &b"snapshot"[..]));
        assert_eq!((ack.offset, ack.verdict), (8, ChunkVerdict::Done));
        // Who did not hear so asks again, and is told.
        let taken = chunk(&mut incoming, FROM, 4, b"shot");
        assert!(matches!(taken, Taken::Answer(ack) if ack.verdict == ChunkVerdict::Done));
        assert_eq!(offered(&mut incoming), (8, ChunkVerdict::Done));
        incoming.reject();
        assert_eq!(offered(&mut incoming), (0, ChunkVerdict::Taken));
    }

    #[test]
    fn what_is_not_what_was_offered_is_not_taken() {
        let mut incoming = Incoming::default();
        incoming.handle_offer(FROM, 3, offer());
        let stranger = chunk(&mut incoming, TO, 0, b"snapshot");
        assert_eq!(answer(&stranger), (99, ChunkVerdict::Refused));
        let taken = chunk(&mut incoming, FROM, 0, b"snapshop");
        assert_eq!(answer(&taken), (0, ChunkVerdict::Corrupt));
        let gone = chunk(&mut incoming, FROM, 0, b"snapshot");
        assert_eq!(answer(&gone), (99, ChunkVerdict::Refused));
    }

    #[test]
    fn an_offer_that_is_old_or_too_large_or_beside_another_is_refused() {
        let mut incoming = Incoming::default();
        let large = Offer {
            total: STATE_BYTES_MAX as u64 + 1,
            ..offer()
        };
        let none = Offer {
            total: 0,
            ..offer()
        };
        for (term, offer) in [(4, offer()), (3, large), (3, none)] {
            let ack = incoming.handle_offer(FROM, term, offer);
            assert_eq!(ack.verdict, ChunkVerdict::Refused);
        }
        let newer = Offer { term: 4, ..offer() };
        for (from, offer, verdict) in [
            (FROM, offer(), ChunkVerdict::Taken),
            (TO, offer(), ChunkVerdict::Refused),
            (TO, newer, ChunkVerdict::Taken),
            (FROM, offer(), ChunkVerdict::Refused),
        ] {
            let ack = incoming.handle_offer(from, 3, offer);
            assert_eq!(ack.verdict, verdict, "{from:?} {offer:?}");
        }
    }
}
