//! A revocation notifier: its key, and a log that it signs.
#![expect(
    clippy::unwrap_used,
    reason = "a test that can't set itself up has failed"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use agent_core::wire::text::Hex;
use agent_linux::notifier::Notifier;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// A notifier's key and certificate.
pub(crate) struct Anchor(TempDir);

/// A signed message.
#[derive(Clone)]
pub(crate) struct Signed {
    pub(crate) text: String,
    pub(crate) signature: Vec<u8>,
}

/// A log of the notifier's.
pub(crate) struct Log<'a> {
    anchor: &'a Anchor,
    pub(crate) id: String,
    pub(crate) number: u64,
    pub(crate) previous: [u8; 32],
}

pub(crate) fn openssl(directory: &Path, arguments: &str) {
    let status = Command::new("openssl")
        .args(arguments.split(' '))
        .current_dir(directory)
        .stderr(Stdio::null())
        .status();
    assert!(status.unwrap().success(), "{arguments}");
}

impl Anchor {
    pub(crate) fn new() -> Self {
        let place = TempDir::new().unwrap();
        openssl(
            place.path(),
            "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=notifier -keyout key -out crt",
        );
        Self(place)
    }

    pub(crate) fn certificate(&self) -> PathBuf {
        self.0.path().join("crt")
    }

    pub(crate) fn sign(&self, text: &str) -> Signed {
        fs::write(self.0.path().join("message"), text).unwrap();
        openssl(
            self.0.path(),
            "dgst -sha256 -sign key -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:222 -out signature message",
        );
        Signed {
            text: text.to_owned(),
            signature: fs::read(self.0.path().join("signature")).unwrap(),
        }
    }

    /// A new log.
    pub(crate) fn log(&self, drawn: &str) -> Log<'_> {
        let nowhere = Path::new("/nonexistent");
        let notifier = Notifier::of_payload(nowhere, Some(&self.certificate())).unwrap();
        Log {
            anchor: self,
            id: format!("{}-{}", notifier.name(), drawn.repeat(8)),
            number: 0,
            previous: [0; 32],
        }
    }
}

impl Log<'_> {
    /// The file of a package that is sealed now.
    pub(crate) fn head(&self) -> String {
        format!(
            r#"{{"log_id": "{}", "number": {}, "previous": "{}"}}"#,
            self.id,
            self.number,
            Hex(&self.previous)
        )
    }

    /// The next entry, which revokes a node.
    pub(crate) fn revoke(&mut self) -> Signed {
        self.entry("revocation", "")
    }

    /// The next entry, of this type, with these members too: each begins with a comma.
    pub(crate) fn entry(&mut self, kind: &str, members: &str) -> Signed {
        self.number += 1;
        let text = format!(
            r#"{{"type":"{kind}","log_id":"{}","number":{},"previous":"{}"{members}}}"#,
            self.id,
            self.number,
            Hex(&self.previous)
        );
        self.previous = Sha256::digest(&text).into();
        self.anchor.sign(&text)
    }
}

impl Signed {
    /// As it travels.
    pub(crate) fn body(&self) -> String {
        let text = self.text.replace('\\', "\\\\").replace('"', "\\\"");
        let signature = STANDARD.encode(&self.signature);
        format!(r#"{{"msg":"{text}","signature":"{signature}"}}"#)
    }
}
