//! Stampede control: on a miss exactly one caller fills the key, the others wait.
//!
//! A *flight* is a key being filled. Its holder has a lease (a token) until it
//! sets the key, the lease expires, its session ends, or the key is set or deleted
//! by someone else. Whoever waits is served in order of arrival: with the value
//! when it is set, with the lease when the holder lost it, or with a timeout.

use std::collections::VecDeque;

use hashbrown::HashTable;
use pinion_types::wheel::{TimerId, TimerTable};
use pinion_types::{Monotonic, SessionId};
use siphasher::sip::SipHasher13;
use slab::Slab;

use super::config::CacheError;
use super::slots::NIL;

/// Names a waiting caller; chosen by the owner of the partition, unique among
/// those that wait in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WaiterId(pub u64);

/// Timeouts of leases and waiters handled in one call; each costs about 100 ns.
const TIMEOUTS_PER_CALL: u32 = 1024;

#[derive(Debug)]
struct Flight {
    key: Box<[u8]>,
    hash: u64,
    /// The claim that holds the lease; `NIL` once the key was set.
    holder: u32,
    /// 0 once the key was set.
    token: u64,
    first: u32,
    last: u32,
}

/// A caller's part in a flight: its lease, or its place in the queue.
#[derive(Debug)]
struct Claim {
    waiter: Option<WaiterId>,
    owner: SessionId,
    flight: u32,
    holds: bool,
    timer: TimerId,
    lease_ms: u32,
    /// Neighbours among the waiters of the flight.
    prev: u32,
    next: u32,
    /// Neighbours among the claims of the owner.
    owner_prev: u32,
    owner_next: u32,
}

#[derive(Debug)]
struct Owner {
    id: SessionId,
    first: u32,
}

/// Something for [`Flights::pop`].
#[derive(Debug)]
enum Ready {
    TimedOut(WaiterId),
    /// The claim became the holder, unless it is gone since.
    Leased {
        claim: u32,
        token: u64,
    },
    /// The key was set: every waiter of the flight is to be served.
    Filled(u32),
}

/// What a waiter is told, before the value is looked up.
#[derive(Debug)]
pub(super) enum Wake {
    TimedOut,
    Leased {
        token: u64,
        lease_ms: u32,
    },
    /// Look the key up again; [`Flights::key`] knows its bytes until the next call.
    Filled {
        hash: u64,
        flight: u32,
    },
}

#[derive(Debug)]
pub(super) struct Flights {
    leases_max: u32,
    waiters_max: u32,
    hasher: SipHasher13,
    by_key: HashTable<u32>,
    by_waiter: HashTable<u32>,
    owners: HashTable<Owner>,
    flights: Slab<Flight>,
    claims: Slab<Claim>,
    timers: TimerTable<u32>,
    ready: VecDeque<Ready>,
    tokens: u64,
    waiting: u32,
}

impl Flights {
    pub(super) fn new(leases_max: u32, waiters_max: u32, hasher: SipHasher13) -> Self {
        Self {
            leases_max,
            waiters_max,
            hasher,
            by_key: HashTable::new(),
            by_waiter: HashTable::new(),
            owners: HashTable::new(),
            flights: Slab::new(),
            claims: Slab::new(),
            timers: TimerTable::new(leases_max.saturating_add(waiters_max).min(1 << 30)),
            ready: VecDeque::new(),
            tokens: 0,
            waiting: 0,
        }
    }

    /// Keys being filled.
    pub(super) fn leases(&self) -> u32 {
        u32::try_from(self.by_key.len()).expect("bounded by leases_max")
    }

    /// Callers waiting.
    pub(super) const fn waiting(&self) -> u32 {
        self.waiting
    }

    pub(super) fn find(&self, hash: u64, key: &[u8]) -> Option<u32> {
        if self.by_key.is_empty() {
            return None;
        }
        self.by_key
            .find(hash, |&f| *self.flights[f as usize].key == *key)
            .copied()
    }

