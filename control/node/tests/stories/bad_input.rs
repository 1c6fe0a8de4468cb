//! Bytes that are not the protocol, beside a connection that goes on.

use pinion_session::CloseCode;
use pinion_types::{ErrorCode, ResourceKind};
use pinion_wire::message::{Handle, Reply, Request};
use pinion_wire::opcode::{self, REQUESTS};

use super::{Scene, done, publish, published, subscribe, values};
use crate::harness::{ADMIN, Id, World, batch};

/// A connection that keeps publishing to, and reading, a stream of its own.
struct Bystander {
    id: Id,
    handle: Handle,
    sent: u32,
}

impl Bystander {
    fn new(w: &mut World) -> Self {
        let id = w.client(0, ADMIN);
        let handle = w.declare(id, ResourceKind::Stream, "bystander", 1);
        done(w, id, &Request::Subscribe(subscribe(handle, 0, 1)));
        Self {
            id,
            handle,
            sent: 0,
        }
    }

    /// Publishes one more beside whatever else there is, and reads it.
    #[track_caller]
    fn goes_on(&mut self, w: &mut World) {
        let value = self.sent.to_le_bytes();
        let records = batch(&[&value]);
        let asked = w.send(
            self.id,
            &Request::Publish(publish(self.handle, 0, &records)),
        );
        w.settle();
        let answer = w.answer(self.id, asked).expect("answered");
        let Reply::Published(p) = answer.reply() else {
            panic!("{answer:?}")
        };
        assert_eq!(p.first_offset.0, u64::from(self.sent));
        assert_eq!(values(&w.got(self.id, 1)), [value.to_vec()]);
        self.sent += 1;
    }
}

/// Sends `bytes` on a connection that has just been welcomed, in the scene of
/// another, and looks at what became of the two. True when it was closed.
fn thrown(w: &mut World, bystander: &mut Bystander, bytes: &[u8], fin: bool) -> bool {
    let id = w.client(0, ADMIN);
    w.open(id, ResourceKind::Stream, "s");
    w.open(id, ResourceKind::Cache, "c");
    let stream = w.clients[id].first_stream();
    w.send_bytes(id, stream, bytes);
    if fin {
        w.finish(id, stream);
    }
    bystander.goes_on(w);
    assert_eq!(w.closed(bystander.id), None);
    let closed = w.closed(id).is_some();
    if closed {
        assert_eq!(w.closed(id), Some(CloseCode::Protocol));
        let last = w.clients[id].replies().pop().expect("it is told why");
        assert!(last.code().is_some(), "{last:?}");
    } else {
        w.disconnect(id);
        w.settle();
    }
    closed
}

fn scene(w: &mut World) -> (Scene, Bystander) {
    let scene = Scene::new(w, 0, ADMIN, false);
    (scene, Bystander::new(w))
}

/// Worlds grow with every connection thrown at them.
const PER_WORLD: usize = 200;

fn throw_all(frames: impl IntoIterator<Item = (Vec<u8>, bool)>) -> (usize, usize) {
    let (mut thrown_count, mut closed) = (0, 0);
    let mut world = World::two();
    let (_, mut bystander) = scene(&mut world);
    for (bytes, fin) in frames {
        if thrown_count % PER_WORLD == PER_WORLD - 1 {
            assert_eq!(world.cores[0].held_bytes(), 0);
            world = World::two();
            (_, bystander) = scene(&mut world);
        }
        thrown_count += 1;
        closed += usize::from(thrown(&mut world, &mut bystander, &bytes, fin));
    }
    assert_eq!(world.cores[0].held_bytes(), 0);
    (thrown_count, closed)
}

fn samples() -> Vec<Vec<u8>> {
    let mut w = World::two();
    let (scene, _) = scene(&mut w);
    let mut frames: Vec<_> = REQUESTS
        .iter()
        .map(|entry| scene.sample(entry.opcode, 5))
        .collect();
    // With a specification, so that its fields are flipped too.
    let mut declare = Vec::new();
    let open = pinion_wire::message::Open {
        kind: ResourceKind::Cache,
        namespace: "n",
        name: "declared",
        spec: Some(World::spec(1)),
    };
    Request::Open(open).encode(6, &mut declare).unwrap();
    frames.push(declare);
    frames
}

#[test]
fn every_frame_with_a_byte_flipped() {
    let flips = [0x01, 0x80, 0xff];
    let frames = samples().into_iter().flat_map(|frame| {
        (0..frame.len()).flat_map(move |at| {
            let frame = frame.clone();
            flips.into_iter().map(move |flip| {
                let mut bytes = frame.clone();
                bytes[at] ^= flip;
                (bytes, false)
            })
        })
    });
    let (thrown, closed) = throw_all(frames);
    println!("{thrown} frames with a byte flipped, {closed} closed their connection");
    assert!(thrown > 2000 && closed > 100);
}

#[test]
fn every_frame_cut_at_every_length() {
    let frames = samples()
        .into_iter()
        .flat_map(|frame| (1..frame.len()).map(move |len| (frame[..len].to_vec(), true)));
    let (thrown, closed) = throw_all(frames);
    println!("{thrown} frames cut short, {closed} closed their connection");
    assert_eq!(closed, thrown, "the rest will never come");
}

#[test]
fn every_frame_cut_short_and_announced_so() {
    let frames = samples().into_iter().flat_map(|frame| {
        (12..frame.len()).map(move |len| {
            let mut bytes = frame[..len].to_vec();
            bytes[..4].copy_from_slice(&u32::try_from(len - 12).unwrap().to_le_bytes());
            (bytes, false)
        })
    });
    let (thrown, closed) = throw_all(frames);
    println!("{thrown} bodies cut short, {closed} closed their connection");
    assert!(closed > thrown / 2);
}

