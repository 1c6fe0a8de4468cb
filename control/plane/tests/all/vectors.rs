//! The golden bytes of `vectors/`, derived from `docs/audit-format.md` and
//! `docs/peer-protocol.md` by a script that shares nothing with the code: written and
//! read as they say.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use pinion_metadata::{BrokerNumber, MetaVersion, TenantNumber};
use pinion_plane::{
    AuditAsk, AuditQuery, AuditResult, AuditRow, AuditSaid, Beat, Forward, Join, JoinAnswer,
    JoinVerdict, Meet, MeetState, PeerName, PlaneMessage, Returned, Said, Usage, UseRow, Why,
};
use pinion_raft_group::format::FormatError;
use pinion_raft_group::{MemberId, PeerError};
use pinion_types::WallMs;
use serde_json::Value;

fn vectors(file: &str) -> Vec<Value> {
    let path = format!("{}/vectors/{file}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = (0..text.len()).step_by(2);
    digits
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

fn bytes_of(vector: &Value) -> Vec<u8> {
    let lines = vector["hex"].as_array().unwrap().iter();
    lines
        .flat_map(|line| unhex(line.as_str().unwrap().split_once(' ').unwrap().0))
        .collect()
}

fn row_of(fields: &Value) -> AuditRow {
    let number = |field: &str| fields[field].as_u64().unwrap();
    let text = |field: &str| fields[field].as_str().unwrap();
    let code = u16::try_from(number("code")).unwrap();
    let ip = <[u8; 16]>::try_from(unhex(text("ip"))).unwrap();
    let ip = match number("family") {
        0 => None,
        4 => Some(IpAddr::V4(Ipv6Addr::from(ip).to_ipv4_mapped().unwrap())),
        6 => Some(IpAddr::V6(ip.into())),
        family => panic!("{family}"),
    };
    let port = u16::try_from(number("port")).unwrap();
    AuditRow {
        at: WallMs(number("at")),
        index: number("index"),
        version: MetaVersion(number("meta")),
        request: u128::from_str_radix(text("request"), 16).unwrap(),
        origin: BrokerNumber(u32::try_from(number("origin")).unwrap()),
        remote: ip.map(|ip| SocketAddr::new(ip, port)),
        result: match number("result") {
            0 => AuditResult::Done,
            1 => AuditResult::Repeated,
            2 => AuditResult::Refused(code),
            3 => AuditResult::Denied(code),
            4 => AuditResult::Gap { to: number("to") },
            result => panic!("{result}"),
        },
        principal: text("principal").into(),
        tenant: text("tenant").into(),
        operation: text("operation").into(),
        target: text("target").into(),
    }
}

#[test]
fn vectors_hold_for_rows() {
    let mut all = Vec::new();
    let vectors = vectors("rows");
    for vector in &vectors {
        let name = &vector["name"];
        let (bytes, row) = (bytes_of(vector), row_of(&vector["fields"]));
        let mut written = Vec::new();
        row.encode(&mut written);
        assert_eq!(written, bytes, "{name}");
        all.extend(&bytes);
        let read = AuditRow::decode(&bytes).unwrap();
        assert_eq!(read, (row, &[][..]), "{name}");
    }
    let mut rest = &all[..];
    for vector in &vectors {
        let (row, after) = AuditRow::decode(rest).unwrap();
        assert_eq!(row, row_of(&vector["fields"]), "one after the other");
        rest = after;
    }
    println!("vectors: {}", vectors.len());
}

#[test]
fn vectors_hold_for_what_is_refused() {
    let vectors = vectors("refused");
    for vector in &vectors {
        let error = AuditRow::decode(&bytes_of(vector)).unwrap_err();
        assert_eq!(error.field, vector["error"], "{}", vector["name"]);
    }
    println!("vectors: {}", vectors.len());
}

#[test]
fn no_row_is_read_from_a_part_of_one() {
    for vector in vectors("rows") {
        let bytes = bytes_of(&vector);
        for end in 0..bytes.len() {
            assert!(AuditRow::decode(&bytes[..end]).is_err(), "{end}");
        }
    }
}

/// A message of kind 8 to 14, if it is one.
fn between_nodes(vector: &Value) -> Option<PlaneMessage> {
    let store = std::array::from_fn(|at| u8::try_from(at).unwrap());
    let cluster = std::array::from_fn(|at| u8::try_from(at).unwrap() + 16);
    let name = |text| PeerName::new(text).unwrap();
    if let Some(what) = vector["meet"].as_str() {
        let known = what == "known";
        return Some(PlaneMessage::Meet(Meet {
            asks: what == "fresh",
            state: match what {
                "fresh" => MeetState::Fresh,
                _ => MeetState::Member { cluster, known },
            },
            list: 7,
            store,
            address: "n1:7420".into(),
        }));
    }
    if let Some(what) = vector["join"].as_str() {
        return Some(PlaneMessage::Join(Join {
            observer: what == "observer",
            store,
            address: "n4:7420".into(),
            registration: b"an envelope".as_slice().into(),
        }));
    }
    if let Some(what) = vector["answer"].as_str() {
        let two = [
            (name("n1"), "n1:7420".into()),
            (name("n2"), "[::1]:7420".into()),
        ];
        let (verdict, members) = match what {
            "welcome" => {
                let member = MemberId(1 << 40);
                (JoinVerdict::Welcome { member, cluster }, two.into())
            }
            "not the leader" => (JoinVerdict::NotLeader, two.into()),
            "later" => (JoinVerdict::Later, Box::default()),
            "alive" => (JoinVerdict::Alive, Box::default()),
            what => panic!("{what}"),
        };
        return Some(PlaneMessage::JoinAnswer(JoinAnswer { verdict, members }));
    }
    if let Some(what) = vector["usage"].as_str() {
        let row = |tenant, namespace: &str, [asked, connections, stored]: [u64; 3]| UseRow {
            tenant: TenantNumber(tenant),
            namespace: namespace.into(),
            asked,
            connections,
            stored,
        };
        let all = [
            row(7, "", [40, 2, 1 << 40]),
            row(7, "pay", [30, 0, 0]),
            row(9, "", [1, 0, 0]),
        ];
        return Some(PlaneMessage::Usage(Usage {
            round: 9,
            part: if what == "part" { 15 } else { 0 },
            last: what != "part",
            rows: if what == "none" {
                Box::default()
            } else {
                all.into()
            },
        }));
    }
    if let Some(what) = vector["ask"].as_str() {
        let all = what == "all";
        let text = |text: &str, given: bool| given.then(|| text.into());
        return Some(PlaneMessage::AuditAsk(AuditAsk {
            number: 9,
            query: AuditQuery {
                tenant: text("acme", all),
                principal: text("p:ana", what != "any"),
                operation: text("create_namespace", all),
                from: all.then_some(WallMs(1_700_000_000_000)),
                to: all.then_some(WallMs(1_700_000_000_999)),
                limit: if all { 1_000 } else { 100 },
                first: 3,
                before: None,
                own: true,
            },
        }));
    }
    if let Some(what) = vector["said"].as_str() {
        let mut fields = vectors("rows")[0]["fields"].clone();
        let first = row_of(&fields);
        (fields["result"], fields["code"], fields["index"]) = (3.into(), 401.into(), 0.into());
        let rows = match what {
            "rows" | "more" => vec![(3, first), (5, row_of(&fields))],
            _ => Vec::new(),
        };
        let said = match what {
            "busy" => Said::Busy,
            "unreadable" => Said::Unreadable,
            _ => Said::Rows {
                rows,
                at: 7,
                more: what == "more",
            },
        };
        return Some(PlaneMessage::AuditSaid(AuditSaid { number: 9, said }));
    }
    let broker = name(vector["beat"].as_str()?);
    let incarnation = 1 << 63;
    Some(PlaneMessage::Beat(Beat {
        broker,
        incarnation,
    }))
}

#[test]
fn vectors_hold_for_frames() {
    let vectors = vectors("frames");
    for vector in &vectors {
        let name = &vector["name"];
        let number = vector["number"].as_u64().unwrap_or_default();
        let of_nodes = between_nodes(vector);
        let message = match vector["envelope"].as_str() {
            _ if of_nodes.is_some() => of_nodes.unwrap(),
            Some(envelope) => PlaneMessage::Forward(Forward {
                number,
                envelope: unhex(envelope).into(),
            }),
            None => PlaneMessage::Returned(Returned {
                number,
                why: match vector["why"].as_str().unwrap() {
                    "not the leader" => Why::NotLeader,
                    "busy" => Why::Busy {
                        limit: vector["limit"].as_u64().unwrap(),
                    },
                    "read only" => Why::ReadOnly,
                    "no audit" => Why::AuditUnavailable,
                    "malformed" => Why::Malformed,
                    why => panic!("{why}"),
                },
            }),
        };
        let mut written = b"before".to_vec();
        message.encode(&mut written);
        assert_eq!(written[6..], bytes_of(vector), "{name}");
        assert_eq!(PlaneMessage::decode(&written[6..]), Ok(message), "{name}");
    }
    println!("vectors: {}", vectors.len());
}

#[test]
fn vectors_hold_for_frames_that_are_refused() {
    let vectors = vectors("refused_frames");
    for vector in &vectors {
        let error = PlaneMessage::decode(&bytes_of(vector)).unwrap_err();
        let what = match error {
            PeerError::Short { .. } => "short",
            PeerError::Version { .. } => "version",
            PeerError::Kind { .. } => "kind",
            PeerError::Checksum => "checksum",
            PeerError::Body(FormatError::Field { name }) => name,
            error => panic!("{error}"),
        };
        assert_eq!(what, vector["error"], "{}", vector["name"]);
    }
    println!("vectors: {}", vectors.len());
}
