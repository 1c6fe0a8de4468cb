//! Who somebody is and what they may do: credentials in, principals and grants out.
//!
//! Pure: keys, fetched documents, randomness and the time are arguments, and nothing here
//! opens a socket, reads a clock or keeps a thread. What each form of credential looks like,
//! byte by byte, is in `docs/identity.md`.
//!
//! Tokens of identity providers begin at [`exchange`] and end at [`upstream::check`]; the keys
//! that check them are a [`jwk::KeySet`], which [`jwks_cache`] has fetched. How a browser comes
//! by one is in [`login`]. Our own are made by
//! a [`sign::SigningKey`] and read by [`token`]; a tenant's keys are a [`keyring::Keyring`], at
//! rest under [`seal`]. Workloads with certificates are [`spiffe::SpiffeId`]s. What every core
//! holds against a credential is the table of [`compile`]; what its holder may do are
//! [`rights::Rights`], by the tenant's [`policies`] or by what a token says. Static tokens have
//! theirs in the table of [`access`].

#![forbid(unsafe_code)]

pub mod access;
pub mod address;
pub mod api_key;
pub mod compile;
pub mod error;
pub mod exchange;
mod facts;
mod hex;
pub mod jose;
mod json;
pub mod jwk;
pub mod jwks_cache;
pub mod keyring;
mod lifetime;
pub mod login;
pub mod policies;
pub mod provider;
pub mod rights;
pub mod seal;
pub mod sign;
pub mod spiffe;
pub mod token;
pub mod upstream;

pub use error::AuthError;

/// A tenant's number. It comes from the credential, never from a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantId(pub u64);
