//! Drivers made of drivers, and one that asks what it is told to.

use std::time::Instant;

use pinion_cli::bench::measure::{BenchError, Completion, Driver};
use pinion_cli::bench::target::{PATIENCE, open_as, unexpected};
use pinion_client::native::{LinkId, NativeClient, NativeConfig, Received, SubmitError};
use pinion_types::ResourceKind;
use pinion_types::limits::IN_FLIGHT_MAX;
use pinion_wire::message::{Handle, Reply, Spec};

use super::ask::Submit;

/// Stamps remembered of one lane: replies may overtake each other by this
/// factor of what one connection may have in flight.
const STAMPS: usize = 4 * IN_FLIGHT_MAX as usize;

const _: () = assert!(STAMPS.is_power_of_two());

/// Something that goes on beside what is measured, in the same thread.
pub(super) trait Background {
    /// Does a little, if it is time.
    fn attend(&mut self) -> Result<(), BenchError>;
}

/// A driver, with something going on beside it.
pub(super) struct Beside<'a, D, B> {
    pub(super) driver: &'a mut D,
    pub(super) background: &'a mut B,
}

impl<D: Driver, B: Background> Driver for Beside<'_, D, B> {
    fn lanes(&self) -> usize {
        self.driver.lanes()
    }

    fn submit(&mut self, lane: usize, stamp: u64) -> Result<bool, BenchError> {
        self.driver.submit(lane, stamp)
    }

    fn turn(&mut self, done: &mut Vec<Completion>) -> Result<bool, BenchError> {
        let moved = self.driver.turn(done)?;
        self.background.attend()?;
        Ok(moved)
    }

    fn copies(&self) -> u64 {
        self.driver.copies()
    }

    fn lost(&self) -> u64 {
        self.driver.lost()
    }
}

/// Several drivers as one, for more connections than one socket should have.
pub(super) struct Group<D> {
    drivers: Vec<D>,
    /// The driver of each lane, and which of its lanes it is.
    lanes: Vec<(usize, usize)>,
}

impl<D: Driver> Group<D> {
    pub(super) fn new(drivers: Vec<D>) -> Self {
        let lanes = drivers
            .iter()
            .enumerate()
            .flat_map(|(index, driver)| (0..driver.lanes()).map(move |lane| (index, lane)))
            .collect();
        Self { drivers, lanes }
    }
}

impl<D: Driver> Driver for Group<D> {
    fn lanes(&self) -> usize {
        self.lanes.len()
    }

    fn submit(&mut self, lane: usize, stamp: u64) -> Result<bool, BenchError> {
        let (driver, lane) = self.lanes[lane];
        self.drivers[driver].submit(lane, stamp)
    }

    fn turn(&mut self, done: &mut Vec<Completion>) -> Result<bool, BenchError> {
        let mut moved = false;
        let mut before = 0;
        for driver in &mut self.drivers {
            let already = done.len();
            moved |= driver.turn(done)?;
            for completion in &mut done[already..] {
                completion.lane += before;
            }
            before += u32::try_from(driver.lanes()).unwrap_or(u32::MAX);
        }
        Ok(moved)
    }

    fn lost(&self) -> u64 {
        self.drivers.iter().map(Driver::lost).sum()
    }
}

