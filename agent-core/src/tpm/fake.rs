//! A TPM in memory, for tests of the machine: PCRs that extend, quotes that parse, ciphertexts that only this TPM opens.
//!
//! Nothing of it is secret or signed.

use core::fmt;

use super::{Identity, MAX_CREDENTIAL_BYTES, Opened, OutboundTpm, SignedQuote, Tpm};
use crate::secret::Secret;
use crate::wire::quote::{Digest, HashAlg, MAX_ATTEST_BYTES, PCR_SLOTS, PcrMask, PcrValues};
use crate::wire::statement::STATEMENT_PCR;

/// A TPM in memory with one bank.
#[derive(Clone, Debug)]
pub struct FakeTpm {
    identity: Identity,
    bank: HashAlg,
    pcrs: [Digest; PCR_SLOTS],
    clock_ms: u64,
    /// Quotes fail while this is set.
    pub broken: bool,
    /// PCR 10 moves after each of the next quotes, as IMA may move it.
    pub moving: u32,
    /// PCR 16 is reset after each of the next statements, as another program may reset it.
    pub meddled: u32,
    /// How often all banks were extended.
    pub caps: u32,
    /// What was done to PCR 16 and quoted, in order, as far as there is room: `r`eset, `e`xtended, `q`uoted.
    pub statements: heapless::Vec<u8, 64>,
    /// The value of its one counter, if it has one.
    pub counter: Option<u64>,
}

/// What a [`FakeTpm`] refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FakeError {
    /// It was told to fail.
    Broken,
    /// The ciphertext is for another key.
    Foreign,
    /// Another bank, or a PCR that is none.
    NoSuchPcr,
    /// It has no counter.
    NoCounter,
}

impl fmt::Display for FakeError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Broken => "the fake TPM is told to fail",
            Self::Foreign => "the fake TPM has no key for this",
            Self::NoSuchPcr => "the fake TPM has no such PCR",
            Self::NoCounter => "the fake TPM has no counter",
        })
    }
}

impl FakeTpm {
    /// A TPM whose identity and keys follow from a number.
    #[must_use]
    pub fn new(seed: u8) -> Self {
        let bank = HashAlg::Sha256;
        let mut zeros = Digest::new();
        let _ = zeros.resize(bank.digest_bytes(), 0);
        let mut identity = Identity {
            ek_public: heapless::Vec::new(),
            ak_public: heapless::Vec::new(),
            transport_pem: heapless::String::new(),
        };
        let _ = identity.ek_public.extend_from_slice(&[0, 1, seed]);
        let _ = identity.ak_public.extend_from_slice(&[0, 2, seed, seed]);
        let _ = fmt::Write::write_fmt(
            &mut identity.transport_pem,
            format_args!("-----BEGIN PUBLIC KEY-----\nfake{seed}\n-----END PUBLIC KEY-----\n"),
        );
        Self {
            identity,
            bank,
            pcrs: core::array::from_fn(|_| zeros.clone()),
            clock_ms: 0,
            broken: false,
            moving: 0,
            meddled: 0,
            caps: 0,
            statements: heapless::Vec::new(),
            counter: None,
        }
    }

    /// What stands for `TPM2_MakeCredential`: both parts with their sizes, for [`Tpm::activate_credential`].
    #[must_use]
    pub fn wrap(&self, credential: &[u8]) -> heapless::Vec<u8, 80> {
        let ciphertext = self.encrypt(credential);
        let length = u16::try_from(ciphertext.len()).unwrap_or(0).to_be_bytes();
        let mut blob = heapless::Vec::new();
        for part in [&[0, 1, 7][..], &length, &ciphertext] {
            let _ = blob.extend_from_slice(part);
        }
        blob
    }

    /// Lets its clock go on by so many milliseconds.
    pub const fn pass(&mut self, millis: u64) {
        self.clock_ms = self.clock_ms.saturating_add(millis);
    }

    fn log(&mut self, what: u8) {
        // What doesn't fit isn't kept.
        let _ = self.statements.push(what);
    }

