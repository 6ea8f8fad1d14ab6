//! The revocation list of a CA directory: `cacrl.der` and `cacrl.pem`.
//!
//! It is signed again well before it ends, and what an older list revoked stays revoked until its certificate has ended.

use std::collections::BTreeMap;
use std::path::Path;

use rcgen::{
    CertificateRevocationList, CertificateRevocationListParams, Issuer, KeyIdMethod, KeyPair,
    RevokedCertParams, SerialNumber,
};
use time::{Duration, OffsetDateTime};
use x509_parser::prelude::{CertificateRevocationList as ParsedList, FromDer};

use super::index::{Index, Revoked};
use super::keyfile::write_atomically;
use super::reason::Reason;
use super::{CaDirectory, CaError, names};

/// How long a list is valid after it was signed, unless the operator says otherwise.
pub(super) const LIFE: Duration = Duration::days(30);

/// A list of which less than half is left, or less than this, is signed again.
const RENEW_BEFORE_END: Duration = Duration::days(15);

/// How far `thisUpdate` lies in the past, for nodes whose clock is slow.
const CLOCK_SLACK: Duration = Duration::days(1);

/// A list in both encodings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crl {
    /// DER.
    pub der: Vec<u8>,
    /// PEM.
    pub pem: Vec<u8>,
    /// Its number.
    pub number: u64,
    /// When the next one has to be there.
    pub next_update: OffsetDateTime,
    /// How many certificates are on it.
    pub revoked: usize,
}

/// The list that is in the directory.
pub(super) struct OldList {
    der: Vec<u8>,
    number: u64,
    this_update: OffsetDateTime,
    next_update: OffsetDateTime,
    pub(super) revoked: BTreeMap<u64, Revoked>,
}

impl OldList {
    /// Reads it.
    ///
    /// # Errors
    /// [`CaError::Io`] if it is missing, [`CaError::Crl`] if it can't be parsed.
    pub(super) fn read(directory: &Path) -> Result<Self, CaError> {
        let path = directory.join(names::CRL_DER);
        let der = std::fs::read(&path).map_err(|source| CaError::io("read", &path, source))?;
        Self::parse(der).ok_or(CaError::Crl { path })
    }

    fn parse(der: Vec<u8>) -> Option<Self> {
        let (rest, list) = ParsedList::from_der(&der).ok()?;
        if !rest.is_empty() {
            return None;
        }
        let revoked = list.iter_revoked_certificates().map(|entry| {
            let reason = entry
                .reason_code()
                .map_or(Reason::UNSPECIFIED, |(_, code)| Reason::of_number(code.0));
            let at = entry.revocation_date.to_datetime();
            Some((small(entry.serial())?, Revoked { at, reason }))
        });
        Some(Self {
            number: small(list.crl_number()?)?,
            this_update: list.last_update().to_datetime(),
            next_update: list.next_update()?.to_datetime(),
            revoked: revoked.collect::<Option<_>>()?,
            der,
        })
    }
}

/// A number of this CA's, which has 64 bits at most.
fn small(number: &x509_parser::num_bigint::BigUint) -> Option<u64> {
    match number.to_u64_digits()[..] {
        [] => Some(0),
        [digits] => Some(digits),
        _ => None,
    }
}

impl CaDirectory {
    /// The list: the one that is there, or a new one if its end is near, a certificate that was revoked isn't on it, or its
    /// number isn't above `known`.
    ///
    /// # Errors
    /// [`CaError::Io`] if a file is missing or can't be written, [`CaError::Crl`] if the list can't be read or signed.
    pub fn list(&self, known: u64, now: OffsetDateTime) -> Result<Crl, CaError> {
        let old = OldList::read(self.path())?;
        let index = self.files.index()?;
        let is_missing = |serial| !old.revoked.contains_key(&serial);
        let is_whole = !wanted(&index, &old).keys().copied().any(is_missing);
        if old.next_update - now <= RENEW_BEFORE_END || !is_whole || old.number <= known {
            return self.sign_over(&old, &index, known, LIFE, now);
        }
        let path = self.path().join(names::CRL_PEM);
        let pem = std::fs::read(&path).map_err(|source| CaError::io("read", &path, source))?;
        Ok(Crl {
            pem,
            number: old.number,
            next_update: old.next_update,
            revoked: old.revoked.len(),
            der: old.der,
        })
    }

    /// Signs a new list, valid for `life`, with a number above the last one's and above `known`.
    ///
    /// # Errors
    /// As [`CaDirectory::list`].
    pub fn sign_list(
        &self,
        known: u64,
        life: Option<Duration>,
        now: OffsetDateTime,
    ) -> Result<Crl, CaError> {
        let old = OldList::read(self.path())?;
        let index = self.files.index()?;
        self.sign_over(&old, &index, known, life.unwrap_or(LIFE), now)
    }

    fn sign_over(
        &self,
        old: &OldList,
        index: &Index,
        known: u64,
        life: Duration,
        now: OffsetDateTime,
    ) -> Result<Crl, CaError> {
        let path = self.path().join(names::CRL_DER);
        let number = old.number.max(known).checked_add(1);
        let number = number.ok_or_else(|| CaError::Crl { path: path.clone() })?;
        let revoked = wanted(index, old).into_iter();
        let revoked = revoked.map(|(serial, revoked)| RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: revoked.at,
            reason_code: Some(revoked.reason.code()),
            invalidity_date: None,
        });
        let list = sign(&self.issuer, number, revoked.collect(), life, now)
            .map_err(|_| CaError::Crl { path })?;
        write(self.path(), &list)?;
        Ok(list)
    }
}

/// What a new list has: all that was revoked, but certificates that had ended when the last list was made. They were on that one,
/// as the standard wants.
///
/// Source: RFC 5280 section 3.3.
fn wanted(index: &Index, old: &OldList) -> BTreeMap<u64, Revoked> {
    let is_over = |serial: &u64| {
        index
            .get(*serial)
            .is_some_and(|issued| issued.not_after < old.this_update)
    };
    let of_index = index
        .iter()
        .filter_map(|issued| Some((issued.serial, issued.revoked?)));
    let mut all = old.revoked.clone();
    all.extend(of_index);
    all.retain(|serial, _| !is_over(serial));
    all
}

/// Signs a list.
pub(super) fn sign(
    issuer: &Issuer<'_, KeyPair>,
    number: u64,
    revoked_certs: Vec<RevokedCertParams>,
    life: Duration,
    now: OffsetDateTime,
) -> Result<Crl, rcgen::Error> {
    let revoked = revoked_certs.len();
    let params = CertificateRevocationListParams {
        this_update: now - CLOCK_SLACK,
        next_update: now + life,
        crl_number: SerialNumber::from(number),
        issuing_distribution_point: None,
        revoked_certs,
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let list: CertificateRevocationList = params.signed_by(issuer)?;
    Ok(Crl {
        der: list.der().to_vec(),
        pem: list.pem()?.into_bytes(),
        number,
        next_update: now + life,
        revoked,
    })
}

/// Writes both encodings.
pub(super) fn write(directory: &Path, crl: &Crl) -> Result<(), CaError> {
    for (name, bytes) in [(names::CRL_PEM, &crl.pem), (names::CRL_DER, &crl.der)] {
        let path = directory.join(name);
        write_atomically(&path, bytes, 0o644)
            .map_err(|source| CaError::io("write", &path, source))?;
    }
    Ok(())
}
