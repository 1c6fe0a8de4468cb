//! Routes below `/api/v1`, beside a real data core: what runs, and what is done to it.

mod commands;
mod refused;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use pinion_admin_api::limits::SNAPSHOT_ANEW;
use pinion_admin_api::{ApiConfig, PlaneHandle, Route, Verb, routes};
use pinion_metadata::{Body, ObjectKey};
use pinion_node::access::{AccessTable, TenantId};
use pinion_types::{PartitionId, ResourceId, ResourceKind, SubscriptionId};
use pinion_wire::message::{
    Ack, CacheSet, Condition, Filter, Handle, Open, Publish, QueueNack, QueuePut, QueueTake, Reply,
    Request, Start, Subscribe, TokenList,
};
use serde_json::{Value, json};

use crate::host::{Gate, Host, entry};
use crate::http::{Answered, Client, config, tell_of};
use crate::roles::{ROLES, key};
use crate::schema::{self, wrong};
use crate::support::data::{Data, ELSEWHERE, batch, play, reply};

const PREFIXES: [&str; 3] = ["/api/v1", "/api/v1/admin", "/admin"];
const JOBS: &str = "/api/v1/queue/realms/acme/areas/pay/resources/eu%2Fjobs";
const ORDERS: &str = "/api/v1/stream/realms/acme/areas/pay/resources/orders";
const HOT: &str = "/api/v1/cache/realms/acme/areas/pay/resources/hot";
/// Who says HELLO in tests.
pub(crate) const CLIENT: &[u8] = b"a client";

/// A node with a stream, a queue with a slash in its name, and a cache.
pub(crate) struct Place {
    pub(crate) ops: Client,
    pub(crate) plane: PlaneHandle,
    /// In front of the disk of the audit log.
    gate: Arc<Gate>,
    pub(crate) data: Data,
    pub(crate) orders: ResourceId,
    pub(crate) jobs: ResourceId,
    pub(crate) hot: ResourceId,
}

pub(crate) fn tell<F: Future<Output = ()>>(story: impl FnOnce(Place) -> F) {
    tell_as(config(), story);
}

fn tell_as<F: Future<Output = ()>>(config: ApiConfig, story: impl FnOnce(Place) -> F) {
    // The default tenant is the first, so these are the second and the third.
    let (digest, mut client) = entry(core::str::from_utf8(CLIENT).unwrap(), "invoices");
    client.tenant = TenantId(2);
    let (data, cores, front) = Data::new(AccessTable::new([(digest, client)]));
    let config = ApiConfig {
        cores,
        node: "n1".into(),
        ..config
    };
    let (plane, host) = Host::new();
    let (access, gate) = (host.access(), host.gate());
    tell_of(config, (plane, host), access, |ops, plane| async move {
        tokio::spawn(play(front, data.clone()));
        for tenant in ["acme", "other"] {
            ops.post("/v1/tenants", json!({ "name": tenant }))
                .await
                .is(201);
            let namespaces = format!("/v1/tenants/{tenant}/namespaces");
            ops.post(&namespaces, json!({ "name": "pay" }))
                .await
                .is(201);
        }
        let number = plane.look(|metadata| {
            let acme = metadata.get(&ObjectKey::tenant("acme")).unwrap();
            match &acme.body {
                Body::Tenant(tenant) => tenant.number.0,
                _ => panic!("a tenant"),
            }
        });
        assert_eq!(number.await.unwrap(), Some(2));
        let make = async |kind: ResourceKind, plural: &str, name: &str, shards: u16| {
            let spec = json!({ "shards": shards, "durability": "ephemeral" });
            let wanted = json!({ "name": name, "spec": spec, "placement": { "pinned": "n1" } });
            let path = format!("/v1/tenants/acme/namespaces/pay/{plural}");
            let made = ops.post(&path, wanted).await.is(201);
            let id = ResourceId(made.body["id"].as_u64().unwrap());
            let named = format!("pay/{name}");
            data.declare((id, TenantId(2)), (kind, &named), shards);
            id
        };
        let orders = make(ResourceKind::Stream, "streams", "orders", 2).await;
        let jobs = make(ResourceKind::Queue, "queues", "eu/jobs", 2).await;
        let hot = make(ResourceKind::Cache, "caches", "hot", 1).await;
        story(Place {
            ops,
            plane,
            gate,
            data,
            orders,
            jobs,
            hot,
        })
        .await;
    });
}

