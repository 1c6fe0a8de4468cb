//! Who is believed, what they may, and what they show: through HTTP, against a real plane and
//! a provider on loopback.

use pinion_auth::TenantId;
use pinion_auth::keyring::StoredKey;
use pinion_auth::seal::{MasterKey, Sealed};
use pinion_auth::sign::SigningKey;
use pinion_auth::token::{Claims, Jti, Realm};
use pinion_metadata::{Body, ObjectKey};
use pinion_types::WallMs;
use serde_json::{Value, json};

use crate::host::{CLUSTER, OPERATOR};
use crate::http::{Client, tell_with};
use crate::support::browser::{Browser, kept, rows};
use crate::support::oidc::{Signer, now_s};
use crate::support::town::{MASTER, SECRET, Town, issuing, tell};

fn texts(value: &Value) -> Vec<&str> {
    let all = value.as_array().unwrap().iter();
    all.map(|one| one.as_str().unwrap()).collect()
}

/// The claims of a token, unchecked.
fn claims(token: &str) -> Value {
    use base64::Engine as _;
    let payload = token.split('.').nth(1).unwrap();
    let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload);
    serde_json::from_slice(&payload.unwrap()).unwrap()
}

#[test]
fn a_tenant_has_its_first_day_once_and_where_operators_are() {
    tell(|town| async move {
        let path = "/internal/bootstrap/tenants/acme/initialize";
        let body = json!({ "initial_admin_principals": ["p:ana"] });
        let stranger = Client::new(town.first_days).showing_nothing();
        let guess = stranger.with("x-pinion-bootstrap-token", "a guess");
        let close = stranger.with("x-pinion-bootstrap-token", format!("{SECRET}x"));
        let twice = town.founder().with("x-pinion-bootstrap-token", SECRET);
        // An operator's token is not the secret.
        let ops = Client::new(town.first_days);
        for client in [&stranger, &guess, &close, &twice, &ops] {
            let answer = client.post(path, body.clone()).await;
            answer.refused(401, "unauthenticated");
        }
        let elsewhere = town.ops.with("x-pinion-bootstrap-token", SECRET);
        let answer = elsewhere.post(path, body.clone()).await;
        answer.refused(404, "unknown_path");
        for path in ["/v1/tenants", "/v1/tenants/acme", "/healthz"] {
            town.founder().get(path).await.refused(404, "unknown_path");
        }
        // What is wrong with it leaves nothing behind.
        for (wrong, code) in [
            (
                json!({ "initial_admin_principals": ["ana"] }),
                "bad_subject",
            ),
            (
                json!({ "initial_admin_principals": ["p:ana"], "x": 1 }),
                "unknown_field",
            ),
            (
                json!({ "initial_admin_principals": ["p:ana"], "idp_issuers": [
                    { "issuer": "https://a.example", "audiences": ["a"], "algorithms": ["HS256"] }
                ] }),
                "bad_algorithm",
            ),
        ] {
            town.founder().post(path, wrong).await.refused(400, code);
        }
        town.ops
            .get("/v1/tenants/acme")
            .await
            .refused(404, "not_found");

        let done = town.found("acme").await.is(201);
        assert_eq!(done.body["tenant"], "acme");
        let tenant = town.ops.get("/v1/tenants/acme").await.is(200);
        assert_eq!(tenant.body["display_name"], "Tenant One");
        town.found("acme").await.refused(409, "already_initialized");

        // The administrator has the tenant, and nothing beside it.
        let ana = town.client("acme", "ana").await;
        ana.get("/v1/tenants/acme/idp-issuers").await.is(200);
        ana.get("/v1/tenants/default")
            .await
            .refused(404, "not_found");
        ana.get("/v1/brokers").await.refused(403, "forbidden");
    });
}

#[test]
fn a_tenant_that_was_there_has_its_first_day_too() {
    tell(|town| async move {
        let made = json!({ "name": "acme", "display_name": "Acme Corp" });
        town.ops.post("/v1/tenants", made).await.is(201);
        town.found("acme").await.is(201);
        let tenant = town.ops.get("/v1/tenants/acme").await.is(200);
        assert_eq!(tenant.body["display_name"], "Acme Corp");
        town.client("acme", "ana").await;
    });
}

