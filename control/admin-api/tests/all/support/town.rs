//! A cluster in which tokens are issued: a provider, a master key, and a tenant that had its
//! first day.

use core::net::SocketAddr;
use std::sync::Arc;

use pinion_admin_api::idp::{Driver, Fetcher, exchanges};
use pinion_admin_api::{ApiConfig, Bootstrap, Identity, PlaneHandle};
use pinion_auth::access::TokenDigest;
use pinion_auth::seal::MasterKey;
use rustls::RootCertStore;
use serde_json::{Value, json};

use super::oidc::{Provider, Signer};
use crate::host::Host;
use crate::http::{Answered, Client, config, tell_with};
use crate::idp::loopback;

pub(crate) const MASTER: [u8; 32] = [0x4d; 32];
/// The secret of the first day.
pub(crate) const SECRET: &str = "only operators have this";

/// Where a story takes place.
pub(crate) struct Town {
    /// Speaks for the operator.
    pub(crate) ops: Client,
    pub(crate) plane: PlaneHandle,
    /// The listener of first days.
    pub(crate) first_days: SocketAddr,
    pub(crate) provider: Provider,
    /// Signs the provider's tokens.
    pub(crate) signer: Signer,
}

/// An API that issues tokens, and what asks providers for it.
pub(crate) fn issuing() -> (ApiConfig, Driver) {
    let fetcher = Fetcher::new(RootCertStore::empty(), loopback());
    let (exchanges, driver) = exchanges(fetcher);
    let config = ApiConfig {
        identity: Identity {
            exchanges: Some(exchanges),
            master: Some(Arc::new(MasterKey::new(&MASTER))),
            cleartext_issuers: true,
        },
        bootstrap: Some(Bootstrap {
            listener: std::net::TcpListener::bind("127.0.0.1:0").unwrap(),
            secret: TokenDigest::of(SECRET.as_bytes()),
        }),
        ..config()
    };
    (config, driver)
}

/// Tells a story in which tokens are issued.
pub(crate) fn tell<F: Future<Output = ()>>(story: impl FnOnce(Town) -> F) -> Host {
    let (config, driver) = issuing();
    let bootstrap = config.bootstrap.as_ref().unwrap();
    let first_days = bootstrap.listener.local_addr().unwrap();
    tell_with(config, |ops, plane| async move {
        tokio::spawn(driver.run());
        let signer = Signer::new(1);
        let provider = Provider::start(&signer).await;
        story(Town {
            ops,
            plane,
            first_days,
            provider,
            signer,
        })
        .await;
    })
}

impl Town {
    /// What the provider is for a tenant.
    pub(crate) fn issuer(&self) -> Value {
        json!({
            "issuer": self.provider.issuer(),
            "audiences": ["pinion"],
            "algorithms": ["EdDSA"],
            "claim_mappings": { "groups_claim": "groups" },
        })
    }

    /// Whoever has the secret.
    pub(crate) fn founder(&self) -> Client {
        let client = Client::new(self.first_days).showing_nothing();
        client.with("x-pinion-bootstrap-token", SECRET)
    }

    /// The first day of a tenant that `ana` administers.
    pub(crate) async fn found(&self, tenant: &str) -> Answered {
        let path = format!("/internal/bootstrap/tenants/{tenant}/initialize");
        let body = json!({
            "display_name": "Tenant One",
            "idp_issuers": [self.issuer()],
            "initial_admin_principals": ["p:ana"],
        });
        self.founder().post(&path, body).await
    }

    /// A token of the provider.
    pub(crate) fn upstream(&self, who: &str, groups: &[&str]) -> String {
        let issuer = self.provider.issuer();
        self.signer.token(&issuer, "pinion", who, groups)
    }

    /// Shows a token of the provider, or whatever else, for one of ours.
    pub(crate) async fn exchange(&self, tenant: &str, upstream: &str, body: Value) -> Answered {
        let path = format!("/v1/tenants/{tenant}/token/exchange");
        self.ops.showing(upstream).post(&path, body).await
    }

    /// Somebody with a token of ours for everything that they may.
    pub(crate) async fn client(&self, tenant: &str, who: &str) -> Client {
        let token = self.token(tenant, who).await;
        self.ops.showing(token)
    }

    pub(crate) async fn token(&self, tenant: &str, who: &str) -> String {
        let upstream = self.upstream(who, &[]);
        let given = self.exchange(tenant, &upstream, json!({})).await.is(200);
        given.body["access_token"].as_str().unwrap().to_owned()
    }
}