impl Place {
    pub(crate) fn publish(&self, partition: u16, values: &[&str]) {
        let publish = Publish {
            handle: Handle(0),
            partition: PartitionId(partition),
            ack: Ack::Leader,
            producer: None,
            expected_offset: None,
            record_count: u32::try_from(values.len()).unwrap(),
            records: &batch(values),
        };
        let frame = self
            .data
            .ask(self.orders, partition, &Request::Publish(publish));
        assert!(matches!(reply(&frame), Reply::Published(_)));
    }

    pub(crate) fn put(&self, partition: u16, values: &[&str]) {
        let put = QueuePut {
            handle: Handle(0),
            partition: PartitionId(partition),
            producer: None,
            delay_ms: 0,
            ttl_ms: 0,
            record_count: u32::try_from(values.len()).unwrap(),
            records: &batch(values),
        };
        let frame = self.data.ask(self.jobs, partition, &Request::QueuePut(put));
        assert!(matches!(reply(&frame), Reply::Enqueued(_)));
    }

    /// Takes one message; its number.
    pub(crate) fn take(&self, partition: u16) -> (u64, pinion_wire::message::Token) {
        self.take_of(partition, "")
    }

    fn take_of(&self, partition: u16, group: &str) -> (u64, pinion_wire::message::Token) {
        let take = QueueTake {
            handle: Handle(0),
            partition: PartitionId(partition),
            max_messages: 1,
            max_bytes: 1 << 20,
            wait_ms: 0,
            lease_ms: 60_000,
            group,
        };
        let frame = self
            .data
            .ask(self.jobs, partition, &Request::QueueTake(take));
        let Reply::Taken(taken) = reply(&frame) else {
            panic!("no message");
        };
        let message = taken.messages.iter().next().unwrap();
        (message.id, message.token)
    }

    /// One message is taken and fails, for good.
    pub(crate) fn kill(&self, partition: u16, error: &str) -> u64 {
        self.kill_of(partition, "", error)
    }

    /// The same of a consumer group.
    pub(crate) fn kill_of(&self, partition: u16, group: &str, error: &str) -> u64 {
        let (id, token) = self.take_of(partition, group);
        let mut scratch = Vec::new();
        let nack = QueueNack {
            handle: Handle(0),
            partition: PartitionId(partition),
            delay_ms: None,
            error,
            group,
            tokens: TokenList::build(&mut scratch, [token]).unwrap(),
        };
        let frame = self
            .data
            .ask(self.jobs, partition, &Request::QueueNack(nack));
        assert!(matches!(reply(&frame), Reply::Settled(_)));
        id
    }

    pub(crate) fn set(&self, key: &str) {
        let set = CacheSet {
            handle: Handle(0),
            condition: Condition::Always,
            ttl_ms: 0,
            key: key.as_bytes(),
            value: b"value",
        };
        let frame = self.data.ask(self.hot, 0, &Request::CacheSet(set));
        assert!(matches!(reply(&frame), Reply::CacheStored(_)));
    }

    /// A connection opens the stream.
    fn open_orders(&self, conn: u64) -> Handle {
        let open = Request::Open(Open {
            kind: ResourceKind::Stream,
            namespace: "pay",
            name: "orders",
            spec: None,
        });
        let opened = self.data.say(conn, &open);
        let Reply::Opened(opened) = reply(&opened) else {
            panic!("{:?}", reply(&opened));
        };
        opened.handle
    }

    /// A connection follows the stream, and takes nothing yet.
    fn subscribe(&self, conn: u64, handle: Handle, number: u32) {
        let subscribe = Request::Subscribe(Subscribe {
            handle,
            partition: PartitionId(0),
            subscription: SubscriptionId(number),
            start: Start::Earliest,
            overflow: None,
            backlog_max: 0,
            credit_records: 0,
            credit_bytes: 0,
            filter: Filter::everything(),
        });
        self.data.say(conn, &subscribe);
    }

