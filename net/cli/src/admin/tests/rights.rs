//! Who may do what: policies, identity providers, tokens, keys.

use super::{Server, check, json, reply_of, run, words};

#[tokio::test]
async fn policies_and_groupings() {
    check(r#"
        $ pinion admin rbac policy add g:billing stream.publish stream:acme/pay/* --tenant acme
        > POST /v1/tenants/acme/rbac/policies {"policies":[{"subject":"g:billing","action":"stream.publish","object":"stream:acme/pay/*"}]}
        < 201 @4 {}
        g:billing may stream.publish on stream:acme/pay/*: added, version 4
    "#).await;
    check(
        r#"
        $ pinion admin rbac policy list
        > GET /v1/tenants/default/rbac/policies?page_size=1000
        < 200 {"policies":[{"id":3,"subject":"p:ana","action":"*","object":"tenant:default"}]}
              ID  SUBJECT                       ACTION                OBJECT
               3  p:ana                         *                     tenant:default
    "#,
    )
    .await;
    check(
        r#"
        $ pinion admin rbac policy remove 3 4 --yes
        > DELETE /v1/tenants/default/rbac/policies {"ids":[3,4]}
        < 404 {"code":"not_found","message":"there is no policy/default/4"}
        ! there is no policy/default/4 (not_found)
    "#,
    )
    .await;
    check(
        r#"
        $ pinion admin rbac grouping add p:ana role:reader
        > POST /v1/tenants/default/rbac/groupings {"groupings":[{"member":"p:ana","role":"reader"}]}
        < 201 {"version":9}
        p:ana has role reader: added, version 9
    "#,
    )
    .await;
    check(
        r#"
        $ pinion admin rbac grouping list --json
        > GET /v1/tenants/default/rbac/groupings?page_size=1000
        < 200 {"groupings":[{"id":1,"member":"p:ana","role":"role:reader"}]}
        {"id":1,"member":"p:ana","role":"role:reader"}
    "#,
    )
    .await;
    check(
        r#"
        $ pinion admin rbac grouping remove 1 --yes
        > DELETE /v1/tenants/default/rbac/groupings {"ids":[1]}
        < 204
        grouping 1: removed
    "#,
    )
    .await;
}

#[tokio::test]
async fn identity_providers() {
    check(r#"
        $ pinion admin idp put https://login.example/v2 --audience api://pinion --audience other --jwks-url https://login.example/keys --algorithm RS256 --groups-claim groups --clock-skew 30
        > POST /v1/tenants/default/idp-issuers {"issuer":"https://login.example/v2","audiences":["api://pinion","other"],"jwks_url":"https://login.example/keys","algorithms":["RS256"],"claim_mappings":{"groups_claim":"groups"},"clock_skew_s":30}
        < 201 @5 {}
        issuer https://login.example/v2: believed, version 5
    "#).await;
    check(r#"
        $ pinion admin idp list
        > GET /v1/tenants/default/idp-issuers?page_size=1000
        < 200 {"idp_issuers":[{"issuer":"https://a","audiences":["x","y"],"algorithms":["RS256"],"version":5}]}
        ISSUER                                    AUDIENCES                 ALGORITHMS             VERSION
        https://a                                 x,y                       RS256                        5
    "#).await;
    check(
        r#"
        $ pinion admin idp get https://a
        > GET /v1/tenants/default/idp-issuers/https%3A%2F%2Fa
        < 200 {"issuer":"https://a"}
        issuer  https://a
    "#,
    )
    .await;
    check(
        r#"
        $ pinion admin idp delete https://a/ --yes
        > DELETE /v1/tenants/default/idp-issuers/https%3A%2F%2Fa%2F
        < 204
        issuer https://a/: deleted
    "#,
    )
    .await;
}

#[tokio::test]
async fn keys() {
    check(r#"
        $ pinion admin key create invoices --subject p:invoices --expires 2027-01-01T00:00:00Z
        > POST /v1/tenants/default/api-keys {"name":"invoices","subject":"p:invoices","expires":"2027-01-01T00:00:00Z"}
        < 201 {"id":1,"key":"pinion_key_01234567_x"}
        pinion_key_01234567_x
    "#).await;
    check(r#"
        $ pinion admin key list
        > GET /v1/tenants/default/api-keys?page_size=1000
        < 200 {"api_keys":[{"id":1,"prefix":"01234567","subject":"p:invoices","name":"invoices","expires":null}]}
              ID  PREFIX    SUBJECT                   EXPIRES                   NAME
               1  01234567  p:invoices                -                         invoices
    "#).await;
    check(
        r#"
        $ pinion admin key revoke 1 --yes
        > DELETE /v1/tenants/default/api-keys/1
        < 204
        API key 1: revoked
    "#,
    )
    .await;
    check(
        r#"
        $ pinion admin keys rotate
        > POST /v1/tenants/default/keys/rotate
        < 200 @9 {"kids":["a","b"]}
        keys of default: rotated, version 9
    "#,
    )
    .await;
    check(
        r#"
        $ pinion admin keys show
        > GET /v1/tenants/default/.well-known/jwks.json
        < 200 {"keys":[{"kty":"OKP","kid":"k1","alg":"EdDSA","crv":"Ed25519","x":"abc"}]}
        KID                               ALG    PUBLIC KEY
        k1                                EdDSA  abc
    "#,
    )
    .await;
}

#[tokio::test]
async fn a_key_that_is_told_once_is_asked_for_once() {
    let lost = super::Reply {
        lost: true,
        ..super::Reply::default()
    };
    let server = Server::start(vec![lost, reply_of(r#"201 {"key":"x"}"#)]).await;
    let (_, failure) = run(&server, "pinion admin key create k --subject p:k").await;
    assert!(failure.is_some_and(|why| why.contains("was lost")));
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn tokens() {
    check(r#"
        $ pinion admin token revoke --jti 0123456789abcdef0123456789abcdef --expires 2026-01-02T03:04:05Z --yes
        > POST /v1/tenants/default/tokens/revoke {"jti":"0123456789abcdef0123456789abcdef","expires":"2026-01-02T03:04:05Z"}
        < 204
        token 0123456789abcdef0123456789abcdef: revoked
    "#).await;
    check(r#"
        $ pinion admin token revoke --subject p:ana --issued-before 2026-01-02T03:04:05Z --yes
        > POST /v1/tenants/default/tokens/revoke {"subject":"p:ana","issued_before":"2026-01-02T03:04:05Z"}
        < 204
        tokens of p:ana: revoked
          note: API keys that speak for p:ana count on: `pinion admin key list` has them, `pinion admin key revoke ID` ends one
    "#).await;
    let server = Server::start(vec![reply_of(
        r#"200 {"access_token":"a.b.c","expires_in":900}"#,
    )])
    .await;
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("upstream");
    std::fs::write(&file, " up.stream.token \n").expect("written");
    let line = format!(
        "pinion admin token exchange {} --tenant acme --request stream.publish --resource stream:acme/pay/*",
        file.display()
    );
    let (out, failure) = run(&server, &line).await;
    assert_eq!((out.as_str(), failure), ("a.b.c\n", None));
    let asked = &server.asked()[0];
    assert_eq!(asked.target, "/v1/tenants/acme/token/exchange");
    assert_eq!(
        asked.header("authorization"),
        Some("Bearer up.stream.token")
    );
    assert_eq!(
        asked.body,
        Some(json(
            r#"{"requested":["stream.publish"],"resources":["stream:acme/pay/*"]}"#
        ))
    );
    for line in [
        "pinion admin token revoke --yes",
        "pinion admin token revoke --jti x --yes",
        "pinion admin token revoke --jti x --expires 1d --subject p:a --yes",
    ] {
        let parsed = <super::Cli as clap::Parser>::try_parse_from(words(line));
        assert!(parsed.is_err(), "{line}");
    }
}

#[tokio::test]
async fn the_first_day() {
    let server = Server::start(vec![reply_of(r#"201 @1 {"tenant":"acme"}"#)]).await;
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("secret");
    std::fs::write(&file, "first day\n").expect("written");
    let line = format!(
        "pinion admin bootstrap acme --secret {} --admin p:alice --issuer https://a --audience x",
        file.display()
    );
    let (out, failure) = run(&server, &line).await;
    assert_eq!(
        (out.as_str(), failure),
        ("tenant acme: initialized, version 1\n", None)
    );
    let asked = &server.asked()[0];
    assert_eq!(asked.target, "/internal/bootstrap/tenants/acme/initialize");
    assert_eq!(asked.header("authorization"), None);
    assert_eq!(asked.header("x-pinion-bootstrap-token"), Some("first day"));
    assert_eq!(
        asked.body,
        Some(json(
            r#"{"idp_issuers":[{"issuer":"https://a","audiences":["x"]}],"initial_admin_principals":["p:alice"]}"#
        ))
    );
}
