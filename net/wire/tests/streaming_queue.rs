//! The streaming encoders of queues and cursors write what the plain ones
//! would, and never more than a frame.

#![allow(clippy::unwrap_used)]

use pinion_types::block::Record;
use pinion_types::limits::{CURSORS_MAX, FRAME_BYTES_MAX, QUEUE_TOKENS_MAX, RECORD_BYTES_MAX};
use pinion_types::{Epoch, ErrorCode, Offset, WallMs};
use pinion_wire::frame::{self, Split};
use pinion_wire::message::{
    CursorItem, CursorItems, CursorPage, DeadItem, DeadItems, DeadPage, DeadReason, Durability,
    GroupItem, GroupItems, MessageState, PeekItem, PeekItems, QueueMessage, QueueMessageList,
    QueueMessages, QueuePage, QueueStatus, Reason, Reasons, Settled, SettledList, Token, WhyReason,
};
use pinion_wire::reply::{
    CursorPageBuilder, DeadPageBuilder, QueuePageBuilder, QueueStatusBuilder, ReasonsBuilder,
    SettledBuilder, TakenBuilder,
};
use pinion_wire::{Delivery, Reply};

const BEFORE: &[u8] = b"earlier replies";

/// What `stream` appends is what `plain` encodes to.
#[track_caller]
fn same(plain: &Reply<'_>, stream: impl FnOnce(&mut Vec<u8>)) {
    let mut expected = BEFORE.to_vec();
    plain.encode(7, &mut expected).unwrap();
    let mut out = BEFORE.to_vec();
    stream(&mut out);
    assert_eq!(out, expected);
}

const RECORD: Record<'static> = Record {
    key: b"k",
    headers: b"",
    value: b"value",
};

const MESSAGE: QueueMessage<'static> = QueueMessage {
    id: 4,
    token: Token([7; 16]),
    attempt: 2,
    enqueued: WallMs(9),
    last_error: "smtp: 451",
    record: RECORD,
};

#[test]
fn a_message_is_sent_as_it_was_put_to_who_takes_and_who_subscribes() {
    let mut scratch = Vec::new();
    let mut put = Vec::new();
    RECORD.encode(&mut put).unwrap();
    let plain = QueueMessages {
        lease_ms: 30_000,
        messages: QueueMessageList::build(&mut scratch, [MESSAGE, MESSAGE]).unwrap(),
    };
    let fill = |taken: &mut TakenBuilder<'_>| {
        assert!(taken.is_empty());
        assert!(taken.push(MESSAGE));
        assert!(taken.push_encoded(4, MESSAGE.token, 2, WallMs(9), "smtp: 451", &put));
        assert_eq!(taken.len(), 2);
    };
    same(&Reply::Taken(plain), |out| {
        let mut taken = TakenBuilder::new(out, 7, 30_000);
        fill(&mut taken);
        assert_eq!(taken.finish(), 2);
    });

    let mut expected = Vec::new();
    Delivery::Messages(plain).encode(&mut expected).unwrap();
    let mut out = Vec::new();
    let mut messages = TakenBuilder::delivery(&mut out, 30_000);
    fill(&mut messages);
    messages.finish();
    assert_eq!(out, expected);
}

#[test]
fn what_fits_is_known_before_it_is_reserved() {
    let half = vec![b'x'; RECORD_BYTES_MAX as usize / 2 - 8];
    let record = Record {
        key: b"",
        headers: b"",
        value: &half,
    };
    let message = QueueMessage { record, ..MESSAGE };
    let mut out = BEFORE.to_vec();
    let mut taken = TakenBuilder::new(&mut out, 7, 1);
    let mut pushed = 0;
    while taken.fits(message.last_error, record.encoded_len()) {
        assert!(taken.push(message));
        pushed += 1;
    }
    assert_eq!(pushed, 2);
    assert!(!taken.push(message));
    assert!(taken.room() < record.encoded_len());

    // A record that fills the room to the last byte fits, one more does not.
    let rest = taken.room() - TakenBuilder::MESSAGE_HEAD_BYTES;
    assert!(taken.fits("", rest) && !taken.fits("", rest + 1) && !taken.fits("e", rest));
    let tail = vec![0; rest - 8];
    let tail = Record {
        key: b"",
        headers: b"",
        value: &tail,
    };
    assert!(taken.push(QueueMessage {
        last_error: "",
        record: tail,
        ..MESSAGE
    }));
    assert_eq!((taken.room(), taken.finish()), (0, 3));
    assert_eq!(out.len(), BEFORE.len() + 12 + FRAME_BYTES_MAX as usize);
}

