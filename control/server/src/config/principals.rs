//! `[[token]]`: who may connect, and what they may do.

use pinion_node::access::{Grant, Permissions, Principal, Scope, TenantId, TokenDigest};
use serde::{Deserialize, Serialize};

use super::ConfigError;
use super::resources::{KindWord, first_tenant};

/// One bearer token, as its SHA-256.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Token {
    pub(crate) name: String,
    pub(crate) sha256: String,
    #[serde(default = "first_tenant")]
    pub(crate) tenant: u64,
    /// Whether its holder may do everything that administrators can, in every tenant.
    #[serde(default)]
    pub(crate) operator: bool,
    pub(crate) grants: Vec<GrantText>,
}

/// One grant as people write it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GrantText {
    pub(crate) permissions: Vec<PermissionWord>,
    pub(crate) kind: Option<KindWord>,
    #[serde(default = "anything")]
    pub(crate) namespace: String,
    #[serde(default = "anything")]
    pub(crate) name: String,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PermissionWord {
    Read,
    Write,
    Admin,
}

fn anything() -> String {
    "**".to_owned()
}

impl Token {
    pub(super) fn compile(&self) -> Result<(TokenDigest, Principal), ConfigError> {
        let digest = parse_digest(&self.sha256).ok_or_else(|| ConfigError::Value {
            key: "token.sha256",
            value: self.sha256.clone(),
            expected: "64 hexadecimal digits; `pinion token` prints a token and its digest",
        })?;
        let grants = self
            .grants
            .iter()
            .map(GrantText::compile)
            .collect::<Result<_, _>>()?;
        let principal = Principal {
            name: self.name.clone(),
            tenant: TenantId(self.tenant),
            grants,
        };
        Ok((digest, principal))
    }
}

fn parse_digest(text: &str) -> Option<TokenDigest> {
    let text = text.as_bytes();
    let mut digest = [0; 32];
    if text.len() != 64 {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(text.chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *byte = u8::try_from(high * 16 + low).ok()?;
    }
    Some(TokenDigest(digest))
}

impl GrantText {
    fn compile(&self) -> Result<Grant, ConfigError> {
        let scope = |key, text: &String| {
            Scope::parse(text).map_err(|_| ConfigError::Value {
                key,
                value: text.clone(),
                expected: "'**', 'a/b' or 'a/b/**'",
            })
        };
        let permissions = self
            .permissions
            .iter()
            .fold(Permissions::NONE, |all, word| {
                all.and(match word {
                    PermissionWord::Read => Permissions::READ,
                    PermissionWord::Write => Permissions::WRITE,
                    PermissionWord::Admin => Permissions::ADMIN,
                })
            });
        Ok(Grant {
            permissions,
            kind: self.kind.map(KindWord::kind),
            namespace: scope("token.grants.namespace", &self.namespace)?,
            name: scope("token.grants.name", &self.name)?,
        })
    }
}
