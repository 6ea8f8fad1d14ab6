//! Shapes of what travels, shared by agent, verifier and tenant.

pub mod bytes;
pub mod form;
pub mod json;
pub mod limits;
pub mod log;
pub mod manifest;
pub mod push;
pub mod quote;
pub mod receipt;
pub mod register;
pub mod route;
pub mod statement;
pub mod text;
