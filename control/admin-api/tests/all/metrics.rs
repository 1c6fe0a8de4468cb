//! Metrics and probes over HTTP: who gets them, in which form, and what they go by.

use core::time::Duration;
use std::time::Instant;

use http_body_util::BodyExt as _;
use pinion_admin_api::{ApiConfig, Rate, node_front};
use pinion_node::views::{PARTITIONS_PER_PAGE, PartitionDetail, PartitionFacts};
use pinion_types::{CoreId, PartitionId, ResourceId};

use crate::cores::{Said, play, stream};
use crate::host::PLAIN;
use crate::http::{Client, config, tell, tell_with};
use crate::roles::furnish;

/// What it is told, its media type and the text.
async fn scrape(client: &Client, path: &str) -> (u16, String, String) {
    let response = client.send("GET", path, None).await;
    let (head, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let media = head.headers.get("content-type");
    let media = media.map_or("", |media| media.to_str().unwrap()).to_owned();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    (head.status.as_u16(), media, text)
}

/// The value of a series, by all that stands before it.
#[track_caller]
fn value(text: &str, series: &str) -> f64 {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in\n{text}"))
        .parse()
        .unwrap()
}

#[test]
fn metrics_are_for_who_reads_as_an_administrator_in_the_form_they_ask_for() {
    tell(|ops, _| async move {
        let (status, media, text) = scrape(&ops, "/metrics").await;
        assert_eq!(
            (status, &*media),
            (200, "text/plain; version=0.0.4; charset=utf-8")
        );
        assert_eq!(value(&text, "pinion_raft_has_leader"), 1.0);
        assert_eq!(value(&text, "pinion_raft_role{role=\"leader\"}"), 1.0);
        assert!(value(&text, "process_resident_memory_bytes") > 1e5);
        assert_eq!(
            value(&text, "pinion_ready"),
            1.0,
            "a node without cores is as good as its plane"
        );
        assert!(!text.contains("# EOF"));
        // It is sampled every second, beginning at once.
        let busy = "pinion_core_busy_seconds_total{core=\"control\"}";
        let patience = Instant::now() + Duration::from_secs(30);
        let mut text = text;
        while !text.contains(busy) {
            assert!(Instant::now() < patience, "{text}");
            text = scrape(&ops, "/metrics").await.2;
        }
        assert!(value(&text, busy) > 0.0, "it has answered this");

        let asks = ops.with(
            "accept",
            "application/openmetrics-text;version=1.0.0,text/plain;q=0.5",
        );
        let (status, media, text) = scrape(&asks, "/metrics").await;
        assert_eq!(status, 200);
        assert_eq!(
            media,
            "application/openmetrics-text; version=1.0.0; charset=utf-8"
        );
        assert!(text.ends_with("# EOF\n"));
        assert!(text.contains("# TYPE process_cpu_seconds counter\n"));

        assert_eq!(scrape(&ops.showing(PLAIN), "/metrics").await.0, 403);
        assert_eq!(scrape(&ops.showing_nothing(), "/metrics").await.0, 401);
        ops.get("/metrics?resources=no")
            .await
            .refused(400, "bad_parameter");
        ops.get("/metrics?resource=1")
            .await
            .refused(400, "unknown_parameter");
    });
}

#[test]
fn readings_of_the_metrics_have_a_rate_of_their_own() {
    let rate = Rate {
        per_second: 1,
        burst: 2,
    };
    let config = ApiConfig {
        scrapes: rate,
        ..config()
    };
    tell_with(config, |ops, _| async move {
        ops.get("/metrics").await.is(200);
        ops.get("/metrics").await.is(200);
        let refused = ops.get("/metrics").await.refused(429, "rate_limited");
        assert_eq!(refused.header("retry-after"), "1");
        ops.get("/v1/tenants").await.is(200);
    });
}

/// A partition that took and gave so many records.
fn busy(resource: u64, partition: u16, records: u64) -> PartitionFacts {
    let mut facts = stream(ResourceId(resource), 0, 1, 7);
    facts.partition = PartitionId(partition);
    if let PartitionDetail::Stream(stream) = &mut facts.detail {
        stream.records_in = records;
        stream.records_out = 2 * records;
        stream.lag_max = records;
    }
    facts
}

#[test]
fn resources_are_told_by_name_the_most_active_first_and_all_of_them_in_the_totals() {
    let (cores, front) = node_front(1);
    let config = ApiConfig { cores, ..config() };
    tell_with(config, |ops, _| async move {
        let said = Said::default();
        tokio::spawn(play(front, said.clone()));
        furnish(&ops).await;
        let orders = "/v1/tenants/acme/namespaces/pay/streams/orders";
        let orders = ops.get(orders).await.is(200).body["id"].as_u64().unwrap();
        // The other one is not in the metadata: it is counted and not named.
        said.set(vec![
            busy(orders, 0, 10),
            busy(orders, 1, 30),
            busy(900_000, 0, 5),
        ]);
        // What was gathered before is told until it is a second old.
        let gathered = "pinion_partitions{kind=\"stream\"}";
        let mut text = scrape(&ops, "/metrics").await.2;
        while value(&text, gathered) < 3.0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            text = scrape(&ops, "/metrics").await.2;
        }
        let labels = "{kind=\"stream\",tenant=\"acme\",namespace=\"pay\",name=\"orders\"}";
        let of = |name: &str| value(&text, &format!("pinion_resource_{name}{labels}"));
        assert_eq!(of("messages_received_total"), 40.0);
        assert_eq!(of("messages_sent_total"), 80.0);
        assert_eq!(of("lag_records_max"), 30.0);
        assert_eq!(of("durable_bytes"), 14.0);
        assert_eq!(of("subscriptions"), 2.0);
        assert_eq!(value(&text, "pinion_resources{kind=\"stream\"}"), 2.0);
        assert_eq!(value(&text, gathered), 3.0);
        assert_eq!(value(&text, "pinion_resources_left_out"), 1.0);
        assert_eq!(value(&text, "pinion_stream_lag_records_max"), 30.0);
        let (_, _, text) = scrape(&ops, "/metrics?resources=0").await;
        assert!(!text.contains("pinion_resource_"), "{text}");
        assert_eq!(value(&text, "pinion_resources_left_out"), 2.0);
    });
}

