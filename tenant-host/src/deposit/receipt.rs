//! Whether a receipt is the node's own word: a quote by the attestation key that the tenant knows, over PCR 16 that holds the
//! receipt's statement.
//!
//! Nothing of a receipt is used before all of that holds. The verifier only keeps it, and can't make one.

use agent_core::wire::manifest::CapPcr;
use agent_core::wire::quote::{Attest, PcrDump, PcrMask, Signature};
use agent_core::wire::receipt::{Receipt, ReceiptError};
use agent_core::wire::statement::{self, CHALLENGE_BYTES, STATEMENT_PCR};
use agent_core::wire::text::Uuid;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use verifier_host::evidence::public::AkPublic;
use verifier_host::evidence::signature;

use super::view::ReceiptView;

/// The longest field of a receipt, in base64; the largest holds values of all PCRs.
const MAX_FIELD_BYTES: usize = 16 << 10;

/// A receipt that holds, and what its quote says beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// What the node said.
    pub receipt: Receipt,
    /// In which boot: resets.
    pub reset_count: u32,
    /// In which boot: restarts.
    pub restart_count: u32,
    /// Whether the boot was capped then; `None` if another PCR than the one that is asked about was to be.
    pub capped: Option<bool>,
}

/// Why a receipt doesn't hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiptFault {
    /// A field is no base64, or too long.
    #[error("its {field} isn't base64 of a size that it can have")]
    Encoding {
        /// Which field.
        field: &'static str,
    },
    /// It is no receipt.
    #[error("{0}")]
    Receipt(ReceiptError),
    /// It is another node's.
    #[error("it is of the node {have}")]
    AnotherNode {
        /// Whose it is.
        have: String,
    },
    /// What goes with it is no quote.
    #[error("its {part} is malformed")]
    Malformed {
        /// Which part of the quote.
        part: &'static str,
    },
    /// Another key signed it, or it was changed.
    #[error("its quote isn't signed by the node's attestation key")]
    Signature,
    /// It answers another challenge.
    #[error("its quote answers another challenge")]
    Challenge,
    /// The quote lacks a PCR.
    #[error("its quote lacks PCR {pcr}")]
    Selection {
        /// Which one.
        pcr: u8,
    },
    /// The values aren't those that the TPM signed.
    #[error("the PCR values beside it aren't the ones that the TPM signed")]
    Values,
    /// PCR 16 holds something else.
    #[error("PCR 16 doesn't hold it")]
    Statement,
}

/// Checks a receipt of this node. `cap` is the cap PCR of the deposit whose receipt it is, if that is known.
///
/// # Errors
/// [`ReceiptFault`]: the first thing that doesn't hold.
pub fn check(
    ak: &AkPublic,
    agent: &Uuid,
    view: &ReceiptView,
    cap: impl FnOnce(&Receipt) -> Option<CapPcr>,
) -> Result<Checked, ReceiptFault> {
    let bytes = decode("receipt", &view.receipt)?;
    let challenge = decode("challenge", &view.challenge)?;
    if challenge.len() != CHALLENGE_BYTES {
        return Err(ReceiptFault::Encoding { field: "challenge" });
    }
    let (dump, message, signature) = (
        decode("subject_data", &view.subject_data)?,
        decode("message", &view.message)?,
        decode("signature", &view.signature)?,
    );
    let malformed = |part| move || ReceiptFault::Malformed { part };
    let signed = Signature::parse(&signature).map_err(|_| malformed("signature")())?;
    if !signature::holds(ak, &message, &signed) {
        return Err(ReceiptFault::Signature);
    }
    let attest = Attest::parse(&message).map_err(|_| malformed("message")())?;
    if attest.extra_data != challenge {
        return Err(ReceiptFault::Challenge);
    }
    let dump = PcrDump::parse(&dump).map_err(|_| malformed("subject_data")())?;
    let same = (dump.bank(), dump.pcrs()) == (attest.bank, attest.pcrs);
    if !same || dump.digest(ak.hash_alg()).as_slice() != attest.pcr_digest {
        return Err(ReceiptFault::Values);
    }
    must_quote(attest.pcrs, STATEMENT_PCR)?;
    let digest = statement::receipt(attest.bank, agent, &challenge, &bytes);
    let wanted = statement::pcr_value(attest.bank, &digest);
    if dump.value(STATEMENT_PCR) != Some(wanted.as_slice()) {
        return Err(ReceiptFault::Statement);
    }
    let receipt = Receipt::parse(&bytes).map_err(ReceiptFault::Receipt)?;
    if receipt.agent != *agent {
        let have = receipt.agent.to_string();
        return Err(ReceiptFault::AnotherNode { have });
    }
    let capped = match cap(&receipt) {
        Some(cap) => {
            must_quote(attest.pcrs, cap.pcr)?;
            let value = dump.value(cap.pcr).unwrap_or_default();
            Some(!cap.is_uncapped(value))
        }
        None => None,
    };
    Ok(Checked {
        receipt,
        reset_count: attest.clock.reset_count,
        restart_count: attest.clock.restart_count,
        capped,
    })
}

fn decode(field: &'static str, text: &str) -> Result<Vec<u8>, ReceiptFault> {
    let fits = text.len() <= MAX_FIELD_BYTES;
    let bytes = fits.then(|| BASE64.decode(text).ok()).flatten();
    bytes.ok_or(ReceiptFault::Encoding { field })
}

fn must_quote(pcrs: PcrMask, pcr: u8) -> Result<(), ReceiptFault> {
    if pcrs.contains(pcr) {
        Ok(())
    } else {
        Err(ReceiptFault::Selection { pcr })
    }
}

#[cfg(test)]
mod tests;
