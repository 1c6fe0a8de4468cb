//! The end of a history: whatever is left is consumed.

use super::*;

impl Run {
    /// Everything is consumed in the end: nothing is stuck and nothing is left.
    pub(super) fn drain(&mut self) {
        for _ in 0..2 {
            self.settle_all();
        }
        for push in self.pushes.keys() {
            self.w.q.unsubscribe(*push);
        }
        self.pushes.clear();
        let names: Vec<String> = self.fold.groups.values().cloned().collect();
        let mut quiet = 0;
        for round in 0.. {
            assert!(round < 3000, "something never comes: {:?}", self.fold);
            self.w.pass_quietly(50);
            let now = self.w.ms;
            for held in &mut self.held {
                if held.until + 2 <= now || held.who != 77 {
                    held.ended.get_or_insert(8);
                }
            }
            for name in &names {
                self.drain_group(name);
            }
            self.settle_all();
            self.deliver();
            let left = self.left();
            quiet = if left { 0 } else { quiet + 1 };
            if quiet > 3 {
                break;
            }
        }
        for name in &names {
            let all = DeadFilter::default();
            let (now, wall) = (self.w.now(), self.w.wall());
            self.w
                .q
                .redrive(now, wall, name.as_bytes(), all, DeadAction::Purge, 0)
                .unwrap();
            self.settle_all();
        }
        if !names.is_empty() {
            let counts = self.w.q.queue_counts();
            assert_eq!((counts.messages, counts.bytes, counts.resident), (0, 0, 0));
            self.w.releases();
            assert_eq!(self.w.retained.len(), 0, "every body is released once");
            assert_eq!(self.w.q.t.entries.len(), 0);
            assert_eq!(self.w.q.t.records.len(), 0);
        }
    }

    fn drain_group(&mut self, name: &str) {
        let group = self.group(name).unwrap();
        for who in 1..=4 {
            let (now, wall) = (self.w.now(), self.w.wall());
            self.w.q.session_ended(now, wall, session(who));
        }
        self.waits.clear();
        let mut out = Vec::new();
        self.w.waiters += 1;
        let take = Take {
            session: session(77),
            waiter: WaiterId(self.w.waiters),
            group: name.as_bytes(),
            max: 10,
            max_bytes: u32::MAX,
            wait_ms: 1,
            lease_ms: 0,
        };
        let (now, wall) = (self.w.now(), self.w.wall());
        if self.w.q.take(now, wall, &take, &mut out).unwrap() == TakeOutcome::Waiting {
            while let Some((token, at)) = self.w.q.poll_load() {
                let body = self.w.retained[&at].clone();
                self.w.q.handle_loaded(token, Ok(body));
            }
            while self.w.q.poll_delivery(now, wall, &mut out).is_some() {}
            self.w.q.cancel(take.waiter);
        }
        self.delivered(group, 77, &out);
        let tokens = tokens(&out);
        let mut results = Vec::new();
        self.w.q.ack(now, wall, &tokens, &mut results).unwrap();
        assert!(results.iter().all(|r| *r == TokenResult::Done));
        for held in &mut self.held {
            if tokens.contains(&held.token) {
                held.ended = Some(0);
                self.pending.insert((held.group, held.id));
            }
        }
    }

    fn left(&mut self) -> bool {
        let ids: Vec<u64> = self.fold.messages.keys().copied().collect();
        let groups: Vec<u8> = self.fold.groups.keys().copied().collect();
        ids.iter().any(|id| {
            groups.iter().any(|group| {
                let place = self.fold.place(*group, *id);
                !place.done && !place.dead
            })
        })
    }
}