    /// Encrypts to this TPM's transport key; at most [`MAX_CREDENTIAL_BYTES`] are taken.
    #[must_use]
    pub fn encrypt(&self, plaintext: &[u8]) -> heapless::Vec<u8, 64> {
        let mut ciphertext = heapless::Vec::new();
        let _ = ciphertext.extend_from_slice(self.key_mark().as_slice());
        let mask = plaintext.iter().take(MAX_CREDENTIAL_BYTES);
        ciphertext.extend(mask.map(|byte| byte ^ MASK));
        ciphertext
    }

    fn key_mark(&self) -> heapless::Vec<u8, 8> {
        let mut mark = heapless::Vec::new();
        let _ = mark.extend_from_slice(b"oaep");
        mark.extend(self.identity.ek_public.iter().copied().take(4));
        mark
    }

    fn decrypt(&self, ciphertext: &[u8]) -> Result<Opened, FakeError> {
        let masked = ciphertext
            .strip_prefix(self.key_mark().as_slice())
            .filter(|masked| masked.len() <= MAX_CREDENTIAL_BYTES)
            .ok_or(FakeError::Foreign)?;
        let mut bytes = Secret::zeroed();
        for (to, from) in bytes.as_mut().iter_mut().zip(masked) {
            *to = from ^ MASK;
        }
        Ok(Opened {
            bytes,
            len: masked.len(),
        })
    }

    fn pcr(&mut self, pcr: u8) -> Result<&mut Digest, FakeError> {
        self.pcrs
            .get_mut(usize::from(pcr))
            .ok_or(FakeError::NoSuchPcr)
    }

    fn attest(&self, nonce: &[u8], pcrs: PcrMask) -> heapless::Vec<u8, MAX_ATTEST_BYTES> {
        let values = pcrs
            .iter()
            .filter_map(|pcr| self.pcrs.get(usize::from(pcr)))
            .map(Digest::as_slice);
        let digest = self.bank.digest(values);
        let mut attest = heapless::Vec::new();
        let mut put = |bytes: &[u8]| {
            let _ = attest.extend_from_slice(bytes);
        };
        let length = |bytes: &[u8]| u16::try_from(bytes.len()).unwrap_or(0).to_be_bytes();
        put(&[0xFF, 0x54, 0x43, 0x47, 0x80, 0x18]);
        put(&length(&self.identity.ak_public));
        put(&self.identity.ak_public);
        put(&length(nonce));
        put(nonce);
        put(&self.clock_ms.to_be_bytes());
        put(&[0, 0, 0, 1, 0, 0, 0, 0, 1]);
        put(&[0; 8]);
        put(&[0, 0, 0, 1]);
        put(&self.bank.tpm_id().to_be_bytes());
        put(&[3]);
        put(&pcrs.to_select());
        put(&length(&digest));
        put(&digest);
        attest
    }
}

impl Tpm for FakeTpm {
    type Error = FakeError;

    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn ek_certificate(&mut self, _: &mut [u8]) -> Result<Option<usize>, FakeError> {
        Ok(None)
    }

    /// The secret is what [`FakeTpm::encrypt`] made, with its size before it.
    fn activate_credential(&mut self, _: &[u8], secret: &[u8]) -> Result<Opened, FakeError> {
        self.decrypt(secret.get(2..).unwrap_or_default())
    }

    fn quote(
        &mut self,
        nonce: &[u8],
        bank: HashAlg,
        pcrs: PcrMask,
    ) -> Result<SignedQuote, FakeError> {
        if self.broken {
            return Err(FakeError::Broken);
        }
        if bank != self.bank {
            return Err(FakeError::NoSuchPcr);
        }
        self.log(b'q');
        self.clock_ms = self.clock_ms.saturating_add(1);
        let attest = self.attest(nonce, pcrs);
        let half = bank.digest([attest.as_slice()]);
        let mut signature = heapless::Vec::new();
        for piece in [&[0, 0x18, 0, 0x0B, 0, 32][..], &half, &[0, 32], &half] {
            let _ = signature.extend_from_slice(piece);
        }
        if self.moving > 0 {
            self.moving = self.moving.saturating_sub(1);
            self.pcr_extend(10, bank, &half)?;
        }
        Ok(SignedQuote { attest, signature })
    }