#[test]
fn every_length_field_at_nothing_one_and_most() {
    // Wherever two or four bytes could be a length, they are tried as one.
    let frames = samples().into_iter().flat_map(|frame| {
        (0..frame.len()).flat_map(move |at| {
            let frame = frame.clone();
            [0_u32, 1, u32::MAX].into_iter().flat_map(move |value| {
                let frame = frame.clone();
                [2, 4].into_iter().filter_map(move |width| {
                    let mut bytes = frame.clone();
                    let field = bytes.get_mut(at..at + width)?;
                    field.copy_from_slice(&value.to_le_bytes()[..width]);
                    Some((bytes, false))
                })
            })
        })
    });
    let (thrown, closed) = throw_all(frames);
    println!("{thrown} frames with a length of 0, 1 or most, {closed} closed their connection");
    assert!(thrown > 4000 && closed > 500);
}

#[test]
fn a_resource_of_odd_numbers_does_its_work_or_is_refused() {
    let mut w = World::one();
    let id = w.client(0, ADMIN);
    let mut made = 0;
    for (i, shift) in (0..64).enumerate() {
        for kind in [ResourceKind::Stream, ResourceKind::Cache] {
            for field in 0..3 {
                let mut spec = World::spec(1);
                spec.ring_bytes = 256 << 10;
                let odd = u64::MAX >> shift;
                match field {
                    0 => spec.ring_bytes = odd,
                    1 => spec.retention_ms = odd,
                    _ => spec.max_record_bytes = u32::try_from(odd & 0xf_ffff).unwrap(),
                }
                let name = format!("odd{i}x{field}");
                let answer = w.try_open(id, kind, &name, Some(spec));
                let handle = match answer.reply() {
                    Reply::Opened(opened) => opened.handle,
                    Reply::Error(_) => continue,
                    other => panic!("{other:?}"),
                };
                made += 1;
                let value = vec![1; 100_000];
                let records = batch(&[&value]);
                for _ in 0..4 {
                    match kind {
                        ResourceKind::Stream => {
                            w.call(id, &Request::Publish(publish(handle, 0, &records)));
                        }
                        ResourceKind::Cache => {
                            w.call(id, &Request::CacheSet(super::set(handle, b"k", &value)));
                        }
                        ResourceKind::Queue => unreachable!("not declared here"),
                    }
                }
                w.advance(std::time::Duration::from_millis(10));
                assert_eq!(w.closed(id), None);
            }
        }
    }
    assert!(made > 100);
}

#[test]
fn unknown_opcodes_are_refused_and_the_conversation_goes_on() {
    let mut w = World::one();
    let (_, mut bystander) = scene(&mut w);
    let id = w.client(0, ADMIN);
    let stream = w.clients[id].first_stream();
    for code in 0..=u8::MAX {
        if opcode::lookup(code).is_some() {
            continue;
        }
        let mut frame = vec![0; 12];
        frame[4] = code;
        frame[8] = 9;
        w.send_bytes(id, stream, &frame);
        w.settle();
        let answer = w.answer(id, 9).unwrap();
        assert_eq!(answer.code(), Some(ErrorCode::UnknownOpcode), "{code:#x}");
    }
    bystander.goes_on(&mut w);
    assert_eq!(w.closed(id), None);
}

#[test]
fn a_thousand_silent_connections_cost_nobody_else_anything() {
    let mut w = World::one();
    let (_, mut bystander) = scene(&mut w);
    for _ in 0..1000 {
        w.connect(0);
    }
    for _ in 0..20 {
        bystander.goes_on(&mut w);
    }
    assert_eq!(w.cores[0].held_bytes(), 0);
}

#[test]
fn frames_half_sent_are_bounded_and_given_back() {
    let mut w = World::one();
    let (_, mut bystander) = scene(&mut w);
    let mut frame = 1_000_000_u32.to_le_bytes().to_vec();
    frame.extend_from_slice(&[opcode::PING, 0, 0, 0, 1, 0, 0, 0]);
    frame.resize(900_000, 0);
    let mut ids = Vec::new();
    for _ in 0..20 {
        let id = w.client(0, ADMIN);
        for _ in 0..15 {
            w.open_stream(id, false);
        }
        let streams: Vec<u64> = w.clients[id].streams.keys().copied().collect();
        for stream in streams {
            w.send_bytes(id, stream, &frame);
        }
        ids.push(id);
        w.settle();
        assert!(w.cores[0].held_bytes() <= (256 << 20) + frame.len());
    }
    let closed = ids.iter().filter(|id| w.closed(**id).is_some()).count();
    assert!(closed > 0, "288 MB do not fit");
    for id in ids {
        assert!(matches!(w.closed(id), None | Some(CloseCode::Limit)));
        if w.closed(id).is_none() {
            w.disconnect(id);
        }
    }
    w.settle();
    assert_eq!(w.cores[0].held_bytes(), 0);
    bystander.goes_on(&mut w);
    published(&mut w, bystander.id, bystander.handle, 0, &[b"fine"]);
}

#[test]
fn half_a_frame_on_a_stream_that_is_reset_is_given_back() {
    let mut w = World::one();
    let (_, mut bystander) = scene(&mut w);
    let id = w.client(0, ADMIN);
    let stream = w.open_stream(id, false);
    let mut frame = 5000_u32.to_le_bytes().to_vec();
    frame.extend_from_slice(&[opcode::PING, 0, 0, 0, 1, 0, 0, 0, 1, 2, 3]);
    w.send_bytes(id, stream, &frame);
    w.settle();
    assert_eq!(w.cores[0].held_bytes(), frame.len());
    w.lose(id, stream);
    assert_eq!(w.cores[0].held_bytes(), 0);
    bystander.goes_on(&mut w);
}
