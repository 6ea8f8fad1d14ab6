//! The keyhalf tenant: it seals secrets to a node that it knows, and hands out the two halves of their key.
#![forbid(unsafe_code)]

pub mod agent_id;
pub mod ca;
