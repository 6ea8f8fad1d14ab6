//! Revocation notices: that a node of the same tenant is no longer trusted.
//!
//! A notice counts when its signature is by the notifier whose certificate came with this node's payload. One that counts
//! is acted on by the shell, once.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::wire::form::{FormError, Member, TextField};
use crate::wire::json::{Fields, Kind, ObjectReader};

/// The longest notice; Keylime's with a policy and a context take about 1 KB.
pub const MAX_MESSAGE_BYTES: usize = 8 * 1024;

/// The longest signature: RSA-4096.
pub const MAX_SIGNATURE_BYTES: usize = 512;

/// Checks signatures by the notifier that this node's payload named.
///
/// Implemented by the shell: such algorithms allocate.
pub trait Verify {
    /// Whether the signature over the message is the notifier's: RSA-PSS, SHA-256, MGF1-SHA-256, salt of any length.
    ///
    /// # Errors
    /// [`VerifyError`].
    fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), VerifyError>;
}

/// Acts on notices that count.
pub trait Act: Verify {
    /// Takes over a verified notice; the shell acts on it later, after those before it. It must not wait for that.
    ///
    /// # Errors
    /// [`Full`]: too many wait already, and this one isn't taken.
    fn act(&self, message: &str) -> Result<(), Full>;
}

/// There is no room for another notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Why a signature doesn't count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifyError {
    /// No payload has brought a notifier's certificate yet.
    NoAnchor,
    /// It isn't the notifier's.
    Mismatch,
}

/// A notice whose signature hasn't been checked yet.
#[derive(Debug)]
pub struct Notice<'b> {
    message: &'b str,
    signature: heapless::Vec<u8, MAX_SIGNATURE_BYTES>,
}

impl<'b> Notice<'b> {
    /// The message, if its signature is the notifier's.
    ///
    /// # Errors
    /// [`VerifyError`].
    pub fn verified_by(&self, verify: &impl Verify) -> Result<&'b str, VerifyError> {
        verify
            .verify(self.message.as_bytes(), &self.signature)
            .map(|()| self.message)
    }
}

/// Whether a message says no more than that a node doesn't answer: Keylime's `comm_error`. Such a node is away, not
/// compromised, and nothing is done about it. What can't be read is a revocation.
///
/// Source: Keylime's `revocation_notifier`, which sends both kinds over the same route.
#[must_use]
pub fn tells_of_silence(message: &str) -> bool {
    let mut reader = ObjectReader::new();
    let mut kind = MessageType::default();
    let read = reader.feed(message.as_bytes(), &mut kind);
    read.is_ok() && kind.text.text(TYPE) == Ok(b"comm_error")
}

/// The member `type` of a message; of the others nothing is kept.
#[derive(Default)]
struct MessageType {
    is_current: bool,
    text: TextField<MAX_TYPE_BYTES>,
}

impl Fields for MessageType {
    type Error = FormError;

    fn begin(&mut self, name: &str) -> Result<(), FormError> {
        self.is_current = name == TYPE;
        if self.is_current {
            self.text.begin(TYPE).map(drop)
        } else {
            Ok(())
        }
    }

    fn text(&mut self, piece: &[u8]) -> Result<(), FormError> {
        if self.is_current {
            self.text.push(TYPE, piece)
        } else {
            Ok(())
        }
    }

    fn end(&mut self, kind: Kind) -> Result<(), FormError> {
        if self.is_current {
            self.text.end(TYPE, kind)
        } else {
            Ok(())
        }
    }
}

const TYPE: &str = "type";
/// Keylime's types have ten letters.
const MAX_TYPE_BYTES: usize = 32;

/// Collects the body `{msg, signature}`.
pub struct NoticeForm<'b> {
    reader: ObjectReader,
    fields: NoticeFields<'b>,
}

struct NoticeFields<'b> {
    current: Option<&'static str>,
    message: &'b mut [u8],
    length: usize,
    message_member: Member,
    signature: TextField<{ MAX_SIGNATURE_BYTES.div_ceil(3) * 4 }>,
}

