//! What becomes of a node that fails, and of those that hear of it.

mod actions;
mod kills;
mod lists;
mod log;
mod operator;
mod peers;
mod push;
mod receivers;
mod ssh;
mod webhook;