#[test]
fn a_token_says_what_its_holder_may_and_no_more_than_it_was_asked_for() {
    tell(|town| async move {
        town.found("acme").await.is(201);
        let ana = town.client("acme", "ana").await;
        let policies = "/v1/tenants/acme/rbac/policies";
        let body = json!({ "policies": [
            { "subject": "p:bo", "action": "stream.*", "object": "namespace:acme/pay" },
            { "subject": "g:dev", "action": "cache.read", "object": "cache:acme/*" },
        ] });
        ana.post(policies, body).await.is(201);

        let bo = town.upstream("bo", &["dev", "ops"]);
        let given = town.exchange("acme", &bo, json!({})).await.is(200);
        assert_eq!(given.body["token_type"], "Bearer");
        assert_eq!(given.body["expires_in"], 900);
        let mut all = texts(&given.body["permissions"]);
        all.sort_unstable();
        assert_eq!(
            all,
            [
                "cache.read:cache:acme/*",
                "stream.manage:namespace:acme/pay",
                "stream.publish:namespace:acme/pay",
                "stream.subscribe:namespace:acme/pay",
            ]
        );
        let token = given.body["access_token"].as_str().unwrap();
        let claims = claims(token);
        assert_eq!(
            (&claims["sub"], &claims["tid"]),
            (&json!("p:bo"), &json!("acme"))
        );
        assert_eq!(
            claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(),
            900
        );
        let realm = Realm::of(&CLUSTER);
        assert_eq!(
            (&claims["iss"], &claims["aud"]),
            (&json!(realm.name()), &json!(realm.name()))
        );
        assert_eq!(texts(&claims["perms"]).len(), 4);

        // The example of the interface's design.
        let asked = json!({
            "requested": ["stream.publish", "stream.subscribe", "cache.read"],
            "resources": ["namespace:acme/payments", "stream:acme/pay/orders/*"],
        });
        let given = town.exchange("acme", &bo, asked).await.is(200);
        let mut narrowed = texts(&given.body["permissions"]);
        narrowed.sort_unstable();
        assert_eq!(
            narrowed,
            [
                "cache.read:cache:acme/payments/*",
                "stream.publish:stream:acme/pay/orders/*",
                "stream.subscribe:stream:acme/pay/orders/*",
            ]
        );
        for nothing in [
            json!({ "requested": ["queue.produce"] }),
            json!({ "resources": ["stream:acme/other/x"] }),
            json!({ "resources": ["tenant:other"] }),
        ] {
            let answer = town.exchange("acme", &bo, nothing).await;
            answer.refused(403, "nothing_granted");
        }
        let eve = town.upstream("eve", &[]);
        let answer = town.exchange("acme", &eve, json!({})).await;
        answer.refused(403, "nothing_granted");
        for (wrong, code) in [
            (json!({ "requested": ["stream.eat"] }), "bad_action"),
            (json!({ "requested": [] }), "bad_request"),
            (
                json!({ "requested": vec!["cache.read"; 65] }),
                "bad_request",
            ),
            (json!({ "resources": ["stream:*/*"] }), "bad_object"),
            (json!({ "resources": "stream:acme/*" }), "bad_body"),
            (json!({ "scope": "all" }), "unknown_field"),
        ] {
            let answer = town.exchange("acme", &bo, wrong).await;
            assert_eq!(answer.status, 400, "{answer:#?}");
            assert_eq!(answer.body["code"], code);
        }
    });
}

#[test]
fn a_grant_that_fits_no_token_is_asked_for_in_parts() {
    tell(|town| async move {
        town.found("acme").await.is(201);
        let ana = town.client("acme", "ana").await;
        let row = |at| {
            json!({ "subject": "p:bo", "action": "stream.publish",
                "object": format!("stream:acme/n{at}/*") })
        };
        let rows: Vec<Value> = (0..65).map(row).collect();
        let body = json!({ "policies": rows });
        ana.post("/v1/tenants/acme/rbac/policies", body)
            .await
            .is(201);
        let bo = town.upstream("bo", &[]);
        let answer = town.exchange("acme", &bo, json!({})).await;
        answer.refused(403, "too_many_permissions");
        let part = json!({ "resources": ["namespace:acme/n1"] });
        let given = town.exchange("acme", &bo, part).await.is(200);
        assert_eq!(texts(&given.body["permissions"]).len(), 1);
    });
}

