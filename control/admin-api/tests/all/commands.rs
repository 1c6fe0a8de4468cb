//! `pinion admin` and the routes: each route has its command or a reason to have none, and
//! commands are understood.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use clap::{Args as _, Command, FromArgMatches as _};
use pinion_admin_api::{first_day_routes, routes};
use pinion_cli::{AdminArgs, administer};
use serde_json::Value;

use crate::host::OPERATOR;
use crate::http::tell;
use crate::support::town;

fn parser() -> Command {
    AdminArgs::augment_args(Command::new("admin"))
}

/// Files and a node for commands.
pub(crate) struct Shell {
    dir: tempfile::TempDir,
    address: SocketAddr,
    /// File with what they show.
    token: String,
}

impl Shell {
    pub(crate) fn new(address: SocketAddr) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut shell = Self {
            dir,
            address,
            token: String::new(),
        };
        shell.token = shell.file("token", OPERATOR);
        shell
    }

    /// Somebody else at the same node.
    fn showing(&self, token: &str) -> Self {
        let mut shell = Self::new(self.address);
        shell.token = shell.file("token", token);
        shell
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    /// Runs a command beside the node, as another process would.
    async fn try_run(&self, line: &str) -> Result<String, (String, String)> {
        let server = format!(
            "--cleartext --server {} --token {}",
            self.address, self.token
        );
        let all = format!("admin {line} {server}");
        let matches = parser().try_get_matches_from(all.split_whitespace());
        let matches = matches.unwrap_or_else(|error| panic!("{line}: {error}"));
        let args = AdminArgs::from_arg_matches(&matches).unwrap();
        tokio::task::spawn_blocking(move || administer(&args))
            .await
            .unwrap()
    }

    pub(crate) async fn run(&self, line: &str) -> String {
        let ran = self.try_run(line).await;
        ran.unwrap_or_else(|(_, why)| panic!("{line}: {why}"))
    }

    pub(crate) async fn json(&self, line: &str) -> Value {
        let text = self.run(&format!("{line} --json")).await;
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{line}: {text}: {error}"))
    }

    pub(crate) async fn fails(&self, line: &str) -> String {
        match self.try_run(line).await {
            Ok(text) => panic!("{line} was done: {text}"),
            Err((_, why)) => why,
        }
    }
}

/// Routes without a command of `pinion admin`, each with what there is instead. A route that
/// comes later has a command, or a row here.
const WITHOUT: &[(&str, &str)] = &[
    ("GET /healthz", PROBED),
    ("GET /livez", PROBED),
    ("GET /readyz", PROBED),
    ("GET /startupz", PROBED),
    ("GET /health", PROBED),
    (
        "GET /metrics",
        "a scraper asks, and `stats` has the numbers for people",
    ),
    (
        "GET /v1/openapi.json",
        "tools read it, and `--help` is for people",
    ),
    ("GET /v1/docs", "a page, for browsers"),
    (
        "POST /v1/brokers/{b}/health",
        "a broker says it of itself: somebody who said it for one would make the dead look alive",
    ),
    (
        "POST /v1/backup",
        "`pinion backup`, which checks and keeps what comes",
    ),
    ("GET /api/v1/stream/realms", LISTED),
    ("GET /api/v1/stream/realms/{t}/areas", LISTED),
    ("GET /api/v1/stream/realms/{t}/areas/{ns}/resources", LISTED),
    ("GET /api/v1/queue/realms", LISTED),
    ("GET /api/v1/queue/realms/{t}/areas", LISTED),
    ("GET /api/v1/queue/realms/{t}/areas/{ns}/resources", LISTED),
    ("GET /api/v1/cache/realms", LISTED),
    ("GET /api/v1/cache/realms/{t}/areas", LISTED),
    ("GET /api/v1/cache/realms/{t}/areas/{ns}/resources", LISTED),
];

const PROBED: &str = "whoever runs the process asks, by its status alone";
const LISTED: &str = "`streams`, `queues` and `caches` list those of all levels at once, with both names in each row, and `tenant list` and `namespace list` the levels";

