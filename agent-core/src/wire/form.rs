//! Bodies that are posted to the agent, read as they arrive: each known member once, of its kind, of its size.

mod decoder;

use core::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::json::{Fields, JsonError, Kind, ObjectReader};
use super::text::parse_hex;
use decoder::Decoder;

/// The longest ciphertext of a key half: RSA-4096.
pub const MAX_CIPHERTEXT_BYTES: usize = 512;

/// The body of `keys/ukey`, `{encrypted_key, auth_tag, payload?}`.
pub struct UKey<V> {
    /// U, encrypted to the transport key.
    pub encrypted_key: heapless::Vec<u8, MAX_CIPHERTEXT_BYTES>,
    /// What K must give for this agent's uuid.
    pub auth_tag: [u8; 48],
    /// The sealed payload, if one came.
    pub sealed: Option<Sealed<V>>,
}

/// A sealed payload in its vault.
pub struct Sealed<V> {
    /// The vault; the payload stands at its beginning.
    pub vault: V,
    /// The payload's length in bytes.
    pub length: usize,
    /// SHA-256 of the sealed bytes.
    pub sha256: [u8; 32],
}

/// The body of `keys/vkey`, `{encrypted_key}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VKey {
    /// V, encrypted to the transport key.
    pub encrypted_key: heapless::Vec<u8, MAX_CIPHERTEXT_BYTES>,
}

/// Why a body isn't what its route takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FormError {
    /// No flat JSON object.
    Json,
    /// A member that must be there isn't.
    Missing {
        /// Its name.
        name: &'static str,
    },
    /// A member comes twice.
    Doubled {
        /// Its name.
        name: &'static str,
    },
    /// A member isn't a string, or no UTF-8.
    NotText {
        /// Its name.
        name: &'static str,
    },
    /// A member is longer than it can be.
    TooLong {
        /// Its name.
        name: &'static str,
    },
    /// A member isn't base64.
    Base64 {
        /// Its name.
        name: &'static str,
    },
    /// `auth_tag` isn't 48 bytes of hex.
    AuthTag,
    /// The payload is larger than its vault.
    PayloadTooLarge,
}

impl fmt::Display for FormError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json => out.write_str("the body is no flat JSON object"),
            Self::Missing { name } => write!(out, "{name} is missing"),
            Self::Doubled { name } => write!(out, "{name} comes twice"),
            Self::NotText { name } => write!(out, "{name} is no text"),
            Self::TooLong { name } => write!(out, "{name} is too long"),
            Self::Base64 { name } => write!(out, "{name} is no base64"),
            Self::AuthTag => out.write_str("auth_tag is not 48 bytes of hex"),
            Self::PayloadTooLarge => out.write_str(
                "the payload is larger than this agent takes (agent/info says how much)",
            ),
        }
    }
}

impl core::error::Error for FormError {}

impl From<JsonError<FormError>> for FormError {
    fn from(error: JsonError<Self>) -> Self {
        match error {
            JsonError::Field(error) => error,
            _ => Self::Json,
        }
    }
}

/// Collects the body of `keys/ukey`; the payload's base64 is decoded into the vault as it arrives, wherever it stands in
/// the object.
pub struct UKeyForm<V> {
    reader: ObjectReader,
    fields: UKeyFields<V>,
}

struct UKeyFields<V> {
    current: Option<&'static str>,
    encrypted_key: TextField<MAX_CIPHERTEXT_TEXT>,
    auth_tag: TextField<96>,
    payload: Member,
    decoder: Decoder,
    vault: V,
}

impl<V: AsMut<[u8]>> UKeyForm<V> {
    /// A form that decodes into this vault, which bounds the payload.
    pub fn new(vault: V) -> Self {
        Self {
            reader: ObjectReader::new(),
            fields: UKeyFields {
                current: None,
                encrypted_key: TextField::default(),
                auth_tag: TextField::default(),
                payload: Member::default(),
                decoder: Decoder::default(),
                vault,
            },
        }
    }

    /// The next bytes of the body.
    ///
    /// # Errors
    /// [`FormError`].
    pub fn feed(&mut self, chunk: &[u8]) -> Result<(), FormError> {
        Ok(self.reader.feed(chunk, &mut self.fields)?)
    }

    /// The body has ended.
    ///
    /// # Errors
    /// [`FormError`].
    pub fn finish(self) -> Result<UKey<V>, FormError> {
        let Self { reader, fields } = self;
        reader.finish::<FormError>()?;
        let sealed = match fields.payload.text(PAYLOAD) {
            Ok(()) => {
                let (length, sha256) = fields.decoder.finish()?;
                let vault = fields.vault;
                Some(Sealed {
                    vault,
                    length,
                    sha256,
                })
            }
            Err(_) => None,
        };
        let tag = fields.auth_tag.text(AUTH_TAG)?;
        Ok(UKey {
            encrypted_key: decode_key(&fields.encrypted_key)?,
            auth_tag: parse_hex(tag).ok_or(FormError::AuthTag)?,
            sealed,
        })
    }
}

impl<V: AsMut<[u8]>> Fields for UKeyFields<V> {
    type Error = FormError;

    fn begin(&mut self, name: &str) -> Result<(), FormError> {
        self.current = match name {
            ENCRYPTED_KEY => Some(self.encrypted_key.begin(ENCRYPTED_KEY)?),
            AUTH_TAG => Some(self.auth_tag.begin(AUTH_TAG)?),
            PAYLOAD => Some(self.payload.begin(PAYLOAD)?),
            _ => None,
        };
        Ok(())
    }

