//! Registration: what the agent sends to the registrar, and what it reads of the answers.
//!
//! The registrar isn't trusted with more than a denial: whatever it answers, the worst is that the agent isn't registered.

use core::fmt::{self, Write};

use base64::Engine;
use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use sha2::Sha384;

use super::bytes::{Reader, Truncated};
use super::json::ObjectWriter;
use super::route::{ApiVersion, ApiVersions};
use super::text::{Hex, Uuid};

/// Room for a decoded credential blob: 8 bytes, a `TPM2B_ID_OBJECT` (68 for SHA-256), a `TPM2B_ENCRYPTED_SECRET` (258 for
/// RSA-2048), and what larger keys take.
pub const MAX_BLOB_BYTES: usize = 1024;

/// The body of `POST /v2.x/agents/{uuid}`.
#[derive(Clone, Copy, Debug)]
pub struct Registration<'a> {
    /// Attestation key, marshalled `TPM2B_PUBLIC`.
    pub ak_public: &'a [u8],
    /// Endorsement key, marshalled `TPM2B_PUBLIC`.
    pub ek_public: &'a [u8],
    /// The EK's certificate, DER, if the TPM has one.
    pub ek_certificate: Option<&'a [u8]>,
    /// Where verifier and tenant reach the agent.
    pub ip: &'a str,
    /// The port there.
    pub port: u16,
    /// The agent's own certificate, PEM.
    pub tls_certificate: &'a str,
}

impl Registration<'_> {
    /// Writes the body.
    ///
    /// # Errors
    /// The writer's: no room.
    pub fn write(&self, out: &mut impl Write) -> fmt::Result {
        let base64 = |bytes| Base64Display::new(bytes, &STANDARD);
        let mut body = ObjectWriter::begin(out)?;
        body.text("aik_tpm", base64(self.ak_public))?;
        body.text("ek_tpm", base64(self.ek_public))?;
        body.text_or_null("ekcert", self.ek_certificate.map(base64))?;
        body.null("iak_cert")?;
        body.null("idevid_cert")?;
        body.text("ip", self.ip)?;
        body.number("port", self.port)?;
        body.text("mtls_cert", self.tls_certificate)?;
        body.end()
    }
}

/// The body of `PUT /v2.x/agents/{uuid}`: proof that the TPM opened the credential.
pub struct Activation {
    auth_tag: [u8; 48],
}

impl Activation {
    /// HMAC-SHA384 of the uuid; the key is the credential's base64 *text*.
    ///
    /// Source: Keylime's agent does so, and its registrar compares with it; RFC 2104.
    #[must_use]
    pub fn new(credential: &[u8], uuid: &Uuid) -> Self {
        let mut text = [0; 88];
        let length = STANDARD.encode_slice(credential, &mut text).unwrap_or(0);
        let mut block = [0; 128];
        for (to, from) in block.iter_mut().zip(text.iter().take(length)) {
            *to = *from;
        }
        // A key that fills the hash's block, padded with zeros as RFC 2104 pads it.
        let mut mac = Hmac::<Sha384>::new((&block).into());
        mac.update(uuid.as_str().as_bytes());
        let auth_tag = mac.finalize().into_bytes().into();
        zeroize::Zeroize::zeroize(&mut text);
        zeroize::Zeroize::zeroize(&mut block);
        Self { auth_tag }
    }

    /// Writes the body.
    ///
    /// # Errors
    /// The writer's: no room.
    pub fn write(&self, out: &mut impl Write) -> fmt::Result {
        let mut body = ObjectWriter::begin(out)?;
        body.text("auth_tag", Hex(&self.auth_tag))?;
        body.end()
    }
}

/// What the registrar made for this EK and AK, and only their TPM opens. Both parts are marshalled with their sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CredentialBlob<'a> {
    /// `TPM2B_ID_OBJECT`.
    pub id_object: &'a [u8],
    /// `TPM2B_ENCRYPTED_SECRET`.
    pub secret: &'a [u8],
}

/// Why an answer of the registrar can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AnswerError {
    /// The body isn't the JSON that was expected.
    Json,
    /// The blob is no base64, or larger than [`MAX_BLOB_BYTES`].
    Base64,
    /// The blob ends too early.
    Truncated(Truncated),
    /// The blob doesn't begin with the magic number and version 1.
    Header,
    /// Bytes follow the blob.
    Trailing {
        /// How many.
        extra: usize,
    },
}

