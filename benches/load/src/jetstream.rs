//! JetStream over the text protocol: acknowledged publishes, and a work queue
//! whose acks are confirmed.
//!
//! File storage with the defaults of the server: it answers a publish and
//! confirms an ack *before* the file is synchronised (every two minutes), so
//! beside a node that calls `fdatasync` first its figures are those of a weaker
//! promise.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Instant;

use pinion_cli::bench::measure::{BenchError, Completion, Driver, SILENCE_MAX};
use pinion_cli::bench::queue::{QueueLoad, read_origin, write_origin};

use crate::nats::{CONNECT, await_pongs, take, unexpected};
use crate::tcp::{Fault, Wires, decimal};

/// Unsent bytes above which a publisher waits, as the native client does.
const OUT_BYTES_MAX: usize = 1 << 20;

/// Requests remembered at once. Raising it costs 16 bytes each; a driver with
/// more in flight waits.
const SLOTS: usize = 16_384;

/// Digits of a slot in a subject: enough for [`SLOTS`].
const SLOT_DIGITS: usize = 5;

const _: () = assert!(SLOTS <= 100_000 && SLOT_DIGITS == 5);

/// Sid of pulled messages; their subject is the stream's.
const SID_PULLED: usize = 1;
/// Sid of answers; the last word of their subject says to what.
const SID_ANSWERS: usize = 2;

const LOG_STREAM: &str = r#"{"name":"LOG","subjects":["bench.log"],"retention":"limits","storage":"file","max_msgs":-1,"max_bytes":-1,"max_msgs_per_subject":-1,"max_msg_size":-1,"max_consumers":-1,"max_age":0,"discard":"old","num_replicas":1,"duplicate_window":120000000000}"#;
const WORK_STREAM: &str = r#"{"name":"WORK","subjects":["bench.work"],"retention":"workqueue","storage":"file","max_msgs":-1,"max_bytes":-1,"max_msgs_per_subject":-1,"max_msg_size":-1,"max_consumers":-1,"max_age":0,"discard":"old","num_replicas":1,"duplicate_window":120000000000}"#;
const WORK_CONSUMER: &str = r#"{"stream_name":"WORK","config":{"durable_name":"W","ack_policy":"explicit","deliver_policy":"all","replay_policy":"instant","ack_wait":30000000000,"max_deliver":-1,"max_ack_pending":65536,"max_waiting":512}}"#;

/// What a request stands for until it is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Origin {
    lane: u32,
    stamp: u64,
}

/// Numbers for requests in flight, given and taken back.
struct Slots {
    origins: Vec<Origin>,
    free: Vec<usize>,
}

impl Slots {
    fn new() -> Self {
        Self {
            origins: vec![Origin::default(); SLOTS],
            free: (0..SLOTS).rev().collect(),
        }
    }

    fn give(&mut self, origin: Origin) -> Option<usize> {
        let slot = self.free.pop()?;
        self.origins[slot] = origin;
        Some(slot)
    }

    /// What the last word of `subject` stands for.
    fn take_back(&mut self, subject: &[u8]) -> Option<Origin> {
        let word = subject.rsplit(|&b| b == b'.').next()?;
        let slot = decimal(word)?;
        let origin = *self.origins.get(slot)?;
        self.free.push(slot);
        Some(origin)
    }
}

fn push_slot(out: &mut Vec<u8>, slot: usize) {
    // Writing to memory does not fail.
    let _ = write!(out, "{slot:0SLOT_DIGITS$}");
}

/// One publisher that waits for the answers of the stream.
pub struct JetPublish {
    wires: Wires,
    head: Vec<u8>,
    tail: Vec<u8>,
    slots: Slots,
}

impl JetPublish {
    /// Connects and creates the stream.
    ///
    /// # Errors
    /// The server refuses, or does not answer.
    pub fn new(address: SocketAddr, record_bytes: usize) -> Result<Self, BenchError> {
        let mut wires =
            Wires::connect(address, 1, None).map_err(BenchError::io("connecting to NATS"))?;
        greet(&mut wires, 0)?;
        api(&mut wires, "STREAM.CREATE.LOG", LOG_STREAM)?;
        say(&mut wires, 0, &format!("SUB _INBOX.a.* {SID_ANSWERS}\r\n"))?;
        let mut tail = format!(" {record_bytes}\r\n").into_bytes();
        tail.resize(tail.len() + record_bytes, 0x5a);
        tail.extend_from_slice(b"\r\n");
        Ok(Self {
            wires,
            head: b"PUB bench.log _INBOX.a.".to_vec(),
            tail,
            slots: Slots::new(),
        })
    }
}

