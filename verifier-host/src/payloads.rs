//! Payloads that wait for nodes that call by themselves: what is deposited, who gets V, what came of it.
//!
//! [`deposit`] says what is taken, [`decide`] who gets V, neither with a socket or a clock; [`vault`] keeps the sealed bytes, of
//! which nobody here has the key. The rules stand in `agent-core/docs/agent-driven.md`.

pub mod boot;
pub mod decide;
pub mod deposit;
pub mod vault;

pub use boot::Boot;
pub use deposit::{Deposit, Draft, DraftError, Spent};
pub use vault::Vault;
