//! `policy sign`: a runtime policy in a signed envelope.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::json;
use verifier_host::policy::runtime::RuntimePolicy;

use crate::error::Failure;
use crate::policy::sign::{KeyName, PolicySigner, SignError};
use crate::policy::tool::{self, Target, ToolError};
use crate::report::Report;

/// What is signed, by which key.
#[derive(Clone, Debug, Args)]
pub struct Arguments {
    /// The runtime policy.
    #[arg(value_name = "FILE")]
    pub policy: PathBuf,

    /// The private key: ECDSA P-256, PEM.
    #[arg(short, long, value_name = "FILE", required_unless_present = "keygen")]
    pub key: Option<PathBuf>,

    /// Make a key, and write it to this file, readable by its owner alone.
    #[arg(long, value_name = "FILE", conflicts_with = "key")]
    pub keygen: Option<PathBuf>,

    /// How the envelope names the key: by its hash, or by a certificate.
    #[arg(short, long, value_enum, default_value_t = Backend::Ecdsa)]
    pub backend: Backend,

    /// The key's certificate, PEM. One that isn't there is made.
    #[arg(short, long, value_name = "FILE", required_if_eq("backend", "x509"))]
    pub cert: Option<PathBuf>,

    /// Write the public key too, which `policy verify` and `--runtime-policy-sig-key` take.
    #[arg(long, value_name = "FILE")]
    pub public_key: Option<PathBuf>,

    /// Where the signed policy goes.
    #[command(flatten)]
    pub target: Target,
}

/// Keylime's names of the two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// By its hash.
    Ecdsa,
    /// By a certificate.
    X509,
}

pub(super) fn run(arguments: &Arguments) -> Result<Report, Failure> {
    let target = &arguments.target;
    target.check()?;
    let bytes = tool::read_policy(&arguments.policy)?;
    let policy = RuntimePolicy::read(&bytes, None).map_err(|source| {
        let path = arguments.policy.clone();
        ToolError::Runtime { path, source }
    })?;
    let (path, signer) = signer(arguments)?;
    let failed = |source| ToolError::Sign {
        path: path.to_owned(),
        source,
    };
    let name = key_name(arguments, &signer, path)?;
    if let Some(public) = &arguments.public_key {
        let pem = signer.public_pem().map_err(failed)?;
        // It says the same each time.
        let output = Target {
            output: Some(public.clone()),
            force: true,
        };
        output.write(&|out| out.write_all(pem.as_bytes()))?;
    }
    let envelope = signer.sign(&bytes, &name).map_err(failed)?;
    let shown = target.write(&|out| writeln!(out, "{envelope}"))?;
    if let (Some(_), Ok(json)) = (shown, serde_json::from_str(&envelope)) {
        return Ok(Report::done(envelope, json));
    }
    let output = target.output.as_deref().unwrap_or(Path::new("")).display();
    let text = format!(
        "{output}: signed by {}, a runtime policy with {} files",
        path.display(),
        policy.digests.len()
    );
    let json = json!({ "output": output.to_string(), "digests": policy.digests.len(), "key": path.display().to_string() });
    Ok(Report::done(text, json))
}

fn signer(arguments: &Arguments) -> Result<(&Path, PolicySigner), ToolError> {
    match (&arguments.key, &arguments.keygen) {
        (Some(path), _) => Ok((path, PolicySigner::read(path)?)),
        (None, Some(path)) => {
            let made = PolicySigner::generate();
            let signer = made.map_err(|source| ToolError::Sign {
                path: path.clone(),
                source,
            })?;
            signer.write_new(path)?;
            Ok((path, signer))
        }
        (None, None) => Err(ToolError::NoSource("--key, --keygen")),
    }
}

fn key_name(
    arguments: &Arguments,
    signer: &PolicySigner,
    key: &Path,
) -> Result<KeyName, ToolError> {
    let Some(path) = arguments
        .cert
        .as_ref()
        .filter(|_| arguments.backend == Backend::X509)
    else {
        return Ok(KeyName::Key);
    };
    let failed = |source| ToolError::Sign {
        path: key.to_owned(),
        source,
    };
    if path.exists() {
        let pem = String::from_utf8(tool::read_bounded(path, 64 << 10)?);
        return pem
            .map(KeyName::Certificate)
            .map_err(|error| failed(SignError::Library(error.to_string())));
    }
    let pem = signer.certificate().map_err(failed)?;
    let output = Target {
        output: Some(path.clone()),
        force: false,
    };
    output.write(&|out| out.write_all(pem.as_bytes()))?;
    Ok(KeyName::Certificate(pem))
}
