//! The API as nodes and tenants meet it, with a TPM of software and a clock that a test sets.

mod access;
mod flow;
mod logs;
mod refusals;
mod revocations;
mod world;
