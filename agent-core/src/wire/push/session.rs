//! Sessions: who calls proves that it has the attestation key, and gets a token.

use core::fmt::{self, Write};

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroize;

use super::failure::Code;
use super::{PushError, attributes, decode, member};
use crate::wire::json::{ObjectWriter, Value};
use crate::wire::text::{MAX_NONCE_BYTES, Uuid};

/// The longest token that is taken; Keylime's has about 90 characters.
pub const MAX_TOKEN_BYTES: usize = 256;

/// A challenge, decoded: 16 bytes from Keylime, at most as long as a nonce.
pub type Challenge = heapless::Vec<u8, MAX_NONCE_BYTES>;

/// The body of `POST /v3.0/sessions`.
#[derive(Clone, Copy, Debug)]
pub struct SessionRequest<'a> {
    /// Who calls.
    pub agent: &'a Uuid,
}

impl SessionRequest<'_> {
    /// Writes the body.
    ///
    /// # Errors
    /// The writer's: no room.
    pub fn write<W: Write + ?Sized>(&self, out: &mut W) -> fmt::Result {
        let mut body = ObjectWriter::begin(out)?;
        let mut data = body.object("data")?;
        data.text("type", "session")?;
        let mut attributes = data.object("attributes")?;
        attributes.text("agent_id", self.agent)?;
        let mut supported = attributes.array("authentication_supported")?;
        let mut one = supported.object()?;
        one.text("authentication_class", CLASS)?;
        one.text("authentication_type", TYPE)?;
        one.end()?;
        supported.end()?;
        attributes.end()?;
        data.end()?;
        body.end()
    }
}

/// What a verifier answers to a request for a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The session's identifier; it can stand in a path.
    pub session: Uuid,
    /// What the proof has to be about.
    pub challenge: Challenge,
}

impl Opened {
    /// Reads the answer.
    ///
    /// # Errors
    /// [`PushError`].
    pub fn from_answer(body: &[u8]) -> Result<Self, PushError> {
        let (data, attributes) = attributes(body)?;
        let id = data.member("id").and_then(Value::text);
        let requested = attributes.member("authentication_requested");
        let requested = member("authentication_requested", requested)?
            .items()
            .find(|one| one.member("authentication_type").and_then(Value::text) == Some(TYPE));
        let challenge = requested.and_then(|one| one.path(&["chosen_parameters", "challenge"]));
        Ok(Self {
            session: member("id", id.and_then(Uuid::parse))?,
            challenge: member("challenge", challenge.and_then(read_challenge))?,
        })
    }
}

/// The body of `PATCH /v3.0/sessions/{id}`: the AK certified by itself, about the challenge.
#[derive(Clone, Copy, Debug)]
pub struct Proof<'a> {
    /// Who calls.
    pub agent: &'a Uuid,
    /// Which session.
    pub session: &'a Uuid,
    /// Marshalled `TPMS_ATTEST`.
    pub message: &'a [u8],
    /// Marshalled `TPMT_SIGNATURE`.
    pub signature: &'a [u8],
}

impl Proof<'_> {
    /// Writes the body.
    ///
    /// # Errors
    /// The writer's: no room.
    pub fn write<W: Write + ?Sized>(&self, out: &mut W) -> fmt::Result {
        let mut body = ObjectWriter::begin(out)?;
        let mut data = body.object("data")?;
        data.text("type", "session")?;
        data.text("id", self.session)?;
        let mut attributes = data.object("attributes")?;
        attributes.text("agent_id", self.agent)?;
        let mut provided = attributes.array("authentication_provided")?;
        let mut one = provided.object()?;
        one.text("authentication_class", CLASS)?;
        one.text("authentication_type", TYPE)?;
        let mut proof = one.object("data")?;
        proof.text("message", Base64Display::new(self.message, &STANDARD))?;
        proof.text("signature", Base64Display::new(self.signature, &STANDARD))?;
        proof.end()?;
        one.end()?;
        provided.end()?;
        attributes.end()?;
        data.end()?;
        body.end()
    }
}

/// What speaks for an agent until it expires: wiped on drop, never printed.
pub struct Token(heapless::Vec<u8, MAX_TOKEN_BYTES>);

impl Token {
    /// Reads a token; `None` if it can't stand in a header field.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let fits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        let bytes = heapless::Vec::from_slice(text.as_bytes()).ok()?;
        fits.then_some(Self(bytes))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // It was read from text.
        core::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.0.as_mut_slice().zeroize();
    }
}

/// What became of a proof.
#[expect(
    clippy::large_enum_variant,
    reason = "one exists at a time, and nothing can be boxed without an allocator"
)]
pub enum Authentication {
    /// It is taken.
    Token(Token),
    /// It isn't, or this node isn't known; a verifier of Keylime doesn't say which.
    Failed(Option<Code>),
}