impl Driver for JetPublish {
    fn lanes(&self) -> usize {
        1
    }

    fn submit(&mut self, _lane: usize, stamp: u64) -> Result<bool, BenchError> {
        let publisher = self.wires.wire(0);
        if publisher.unsent() > OUT_BYTES_MAX {
            return Ok(false);
        }
        let Some(slot) = self.slots.give(Origin { lane: 0, stamp }) else {
            return Ok(false);
        };
        publisher.out.extend_from_slice(&self.head);
        push_slot(&mut publisher.out, slot);
        publisher.out.extend_from_slice(&self.tail);
        Ok(true)
    }

    fn turn(&mut self, done: &mut Vec<Completion>) -> Result<bool, BenchError> {
        let Self { wires, slots, .. } = self;
        let mut pongs = 0;
        wires.turn(|_, wire| {
            take(wire, &mut pongs, |message, _| {
                check_stored(message.payload)?;
                let origin = slots
                    .take_back(message.subject)
                    .ok_or_else(|| unexpected(message.subject))?;
                done.push(Completion {
                    lane: origin.lane,
                    stamp: origin.stamp,
                });
                Ok(())
            })
        })
    }
}

/// `{"stream":…,"seq":…}`; anything else is a refusal.
fn check_stored(payload: &[u8]) -> Result<(), Fault> {
    if payload.starts_with(b"{\"stream\"") {
        Ok(())
    } else {
        Err(unexpected(payload))
    }
}

/// Producers and consumers of a work queue, each on a connection of its own.
/// Lane `p` is producer `p`; what it submits is completed when the ack of the
/// consumer that had it was confirmed.
pub struct JetQueue {
    wires: Wires,
    load: QueueLoad,
    value: Vec<u8>,
    puts: Vec<u32>,
    /// Messages each consumer's pull may still bring.
    pulls: Vec<u32>,
    pull: Vec<u8>,
    slots: Slots,
}

impl JetQueue {
    /// Connects, creates stream and consumer, and asks for the first messages.
    ///
    /// # Errors
    /// The server refuses, or does not answer.
    pub fn new(address: SocketAddr, load: &QueueLoad) -> Result<Self, BenchError> {
        let connections = load.producers + load.consumers;
        let mut wires = Wires::connect(address, connections, None)
            .map_err(BenchError::io("connecting to NATS"))?;
        for wire in 0..connections {
            greet(&mut wires, wire)?;
        }
        api(&mut wires, "STREAM.CREATE.WORK", WORK_STREAM)?;
        api(&mut wires, "CONSUMER.DURABLE.CREATE.WORK.W", WORK_CONSUMER)?;
        for producer in 0..load.producers {
            let line = format!("SUB _INBOX.p.{producer} {SID_ANSWERS}\r\n");
            say(&mut wires, producer, &line)?;
        }
        // No pull ends before it has brought what it asked for.
        let body = format!(r#"{{"batch":{},"expires":3600000000000}}"#, load.take);
        let pull = format!(" {}\r\n{body}\r\n", body.len()).into_bytes();
        for consumer in 0..load.consumers {
            let line = format!(
                "SUB _INBOX.n.{consumer} {SID_PULLED}\r\nSUB _INBOX.a.{consumer}.* {SID_ANSWERS}\r\n"
            );
            let wire = load.producers + consumer;
            say(&mut wires, wire, &line)?;
            push_pull(&mut wires.wire(wire).out, consumer, &pull);
        }
        Ok(Self {
            wires,
            value: vec![0x5a; load.message_bytes],
            puts: vec![0; load.producers],
            pulls: vec![load.take; load.consumers],
            pull,
            slots: Slots::new(),
            load: load.clone(),
        })
    }
}

fn push_pull(out: &mut Vec<u8>, consumer: usize, pull: &[u8]) {
    // Writing to memory does not fail.
    let _ = write!(
        out,
        "PUB $JS.API.CONSUMER.MSG.NEXT.WORK.W _INBOX.n.{consumer}"
    );
    out.extend_from_slice(pull);
}

impl Driver for JetQueue {
    fn lanes(&self) -> usize {
        self.load.producers
    }

    fn submit(&mut self, lane: usize, stamp: u64) -> Result<bool, BenchError> {
        if self.puts[lane] >= self.load.puts {
            return Ok(false);
        }
        self.puts[lane] += 1;
        write_origin(&mut self.value, lane, stamp);
        let out = &mut self.wires.wire(lane).out;
        // Writing to memory does not fail.
        let _ = write!(
            out,
            "PUB bench.work _INBOX.p.{lane} {}\r\n",
            self.value.len()
        );
        out.extend_from_slice(&self.value);
        out.extend_from_slice(b"\r\n");
        Ok(true)
    }