/// What an [`Asker`] asks.
pub(super) trait Ask {
    /// Hands its next request about `handle` to `submit`. What is refused for
    /// want of room is asked again.
    fn ask(&mut self, handle: Handle, submit: &mut Submit<'_>) -> Result<u32, SubmitError>;

    /// Whether this is what was asked for.
    fn is_good(&self, reply: &Reply<'_>) -> bool;
}

/// Asks `A` over several connections to one cache of one partition.
pub(super) struct Asker<A> {
    client: NativeClient,
    lanes: Vec<Lane>,
    /// What is asked; its owner may look at it between runs.
    pub(super) ask: A,
    /// Refusals are counted, not faults.
    tolerant: bool,
    refused: u64,
}

struct Lane {
    link: LinkId,
    handle: Handle,
    /// `(correlation, stamp)`, at `correlation mod len`.
    stamps: Vec<(u32, u64)>,
}

impl<A: Ask> Asker<A> {
    /// Connects and declares the cache `name` as `spec` says.
    pub(super) fn new(
        config: NativeConfig,
        connections: usize,
        name: &str,
        spec: Spec,
        ask: A,
    ) -> Result<Self, BenchError> {
        let mut client = NativeClient::new(config)?;
        let mut lanes = Vec::new();
        for _ in 0..connections {
            let link = client.connect(None, PATIENCE)?;
            let opened = open_as(&mut client, link, ResourceKind::Cache, name, Some(spec))?;
            lanes.push(Lane {
                link,
                handle: opened.handle,
                stamps: vec![(0, 0); STAMPS],
            });
        }
        Ok(Self {
            client,
            lanes,
            ask,
            tolerant: false,
            refused: 0,
        })
    }

    /// From now on a request that is refused is counted and not completed.
    pub(super) fn tolerate_refusals(&mut self) {
        self.tolerant = true;
    }

    /// Requests that were refused.
    pub(super) const fn refused(&self) -> u64 {
        self.refused
    }
}

impl<A: Ask> Driver for Asker<A> {
    fn lanes(&self) -> usize {
        self.lanes.len()
    }

    fn submit(&mut self, lane: usize, stamp: u64) -> Result<bool, BenchError> {
        let Self {
            client, lanes, ask, ..
        } = self;
        let lane = &mut lanes[lane];
        let link = lane.link;
        // Under overload most requests end here: none of their bytes is made.
        if client.in_flight(link) >= IN_FLIGHT_MAX {
            return Ok(false);
        }
        match ask.ask(lane.handle, &mut |request| client.submit(link, request)) {
            Ok(correlation) => {
                lane.stamps[correlation as usize & (STAMPS - 1)] = (correlation, stamp);
                Ok(true)
            }
            Err(SubmitError::InFlight { .. } | SubmitError::Full { .. }) => Ok(false),
            Err(error) => Err(BenchError::Native(error.into())),
        }
    }

    fn turn(&mut self, done: &mut Vec<Completion>) -> Result<bool, BenchError> {
        let now = Instant::now();
        let sent = self.client.flush(now)?;
        let Self {
            client,
            lanes,
            ask,
            tolerant,
            refused,
        } = self;
        let mut fault = None;
        let received = client.poll(now, |received| match received {
            Received::Reply {
                link,
                correlation,
                opcode,
                body,
            } => {
                let reply = match Reply::decode(opcode, body) {
                    Ok(reply) => reply,
                    other => {
                        fault = Some(unexpected("a request", &other));
                        return;
                    }
                };
                if !ask.is_good(&reply) {
                    *refused += 1;
                    if !*tolerant {
                        fault = Some(unexpected("a request", &reply));
                    }
                    return;
                }
                // Connections are few, so the search is short.
                let Some(lane) = lanes.iter().position(|lane| lane.link == link) else {
                    return;
                };
                let (expected, stamp) = lanes[lane].stamps[correlation as usize & (STAMPS - 1)];
                if expected == correlation {
                    let lane = u32::try_from(lane).unwrap_or(u32::MAX);
                    done.push(Completion { lane, stamp });
                } else {
                    fault = Some(unexpected("a request", &"an answer to another"));
                }
            }
            Received::Delivery { .. } => {}
            Received::Closed { .. } => fault = Some(BenchError::Closed { peer: "the node" }),
        })?;
        match fault {
            Some(fault) => Err(fault),
            None => Ok(sent || received),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Completes on the next turn what was submitted.
    struct Toy {
        lanes: usize,
        queued: Vec<Completion>,
        lost: u64,
    }

    impl Driver for Toy {
        fn lanes(&self) -> usize {
            self.lanes
        }

        fn submit(&mut self, lane: usize, stamp: u64) -> Result<bool, BenchError> {
            assert!(lane < self.lanes, "lane {lane} of {}", self.lanes);
            let lane = u32::try_from(lane).expect("few lanes");
            self.queued.push(Completion { lane, stamp });
            Ok(true)
        }

        fn turn(&mut self, done: &mut Vec<Completion>) -> Result<bool, BenchError> {
            let moved = !self.queued.is_empty();
            done.append(&mut self.queued);
            Ok(moved)
        }

        fn lost(&self) -> u64 {
            self.lost
        }
    }

    fn toy(lanes: usize) -> Toy {
        Toy {
            lanes,
            queued: Vec::new(),
            lost: 2,
        }
    }

    #[test]
    fn a_group_gives_every_lane_its_own_completions_back() {
        let mut group = Group::new(vec![toy(2), toy(1), toy(3)]);
        assert_eq!((group.lanes(), group.lost()), (6, 6));
        for lane in 0..6 {
            assert!(group.submit(lane, 100 + lane as u64).expect("taken"));
        }
        // What another turn left there is not renumbered.
        let before = Completion { lane: 0, stamp: 7 };
        let mut done = vec![before];
        assert!(group.turn(&mut done).expect("a toy"));
        assert_eq!(done.remove(0), before);
        let expected: Vec<Completion> = (0..6)
            .map(|lane| Completion {
                lane,
                stamp: 100 + u64::from(lane),
            })
            .collect();
        assert_eq!(done, expected);
    }

    struct Counter(usize);

    impl Background for Counter {
        fn attend(&mut self) -> Result<(), BenchError> {
            self.0 += 1;
            Ok(())
        }
    }

    #[test]
    fn what_goes_on_beside_a_driver_is_attended_once_a_turn() {
        let (mut driver, mut background) = (toy(1), Counter(0));
        let mut beside = Beside {
            driver: &mut driver,
            background: &mut background,
        };
        let mut done = Vec::new();
        beside.submit(0, 1).expect("taken");
        assert!(beside.turn(&mut done).expect("a toy"));
        assert!(!beside.turn(&mut done).expect("a toy"));
        assert_eq!((done.len(), background.0), (1, 2));
    }
}
