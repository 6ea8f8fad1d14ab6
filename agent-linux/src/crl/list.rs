//! A list and the certificates that it takes, as far as they are looked at.
//!
//! Source: RFC 5280 sections 4.1 and 5.1.

use rustls::pki_types::alg_id;

use super::ListError;
use crate::der::{
    BIT_STRING, BOOLEAN, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, Reader, SEQUENCE, explicit,
};
use crate::net::crypto::VERIFIED;

/// What a signature is about, and it.
#[derive(Clone, Copy)]
struct Signed<'a> {
    body: &'a [u8],
    algorithm: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Signed<'a> {
    /// A structure of body, algorithm and signature; with what is in the body.
    fn read(der: &'a [u8]) -> Option<(Self, Reader<'a>)> {
        let mut reader = Reader(Reader::only(der, SEQUENCE)?);
        let body = reader.element().filter(|body| body.tag == SEQUENCE)?;
        let signed = Self {
            body: body.whole,
            algorithm: reader.contents(SEQUENCE)?,
            signature: bits(reader.contents(BIT_STRING)?)?,
        };
        reader
            .0
            .is_empty()
            .then_some((signed, Reader(body.contents)))
    }

    /// Whether the signature is of this certificate's owner.
    fn is_by(&self, signer: &Certificate<'_>) -> bool {
        VERIFIED.all.iter().any(|one| {
            one.signature_alg_id().as_ref() == self.algorithm
                && one.public_key_alg_id().as_ref() == signer.key_algorithm
                && one
                    .verify_signature(signer.key, self.body, self.signature)
                    .is_ok()
        })
    }
}

/// A certificate.
#[derive(Clone, Copy)]
pub(crate) struct Certificate<'a> {
    signed: Signed<'a>,
    issuer: &'a [u8],
    subject: &'a [u8],
    key_info: &'a [u8],
    key_algorithm: &'a [u8],
    key: &'a [u8],
    extensions: Reader<'a>,
}

impl<'a> Certificate<'a> {
    /// Reads one in DER; `None` if it isn't one.
    pub(crate) fn read(der: &'a [u8]) -> Option<Self> {
        let (signed, mut body) = Signed::read(der)?;
        body.optional(explicit(0));
        body.contents(INTEGER)?;
        let algorithm = body.contents(SEQUENCE)?;
        let issuer = body.contents(SEQUENCE)?;
        let _validity = body.contents(SEQUENCE)?;
        let subject = body.contents(SEQUENCE)?;
        let key_info = body.element().filter(|key| key.tag == SEQUENCE)?;
        let mut key = Reader(key_info.contents);
        // The unique identifiers of version 2 are nobody's.
        let extensions = body.optional(explicit(3)).unwrap_or(EMPTY);
        (algorithm == signed.algorithm && body.0.is_empty()).then_some(Self {
            signed,
            issuer,
            subject,
            key_info: key_info.whole,
            key_algorithm: key.contents(SEQUENCE)?,
            key: bits(key.contents(BIT_STRING)?)?,
            extensions: Reader(Reader::only(extensions, SEQUENCE)?),
        })
    }

    /// Its `SubjectPublicKeyInfo`, in DER.
    pub(crate) const fn key_info(&self) -> &'a [u8] {
        self.key_info
    }

    /// Modulus and exponent of its key, without leading zeros, if it is an RSA key.
    ///
    /// Source: RFC 8017 section A.1.1.
    pub(crate) fn rsa_key(&self) -> Option<[&'a [u8]; 2]> {
        let mut key = Reader(Reader::only(self.key, SEQUENCE)?);
        let mut number = || Some(Number::read(key.contents(INTEGER)?)?.0);
        let numbers = [number()?, number()?];
        let is_rsa = self.key_algorithm == alg_id::RSA_ENCRYPTION.as_ref();
        (is_rsa && key.0.is_empty()).then_some(numbers)
    }

    /// This certificate, if its owner may sign lists in the authority's place.
    pub(super) fn delegated_by(self, authority: &Self) -> Result<Self, ListError> {
        let names = self.issuer == authority.subject && self.subject == authority.subject;
        let may_sign = || {
            let all = extensions(self.extensions)?;
            let usage = all.iter().find(|one| one.id == KEY_USAGE)?;
            let usage = bits_of_usage(Reader::only(usage.value, BIT_STRING)?)?;
            Some(usage & CRL_SIGN != 0)
        };
        if names && may_sign() == Some(true) && self.signed.is_by(authority) {
            Ok(self)
        } else {
            Err(ListError::Signer)
        }
    }
}

