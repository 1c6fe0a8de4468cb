//! Readers of streams: one that reads ranges at random, and one that keeps a
//! named cursor.

use std::collections::BTreeMap;

use pinion_simkit::SimRng;
use pinion_types::limits::CURSORS_MAX;
use pinion_types::{ErrorCode, Offset};
use pinion_wire::message::{
    CursorCommit, CursorDelete, CursorGet, CursorList, Fetch, Reply, Request,
};

use super::super::client::{Client, records_in};
use super::super::truth::{PlayerId, Truth, Wish};
use super::{Place, disk, value_in};
use crate::{Violation, promise};

/// Reads ranges at random; what was acknowledged before must be there.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    asked: BTreeMap<u32, Question>,
}

/// What a reader asked.
#[derive(Clone, Copy, Debug)]
struct Question {
    from: u64,
    /// The partition began and ended there at least.
    first: u64,
    end: u64,
    max_records: u32,
    max_bytes: u32,
    wish: Wish,
}

/// Keeps a named cursor.
#[derive(Debug, Default)]
pub(crate) struct Bookmark {
    /// Where to, or whether it is to be forgotten.
    changes: BTreeMap<u32, Option<u64>>,
    gets: Vec<u32>,
}

fn name_of(player: PlayerId) -> String {
    format!("bookmark-{player}")
}

impl Reader {
    /// Its connection is gone.
    pub(super) fn lost(&mut self) {
        self.asked.clear();
    }

    pub(super) fn act(
        &mut self,
        client: &mut Client,
        rng: &mut SimRng,
        place: Place,
        truth: &mut Truth,
    ) {
        if self.asked.len() > 3 {
            return;
        }
        let stream = truth.stream(place.key);
        let (first, end) = (stream.first(), stream.end());
        let low = if rng.one_in(4) { 0 } else { first };
        let from = rng.between(low, end.max(first));
        let question = Question {
            from,
            first,
            end,
            max_records: u32::try_from(rng.between(1, 40)).expect("small"),
            max_bytes: 1 << rng.between(6, 18),
            wish: if rng.one_in(3) {
                *rng.pick(&Wish::SOME)
            } else {
                Wish::All
            },
        };
        let filter = question.wish.filter();
        let asked = client.send(&Request::Fetch(Fetch {
            handle: place.handle,
            partition: place.partition,
            from: Offset(from),
            max_records: question.max_records,
            max_bytes: question.max_bytes,
            filter: filter.as_filter(),
        }));
        self.asked.insert(asked, question);
    }

    pub(super) fn answered(
        &mut self,
        number: u32,
        reply: &Reply<'_>,
        key: (usize, u16),
        truth: &mut Truth,
    ) -> Result<(), Violation> {
        let Some(question) = self.asked.remove(&number) else {
            return Err(Violation::new(format!("{reply:?} to nothing")));
        };
        let Reply::Fetched(fetched) = reply else {
            return Ok(());
        };
        let wish = question.wish;
        promise!(
            fetched.end.0 >= question.end,
            "the end is {}, somebody knew of {} before",
            fetched.end.0,
            question.end
        );
        let stream = truth.stream(key);
        stream.told_end(fetched.end.0)?;
        let available = fetched.first_available.0;
        promise!(
            available >= question.first,
            "the oldest is {available}, somebody knew of {} before",
            question.first
        );
        stream.begins_at(available)?;
        let start = question.from.max(available);
        let (mut next, mut records) = (start, 0);
        for block in fetched.blocks() {
            let (header, block) =
                block.map_err(|error| Violation::new(format!("not a block: {error:?}")))?;
            for shown in records_in(&header, block)? {
                let value = value_in(&shown.value)?;
                stream.shown(&shown, value)?;
                let offset = shown.offset;
                promise!(
                    offset >= next && wish.wants(value),
                    "fetched {offset} for {wish:?}, {next} is next"
                );
                stream.unwanted(wish, next..offset)?;
                next = offset + 1;
                records += 1;
            }
        }
        let go_on = fetched.next.0;
        promise!(
            go_on >= next,
            "fetched up to {next}, told to go on at {go_on}"
        );
        stream.unwanted(wish, next..go_on)?;
        promise!(
            go_on > start || start >= question.end,
            "nothing was fetched at {start} of {}",
            question.end
        );
        promise!(
            records <= question.max_records
                && (records <= 1 || fetched.blocks.len() <= question.max_bytes as usize),
            "{records} records in {} bytes for {question:?}",
            fetched.blocks.len()
        );
        truth.counts.delivered += u64::from(records);
        if wish != Wish::All {
            truth.counts.filtered += u64::from(records);
        }
        Ok(())
    }
}

