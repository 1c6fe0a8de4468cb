//! `pinion admin bootstrap`: the first administrators of a tenant.

use std::path::PathBuf;

use hyper::Method;
use serde_json::json;

use super::draft::Draft;
use super::{Context, node};
use crate::failure::Failure;
use crate::http::{Ask, Bearer};
use crate::value;

/// The header with the secret of the first day.
const SECRET: &str = "x-pinion-bootstrap-token";

/// Who is to administer a tenant. --server names the bootstrap listener of a node, which is off
/// unless its configuration says otherwise.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct BootstrapArgs {
    /// The tenant; it is made if it is not there
    #[arg(value_name = "TENANT", value_parser = value::segment)]
    name: String,
    /// File with the secret that the node was configured with
    #[arg(long, value_name = "FILE")]
    secret: PathBuf,
    /// An administrator, like `p:ana` or `g:ops`; repeatable
    #[arg(long = "admin", value_name = "SUBJECT", required = true)]
    admins: Vec<String>,
    /// The tenant's name in tables
    #[arg(long, value_name = "TEXT")]
    display_name: Option<String>,
    /// `iss` of the identity provider that the tenant believes [default: none]
    #[arg(long, value_name = "ISSUER", requires = "audiences")]
    issuer: Option<String>,
    /// What `aud` of its tokens must name; repeatable
    #[arg(long = "audience", value_name = "AUD", requires = "issuer")]
    audiences: Vec<String>,
    /// Where its keys are [default: as its discovery document says]
    #[arg(long, value_name = "URL", requires = "issuer")]
    jwks_url: Option<String>,
    /// What its tokens may be signed with, like RS256; repeatable [default: the node's]
    #[arg(long = "algorithm", value_name = "ALG", requires = "issuer")]
    algorithms: Vec<String>,
    /// The claim of its tokens that lists groups
    #[arg(long, value_name = "CLAIM", requires = "issuer")]
    groups_claim: Option<String>,
}

impl BootstrapArgs {
    pub(super) async fn run(&self, context: &mut Context) -> Result<(), Failure> {
        let issuers = self.issuer.as_ref().map(|issuer| {
            let mut draft = Draft::default();
            draft
                .set("issuer", Some(issuer.as_str()))
                .set("audiences", Some(self.audiences.clone()))
                .set("jwks_url", self.jwks_url.as_deref())
                .set(
                    "algorithms",
                    (!self.algorithms.is_empty()).then(|| self.algorithms.clone()),
                )
                .set("claim_mappings.groups_claim", self.groups_claim.as_deref());
            json!([draft.value()])
        });
        let mut draft = Draft::default();
        draft
            .set("display_name", self.display_name.as_deref())
            .set("idp_issuers", issuers)
            .set("initial_admin_principals", Some(self.admins.clone()));
        let path = ["internal", "bootstrap", "tenants", &self.name, "initialize"];
        let ask = Ask::new(Method::POST, &path)
            .body(draft.value())
            .bearer(Bearer::Nobody)
            .header(SECRET, node::secret(&self.secret)?);
        let what = format!("tenant {}", self.name);
        context.change(&ask, &what, "initialized").await?;
        Ok(())
    }
}