    fn turn(&mut self, done: &mut Vec<Completion>) -> Result<bool, BenchError> {
        let Self {
            wires,
            load,
            puts,
            pulls,
            pull,
            slots,
            ..
        } = self;
        let mut pongs = 0;
        wires.turn(|index, wire| {
            let Some(consumer) = index.checked_sub(load.producers) else {
                return take(wire, &mut pongs, |message, _| {
                    check_stored(message.payload)?;
                    puts[index] -= 1;
                    Ok(())
                });
            };
            take(wire, &mut pongs, |message, out| {
                if message.sid == SID_ANSWERS {
                    let origin = slots
                        .take_back(message.subject)
                        .ok_or_else(|| unexpected(message.subject))?;
                    done.push(Completion {
                        lane: origin.lane,
                        stamp: origin.stamp,
                    });
                    return Ok(());
                }
                let (lane, stamp) =
                    read_origin(message.payload).ok_or_else(|| unexpected(message.subject))?;
                let slot = slots.give(Origin { lane, stamp }).ok_or_else(|| {
                    Fault(BenchError::Options(format!("over {SLOTS} acks in flight")))
                })?;
                out.extend_from_slice(b"PUB ");
                out.extend_from_slice(message.reply);
                // Writing to memory does not fail.
                let _ = write!(out, " _INBOX.a.{consumer}.");
                push_slot(out, slot);
                out.extend_from_slice(b" 4\r\n+ACK\r\n");
                pulls[consumer] -= 1;
                if pulls[consumer] == 0 {
                    pulls[consumer] = load.take;
                    push_pull(out, consumer, pull);
                }
                Ok(())
            })
        })
    }
}

fn greet(wires: &mut Wires, wire: usize) -> Result<(), BenchError> {
    wires.wire(wire).out.extend_from_slice(CONNECT);
    await_pongs(wires, 1)
}

/// Sends `line` and waits until the server has read it.
fn say(wires: &mut Wires, wire: usize, line: &str) -> Result<(), BenchError> {
    let out = &mut wires.wire(wire).out;
    out.extend_from_slice(line.as_bytes());
    out.extend_from_slice(b"PING\r\n");
    await_pongs(wires, 1)
}

/// One request of the JetStream API on connection 0.
fn api(wires: &mut Wires, subject: &str, body: &str) -> Result<(), BenchError> {
    const SID: usize = 9;
    say(wires, 0, &format!("SUB _INBOX.api {SID}\r\n"))?;
    let line = format!(
        "PUB $JS.API.{subject} _INBOX.api {}\r\n{body}\r\n",
        body.len()
    );
    wires.wire(0).out.extend_from_slice(line.as_bytes());
    let started = Instant::now();
    let mut answered = None;
    let mut pongs = 0;
    while answered.is_none() {
        wires.turn(|_, wire| {
            take(wire, &mut pongs, |message, _| {
                let refused = message.payload.windows(8).any(|w| w == b"\"error\":");
                answered = Some(if refused {
                    Err(unexpected(message.payload).0)
                } else {
                    Ok(())
                });
                Ok(())
            })
        })?;
        if started.elapsed() > SILENCE_MAX {
            return Err(BenchError::Silence {
                waited: started.elapsed(),
                in_flight: 1,
            });
        }
    }
    say(wires, 0, &format!("UNSUB {SID}\r\n"))?;
    answered.unwrap_or(Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_comes_back_by_the_subject_of_its_answer() {
        let mut slots = Slots::new();
        let first = Origin { lane: 3, stamp: 7 };
        let slot = slots.give(first).expect("a fresh table has room");
        let mut subject = b"_INBOX.a.0.".to_vec();
        push_slot(&mut subject, slot);
        assert_eq!(slots.take_back(&subject), Some(first));
        assert_eq!(slots.take_back(b"_INBOX.a.0.x"), None);
        for _ in 0..SLOTS {
            assert!(slots.give(first).is_some());
        }
        assert_eq!(slots.give(first), None, "bounded");
    }

    #[test]
    fn a_refusal_is_no_answer() {
        assert!(check_stored(br#"{"stream":"LOG","seq":1}"#).is_ok());
        assert!(check_stored(br#"{"error":{"code":503}}"#).is_err());
        assert!(check_stored(b"").is_err());
    }
}