#[test]
fn tokens_of_providers_that_prove_nothing_are_refused() {
    tell(|town| async move {
        town.found("acme").await.is(201);
        let (issuer, signer) = (town.provider.issuer(), &town.signer);
        let good = town.upstream("ana", &[]);
        let claims = |exp: u64, nbf: u64| json!({ "iss": issuer, "aud": "pinion", "sub": "ana", "nbf": nbf, "exp": exp });
        let (now, header) = (now_s(), signer.header());
        let fine = claims(now + 60, now);
        let headed = |field: &str, value: Value| {
            let mut header = header.clone();
            header[field] = value;
            signer.sign(&header, &fine)
        };
        let unsigned = {
            let none = headed("alg", json!("none"));
            let (signed, _) = none.rsplit_once('.').unwrap();
            format!("{signed}.")
        };
        let cases = [
            ("nothing", String::new()),
            ("garbage", "garbage".into()),
            ("two parts", "a.b".into()),
            ("truncated", good[..good.len() - 20].into()),
            (
                "without its signature",
                good.rsplit_once('.').unwrap().0.into(),
            ),
            ("oversized", format!("{good}{}", "A".repeat(8 << 10))),
            ("alg none", unsigned),
            ("alg HS256", headed("alg", json!("HS256"))),
            ("alg RS256", headed("alg", json!("RS256"))),
            ("an unknown key", headed("kid", json!("elsewhere"))),
            ("a key of its own", headed("jwk", json!({ "kty": "OKP" }))),
            ("critical", headed("crit", json!(["b64"]))),
            (
                "forged",
                Signer::new(9)
                    .named(signer)
                    .token(&issuer, "pinion", "ana", &[]),
            ),
            ("expired", signer.sign(&header, &claims(now - 60, now - 90))),
            (
                "not yet",
                signer.sign(&header, &claims(now + 600, now + 300)),
            ),
            (
                "another audience",
                signer.token(&issuer, "other", "ana", &[]),
            ),
            (
                "another issuer",
                signer.token("https://elsewhere.example", "pinion", "ana", &[]),
            ),
            (
                "no subject",
                signer.sign(
                    &header,
                    &json!({ "iss": issuer, "aud": "pinion", "exp": now + 60 }),
                ),
            ),
        ];
        for (what, token) in cases {
            let answer = town.exchange("acme", &token, json!({})).await;
            assert_eq!(answer.status, 401, "{what}: {answer:#?}");
            assert_eq!(answer.header("www-authenticate"), "Bearer", "{what}");
        }
        let silent = town.ops.showing_nothing();
        let path = "/v1/tenants/acme/token/exchange";
        silent
            .post(path, json!({}))
            .await
            .refused(401, "unauthenticated");
        // One of another tenant's provider is none here.
        town.ops
            .post("/v1/tenants", json!({ "name": "other" }))
            .await
            .is(201);
        let answer = town.exchange("other", &good, json!({})).await;
        answer.refused(401, "unauthenticated");
        let answer = town.exchange("nobody", &good, json!({})).await;
        answer.refused(404, "not_found");
        // One of ours is none of the provider's.
        let ours = town.token("acme", "ana").await;
        let answer = town.exchange("acme", &ours, json!({})).await;
        answer.refused(401, "unauthenticated");

        town.provider.fail(500);
        let fresh = json!({ "issuer": format!("{issuer}/x"), "audiences": ["pinion"],
            "algorithms": ["EdDSA"], "jwks_url": format!("{issuer}/jwks") });
        let ana = town.ops.showing(ours);
        ana.post("/v1/tenants/acme/idp-issuers", fresh)
            .await
            .is(201);
        let there = signer.token(&format!("{issuer}/x"), "pinion", "ana", &[]);
        let answer = town.exchange("acme", &there, json!({})).await;
        let answer = answer.refused(503, "issuer_unavailable");
        assert!(answer.header("retry-after").parse::<u32>().unwrap() >= 1);
    });
}

/// The key that signs a tenant's tokens, as only the master of the cluster opens it.
async fn key(town: &Town, tenant: &str) -> SigningKey {
    let name = tenant.to_owned();
    let looked = town.plane.look(move |metadata| {
        let tenant = metadata.get(&ObjectKey::tenant(&name)).unwrap();
        let keys = metadata.get(&ObjectKey::signing_keys(&name)).unwrap();
        match (&tenant.body, &keys.body) {
            (Body::Tenant(tenant), Body::SigningKeys(keys)) => (tenant.number.0, keys.current),
            other => panic!("{other:?}"),
        }
    });
    let (number, stored) = looked.await.unwrap().unwrap();
    let stored = StoredKey {
        public: stored.public,
        sealed: Sealed::new(stored.sealed),
    };
    let master = MasterKey::new(&MASTER);
    stored.open(&master, TenantId(number)).unwrap()
}

