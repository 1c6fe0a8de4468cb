//! Bytes of a snapshot of the metadata, and how long it takes to write and to read.
//!
//! `metadata-snapshot [--json]`: 20,000 streams of 4 shards on 200 brokers, the size of
//! cluster that the control plane is made for. Exits 1 above [`BYTES_MAX`], or when either
//! way takes longer than [`TIME_MAX`].

#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use pinion_metadata::broker::{BrokerFacts, Capacity};
use pinion_metadata::command::{CreateTenant, Declare, IfExists, RegisterBroker};
use pinion_metadata::resource::{AckPolicy, ResourceSpec};
use pinion_metadata::tenant::TenantQuotas;
use pinion_metadata::{BrokerNumber, Command, Envelope, Expect, Metadata};
use pinion_types::{ResourceKind, WallMs};

const BROKERS: u64 = 200;
const STREAMS: u64 = 20_000;
const TENANTS: u64 = 100;
const SPEC: ResourceSpec = ResourceSpec {
    shards: 4,
    durable: true,
    overflow: 1,
    max_record_bytes: 1 << 20,
    ring_bytes: 1 << 20,
    retention_ms: 604_800_000,
    retention_bytes: 1 << 30,
    replication_factor: 3,
    ack: AckPolicy::Quorum,
    queue: None,
};

/// Larger takes longer to send to a member that is behind.
const BYTES_MAX: usize = 64 << 20;
/// Longer keeps a member that needs it away for as long.
const TIME_MAX: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let json = match std::env::args().nth(1).as_deref() {
        None => false,
        Some("--json") => true,
        Some(_) => {
            eprintln!("usage: metadata-snapshot [--json]");
            return ExitCode::from(2);
        }
    };
    let begun = Instant::now();
    let state = match filled() {
        Ok(state) => state,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::FAILURE;
        }
    };
    let made = begun.elapsed();
    let begun = Instant::now();
    let source = state.snapshot();
    let taken = begun.elapsed();
    let begun = Instant::now();
    let bytes = source.encode();
    let encoded = begun.elapsed();
    let begun = Instant::now();
    let restored = Metadata::restore(&bytes);
    let read = begun.elapsed();
    let same = restored.is_ok_and(|restored| restored.state_hash() == state.state_hash());
    let objects = state.objects().count();
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    if json {
        println!(
            "{{\"row\": \"metadata snapshot 20k\", \"objects\": {objects}, \"bytes\": {}, \"take_ms\": {:.3}, \"encode_ms\": {:.3}, \"restore_ms\": {:.3}}}",
            bytes.len(),
            ms(taken),
            ms(encoded),
            ms(read)
        );
    } else {
        println!("metadata snapshot 20k: {STREAMS} streams of 4 shards, {BROKERS} brokers");
        println!("  commands applied in {:>10.1} ms", ms(made));
        println!("  objects             {objects:>10}");
        println!("  bytes               {:>10}", bytes.len());
        println!(
            "  taken in            {:>10.3} ms, on the thread of the plane",
            ms(taken)
        );
        println!("  encoded in          {:>10.1} ms, beside it", ms(encoded));
        println!("  read in             {:>10.1} ms", ms(read));
    }
    if !same {
        eprintln!("what was read is not what was written");
        return ExitCode::FAILURE;
    }
    if bytes.len() > BYTES_MAX || encoded > TIME_MAX || read > TIME_MAX {
        eprintln!("allowed are {BYTES_MAX} bytes and {TIME_MAX:?} for either way");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// The metadata of such a cluster, made by its commands.
fn filled() -> Result<Metadata, String> {
    let mut state = Metadata::genesis([7; 16]);
    let mut index = 0;
    for number in 0..BROKERS {
        let command = Command::RegisterBroker(RegisterBroker {
            name: format!("broker-{number}").into(),
            facts: BrokerFacts {
                address: format!("broker-{number}.brokers.example:7420").into(),
                region: "eu-1".into(),
                zone: format!("eu-1{}", number % 3).into(),
                labels: Box::default(),
                capacity: Capacity {
                    max_shards: 10_000,
                    max_connections: 100_000,
                    cores: 8,
                    logs: 4,
                    memory_per_core: 4 << 30,
                },
            },
            incarnation: number + 1,
            gone: None,
        });
        apply(&mut state, &mut index, command)?;
    }
    for number in 0..TENANTS {
        let command = Command::CreateTenant(CreateTenant {
            name: format!("tenant-{number}").into(),
            display_name: "A tenant".into(),
            description: "Its streams".into(),
            quotas: TenantQuotas::default(),
            encryption: None,
        });
        apply(&mut state, &mut index, command)?;
    }
    for number in 0..STREAMS {
        let seats = state
            .place(&SPEC, None)
            .map_err(|error| error.to_string())?;
        let command = Command::Declare(Declare {
            kind: ResourceKind::Stream,
            tenant: format!("tenant-{}", number % TENANTS).into(),
            namespace: "payments".into(),
            name: format!("region-{}/orders-{number}", number % 7).into(),
            spec: SPEC,
            seats,
            pinned: None,
            create_namespace: true,
            if_exists: IfExists::Refuse,
        });
        apply(&mut state, &mut index, command)?;
    }
    Ok(state)
}

fn apply(state: &mut Metadata, index: &mut u64, command: Command) -> Result<(), String> {
    *index += 1;
    let envelope = Envelope {
        stamp: WallMs(1_700_000_000_000 + *index),
        // Remembered, as what clients ask is.
        request: u128::from(*index),
        principal: "p:operator@example.com".into(),
        origin: BrokerNumber(1),
        expect: Expect::Any,
        command,
    };
    let applied = state.apply(*index, &envelope);
    match (applied.result, applied.broken) {
        (Ok(_), None) => Ok(()),
        (result, broken) => Err(format!("entry {index}: {result:?}, {broken:?}")),
    }
}
