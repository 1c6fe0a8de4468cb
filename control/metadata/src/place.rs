//! Where shards should be: the strategies, as functions of brokers, of what is on
//! them, and of where shards are.

use std::cmp::Ordering;

use crate::broker::{Broker, BrokerStatus, Capacity};
use crate::ids::BrokerNumber;
use crate::resource::{Move, MoveStatus, Placement, Seat, Strategy};
use crate::usage::Usage;

/// What leading a shard weighs, where a further copy weighs 1: a leader serves
/// every client of its shard, a copy one connection.
const LEAD: u64 = 4;

/// A broker and what is on it.
struct Site<'a> {
    number: BrokerNumber,
    region: &'a str,
    zone: &'a str,
    active: bool,
    logs: u16,
    /// Leads and copies that it may have.
    room: u64,
    capacity: Capacity,
    /// Bytes of memory that it has promised.
    promised: u64,
    leads: u64,
    copies: u64,
}

/// All brokers, in the order of their numbers.
pub(crate) struct Board<'a> {
    sites: Vec<Site<'a>>,
    /// Bytes of memory that a broker must have for a copy of a shard; `None` does not ask.
    bytes: Option<u64>,
}

impl Site<'_> {
    fn weight(&self) -> u64 {
        LEAD * self.leads + self.copies
    }

    fn takes(&self, bytes: Option<u64>) -> bool {
        let has_memory = |bytes: u64| {
            let promised = self.promised.saturating_add(bytes);
            self.capacity.has_memory(bytes, promised)
        };
        self.active && self.leads + self.copies < self.room && bytes.is_none_or(has_memory)
    }

    /// Which of two has less to do for its size.
    fn by_load(&self, other: &Self) -> Ordering {
        let own = u128::from(self.weight()) * u128::from(other.room);
        own.cmp(&(u128::from(other.weight()) * u128::from(self.room)))
    }

    /// Whether it would still have less to do than `other` has with a shard more
    /// to lead.
    fn gains_less_than(&self, other: &Self) -> bool {
        let own = u128::from(self.weight() + LEAD) * u128::from(other.room);
        own < u128::from(other.weight()) * u128::from(self.room)
    }
}