/// Tokens with which nobody is let in anywhere, and why. They are signed with the key of a
/// tenant, or only look like it.
pub(crate) async fn bad_tokens(town: &Town, tenant: &str) -> Vec<(&'static str, String)> {
    let realm = Realm::of(&CLUSTER);
    let key = key(town, tenant).await;
    let now = now_s() * 1_000;
    let says = |tenant: &str, from: u64, until: u64| Claims {
        subject: "p:ana".into(),
        tenant: tenant.into(),
        issued: WallMs(from),
        expires: WallMs(until),
        jti: Jti([7; 16]),
        permissions: Box::new([format!("tenant.manage:tenant:{tenant}").into()]),
    };
    let fine = says(tenant, now, now + 60_000);
    let good = key.issue(&realm, &fine).unwrap();
    let elsewhere = Claims {
        permissions: Box::new(["tenant.manage:tenant:elsewhere".into()]),
        ..fine.clone()
    };
    let issue = |realm: &Realm, claims: &Claims| key.issue(realm, claims).unwrap();
    let forged = SigningKey::from_seed(&[9; 32]);
    let provider = town.upstream("ana", &[]);
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let other_signature = issue(&realm, &says(tenant, now, now + 120_000));
    let (_, other_signature) = other_signature.rsplit_once('.').unwrap();
    vec![
        ("garbage", "garbage".into()),
        ("truncated", good[..good.len() - 3].into()),
        ("longer", format!("{good}A")),
        ("oversized", format!("{good}{}", "A".repeat(5_000))),
        ("unsigned", format!("{signed}.")),
        (
            "with another signature",
            format!("{signed}.{other_signature}"),
        ),
        ("turned around", format!("{signature}.{signed}")),
        ("forged", forged.issue(&realm, &fine).unwrap()),
        (
            "expired",
            issue(&realm, &says(tenant, now - 120_000, now - 60_000)),
        ),
        (
            "not yet valid",
            issue(&realm, &says(tenant, now + 120_000, now + 180_000)),
        ),
        ("of another cluster", issue(&Realm::of(&[1; 16]), &fine)),
        (
            "of another tenant",
            issue(&realm, &says("default", now, now + 60_000)),
        ),
        ("with rights elsewhere", issue(&realm, &elsewhere)),
        ("a provider's", provider),
        (
            "HS256",
            town.signer.sign(
                &json!({ "alg": "HS256", "typ": "JWT", "kid": key.kid().to_string() }),
                &claims(&good),
            ),
        ),
        (
            "none",
            town.signer
                .sign(&json!({ "alg": "none", "typ": "JWT" }), &claims(&good)),
        ),
        (
            "an API key's form",
            format!("pinion_key_00000000_{}", "0".repeat(64)),
        ),
    ]
}

#[test]
fn bearers_that_prove_nothing_open_no_route() {
    tell(|town| async move {
        town.found("acme").await.is(201);
        let ana = town.client("acme", "ana").await;
        ana.get("/v1/tenants/acme").await.is(200);
        for (what, token) in bad_tokens(&town, "acme").await {
            for path in [
                "/v1/tenants/acme",
                "/v1/system/info",
                "/v1/tenants/acme/api-keys",
            ] {
                let answer = town.ops.showing(&token).get(path).await;
                assert_eq!(answer.status, 401, "{what} {path}: {answer:#?}");
                assert_eq!(answer.body["code"], "unauthenticated");
            }
        }
        // One of a tenant is nobody in another.
        town.found("other").await.is(201);
        for path in [
            "",
            "/idp-issuers",
            "/rbac/policies",
            "/api-keys",
            "/namespaces",
        ] {
            let answer = ana.get(&format!("/v1/tenants/other{path}")).await;
            answer.refused(404, "not_found");
        }
        let body = json!({ "name": "x", "subject": "p:ana" });
        let answer = ana.post("/v1/tenants/other/api-keys", body).await;
        answer.refused(404, "not_found");
    });
}