    fn text(&mut self, piece: &[u8]) -> Result<(), FormError> {
        match self.current {
            Some(PAYLOAD) => self.decoder.feed(piece, self.vault.as_mut()),
            Some(AUTH_TAG) => self.auth_tag.push(AUTH_TAG, piece),
            Some(name) => self.encrypted_key.push(name, piece),
            None => Ok(()),
        }
    }

    fn end(&mut self, kind: Kind) -> Result<(), FormError> {
        match self.current {
            Some(PAYLOAD) => self.payload.end(PAYLOAD, kind),
            Some(AUTH_TAG) => self.auth_tag.end(AUTH_TAG, kind),
            Some(name) => self.encrypted_key.end(name, kind),
            None => Ok(()),
        }
    }
}

/// Collects the body of `keys/vkey`.
#[derive(Default)]
pub struct VKeyForm {
    reader: ObjectReader,
    fields: VKeyFields,
}

#[derive(Default)]
struct VKeyFields {
    current: Option<&'static str>,
    encrypted_key: TextField<MAX_CIPHERTEXT_TEXT>,
}

impl VKeyForm {
    /// An empty form.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The next bytes of the body.
    ///
    /// # Errors
    /// [`FormError`].
    pub fn feed(&mut self, chunk: &[u8]) -> Result<(), FormError> {
        Ok(self.reader.feed(chunk, &mut self.fields)?)
    }

    /// The body has ended.
    ///
    /// # Errors
    /// [`FormError`].
    pub fn finish(self) -> Result<VKey, FormError> {
        self.reader.finish::<FormError>()?;
        let encrypted_key = decode_key(&self.fields.encrypted_key)?;
        Ok(VKey { encrypted_key })
    }
}

impl Fields for VKeyFields {
    type Error = FormError;

    fn begin(&mut self, name: &str) -> Result<(), FormError> {
        self.current = match name {
            ENCRYPTED_KEY => Some(self.encrypted_key.begin(ENCRYPTED_KEY)?),
            _ => None,
        };
        Ok(())
    }

    fn text(&mut self, piece: &[u8]) -> Result<(), FormError> {
        match self.current {
            Some(name) => self.encrypted_key.push(name, piece),
            None => Ok(()),
        }
    }

    fn end(&mut self, kind: Kind) -> Result<(), FormError> {
        match self.current {
            Some(name) => self.encrypted_key.end(name, kind),
            None => Ok(()),
        }
    }
}

/// Whether a member came, and as what. `null` counts as if it hadn't.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Member {
    begun: bool,
    text: bool,
}

impl Member {
    pub(crate) fn begin(&mut self, name: &'static str) -> Result<&'static str, FormError> {
        if core::mem::replace(&mut self.begun, true) {
            return Err(FormError::Doubled { name });
        }
        Ok(name)
    }

    pub(crate) fn end(&mut self, name: &'static str, kind: Kind) -> Result<(), FormError> {
        match kind {
            Kind::Text => self.text = true,
            Kind::Null => {}
            Kind::Other => return Err(FormError::NotText { name }),
        }
        Ok(())
    }

    /// It came, and as a text.
    pub(crate) const fn text(self, name: &'static str) -> Result<(), FormError> {
        if self.text {
            Ok(())
        } else {
            Err(FormError::Missing { name })
        }
    }
}

/// A member that is collected as it stands.
#[derive(Clone, Debug, Default)]
pub(crate) struct TextField<const N: usize> {
    member: Member,
    bytes: heapless::Vec<u8, N>,
}

impl<const N: usize> TextField<N> {
    pub(crate) fn begin(&mut self, name: &'static str) -> Result<&'static str, FormError> {
        self.member.begin(name)
    }

    pub(crate) fn push(&mut self, name: &'static str, piece: &[u8]) -> Result<(), FormError> {
        self.bytes
            .extend_from_slice(piece)
            .map_err(|_| FormError::TooLong { name })
    }

    pub(crate) fn end(&mut self, name: &'static str, kind: Kind) -> Result<(), FormError> {
        self.member.end(name, kind)
    }

    pub(crate) fn text(&self, name: &'static str) -> Result<&[u8], FormError> {
        self.member.text(name).map(|()| self.bytes.as_slice())
    }
}

fn decode_key(
    field: &TextField<MAX_CIPHERTEXT_TEXT>,
) -> Result<heapless::Vec<u8, MAX_CIPHERTEXT_BYTES>, FormError> {
    let text = field.text(ENCRYPTED_KEY)?;
    let mut bytes = heapless::Vec::new();
    // Sized by the vector's own bound.
    let _ = bytes.resize_default(MAX_CIPHERTEXT_BYTES);
    let length = STANDARD
        .decode_slice(text, &mut bytes)
        .map_err(|_| FormError::Base64 {
            name: ENCRYPTED_KEY,
        })?;
    bytes.truncate(length);
    Ok(bytes)
}

const ENCRYPTED_KEY: &str = "encrypted_key";
const AUTH_TAG: &str = "auth_tag";
const PAYLOAD: &str = "payload";
/// [`MAX_CIPHERTEXT_BYTES`] in base64.
const MAX_CIPHERTEXT_TEXT: usize = MAX_CIPHERTEXT_BYTES.div_ceil(3) * 4;

#[cfg(test)]
mod tests;
