//! `[tls]`.

use std::path::PathBuf;

use pinion_auth::spiffe::SpiffeId;
use serde::{Deserialize, Serialize};

use super::ConfigError;

/// Certificate of the node, and whose certificates of clients count.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Tls {
    /// PEM chain, leaf first. With `key`, or neither: then the node makes its own
    /// under `DIR/tls` and clients trust `DIR/tls/ca.pem`.
    pub(crate) cert: Option<PathBuf>,
    /// PEM key, ECDSA or Ed25519.
    pub(crate) key: Option<PathBuf>,
    /// PEM of who signs for clients. Whoever shows such a certificate needs no token.
    pub(crate) client_ca: Option<PathBuf>,
    pub(crate) client: Vec<Clients>,
}

/// Whose the workloads of one trust domain are.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Clients {
    /// As in `spiffe://{trust_domain}/…`.
    pub(crate) trust_domain: String,
    /// By its name.
    pub(crate) tenant: String,
    /// Ids of this domain that may do everything that administrators can, in every tenant.
    #[serde(default)]
    pub(crate) operators: Vec<String>,
}

impl Tls {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.cert.is_some() != self.key.is_some() {
            return Err(ConfigError::HalfTls);
        }
        if self.client_ca.is_some() == self.client.is_empty() {
            return Err(ConfigError::HalfClients);
        }
        for (at, one) in self.client.iter().enumerate() {
            one.check()?;
            let before = &self.client[..at];
            if before.iter().any(|b| b.trust_domain == one.trust_domain) {
                return Err(ConfigError::Value {
                    key: "tls.client.trust_domain",
                    value: one.trust_domain.clone(),
                    expected: "each domain once: all of its workloads are of one tenant",
                });
            }
        }
        Ok(())
    }

    /// Trust domains and the names of their tenants.
    pub(super) fn domains(&self) -> Vec<(Box<str>, Box<str>)> {
        let pair = |one: &Clients| (one.trust_domain.as_str().into(), one.tenant.as_str().into());
        self.client.iter().map(pair).collect()
    }

    /// Ids of workloads that run the cluster.
    pub(super) fn operators(&self) -> Vec<Box<str>> {
        let ids = self.client.iter().flat_map(|one| &one.operators);
        ids.map(|id| id.as_str().into()).collect()
    }
}

impl Clients {
    fn check(&self) -> Result<(), ConfigError> {
        let domain = |id: &SpiffeId| id.trust_domain() == self.trust_domain;
        let some = SpiffeId::parse(&format!("spiffe://{}/workload", self.trust_domain));
        if !some.as_ref().is_ok_and(domain) {
            return Err(ConfigError::Value {
                key: "tls.client.trust_domain",
                value: self.trust_domain.clone(),
                expected: "a trust domain like cluster.local: a-z, 0-9, '.', '-' and '_'",
            });
        }
        let in_tenant = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let is_name = |name: &str| {
            !name.is_empty() && name.bytes().all(|byte| in_tenant(byte) || byte == b'-')
        };
        if !is_name(&self.tenant) {
            return Err(ConfigError::Value {
                key: "tls.client.tenant",
                value: self.tenant.clone(),
                expected: "the name of a tenant",
            });
        }
        for id in &self.operators {
            if !SpiffeId::parse(id).as_ref().is_ok_and(domain) {
                return Err(ConfigError::Value {
                    key: "tls.client.operators",
                    value: id.clone(),
                    expected: "ids of this trust domain: spiffe://DOMAIN/PATH",
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clients(trust_domain: &str, tenant: &str, operators: &[&str]) -> Clients {
        Clients {
            trust_domain: trust_domain.to_owned(),
            tenant: tenant.to_owned(),
            operators: operators.iter().map(ToString::to_string).collect(),
        }
    }

    fn refused(tls: &Tls) -> String {
        tls.check().expect_err("nonsense").to_string()
    }

    #[test]
    fn who_signs_for_clients_and_whose_they_are_is_said_together_and_once() {
        let tls = |client: Vec<Clients>| Tls {
            client_ca: Some(PathBuf::from("clients.pem")),
            client,
            ..Tls::default()
        };
        let ops = "spiffe://cluster.local/ops";
        let shop = clients("cluster.local", "shop", &[ops]);
        let good = tls(vec![shop.clone(), clients("example.org", "default", &[])]);
        good.check().expect("good");
        assert_eq!(good.domains()[0], ("cluster.local".into(), "shop".into()));
        assert_eq!(good.operators(), [ops.into()]);

        assert!(refused(&tls(Vec::new())).contains("go together"));
        let without_ca = Tls {
            client: vec![shop.clone()],
            ..Tls::default()
        };
        assert!(refused(&without_ca).contains("go together"));
        for (wrong, word) in [
            (vec![shop.clone(), shop], "each domain once"),
            (
                vec![clients("Cluster", "shop", &[])],
                "trust_domain = 'Cluster'",
            ),
            (vec![clients("a/b", "shop", &[])], "trust_domain = 'a/b'"),
            (vec![clients("a", "Shop", &[])], "tenant = 'Shop'"),
            (vec![clients("a", "shop", &[ops])], "operators = 'spiffe://"),
        ] {
            let said = refused(&tls(wrong));
            assert!(said.contains(word), "{said}");
        }
    }
}