/// A revocation list.
#[derive(Clone, Copy)]
pub(super) struct List<'a> {
    signed: Signed<'a>,
    pub(super) issuer: &'a [u8],
    /// Its number, without leading zeros; of an old list that has none, as zero.
    pub(super) number: Number<'a>,
    has_number: bool,
}

impl<'a> List<'a> {
    pub(super) fn read(der: &'a [u8]) -> Option<Self> {
        let (signed, mut body) = Signed::read(der)?;
        body.optional(INTEGER);
        let algorithm = body.contents(SEQUENCE)?;
        let issuer = body.contents(SEQUENCE)?;
        let _this_update = body.element()?;
        // The next update is another time, the revoked certificates are the sequence after it.
        if body
            .tag()
            .is_some_and(|tag| tag != SEQUENCE && tag != explicit(0))
        {
            body.element()?;
        }
        body.optional(SEQUENCE);
        let found = body.optional(explicit(0)).unwrap_or(EMPTY);
        let (mut number, mut has_number) = (Number(&[]), false);
        for one in extensions(Reader(Reader::only(found, SEQUENCE)?))? {
            match one.id {
                CRL_NUMBER => {
                    number = Number::read(Reader::only(one.value, INTEGER)?)?;
                    has_number = true;
                }
                // A list of changes, or of some certificates only: not one that stands for all.
                _ if one.is_critical => return None,
                _ => {}
            }
        }
        (algorithm == signed.algorithm && body.0.is_empty()).then_some(Self {
            signed,
            issuer,
            number,
            has_number,
        })
    }

    /// Whether it is of this authority, by this signer.
    pub(super) fn check(
        &self,
        authority: &Certificate<'_>,
        signer: &Certificate<'_>,
    ) -> Result<(), ListError> {
        if self.issuer != authority.subject {
            Err(ListError::Issuer)
        } else if !self.has_number {
            Err(ListError::Malformed("the list's number"))
        } else if self.signed.is_by(signer) {
            Ok(())
        } else {
            Err(ListError::Signature)
        }
    }
}

/// A number of any length, without leading zeros.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Number<'a>(&'a [u8]);

impl<'a> Number<'a> {
    pub(super) fn read(integer: &'a [u8]) -> Option<Self> {
        let is_negative = integer.first()? & 0x80 != 0;
        let zeros = integer.iter().take_while(|digit| **digit == 0).count();
        (!is_negative).then_some(Self(integer.get(zeros..)?))
    }

    #[cfg(test)]
    pub(super) fn last_byte(self) -> u8 {
        self.0.last().copied().unwrap_or(0)
    }

    pub(super) fn is_above(self, other: Number<'_>) -> bool {
        (self.0.len(), self.0) > (other.0.len(), other.0)
    }
}

struct Extension<'a> {
    id: &'a [u8],
    is_critical: bool,
    value: &'a [u8],
}

/// The extensions in a sequence; `None` if one of them can't be read.
fn extensions(mut left: Reader<'_>) -> Option<Vec<Extension<'_>>> {
    let mut found = Vec::new();
    while !left.0.is_empty() {
        let mut parts = Reader(left.contents(SEQUENCE)?);
        found.push(Extension {
            id: parts.contents(OBJECT_IDENTIFIER)?,
            is_critical: parts.optional(BOOLEAN).is_some_and(|value| value != [0]),
            value: parts.contents(OCTET_STRING)?,
        });
    }
    Some(found)
}

/// A bit string of whole bytes.
fn bits(contents: &[u8]) -> Option<&[u8]> {
    match contents.split_first()? {
        (0, bits) => Some(bits),
        _ => None,
    }
}

/// The first eight bits of a bit string, whose end may be unused.
fn bits_of_usage(contents: &[u8]) -> Option<u8> {
    contents.get(1).copied()
}

/// No extensions.
const EMPTY: &[u8] = &[SEQUENCE, 0];
/// 2.5.29.15.
const KEY_USAGE: &[u8] = &[0x55, 0x1D, 0x0F];
/// 2.5.29.20.
const CRL_NUMBER: &[u8] = &[0x55, 0x1D, 0x14];
/// cRLSign, of key usages the seventh.
const CRL_SIGN: u8 = 0x80 >> 6;