#[test]
fn ten_thousand_streams_make_no_more_series_than_two_hundred() {
    let (cores, front) = node_front(1);
    let config = ApiConfig { cores, ..config() };
    tell_with(config, |ops, _| async move {
        let said = Said::default();
        said.page_by(PARTITIONS_PER_PAGE);
        let all = (0..10_000_u64).map(|id| busy(1_000_000 + id, 0, id));
        said.set(all.collect());
        tokio::spawn(play(front, said.clone()));
        scrape(&ops, "/metrics").await;
        let pages = 10_000_usize.div_ceil(PARTITIONS_PER_PAGE);
        assert_eq!(said.pages(), pages, "a page at a time");
        let begun = Instant::now();
        let (status, _, text) = scrape(&ops, "/metrics").await;
        let took = begun.elapsed();
        assert_eq!(status, 200);
        assert_eq!(value(&text, "pinion_resources{kind=\"stream\"}"), 10_000.0);
        assert_eq!(
            value(&text, "pinion_resources_left_out"),
            10_000.0,
            "none has a name"
        );
        println!(
            "a scrape of 10,000 streams, not optimised: {took:?}, {} bytes",
            text.len()
        );
        assert!(took < Duration::from_secs(2), "{took:?}");
    });
}

#[test]
fn a_core_that_says_nothing_makes_the_node_stuck() {
    let (cores, front) = node_front(2);
    let config = ApiConfig { cores, ..config() };
    tell_with(config, |ops, _| async move {
        let said = Said::default();
        tokio::spawn(play(front, said.clone()));
        let until = async |path: &str, status: u16| {
            let patience = Instant::now() + Duration::from_secs(30);
            loop {
                let answered = ops.showing_nothing().get(path).await;
                if answered.status == status {
                    return answered.body;
                }
                assert!(Instant::now() < patience, "{path}: {answered:?}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let started = until("/startupz", 200).await;
        assert_eq!(started["status"], "started");
        assert!(started["startup_time_seconds"].is_number());
        let ready = until("/readyz", 200).await;
        assert_eq!(ready["status"], "ready");
        assert_eq!(ready["checks"]["domains_initialized"], "ok");
        assert_eq!(until("/livez", 200).await["status"], "ok");
        let health = until("/health", 200).await;
        assert_eq!(health["status"], "healthy");
        assert!(health["problems"].as_array().unwrap().is_empty());

        said.lose(CoreId(1));
        assert_eq!(until("/healthz", 503).await["status"], "stuck");
        let ready = until("/readyz", 503).await;
        assert_eq!(ready["checks"]["domains_initialized"], "not_ready");
        assert_eq!(ready["checks"]["control_plane"], "ok");
        let health = until("/health", 503).await;
        assert_eq!(health["problems"], serde_json::json!(["core_stuck"]));
        assert_eq!(
            until("/startupz", 200).await["status"],
            "started",
            "once and for all"
        );
        let (_, _, text) = scrape(&ops, "/metrics").await;
        assert_eq!(value(&text, "pinion_ready"), 0.0);
        assert!(value(&text, "pinion_core_silent_seconds{core=\"1\"}") > 5.0);
        assert!(value(&text, "pinion_core_silent_seconds{core=\"0\"}") < 5.0);
    });
}