    /// What is told from here on is not from before: a deletion that is not forced looks
    /// at the cores, and this one is of a version that there is not.
    async fn look_anew(&self) {
        let never = self.ops.with("if-match", "\"999999999\"");
        let orders = "/v1/tenants/acme/namespaces/pay/streams/orders";
        never.delete(orders).await.is(412);
    }

    /// Somebody who may do something in a tenant.
    async fn someone(&self, role: &str) -> Client {
        let at = ROLES.iter().position(|one| one.name == role).unwrap();
        let number = u8::try_from(at).unwrap() + 1;
        self.ops.showing(key(&self.plane, number, &ROLES[at]).await)
    }

    /// Rows of the audit log about what administrators did to what runs.
    async fn deeds(&self) -> Vec<(String, String, String)> {
        let page = self.ops.get("/v1/audit?limit=1000").await.is(200);
        let rows = page.body["rows"].as_array().unwrap().clone();
        let text = |row: &Value, name: &str| row[name].as_str().unwrap().to_owned();
        rows.iter()
            .filter(|row| {
                let action = row["action"].as_str().unwrap();
                action.starts_with("queue.")
                    || action.starts_with("session.")
                    || action.starts_with("subscription.")
            })
            .map(|row| {
                (
                    text(row, "action"),
                    text(row, "result"),
                    text(row, "target"),
                )
            })
            .collect()
    }
}

/// The path of a route below a prefix, of what there is.
fn path(route: &Route, prefix: &str) -> String {
    let resource = match route.path {
        path if path.contains("/queue/") => "eu%2Fjobs",
        path if path.contains("/cache/") => "hot",
        _ => "orders",
    };
    let rest = route.path.strip_prefix("/api/v1").unwrap();
    let rest = rest.replace("{t}", "acme").replace("{ns}", "pay");
    let rest = rest.replace("{r}", resource).replace("{s}", "0.999");
    let rest = rest.replace("{id}", "999");
    let query = match route.path {
        path if path.ends_with("/search") => "?q=o",
        _ if route.is_write() && route.query.contains(&"family") => "?family=0",
        _ => "",
    };
    format!("{prefix}{rest}{query}")
}

fn domains() -> impl Iterator<Item = &'static Route> {
    routes().filter(|route| route.path.starts_with("/api/v1/"))
}

