//! `pinion admin idp`: identity providers whose tokens can be exchanged.

use hyper::Method;

use super::Context;
use super::draft::Draft;
use super::list::{ListArgs, Rows};
use super::view::{Form, View};
use crate::confirm::confirm;
use crate::failure::Failure;
use crate::http::Ask;
use crate::human::{Align, Table};

const ISSUERS: View = View {
    table: Table(&[
        ("ISSUER", 40, Align::Left),
        ("AUDIENCES", 24, Align::Left),
        ("ALGORITHMS", 18, Align::Left),
        ("VERSION", 10, Align::Right),
    ]),
    cells: &[
        ("/issuer", Form::Plain),
        ("/audiences", Form::Plain),
        ("/algorithms", Form::Plain),
        ("/version", Form::Plain),
    ],
};

#[derive(Clone, Debug, clap::Subcommand)]
pub(super) enum Verb {
    /// The identity providers that the tenant believes
    List(ListArgs),
    /// What is believed of one
    Get {
        /// Its `iss`
        #[arg(value_name = "ISSUER")]
        issuer: String,
    },
    /// Believe an identity provider, or change what is believed of it
    Put(Put),
    /// Believe it no more; tokens that were exchanged before end by themselves
    Delete {
        /// Its `iss`
        #[arg(value_name = "ISSUER")]
        issuer: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// What is believed of an identity provider.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Put {
    /// Its `iss`, like `https://login.example.com/`
    #[arg(value_name = "ISSUER")]
    issuer: String,
    /// What `aud` must name; repeatable, one of them is enough
    #[arg(long = "audience", value_name = "AUD", required = true)]
    audiences: Vec<String>,
    /// Where its discovery document is [default: below ISSUER]
    #[arg(long, value_name = "URL", conflicts_with = "jwks_url")]
    discovery_url: Option<String>,
    /// Where its keys are, without a discovery document
    #[arg(long, value_name = "URL")]
    jwks_url: Option<String>,
    /// What its tokens may be signed with, like RS256; repeatable [default: the node's]
    #[arg(long = "algorithm", value_name = "ALG")]
    algorithms: Vec<String>,
    /// The claim that says who it is [default: sub]
    #[arg(long, value_name = "CLAIM")]
    subject_claim: Option<String>,
    /// The claim that lists groups [default: groups do not count]
    #[arg(long, value_name = "CLAIM")]
    groups_claim: Option<String>,
    /// By how many seconds its clock may be off [default: the node's]
    #[arg(long, value_name = "SECONDS")]
    clock_skew: Option<u16>,
}

impl Verb {
    pub(super) async fn run(&self, context: &mut Context) -> Result<(), Failure> {
        match self {
            Self::List(list) => {
                let mut rows = Rows::new(ISSUERS, list.limit);
                let ask = Ask::get(&context.in_tenant(&["idp-issuers"]));
                rows.follow(context, &ask, "idp_issuers", list, |_| ())
                    .await?;
                rows.end(context);
                Ok(())
            }
            Self::Get { issuer } => {
                let ask = Ask::get(&context.in_tenant(&["idp-issuers", issuer]));
                context.show(&ask).await
            }
            Self::Put(put) => {
                let some = |list: &[String]| (!list.is_empty()).then(|| list.to_vec());
                let mut draft = Draft::default();
                draft
                    .set("issuer", Some(put.issuer.as_str()))
                    .set("audiences", some(&put.audiences))
                    .set("discovery_url", put.discovery_url.as_deref())
                    .set("jwks_url", put.jwks_url.as_deref())
                    .set("algorithms", some(&put.algorithms))
                    .set("claim_mappings.subject_claim", put.subject_claim.as_deref())
                    .set("claim_mappings.groups_claim", put.groups_claim.as_deref())
                    .set("clock_skew_s", put.clock_skew);
                let ask = Ask::post(&context.in_tenant(&["idp-issuers"]), draft.value());
                let what = format!("issuer {}", put.issuer);
                context.change(&ask, &what, "believed").await?;
                Ok(())
            }
            Self::Delete { issuer, yes } => {
                let what = format!("issuer {issuer}");
                confirm(&format!("Believe {what} no more?"), *yes)?;
                let path = context.in_tenant(&["idp-issuers", issuer]);
                let ask = Ask::new(Method::DELETE, &path);
                context.change(&ask, &what, "deleted").await?;
                Ok(())
            }
        }
    }
}
