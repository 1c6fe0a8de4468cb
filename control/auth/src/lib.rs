//! Who somebody is: credentials in, principals out.
//!
//! Pure: keys, fetched documents, randomness and the time are arguments, and nothing here
//! opens a socket, reads a clock or keeps a thread. What each form of credential looks like,
//! byte by byte, is in `docs/identity.md`.
//!
//! Tokens of identity providers begin at [`jose`] and end at [`upstream::check`]; the keys
//! that check them are a [`jwk::KeySet`].

#![forbid(unsafe_code)]

pub mod error;
pub mod jose;
mod json;
pub mod jwk;
mod lifetime;
pub mod upstream;

pub use error::AuthError;
