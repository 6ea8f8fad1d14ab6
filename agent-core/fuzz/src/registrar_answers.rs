//! What a registrar answers: read alike in pieces of any size, and as another JSON reader reads it.

use std::convert::Infallible;

use agent_core::drive::{Call, CallError, call};
use agent_core::http::emit::{Media, Verb};
use agent_core::wire::register::{CredentialBlob, MAX_BLOB_BYTES, version_from_answer};
use agent_core::wire::route::{ApiVersion, ApiVersions};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// The first byte says in what pieces the others come. They are an answer, its body, and what that holds.
pub fn check(data: &[u8]) {
    let Some((first, answer)) = data.split_first() else {
        return;
    };
    check_blob(answer);
    check_body(answer);
    let piece = usize::from(*first) + 1;
    let whole = call_on(answer, usize::MAX);
    assert_eq!(call_on(answer, piece), whole, "in pieces of {piece}");
    if let Ok((_, body)) = whole {
        check_body(&body);
    }
}

/// A blob is its header and its parts, and nothing else.
fn check_blob(bytes: &[u8]) {
    if let Ok(blob) = CredentialBlob::parse(bytes) {
        let header = [0xBA, 0xDC, 0xC0, 0xDE, 0, 0, 0, 1];
        assert_eq!([&header, blob.id_object, blob.secret].concat(), bytes);
        for part in [blob.id_object, blob.secret] {
            let (length, rest) = part.split_first_chunk().unwrap();
            assert_eq!(usize::from(u16::from_be_bytes(*length)), rest.len());
        }
    }
}

fn check_body(body: &[u8]) {
    let mut buffer = [0; MAX_BLOB_BYTES];
    let blob = CredentialBlob::from_answer(body, &mut buffer);
    let version = version_from_answer(body, ApiVersions::all());
    // Ours doesn't unescape names, of which none here needs it.
    let reference = serde_json::from_slice::<Value>(body)
        .ok()
        .filter(|_| !body.contains(&b'\\'));
    let Some(reference) = reference else {
        return;
    };
    let results = &reference["results"];
    if let Ok(blob) = blob {
        let decoded = STANDARD.decode(results["blob"].as_str().unwrap()).unwrap();
        assert_eq!(CredentialBlob::parse(&decoded), Ok(blob));
    }
    if let Ok(Some(version)) = version {
        let named = |value: &Value| value.as_str().and_then(ApiVersion::parse) == Some(version);
        let supported = results["supported_versions"].as_array();
        assert!(
            named(&results["current_version"])
                || supported.is_some_and(|all| all.iter().any(named))
        );
    }
}

type Called = Result<(u16, Vec<u8>), CallError<Infallible>>;

fn call_on(answer: &[u8], piece: usize) -> Called {
    let mut wire = Wire {
        rest: answer,
        piece,
        sent: 0,
    };
    let mut buffer = [0; 2048];
    let request = Call {
        verb: Verb::Post,
        path: "/v2.6/agents/a",
        host: "registrar",
        token: None,
        media: Media::Json,
        body: "{}",
    };
    let answer = call(&mut wire, &request, &mut buffer)?;
    Ok((answer.status, answer.body.to_vec()))
}

/// What a registrar sends, in pieces; what it is sent is counted only.
struct Wire<'a> {
    rest: &'a [u8],
    piece: usize,
    sent: usize,
}

impl embedded_io::ErrorType for Wire<'_> {
    type Error = Infallible;
}

impl embedded_io::Read for Wire<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Infallible> {
        assert!(self.sent > 0, "read before the request was sent");
        let length = self.rest.len().min(buffer.len()).min(self.piece);
        let (now, later) = self.rest.split_at(length);
        buffer[..length].copy_from_slice(now);
        self.rest = later;
        Ok(length)
    }
}

impl embedded_io::Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        self.sent += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}
