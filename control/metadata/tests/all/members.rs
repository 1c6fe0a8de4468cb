//! Members of the group that replicates the metadata.

use pinion_metadata::command::{AddMember, ReplaceMember, SetDraining, SetMemberRole};
use pinion_metadata::limits::{OBSERVERS_MAX, VOTERS_MAX};
use pinion_metadata::member::{Member, MemberRole};
use pinion_metadata::{
    Body, BrokerNumber, Command, Founder, MemberNumber, MetaCode, Metadata, Object, ObjectKey,
};

use crate::support::{CLUSTER, Replica, envelope, facts, object, register};

fn add(broker: u32, observer: bool) -> Command {
    Command::AddMember(AddMember {
        broker: BrokerNumber(broker),
        observer,
        address: format!("node-{broker}:7420").into(),
        store: [9; 16],
    })
}

fn replace(member: u64) -> Command {
    Command::ReplaceMember(ReplaceMember {
        member: MemberNumber(member),
        address: "other:7420".into(),
        store: [8; 16],
    })
}

fn now(member: u64, role: MemberRole) -> Command {
    Command::SetMemberRole(SetMemberRole {
        member: MemberNumber(member),
        role,
    })
}

fn member(object: &Object) -> &Member {
    match &object.body {
        Body::Member(member) => member,
        other => panic!("{other:?}"),
    }
}

fn of(replica: &Replica, number: u64) -> &Member {
    member(replica.get(&ObjectKey::Member(MemberNumber(number))))
}

/// The brokers 1 to `count`.
fn brokers(count: u64) -> Replica {
    let mut replica = Replica::new();
    for number in 1..=count {
        replica.done(register(&format!("b{number}"), 1));
    }
    replica
}

#[test]
fn a_member_joins_votes_and_leaves_unless_nobody_else_votes() {
    let mut replica = brokers(2);
    let made = replica.done(add(2, false));
    assert_eq!(object(&made).meta.key, ObjectKey::Member(MemberNumber(1)));
    assert_eq!(member(object(&made)).role, MemberRole::Joining);
    replica.done(now(1, MemberRole::Voter));
    assert!(replica.done(now(1, MemberRole::Voter)).changes.is_empty());
    replica.done(add(1, true));
    assert_eq!(of(&replica, 2).role, MemberRole::Observer);
    replica.restart();
    let used = replica.state.cluster_usage();
    assert_eq!((used.voters, used.observers), (1, 1));

    // Nobody else votes, and one that is to vote does not yet.
    let remove = Command::RemoveMember(MemberNumber(1));
    replica.refused(remove, MetaCode::LastVoter);
    replica.done(Command::RemoveMember(MemberNumber(2)));
    replica.done(add(1, false));
    let remove = Command::RemoveMember(MemberNumber(1));
    replica.refused(remove.clone(), MetaCode::LastVoter);
    replica.done(now(3, MemberRole::Voter));
    replica.done(remove);
    let again = Command::RemoveMember(MemberNumber(1));
    replica.refused(again, MetaCode::NotFound);
    replica.refused(now(1, MemberRole::Voter), MetaCode::NotFound);
    // Who comes again is another.
    let made = replica.done(add(2, false));
    assert_eq!(object(&made).meta.key, ObjectKey::Member(MemberNumber(4)));
}

#[test]
fn a_broker_has_one_member_and_stays_as_long_as_it_has() {
    let mut replica = brokers(1);
    replica.refused(add(2, false), MetaCode::BrokerUnavailable);
    replica.done(add(1, false));
    replica.refused(add(1, true), MetaCode::MemberExists);
    replica.done(Command::SetDraining(SetDraining {
        name: "b1".into(),
        draining: true,
    }));
    let remove = Command::RemoveBroker("b1".into());
    replica.refused(remove.clone(), MetaCode::StillMember);
    replica.done(Command::RemoveMember(MemberNumber(1)));
    replica.done(remove);
    replica.restart();
}

