//! The keyhalf tenant: it seals secrets to a node that it knows, and hands out the two halves of their key.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`cli`] | arguments, configuration, and which command runs |
//! | [`ca`] | the certificate authority: one directory |
//! | [`seal`] | the package and its key |
//! | [`trust`] | endorsement keys: trust store and known keys |
//! | [`policy`] | runtime and measured-boot policies, checked before they are sent |
//! | [`client`] | what registrar, verifier and agent are asked, and what they answer |
//! | [`deposit`] | payloads that lie at the verifier: sealing, terms, receipts; sans-IO |
//! | [`delivery`] | which half, what next; sans-IO |
//! | [`commands`] | the commands, each from its question to its report |
//! | [`report`] | what is printed, for people and as JSON |
#![forbid(unsafe_code)]

pub mod ca;
pub mod cli;
pub mod client;
pub mod commands;
pub mod delivery;
pub mod deposit;
mod error;
pub mod policy;
pub mod report;
pub mod seal;
pub mod trust;

pub use error::{Exit, Failure, RotateError};