    /// Makes the caller the filler of a key nobody fills.
    pub(super) fn lease(
        &mut self,
        now: Monotonic,
        hash: u64,
        key: &[u8],
        owner: SessionId,
        lease_ms: u32,
    ) -> Result<u64, CacheError> {
        if self.leases() >= self.leases_max {
            return Err(CacheError::TooManyLeases {
                limit: self.leases_max,
            });
        }
        let flight = index(self.flights.insert(Flight {
            key: key.into(),
            hash,
            holder: NIL,
            token: 0,
            first: NIL,
            last: NIL,
        }));
        let flights = &self.flights;
        self.by_key
            .insert_unique(hash, flight, |&f| flights[f as usize].hash);
        let claim = self.claim(now, flight, None, owner, lease_ms, lease_ms);
        Ok(self.hold(flight, claim))
    }

    /// Puts the caller behind those who wait for the flight.
    pub(super) fn wait(
        &mut self,
        now: Monotonic,
        flight: u32,
        waiter: WaiterId,
        owner: SessionId,
        wait_ms: u32,
        lease_ms: u32,
    ) -> Result<(), CacheError> {
        if self.waiting as usize + self.ready.len() >= self.waiters_max as usize {
            return Err(CacheError::TooManyWaiters {
                limit: self.waiters_max,
            });
        }
        if self.claim_of(waiter).is_some() {
            return Err(CacheError::DuplicateId);
        }
        let claim = self.claim(now, flight, Some(waiter), owner, wait_ms, lease_ms);
        let last = self.flights[flight as usize].last;
        self.claims[claim as usize].prev = last;
        self.flights[flight as usize].last = claim;
        if last == NIL {
            self.flights[flight as usize].first = claim;
        } else {
            self.claims[last as usize].next = claim;
        }
        self.waiting += 1;
        let (hasher, claims) = (&self.hasher, &self.claims);
        self.by_waiter
            .insert_unique(waiter_hash(hasher, waiter), claim, |&c| {
                let waiter = claims[c as usize].waiter;
                waiter_hash(hasher, waiter.expect("only waiters are indexed"))
            });
        Ok(())
    }

    /// Whether `token` is the lease on `key` now.
    pub(super) fn holds(&self, now: Monotonic, hash: u64, key: &[u8], token: u64) -> bool {
        self.find(hash, key).is_some_and(|f| {
            self.flights[f as usize].token == token && token != 0 && !self.lapsed(now, f)
        })
    }

    fn lapsed(&self, now: Monotonic, flight: u32) -> bool {
        let holder = self.flights[flight as usize].holder;
        self.timers
            .deadline(self.claims[holder as usize].timer)
            .is_none_or(|deadline| deadline <= now)
    }

    /// The key was set: the lease is over and whoever waits will be served. O(1).
    pub(super) fn fill(&mut self, hash: u64, key: &[u8]) {
        let Some(flight) = self.find(hash, key) else {
            return;
        };
        self.detach(flight);
        self.drop_holder(flight);
        if self.flights[flight as usize].first == NIL {
            self.flights.remove(flight as usize);
        } else {
            self.ready.push_back(Ready::Filled(flight));
        }
    }

    /// The key was deleted: what the holder is about to write is out of date, so
    /// the next waiter fills it anew. O(1).
    pub(super) fn void(&mut self, now: Monotonic, hash: u64, key: &[u8]) {
        if let Some(flight) = self.find(hash, key) {
            self.pass_on(now, flight);
        }
    }

    /// Takes a caller out of the queue it waits in, or passes on the lease it was
    /// given and has not collected. False if it does not wait. O(1).
    pub(super) fn cancel(&mut self, now: Monotonic, waiter: WaiterId) -> bool {
        let Some(claim) = self.claim_of(waiter) else {
            return false;
        };
        self.abandon(now, claim);
        true
    }

    /// Ends every claim of a session. O(its claims).
    pub(super) fn abort_owner(&mut self, now: Monotonic, owner: SessionId) {
        let hash = owner_hash(&self.hasher, owner);
        while let Some(claim) = self.owners.find(hash, |o| o.id == owner).map(|o| o.first) {
            self.abandon(now, claim);
        }
    }

