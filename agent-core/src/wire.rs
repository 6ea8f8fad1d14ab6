//! Shapes of what travels, shared by agent, verifier and tenant.

pub mod bytes;
pub mod form;
pub mod json;
pub mod limits;
pub mod quote;
pub mod register;
pub mod route;
pub mod text;