#[test]
fn keys_are_rotated_published_and_believed_until_their_tokens_are_over() {
    tell(|town| async move {
        let first = town.found("acme").await.is(201).body["kids"].clone();
        let set = "/v1/tenants/acme/.well-known/jwks.json";
        let anybody = town.ops.showing_nothing();
        let published = anybody.get(set).await.is(200);
        assert_eq!(published.header("cache-control"), "public, max-age=60");
        let kids = |set: &Value| -> Vec<String> {
            let keys = set["keys"].as_array().unwrap().iter();
            keys.map(|key| {
                assert_eq!(
                    (&key["kty"], &key["crv"]),
                    (&json!("OKP"), &json!("Ed25519"))
                );
                assert_eq!((&key["alg"], &key["use"]), (&json!("EdDSA"), &json!("sig")));
                assert!(key.get("d").is_none(), "a private key");
                key["kid"].as_str().unwrap().to_owned()
            })
            .collect()
        };
        let (current, next) = (
            first["current"].as_str().unwrap(),
            first["next"].as_str().unwrap(),
        );
        assert_eq!(kids(&published.body), [current, next]);
        let before = town.client("acme", "ana").await;

        let rotated = before.act("/v1/tenants/acme/keys/rotate").await.is(200);
        let second = &rotated.body["kids"];
        assert_eq!(
            (&second["current"], &second["previous"]),
            (&first["next"], &first["current"])
        );
        let published = anybody.get(set).await.is(200);
        assert_eq!(kids(&published.body).len(), 3);
        // Tokens of before and after.
        before.get("/v1/tenants/acme").await.is(200);
        let after = town.client("acme", "ana").await;
        after.get("/v1/tenants/acme").await.is(200);
        // Who rotates what was rotated meanwhile is told.
        let stale = after.with("if-match", "\"1\"");
        let answer = stale.act("/v1/tenants/acme/keys/rotate").await;
        answer.refused(412, "version_conflict");
        // Twice in a row ends what was issued before the first.
        after.act("/v1/tenants/acme/keys/rotate").await.is(200);
        let answer = before.get("/v1/tenants/acme").await;
        answer.refused(401, "unauthenticated");
        after.get("/v1/tenants/acme").await.is(200);

        // A tenant without keys gets its first.
        town.ops
            .post("/v1/tenants", json!({ "name": "bare" }))
            .await
            .is(201);
        let bare = "/v1/tenants/bare/.well-known/jwks.json";
        anybody.get(bare).await.refused(404, "not_found");
        town.ops.act("/v1/tenants/bare/keys/rotate").await.is(200);
        assert_eq!(kids(&anybody.get(bare).await.is(200).body).len(), 2);
        // From the dashboard it has the row that its confirm page tells of.
        let mut browser = Browser::of(&town.ops, OPERATOR).await;
        let query = "operation=rotate_signing_keys&target=bare";
        let form = browser.confirm(query).await.is(200);
        let promised = form.promised();
        let before = rows(&town.ops, &promised.0).await.len();
        browser.perform(&form, &[]).await.is(303);
        kept(&town.ops, before, &promised).await;
        let nobody = "/v1/tenants/nobody/.well-known/jwks.json";
        anybody.get(nobody).await.refused(404, "not_found");
    });
}

#[test]
fn what_is_revoked_counts_no_more() {
    tell(|town| async move {
        town.found("acme").await.is(201);
        let token = town.token("acme", "ana").await;
        let (lost, ana) = (town.ops.showing(&token), town.client("acme", "ana").await);
        lost.get("/v1/tenants/acme").await.is(200);
        let revoke = "/v1/tenants/acme/tokens/revoke";
        let jti = claims(&token)["jti"].as_str().unwrap().to_owned();
        let body = json!({ "jti": jti, "expires": "2099-01-01T00:00:00Z" });
        ana.post(revoke, body).await.is(204);
        lost.get("/v1/tenants/acme")
            .await
            .refused(401, "unauthenticated");
        ana.get("/v1/tenants/acme").await.is(200);

        for (wrong, code) in [
            (json!({}), "bad_request"),
            (json!({ "jti": jti }), "bad_request"),
            (json!({ "jti": jti, "expires": "x" }), "bad_time"),
            (
                json!({ "jti": "x", "expires": "2099-01-01T00:00:00Z" }),
                "bad_jti",
            ),
            (json!({ "subject": "ana" }), "bad_subject"),
            (json!({ "subject": "p:ana", "jti": jti }), "bad_request"),
        ] {
            ana.post(revoke, wrong).await.refused(400, code);
        }
        // What no token is of: nobody is to believe that it has ended.
        for (subject, instead) in [
            ("g:dev", "groupings of the group"),
            ("role:admin", "policies of the role"),
            ("spiffe://cluster.local/ns/a/sa/b", "policies and groupings"),
        ] {
            let answer = ana.post(revoke, json!({ "subject": subject })).await;
            let message = answer.body["detail"].as_str().unwrap_or_default();
            assert!(message.contains(instead), "{subject}: {message}");
            assert_eq!(answer.body["details"]["subject"], subject);
            answer.refused(400, "no_tokens");
        }
        // An API key is no token, and the routes that list and end them say so.
        let new = json!({ "name": "ci", "subject": "p:ana" });
        let made = ana.post("/v1/tenants/acme/api-keys", new).await.is(201);
        let ci = town.ops.showing(made.body["key"].as_str().unwrap());
        // All that somebody has: a token says whole seconds, so those of this one stay.
        let before = json!({ "subject": "p:ana", "issued_before": "2001-01-01T00:00:00Z" });
        ana.post(revoke, before).await.is(204);
        ana.get("/v1/tenants/acme").await.is(200);
        ana.post(revoke, json!({ "subject": "p:ana" }))
            .await
            .is(204);
        let answer = ana.get("/v1/tenants/acme").await;
        answer.refused(401, "unauthenticated");
        ci.get("/v1/tenants/acme").await.is(200);
        let keys = town.ops.get("/v1/tenants/acme/api-keys").await.is(200);
        let key = &keys.body["api_keys"][0];
        assert_eq!(key["subject"], "p:ana");
        let path = format!("/v1/tenants/acme/api-keys/{}", key["id"]);
        town.ops.delete(&path).await.is(204);
        let answer = ci.get("/v1/tenants/acme").await;
        answer.refused(401, "unauthenticated");
    });
}

