//! The revocation list of a CA directory: `cacrl.der` and `cacrl.pem`.
//!
//! It is signed again well before it ends, and what an older list revoked stays revoked.

use std::path::Path;

use rcgen::{
    CertificateRevocationList, CertificateRevocationListParams, Issuer, KeyIdMethod, KeyPair,
    RevokedCertParams, SerialNumber,
};
use time::{Duration, OffsetDateTime};
use x509_parser::prelude::{CertificateRevocationList as ParsedList, FromDer};

use super::keyfile::write_atomically;
use super::{CaError, names};

/// How long a list is valid after it was signed.
const LIFE: Duration = Duration::days(30);

/// A list that ends sooner than this is signed again.
const RENEW_BEFORE_END: Duration = Duration::days(15);

/// How far `thisUpdate` lies in the past, for nodes whose clock is slow.
const CLOCK_SLACK: Duration = Duration::days(1);

/// The list in both encodings.
pub(super) struct Crl {
    pub(super) der: Vec<u8>,
    pub(super) pem: Vec<u8>,
}

/// Reads the list of the directory, signing it again if its end is near.
///
/// # Errors
/// [`CaError::Io`] if a file is missing or can't be written, [`CaError::Crl`] if the list can't be read or signed.
pub(super) fn current(
    directory: &Path,
    issuer: &Issuer<'_, KeyPair>,
    now: OffsetDateTime,
) -> Result<Crl, CaError> {
    let path = directory.join(names::CRL_DER);
    let der = std::fs::read(&path).map_err(|source| CaError::io("read", &path, source))?;
    let damaged = || CaError::Crl { path: path.clone() };
    let (rest, list) = ParsedList::from_der(&der).map_err(|_| damaged())?;
    let end = list.next_update().ok_or_else(damaged)?.to_datetime();
    let number = list.crl_number().ok_or_else(damaged)?.to_u64_digits();
    if !rest.is_empty() {
        return Err(damaged());
    }
    if end - now > RENEW_BEFORE_END {
        let pem_path = directory.join(names::CRL_PEM);
        let pem =
            std::fs::read(&pem_path).map_err(|source| CaError::io("read", &pem_path, source))?;
        return Ok(Crl { der, pem });
    }
    let revoked = list
        .iter_revoked_certificates()
        .map(|entry| RevokedCertParams {
            serial_number: SerialNumber::from_slice(entry.raw_serial()),
            revocation_time: entry.revocation_date.to_datetime(),
            reason_code: None,
            invalidity_date: None,
        })
        .collect();
    let next = number.first().copied().unwrap_or(0) + 1;
    let renewed = sign(issuer, next, revoked, now).map_err(|_| damaged())?;
    write(directory, &renewed)?;
    Ok(renewed)
}

/// Signs a list.
pub(super) fn sign(
    issuer: &Issuer<'_, KeyPair>,
    number: u64,
    revoked_certs: Vec<RevokedCertParams>,
    now: OffsetDateTime,
) -> Result<Crl, rcgen::Error> {
    let params = CertificateRevocationListParams {
        this_update: now - CLOCK_SLACK,
        next_update: now + LIFE,
        crl_number: SerialNumber::from(number),
        issuing_distribution_point: None,
        revoked_certs,
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let list: CertificateRevocationList = params.signed_by(issuer)?;
    Ok(Crl {
        der: list.der().to_vec(),
        pem: list.pem()?.into_bytes(),
    })
}

/// Writes both encodings.
pub(super) fn write(directory: &Path, crl: &Crl) -> Result<(), CaError> {
    for (name, bytes) in [(names::CRL_DER, &crl.der), (names::CRL_PEM, &crl.pem)] {
        let path = directory.join(name);
        write_atomically(&path, bytes, 0o644)
            .map_err(|source| CaError::io("write", &path, source))?;
    }
    Ok(())
}
