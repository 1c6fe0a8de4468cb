//! Commands and snapshots beyond the golden bytes.

use pinion_metadata::command::CreateTenant;
use pinion_metadata::limits::COMMAND_BYTES_MAX;
use pinion_metadata::{Command, Envelope, MetaError, Metadata};

use crate::support::{CLUSTER, FREE, OPEN, Replica, create_namespace, create_tenant, envelope};

#[test]
fn a_command_that_is_too_large_is_not_written() {
    let envelope = envelope(Command::CreateTenant(CreateTenant {
        name: "acme".into(),
        display_name: "".into(),
        description: "x".repeat(COMMAND_BYTES_MAX).into(),
        quotas: FREE,
        encryption: None,
    }));
    let Err(MetaError::TooLarge { bytes, limit }) = envelope.encode() else {
        panic!("it was written");
    };
    assert!(bytes > limit && limit == COMMAND_BYTES_MAX);
}

/// Any flipped bit is found, wherever it is; and so is any missing end.
#[test]
fn damage_is_found() {
    let command = envelope(create_tenant("acme", FREE)).encode().unwrap();
    let mut replica = Replica::new();
    replica.done(create_namespace("default", "a", OPEN));
    let snapshot = replica.state.snapshot().encode();
    for bit in 0..command.len() * 8 {
        let mut bytes = command.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(Envelope::decode(&bytes).is_err(), "bit {bit}");
    }
    for bit in 0..snapshot.len() * 8 {
        let mut bytes = snapshot.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(Metadata::restore(&bytes).is_err(), "bit {bit}");
    }
    for end in 0..command.len() {
        assert!(Envelope::decode(&command[..end]).is_err());
    }
    for end in 0..snapshot.len() {
        assert!(Metadata::restore(&snapshot[..end]).is_err());
    }
}

/// The bytes come out of logs and frames at any address.
#[test]
fn bytes_need_not_be_aligned() {
    let command = envelope(create_tenant("acme", FREE));
    let bytes = command.encode().unwrap();
    for shift in 0..16 {
        let mut shifted = vec![0; shift];
        shifted.extend(&bytes);
        assert_eq!(Envelope::decode(&shifted[shift..]).as_ref(), Ok(&command));
    }
}

#[test]
fn a_snapshot_is_of_the_state_at_its_version() {
    let mut replica = Replica::new();
    let source = replica.state.snapshot();
    let hash = replica.state.state_hash();
    replica.done(create_tenant("acme", FREE));
    assert_ne!(replica.state.state_hash(), hash);
    // Encoded later, and still of then.
    let restored = Metadata::restore(&source.encode()).unwrap();
    assert_eq!(restored.version(), source.version());
    assert_eq!(restored.state_hash(), hash);
    assert_eq!(restored.cluster(), CLUSTER);
}

/// Every part of the state is in its hash.
#[test]
fn the_hash_tells_states_apart() {
    let of = |cluster, commands: &[Envelope]| {
        let mut state = Metadata::genesis(cluster);
        for (index, envelope) in (1..).zip(commands) {
            state.apply(index, envelope);
        }
        state.state_hash()
    };
    let noop = envelope(Command::Noop);
    let mut later = noop.clone();
    later.stamp.0 += 1;
    let mut named = noop.clone();
    named.request = 1;
    let mut by_bo = named.clone();
    by_bo.principal = "p:bo".into();
    let made = |name| envelope(create_namespace("default", name, OPEN));
    let hashes = [
        of(CLUSTER, &[]),
        of([0; 16], &[]),
        of(CLUSTER, &[noop]),
        of(CLUSTER, &[later]),
        of(CLUSTER, &[named]),
        of(CLUSTER, &[by_bo]),
        of(CLUSTER, &[made("a")]),
        of(CLUSTER, &[made("b")]),
        of(CLUSTER, &[made("a"), made("b")]),
        of(CLUSTER, &[made("b"), made("a")]),
    ];
    for (at, hash) in hashes.iter().enumerate() {
        assert!(!hashes[at + 1..].contains(hash), "state {at}");
    }
}
