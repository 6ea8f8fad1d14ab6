//! Why a CA directory can't be used, and what its owner can do.

use std::io;
use std::path::{Path, PathBuf};

use super::log::LogError;

/// Why a CA directory can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaError {
    /// A file couldn't be read or written.
    #[error("can't {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// Some files of a CA are there, but not its certificate.
    #[error(
        "{} holds {found:?} but no cacert.crt: half a certificate authority. Nothing was changed. Restore the missing files from a copy, or give --cert another directory",
        directory.display()
    )]
    Half {
        /// The directory.
        directory: PathBuf,
        /// The files that are there.
        found: Vec<&'static str>,
    },
    /// The certificate is there, its key or another part isn't.
    #[error(
        "{} has a cacert.crt but no {missing}: this tenant didn't make it, or it lost a file. Nothing was changed. Restore the file from a copy, or give --cert another directory",
        directory.display()
    )]
    Incomplete {
        /// The directory.
        directory: PathBuf,
        /// The first file that is missing.
        missing: &'static str,
    },
    /// Keylime's own CA, whose keys are in a format that isn't read here.
    #[error(
        "{} was made by Keylime (its keys are in private.yml, which this tenant doesn't read). Nothing was changed. Give --cert another directory: nodes take certificates of both authorities side by side",
        directory.display()
    )]
    Keylime {
        /// The directory.
        directory: PathBuf,
    },
    /// A private key can't be used.
    #[error("the private key {} {problem}", path.display())]
    Key {
        /// The key's file.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The key is encrypted and no passphrase was given.
    #[error(
        "the private key {} is encrypted: give --ca-passphrase-file FILE, or set KEYHALF_CA_PASSPHRASE",
        path.display()
    )]
    PassphraseNeeded {
        /// The key's file.
        path: PathBuf,
    },
    /// A passphrase was given, but the key lies there in clear.
    #[error(
        "a passphrase was given, but the private key {} isn't encrypted: encrypt it (`openssl pkcs8 -topk8`), or go without a passphrase",
        path.display()
    )]
    NotEncrypted {
        /// The key's file.
        path: PathBuf,
    },
    /// The passphrase doesn't open the key.
    #[error("the passphrase doesn't open the private key {}", path.display())]
    PassphraseWrong {
        /// The key's file.
        path: PathBuf,
    },
    /// A certificate can't be read, or isn't of the key beside it.
    #[error("the certificate {} {problem}", path.display())]
    Certificate {
        /// The certificate's file.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The revocation list can't be read or signed.
    #[error("the revocation list {} is damaged: restore it from a copy", path.display())]
    Crl {
        /// The list's file.
        path: PathBuf,
    },
    /// The file of serial numbers doesn't hold a number.
    #[error("{} doesn't hold the next serial number: restore it from a copy", path.display())]
    Serial {
        /// The file.
        path: PathBuf,
    },
    /// The name of a key of the CA itself.
    #[error("nothing else can be called {name:?}: its files would be the authority's own")]
    ReservedName {
        /// The name.
        name: String,
    },
    /// There is no CA.
    #[error("{} holds no certificate authority (no cacert.crt): `keyhalf-tenant ca init` makes one, --dir names another place", directory.display())]
    Missing {
        /// The directory.
        directory: PathBuf,
    },
    /// There is a CA already.
    #[error("{} holds a certificate authority already, which stays as it is: --dir names another place", directory.display())]
    Exists {
        /// The directory.
        directory: PathBuf,
    },
    /// The index can't be read.
    #[error("{} line {line} isn't a line of `openssl ca`'s index: restore the file from a copy. Without it, the index is made anew from the certificates that are here and from cacrl.der", path.display())]
    Index {
        /// The file.
        path: PathBuf,
        /// The first line that isn't understood; 0 if the file is too large.
        line: usize,
    },
    /// An entry of a revocation log that isn't taken.
    #[error(
        "the revocation log {log_id} isn't read: {source}. Nothing was changed; look at the verifier, which may not be the one that it was"
    )]
    Log {
        /// The log.
        log_id: String,
        /// Why not.
        source: LogError,
    },
    /// The file that says how far logs were read.
    #[error("{} doesn't say how far revocation logs were read: restore it from a copy, or move it away to read them from their beginning", path.display())]
    Logs {
        /// The file.
        path: PathBuf,
    },
    /// A file of another's has the name of one that is to be made.
    #[error("{} is there, without a certificate of that name: it isn't replaced. Move it away, or choose another name", path.display())]
    Taken {
        /// The file.
        path: PathBuf,
    },
    /// A file that is to be written is there already.
    #[error("{} is there already: --out names another directory; `ca export --force` replaces what is there", path.display())]
    InTheWay {
        /// The file.
        path: PathBuf,
    },
    /// A name that no certificate gets here.
    #[error(
        "{name:?} is no name for a certificate: 1 to 64 letters, digits, `.`, `_` or `-`, not starting with `.` or `-`"
    )]
    BadName {
        /// What was given.
        name: String,
    },
    /// A name that no host has.
    #[error("{name:?} is no host name")]
    BadHost {
        /// What was given.
        name: String,
    },
    /// There is a certificate of that name.
    #[error(
        "{name} has a certificate that is valid for more than 30 days: `ca revoke {name}` first, or choose another name"
    )]
    StillValid {
        /// The name.
        name: String,
    },
    /// No certificate of this CA has that name or number.
    #[error("this authority knows no certificate {which:?}: `ca list` shows all")]
    Unknown {
        /// What was given.
        which: String,
    },
    /// One of the authority's own certificates.
    #[error(
        "{name} is the authority's own, and its holders don't ask whether it was revoked: make another authority (`ca init`), and deliver its certificates"
    )]
    OwnCertificate {
        /// Its name.
        name: String,
    },
    /// One of the two files of the payload signer is missing.
    #[error(
        "{} is there, {missing} beside it isn't: restore it from a copy. Nodes that pin this signer take no other; if none does, move the file away and run this again",
        there.display()
    )]
    HalfSigner {
        /// The file that is there.
        there: PathBuf,
        /// The one that isn't.
        missing: &'static str,
    },
    /// Making a key or a certificate failed.
    #[error("can't make a key or certificate: {0}")]
    Issue(String),
}

impl CaError {
    pub(super) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }

    pub(super) fn key(path: &Path, problem: &'static str) -> Self {
        Self::Key {
            path: path.to_owned(),
            problem,
        }
    }

    pub(super) fn certificate(path: &Path, problem: &'static str) -> Self {
        Self::Certificate {
            path: path.to_owned(),
            problem,
        }
    }
}

impl From<rcgen::Error> for CaError {
    fn from(error: rcgen::Error) -> Self {
        Self::Issue(error.to_string())
    }
}
