//! What the committed ops mean, in maps.

use std::collections::{BTreeMap, BTreeSet};

use super::super::*;

/// A message in a group, as the ops say.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Place {
    pub(super) done: bool,
    pub(super) attempts: u16,
    pub(super) error: Vec<u8>,
    pub(super) dead: bool,
    pub(super) replayed: bool,
    /// Wall time before which it must not come again.
    pub(super) not_before: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Msg {
    pub(super) value: String,
    pub(super) key: String,
    pub(super) put_at: u64,
    pub(super) delay_ms: u64,
    pub(super) ttl_ms: u64,
}

/// The fold of the committed ops, in maps.
#[derive(Clone, Debug, Default)]
pub(super) struct Fold {
    pub(super) groups: BTreeMap<u8, String>,
    pub(super) messages: BTreeMap<u64, Msg>,
    pub(super) places: BTreeMap<(u8, u64), Place>,
}

impl Fold {
    pub(super) fn place(&mut self, group: u8, id: u64) -> &mut Place {
        self.places.entry((group, id)).or_default()
    }

    fn tidy(&mut self) {
        let (groups, places) = (&self.groups, &self.places);
        if groups.is_empty() {
            return;
        }
        self.messages.retain(|id, _| {
            let done = |g: &u8| places.get(&(*g, *id)).is_some_and(|p| p.done);
            !groups.keys().all(done)
        });
    }

    pub(super) fn apply(&mut self, record: &Logged) {
        let at = record.head.timestamp.0;
        match record.head.kind {
            ops::PUT => {
                let put = ops::PutExt::decode(&record.ext).unwrap();
                let records = pinion_types::block::records(&record.body);
                for (id, one) in (record.head.first..).zip(records) {
                    let one = one.unwrap();
                    let msg = Msg {
                        value: String::from_utf8(one.value.to_vec()).unwrap(),
                        key: String::from_utf8(one.key.to_vec()).unwrap(),
                        put_at: at,
                        delay_ms: put.delay_ms,
                        ttl_ms: put.ttl_ms,
                    };
                    self.messages.insert(id, msg);
                }
            }
            ops::GROUP_CREATE => {
                let name = String::from_utf8(record.ext[1..].to_vec()).unwrap();
                self.groups.insert(record.ext[0], name);
            }
            ops::GROUP_LATEST => {
                let name = String::from_utf8(record.ext[9..].to_vec()).unwrap();
                let group = record.ext[0];
                let from = u64::from_le_bytes(record.ext[1..9].try_into().unwrap());
                self.groups.insert(group, name);
                let old: Vec<u64> = self.messages.range(..from).map(|(id, _)| *id).collect();
                for id in old {
                    self.place(group, id).done = true;
                }
            }
            ops::REDRIVE => {}
            ops::GROUP_DELETE => {
                let group = record.ext[0];
                self.groups.remove(&group);
                let gone: BTreeSet<u64> = self
                    .messages
                    .keys()
                    .filter(|id| !self.places.get(&(group, **id)).is_some_and(|p| p.done))
                    .copied()
                    .collect();
                self.places.retain(|(g, _), _| *g != group);
                if self.groups.is_empty() {
                    self.messages.retain(|id, _| !gone.contains(id));
                }
            }
            kind => {
                let (head, items) = ops::decode(kind, &record.ext).unwrap();
                for item in items {
                    if head.group == ops::ALL_GROUPS {
                        self.messages.remove(&item.id);
                        continue;
                    }
                    let place = self.place(head.group, item.id);
                    match kind {
                        ops::ACK | ops::PURGE | ops::DROP => {
                            *place = Place {
                                done: true,
                                ..Place::default()
                            };
                        }
                        ops::NACK | ops::LAPSE => {
                            place.attempts = item.attempts;
                            place.error = if kind == ops::NACK {
                                head.error.to_vec()
                            } else {
                                LAPSED.to_vec()
                            };
                            place.not_before = at + item.delay_ms;
                        }
                        ops::DEAD => {
                            place.dead = true;
                            place.attempts = item.attempts;
                            if !head.error.is_empty() {
                                place.error = head.error.to_vec();
                            }
                        }
                        ops::REPLAY => {
                            *place = Place {
                                replayed: true,
                                ..Place::default()
                            };
                        }
                        _ => panic!("kind {kind}"),
                    }
                }
            }
        }
        self.tidy();
    }
}