#[test]
fn issuers_are_written_shown_and_forgotten() {
    tell(|town| async move {
        town.found("acme").await.is(201);
        let ana = town.client("acme", "ana").await;
        let path = "/v1/tenants/acme/idp-issuers";
        let issuer = "https://login.example.com/t1/v2.0";
        // As the design of the interface has it.
        let body = json!({
            "issuer": issuer,
            "audiences": ["api://pinion"],
            "discovery_url": null,
            "jwks_url": null,
            "claim_mappings": { "subject_claim": "sub", "groups_claim": "groups" },
        });
        let made = ana.post(path, body).await.is(201);
        let discovery = format!("{issuer}/.well-known/openid-configuration");
        assert_eq!(made.body["discovery_url"], discovery);
        assert_eq!(made.body["algorithms"], json!(["RS256"]));
        let one = "/v1/tenants/acme/idp-issuers/https%3A%2F%2Flogin%2Eexample.com%2Ft1%2Fv2.0";
        let got = ana.get(one).await.is(200);
        assert_eq!(got.body, made.body);
        let changed = json!({ "issuer": issuer, "audiences": ["b", "a"],
            "jwks_url": "https://login.example.com/keys", "algorithms": ["ES256", "RS256", "ES256"] });
        let changed = ana
            .with("if-match", got.etag())
            .post(path, changed)
            .await
            .is(201);
        assert_eq!(changed.body["algorithms"], json!(["RS256", "ES256"]));
        assert!(changed.body["discovery_url"].is_null());
        let listed = ana.get(path).await.is(200);
        assert_eq!(listed.body["idp_issuers"].as_array().unwrap().len(), 2);
        let first = ana.get(&format!("{path}?page_size=1")).await.is(200);
        let token = first.body["next_page_token"].as_str().unwrap();
        let second = ana.get(&format!("{path}?page_token={token}")).await.is(200);
        assert_eq!(second.body["idp_issuers"].as_array().unwrap().len(), 1);
        ana.delete(one).await.is(204);
        ana.get(one).await.refused(404, "not_found");
        ana.delete(one).await.refused(404, "not_found");

        let with = |field: &str, value: Value| {
            let mut body = json!({ "issuer": issuer, "audiences": ["a"] });
            body[field] = value;
            body
        };
        for (wrong, code) in [
            (with("algorithms", json!(["none"])), "bad_algorithm"),
            (with("algorithms", json!(["HS256"])), "bad_algorithm"),
            (with("algorithms", json!([])), "bad_algorithm"),
            (with("audiences", json!([])), "bad_spec"),
            (with("issuer", json!("login.example.com")), "bad_url"),
            (with("issuer", json!("https://a.example/?x=y")), "bad_url"),
            (with("discovery_url", json!("ftp://a.example/")), "bad_url"),
            (
                with("jwks_url", json!("https://user@a.example/")),
                "bad_url",
            ),
            (with("jwks_url", json!("https://2130706433/")), "bad_url"),
            (with("clock_skew_s", json!(301)), "bad_spec"),
            (with("secret", json!("x")), "unknown_field"),
            (
                json!({ "issuer": issuer, "audiences": ["a"], "discovery_url": "https://a.example/d",
                    "jwks_url": "https://a.example/k" }),
                "bad_issuer",
            ),
        ] {
            let answer = ana.post(path, wrong.clone()).await;
            assert_eq!(answer.status, 400, "{wrong}: {answer:#?}");
            assert_eq!(answer.body["code"], code, "{wrong}");
        }
    });
}

#[test]
fn without_a_master_key_or_in_cleartext_nothing_of_identity_is_promised() {
    let (mut config, _driver) = issuing();
    config.identity.master = None;
    config.identity.cleartext_issuers = false;
    let first_days = config
        .bootstrap
        .as_ref()
        .unwrap()
        .listener
        .local_addr()
        .unwrap();
    tell_with(config, |ops, _| async move {
        let founder = Client::new(first_days).with("x-pinion-bootstrap-token", SECRET);
        let body = json!({ "initial_admin_principals": ["p:ana"] });
        let path = "/internal/bootstrap/tenants/acme/initialize";
        founder.post(path, body).await.refused(503, "no_master_key");
        ops.post("/v1/tenants", json!({ "name": "acme" }))
            .await
            .is(201);
        let answer = ops.act("/v1/tenants/acme/keys/rotate").await;
        answer.refused(503, "no_master_key");
        let answer = ops.post("/v1/tenants/acme/token/exchange", json!({})).await;
        answer.refused(503, "no_master_key");
        let body = json!({ "issuer": "http://a.example", "audiences": ["a"] });
        let answer = ops.post("/v1/tenants/acme/idp-issuers", body).await;
        answer.refused(400, "bad_url");
    });
}