    fn pcr_read(&mut self, bank: HashAlg, pcrs: PcrMask) -> Result<PcrValues, FakeError> {
        if bank != self.bank {
            return Err(FakeError::NoSuchPcr);
        }
        let mut values = PcrValues::new();
        for pcr in pcrs.iter() {
            let value = self.pcr(pcr)?.clone();
            let _ = values.push((pcr, value));
        }
        Ok(values)
    }

    fn pcr_extend(&mut self, pcr: u8, bank: HashAlg, digest: &Digest) -> Result<(), FakeError> {
        let value = self.pcr(pcr)?;
        *value = bank.digest([value.as_slice(), digest.as_slice()]);
        if pcr == STATEMENT_PCR {
            self.log(b'e');
            if self.meddled > 0 {
                self.meddled = self.meddled.saturating_sub(1);
                self.pcr(pcr)?.fill(0);
            }
        }
        Ok(())
    }

    fn pcr_reset(&mut self, pcr: u8) -> Result<(), FakeError> {
        if pcr == STATEMENT_PCR {
            self.log(b'r');
        }
        self.pcr(pcr)?.fill(0);
        Ok(())
    }

    fn oaep_decrypt(&mut self, ciphertext: &[u8]) -> Result<Opened, FakeError> {
        self.decrypt(ciphertext)
    }

    fn random(&mut self, out: &mut [u8]) -> Result<(), FakeError> {
        out.fill(4);
        Ok(())
    }
}

impl OutboundTpm for FakeTpm {
    /// The attest names what is qualified, and is no quote.
    fn certify_ak(&mut self, qualifying: &[u8]) -> Result<SignedQuote, FakeError> {
        if self.broken {
            return Err(FakeError::Broken);
        }
        let mut certified = SignedQuote::default();
        for part in [&[0xFF, 0x54, 0x43, 0x47, 0x80, 0x17], qualifying] {
            let _ = certified.attest.extend_from_slice(part);
        }
        let _ = certified.signature.extend_from_slice(b"signature");
        Ok(certified)
    }

    fn extend_all_banks(&mut self, pcr: u8, text: &[u8]) -> Result<(), FakeError> {
        if self.broken {
            return Err(FakeError::Broken);
        }
        self.caps = self.caps.saturating_add(1);
        self.pcr_extend(pcr, self.bank, &self.bank.digest([text]))
    }

    fn counter(&mut self, _: u32) -> Result<Option<u64>, FakeError> {
        Ok(self.counter)
    }

    fn raise_counter(&mut self, _: u32) -> Result<(), FakeError> {
        let value = self.counter.ok_or(FakeError::NoCounter)?;
        self.counter = Some(value.saturating_add(1));
        Ok(())
    }

    /// The secret, masked, after the digest of the PCRs.
    fn keep(
        &mut self,
        bank: HashAlg,
        pcrs: PcrMask,
        secret: &Secret<32>,
        out: &mut [u8],
    ) -> Result<usize, FakeError> {
        let state = self.state(bank, pcrs)?;
        let masked = secret.as_ref().iter().map(|byte| byte ^ MASK);
        let kept = state.iter().copied().chain(masked);
        let mut length = 0usize;
        for (to, from) in out.iter_mut().zip(kept) {
            *to = from;
            length = length.saturating_add(1);
        }
        Ok(length)
    }

    fn recall(
        &mut self,
        bank: HashAlg,
        pcrs: PcrMask,
        kept: &[u8],
    ) -> Result<Secret<32>, FakeError> {
        let state = self.state(bank, pcrs)?;
        let masked = kept.strip_prefix(state.as_slice());
        let masked = masked.filter(|masked| masked.len() == 32);
        let mut secret = Secret::zeroed();
        for (to, from) in secret
            .as_mut()
            .iter_mut()
            .zip(masked.ok_or(FakeError::Foreign)?)
        {
            *to = from ^ MASK;
        }
        Ok(secret)
    }
}

impl FakeTpm {
    fn state(&mut self, bank: HashAlg, pcrs: PcrMask) -> Result<Digest, FakeError> {
        let values = self.pcr_read(bank, pcrs)?;
        Ok(bank.digest(values.iter().map(|(_, value)| value.as_slice())))
    }
}

/// What stands for encryption.
const MASK: u8 = 0x5A;