impl From<Truncated> for AnswerError {
    fn from(error: Truncated) -> Self {
        Self::Truncated(error)
    }
}

impl fmt::Display for AnswerError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json => out.write_str("the answer is not the JSON that a registrar sends"),
            Self::Base64 => out.write_str("the credential blob is not base64, or too large"),
            Self::Truncated(Truncated { need, have }) => {
                write!(
                    out,
                    "the credential blob is cut short: {need} bytes wanted, {have} there"
                )
            }
            Self::Header => out.write_str("the credential blob has an unknown header"),
            Self::Trailing { extra } => write!(out, "{extra} bytes follow the credential blob"),
        }
    }
}

impl core::error::Error for AnswerError {}

impl<'a> CredentialBlob<'a> {
    /// Reads the answer to a registration, decoding into `buffer`.
    ///
    /// # Errors
    /// [`AnswerError`].
    pub fn from_answer(
        body: &[u8],
        buffer: &'a mut [u8; MAX_BLOB_BYTES],
    ) -> Result<Self, AnswerError> {
        #[derive(Deserialize)]
        struct Answer<'b> {
            #[serde(borrow)]
            results: Results<'b>,
        }
        #[derive(Deserialize)]
        struct Results<'b> {
            blob: &'b str,
        }
        // Borrowed strings come as they stand in the text: an escape isn't base64 and is refused with it.
        let (answer, _) =
            serde_json_core::from_slice::<Answer<'_>>(body).map_err(|_| AnswerError::Json)?;
        let length = STANDARD
            .decode_slice(answer.results.blob, buffer)
            .map_err(|_| AnswerError::Base64)?;
        Self::parse(buffer.get(..length).unwrap_or_default())
    }

    /// Reads a decoded blob: magic, version, and the two parts.
    ///
    /// # Errors
    /// [`AnswerError`], save its variants about JSON and base64.
    pub fn parse(blob: &'a [u8]) -> Result<Self, AnswerError> {
        let mut reader = Reader::new(blob);
        if (reader.u32_be()?, reader.u32_be()?) != (BLOB_MAGIC, BLOB_VERSION) {
            return Err(AnswerError::Header);
        }
        let id_object = marshalled(&mut reader)?;
        let secret = marshalled(&mut reader)?;
        match reader.rest().len() {
            0 => Ok(Self { id_object, secret }),
            extra => Err(AnswerError::Trailing { extra }),
        }
    }
}

/// A `TPM2B` with its size.
fn marshalled<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], Truncated> {
    let whole = reader.rest();
    let inner = reader.sized()?;
    Ok(whole
        .get(..inner.len().saturating_add(2))
        .unwrap_or_default())
}

/// The version to speak with a server, by its answer to `GET /version`: its `current_version` if that is one of `ours`, else
/// the newest common one, else none.
///
/// # Errors
/// [`AnswerError::Json`].
pub fn version_from_answer(
    body: &[u8],
    ours: ApiVersions,
) -> Result<Option<ApiVersion>, AnswerError> {
    #[derive(Deserialize)]
    struct Answer<'b> {
        #[serde(borrow)]
        results: Results<'b>,
    }
    #[derive(Deserialize)]
    struct Results<'b> {
        #[serde(borrow, default)]
        current_version: Option<&'b str>,
        #[serde(borrow, default)]
        supported_versions: heapless::Vec<&'b str, MAX_VERSIONS>,
    }
    let (answer, _) =
        serde_json_core::from_slice::<Answer<'_>>(body).map_err(|_| AnswerError::Json)?;
    let read = |text| ApiVersion::parse(text).filter(|version| ours.contains(*version));
    let current = answer.results.current_version.and_then(read);
    let common = answer.results.supported_versions.iter();
    Ok(current.or_else(|| common.filter_map(|text| read(text)).max()))
}

