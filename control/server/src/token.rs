//! `pinion token`: a bearer token and the lines that grant it.

use std::process::ExitCode;

use pinion_node::access::TokenDigest;

use crate::identity::{hex, mint};

/// What the token is for.
#[derive(clap::Args)]
pub(crate) struct TokenArgs {
    /// Name of its holder, for logs
    #[arg(long)]
    name: String,
    /// What it may do: read, write, admin
    #[arg(long, value_delimiter = ',', default_values = ["read", "write"])]
    permissions: Vec<String>,
    /// In which namespace; '**' is every one
    #[arg(long, default_value = "**")]
    namespace: String,
}

pub(crate) fn run(args: &TokenArgs) -> ExitCode {
    let token = mint();
    let digest = hex(&TokenDigest::of(token.as_bytes()).0);
    // The token goes to standard output alone, so that it can be piped into a
    // file; the configuration keeps only its digest.
    println!("{token}");
    eprintln!("# the token is on standard output and is not kept anywhere; give it to the client");
    eprintln!("# put these lines into the node's configuration file:");
    eprintln!("[[token]]");
    eprintln!("name = {:?}", args.name);
    eprintln!("sha256 = \"{digest}\"");
    let permissions: Vec<String> = args.permissions.iter().map(|p| format!("{p:?}")).collect();
    eprintln!(
        "grants = [{{ permissions = [{}], namespace = {:?} }}]",
        permissions.join(", "),
        args.namespace
    );
    ExitCode::SUCCESS
}