#[test]
fn every_route_has_its_command_or_a_reason_to_have_none() {
    let admin = parser();
    let mut seen = 0;
    let mut without: BTreeMap<&str, &str> = WITHOUT.iter().copied().collect();
    assert_eq!(without.len(), WITHOUT.len(), "each route once");
    for route in routes().chain(first_day_routes()) {
        let name = format!("{} {}", route.method.text(), route.path);
        if route.command.is_empty() {
            let reason = without.remove(name.as_str());
            assert!(reason.is_some(), "{name} has no command, and no reason");
            continue;
        }
        let mut at = &admin;
        for word in route.command.split(' ') {
            if let Some(option) = word.strip_prefix("--") {
                let there = at.get_arguments().any(|arg| arg.get_long() == Some(option));
                assert!(there, "{} of {}", route.command, route.path);
            } else {
                at = at.find_subcommand(word).unwrap_or_else(|| {
                    panic!(
                        "there is no `pinion admin {}` for {}",
                        route.command, route.path
                    )
                });
            }
        }
        assert!(!at.has_subcommands(), "{} is no command yet", route.command);
        seen += 1;
    }
    assert!(
        without.is_empty(),
        "no such route without a command: {without:?}"
    );
    assert!(seen > 30, "the routes were not read: {seen}");
}

#[test]
fn what_is_declared_by_commands_is_declared() {
    tell(|ops, _| async move {
        let shell = Shell::new(ops.address);
        let made = shell
            .run("tenant create acme --display-name Acme --max-streams 10 --key-id k --key-rotation 90d")
            .await;
        assert!(made.starts_with("tenant acme: created, version "), "{made}");
        assert_eq!(
            shell
                .fails("tenant create acme")
                .await
                .split(" (")
                .nth(1)
                .map(|end| &end[..7]),
            Some("exists)")
        );
        let acme = shell.json("tenant get acme").await;
        assert_eq!(acme["quotas"]["max_streams"], 10);
        assert_eq!(acme["encryption"]["rotation_period_ms"], 7_776_000_000_u64);
        let version = acme["version"].as_u64().unwrap();
        let stale = format!(
            "tenant update acme --max-streams 20 --if-version {}",
            version + 9
        );
        assert!(shell.fails(&stale).await.contains("(version_conflict)"));
        shell
            .run(&format!(
                "tenant update acme --max-streams none --no-key --if-version {version}"
            ))
            .await;
        let acme = shell.json("tenant get acme").await;
        assert_eq!(acme["quotas"]["max_streams"], 0);
        assert!(acme["encryption"].is_null());
        assert!(shell.run("tenant list").await.contains("\nacme "));

        shell
            .run("namespace create pay --tenant acme --max-publish-rate 5")
            .await;
        shell
            .run("ns update pay --tenant acme --description x")
            .await;
        let pay = shell.json("namespace get pay --tenant acme").await;
        assert_eq!(
            (&pay["description"], &pay["quotas"]["max_publish_rate"]),
            (&"x".into(), &5.into())
        );
        assert!(
            shell
                .run("namespace list --tenant acme")
                .await
                .contains("\npay ")
        );

        shell
            .run("stream create pay/eu/orders --tenant acme --durable --partitions 3 --retention 7d --retention-bytes 1GB --max-record-bytes 64KiB --ring-bytes 1MiB --overflow block --ack leader --replicas 1")
            .await;
        shell
            .run("queue create pay/mail --tenant acme --ephemeral --partitions 1 --lease 5s --max-attempts 3 --drop-expired --backoff-min 1s --backoff-max 2s --max-in-flight 10 --consumer-in-flight 5 --max-messages 100 --redeliveries 7 --pinned n1")
            .await;
        shell
            .run("cache create pay/users --tenant acme --ring-bytes 1MiB --partitions 2")
            .await;
        let orders = shell.json("stream get pay/eu/orders --tenant acme").await;
        assert_eq!(orders["spec"]["retention_ms"], 604_800_000_u64);
        assert_eq!(orders["spec"]["overflow"], "block");
        let mail = shell.json("queue get pay/mail --tenant acme").await;
        assert_eq!(mail["spec"]["queue"]["visibility_ms"], 5000);
        assert_eq!(mail["placement"]["pinned"], "n1");
        shell
            .run("stream update pay/eu/orders --tenant acme --retention none")
            .await;
        shell
            .run("queue update pay/mail --tenant acme --drop-expired=false")
            .await;
        let streams = shell.run("stream list --tenant acme").await;
        assert!(
            streams
                .contains("pay             eu/orders             active    durable              3"),
            "{streams}"
        );
        let shards = shell
            .run("shard list --tenant acme --namespace pay --broker n1")
            .await;
        assert_eq!(shards.lines().count(), 1 + 3 + 1 + 2, "{shards}");
        assert!(shards.contains("stream/acme/pay/eu/orders"), "{shards}");

        shell
            .run("stream delete pay/eu/orders --tenant acme --yes --grace 1h")
            .await;
        assert!(
            !shell
                .run("stream list pay --tenant acme")
                .await
                .contains("orders")
        );
        assert!(
            shell
                .run("stream list pay --tenant acme --deleted")
                .await
                .contains("deleting")
        );
        shell
            .run("stream undelete pay/eu/orders --tenant acme")
            .await;
        assert!(
            shell
                .fails("namespace delete pay --tenant acme --yes")
                .await
                .contains("(not_empty)")
        );
        shell
            .run("namespace delete pay --tenant acme --yes --force")
            .await;
        shell.run("namespace undelete pay --tenant acme").await;
        assert_eq!(
            shell.json("cache get pay/users --tenant acme").await["state"],
            "active"
        );
    });
}

