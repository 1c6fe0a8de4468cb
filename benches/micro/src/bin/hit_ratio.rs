//! Hit ratio of the cache partition's eviction beside LRU and the optimum.
//!
//! Every request is a get; a miss is followed by a set. The partition has a byte
//! budget, so first a budget is found under which it holds the wanted number of
//! entries; LRU and the optimum get as many entries as it ever held in the run.
//!
//! `hit-ratio [--json]`

#![forbid(unsafe_code)]

use pinion_domains::cache::{BUDGET_BYTES_MIN, CacheConfig, CachePartition, Condition};
use pinion_micro::policy::{lru_hits, optimal_hits};
use pinion_micro::trace::zipf;
use pinion_types::Monotonic;

const KEYS: u32 = 100_000;
const REQUESTS: usize = 1_000_000;
const VALUE: [u8; 100] = [7; 100];
const SEED: u64 = 0x5eed;

struct Line {
    s: f64,
    percent: u32,
    entries: u64,
    s3_fifo: f64,
    lru: f64,
    optimum: f64,
}

fn main() {
    let json = match std::env::args().nth(1).as_deref() {
        None => false,
        Some("--json") => true,
        Some(_) => {
            eprintln!("usage: hit-ratio [--json]");
            std::process::exit(2);
        }
    };
    let mut lines = Vec::new();
    for s in [0.8, 1.0, 1.2] {
        let trace = zipf(KEYS, s, REQUESTS, SEED);
        for percent in [1, 5, 10] {
            lines.push(measure(&trace, s, percent));
        }
    }
    if json {
        print_json(&lines);
    } else {
        print_table(&lines);
    }
}

fn measure(trace: &[u32], s: f64, percent: u32) -> Line {
    let budget = budget_for(KEYS * percent / 100);
    let mut cache = partition(budget);
    let mut entries = 0;
    for &key in trace {
        request(&mut cache, key);
        entries = entries.max(cache.stats().entries);
    }
    let room = usize::try_from(entries).expect("entries fit memory");
    let requests = trace.len() as f64;
    Line {
        s,
        percent,
        entries,
        s3_fifo: cache.stats().hits as f64 / requests,
        lru: lru_hits(trace, room) as f64 / requests,
        optimum: optimal_hits(trace, room) as f64 / requests,
    }
}

fn partition(budget: u64) -> CachePartition {
    CachePartition::new(&CacheConfig::new(budget, [SEED, !SEED]))
}

fn request(cache: &mut CachePartition, key: u32) {
    let key = u64::from(key).to_le_bytes();
    if cache.get(Monotonic::ZERO, &key).is_none() {
        cache
            .set(Monotonic::ZERO, &key, &VALUE, 0, Condition::Always)
            .expect("the value fits");
    }
}

/// The largest budget under which a full partition holds at most `entries`.
fn budget_for(entries: u32) -> u64 {
    let (mut low, mut high) = (BUDGET_BYTES_MIN, u64::from(entries) * 1024 + (1 << 20));
    while high - low > 1024 {
        let middle = low.midpoint(high);
        let mut cache = partition(middle);
        for key in 0..entries * 2 {
            request(&mut cache, key);
        }
        if cache.stats().entries <= u64::from(entries) {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}

fn print_table(lines: &[Line]) {
    println!(
        "{REQUESTS} requests over {KEYS} keys, values of {} bytes.\n",
        VALUE.len()
    );
    println!("| Zipf s | cache | entries | LRU | S3-FIFO | optimum | S3-FIFO / optimum |");
    println!("|---:|---:|---:|---:|---:|---:|---:|");
    for line in lines {
        println!(
            "| {:.1} | {} % | {} | {:.2} % | {:.2} % | {:.2} % | {:.3} |",
            line.s,
            line.percent,
            line.entries,
            line.lru * 100.0,
            line.s3_fifo * 100.0,
            line.optimum * 100.0,
            line.s3_fifo / line.optimum,
        );
    }
}

fn print_json(lines: &[Line]) {
    println!("[");
    for (i, line) in lines.iter().enumerate() {
        let comma = if i + 1 < lines.len() { "," } else { "" };
        println!(
            "  {{\"s\": {}, \"cache_percent\": {}, \"entries\": {}, \"requests\": {REQUESTS}, \
             \"keys\": {KEYS}, \"lru\": {:.6}, \"s3_fifo\": {:.6}, \"optimum\": {:.6}}}{comma}",
            line.s, line.percent, line.entries, line.lru, line.s3_fifo, line.optimum
        );
    }
    println!("]");
}
