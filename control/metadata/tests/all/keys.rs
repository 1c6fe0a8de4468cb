//! What can be encoded can be decoded: a command that no replica could read would stop them
//! all.

use pinion_metadata::command::{BatchItem, Delete, DeleteFacts, Rebalance, TransferLeadership};
use pinion_metadata::resource::Strategy as Placing;
use pinion_metadata::{BrokerNumber, Command, Envelope, Expect, MetaCode, MetaError, ObjectKey};
use pinion_types::ResourceKind;
use proptest::prelude::*;

use crate::support::envelope;

fn texts() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => prop_oneof![Just("a"), Just("b-1"), Just("B"), Just("x/y"), Just("https://i.d/x")]
            .prop_map(String::from),
        1 => prop_oneof![Just(""), Just("."), Just(".."), Just("a//b"), Just("a b"), Just("\n")]
            .prop_map(String::from),
        1 => "[a-zA-Z0-9/:._-]{0,70}",
        1 => any::<String>(),
    ]
}

fn keys() -> impl Strategy<Value = ObjectKey> {
    let kind = prop_oneof![
        Just(ResourceKind::Stream),
        Just(ResourceKind::Queue),
        Just(ResourceKind::Cache)
    ];
    (0..6, kind, texts(), texts(), texts()).prop_map(|(which, kind, a, b, c)| match which {
        0 => ObjectKey::tenant(&a),
        1 => ObjectKey::namespace(&a, &b),
        2 => ObjectKey::resource(kind, &a, &b, &c),
        3 => ObjectKey::placement(kind, &a, &b, &c),
        4 => ObjectKey::broker(&a),
        _ => ObjectKey::issuer(&a, &b),
    })
}

fn commands() -> impl Strategy<Value = Command> {
    (0..7, keys()).prop_map(|(which, key)| match which {
        0 => Command::Delete(Delete {
            key,
            force: true,
            grace_ms: 0,
            facts: DeleteFacts::default(),
        }),
        1 => Command::Undelete(key),
        2 => Command::Purge(key),
        3 => Command::Remove(key),
        4 => Command::CancelPlan(key),
        5 => Command::Rebalance(Rebalance {
            key,
            strategy: Placing::Balanced,
        }),
        _ => Command::TransferLeadership(TransferLeadership {
            key,
            shard: 0,
            to: BrokerNumber(1),
        }),
    })
}

fn item(command: Command) -> BatchItem {
    let expect = Expect::Any;
    BatchItem { expect, command }
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded_as_the_same_and_what_is_not_is_refused_for_its_name(
        command in commands(),
        batch in any::<bool>(),
    ) {
        let command = match batch {
            true => Command::Batch([item(Command::Noop), item(command)].into()),
            false => command,
        };
        let sent = envelope(command);
        match sent.encode() {
            Ok(bytes) => prop_assert_eq!(Envelope::decode(&bytes), Ok(sent)),
            Err(error) => {
                let error = match error {
                    MetaError::Batch { at: 1, error } if batch => *error,
                    error => error,
                };
                let named = [MetaCode::BadName, MetaCode::BadUrl].contains(&error.code());
                prop_assert!(named, "{}", error);
            }
        }
    }
}
