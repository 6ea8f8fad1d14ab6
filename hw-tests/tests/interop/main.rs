//! keyhalf among Keylime's own programs: registrar, verifier and tenant 7.14.3.
//!
//! Keylime's agent is in no package registry, so the node is always ours; what Keylime's agent says is held by recorded
//! traffic (`vectors/traffic`).

mod cells;
mod certificates;
mod command_line;
mod event_logs;
mod lifecycle;
mod measured;
mod policies;
mod push;
mod steps;
mod traffic;
mod variants;