/// An answer without what is another at every moment.
fn still(mut body: Value) -> Value {
    match &mut body {
        Value::Object(fields) => {
            fields.retain(|name, _| {
                !name.ends_with("_per_second")
                    && !name.ends_with("_seconds")
                    && ![
                        "as_of",
                        "connected_at",
                        "expires_at",
                        "request_id",
                        "hit_ratio",
                    ]
                    .contains(&name.as_str())
            });
            for value in fields.values_mut() {
                *value = still(value.take());
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| *item = still(item.take())),
        _ => {}
    }
    body
}

/// Every field that a schema tells of.
fn told(document: &Value, schema: &Value, found: &mut BTreeSet<String>) {
    if let Some(to) = schema["$ref"].as_str() {
        let schema = document.pointer(to.trim_start_matches('#')).unwrap();
        told(document, schema, found);
    }
    for part in schema["allOf"].as_array().into_iter().flatten() {
        told(document, part, found);
    }
    let fields = schema["properties"].as_object();
    found.extend(fields.into_iter().flat_map(|fields| fields.keys().cloned()));
}

fn fits(document: &Value, route: &Route, answered: &Answered) {
    let schema = schema::of(document, (route.method.text(), route.path), answered);
    if !schema.is_object() {
        assert!(answered.body.is_null(), "{} {answered:#?}", route.path);
        return;
    }
    let wrong = wrong(document, schema, &answered.body, route.path);
    assert_eq!(wrong, None, "{answered:#?}");
    let mut fields = BTreeSet::new();
    told(document, schema, &mut fields);
    for name in answered.body.as_object().unwrap().keys() {
        assert!(
            fields.contains(name),
            "{}: {name} is not told of",
            route.path
        );
    }
}

/// One letter, connection or subscription for each row that takes it away, and for each
/// prefix that it is asked under; what reads them has some that stay.
struct Targets {
    /// Dead letters of partition 0, of which each is met once.
    letters: Vec<u64>,
}

impl Targets {
    /// Where `n` follows the stream for each prefix, and stays.
    const READER: u64 = 0;

    fn of(place: &Place) -> Self {
        let rows = 2 * PREFIXES.len() + 1;
        place.put(0, &vec!["x"; rows + 2]);
        let letters = (0..rows).map(|_| place.kill(0, "no such user")).collect();
        place.take(0);
        place.data.connect(Self::READER, CLIENT);
        let orders = place.open_orders(Self::READER);
        // The last is ended by nobody.
        for number in 1..=4 {
            place.subscribe(Self::READER, orders, number);
        }
        for conn in 1..=3 {
            place.data.connect(conn, CLIENT);
        }
        Self { letters }
    }

    /// A path of what there is not, made one of what there is: under the prefix of this
    /// number.
    fn met(&self, route: &Route, path: &str, prefix: usize) -> String {
        let at = match route.method {
            Verb::Delete => PREFIXES.len() + prefix,
            _ => prefix,
        };
        match route.path {
            of if of.ends_with("/close") => path.replace("0.999", &format!("0.{}", prefix + 1)),
            of if of.ends_with("/end") => path
                .replace("0.999", &format!("0.{}", Self::READER))
                .replace("/999/", &format!("/{}/", prefix + 1)),
            _ => path.replace("/999", &format!("/{}", self.letters[at])),
        }
    }
}

#[test]
fn every_row_answers_under_each_prefix_as_its_schema_says() {
    tell(|place| async move {
        place.publish(0, &["a", "b"]);
        place.put(1, &["4"]);
        place.set("k");
        let targets = Targets::of(&place);
        place.look_anew().await;
        let document = place.ops.get("/v1/openapi.json").await.is(200).body;
        let client = place.ops.with("x-confirm", "true");
        let (mut asked, mut met) = (0, 0);
        for route in domains() {
            let mut answers = Vec::new();
            for (number, prefix) in PREFIXES.into_iter().enumerate() {
                let ask = async |path: &str| {
                    let answered = client.raw(route.method.text(), path, None).await;
                    fits(&document, route, &answered);
                    answered
                };
                let mut path = path(route, prefix);
                if route.path.contains("{s}") || route.path.contains("{id}") {
                    // What is there no more, or never was; then what is.
                    ask(&path).await.refused(404, "not_found");
                    path = targets.met(route, &path, number);
                    met += 1;
                }
                let answered = ask(&path).await;
                assert_eq!(answered.status, route.success, "{path} {answered:#?}");
                answers.push(still(answered.body));
                asked += 1;
            }
            // Redriving is done the first time, and finds nothing afterwards.
            if !route.confirm {
                assert_eq!(answers[0], answers[1], "{}", route.path);
                assert_eq!(answers[0], answers[2], "{}", route.path);
            }
        }
        println!("{asked} requests, {} rows", asked / PREFIXES.len());
        assert!(asked >= 3 * 30, "{asked}");
        // Replay, delete, close and end.
        assert_eq!(met, 3 * 4);
        assert_eq!(place.data.closed(), [1, 2, 3]);
    });
}

#[test]
fn each_number_of_a_domain_is_told_to_be_durable_or_live() {
    tell(|place| async move {
        for domain in ["stream", "queue", "cache"] {
            let path = format!("/api/v1/{domain}/stats");
            let stats = place.ops.get(&path).await.is(200).body;
            let named = |list: &str| -> BTreeSet<String> {
                let named = stats[list].as_array().unwrap().iter();
                named.map(|one| one.as_str().unwrap().to_owned()).collect()
            };
            let (durable, live) = (named("durable_fields"), named("live_fields"));
            assert!(durable.is_disjoint(&live), "{domain}");
            let stand = ["node", "as_of", "durable_fields", "live_fields"];
            let told = stats.as_object().unwrap().keys().cloned();
            let told: BTreeSet<String> = told.filter(|one| !stand.contains(&&**one)).collect();
            assert_eq!(&durable | &live, told, "{domain}");
        }
    });
}

#[test]
fn numbers_are_those_of_the_core() {
    tell(|place| async move {
        place.publish(0, &["a", "b"]);
        place.publish(1, &["c"]);
        place.put(0, &["1", "2", "3"]);
        place.put(1, &["4"]);
        let dead = place.kill(0, "no such user");
        let (taken, _) = place.take(0);
        place.set("k");
        place.set("l");
        place.look_anew().await;

        let orders = place.ops.get(ORDERS).await.is(200).body;
        assert_eq!(orders["realm"], "acme");
        assert_eq!(orders["area"], "pay");
        assert_eq!(orders["resource"], "orders");
        assert_eq!(orders["offset"], 3);
        assert_eq!(orders["watermark"], 3);
        assert_eq!(orders["records"], 3);
        assert_eq!(orders["events_total"], 3);
        assert_eq!(orders["sessions_active"], 0);
        assert_eq!(orders["partition_details"][0]["offset"], 2);
        assert_eq!(orders["partition_details"][1]["offset"], 1);
        assert_eq!(orders["declared"]["spec"]["shards"], 2);
        assert!(orders["size_bytes"].as_u64().unwrap() > 0);

        let jobs = place.ops.get(JOBS).await.is(200).body;
        assert_eq!(jobs["resource"], "eu/jobs");
        assert_eq!(jobs["messages_ready"], 2);
        assert_eq!(jobs["messages_inflight"], 1);
        assert_eq!(jobs["messages_dead_lettered"], 1);
        assert_eq!(jobs["messages_total"], 4);
        assert_eq!(jobs["enqueues_total"], 4);
        assert_eq!(jobs["reserves_total"], 2);
        assert_eq!(jobs["dead_letter_transitions_total"], 1);
        let of_one = place
            .ops
            .get(&format!("{JOBS}?family=1"))
            .await
            .is(200)
            .body;
        assert_eq!(of_one["messages_total"], 1);
        assert_eq!(of_one["partition_details"].as_array().unwrap().len(), 1);
        place
            .ops
            .get(&format!("{JOBS}?family=2"))
            .await
            .refused(404, "not_found");

        let reserved = place
            .ops
            .get(&format!("{JOBS}/inflight"))
            .await
            .is(200)
            .body;
        assert_eq!(reserved["total"], 1);
        assert_eq!(reserved["inflight"][0]["message_id"], taken);
        assert_eq!(reserved["inflight"][0]["family"], 0);
        assert!(reserved["inflight"][0]["inflight_token"].is_null());
        let who = format!("{}.7", ELSEWHERE.0);
        assert_eq!(reserved["inflight"][0]["session_id"], who);
        let all = place.ops.get("/api/v1/queue/inflight").await.is(200).body;
        // When it ends is told by how long it still has: two looks may differ by the last digit.
        let lasting = |list: &Value| {
            let mut rows = list["inflight"].clone();
            for row in rows.as_array_mut().unwrap() {
                row.as_object_mut().unwrap().remove("expires_at").unwrap();
            }
            rows
        };
        assert_eq!(lasting(&all), lasting(&reserved));

        let letters = place
            .ops
            .get(&format!("{JOBS}/dead-letters"))
            .await
            .is(200)
            .body;
        let letter = &letters["messages"][0];
        assert_eq!(letters["total"], 1);
        assert_eq!(letter["message_id"], dead);
        assert_eq!(letter["reason"], "failed");
        assert_eq!(letter["last_error"], "no such user");
        assert_eq!(letter["attempts"], 1);
        let other = format!("{JOBS}/dead-letters?error=yes");
        assert_eq!(place.ops.get(&other).await.is(200).body["total"], 0);

        let hot = place.ops.get(HOT).await.is(200).body;
        assert_eq!(hot["keys_total"], 2);
        assert!(hot["used_bytes"].as_u64().unwrap() > 0);

        let stats = place.ops.get("/api/v1/stats").await.is(200).body;
        assert_eq!(
            stats["broker"]["realms"],
            json!(["acme", "default", "other"])
        );
        let brief = &stats["domains"];
        assert_eq!(brief["stream"]["streams_active"], 1);
        assert_eq!(brief["stream"]["events_total"], 3);
        assert_eq!(brief["queue"]["messages_pending"], 2);
        assert_eq!(brief["queue"]["inflight_active"], 1);
        assert_eq!(brief["cache"]["keys_total"], 2);
        let streams = "/api/v1/stream/stats?realm=acme";
        let streams = place.ops.get(streams).await.is(200).body;
        assert_eq!(streams["events_by_realm"], json!({ "acme": 3 }));
        let nobody = place.ops.get("/api/v1/stream/stats?realm=x").await.is(200);
        assert_eq!(nobody.body["streams_active"], 0);
        let queues = "/api/v1/queue/stats?family=1";
        let queues = place.ops.get(queues).await.is(200).body;
        assert_eq!(queues["messages_pending"], 1);
        let why = place
            .ops
            .get(&format!("{JOBS}/why?family=1"))
            .await
            .is(200)
            .body;
        assert_eq!(why["reasons"][0]["code"], "no_consumers");
        assert_eq!(why["reasons"][0]["messages"], 1);
        let trouble = place.ops.get("/api/v1/troubleshooting").await.is(200).body;
        let codes: Vec<&str> = trouble["issues"]
            .as_array()
            .unwrap()
            .iter()
            .map(|issue| issue["code"].as_str().unwrap())
            .collect();
        assert!(codes.contains(&"no_consumers"), "{codes:?}");
        assert!(codes.contains(&"dead_letters"), "{codes:?}");
        let found = place.ops.get("/api/v1/search?q=job").await.is(200).body;
        assert_eq!(
            found["results"],
            json!([{ "kind": "queue", "realm": "acme", "area": "pay", "resource": "eu/jobs" }])
        );
        let topology = place.ops.get("/api/v1/topology").await.is(200).body;
        assert_eq!(topology["node"], "n1");
        assert_eq!(topology["brokers"][0]["name"], "n1");
        assert_eq!(topology["cores"].as_array().unwrap().len(), 1);
    });
}

#[test]
fn what_is_asked_within_a_second_is_answered_from_one_look_at_the_cores() {
    tell(|place| async move {
        let offset = async || place.ops.get(ORDERS).await.is(200).body;
        let mut published = 0;
        // A machine that is busy may take longer for a few requests.
        loop {
            place.publish(0, &["a"]);
            published += 1;
            let begun = Instant::now();
            place.look_anew().await;
            // Everything is gathered for this, and not what is on a page alone.
            place.ops.get("/api/v1/stats").await.is(200);
            let first = offset().await;
            place.publish(0, &["b"]);
            published += 1;
            let second = offset().await;
            // Who looks again soon finds it gathered anew before it is too old.
            if begun.elapsed() < SNAPSHOT_ANEW {
                assert_eq!(first["offset"], published - 1);
                assert_eq!(first["as_of"], second["as_of"]);
                assert_eq!(second["offset"], published - 1, "it says from when it is");
                return;
            }
            assert!(published < 100, "the machine is too busy");
        }
    });
}

#[test]
fn a_dead_letter_is_replayed_or_deleted_and_that_is_written_down() {
    tell(|place| async move {
        place.put(1, &["1", "2", "3", "4"]);
        let ids: Vec<u64> = (0..4).map(|_| place.kill(1, "boom")).collect();
        let letter = |id: u64| format!("{JOBS}/dead-letters/{id}");
        let total = async || {
            let path = format!("{JOBS}/dead-letters?family=1");
            place.ops.get(&path).await.is(200).body["total"].clone()
        };
        assert_eq!(total().await, 4);
        let replay = format!("{}/replay", letter(ids[0]));
        let refused = place.ops.act(&replay).await.refused(400, "bad_parameter");
        assert_eq!(refused.body["details"]["parameter"], "family");
        place.ops.act(&format!("{replay}?family=1")).await.is(204);
        place
            .ops
            .act(&format!("{replay}?family=1"))
            .await
            .refused(404, "not_found");
        place
            .ops
            .act(&format!("{replay}?family=0"))
            .await
            .refused(404, "not_found");
        assert_eq!(total().await, 3);
        let delete = format!("{}?family=1", letter(ids[1]));
        place.ops.delete(&delete).await.is(204);
        place.ops.delete(&delete).await.refused(404, "not_found");
        // All that are left need to be meant.
        let redrive = format!("{JOBS}/dead-letters/replay?family=1&error=bo&rate=100");
        place
            .ops
            .act(&redrive)
            .await
            .refused(428, "confirmation_required");
        assert_eq!(total().await, 2);
        let sure = place.ops.with("x-confirm", "TRUE");
        let moved = sure.act(&redrive).await.is(202);
        assert_eq!(moved.body["messages"], 2);
        let purge = format!("{JOBS}/dead-letters?family=1");
        place
            .ops
            .delete(&purge)
            .await
            .refused(428, "confirmation_required");
        sure.delete(&purge).await.is(202);
        let target = |rest: &str| format!("queue:acme/pay/eu/jobs family=1 {rest}");
        let deeds = place.deeds().await;
        let row =
            |action: &str, result: &str, rest: String| (action.to_owned(), result.to_owned(), rest);
        let message = |id: u64| target(&format!("message={id}"));
        assert_eq!(
            deeds[..2],
            [
                row("queue.replay", "begun", message(ids[0])),
                row("queue.replay", "done", message(ids[0])),
            ]
        );
        assert_eq!(deeds[3], row("queue.replay", "failed", message(ids[0])));
        assert!(deeds.contains(&row("queue.delete_letter", "done", message(ids[1]))));
        let all = target("error=bo rate=100 confirmed");
        assert!(
            deeds.contains(&row("queue.redrive", "done", all)),
            "{deeds:?}"
        );
        let audit = place
            .ops
            .get("/v1/audit?tenant=acme&action=queue.replay")
            .await;
        let row = &audit.is(200).body["rows"][0];
        assert_eq!(row["principal"], "config:ops");
        assert!(row["remote"].as_str().unwrap().starts_with("127.0.0.1:"));
    });
}

#[test]
fn a_session_is_seen_and_ended_and_its_subscription_before() {
    tell(|place| async move {
        place.data.connect(0, CLIENT);
        place.data.connect(1, CLIENT);
        let orders = place.open_orders(1);
        place.subscribe(1, orders, 9);
        place.publish(0, &["a", "b", "c"]);

        let seen = place.ops.get("/api/v1/sessions").await.is(200).body;
        assert_eq!(seen["total"], 2);
        let row = &seen["sessions"][1];
        assert_eq!(row["session_id"], "0.1");
        assert_eq!(row["realm"], "acme");
        assert_eq!(row["principal"], "invoices");
        assert_eq!(row["transport"], "quic");
        assert_eq!(row["subscriptions"], 1);
        assert!(row["messages_received"].as_u64().unwrap() >= 2, "{row}");
        let second = place
            .ops
            .get("/api/v1/sessions?limit=1&offset=1")
            .await
            .is(200)
            .body;
        assert_eq!(second["sessions"].as_array().unwrap().len(), 1);
        assert_eq!(second["sessions"][0]["session_id"], "0.1");
        let none = place
            .ops
            .get("/api/v1/sessions?realm=other")
            .await
            .is(200)
            .body;
        assert_eq!(none["total"], 0);

        let readers = place
            .ops
            .get(&format!("{ORDERS}/subscriptions"))
            .await
            .is(200)
            .body;
        assert_eq!(readers["total"], 1);
        assert_eq!(readers["subscriptions"][0]["session_id"], "0.1");
        assert_eq!(readers["subscriptions"][0]["subscription"], 9);
        assert_eq!(readers["subscriptions"][0]["lag_records"], 3);

        let sure = place.ops.with("x-confirm", "true");
        let end = "/admin/sessions/0.1/subscriptions/9/end";
        place
            .ops
            .act(end)
            .await
            .refused(428, "confirmation_required");
        sure.act(end).await.is(200);
        sure.act(end).await.refused(404, "not_found");
        let close = "/api/v1/admin/sessions/0.1/close";
        place
            .ops
            .act(close)
            .await
            .refused(428, "confirmation_required");
        assert!(place.data.closed().is_empty(), "nothing was done");
        let closed = sure.act(close).await.is(200);
        assert_eq!(closed.body["session_id"], "0.1");
        assert_eq!(place.data.closed(), [1]);
        let deeds = place.deeds().await;
        let (action, result, target) = deeds.last().unwrap();
        assert_eq!((&**action, &**result), ("session.close", "done"));
        assert_eq!(target, "session:0.1 principal=invoices confirmed");
    });
}

#[test]
fn nothing_is_done_to_what_runs_before_its_row_is_on_the_disk() {
    tell(|place| async move {
        place.data.connect(0, CLIENT);
        place.put(0, &["a"]);
        place.kill(0, "boom");
        let sure = place.ops.with("x-confirm", "true");
        // Rows of what was done until now are on the disk.
        place.deeds().await;
        place.gate.close();
        let letters = format!("{JOBS}/dead-letters?family=0");
        let deeds = async {
            let closing = sure.act("/api/v1/sessions/0.0/close");
            let (closed, purged) = tokio::join!(closing, sure.delete(&letters));
            closed.is(200);
            purged.is(202);
        };
        let looks = async {
            place.gate.met().await;
            // What was asked of the cores before this is done when they answer this.
            for _ in 0..4 {
                let found = place.ops.get(&letters).await.is(200).body;
                assert_eq!(found["total"], 1, "not purged before there is a row");
                assert!(place.data.closed().is_empty(), "nor closed");
            }
            place.gate.open();
        };
        tokio::join!(deeds, looks);
        assert_eq!(place.data.closed(), [0]);
    });
}

#[test]
fn who_sees_one_tenant_sees_nothing_of_others() {
    tell(|place| async move {
        place.publish(0, &["a"]);
        place.data.connect(0, CLIENT);
        place.look_anew().await;
        let own = place.someone("everything").await;
        let other = place.someone("other tenant").await;
        let plain = place.someone("subscriber").await;
        let total = async |client: &Client, path: &str| {
            client.get(path).await.is(200).body["total"]
                .as_u64()
                .unwrap()
        };
        for path in [
            "/api/v1/stream/streams",
            "/api/v1/queue/queues",
            "/api/v1/cache/caches",
            "/api/v1/sessions",
            "/api/v1/search?q=o",
        ] {
            assert!(total(&own, path).await > 0, "{path}");
            let found = other.get(path).await.is(200).body;
            assert!(!found.to_string().contains("acme"), "{path}: {found}");
        }
        assert_eq!(total(&other, "/api/v1/stream/streams?realm=acme").await, 0);
        let stats = other.get("/api/v1/stats").await.is(200).body;
        assert_eq!(stats["broker"]["realms"], json!(["other"]));
        assert_eq!(stats["broker"]["sessions"], 0);
        assert_eq!(stats["domains"]["stream"]["events_total"], 0);
        let stats = own.get("/api/v1/stats").await.is(200).body;
        assert_eq!(stats["broker"]["sessions"], 1);
        assert_eq!(stats["domains"]["stream"]["events_total"], 1);
        other.get(ORDERS).await.refused(404, "not_found");
        own.get(ORDERS).await.is(200);
        let sure = |client: &Client| client.with("x-confirm", "true");
        let close = "/api/v1/sessions/0.0/close";
        sure(&other).act(close).await.refused(404, "not_found");
        sure(&plain).act(close).await.refused(403, "forbidden");
        plain.get("/api/v1/stats").await.refused(403, "forbidden");
        own.get("/api/v1/topology").await.refused(403, "forbidden");
        assert!(place.data.closed().is_empty());
        sure(&own).act(close).await.is(200);
        assert_eq!(place.data.closed(), [0]);
    });
}
