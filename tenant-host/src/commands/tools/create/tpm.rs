//! `policy create tpm`: what PCRs hold now is what they must hold.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use agent_core::wire::quote::{HashAlg, PcrMask};
use agent_core::wire::text::Hex;
use clap::{Args, ValueEnum};
use serde_json::Value;
use verifier_host::evidence::quote::{Challenge, TRANSPORT_PCR, check};
use verifier_host::policy::tpm::TpmPolicy;

use crate::cli::{Settings, node_arguments};
use crate::client::IntegrityQuote;
use crate::commands::greet::{Greeting, Place};
use crate::commands::{Context, agree};
use crate::error::Failure;
use crate::policy::create::{PcrList, Values, parse_pcrread, write_tpm_policy};
use crate::policy::tool::{self, Target, ToolError};
use crate::report::{Output, Report};

/// The largest output of `tpm2_pcrread`.
const MAX_PCRREAD_BYTES: usize = 1 << 20;

/// Which PCRs, and where their values come from.
#[derive(Clone, Debug, Args)]
pub struct Arguments {
    /// The PCRs: numbers and ranges, such as 0-4,7.
    #[arg(long, value_name = "PCRS")]
    pub pcrs: PcrList,

    /// Of the node with this identifier, by a quote: its registered TPM signs what its PCRs hold now.
    #[arg(short, long, value_name = "UUID", required_unless_present = "pcrread")]
    pub uuid: Option<String>,

    /// Of a file with what `tpm2_pcrread` prints; `-` is standard input. Nothing proves whose values they are.
    #[arg(long, value_name = "FILE", conflicts_with = "uuid")]
    pub pcrread: Option<PathBuf>,

    /// The bank in that file. A node's is the one that it quotes.
    #[arg(long, value_enum, default_value_t = Bank::Sha256, requires = "pcrread")]
    pub bank: Bank,

    /// Where the policy goes.
    #[command(flatten)]
    pub target: Target,

    /// Options for reaching registrar and node, as `keyhalf-tenant --help` has them: -r, -rp, -t, --tls-dir, --ek-hash, ...
    #[arg(last = true, value_name = "OPTION")]
    pub options: Vec<OsString>,
}

/// Banks that quotes are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Bank {
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl From<Bank> for HashAlg {
    fn from(bank: Bank) -> Self {
        match bank {
            Bank::Sha256 => Self::Sha256,
            Bank::Sha384 => Self::Sha384,
            Bank::Sha512 => Self::Sha512,
        }
    }
}

pub(super) async fn run(arguments: &Arguments, output: &Output) -> Result<Report, Failure> {
    refuse_reserved(arguments.pcrs.0)?;
    arguments.target.check()?;
    let values = match &arguments.pcrread {
        Some(path) => {
            let text = tool::read_bounded(path, MAX_PCRREAD_BYTES)?;
            let text = String::from_utf8_lossy(&text);
            let values = parse_pcrread(&text, arguments.bank.into(), arguments.pcrs.0);
            values.map_err(|source| {
                let path = path.clone();
                ToolError::PcrRead { path, source }
            })?
        }
        None => quoted(arguments, output).await?,
    };
    let policy = write_tpm_policy(&values);
    let text = policy.to_string();
    if arguments
        .target
        .write(&|out| writeln!(out, "{text}"))?
        .is_some()
    {
        return Ok(Report::done(text, policy));
    }
    let lines = values
        .iter()
        .map(|(pcr, value)| format!("PCR {pcr}: {}", Hex(value)));
    Ok(Report::done(lines.collect::<Vec<_>>().join("\n"), policy))
}

/// PCRs that no policy may fix are refused before anybody is asked: by the rule that the verifier has.
fn refuse_reserved(pcrs: PcrMask) -> Result<(), ToolError> {
    let zeros = "00".repeat(HashAlg::Sha256.digest_bytes());
    let fields = pcrs
        .iter()
        .map(|pcr| (pcr.to_string(), Value::from(zeros.as_str())));
    let text = Value::Object(fields.collect()).to_string();
    match TpmPolicy::parse(&text) {
        Ok(policy) if policy.is_empty() => Err(ToolError::NoSource("--pcrs")),
        Ok(_) => Ok(()),
        Err(error) => Err(ToolError::Pcrs(error)),
    }
}

/// The values that a node's TPM signs for a fresh nonce. Its keys are judged as before a delivery.
async fn quoted(arguments: &Arguments, output: &Output) -> Result<Values, Failure> {
    let uuid = arguments.uuid.as_deref().unwrap_or_default();
    let node = node_arguments(uuid, &arguments.options).map_err(ToolError::Options)?;
    let settings = Arc::new(Settings::read(&node)?);
    let mut context = Context::new(&node, &settings, output)?;
    let (uuid, record) = context.registered().await?;
    let keys = agree::check_keys(&uuid, &record, &settings, node.expected_ek()?)?;
    let place = Place::find(&node, &uuid, &record).await?;
    let first = agree::random_text()?;
    let greeted = Greeting::exchange(
        &place,
        &uuid,
        &context.credentials,
        context.limits,
        node.version()?,
        &first,
    );
    let mut agent = greeted.await?.agent;
    let nonce = agree::random_text()?;
    let pcrs = arguments.pcrs.0;
    let answer: IntegrityQuote = agent.integrity(&nonce, pcrs).await?;
    let refused = |reason: String| Failure::Identity {
        agent: agent.endpoint().to_string(),
        uuid: uuid.to_string(),
        reason,
    };
    if !settings.accept_hash.contains(&answer.hash_alg) {
        return Err(refused(format!(
            "it quotes bank {:?}, which accept_tpm_hash_algs doesn't have",
            answer.hash_alg
        )));
    }
    let bank = HashAlg::from_name(&answer.hash_alg).ok_or_else(|| {
        refused(format!(
            "its hash_alg {:?} is none that quotes can have",
            answer.hash_alg
        ))
    })?;
    let challenge = Challenge {
        nonce: &nonce,
        bank,
        pcrs,
        transport_pem: &answer.pubkey,
        previous: None,
    };
    let quoted =
        check(&keys.ak, &answer.quote, &challenge).map_err(|error| refused(error.to_string()))?;
    output.say(&format!("{uuid} signed these values of bank {}: what it booted now is what the policy wants from it", bank.name()));
    let wanted = |pcr: u8| pcrs.contains(pcr) && pcr != TRANSPORT_PCR;
    Ok(quoted
        .pcrs
        .values()
        .iter()
        .filter(|(pcr, _)| wanted(*pcr))
        .cloned()
        .collect())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]
mod tests {
    use verifier_host::policy::tpm::PolicyError;

    use super::*;

    #[test]
    fn reserved_pcrs_are_refused_before_anybody_is_asked() {
        let refused = |text: &str| refuse_reserved(text.parse::<PcrList>().unwrap().0);
        assert!(refused("0-9,11").is_ok());
        for text in ["10", "16", "0-23"] {
            let error = refused(text).unwrap_err();
            assert!(
                matches!(error, ToolError::Pcrs(PolicyError::Reserved { .. })),
                "{text}"
            );
        }
    }
}