impl<'a> Board<'a> {
    pub(crate) fn new(
        brokers: impl Iterator<Item = &'a Broker>,
        used: impl Fn(BrokerNumber) -> Usage,
        bytes: Option<u64>,
    ) -> Self {
        let site = |broker: &'a Broker| {
            let used = used(broker.number);
            Site {
                number: broker.number,
                region: &broker.facts.region,
                zone: &broker.facts.zone,
                active: broker.status() == BrokerStatus::Active,
                logs: broker.facts.capacity.logs,
                room: broker.facts.capacity.max_shards.into(),
                capacity: broker.facts.capacity,
                promised: used.memory_bytes,
                leads: used.leads,
                // What is on its way is as good as there.
                copies: used.copies + used.arriving,
            }
        };
        let mut sites: Vec<Site<'a>> = brokers.map(site).collect();
        sites.sort_by_key(|site| site.number);
        Self { sites, bytes }
    }

    fn site(&self, number: BrokerNumber) -> Option<&Site<'a>> {
        let at = self.sites.binary_search_by_key(&number, |site| site.number);
        at.ok().map(|at| &self.sites[at])
    }

    fn active(&self, number: BrokerNumber) -> bool {
        self.site(number).is_some_and(|site| site.active)
    }

    fn site_mut(&mut self, number: BrokerNumber) -> Option<&mut Site<'a>> {
        let at = self.sites.binary_search_by_key(&number, |site| site.number);
        at.ok().map(|at| &mut self.sites[at])
    }

    fn add(&mut self, seat: &Seat) {
        let bytes = self.bytes.unwrap_or(0);
        if let Some(site) = self.site_mut(seat.leader) {
            site.leads += 1;
            site.promised = site.promised.saturating_add(bytes);
        }
        for replica in &seat.replicas {
            if let Some(site) = self.site_mut(*replica) {
                site.copies += 1;
                site.promised = site.promised.saturating_add(bytes);
            }
        }
    }

    fn remove(&mut self, seat: &Seat) {
        let bytes = self.bytes.unwrap_or(0);
        if let Some(site) = self.site_mut(seat.leader) {
            site.leads = site.leads.saturating_sub(1);
            site.promised = site.promised.saturating_sub(bytes);
        }
        for replica in &seat.replicas {
            if let Some(site) = self.site_mut(*replica) {
                site.copies = site.copies.saturating_sub(1);
                site.promised = site.promised.saturating_sub(bytes);
            }
        }
    }

    /// The best site for one more holder of a shard: in the region if one is
    /// wanted, in another zone than the other holders, with the least to do,
    /// where the shard is already, of the lowest number.
    fn best(
        &self,
        region: Option<&str>,
        holders: &[BrokerNumber],
        present: &[BrokerNumber],
    ) -> Option<&Site<'a>> {
        let outside = |site: &Site<'_>| region.is_some_and(|region| site.region != region);
        let beside = |site: &Site<'_>| {
            let holders = holders.iter().filter_map(|holder| self.site(*holder));
            let same = |one: &&Site<'_>| (one.region, one.zone) == (site.region, site.zone);
            holders.filter(same).count()
        };
        let absent = |site: &Site<'_>| !present.contains(&site.number);
        self.sites
            .iter()
            .filter(|site| site.takes(self.bytes) && !holders.contains(&site.number))
            .min_by(|a, b| {
                outside(a)
                    .cmp(&outside(b))
                    .then_with(|| beside(a).cmp(&beside(b)))
                    .then_with(|| a.by_load(b))
                    .then_with(|| absent(a).cmp(&absent(b)))
            })
    }

    /// Places one shard, with fewer copies where there are fewer brokers.
    fn seat(
        &mut self,
        copies: usize,
        region: Option<&str>,
        leader: Option<BrokerNumber>,
        present: &[BrokerNumber],
    ) -> Option<Seat> {
        let leader = match leader {
            Some(leader) => self.site(leader)?,
            None => self.best(region, &[], present.get(..1).unwrap_or_default())?,
        };
        let mut holders = vec![leader.number];
        // Evenly over the leader's logs, as they come.
        let log = u16::try_from(leader.leads % u64::from(leader.logs)).unwrap_or(0);
        while holders.len() < copies {
            let Some(next) = self.best(region, &holders, present) else {
                break;
            };
            holders.push(next.number);
        }
        let seat = Seat {
            leader: holders[0],
            replicas: holders[1..].into(),
            log,
        };
        self.add(&seat);
        Some(seat)
    }

    /// Seats of a new resource, all led by `leader` if one is named.
    pub(crate) fn place(
        &mut self,
        shards: u16,
        copies: u8,
        leader: Option<BrokerNumber>,
    ) -> Option<Box<[Seat]>> {
        let mut place = |_| self.seat(copies.into(), None, leader, &[]);
        (0..shards).map(&mut place).collect()
    }

    /// Where the shards of a placement are to go. What is pinned stays.
    pub(crate) fn plan(
        &mut self,
        strategy: Strategy,
        placement: &Placement,
    ) -> Option<Box<[Move]>> {
        if placement.pinned.is_some() {
            return Some(Box::default());
        }
        let seats: Vec<Seat> = placement
            .shards
            .iter()
            .map(|shard| shard.seat.clone())
            .collect();
        self.plan_of(strategy, &seats)
    }

    fn plan_of(&mut self, strategy: Strategy, seats: &[Seat]) -> Option<Box<[Move]>> {
        if !self.sites.iter().any(|site| site.active) {
            return None;
        }
        let wanted = match strategy {
            Strategy::MinimizeMovement => self.level(seats),
            Strategy::Balanced => self.anew(seats, false),
            Strategy::LocalityAware => self.anew(seats, true),
        };
        let moves = (0..).zip(seats.iter().zip(&wanted));
        let moves = moves.flat_map(|(shard, (from, to))| moves_between(shard, from, to));
        Some(moves.collect())
    }

    /// As if all of them were placed now. A shard that finds no place stays.
    fn anew(&mut self, seats: &[Seat], local: bool) -> Vec<Seat> {
        for seat in seats {
            self.remove(seat);
        }
        let mut wanted = Vec::with_capacity(seats.len());
        for seat in seats {
            let present = holders(seat);
            let region = self.site(seat.leader).map(|site| site.region);
            let region = region.filter(|_| local);
            let placed = self.seat(present.len(), region, None, &present);
            // Fewer copies than there are is no balance.
            let enough = placed.filter(|placed| {
                let enough = placed.replicas.len() == seat.replicas.len();
                if !enough {
                    self.remove(placed);
                }
                enough
            });
            wanted.push(enough.unwrap_or_else(|| {
                self.add(seat);
                seat.clone()
            }));
        }
        wanted
    }

    /// Away from brokers that are not active, and then one shard at a time from
    /// whoever leads most to whoever has least to do, as long as that helps.
    fn level(&mut self, seats: &[Seat]) -> Vec<Seat> {
        let mut wanted = seats.to_vec();
        for seat in &mut wanted {
            for holder in holders(seat) {
                if self.active(holder) {
                    continue;
                }
                let others = holders(seat);
                let Some(to) = self.best(None, &others, &[]).map(|site| site.number) else {
                    continue;
                };
                self.remove(seat);
                replace(seat, holder, to);
                self.add(seat);
            }
        }
        // Each step makes the fullest emptier and nobody fuller than it was, so
        // it ends; a shard moves once.
        let mut moved = vec![false; wanted.len()];
        while let Some((at, to)) = self.step(&wanted, &moved) {
            let seat = &mut wanted[at];
            let from = seat.leader;
            self.remove(seat);
            replace(seat, from, to);
            self.add(seat);
            moved[at] = true;
        }
        wanted
    }

    /// The shard to move next, and where to: who has least to do and can take one.
    fn step(&self, seats: &[Seat], moved: &[bool]) -> Option<(usize, BrokerNumber)> {
        let takes = |site: &&Site<'_>| site.takes(self.bytes);
        let mut targets: Vec<&Site<'_>> = self.sites.iter().filter(takes).collect();
        targets.sort_by(|a, b| a.by_load(b));
        targets.into_iter().find_map(|to| {
            let has = |seat: &Seat| seat.leader == to.number || seat.replicas.contains(&to.number);
            let movable = |at: &usize| !moved[*at] && !has(&seats[*at]);
            let led_by = |at: &usize| Some((*at, self.site(seats[*at].leader)?));
            let all = (0..seats.len()).filter(movable);
            // Of equal ones the first shard.
            let (at, from) = all
                .filter_map(|at| led_by(&at))
                .max_by(|(a, one), (b, other)| one.by_load(other).then(b.cmp(a)))?;
            to.gains_less_than(from).then_some((at, to.number))
        })
    }
}