#[test]
fn who_lost_its_disk_is_another_member_at_once() {
    let mut replica = brokers(VOTERS_MAX + 1);
    for broker in 1..=u32::try_from(VOTERS_MAX).unwrap() {
        replica.done(add(broker, false));
        replica.done(now(broker.into(), MemberRole::Voter));
    }
    let done = replica.done(replace(3));
    assert_eq!(done.changes.len(), 2, "one goes, one comes");
    let new = member(object(&done));
    assert_eq!(new.role, MemberRole::Joining, "it knows nothing yet");
    assert_eq!((new.broker, &*new.address), (BrokerNumber(3), "other:7420"));
    assert_eq!(object(&done).meta.key, ObjectKey::Member(MemberNumber(8)));
    replica.refused(replace(3), MetaCode::NotFound);
    replica.refused(now(3, MemberRole::Voter), MetaCode::NotFound);
    replica.restart();

    replica.refused(add(8, false), MetaCode::LimitReached);
    replica.done(add(8, true));
    replica.refused(now(9, MemberRole::Voter), MetaCode::LimitReached);
    let done = replica.done(replace(9));
    assert_eq!(member(object(&done)).role, MemberRole::Observer);
}

#[test]
fn there_are_so_many_observers_and_no_more() {
    let mut replica = brokers(OBSERVERS_MAX + 1);
    for broker in 1..=u32::try_from(OBSERVERS_MAX).unwrap() {
        replica.done(add(broker, true));
    }
    let last = u32::try_from(OBSERVERS_MAX).unwrap() + 1;
    replica.refused(add(last, true), MetaCode::LimitReached);
    replica.done(add(last, false));
    let number = OBSERVERS_MAX + 1;
    replica.refused(now(number, MemberRole::Observer), MetaCode::LimitReached);
    let bad = Command::AddMember(AddMember {
        broker: BrokerNumber(1),
        observer: false,
        address: "nowhere".into(),
        store: [0; 16],
    });
    replica.done(Command::RemoveMember(MemberNumber(1)));
    let refused = replica.apply(&envelope(bad)).result.unwrap_err();
    assert_eq!(refused.code(), MetaCode::BadAddress);
}

fn founder(name: &str, incarnation: Option<u64>) -> Founder {
    Founder {
        name: name.into(),
        facts: facts("", ""),
        incarnation,
        address: format!("{name}:7420").into(),
        store: [4; 16],
    }
}

#[test]
fn who_founds_a_cluster_is_there_before_the_first_command() {
    let founders = [founder("b", None), founder("a", Some(9))];
    let state = Metadata::founded(CLUSTER, &founders).unwrap();
    state.check().unwrap();
    assert_eq!(state.version().get(), 0);
    assert_eq!(state.next_member(), MemberNumber(3));
    let bytes = state.snapshot().encode();
    let restored = Metadata::restore(&bytes).unwrap();
    assert_eq!(restored.state_hash(), state.state_hash());
    let genesis = Metadata::genesis(CLUSTER);
    assert_ne!(genesis.state_hash(), state.state_hash());
    let brokers: Vec<_> = state
        .brokers()
        .map(|(name, broker)| {
            (
                name,
                broker.number.0,
                broker.incarnation,
                broker.down.is_some(),
            )
        })
        .collect();
    assert_eq!(brokers, [("a", 2, 9, false), ("b", 1, 0, true)]);
    let members: Vec<_> = state
        .members()
        .map(|(number, member)| (number.0, member.broker.0, &*member.address, member.role))
        .collect();
    let votes = MemberRole::Voter;
    assert_eq!(members, [(1, 1, "b:7420", votes), (2, 2, "a:7420", votes)]);

    let code = |founders: &[Founder]| Metadata::founded(CLUSTER, founders).unwrap_err().code();
    assert_eq!(code(&[]), MetaCode::BadSpec);
    let twice = [founder("a", None), founder("a", None)];
    assert_eq!(code(&twice), MetaCode::Exists);
    assert_eq!(code(&[founder("A", None)]), MetaCode::BadName);
    let mut nowhere = founder("a", None);
    nowhere.address = "nowhere".into();
    assert_eq!(code(&[nowhere]), MetaCode::BadAddress);
    let many: Vec<_> = (0..8).map(|at| founder(&format!("n{at}"), None)).collect();
    assert_eq!(code(&many), MetaCode::BadSpec);
}