#[test]
fn what_the_cluster_knows_is_told_by_commands() {
    tell(|ops, _| async move {
        let shell = Shell::new(ops.address);
        shell
            .run("broker register two --address 127.0.0.1:9 --max-shards 100 --max-connections 10")
            .await;
        shell.run("broker drain two").await;
        let brokers = shell.run("broker list").await;
        assert!(
            brokers.contains("two                   draining"),
            "{brokers}"
        );
        shell.run("broker activate two").await;
        assert_eq!(shell.json("broker get two").await["status"], "active");
        // Nobody answers for the brokers of a test: who waits is told of the first of them.
        let waited = shell.fails("namespace create late --wait=300ms").await;
        assert!(
            waited.contains("and broker n1 at n1:7420 has not shown it within 300ms"),
            "{waited}"
        );
        shell.run("broker drain two").await;
        shell.run("broker remove two --yes").await;

        shell.run("namespace create pay").await;
        shell.run("stream create pay/orders --partitions 2").await;
        let plan = shell
            .run("shard rebalance pay/orders --strategy minimize-movement --dry-run")
            .await;
        assert_eq!(plan, "stream pay/orders: nothing is to move\n");
        assert!(
            shell
                .fails("shard rebalance pay/orders --cancel")
                .await
                .contains("(no_plan)")
        );
        assert!(
            shell
                .fails("shard transfer pay/orders 0 --to two")
                .await
                .contains("(not_found)")
        );

        let info = shell.json("system").await;
        let now = info["version"].as_u64().unwrap();
        assert!(shell.json("raft status").await["role"] == "leader");
        let snapshot: Value = serde_json::from_str(&shell.run("snapshot").await).unwrap();
        assert_eq!(snapshot["version"], now);
        let watched = shell
            .run(&format!("watch --from 0 --count {now} --json"))
            .await;
        let versions: Vec<u64> = watched
            .lines()
            .map(|line| {
                serde_json::from_str::<Value>(line).unwrap()["version"]
                    .as_u64()
                    .unwrap()
            })
            .collect();
        assert_eq!(versions, (1..=now).collect::<Vec<_>>());
        let future = shell.fails(&format!("watch --from {}", now + 10)).await;
        assert!(future.contains("resnapshot_required"), "{future}");
        let audit = shell
            .run("audit --from 365000d --action create_namespace")
            .await;
        assert!(audit.contains("namespace/default/pay"), "{audit}");
        let audit = shell.run("audit --tenant default --limit 1 --json").await;
        assert_eq!(audit.lines().count(), 1);
    });
}

#[test]
fn files_are_applied_all_or_none() {
    const SHOP: &str = "apiVersion: pinion.io/v1
kind: Tenant
metadata: {name: acme}
spec:
  quotas: {max_streams: 10, max_storage: 1TB}
---
apiVersion: pinion.io/v1
kind: Namespace
metadata: {name: shop, tenant: acme}
---
apiVersion: pinion.io/v1
kind: Stream
metadata: {name: orders, namespace: shop, tenant: acme}
spec: {shards: 2, durability: durable, retention: {time: 7d, size: 1GB}, overflow: block}
---
apiVersion: pinion.io/v1
kind: Queue
metadata: {name: mail, namespace: shop, tenant: acme}
spec: {shards: 1, lease: 30s, backoff: {min: 1s, max: 1m}}
---
apiVersion: pinion.io/v1
kind: Cache
metadata: {name: users, namespace: shop, tenant: acme}
spec: {shards: 1}
";
    tell(|ops, _| async move {
        let shell = Shell::new(ops.address);
        let broker = "apiVersion: pinion.io/v1\nkind: Broker\nmetadata: {name: one}\nspec:\n  address: \"localhost:1\"\n  availability_zone: a\n  labels: {rack: \"1\"}\n  capacity: {max_shards: 100, max_connections: 10}\n";
        let file = shell.file("broker.yaml", broker);
        shell.run(&format!("apply -f {file}")).await;

        let file = shell.file("shop.yaml", SHOP);
        let tried = shell.run(&format!("apply -f {file} --dry-run")).await;
        assert!(
            tried.ends_with("5 objects: 5 would be created, 0 updated, 0 unchanged\n"),
            "{tried}"
        );
        assert!(shell.fails("tenant get acme").await.contains("(not_found)"));
        let made = shell.run(&format!("apply -f {file}")).await;
        assert!(
            made.starts_with("+ tenant/acme\n+ namespace/acme/shop\n+ stream/"),
            "{made}"
        );
        let again = shell.run(&format!("apply -f {file}")).await;
        assert!(
            again.ends_with("5 objects: 0 created, 0 updated, 5 unchanged\n"),
            "{again}"
        );

        let longer = shell.file("shop.yaml", &SHOP.replace("7d", "14d"));
        let changed = shell.run(&format!("apply -f {longer}")).await;
        assert!(
            changed.contains("~ stream/acme/shop/orders\n    ~ spec.retention_ms: 7d -> 14d\n"),
            "{changed}"
        );

        let wrong = SHOP
            .replace("shards: 2", "shards: 3")
            .replace("max_streams: 10", "max_streams: 20");
        let wrong = shell.file("wrong.yaml", &wrong);
        let refused = shell.fails(&format!("apply -f {wrong}")).await;
        assert!(
            refused.starts_with(&format!("{wrong}:11: document 3: ")),
            "{refused}"
        );
        let acme = shell.json("tenant get acme").await;
        assert_eq!(acme["quotas"]["max_streams"], 10, "nothing of it was done");
    });
}

