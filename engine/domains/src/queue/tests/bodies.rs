//! Bodies that do not fit into memory.

use super::*;

fn small() -> QueueConfig {
    QueueConfig {
        resident_bytes_max: 100,
        read_ahead_bytes: 60,
        ..config()
    }
}

/// Each put is 20 bytes.
fn fill(w: &mut World, count: u32) {
    for i in 0..count {
        w.put(&[&format!("message {i:04}")]);
    }
}

#[test]
fn a_backlog_larger_than_memory_comes_in_order_through_loads() {
    let mut w = World::new(small());
    fill(&mut w, 100);
    assert!(w.q.resident_bytes() <= 100);
    for i in 0..100 {
        let taken = w.take(1, 1);
        assert_eq!(values(&taken), [format!("message {i:04}")]);
        assert!(
            w.q.resident_bytes() <= 100 + 60 + 20,
            "{}",
            w.q.resident_bytes()
        );
        w.ack(&tokens(&taken));
    }
    assert_eq!(w.releases(), 100);
    assert_eq!(w.q.resident_bytes(), 0);
}

#[test]
fn a_consumer_waits_for_the_disk_and_others_behind_it_do_not_pass() {
    let mut w = World::new(small());
    fill(&mut w, 10);
    let taken = w.take(1, 5);
    assert_eq!(taken.len(), 5);
    let waiter = w.wait("", 1, 1, 0);
    assert_eq!(w.poll(), None);
    assert_eq!(w.why(""), Why::Loading);
    assert!(w.load());
    let (delivery, next) = w.poll().unwrap();
    assert_eq!(delivery, Delivery::Taken(waiter));
    assert_eq!(values(&next), ["message 0005"]);
}

#[test]
fn reading_ahead_is_bounded() {
    let mut w = World::new(small());
    fill(&mut w, 50);
    w.take(1, 5);
    w.wait("", 1, 1, 1000);
    assert_eq!(w.poll(), None);
    let mut asked = 0;
    while w.q.poll_load().is_some() {
        asked += 1;
    }
    assert_eq!(asked, 3, "60 bytes ahead");
}

#[test]
fn a_load_to_be_repeated_is_asked_for_again_and_a_damaged_one_fences() {
    let mut w = World::new(small());
    fill(&mut w, 10);
    w.take(1, 5);
    w.wait("", 1, 1, 1000);
    let (token, at) = w.q.poll_load().unwrap();
    w.q.handle_loaded(token, Err(LoadError::Retry));
    let mut again = Vec::new();
    while let Some(load) = w.q.poll_load() {
        again.push(load);
    }
    let (token, _) = again.iter().find(|load| load.1 == at).unwrap();
    w.q.handle_loaded(*token, Ok(encode(&[("", "another length")])));
    assert!(w.q.is_fenced(), "a body of another length is damage");
}

#[test]
fn a_body_the_log_has_moved_is_read_from_its_new_place_and_released_there() {
    let mut w = World::new(small());
    fill(&mut w, 10);
    let to = |at: Location| Location {
        segment: at.segment + 100,
        ..at
    };
    let places: Vec<Location> = w.q.live_locations().collect();
    for at in places {
        w.q.relocated(at, to(at));
        let body = w.retained.remove(&at).unwrap();
        w.retained.insert(to(at), body);
    }
    let mut seen = Vec::new();
    for _ in 0..10 {
        let taken = w.take(1, 1);
        seen.extend(values(&taken));
        w.ack(&tokens(&taken));
    }
    assert_eq!(seen.len(), 10);
    assert_eq!(w.releases(), 10);
}

#[test]
fn a_body_released_while_it_was_moved_is_released_at_its_new_place() {
    let mut w = World::new(small());
    fill(&mut w, 1);
    let at = w.q.live_locations().next().unwrap();
    let taken = w.take(1, 1);
    w.ack(&tokens(&taken));
    assert_eq!(w.releases(), 1);
    let to = Location { segment: 9, ..at };
    w.q.relocated(at, to);
    assert_eq!(w.q.poll_release(), Some(to));
}

#[test]
fn a_load_that_comes_after_its_message_went_is_nothing() {
    let mut w = World::new(QueueConfig {
        dead_letter_expired: false,
        ..small()
    });
    w.q.create_group(w.wall(), b"").unwrap();
    fill(&mut w, 5);
    w.put_later(&["expires soon"], 0, 100);
    assert_eq!(w.take(1, 5).len(), 5);
    w.wait("", 1, 1, 1000);
    let (token, at) = w.q.poll_load().unwrap();
    let body = w.retained[&at].clone();
    w.pass(100);
    assert_eq!(w.q.queue_counts().messages, 5);
    w.q.handle_loaded(token, Ok(body));
    assert!(!w.q.is_fenced());
    assert_eq!(w.q.resident_bytes(), 100);
}
