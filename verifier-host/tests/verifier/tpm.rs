//! A TPM in software, as far as a quote goes: an ECDSA attestation key, PCRs, a clock. It can lie where a real one can't.

use agent_core::wire::quote::{Digest, HashAlg, PCR_COUNT, PcrDump, PcrMask, QuoteWriter};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use p256::ecdsa::signature::hazmat::PrehashSigner as _;
use p256::ecdsa::{Signature, SigningKey};

/// What a restricted signing key of a TPM has: fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA, restricted, sign.
pub(crate) const AK_ATTRIBUTES: u32 = 0x0005_0472;

/// The TPM; its fields are there to be changed.
pub(crate) struct SoftTpm {
    pub(crate) bank: HashAlg,
    pub(crate) attributes: u32,
    pub(crate) clock_ms: u64,
    pub(crate) reset_count: u32,
    pub(crate) restart_count: u32,
    pub(crate) safe: bool,
    key: SigningKey,
    pcrs: Vec<Digest>,
}

impl SoftTpm {
    /// One whose key comes from this number.
    pub(crate) fn new(seed: u8) -> Self {
        let bank = HashAlg::Sha256;
        Self {
            bank,
            attributes: AK_ATTRIBUTES,
            clock_ms: 1000,
            reset_count: 5,
            restart_count: 1,
            safe: true,
            key: SigningKey::from_slice(&[seed; 32]).unwrap(),
            pcrs: vec![zeros(bank); usize::from(PCR_COUNT)],
        }
    }

    /// The attestation key as base64 of a `TPM2B_PUBLIC`.
    pub(crate) fn ak(&self) -> String {
        let point = self.key.verifying_key().to_sec1_point(false);
        let mut area = Vec::new();
        area.extend(0x0023_u16.to_be_bytes());
        area.extend(HashAlg::Sha256.tpm_id().to_be_bytes());
        area.extend(self.attributes.to_be_bytes());
        area.extend([0, 0]);
        area.extend(0x0010_u16.to_be_bytes());
        area.extend(0x0018_u16.to_be_bytes());
        area.extend(self.bank.tpm_id().to_be_bytes());
        area.extend(0x0003_u16.to_be_bytes());
        area.extend(0x0010_u16.to_be_bytes());
        area.extend(sized(point.x().unwrap()));
        area.extend(sized(point.y().unwrap()));
        BASE64_STANDARD.encode(sized(&area))
    }

    /// Sets a PCR to zeros and extends it once with the hash of the data.
    pub(crate) fn measure(&mut self, pcr: u8, data: &[u8]) {
        let measured = self.bank.digest([data]);
        self.pcrs[usize::from(pcr)] = self.bank.digest([&zeros(self.bank)[..], &measured[..]]);
    }

    /// Extends a PCR with a digest.
    pub(crate) fn extend(&mut self, pcr: u8, digest: &[u8]) {
        let held = &mut self.pcrs[usize::from(pcr)];
        *held = self.bank.digest([&held[..], digest]);
    }

    /// Starts anew: other counters, PCRs at zero but for PCR 7, which is as before.
    pub(crate) fn reboot(&mut self) {
        self.reset_count += 1;
        self.restart_count = 0;
        for (pcr, held) in self.pcrs.iter_mut().enumerate() {
            if pcr != 7 {
                *held = zeros(self.bank);
            }
        }
    }

    /// What a PCR holds, in hex.
    pub(crate) fn held(&self, pcr: u8) -> String {
        agent_core::wire::text::Hex(&self.pcrs[usize::from(pcr)]).to_string()
    }

    /// A quote of the PCRs and of PCR 16, as text.
    pub(crate) fn quote(&mut self, nonce: &str, mask: PcrMask) -> String {
        self.clock_ms += 10;
        let mask = mask.with(16);
        let values = mask
            .iter()
            .map(|pcr| (pcr, self.pcrs[usize::from(pcr)].clone()))
            .collect();
        let dump = PcrDump::new(self.bank, values).unwrap();
        let mut attest = vec![0xff, 0x54, 0x43, 0x47, 0x80, 0x18];
        attest.extend(sized(
            &[0, 11].into_iter().chain([7; 32]).collect::<Vec<_>>(),
        ));
        attest.extend(sized(nonce.as_bytes()));
        attest.extend(self.clock_ms.to_be_bytes());
        attest.extend(self.reset_count.to_be_bytes());
        attest.extend(self.restart_count.to_be_bytes());
        attest.push(u8::from(self.safe));
        attest.extend([0; 8]);
        attest.extend(1_u32.to_be_bytes());
        attest.extend(self.bank.tpm_id().to_be_bytes());
        attest.push(3);
        attest.extend(&mask.bits().to_le_bytes()[..3]);
        attest.extend(sized(&dump.digest(self.bank)));

        let signed: Signature = self
            .key
            .sign_prehash(&self.bank.digest([&attest[..]]))
            .unwrap();
        let mut signature = Vec::new();
        signature.extend(0x0018_u16.to_be_bytes());
        signature.extend(self.bank.tpm_id().to_be_bytes());
        signature.extend(sized(&signed.r().to_bytes()));
        signature.extend(sized(&signed.s().to_bytes()));
        QuoteWriter {
            attest: &attest,
            signature: &signature,
            dump: &dump,
        }
        .to_string()
    }

    /// The same TPM with another bank, its PCRs at zero.
    pub(crate) fn with_bank(mut self, bank: HashAlg) -> Self {
        self.bank = bank;
        self.pcrs = vec![zeros(bank); usize::from(PCR_COUNT)];
        self
    }
}

fn zeros(bank: HashAlg) -> Digest {
    let mut digest = Digest::new();
    digest.resize(bank.digest_bytes(), 0).unwrap();
    digest
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    let mut all = u16::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
    all.extend(bytes);
    all
}