#[test]
fn the_largest_message_with_the_longest_error_fits_a_frame_alone() {
    let value = vec![0; RECORD_BYTES_MAX as usize - 4];
    let error = "e".repeat(255);
    let largest = QueueMessage {
        last_error: &error,
        record: Record {
            key: b"",
            headers: b"",
            value: &value,
        },
        ..MESSAGE
    };
    let mut out = Vec::new();
    let mut taken = TakenBuilder::delivery(&mut out, 1);
    assert!(taken.push(largest));
    assert_eq!(taken.finish(), 1);
    let too_long = "e".repeat(256);
    let mut taken = TakenBuilder::delivery(&mut out, 1);
    assert!(!taken.push(QueueMessage {
        last_error: &too_long,
        ..MESSAGE
    }));
}

#[test]
fn a_frame_that_is_not_finished_leaves_no_trace() {
    let mut out = BEFORE.to_vec();
    let mut taken = TakenBuilder::new(&mut out, 7, 1);
    assert!(taken.push(MESSAGE));
    drop(taken);
    assert_eq!(out, BEFORE);
}

#[test]
fn tokens_are_answered_in_their_order() {
    let mut scratch = Vec::new();
    let results = [None, Some(ErrorCode::TokenExpired)];
    let plain = Settled {
        durability: Durability::Disk,
        results: SettledList::build(&mut scratch, results).unwrap(),
    };
    same(&Reply::Settled(plain), |out| {
        let mut settled = SettledBuilder::new(out, 7);
        assert!(settled.push(Ok(())));
        assert!(settled.push(Err(ErrorCode::TokenExpired)));
        assert_eq!(settled.finish(Durability::Disk), 2);
    });
    let mut out = Vec::new();
    let mut settled = SettledBuilder::new(&mut out, 7);
    for _ in 0..QUEUE_TOKENS_MAX {
        assert!(settled.push(Ok(())));
    }
    assert!(!settled.push(Ok(())));
}

#[test]
fn pages_say_where_the_next_one_begins() {
    let peeked = PeekItem {
        id: 3,
        state: MessageState::Delayed,
        attempts: 1,
        enqueued: WallMs(1),
        due: WallMs(2),
        expires: WallMs(3),
        last_error: "e",
        record_bytes: 14,
        record: Some(RECORD),
    };
    let mut scratch = Vec::new();
    let plain = QueuePage {
        next: 99,
        items: PeekItems::build(&mut scratch, [peeked]).unwrap(),
    };
    same(&Reply::QueuePage(plain), |out| {
        let mut page = QueuePageBuilder::new(out, 7);
        assert!(page.push(peeked));
        assert_eq!(page.finish(99), 1);
    });

    let dead = DeadItem {
        id: 3,
        reason: DeadReason::LeaseExpired,
        attempts: 5,
        enqueued: WallMs(1),
        died: WallMs(2),
        last_error: "",
        record_bytes: 14,
        record: None,
    };
    let mut scratch = Vec::new();
    let plain = DeadPage {
        next: 0,
        items: DeadItems::build(&mut scratch, [dead, dead]).unwrap(),
    };
    same(&Reply::DeadPage(plain), |out| {
        let mut page = DeadPageBuilder::new(out, 7);
        assert!(page.push(dead) && page.push(dead));
        assert_eq!((page.len(), page.finish(0)), (2, 2));
    });

    let cursor = CursorItem {
        name: "billing",
        offset: Offset(9),
    };
    let mut scratch = Vec::new();
    let plain = CursorPage {
        more: true,
        items: CursorItems::build(&mut scratch, [cursor]).unwrap(),
    };
    same(&Reply::CursorPage(plain), |out| {
        let mut page = CursorPageBuilder::new(out, 7);
        assert!(page.push(cursor));
        assert!(!page.push(CursorItem { name: "", ..cursor }));
        assert_eq!(page.finish(true), 1);
    });
    // Every cursor of a partition fits one page, however long the names.
    let name = "n".repeat(255);
    let mut out = Vec::new();
    let mut page = CursorPageBuilder::new(&mut out, 7);
    let long = CursorItem {
        name: &name,
        offset: Offset(9),
    };
    for _ in 0..CURSORS_MAX {
        assert!(page.push(long));
    }
    assert!(!page.push(long));
}

