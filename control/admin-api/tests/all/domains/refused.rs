//! What is refused, and that nothing is done then.

use pinion_admin_api::{ApiConfig, Rate};
use serde_json::json;

use super::{JOBS, domains, path, tell, tell_as};
use crate::host::PLAIN;
use crate::http::config;

#[test]
fn wrong_requests_are_refused_for_what_is_wrong_with_them() {
    tell(|place| async move {
        let ops = &place.ops;
        for route in domains() {
            let of = path(route, "/admin");
            let nobody = ops.showing_nothing();
            let answered = nobody.raw(route.method.text(), &of, None).await;
            assert_eq!(answered.header("www-authenticate"), "Bearer");
            answered.refused(401, "unauthenticated");
            let plain = ops.showing(PLAIN);
            let status = plain.raw(route.method.text(), &of, None).await.status;
            assert!([403, 404].contains(&status), "{of}: {status}");
            let refused = ops.raw("PUT", &of, None).await;
            assert!(
                refused.header("allow").contains(route.method.text()),
                "{of}"
            );
            refused.refused(405, "method_not_allowed");
            let mark = if of.contains('?') { '&' } else { '?' };
            let unknown = format!("{of}{mark}color=red");
            let sure = ops.with("x-confirm", "true");
            let refused = sure.raw(route.method.text(), &unknown, None).await;
            refused.refused(400, "unknown_parameter");
            if route.confirm {
                let refused = ops.raw(route.method.text(), &of, None).await;
                refused.refused(428, "confirmation_required");
                let no = ops.with("x-confirm", "false");
                let refused = no.raw(route.method.text(), &of, None).await;
                refused.refused(428, "confirmation_required");
            }
            if route.query.contains(&"limit") {
                for wrong in [
                    "limit=0",
                    "limit=1001",
                    "limit=x",
                    "limit=-1",
                    "offset=x",
                    "offset=-1",
                ] {
                    let refused = ops.get(&format!("{of}{mark}{wrong}")).await;
                    refused.refused(400, "bad_parameter");
                }
            }
            if route.query.contains(&"family") {
                let base = of.split('?').next().unwrap();
                for wrong in ["family=x", "family=65536"] {
                    let wrong = format!("{base}?{wrong}");
                    let refused = sure.raw(route.method.text(), &wrong, None).await;
                    refused.refused(400, "bad_parameter");
                }
            }
        }
        for unknown in [
            "/admin",
            "/admin/",
            "/admin//stats",
            "/admin/admin/stats",
            "/api/v1//stats",
            "/api/v1/admin/admin/stats",
            "/%61dmin/stats",
            "/admin%2Fstats",
            "/api/v1/stats/",
            "/api/v2/stats",
            "/admin/../api/v1/stats",
            // Domains that there are not yet.
            "/api/v1/kv/stats",
            "/api/v1/notice/stats",
            "/api/v1/rpc/workers",
            "/api/v1/lease/leases",
            "/api/v1/schedule/stats",
        ] {
            ops.get(unknown).await.refused(404, "unknown_path");
        }
        for unknown in [
            "/api/v1/stream/realms/nobody/areas",
            "/api/v1/queue/realms//areas/pay/resources",
            "/api/v1/stream/realms/acme/areas/none/resources",
            "/api/v1/stream/realms/acme/areas/pay/resources/none",
            "/api/v1/queue/realms/acme/areas/pay/resources/none/dead-letters",
            "/api/v1/queue/realms/acme/areas/pay/resources/orders",
            "/api/v1/cache/realms/acme/areas/pay/resources/..",
        ] {
            ops.get(unknown).await.refused(404, "not_found");
        }
        let sure = ops.with("x-confirm", "true");
        for (unknown, status, code) in [
            ("/api/v1/sessions/0.77/close", 404, "not_found"),
            ("/api/v1/sessions/9.0/close", 404, "not_found"),
            ("/api/v1/sessions/x/close", 400, "bad_parameter"),
            (
                "/api/v1/sessions/0.1/subscriptions/x/end",
                400,
                "bad_parameter",
            ),
        ] {
            sure.act(unknown).await.refused(status, code);
        }
        // What another broker serves is asked there.
        let broker = json!({
            "name": "two",
            "address": "two:7420",
            "capacity": { "max_shards": 100, "max_connections": 1 },
        });
        ops.post("/v1/brokers", broker).await.is(201);
        let there = json!({ "name": "there", "placement": { "pinned": "two" } });
        let queues = "/v1/tenants/acme/namespaces/pay/queues";
        ops.post(queues, there).await.is(201);
        let there = "/api/v1/queue/realms/acme/areas/pay/resources/there";
        let elsewhere = ops.get(&format!("{there}/dead-letters")).await;
        let elsewhere = elsewhere.refused(421, "elsewhere");
        assert_eq!(elsewhere.body["details"]["broker"], "two");
        ops.get(there).await.is(200);
        let far = format!("{JOBS}/dead-letters?offset=10001");
        ops.get(&far).await.refused(400, "bad_parameter");
        ops.get("/api/v1/search")
            .await
            .refused(400, "bad_parameter");
        let long = format!("/api/v1/search?q={}", "x".repeat(257));
        ops.get(&long).await.refused(400, "bad_parameter");
        // None of it was done.
        assert!(place.deeds().await.is_empty());
    });
}

#[test]
fn who_asks_too_often_waits() {
    let few = Rate {
        per_second: 1,
        burst: 3,
    };
    let config = ApiConfig {
        reads: few,
        ..config()
    };
    tell_as(config, |place| async move {
        for _ in 0..3 {
            place.ops.get("/admin/stats").await.is(200);
        }
        let refused = place.ops.get("/api/v1/stats").await;
        assert_eq!(refused.header("retry-after"), "1");
        refused.refused(429, "rate_limited");
    });
}