/// "keylime's blob": the four bytes that its credential blobs begin with.
const BLOB_MAGIC: u32 = 0xBADC_C0DE;
const BLOB_VERSION: u32 = 1;
/// Versions that a server may list; Keylime lists nine.
const MAX_VERSIONS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    const BLOB: [u8; 8 + 3 + 4] = [0xBA, 0xDC, 0xC0, 0xDE, 0, 0, 0, 1, 0, 1, 7, 0, 2, 8, 9];

    #[test]
    fn blobs() {
        let whole = CredentialBlob {
            id_object: &[0, 1, 7],
            secret: &[0, 2, 8, 9],
        };
        assert_eq!(CredentialBlob::parse(&BLOB), Ok(whole));
        for length in 0..BLOB.len() {
            let cut = CredentialBlob::parse(&BLOB[..length]);
            assert!(
                matches!(cut, Err(AnswerError::Truncated(_))),
                "cut to {length}"
            );
        }
        for at in 0..8 {
            let mut blob = BLOB;
            blob[at] ^= 1;
            assert_eq!(CredentialBlob::parse(&blob), Err(AnswerError::Header));
        }
        let mut longer = [0; 16];
        longer[..15].copy_from_slice(&BLOB);
        assert_eq!(
            CredentialBlob::parse(&longer),
            Err(AnswerError::Trailing { extra: 1 })
        );
    }

    #[test]
    fn answers() {
        let cases: [(&str, &str, Result<(), AnswerError>); 6] = [
            (
                "as recorded",
                r#"{"code": 200, "status": "Success", "results": {"blob": "utzA3gAAAAEAAQcAAggJ"}}"#,
                Ok(()),
            ),
            (
                "null",
                r#"{"code": 200, "status": "Success", "results": null}"#,
                Err(AnswerError::Json),
            ),
            (
                "no blob",
                r#"{"code": 200, "status": "Success", "results": {}}"#,
                Err(AnswerError::Json),
            ),
            ("no json", "<html>", Err(AnswerError::Json)),
            ("empty", "", Err(AnswerError::Json)),
            (
                "no base64",
                r#"{"results": {"blob": "ut*A"}}"#,
                Err(AnswerError::Base64),
            ),
        ];
        for (name, body, want) in cases {
            let mut buffer = [0; MAX_BLOB_BYTES];
            let got = CredentialBlob::from_answer(body.as_bytes(), &mut buffer).map(drop);
            assert_eq!(got, want, "{name}");
        }
    }

    #[test]
    fn versions() {
        let cases = [
            (
                r#"{"code":200,"status":"Success","results":{"current_version":"2.6","supported_versions":["1.0","2.0","2.6","3.0"]}}"#,
                Ok(Some("2.6")),
            ),
            (
                r#"{"results":{"current_version":"3.0","supported_versions":["2.1","2.3","3.0"]}}"#,
                Ok(Some("2.3")),
            ),
            (
                r#"{"results":{"supported_versions":["2.4","2.3"]}}"#,
                Ok(Some("2.4")),
            ),
            (r#"{"results":{"current_version":"2.2"}}"#, Ok(Some("2.2"))),
            (
                r#"{"results":{"current_version":"4.0","supported_versions":["4.0"]}}"#,
                Ok(None),
            ),
            (r#"{"code":410,"status":"Gone","results":{}}"#, Ok(None)),
            ("", Err(AnswerError::Json)),
        ];
        for (body, want) in cases {
            let want = want.map(|text| text.and_then(ApiVersion::parse));
            let got = version_from_answer(body.as_bytes(), ApiVersions::all());
            assert_eq!(got, want, "{body}");
        }
    }

    #[test]
    fn versions_that_are_not_ours() {
        let version = |text| ApiVersion::parse(text).unwrap();
        let ours = ApiVersions::only(version("2.1")).with(version("2.3"));
        let cases = [
            (r#"{"results":{"current_version":"2.3"}}"#, Some("2.3")),
            (
                r#"{"results":{"current_version":"2.6","supported_versions":["2.1","2.3","2.6"]}}"#,
                Some("2.3"),
            ),
            (r#"{"results":{"current_version":"2.6"}}"#, None),
        ];
        for (body, want) in cases {
            let got = version_from_answer(body.as_bytes(), ours);
            assert_eq!(got, Ok(want.map(version)), "{body}");
        }
    }

    #[test]
    fn activation_is_keylimes() {
        // hmac.new(base64.b64encode(b"A" * 32), b"d432fbb3", "sha384").hexdigest() in Python.
        let activation = Activation::new(&[b'A'; 32], &Uuid::parse("d432fbb3").unwrap());
        let mut body = heapless::String::<128>::new();
        activation.write(&mut body).unwrap();
        assert_eq!(
            body,
            r#"{"auth_tag":"d52919d199b4046a6d125aeb740a559c9179c21e81e30739c2265aee6431014f0bd83c7eb1f7dffc461ae801d778069d"}"#
        );
    }
}
