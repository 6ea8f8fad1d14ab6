//! A notice as it travels: a message, and a signature that nobody has checked yet.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{MAX_MESSAGE_BYTES, MAX_SIGNATURE_BYTES};
use crate::wire::form::{FormError, Member, TextField};
use crate::wire::json::{Fields, Kind, ObjectReader};

/// A notice whose signature hasn't been checked yet.
#[derive(Debug)]
pub struct Notice<'b> {
    message: &'b str,
    signature: heapless::Vec<u8, MAX_SIGNATURE_BYTES>,
}

impl<'b> Notice<'b> {
    /// The message's text.
    #[must_use]
    pub const fn message(&self) -> &'b str {
        self.message
    }

    /// The signature.
    #[must_use]
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }
}

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

    #[test]
    fn bodies() {
        let missing = |name| Err(FormError::Missing { name });
        type Case<'a> = (&'a str, &'a str, Result<(&'a str, &'a [u8]), FormError>);
        let cases: [Case<'_>; 7] = [
            (
                "usual",
                r#"{"msg":"{\"type\":\"revocation\"}","signature":"b2s="}"#,
                Ok((r#"{"type":"revocation"}"#, b"ok")),
            ),
            (
                "other order",
                r#"{"signature":"b2s=","x":1,"msg":""}"#,
                Ok(("", b"ok")),
            ),
            ("unsigned", r#"{"msg":"a","signature":""}"#, Ok(("a", b""))),
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
            let got = form.feed(body.as_bytes()).and_then(|()| form.finish());
            let got = got
                .as_ref()
                .map(|notice| (notice.message(), notice.signature()));
            assert_eq!(got.map_err(|error| *error), want, "{name}");
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
