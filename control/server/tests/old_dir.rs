//! A data directory of an earlier release: what it declared comes into the
//! metadata, once, and its data is where it was.
//!
//! `data/old-dir.tar.gz` was made by the node of commit 573c508: a durable stream of
//! two partitions with 20 records, a queue with two jobs, a cache, a durable
//! stream of tenant 7, and two streams in memory.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::path::Path;
use std::process::Command;

use pinion_client::{Client, FetchOptions, Offset, PartitionId, Record, StreamSpec};
use support::process::{Home, Node};
use support::run;

const CONFIG: &str = "
data_cores = [0]
[storage]
segment_bytes = 4194304
";

fn unpack(into: &Path) {
    let archive = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/old-dir.tar.gz");
    std::fs::create_dir_all(into).unwrap();
    let mut tar = Command::new("tar");
    tar.args(["-xzf", archive, "-C"]).arg(into);
    assert!(tar.status().unwrap().success());
}

/// Everything is there, and `more` records since.
async fn has_everything(client: &Client, more: u64) {
    let orders = client.stream("old/orders").await.unwrap();
    let mut records = 0;
    for partition in 0..2 {
        let mut next = Offset(0);
        loop {
            let options = FetchOptions {
                from: next,
                ..FetchOptions::default()
            };
            let page = orders.fetch(PartitionId(partition), options).await.unwrap();
            let Some(last) = page.records.last() else {
                break;
            };
            records += page.records.len() as u64;
            next = Offset(last.offset.0 + 1);
        }
    }
    assert_eq!(records, 20 + more);
    let jobs = client.queue("old/jobs").await.unwrap();
    assert_eq!(jobs.info(PartitionId(0)).await.unwrap().messages, 2);
    client.cache("old/values").await.unwrap();
}

async fn connect(node: &Node) -> Client {
    Client::connect(node.client_config()).await.unwrap()
}

#[test]
fn a_directory_of_an_earlier_release_opens_with_all_that_it_has() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let home = Home::new(dir.path(), CONFIG, &[]);
    unpack(&home.data);
    let old_log = home.data.join("log-65535/00000000000000000001.segment");
    let old = std::fs::read(&old_log).unwrap();

    let node = home.start(&[]);
    run(async {
        let client = connect(&node).await;
        has_everything(&client, 0).await;
        let orders = client.stream("old/orders").await.unwrap();
        let publisher = orders.publisher(Default::default());
        publisher
            .publish(Record::new("new"))
            .await
            .unwrap()
            .await
            .unwrap();
        // Takes no number that data of the old ones lies under.
        let spec = StreamSpec::durable(1);
        let new = client.open_stream_with("new/stream", spec).await.unwrap();
        let page = new.fetch(PartitionId(0), FetchOptions::default()).await;
        assert_eq!(page.unwrap().records.len(), 0);
        client.close().await;
    });
    assert_eq!(node.stop().code, 0);

    // And again, from the metadata.
    let node = home.start(&[]);
    run(async {
        let client = connect(&node).await;
        has_everything(&client, 1).await;
        client.close().await;
    });
    assert_eq!(node.stop().code, 0);
    assert_eq!(
        std::fs::read(&old_log).unwrap(),
        old,
        "it is left as it was"
    );
}

#[test]
fn damaged_declarations_of_an_earlier_release_are_refused() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let home = Home::new(dir.path(), CONFIG, &[]);
    unpack(&home.data);
    let old_log = home.data.join("log-65535/00000000000000000001.segment");
    let good = std::fs::read(&old_log).unwrap();
    let mut bad = good.clone();
    bad[4096 + 100] ^= 1;
    std::fs::write(&old_log, bad).unwrap();
    let ended = home.refused();
    assert_eq!(ended.code, 1);
    for word in ["log-65535", "backup"] {
        assert!(ended.said.contains(word), "{}", ended.said);
    }
    // Put back as it was, all of it is there.
    std::fs::write(&old_log, good).unwrap();
    let node = home.start(&[]);
    run(async {
        let client = connect(&node).await;
        has_everything(&client, 0).await;
        client.close().await;
    });
    assert_eq!(node.stop().code, 0);
}