#[test]
fn counts_and_reasons_are_pushed_one_by_one() {
    let group = GroupItem {
        name: "audit",
        ready: 1,
        delayed: 2,
        in_flight: 3,
        dead: 4,
        bytes: 5,
        oldest_age_ms: 6,
        consumers: 7,
        waiting: 8,
    };
    let mut scratch = Vec::new();
    let plain = QueueStatus {
        next_id: 1,
        messages: 2,
        bytes: 3,
        resident_bytes: 4,
        epoch: Epoch(5),
        groups: GroupItems::build(&mut scratch, [group]).unwrap(),
    };
    same(&Reply::QueueStatus(plain), |out| {
        let mut status = QueueStatusBuilder::new(out, 7, 1, 2, 3, 4, Epoch(5));
        assert!(status.push(group));
        assert_eq!(status.finish(), 1);
    });

    let reason = Reason {
        messages: 3,
        consumer: 5,
        ..Reason::new(WhyReason::ConsumerInFlight)
    };
    let mut scratch = Vec::new();
    let plain = Reasons::build(&mut scratch, [reason]).unwrap();
    same(&Reply::QueueReasons(plain), |out| {
        let mut reasons = ReasonsBuilder::new(out, 7);
        assert!(reasons.push(reason));
        assert_eq!(reasons.finish(), 1);
    });
    let mut out = Vec::new();
    ReasonsBuilder::new(&mut out, 7).finish();
    let Ok(Split::Frame { body, .. }) = frame::split(&out) else {
        panic!("a whole frame");
    };
    assert_eq!(body, [0, 0], "nothing is kept back");
}

#[test]
fn what_a_kind_has_no_use_for_is_not_declared() {
    use pinion_types::ResourceKind;
    use pinion_wire::Request;
    use pinion_wire::message::{Open, Overflow, QueueSpec, Spec};

    let plain = Spec {
        shards: 1,
        durability: 1,
        overflow: Overflow::Block,
        max_record_bytes: 0,
        ring_bytes: 0,
        retention_ms: 0,
        retention_bytes: 0,
        queue: QueueSpec::UNSET,
    };
    let ordered = QueueSpec {
        ordered_by_key: true,
        ..QueueSpec::UNSET
    };
    let open = |kind, spec| {
        let open = Open {
            kind,
            namespace: "n",
            name: "x",
            spec: Some(spec),
        };
        Request::Open(open).encode(1, &mut Vec::new()).is_ok()
    };
    let of_a_queue = Spec {
        queue: ordered,
        ..plain
    };
    let bounded = Spec {
        retention_bytes: 1,
        ..plain
    };
    let said = [
        ResourceKind::Stream,
        ResourceKind::Cache,
        ResourceKind::Queue,
    ]
    .map(|kind| {
        (
            open(kind, plain),
            open(kind, bounded),
            open(kind, of_a_queue),
        )
    });
    assert_eq!(
        said,
        [
            (true, true, false),
            (true, false, false),
            (true, true, true)
        ]
    );
}