/// The leader, then the others.
fn holders(seat: &Seat) -> Vec<BrokerNumber> {
    let leader = core::iter::once(seat.leader);
    leader.chain(seat.replicas.iter().copied()).collect()
}

/// What a move does to a seat: `to` takes the place of `from`; if it has a copy
/// already, `from` takes its place in turn.
fn replace(seat: &mut Seat, from: BrokerNumber, to: BrokerNumber) {
    let mut all = holders(seat);
    for holder in &mut all {
        if *holder == from {
            *holder = to;
        } else if *holder == to {
            *holder = from;
        }
    }
    seat.leader = all[0];
    seat.replicas = all[1..].into();
}

/// The moves that lead from one seat to the other.
fn moves_between(shard: u16, from: &Seat, to: &Seat) -> Vec<Move> {
    let mut moves = Vec::new();
    let mut now = from.clone();
    let mut step = |now: &mut Seat, from, to| {
        moves.push(Move {
            shard,
            from,
            to,
            status: MoveStatus::Pending,
        });
        replace(now, from, to);
    };
    if now.leader != to.leader {
        let from = now.leader;
        step(&mut now, from, to.leader);
    }
    let wanted = holders(to);
    for arrives in &wanted {
        let has = holders(&now);
        if has.contains(arrives) {
            continue;
        }
        if let Some(leaves) = has.iter().find(|one| !wanted.contains(one)) {
            step(&mut now, *leaves, *arrives);
        }
    }
    moves
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::BrokerFacts;
    use pinion_types::WallMs;
    use proptest::prelude::{Just, any, prop, prop_assert, prop_assert_eq, proptest};
    use proptest::strategy::Strategy as Generator;

    /// Of each broker, which has one core; a shard takes 1.
    const MEMORY: u64 = 1_000;

    fn broker(number: u32, region: &str, zone: &str, max_shards: u32) -> Broker {
        Broker {
            number: BrokerNumber(number),
            facts: BrokerFacts {
                address: "a:1".into(),
                region: region.into(),
                zone: zone.into(),
                labels: Box::default(),
                capacity: Capacity {
                    max_shards,
                    max_connections: 1,
                    cores: 1,
                    logs: 2,
                    memory_per_core: MEMORY,
                },
            },
            incarnation: 1,
            registered: WallMs(0),
            draining: false,
            down: None,
        }
    }

    fn equal(count: u32) -> Vec<Broker> {
        (1..=count)
            .map(|number| broker(number, "", "", 1_000))
            .collect()
    }

    /// What is on each broker: shards of others, and these seats.
    fn board<'a>(brokers: &'a [Broker], others: &[u64], seats: &[Seat]) -> Board<'a> {
        let used = |number: BrokerNumber| Usage {
            leads: others.get(number.0 as usize - 1).copied().unwrap_or(0),
            ..Usage::default()
        };
        let mut board = Board::new(brokers.iter(), used, Some(1));
        for seat in seats {
            board.add(seat);
        }
        board
    }

    fn led_by(leaders: &[u32]) -> Vec<Seat> {
        let seat = |leader: &u32| Seat {
            leader: BrokerNumber(*leader),
            replicas: Box::default(),
            log: 0,
        };
        leaders.iter().map(seat).collect()
    }

    fn after(seats: &[Seat], moves: &[Move]) -> Vec<Seat> {
        let mut seats = seats.to_vec();
        for one in moves {
            replace(&mut seats[usize::from(one.shard)], one.from, one.to);
        }
        seats
    }

    fn spread(brokers: u32, others: &[u64], seats: &[Seat]) -> Vec<u64> {
        let leads = |number: u32| {
            let own = seats.iter().filter(|seat| seat.leader.0 == number).count() as u64;
            own + others.get(number as usize - 1).copied().unwrap_or(0)
        };
        (1..=brokers).map(leads).collect()
    }

    #[test]
    fn a_new_resource_is_spread_evenly_and_over_logs() {
        let brokers = equal(3);
        let seats = board(&brokers, &[2], &[])
            .place(7, 1, None)
            .expect("it is planned");
        let leaders: Vec<u32> = seats.iter().map(|seat| seat.leader.0).collect();
        assert_eq!(leaders, [2, 3, 2, 3, 1, 2, 3]);
        let logs: Vec<u16> = seats.iter().map(|seat| seat.log).collect();
        assert_eq!(logs, [0, 0, 1, 1, 0, 0, 0]);
        assert_eq!(board(&[], &[], &[]).place(1, 1, None), None);
    }

    #[test]
    fn a_larger_broker_takes_more() {
        let brokers = [broker(1, "", "", 100), broker(2, "", "", 300)];
        let seats = board(&brokers, &[], &[])
            .place(8, 1, None)
            .expect("it is planned");
        assert_eq!(spread(2, &[], &seats), [2, 6]);
        let full = [broker(1, "", "", 2)];
        assert!(board(&full, &[], &[]).place(2, 1, None).is_some());
        assert_eq!(board(&full, &[], &[]).place(3, 1, None), None);
    }

    #[test]
    fn a_broker_without_the_memory_for_a_shard_takes_none() {
        let mut brokers = equal(3);
        brokers[0].facts.capacity.memory_per_core = 10;
        brokers[1].facts.capacity.memory_per_core = 10;
        brokers[1].facts.capacity.cores = 2;
        brokers[2].facts.capacity.memory_per_core = 7;
        let place = |promised: u64, bytes, shards, copies| {
            let used = |_| Usage {
                memory_bytes: promised,
                ..Usage::default()
            };
            let mut board = Board::new(brokers.iter(), used, bytes);
            let seats = board.place(shards, copies, None)?;
            Some(seats.iter().map(holders).collect::<Vec<_>>())
        };
        let on = |numbers: &[u32]| {
            let one = |number: &u32| BrokerNumber(*number);
            numbers.iter().map(one).collect::<Vec<_>>()
        };
        // Two of 10 are on two cores of the second; 7 is too small for any.
        let three = [on(&[1]), on(&[2]), on(&[2])];
        assert_eq!(place(0, Some(10), 3, 1), Some(three.to_vec()));
        assert_eq!(place(0, Some(10), 4, 1), None);
        assert_eq!(place(0, Some(11), 1, 1), None, "no core is so large");
        assert_eq!(place(4, Some(7), 1, 3), Some(vec![on(&[2])]));
        assert_eq!(place(0, Some(7), 1, 3), Some(vec![on(&[1, 2, 3])]));
        assert!(place(0, None, 9, 1).is_some(), "if nobody asks");
        // Who did not say how much it has is not asked.
        brokers[2].facts.capacity.memory_per_core = 0;
        let mut board = Board::new(brokers.iter(), |_| Usage::default(), Some(1 << 44));
        let seats = board.place(1, 1, None).expect("it is planned");
        assert_eq!(holders(&seats[0]), on(&[3]));
    }

    #[test]
    fn a_plan_goes_where_there_is_memory() {
        let mut brokers = equal(3);
        brokers[1].facts.capacity.memory_per_core = 1;
        let seats = led_by(&[1, 1, 1, 1, 1, 1]);
        for strategy in [Strategy::MinimizeMovement, Strategy::Balanced] {
            let moves = board(&brokers, &[], &seats).plan_of(strategy, &seats);
            let after = after(&seats, &moves.expect("it is planned"));
            assert!(spread(3, &[], &after)[1] <= 1, "{after:?}");
        }
    }

    #[test]
    fn copies_are_in_other_zones_first() {
        let brokers = [
            broker(1, "eu", "a", 9),
            broker(2, "eu", "a", 9),
            broker(3, "eu", "b", 9),
            broker(4, "us", "a", 9),
        ];
        let seats = board(&brokers, &[0, 0, 5, 5], &[])
            .place(1, 3, None)
            .expect("it is planned");
        assert_eq!(seats[0].leader, BrokerNumber(1));
        assert_eq!(*seats[0].replicas, [3, 4].map(BrokerNumber));
        let all = board(&brokers, &[], &[])
            .place(1, 7, None)
            .expect("it is planned");
        assert_eq!(all[0].replicas.len(), 3, "no more than there are");
        let named = board(&brokers, &[], &[]).place(2, 2, Some(BrokerNumber(4)));
        let named = named.expect("it is planned");
        assert!(named.iter().all(|seat| seat.leader == BrokerNumber(4)));
        assert!(named.iter().all(|seat| seat.replicas.len() == 1));
    }

    #[test]
    fn a_local_plan_stays_in_the_region_of_the_leader() {
        let mut brokers = [
            broker(1, "eu", "a", 99),
            broker(2, "eu", "b", 99),
            broker(3, "us", "a", 99),
            broker(4, "us", "b", 99),
        ];
        brokers[0].draining = true;
        let seats = [Seat {
            leader: BrokerNumber(1),
            replicas: Box::new([BrokerNumber(3)]),
            log: 0,
        }];
        let plan = |strategy| {
            let moves = board(&brokers, &[0, 9], &seats).plan_of(strategy, &seats);
            after(&seats, &moves.expect("it is planned")).remove(0)
        };
        let local = plan(Strategy::LocalityAware);
        assert_eq!(local.leader, BrokerNumber(2));
        // There is no second broker in the region that takes it.
        assert_eq!(local.replicas.len(), 1);
        assert_ne!(plan(Strategy::Balanced).leader, BrokerNumber(2));
    }

    #[test]
    fn the_least_movement_is_no_movement_where_all_is_even() {
        let brokers = equal(2);
        for leaders in [&[1, 1, 2, 2][..], &[1, 2, 2], &[2]] {
            let seats = led_by(leaders);
            let moves = board(&brokers, &[], &seats).plan_of(Strategy::MinimizeMovement, &seats);
            assert_eq!(moves.expect("it is planned").len(), 0);
        }
        let seats = led_by(&[1, 1, 1, 1]);
        let moves = board(&brokers, &[], &seats).plan_of(Strategy::MinimizeMovement, &seats);
        let moves: Vec<u16> = moves
            .expect("it is planned")
            .iter()
            .map(|one| one.shard)
            .collect();
        assert_eq!(moves, [0, 1]);
    }

    #[test]
    fn without_an_active_broker_there_is_no_plan() {
        let mut brokers = equal(1);
        brokers[0].down = Some(WallMs(1));
        let seats = led_by(&[1]);
        assert_eq!(
            board(&brokers, &[], &seats).plan_of(Strategy::Balanced, &seats),
            None
        );
    }

    fn seats(brokers: u32) -> impl Generator<Value = Vec<Seat>> {
        let all = (1..=brokers).map(BrokerNumber).collect::<Vec<_>>();
        let seat = (1..=3_usize).prop_flat_map(move |copies| {
            proptest::sample::subsequence(all.clone(), copies.min(all.len())).prop_shuffle()
        });
        let seat = seat.prop_map(|holders| Seat {
            leader: holders[0],
            replicas: holders[1..].into(),
            log: 0,
        });
        prop::collection::vec(seat, 1..20)
    }

    const STRATEGIES: [Strategy; 3] = [
        Strategy::Balanced,
        Strategy::MinimizeMovement,
        Strategy::LocalityAware,
    ];

    proptest! {
        /// Whatever the strategy: holders are different ones and as many as
        /// before, and none is where nothing may be placed.
        #[test]
        fn a_plan_loses_no_copy(
            (count, seats) in (1..6_u32).prop_flat_map(|count| (Just(count), seats(count))),
            drained in prop::collection::vec(any::<bool>(), 5),
            zones in prop::collection::vec(0..4_usize, 5),
        ) {
            let mut brokers = equal(count);
            for ((broker, drained), zone) in brokers.iter_mut().zip(drained).zip(zones) {
                broker.draining = drained;
                (broker.facts.region, broker.facts.zone) = [
                    ("eu".into(), "a".into()),
                    ("eu".into(), "b".into()),
                    ("us".into(), "a".into()),
                    ("".into(), "".into()),
                ][zone].clone();
            }
            for strategy in STRATEGIES {
                let moves = board(&brokers, &[], &seats).plan_of(strategy, &seats);
                let Some(moves) = moves else {
                    prop_assert!(brokers.iter().all(|broker| broker.draining));
                    continue;
                };
                let now = after(&seats, &moves);
                for (old, new) in seats.iter().zip(&now) {
                    let all = holders(new);
                    prop_assert_eq!(all.len(), holders(old).len());
                    for (at, holder) in all.iter().enumerate() {
                        prop_assert!(!all[..at].contains(holder));
                    }
                }
                for one in &moves {
                    let to = &brokers[one.to.0 as usize - 1];
                    prop_assert!(!to.draining, "{:?}", strategy);
                }
            }
        }

        /// With brokers of one size and no further copies: both strategies make
        /// it as even as it can be, and the careful one moves no more.
        #[test]
        fn careful_plans_are_as_even_and_move_no_more(
            leaders in prop::collection::vec(1..5_u32, 1..30),
            others in prop::collection::vec(0..8_u64, 4),
        ) {
            let brokers = equal(4);
            let seats = led_by(&leaders);
            let plan = |strategy| board(&brokers, &others, &seats).plan_of(strategy, &seats).expect("it is planned");
            let (anew, careful) = (plan(Strategy::Balanced), plan(Strategy::MinimizeMovement));
            prop_assert!(careful.len() <= anew.len());
            let even = |moves: &[Move]| {
                let now = after(&seats, moves);
                let spread = spread(4, &others, &now);
                let least = *spread.iter().min().expect("it is planned");
                let most = now.iter().map(|seat| spread[seat.leader.0 as usize - 1]).max();
                most.expect("it is planned") <= least + 1
            };
            prop_assert!(even(&anew) && even(&careful));
        }
    }
}
