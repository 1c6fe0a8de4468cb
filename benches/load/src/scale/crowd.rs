//! Many connections that only listen, if that.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use pinion_cli::bench::measure::BenchError;
use pinion_cli::bench::target::unexpected;
use pinion_client::native::{LinkId, LinkState, NativeClient, NativeConfig, Received};
use pinion_wire::message::{Delivery, Reply};

use crate::links::{Census, census};

use super::drivers::Background;
use super::stage::Limit;

/// Connections of one client socket. More make each look at a socket longer,
/// which a request measured beside it has to wait for.
const PER_SOCKET: usize = 250;

/// Handshakes under way at once: below the number that turns on Retry.
const HANDSHAKES: usize = 64;

/// Pause between two looks, each at one socket. Shorter takes the generator's
/// time from what is measured; longer answers keep-alives and deliveries later.
const LOOK_EVERY: Duration = Duration::from_micros(250);

/// Connections beside those that are measured. Those who belong to them answer
/// for the transport (acknowledgements, keep-alives), nothing more.
pub(super) struct Crowd {
    members: Vec<Member>,
    next: usize,
    looked: Instant,
}

struct Member {
    client: NativeClient,
    links: Vec<LinkId>,
    /// Records that were delivered.
    records: u64,
    /// Records that were announced as skipped.
    skipped: u64,
}

impl Crowd {
    /// Connects `count` times, each socket on a loopback address of its own.
    /// `meanwhile` looks after connections that are not part of the crowd, which
    /// would be idle for too long otherwise.
    pub(super) fn connect(
        config: &NativeConfig,
        count: usize,
        limit: &Limit,
        mut meanwhile: impl FnMut() -> Result<(), BenchError>,
    ) -> Result<Self, BenchError> {
        let mut members = Vec::new();
        let mut left = count;
        while left > 0 {
            let wanted = left.min(PER_SOCKET);
            left -= wanted;
            let address = Ipv4Addr::new(
                127,
                1,
                u8::try_from(members.len() % 250).unwrap_or(0),
                u8::try_from(members.len() / 250).unwrap_or(0) + 1,
            );
            let config = config.clone().local(SocketAddr::from((address, 0)));
            let mut member = Member {
                client: NativeClient::new(config)?,
                links: Vec::new(),
                records: 0,
                skipped: 0,
            };
            member.connect(wanted, limit)?;
            members.push(member);
            // Those who wait for their turn must not time out meanwhile.
            for member in &mut members {
                member.turn()?;
            }
            meanwhile()?;
        }
        Ok(Self {
            members,
            next: 0,
            looked: Instant::now(),
        })
    }

    /// Shows every connection with its client and its number.
    pub(super) fn each_link(
        &mut self,
        mut visit: impl FnMut(&mut NativeClient, LinkId, usize) -> Result<(), BenchError>,
    ) -> Result<(), BenchError> {
        let mut number = 0;
        for at in 0..self.members.len() {
            for index in 0..self.members[at].links.len() {
                let member = &mut self.members[at];
                visit(&mut member.client, member.links[index], number)?;
                number += 1;
            }
            for member in &mut self.members {
                member.turn()?;
            }
        }
        Ok(())
    }

    /// Receives whatever has come for all of them. True when anything had.
    pub(super) fn turn(&mut self) -> Result<bool, BenchError> {
        let mut moved = false;
        for member in &mut self.members {
            moved |= member.turn()?;
        }
        Ok(moved)
    }

    /// Connections that live.
    pub(super) fn alive(&self) -> usize {
        let ready = |member: &Member| {
            let state = |link: &&LinkId| member.client.state(**link);
            let is_ready = |link: &&LinkId| matches!(state(link), Some(LinkState::Ready(_)));
            member.links.iter().filter(is_ready).count()
        };
        self.members.iter().map(ready).sum()
    }

    /// Records delivered to all of them.
    pub(super) fn records(&self) -> u64 {
        self.members.iter().map(|member| member.records).sum()
    }

    /// Records announced as skipped to all of them.
    pub(super) fn skipped(&self) -> u64 {
        self.members.iter().map(|member| member.skipped).sum()
    }
}

impl Background for Crowd {
    fn attend(&mut self) -> Result<(), BenchError> {
        if self.looked.elapsed() < LOOK_EVERY || self.members.is_empty() {
            return Ok(());
        }
        self.looked = Instant::now();
        self.next = (self.next + 1) % self.members.len();
        self.members[self.next].turn()?;
        Ok(())
    }
}

impl Member {
    fn connect(&mut self, wanted: usize, limit: &Limit) -> Result<(), BenchError> {
        loop {
            // Those that came to nothing are begun again.
            let Census { ready, pending, .. } = census(&self.client, &mut self.links)?;
            if ready == wanted {
                return Ok(());
            }
            limit.check(wanted - ready)?;
            let room = HANDSHAKES.saturating_sub(pending);
            for _ in 0..room.min(wanted - ready - pending) {
                self.links.push(self.client.begin_connect(None)?);
            }
            self.turn()?;
            self.client.wait(Duration::from_millis(1))?;
        }
    }

    fn turn(&mut self) -> Result<bool, BenchError> {
        let now = Instant::now();
        let Self {
            client,
            records,
            skipped,
            ..
        } = self;
        let mut fault = None;
        let mut ever = false;
        loop {
            let moved = client.poll(now, |received| {
                if let Received::Delivery { opcode, body, .. } = received {
                    match Delivery::decode(opcode, body) {
                        Ok(Delivery::Records(header, _)) => {
                            *records += u64::from(header.record_count);
                        }
                        Ok(Delivery::Lag(lag)) => *skipped += lag.count,
                        Ok(Delivery::Head(_)) => {}
                        other => fault = Some(unexpected("SUBSCRIBE", &other)),
                    }
                } else if let Received::Reply { opcode, body, .. } = received {
                    let answer = Reply::decode(opcode, body);
                    fault = Some(unexpected("nothing", &answer));
                }
            })?;
            if !moved {
                break;
            }
            ever = true;
        }
        client.flush(now)?;
        match fault {
            Some(fault) => Err(fault),
            None => Ok(ever),
        }
    }
}
