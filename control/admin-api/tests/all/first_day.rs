//! A tenant's first day that does not go through in one.

use pinion_admin_api::serve;
use pinion_metadata::{Metadata, ObjectKey};
use serde_json::json;
use tokio::sync::oneshot;

use crate::host::Host;
use crate::http::{Client, tell_of, tell_with};
use crate::support::town::{SECRET, issuing};

const PATH: &str = "/internal/bootstrap/tenants/acme/initialize";

/// Whoever has the secret, at a node with this configuration.
fn founder(config: &pinion_admin_api::ApiConfig) -> Client {
    let listener = &config.bootstrap.as_ref().unwrap().listener;
    let client = Client::new(listener.local_addr().unwrap()).showing_nothing();
    client.with("x-pinion-bootstrap-token", SECRET)
}

fn has_tenant(metadata: &Metadata) -> bool {
    metadata.get(&ObjectKey::tenant("acme")).is_some()
}

#[test]
fn after_a_crash_in_between_the_same_request_goes_on_from_there() {
    let body = json!({ "display_name": "Acme", "initial_admin_principals": ["p:ana"] });
    let number = "0123456789abcdef0123456789abcdef";
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (plane, host) = runtime.block_on(async {
        let (config, _driver) = issuing();
        let founder = founder(&config).with("x-request-id", number);
        let (plane, host) = Host::new();
        let (stop, stopped) = oneshot::channel::<()>();
        let served = tokio::spawn(serve(config, plane, host.access(), async {
            let _ = stopped.await;
        }));
        let body = body.clone();
        let asked = tokio::spawn(async move { founder.post(PATH, body).await });
        let crashed = host.crash_when(has_tenant).await;
        // Its answer is lost, too: it says nothing of what was done.
        assert_ne!(asked.await.unwrap().status, 201);
        stop.send(()).unwrap();
        served.await.unwrap().unwrap();
        crashed
    });
    drop(runtime);
    let metadata = host.metadata();
    assert!(has_tenant(metadata), "it was done and is kept");
    assert!(metadata.get(&ObjectKey::bootstrap("acme")).is_none());

    let (config, _driver) = issuing();
    let founder = founder(&config).with("x-request-id", number);
    let access = host.access();
    tell_of(config, (plane, host), access, |ops, _| async move {
        let empty = ops.get("/v1/tenants/acme/rbac/groupings").await.is(200);
        assert_eq!(empty.body["groupings"], json!([]), "nobody is there");
        founder.post(PATH, body.clone()).await.is(201);
        let tenant = ops.get("/v1/tenants/acme").await.is(200);
        assert_eq!(tenant.body["display_name"], "Acme");
        let filled = ops.get("/v1/tenants/acme/rbac/groupings").await.is(200);
        assert_eq!(filled.body["groupings"].as_array().unwrap().len(), 1);
        let again = founder.with("x-request-id", "ff").post(PATH, body).await;
        again.refused(409, "already_initialized");
    });
}

#[test]
fn two_at_once_are_one_first_day() {
    let (config, _driver) = issuing();
    let founder = founder(&config);
    tell_with(config, |_, _| async move {
        for tenant in 0..8 {
            let path = format!("/internal/bootstrap/tenants/t{tenant}/initialize");
            let body = |who: &str| json!({ "initial_admin_principals": [who] });
            let ana = founder.post(&path, body("p:ana"));
            let (ana, bo) = tokio::join!(ana, founder.post(&path, body("p:bo")));
            let (done, other) = if ana.status == 201 {
                (ana, bo)
            } else {
                (bo, ana)
            };
            done.is(201);
            other.refused(409, "already_initialized");
        }
    });
}