#[test]
fn nobody_grants_more_than_where_their_own_right_reaches() {
    tell(|town| async move {
        town.found("acme").await.is(201);
        let ana = town.client("acme", "ana").await;
        let policies = "/v1/tenants/acme/rbac/policies";
        let groupings = "/v1/tenants/acme/rbac/groupings";
        let policy = |subject: &str, action: &str, object: &str| json!({ "policies": [{ "subject": subject, "action": action, "object": object }] });
        let body = json!({ "policies": [
            { "subject": "p:lead", "action": "rbac.*", "object": "namespace:acme/pay" },
            { "subject": "role:reader", "action": "stream.subscribe", "object": "stream:acme/pay/*" },
            { "subject": "role:root", "action": "stream.manage", "object": "tenant:acme" },
        ] });
        let added = ana.post(policies, body.clone()).await.is(201);
        let ids: Vec<u64> = added.body["policies"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["id"].as_u64().unwrap())
            .collect();
        // What is there already stays as it is, under its number.
        let again = ana.post(policies, body).await.is(201);
        assert_eq!(again.body["policies"], added.body["policies"]);

        let lead = town.client("acme", "lead").await;
        let inside = policy("p:bo", "stream.publish", "stream:acme/pay/orders");
        let made = lead.post(policies, inside).await.is(201);
        for object in [
            "stream:acme/ship/x",
            "namespace:acme/*",
            "tenant:acme",
            "stream:acme/*",
        ] {
            let outside = policy("p:bo", "stream.publish", object);
            let answer = lead.post(policies, outside).await;
            answer.refused(403, "outside_scope");
        }
        for (object, code) in [
            ("tenant:*", "bad_object"),
            ("stream:*/*", "bad_object"),
            ("stream:acme/*/x", "bad_object"),
            ("namespace:acme", "bad_object"),
            ("cluster", "outside_tenant"),
            ("tenant:default", "outside_tenant"),
        ] {
            let wrong = policy("p:bo", "stream.publish", object);
            for who in [&lead, &ana] {
                let answer = who.post(policies, wrong.clone()).await;
                assert_eq!(answer.status, 400, "{object}: {answer:#?}");
                assert_eq!(answer.body["code"], code, "{object}");
            }
        }
        let answer = ana
            .post(policies, policy("bo", "stream.publish", "tenant:acme"))
            .await;
        answer.refused(400, "bad_subject");
        let answer = ana
            .post(policies, policy("p:bo", "stream.eat", "tenant:acme"))
            .await;
        answer.refused(400, "bad_action");
        // A part sees its own.
        let seen = lead.get(policies).await.is(200);
        assert_eq!(
            seen.body["policies"].as_array().unwrap().len(),
            3,
            "{seen:#?}"
        );
        let all = ana.get(policies).await.is(200);
        assert!(all.body["policies"].as_array().unwrap().len() > 4);

        // A role is given by who may give all that it holds.
        let give =
            |member: &str, role: &str| json!({ "groupings": [{ "member": member, "role": role }] });
        let given = lead.post(groupings, give("p:bo", "reader")).await.is(201);
        for role in ["root", "admin", "nothing-yet"] {
            let answer = lead.post(groupings, give("p:lead", role)).await;
            answer.refused(403, "outside_scope");
        }
        let answer = ana.post(groupings, give("p:bo", "a/b")).await;
        answer.refused(400, "bad_name");
        lead.get(groupings).await.refused(403, "forbidden");
        assert!(
            ana.get(groupings).await.is(200).body["groupings"]
                .as_array()
                .unwrap()
                .len()
                >= 2
        );

        // What is outside is not taken away either.
        let own = made.body["policies"][0]["id"].as_u64().unwrap();
        let one = |id: u64| format!("{policies}/{id}");
        lead.delete(&one(ids[2]))
            .await
            .refused(403, "outside_scope");
        let both = json!({ "ids": [own, ids[2]] });
        let answer = lead.raw("DELETE", policies, Some(both.to_string())).await;
        answer.refused(403, "outside_scope");
        lead.delete(&one(own)).await.is(204);
        lead.delete(&one(own)).await.refused(404, "not_found");
        ana.delete(&one(u64::MAX)).await.refused(404, "not_found");
        ana.delete(&format!("{policies}/x"))
            .await
            .refused(400, "bad_path");
        ana.delete(&format!("{policies}/007"))
            .await
            .refused(400, "bad_path");
        let row = given.body["groupings"][0]["id"].as_u64().unwrap();
        lead.delete(&format!("{groupings}/{row}")).await.is(204);
        let all = json!({ "ids": ids });
        ana.raw("DELETE", policies, Some(all.to_string()))
            .await
            .is(204);

        // Who has no right to grant grants nothing.
        let body = policy("p:bo", "stream.subscribe", "stream:acme/pay/orders");
        ana.post(policies, body.clone()).await.is(201);
        let bo = town.client("acme", "bo").await;
        bo.post(policies, body).await.refused(403, "forbidden");
        bo.get(policies).await.refused(403, "forbidden");
        bo.post(groupings, give("p:bo", "admin"))
            .await
            .refused(403, "forbidden");
        bo.get("/v1/tenants/acme/idp-issuers")
            .await
            .refused(403, "forbidden");
    });
}