    /// Ends leases and waits whose time is over, [`TIMEOUTS_PER_CALL`] at most.
    pub(super) fn handle_timeout(&mut self, now: Monotonic) {
        let mut budget = TIMEOUTS_PER_CALL;
        while let Some(claim) = self.timers.pop_due(now, &mut budget) {
            let Claim {
                holds,
                waiter,
                flight,
                ..
            } = self.claims[claim as usize];
            if holds {
                self.pass_on(now, flight);
            } else {
                self.leave_queue(claim);
                self.remove_claim(claim);
                let waiter = waiter.expect("whoever waits has a name");
                self.ready.push_back(Ready::TimedOut(waiter));
            }
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Monotonic> {
        self.timers.next_deadline()
    }

    /// The next caller to be told something. O(1) amortised.
    pub(super) fn pop(&mut self) -> Option<(WaiterId, Wake)> {
        loop {
            match *self.ready.front()? {
                Ready::TimedOut(waiter) => {
                    self.ready.pop_front();
                    return Some((waiter, Wake::TimedOut));
                }
                Ready::Leased { claim, token } => {
                    self.ready.pop_front();
                    let Some(at) = self.claims.get_mut(claim as usize) else {
                        continue;
                    };
                    let (flight, lease_ms) = (at.flight, at.lease_ms);
                    if !at.holds || self.flights[flight as usize].token != token {
                        continue;
                    }
                    let Some(waiter) = self.claims[claim as usize].waiter else {
                        continue;
                    };
                    self.forget_name(claim);
                    return Some((waiter, Wake::Leased { token, lease_ms }));
                }
                Ready::Filled(flight) => {
                    let at = &self.flights[flight as usize];
                    let (first, hash) = (at.first, at.hash);
                    if first == NIL {
                        // The last waiter was served, timed out or went away.
                        self.ready.pop_front();
                        self.flights.remove(flight as usize);
                        continue;
                    }
                    let waiter = self.claims[first as usize].waiter;
                    let waiter = waiter.expect("whoever waits has a name");
                    self.leave_queue(first);
                    self.remove_claim(first);
                    return Some((waiter, Wake::Filled { hash, flight }));
                }
            }
        }
    }

    /// The key of a flight that [`Wake::Filled`] named.
    pub(super) fn key(&self, flight: u32) -> &[u8] {
        &self.flights[flight as usize].key
    }

    fn claim(
        &mut self,
        now: Monotonic,
        flight: u32,
        waiter: Option<WaiterId>,
        owner: SessionId,
        timeout_ms: u32,
        lease_ms: u32,
    ) -> u32 {
        let entry = self.claims.vacant_entry();
        let claim = index(entry.key());
        let timer = self
            .timers
            .insert(after(now, timeout_ms), claim)
            .expect("leases and waiters were counted, each has one timer");
        entry.insert(Claim {
            waiter,
            owner,
            flight,
            holds: false,
            timer,
            lease_ms,
            prev: NIL,
            next: NIL,
            owner_prev: NIL,
            owner_next: NIL,
        });
        let hash = owner_hash(&self.hasher, owner);
        if let Some(list) = self.owners.find_mut(hash, |o| o.id == owner) {
            let first = core::mem::replace(&mut list.first, claim);
            self.claims[claim as usize].owner_next = first;
            self.claims[first as usize].owner_prev = claim;
        } else {
            let hasher = &self.hasher;
            let list = Owner {
                id: owner,
                first: claim,
            };
            self.owners
                .insert_unique(hash, list, |o| owner_hash(hasher, o.id));
        }
        claim
    }

    /// Makes `claim` the holder under a fresh token.
    fn hold(&mut self, flight: u32, claim: u32) -> u64 {
        self.tokens += 1;
        // Keyed, so that a token cannot be guessed from an earlier one; never 0.
        let token = self.hasher.hash(&self.tokens.to_le_bytes()) | 1;
        self.claims[claim as usize].holds = true;
        let flight = &mut self.flights[flight as usize];
        flight.holder = claim;
        flight.token = token;
        token
    }

    /// Takes the lease from its holder and gives it to the first waiter; without
    /// one the flight is over.
    fn pass_on(&mut self, now: Monotonic, flight: u32) {
        self.drop_holder(flight);
        let next = self.flights[flight as usize].first;
        if next == NIL {
            self.detach(flight);
            self.flights.remove(flight as usize);
            return;
        }
        self.leave_queue(next);
        let at = &mut self.claims[next as usize];
        self.timers.cancel(at.timer);
        at.timer = self
            .timers
            .insert(after(now, at.lease_ms), next)
            .expect("its former timer left room");
        let token = self.hold(flight, next);
        self.ready.push_back(Ready::Leased { claim: next, token });
    }

    fn abandon(&mut self, now: Monotonic, claim: u32) {
        let Claim { holds, flight, .. } = self.claims[claim as usize];
        if holds {
            self.pass_on(now, flight);
        } else {
            self.leave_queue(claim);
            self.remove_claim(claim);
        }
    }

    fn drop_holder(&mut self, flight: u32) {
        let flight = &mut self.flights[flight as usize];
        let holder = core::mem::replace(&mut flight.holder, NIL);
        flight.token = 0;
        assert!(holder != NIL, "a flight in the index has a holder");
        self.remove_claim(holder);
    }

    fn detach(&mut self, flight: u32) {
        let hash = self.flights[flight as usize].hash;
        self.by_key
            .find_entry(hash, |&f| f == flight)
            .expect("the flight is in the index")
            .remove();
    }

    fn leave_queue(&mut self, claim: u32) {
        let at = &mut self.claims[claim as usize];
        let (prev, next, flight) = (at.prev, at.next, at.flight);
        at.prev = NIL;
        at.next = NIL;
        if prev == NIL {
            self.flights[flight as usize].first = next;
        } else {
            self.claims[prev as usize].next = next;
        }
        if next == NIL {
            self.flights[flight as usize].last = prev;
        } else {
            self.claims[next as usize].prev = prev;
        }
        self.waiting -= 1;
    }

    fn remove_claim(&mut self, claim: u32) {
        self.forget_name(claim);
        let at = self.claims.remove(claim as usize);
        self.timers.cancel(at.timer);
        if at.owner_next != NIL {
            self.claims[at.owner_next as usize].owner_prev = at.owner_prev;
        }
        if at.owner_prev != NIL {
            self.claims[at.owner_prev as usize].owner_next = at.owner_next;
            return;
        }
        let hash = owner_hash(&self.hasher, at.owner);
        let mut list = self
            .owners
            .find_entry(hash, |o| o.id == at.owner)
            .expect("an owner with claims is listed");
        if at.owner_next == NIL {
            list.remove();
        } else {
            list.get_mut().first = at.owner_next;
        }
    }

    fn forget_name(&mut self, claim: u32) {
        let Some(waiter) = self.claims[claim as usize].waiter.take() else {
            return;
        };
        self.by_waiter
            .find_entry(waiter_hash(&self.hasher, waiter), |&c| c == claim)
            .expect("a named claim is indexed")
            .remove();
    }

    fn claim_of(&self, waiter: WaiterId) -> Option<u32> {
        self.by_waiter
            .find(waiter_hash(&self.hasher, waiter), |&c| {
                self.claims[c as usize].waiter == Some(waiter)
            })
            .copied()
    }
}

fn waiter_hash(hasher: &SipHasher13, waiter: WaiterId) -> u64 {
    hasher.hash(&waiter.0.to_le_bytes())
}

fn owner_hash(hasher: &SipHasher13, owner: SessionId) -> u64 {
    let mut bytes = [0; 10];
    bytes[..8].copy_from_slice(&owner.token.to_le_bytes());
    bytes[8..].copy_from_slice(&owner.core.0.to_le_bytes());
    hasher.hash(&bytes)
}

fn after(now: Monotonic, ms: u32) -> Monotonic {
    now + core::time::Duration::from_millis(u64::from(ms))
}

fn index(key: usize) -> u32 {
    u32::try_from(key).expect("bounded by leases_max and waiters_max")
}