impl<'b> NoticeForm<'b> {
    /// A form that puts the message into `buffer`.
    pub fn new(buffer: &'b mut [u8; MAX_MESSAGE_BYTES]) -> Self {
        Self {
            reader: ObjectReader::new(),
            fields: NoticeFields {
                current: None,
                message: buffer,
                length: 0,
                message_member: Member::default(),
                signature: TextField::default(),
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
    pub fn finish(self) -> Result<Notice<'b>, FormError> {
        let Self { reader, fields } = self;
        reader.finish::<FormError>()?;
        fields.message_member.text(MESSAGE)?;
        let message: &'b [u8] = fields.message;
        let message = message.get(..fields.length).unwrap_or_default();
        let message =
            core::str::from_utf8(message).map_err(|_| FormError::NotText { name: MESSAGE })?;
        let text = fields.signature.text(SIGNATURE)?;
        let mut signature = heapless::Vec::new();
        // Sized by the field's own bound.
        let _ = signature.resize_default(MAX_SIGNATURE_BYTES);
        let length = STANDARD
            .decode_slice(text, &mut signature)
            .map_err(|_| FormError::Base64 { name: SIGNATURE })?;
        signature.truncate(length);
        Ok(Notice { message, signature })
    }
}

impl Fields for NoticeFields<'_> {
    type Error = FormError;

    fn begin(&mut self, name: &str) -> Result<(), FormError> {
        self.current = match name {
            MESSAGE => Some(self.message_member.begin(MESSAGE)?),
            SIGNATURE => Some(self.signature.begin(SIGNATURE)?),
            _ => None,
        };
        Ok(())
    }

    fn text(&mut self, piece: &[u8]) -> Result<(), FormError> {
        match self.current {
            Some(MESSAGE) => {
                let too_long = FormError::TooLong { name: MESSAGE };
                // Checked, so that the compiler sees that both slices are of one length.
                let end = self.length.checked_add(piece.len()).ok_or(too_long)?;
                let room = self.message.get_mut(self.length..end).ok_or(too_long)?;
                room.copy_from_slice(piece);
                self.length = end;
                Ok(())
            }
            Some(name) => self.signature.push(name, piece),
            None => Ok(()),
        }
    }

    fn end(&mut self, kind: Kind) -> Result<(), FormError> {
        match self.current {
            Some(MESSAGE) => self.message_member.end(MESSAGE, kind),
            Some(name) => self.signature.end(name, kind),
            None => Ok(()),
        }
    }
}

const MESSAGE: &str = "msg";
const SIGNATURE: &str = "signature";

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes the one signature `ok`.
    struct TakesOk;

    impl Verify for TakesOk {
        fn verify(&self, _: &[u8], signature: &[u8]) -> Result<(), VerifyError> {
            match signature {
                b"ok" => Ok(()),
                _ => Err(VerifyError::Mismatch),
            }
        }
    }

    #[test]
    fn bodies() {
        let missing = |name| Err(FormError::Missing { name });
        type Case<'a> = (
            &'a str,
            &'a str,
            Result<Result<&'a str, VerifyError>, FormError>,
        );
        let cases: [Case<'_>; 8] = [
            (
                "signed",
                r#"{"msg":"{\"type\":\"revocation\"}","signature":"b2s="}"#,
                Ok(Ok(r#"{"type":"revocation"}"#)),
            ),
            (
                "other order",
                r#"{"signature":"b2s=","x":1,"msg":""}"#,
                Ok(Ok("")),
            ),
            (
                "forged",
                r#"{"msg":"a","signature":"bm8="}"#,
                Ok(Err(VerifyError::Mismatch)),
            ),
            (
                "unsigned",
                r#"{"msg":"a","signature":""}"#,
                Ok(Err(VerifyError::Mismatch)),
            ),
            ("no message", r#"{"signature":"b2s="}"#, missing("msg")),
            ("no signature", r#"{"msg":"a"}"#, missing("signature")),
            (
                "twice",
                r#"{"msg":"a","msg":"b"}"#,
                Err(FormError::Doubled { name: "msg" }),
            ),
            (
                "no base64",
                r#"{"msg":"a","signature":"b2s"}"#,
                Err(FormError::Base64 { name: "signature" }),
            ),
        ];
        for (name, body, want) in cases {
            let mut buffer = [0; MAX_MESSAGE_BYTES];
            let mut form = NoticeForm::new(&mut buffer);
            let got = form
                .feed(body.as_bytes())
                .and_then(|()| form.finish())
                .map(|notice| notice.verified_by(&TakesOk));
            assert_eq!(got, want, "{name}");
        }
    }

    #[test]
    fn offline_node_revokes_nobody() {
        let rows = [
            (r#"{"type":"comm_error","port":9002}"#, true),
            (r#"{"ip":"10.0.0.7","type":"comm\u005ferror"}"#, true),
            (r#"{"type":"revocation"}"#, false),
            (r#"{"type":"comm_error","type":"revocation"}"#, false),
            (r#"{"type":["comm_error"]}"#, false),
            (r#"{"context":{"type":"comm_error"}}"#, false),
            (r#"{"agent_id":"comm_error"}"#, false),
            ("comm_error", false),
            ("", false),
        ];
        for (message, wanted) in rows {
            assert_eq!(tells_of_silence(message), wanted, "{message}");
        }
    }

    #[test]
    fn a_message_without_end_is_refused() {
        let mut buffer = [0; MAX_MESSAGE_BYTES];
        let mut form = NoticeForm::new(&mut buffer);
        form.feed(br#"{"msg":""#).unwrap();
        form.feed(&[b'a'; MAX_MESSAGE_BYTES]).unwrap();
        assert_eq!(form.feed(b"a"), Err(FormError::TooLong { name: "msg" }));
    }
}
