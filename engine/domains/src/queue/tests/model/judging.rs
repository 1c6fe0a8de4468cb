//! What every delivery, every op and every count must agree with.

use super::*;

impl Run {
    /// Whether the group's message may be given to someone now.
    pub(super) fn delivered(&mut self, group: u8, who: u64, taken: &[Taken]) {
        for one in taken {
            let id = one.id;
            let msg = self.fold.messages.get(&id).expect("it is durable").clone();
            let place = self.fold.place(group, id).clone();
            let (ms, wall) = (self.w.ms, self.w.wall().0);
            assert!(!place.done && !place.dead, "{id} {place:?}");
            assert_eq!(value(&one.record), msg.value);
            assert_eq!(one.attempt, place.attempts + 1);
            assert_eq!(one.enqueued.0, msg.put_at);
            assert_eq!(
                one.last_error.as_deref().unwrap_or_default(),
                place.error,
                "the error of the attempt before"
            );
            assert!(
                !self.pending.contains(&(group, id)),
                "{id} has an op on its way"
            );
            let busy = |h: &&Held| h.group == group && h.id == id && h.ended.is_none();
            assert_eq!(self.held.iter().find(busy).map(|h| h.id), None);
            // The clock may have jumped in a crash; then only this life counts.
            if self.w.lives == 1 {
                assert!(wall >= msg.put_at + msg.delay_ms, "{id} is delayed");
                assert!(wall >= place.not_before, "{id} backs off");
                let lives = msg.ttl_ms == 0 || wall < msg.put_at + msg.ttl_ms;
                assert!(lives || place.replayed, "{id} has expired");
            }
            let fresh = place == Place::default()
                && !self.held.iter().any(|h| h.group == group && h.id == id);
            if fresh && self.ordered && !self.w.config.ordered_by_key {
                let before = self.fresh.insert(group, id);
                assert!(before.is_none_or(|b| b < id), "{id} after {before:?}");
            }
            if self.w.config.ordered_by_key && !msg.key.is_empty() {
                self.check_key(group, id, &msg.key);
            }
            self.held.push(Held {
                token: one.token,
                group,
                id,
                who,
                until: ms + u64::from(self.lease_ms),
                ended: None,
            });
        }
        let held = |h: &&Held| h.group == group && h.ended.is_none();
        let in_flight = self.held.iter().filter(held).count();
        assert!(in_flight <= self.w.config.max_in_flight as usize);
    }

    fn check_key(&self, group: u8, id: u64, key: &str) {
        let other = self.held.iter().find(|h| {
            h.group == group
                && h.id != id
                && h.ended.is_none()
                && self.fold.messages.get(&h.id).is_some_and(|m| m.key == key)
        });
        assert_eq!(other.map(|h| h.id), None, "key {key} of {id} is busy");
    }

    /// Every op has a cause the model knows of.
    pub(super) fn justify(&mut self, at: usize) {
        let record = self.w.log[at].clone();
        let kind = record.head.kind;
        if matches!(
            kind,
            ops::PUT | ops::GROUP_CREATE | ops::GROUP_LATEST | ops::GROUP_DELETE | ops::REDRIVE
        ) {
            return;
        }
        let (head, items) = ops::decode(kind, &record.ext).unwrap();
        assert!(!items.is_empty());
        for item in items {
            let key = (head.group, item.id);
            if head.group == ops::ALL_GROUPS {
                continue;
            }
            let place = self.fold.place(key.0, key.1).clone();
            let ended = |with: &[u8]| {
                let of = |h: &Held| (h.group, h.id) == key;
                self.held
                    .iter()
                    .any(|h| of(h) && h.ended.is_some_and(|e| with.contains(&e)))
            };
            match kind {
                ops::ACK => assert!(ended(&[0]), "nobody acked {key:?}"),
                ops::NACK => {
                    assert!(ended(&[1]), "nobody nacked {key:?}");
                    assert_eq!(item.attempts, place.attempts + 1);
                }
                ops::LAPSE => {
                    assert!(ended(&[8]), "{key:?} did not run out");
                    assert_eq!(item.attempts, place.attempts + 1);
                }
                ops::DEAD if head.reason != Some(DeadReason::Expired) => {
                    let failed = head.reason == Some(DeadReason::Failed);
                    assert!(ended(&[if failed { 1 } else { 8 }]));
                    assert_eq!(item.attempts, place.attempts + 1);
                    assert!(item.attempts >= self.w.config.max_attempts);
                }
                ops::DEAD | ops::DROP => {
                    let msg = &self.fold.messages[&item.id];
                    assert!(msg.ttl_ms > 0 && !place.replayed);
                    assert_eq!(kind == ops::DEAD, self.w.config.dead_letter_expired);
                }
                _ => assert!(place.dead, "{key:?} is not dead"),
            }
            self.pending.insert(key);
        }
    }

    pub(super) fn check(&mut self) {
        let counts = self.w.q.queue_counts();
        assert_eq!(counts.messages, self.fold.messages.len() as u64);
        for (group, name) in self.fold.groups.clone() {
            let Ok(counts) = self.w.q.group_counts(name.as_bytes()) else {
                continue;
            };
            let ids: Vec<u64> = self.fold.messages.keys().copied().collect();
            let undone = ids
                .iter()
                .filter(|id| !self.fold.place(group, **id).done)
                .count();
            let all =
                counts.ready + counts.delayed + counts.in_flight + counts.blocked + counts.dead;
            assert_eq!(all, undone as u64, "{counts:?}");
            assert_eq!(counts.oldest.is_some(), counts.ready > 0, "{counts:?}");
            let held = |h: &&Held| h.group == group && h.ended.is_none();
            let held = self.held.iter().filter(held).count() as u64;
            assert!(counts.in_flight >= held, "{counts:?}");
        }
        self.w.releases();
        if self.rng.below(20) == 0 {
            assert_eq!(digest(&self.w.q), digest(&self.w.replayed(None)));
        }
    }
}