#[test]
fn rights_are_given_and_taken_by_commands() {
    town::tell(|town| async move {
        let ops = Shell::new(town.ops.address);
        let first = Shell::new(town.first_days);
        let secret = first.file("secret", town::SECRET);
        let issuer = town.provider.issuer();
        let day = format!(
            "bootstrap acme --secret {secret} --admin p:ana --issuer {issuer} --audience pinion --algorithm EdDSA --groups-claim groups"
        );
        first.run(&day).await;
        assert!(first.fails(&day).await.contains("(already_initialized)"));

        let exchange = async |who: &str, more: &str| {
            let file = ops.file(who, &town.upstream(who, &["dev"]));
            let line = format!("token exchange {file} --tenant acme {more}");
            ops.try_run(&line).await
        };
        let ana = exchange("ana", "").await.expect("an administrator");
        let ana = ops.showing(ana.trim());
        assert!(exchange("bo", "").await.is_err(), "nobody gave bo anything");
        let run = async |line: &str| ana.run(&format!("{line} --tenant acme")).await;
        run("rbac policy add role:reader stream.subscribe stream:acme/pay/*").await;
        run("rbac policy add p:bo cache.* namespace:acme/pay").await;
        run("rbac grouping add p:bo role:reader").await;
        let policies = run("rbac policy list").await;
        let row = "role:reader                   stream.subscribe      stream:acme/pay/*";
        assert!(policies.contains(row), "{policies}");
        let groupings = run("rbac grouping list --json").await;
        let bo = groupings
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .find(|row| row["member"] == "p:bo")
            .unwrap();
        assert_eq!(bo["role"], "reader");
        let narrow = "--request stream.subscribe --resource stream:acme/pay/orders --json";
        let got = exchange("bo", narrow).await.unwrap();
        let got: Value = serde_json::from_str(&got).unwrap();
        let orders = serde_json::json!(["stream.subscribe:stream:acme/pay/orders"]);
        assert_eq!(got["permissions"], orders);
        run(&format!("rbac grouping remove {} --yes", bo["id"])).await;
        assert!(exchange("bo", narrow).await.is_err());

        let other = "https://other.example";
        let put = "--audience a --audience b --algorithm RS256 --clock-skew 5";
        run(&format!("idp put {other} {put}")).await;
        let listed = run("idp list").await;
        assert!(listed.contains("\nhttps://other.example "), "{listed}");
        assert_eq!(
            ana.json(&format!("idp get {other} --tenant acme")).await["clock_skew_s"],
            5
        );
        run(&format!("idp delete {other} --yes")).await;

        let key = run("key create invoices --subject p:ana --expires 1d").await;
        let invoices = ops.showing(key.trim());
        invoices.run("tenant get acme").await;
        let id = ana.json("key list --tenant acme").await["id"].clone();
        run(&format!("key revoke {id} --yes")).await;
        let refused = invoices.fails("tenant get acme").await;
        assert!(refused.contains("(unauthenticated)"), "{refused}");

        let before = run("keys show").await;
        run("keys rotate").await;
        assert_ne!(run("keys show").await, before);
        ops.run("token revoke --subject p:ana --yes --tenant acme")
            .await;
        let refused = ana.fails("tenant get acme").await;
        assert!(refused.contains("(unauthenticated)"), "{refused}");
    });
}