impl Bookmark {
    /// Its connection is gone.
    pub(super) fn lost(&mut self) {
        self.changes.clear();
        self.gets.clear();
    }

    pub(super) fn act(
        &mut self,
        client: &mut Client,
        rng: &mut SimRng,
        place: Place,
        truth: &mut Truth,
    ) {
        let Place {
            handle,
            partition,
            key,
            player,
        } = place;
        let name = name_of(player);
        let end = truth.stream(key).end();
        let cursor = truth.cursors.entry((key.0, key.1, player as u64));
        if rng.one_in(5) {
            cursor.or_default().asked(None);
            let asked = client.send(&Request::CursorDelete(CursorDelete {
                handle,
                partition,
                name: &name,
            }));
            self.changes.insert(asked, None);
        } else if rng.coin() {
            let offset = rng.below(end + 1);
            cursor.or_default().asked(Some(offset));
            let asked = client.send(&Request::CursorCommit(CursorCommit {
                handle,
                partition,
                offset: Offset(offset),
                name: &name,
            }));
            self.changes.insert(asked, Some(offset));
        } else if self.changes.is_empty() && self.gets.is_empty() {
            let asked = if rng.coin() {
                client.send(&Request::CursorGet(CursorGet {
                    handle,
                    partition,
                    name: &name,
                }))
            } else {
                client.send(&Request::CursorList(CursorList {
                    handle,
                    partition,
                    max_items: CURSORS_MAX,
                    after: "",
                }))
            };
            self.gets.push(asked);
        }
    }

    pub(super) fn answered(
        &mut self,
        number: u32,
        reply: &Reply<'_>,
        key: (usize, u16),
        me: PlayerId,
        truth: &mut Truth,
    ) -> Result<(), Violation> {
        let cursor = truth.cursors.entry((key.0, key.1, me as u64)).or_default();
        if let Some(place) = self.changes.remove(&number) {
            match reply {
                Reply::Cursor(got) => {
                    disk(got.durability)?;
                    let offset = got.offset.0;
                    promise!(place == Some(offset), "a cursor at {offset}, not {place:?}");
                    cursor.acked(place);
                }
                Reply::Done => {
                    promise!(
                        place.is_none(),
                        "a cursor at {place:?} is answered by nothing"
                    );
                    cursor.acked(None);
                    truth.counts.cursors_deleted += 1;
                }
                // There is none to be forgotten.
                Reply::Error(refusal) if refusal.code == ErrorCode::CursorUnknown => {
                    promise!(place.is_none(), "a cursor at {place:?} is not known");
                    cursor.acked(None);
                }
                _ => {}
            }
            return Ok(());
        }
        self.gets.retain(|asked| *asked != number);
        match reply {
            Reply::Cursor(got) => cursor.read(Some(got.offset.0)),
            Reply::CursorPage(page) => {
                let name = name_of(me);
                let mine = page.items.iter().find(|item| item.name == name);
                cursor.read(mine.map(|item| item.offset.0))
            }
            Reply::Error(refusal) if refusal.code == ErrorCode::CursorUnknown => cursor.read(None),
            _ => Ok(()),
        }
    }
}
