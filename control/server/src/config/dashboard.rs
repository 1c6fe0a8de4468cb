//! `[dashboard]`: whom people log in with besides tokens.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How people log in to the dashboard of this node.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Dashboard {
    /// How browsers reach it: scheme, host and perhaps port. Providers send them back there.
    pub(crate) public_url: Option<String>,
    pub(crate) oidc: Vec<Oidc>,
}

/// One identity provider.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Oidc {
    /// It stands in paths.
    pub(crate) id: String,
    /// What people call it; its id where nothing is said.
    pub(crate) label: Option<String>,
    /// Whose issuer it is, by its name.
    pub(crate) tenant: String,
    /// Its `iss`, as the tenant has it.
    pub(crate) issuer: String,
    /// What it knows this node by; also an audience of that issuer.
    pub(crate) client_id: String,
    /// The secret that goes with it, if it is no public client.
    pub(crate) client_secret_file: Option<PathBuf>,
    /// What is asked for.
    #[serde(default = "openid")]
    pub(crate) scopes: Vec<String>,
}

fn openid() -> Vec<String> {
    vec!["openid".to_owned()]
}
