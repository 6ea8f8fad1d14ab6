//! The shape of Keylime's 2.x answers: `{"code", "status", "results"}`.

use serde::{Deserialize, Serialize};

/// An answer. An error keeps the shape, with its HTTP status in `code` and the reason in `status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope<T> {
    /// The HTTP status.
    pub code: u16,
    /// `Success`, or why not.
    pub status: String,
    /// What was asked for; `null` or `{}` where there is nothing to say.
    pub results: T,
}

impl<T> Envelope<T> {
    /// The answer to what worked.
    #[must_use]
    pub fn success(results: T) -> Self {
        Self {
            code: 200,
            status: "Success".to_owned(),
            results,
        }
    }
}

/// Results with nothing in them, as `{}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nothing {}

/// The API versions that registrar, verifier and tenant of this project speak, oldest first.
pub const API_VERSIONS: &[&str] = &["2.1", "2.2", "2.3", "2.4", "2.5", "2.6"];

/// The versions that the verifier lists: [`API_VERSIONS`] for tenants, and the agent-driven 3.0.
pub const VERIFIER_VERSIONS: &[&str] = &["2.1", "2.2", "2.3", "2.4", "2.5", "2.6", "3.0"];

/// The newest of [`API_VERSIONS`].
pub const CURRENT_VERSION: &str = "2.6";