impl Authentication {
    /// Reads the answer.
    ///
    /// # Errors
    /// [`PushError`].
    pub fn from_answer(body: &[u8]) -> Result<Self, PushError> {
        let (_, attributes) = attributes(body)?;
        let text = |name| attributes.member(name).and_then(Value::text);
        match text("evaluation") {
            Some("pass") => {
                let token = text("token").and_then(Token::parse);
                Ok(Self::Token(member("token", token)?))
            }
            Some("fail") => Ok(Self::Failed(text("failure_code").map(Code::from_name))),
            _ => Err(PushError::Member { name: "evaluation" }),
        }
    }
}

/// A challenge: base64 of at least one byte.
pub(super) fn read_challenge(value: Value<'_>) -> Option<Challenge> {
    let mut bytes = [0; MAX_NONCE_BYTES];
    let decoded = decode(value.text()?, &mut bytes).filter(|bytes| !bytes.is_empty())?;
    Challenge::from_slice(decoded).ok()
}

const CLASS: &str = "pop";
const TYPE: &str = "tpm_pop";

#[cfg(test)]
mod tests {
    extern crate std;

    use std::string::String;

    use super::*;

    #[test]
    fn bodies_are_keylimes() {
        let agent = Uuid::parse("node").unwrap();
        let mut body = String::new();
        SessionRequest { agent: &agent }.write(&mut body).unwrap();
        assert_eq!(
            body,
            r#"{"data":{"type":"session","attributes":{"agent_id":"node","authentication_supported":[{"authentication_class":"pop","authentication_type":"tpm_pop"}]}}}"#
        );
        body.clear();
        let session = Uuid::parse("s-1").unwrap();
        let proof = Proof {
            agent: &agent,
            session: &session,
            message: b"abc",
            signature: b"d",
        };
        proof.write(&mut body).unwrap();
        assert_eq!(
            body,
            r#"{"data":{"type":"session","id":"s-1","attributes":{"agent_id":"node","authentication_provided":[{"authentication_class":"pop","authentication_type":"tpm_pop","data":{"message":"YWJj","signature":"ZA=="}}]}}}"#
        );
    }

    #[test]
    fn opened_sessions() {
        let usual = r#"{"data": {"type": "session", "id": "5d7f-1", "attributes": {"agent_id": "node",
            "authentication_requested": [{"authentication_class": "pop", "authentication_type": "tpm_pop",
            "chosen_parameters": {"challenge": "AAECAwQFBgcICQoLDA0ODw=="}}], "created_at": "2026-01-01T00:00:00+00:00",
            "challenges_expire_at": null}}}"#;
        let opened = Opened::from_answer(usual.as_bytes()).unwrap();
        assert_eq!(opened.session.as_str(), "5d7f-1");
        assert_eq!(opened.challenge.len(), 16);
        let name = |name| Err(PushError::Member { name });
        for (from, to, expected) in [
            ("5d7f-1", "../x", name("id")),
            ("AAEC", "A*EC", name("challenge")),
            ("AAECAwQFBgcICQoLDA0ODw==", "", name("challenge")),
            ("tpm_pop", "other", name("challenge")),
            (
                "authentication_requested",
                "x",
                name("authentication_requested"),
            ),
            ("\"data\"", "\"errors\"", name("data")),
        ] {
            let bad = usual.replacen(from, to, 1);
            assert_eq!(Opened::from_answer(bad.as_bytes()), expected, "{to}");
        }
    }

    #[test]
    fn verdicts_on_proofs() {
        let body = |inner: &str| {
            std::format!(
                r#"{{"data":{{"id":"s","attributes":{{"authentication":[{{"data":{{}}}}],{inner}}}}}}}"#
            )
        };
        let read = |inner: &str| match Authentication::from_answer(body(inner).as_bytes()) {
            Ok(Authentication::Token(token)) => String::from(token.as_str()),
            Ok(Authentication::Failed(code)) => std::format!("{code:?}"),
            Err(error) => std::format!("{error:?}"),
        };
        for (inner, expected) in [
            (
                r#""evaluation":"pass","token":"a.b-c_","token_expires_at":null"#,
                "a.b-c_",
            ),
            (r#""evaluation":"fail""#, "None"),
            (
                r#""evaluation":"fail","failure_code":"not-enrolled""#,
                "Some(NotEnrolled)",
            ),
            (
                r#""evaluation":"pass","token":"a b""#,
                "Member { name: \"token\" }",
            ),
            (r#""evaluation":"pass""#, "Member { name: \"token\" }"),
            (r#""evaluation":true"#, "Member { name: \"evaluation\" }"),
        ] {
            assert_eq!(read(inner), expected, "{inner}");
        }
    }
}
