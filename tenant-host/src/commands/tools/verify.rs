//! `policy verify`: whether a runtime policy is signed by a key, and is one.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use verifier_host::policy::runtime::RuntimePolicy;

use crate::error::Failure;
use crate::policy::tool::{self, ToolError};
use crate::report::Report;

/// What is checked, and by which key.
#[derive(Clone, Debug, Args)]
pub struct Arguments {
    /// The signed policy (DSSE).
    #[arg(value_name = "FILE")]
    pub policy: PathBuf,

    /// The ECDSA public key that must have signed it, or its certificate; PEM.
    #[arg(short, long, value_name = "FILE")]
    pub key: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> Result<Report, Failure> {
    let key = tool::read_key(&arguments.key)?;
    let bytes = tool::read_policy(&arguments.policy)?;
    let policy = RuntimePolicy::read(&bytes, Some(&key)).map_err(|source| ToolError::Runtime {
        path: arguments.policy.clone(),
        source,
    })?;
    let text = format!(
        "{} is signed by {}: a runtime policy with {} files and {} excludes",
        arguments.policy.display(),
        arguments.key.display(),
        policy.digests.len(),
        policy.excludes.texts().len()
    );
    let json = json!({
        "signed": true,
        "digests": policy.digests.len(),
        "excludes": policy.excludes.texts().len(),
        "keyrings": policy.keyrings.len(),
        "ima-buf": policy.buffers.len(),
        "sha256": crate::policy::sha256(&bytes),
    });
    Ok(Report::done(text, json))
}
