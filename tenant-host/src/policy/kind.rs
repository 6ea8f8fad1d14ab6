//! Which kind of policy a file has, told by its shape.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE};
use serde::Deserialize;
use serde::de::IgnoredAny;

/// The three kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What IMA may measure.
    Runtime,
    /// Which PCR may hold which values.
    Tpm,
    /// What the boot log must show.
    MeasuredBoot,
}

impl Kind {
    /// What it is called.
    #[must_use]
    pub const fn noun(self) -> &'static str {
        match self {
            Self::Runtime => "runtime policy",
            Self::Tpm => "tpm_policy",
            Self::MeasuredBoot => "measured-boot policy",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.noun())
    }
}

/// Why a file has no policy of any kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KindError {
    /// No JSON object.
    #[error("it is no policy, which is a JSON object: {0}")]
    Json(String),
    /// A signed envelope that can't be opened.
    #[error("it is signed, and its payload is not base64")]
    Payload,
}

/// A policy of some kind, not read further than its shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shaped {
    /// Its kind.
    pub kind: Kind,
    /// Its JSON; what is in the envelope if it is signed.
    pub bytes: Vec<u8>,
    /// Whether it is in an envelope. Nobody has checked the signature.
    pub signed: bool,
}

/// Fields that runtime policies have and others don't.
const RUNTIME_FIELDS: [&str; 4] = ["digests", "excludes", "keyrings", "verification-keys"];

impl Shaped {
    /// Tells the kind of a policy by the names of its fields.
    ///
    /// # Errors
    /// [`KindError`].
    pub fn read(bytes: Vec<u8>) -> Result<Self, KindError> {
        #[derive(Deserialize)]
        struct Envelope {
            payload: String,
        }
        let fields: BTreeMap<String, IgnoredAny> = serde_json::from_slice(&bytes).map_err(json)?;
        let has = |name: &str| fields.contains_key(name);
        if has("payload") && has("signatures") {
            let envelope: Envelope = serde_json::from_slice(&bytes).map_err(json)?;
            let standard = BASE64_STANDARD.decode(&envelope.payload);
            let bytes = standard.or_else(|_| BASE64_URL_SAFE.decode(&envelope.payload));
            let bytes = bytes.map_err(|_| KindError::Payload)?;
            return Ok(Self {
                kind: Kind::Runtime,
                bytes,
                signed: true,
            });
        }
        let is_pcr =
            |name: &String| name == "mask" || name.bytes().all(|byte| byte.is_ascii_digit());
        let kind = if RUNTIME_FIELDS.into_iter().any(has) {
            Kind::Runtime
        } else if !fields.is_empty() && fields.keys().all(is_pcr) {
            Kind::Tpm
        } else {
            Kind::MeasuredBoot
        };
        Ok(Self {
            kind,
            bytes,
            signed: false,
        })
    }
}

fn json(error: serde_json::Error) -> KindError {
    KindError::Json(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_told_by_its_fields() {
        let rows = [
            (
                "runtime",
                r#"{"meta": {}, "digests": {}}"#,
                Some((Kind::Runtime, false)),
            ),
            (
                "half a one",
                r#"{"excludes": []}"#,
                Some((Kind::Runtime, false)),
            ),
            (
                "signed",
                r#"{"payload": "e30=", "signatures": []}"#,
                Some((Kind::Runtime, true)),
            ),
            (
                "PCRs",
                r#"{"0": [], "mask": "0x1"}"#,
                Some((Kind::Tpm, false)),
            ),
            ("a PCR too many", r#"{"99": []}"#, Some((Kind::Tpm, false))),
            (
                "boot",
                r#"{"scrtm_and_bios": []}"#,
                Some((Kind::MeasuredBoot, false)),
            ),
            ("nothing", "{}", Some((Kind::MeasuredBoot, false))),
            ("no payload", r#"{"payload": "!", "signatures": []}"#, None),
            ("a list", "[]", None),
            ("no JSON", "policy", None),
        ];
        for (name, text, wanted) in rows {
            let shaped = Shaped::read(text.as_bytes().to_vec()).ok();
            assert_eq!(
                shaped.map(|shaped| (shaped.kind, shaped.signed)),
                wanted,
                "{name}"
            );
        }
    }
}
