//! Payloads: the deposit that waits for this node, its release, and the receipt.

use core::fmt::{self, Write};

use base64::Engine;
use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;

use super::attestation::Evidence;
use super::{PushError, decode, member};
use crate::wire::json::{ObjectWriter, Value};
use crate::wire::manifest::{MAX_MANIFEST_BYTES, PayloadId};
use crate::wire::statement::RELEASE_KEY_BYTES;

/// The longest signature of a manifest: ECDSA P-256 in DER takes 72 bytes.
pub const MAX_MANIFEST_SIGNATURE_BYTES: usize = 80;

/// The longest certificate of a signing key, DER; the tenant's take 500 to 1200 bytes.
pub const MAX_SIGNER_BYTES: usize = 2048;

/// The longest blob that holds U: a `TPM2B_ID_OBJECT` (68 bytes) and a `TPM2B_ENCRYPTED_SECRET` (258 for RSA-2048).
pub const MAX_U_BLOB_BYTES: usize = 512;

/// What is deposited for this node, decoded and not checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deposit<'b> {
    /// Which deposit, by the verifier's word.
    pub payload_id: PayloadId,
    /// The manifest's bytes.
    pub manifest: &'b [u8],
    /// The signature over them.
    pub signature: &'b [u8],
    /// The certificate of the key that is said to have signed.
    pub signer: &'b [u8],
    /// U, wrapped.
    pub u_blob: &'b [u8],
}

/// Room for a decoded deposit.
pub struct DepositBuffer {
    manifest: [u8; MAX_MANIFEST_BYTES + SPARE],
    signature: [u8; MAX_MANIFEST_SIGNATURE_BYTES + SPARE],
    signer: [u8; MAX_SIGNER_BYTES + SPARE],
    u_blob: [u8; MAX_U_BLOB_BYTES + SPARE],
}

impl Default for DepositBuffer {
    fn default() -> Self {
        Self {
            manifest: [0; MAX_MANIFEST_BYTES + SPARE],
            signature: [0; MAX_MANIFEST_SIGNATURE_BYTES + SPARE],
            signer: [0; MAX_SIGNER_BYTES + SPARE],
            u_blob: [0; MAX_U_BLOB_BYTES + SPARE],
        }
    }
}

impl<'b> Deposit<'b> {
    /// Reads the answer to `GET /v3.0/agents/{id}/payload`, decoding into `buffer`.
    ///
    /// # Errors
    /// [`PushError`].
    pub fn from_answer(body: &[u8], buffer: &'b mut DepositBuffer) -> Result<Self, PushError> {
        let root = Value::parse(body)?;
        let text = |name| root.member(name).and_then(Value::text);
        let id = text("payload_id").and_then(PayloadId::parse);
        let read = |name, out: &'b mut [u8]| {
            let limit = out.len().saturating_sub(SPARE);
            let decoded = text(name).and_then(|text| decode(text, out));
            member(name, decoded.filter(|bytes| bytes.len() <= limit))
        };
        Ok(Self {
            payload_id: member("payload_id", id)?,
            manifest: read("manifest", &mut buffer.manifest)?,
            signature: read("signature", &mut buffer.signature)?,
            signer: read("signer", &mut buffer.signer)?,
            u_blob: read("u_blob", &mut buffer.u_blob)?,
        })
    }
}

/// The body of `POST /v3.0/agents/{id}/payload/release`.
#[derive(Clone, Copy, Debug)]
pub struct ReleaseRequest<'a> {
    /// The attestation whose quote holds the key.
    pub attestation: u64,
    /// The payload.
    pub payload_id: PayloadId,
    /// What V is to be sealed to.
    pub release_key: &'a [u8; RELEASE_KEY_BYTES],
}

impl ReleaseRequest<'_> {
    /// Writes the body.
    ///
    /// # Errors
    /// The writer's: no room.
    pub fn write<W: Write + ?Sized>(&self, out: &mut W) -> fmt::Result {
        let mut body = ObjectWriter::begin(out)?;
        body.number("attestation", self.attestation)?;
        body.text("payload_id", self.payload_id)?;
        body.text(
            "release_key",
            Base64Display::new(self.release_key, &STANDARD),
        )?;
        body.end()
    }
}