#[test]
fn an_api_key_is_made_by_who_may_give_what_its_subject_may() {
    tell(|town| async move {
        town.found("acme").await.is(201);
        let ana = town.client("acme", "ana").await;
        let allow = |subject, action, object| json!({ "subject": subject, "action": action, "object": object });
        let rows = [
            allow("p:bo", "tenant.manage", "tenant:acme"),
            allow("p:cy", "tenant.manage", "tenant:acme"),
            allow("p:cy", "rbac.assignment.manage", "namespace:acme/pay"),
            allow("p:robot", "stream.publish", "stream:acme/pay/*"),
        ];
        ana.post(
            "/v1/tenants/acme/rbac/policies",
            json!({ "policies": rows }),
        )
        .await
        .is(201);
        let path = "/v1/tenants/acme/api-keys";
        let key = |subject| json!({ "name": "ci", "subject": subject });
        // Who manages the tenant, and gives nobody a role, has no key made of anybody.
        let bo = town.client("acme", "bo").await;
        bo.get(path).await.is(200);
        for subject in ["role:admin", "p:ana", "p:robot", "p:bo"] {
            bo.post(path, key(subject)).await.refused(403, "forbidden");
        }
        // Nor does who gives some of them a key that may do more than that.
        let cy = town.client("acme", "cy").await;
        for subject in ["role:admin", "p:ana", "p:cy", "p:nobody"] {
            cy.post(path, key(subject))
                .await
                .refused(403, "outside_scope");
        }
        cy.post(path, key("p:robot")).await.is(201);
        ana.post(path, key("role:admin")).await.is(201);
        let listed = ana.get(path).await.is(200);
        assert_eq!(listed.body["api_keys"].as_array().unwrap().len(), 2);
    });
}

#[test]
fn an_api_key_is_shown_once_and_counts_until_it_is_deleted() {
    tell(|town| async move {
        town.found("acme").await.is(201);
        let ana = town.client("acme", "ana").await;
        let path = "/v1/tenants/acme/api-keys";
        let body = json!({ "name": "backup", "subject": "p:robot" });
        let numbered = ana.with("x-request-id", "77");
        let made = numbered.post(path, body.clone()).await.is(201);
        let key = made.body["key"].as_str().unwrap();
        assert!(key.starts_with(&format!(
            "pinion_key_{}_",
            made.body["prefix"].as_str().unwrap()
        )));
        // Whoever repeats it gets no key that opens nothing.
        numbered.post(path, body).await.refused(409, "shown_before");
        let machine = town.ops.showing(key);
        machine
            .get("/v1/tenants/acme/idp-issuers")
            .await
            .refused(404, "not_found");
        let role = json!({ "groupings": [{ "member": "p:robot", "role": "admin" }] });
        ana.post("/v1/tenants/acme/rbac/groupings", role)
            .await
            .is(201);
        machine.get("/v1/tenants/acme/idp-issuers").await.is(200);
        let listed = ana.get(path).await.is(200);
        assert!(!listed.body.to_string().contains(&key[20..]), "{listed:#?}");
        assert_eq!(listed.body["api_keys"][0]["name"], "backup");

        let past = json!({ "name": "old", "subject": "p:ana", "expires": "2001-01-01T00:00:00Z" });
        let old = ana.post(path, past).await.is(201);
        let old = town.ops.showing(old.body["key"].as_str().unwrap());
        old.get("/v1/tenants/acme")
            .await
            .refused(401, "unauthenticated");
        for (wrong, code) in [
            (json!({ "name": "", "subject": "p:ana" }), "bad_spec"),
            (json!({ "name": "x", "subject": "ana" }), "bad_subject"),
            (
                json!({ "name": "x", "subject": "p:ana", "expires": "soon" }),
                "bad_time",
            ),
        ] {
            ana.post(path, wrong).await.refused(400, code);
        }
        let id = made.body["id"].as_u64().unwrap();
        ana.delete(&format!("{path}/{id}")).await.is(204);
        let answer = machine.get("/v1/tenants/acme").await;
        answer.refused(401, "unauthenticated");
        ana.delete(&format!("{path}/{id}"))
            .await
            .refused(404, "not_found");
    });
}
