//! Writes into a node's log what only another clock would have written, with
//! the library the node itself uses.
#![allow(dead_code, clippy::unwrap_used, unreachable_pub, missing_docs)] // shared by several test programs

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use pinion_commitlog::{
    BlockBuf, DiskDone, DiskOutput, DiskRequest, LogConfig, LogId, RecordHead, RecordIn, Replay,
};
use pinion_reactor::FileStore;
use pinion_reactor::store::Identity;
use pinion_types::block::{BlockHeader, Record};
use pinion_types::{Monotonic, Offset, WallMs};

/// The kind of a stream's block (`docs/storage-format.md`).
const STREAM_BLOCK: u8 = 1;

/// Appends one record to the stream whose block is the last one in log 0, as a
/// node would whose clock says `wall`. No node may run. Gives its offset.
pub fn append_at(data: &Path, segment_bytes: u64, wall: WallMs, value: &[u8]) -> Offset {
    let store = Identity::read(data).unwrap().expect("a store").uuid;
    let config = LogConfig {
        log: LogId(0),
        store,
        segment_bytes,
        seed: 0x5eed,
        started: wall,
        ..LogConfig::default()
    };
    let mut last: Option<RecordHead> = None;
    let mut files = FileStore::new(data);
    let recovered = pinion_commitlog::recover(&mut files, config, &mut |replay| {
        if let Replay::Record { head, .. } = replay
            && head.kind == STREAM_BLOCK
        {
            last = Some(head);
        }
    })
    .unwrap();
    let mut log = recovered.log;
    log.ready();
    let last = last.expect("a block that no checkpoint stands for");
    let first = last.first + u64::from(last.count);
    let record = Record {
        key: &[],
        headers: &[],
        value,
    };
    let mut records = Vec::new();
    record.encode(&mut records).unwrap();
    let header = BlockHeader {
        first_offset: Offset(first),
        timestamp: wall,
        record_count: 1,
        records_bytes: u32::try_from(records.len()).unwrap(),
    };
    let head = RecordHead {
        first,
        count: 1,
        timestamp: wall,
        ..last
    };
    let now = Monotonic(1);
    let body: [&[u8]; 2] = [&header.encode(), &records];
    let appended = log.append(
        now,
        &[RecordIn {
            head,
            ext: &[],
            body: &body,
            retain: false,
        }],
    );
    loop {
        log.end_turn(now);
        let Some(request) = log.poll_request() else {
            break;
        };
        log.handle_done(now, execute(data, request));
    }
    assert!(log.committed() >= appended.last, "it is durable");
    Offset(first)
}

fn execute(data: &Path, request: DiskRequest) -> DiskDone {
    let (op, file) = request.target();
    let path = data.join(file.path());
    let open = || {
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .unwrap()
    };
    let output = match request {
        DiskRequest::Create { len, .. } => {
            let file = File::create_new(&path).unwrap();
            file.write_all_at(&vec![0; usize::try_from(len).unwrap()], 0)
                .unwrap();
            DiskOutput::Done
        }
        DiskRequest::Write { offset, data, .. } => {
            open().write_all_at(data.as_slice(), offset).unwrap();
            DiskOutput::Written(data)
        }
        DiskRequest::Read { offset, len, .. } => {
            let mut buffer = BlockBuf::zeroed(len as usize);
            open().read_exact_at(buffer.as_mut_slice(), offset).unwrap();
            DiskOutput::Data(buffer)
        }
        DiskRequest::Truncate { len, .. } => {
            open().set_len(len).unwrap();
            DiskOutput::Done
        }
        DiskRequest::Remove { .. } => {
            let _ = std::fs::remove_file(&path);
            DiskOutput::Done
        }
    };
    DiskDone {
        op,
        file,
        result: Ok(output),
    }
}