/// Reads the answer to a request for release: which payload it is of, and V as it was sealed.
///
/// # Errors
/// [`PushError`].
pub fn released_from_answer<const N: usize>(
    body: &[u8],
) -> Result<(PayloadId, [u8; N]), PushError> {
    let root = Value::parse(body)?;
    let text = |name| root.member(name).and_then(Value::text);
    let id = text("payload_id").and_then(PayloadId::parse);
    // Decoded in quanta of three bytes, of which the last may be a part.
    let mut buffer = [0; 128];
    let v = text("v").and_then(|text| {
        let length = STANDARD.decode_slice(text, &mut buffer).ok()?;
        buffer.get(..length)?.try_into().ok()
    });
    Ok((member("payload_id", id)?, member("v", v)?))
}

/// The body of `POST /v3.0/agents/{id}/payload/receipt`.
#[derive(Clone, Copy, Debug)]
pub struct ReceiptMessage<'a> {
    /// The receipt's bytes.
    pub receipt: &'a [u8],
    /// The quote that stands for it.
    pub quote: Evidence<'a>,
}

impl ReceiptMessage<'_> {
    /// Writes the body.
    ///
    /// # Errors
    /// The writer's: no room.
    pub fn write<W: Write + ?Sized>(&self, out: &mut W) -> fmt::Result {
        let mut body = ObjectWriter::begin(out)?;
        body.text("receipt", Base64Display::new(self.receipt, &STANDARD))?;
        self.quote.write_parts(&mut body)?;
        body.end()
    }
}

/// A decoder asks for room for whole quanta of base64.
const SPARE: usize = 2;

#[cfg(test)]
mod tests {
    extern crate std;

    use std::format;
    use std::string::String;

    use super::*;

    fn answer(manifest: &[u8], signature: &[u8], signer: &[u8], u_blob: &[u8]) -> String {
        let base64 = |bytes| STANDARD.encode(bytes);
        format!(
            r#"{{"payload_id":"0102030405060708","manifest":"{}","signature":"{}","signer":"{}","u_blob":"{}","more":[null]}}"#,
            base64(manifest),
            base64(signature),
            base64(signer),
            base64(u_blob)
        )
    }

    #[test]
    fn deposits() {
        let mut buffer = DepositBuffer::default();
        let body = answer(&[1; MAX_MANIFEST_BYTES], b"s", b"c", b"u");
        let deposit = Deposit::from_answer(body.as_bytes(), &mut buffer).unwrap();
        assert_eq!(deposit.payload_id, PayloadId([1, 2, 3, 4, 5, 6, 7, 8]));
        assert_eq!(deposit.manifest.len(), MAX_MANIFEST_BYTES);
        assert_eq!(
            (deposit.signature, deposit.signer, deposit.u_blob),
            (&b"s"[..], &b"c"[..], &b"u"[..])
        );
        for (name, body) in [
            (
                "manifest",
                answer(&[1; MAX_MANIFEST_BYTES + 1], b"s", b"c", b"u"),
            ),
            ("signature", answer(b"m", &[1; 81], b"c", b"u")),
            ("signer", answer(b"m", b"s", &[1; 2049], b"u")),
            ("u_blob", answer(b"m", b"s", b"c", &[1; 513])),
            ("payload_id", String::from("{}")),
        ] {
            let read = Deposit::from_answer(body.as_bytes(), &mut buffer);
            assert_eq!(read, Err(PushError::Member { name }));
        }
    }

    #[test]
    fn releases() {
        let mut body = String::new();
        let request = ReleaseRequest {
            attestation: 7,
            payload_id: PayloadId([1; 8]),
            release_key: &[0; 32],
        };
        request.write(&mut body).unwrap();
        assert_eq!(
            body,
            r#"{"attestation":7,"payload_id":"0101010101010101","release_key":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}"#
        );
        for (length, fits) in [(80, true), (79, false), (81, false)] {
            let v = STANDARD.encode(std::vec![3; length]);
            let answer = format!(r#"{{"payload_id":"0101010101010101","v":"{v}"}}"#);
            let read = released_from_answer::<80>(answer.as_bytes());
            assert_eq!(read.is_ok(), fits, "{length}");
        }
    }
}
