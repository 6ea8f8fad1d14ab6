//! Texts of quotes: what is written is read as the same, and what is read is written so that it reads as the same.

use agent_core::tpm::{FakeTpm, Tpm};
use agent_core::wire::quote::{
    Digest, HashAlg, PcrDump, PcrMask, QuoteBuffer, QuoteText, QuoteWriter, Signature,
};

/// The bytes are a text, and then what a quote is made of.
pub fn check(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        check_text(text);
    }
    if let Some((&[low, middle, high, seed], nonce)) = data.split_first_chunk() {
        check_written(PcrMask::from_select([low, middle, high]), seed, nonce);
    }
}

fn check_text(text: &str) {
    let (mut buffer, mut second) = (QuoteBuffer::default(), QuoteBuffer::default());
    let Ok(read) = QuoteText::parse(text, &mut buffer) else {
        return;
    };
    let signature = marshalled(&read.signature);
    let again = QuoteWriter {
        attest: read.attest_bytes,
        signature: &signature,
        dump: &read.dump,
    };
    assert_eq!(QuoteText::parse(&again.to_string(), &mut second), Ok(read));
}

fn check_written(mask: PcrMask, seed: u8, nonce: &[u8]) {
    let bank = HashAlg::Sha256;
    let mut tpm = FakeTpm::new(seed);
    for pcr in 0..4 {
        let digest = Digest::from_slice(&[seed; 32]).unwrap();
        tpm.pcr_extend(pcr, bank, &digest).unwrap();
    }
    let nonce = &nonce[..nonce.len().min(64)];
    let quote = tpm.quote(nonce, bank, mask).unwrap();
    let dump = PcrDump::new(bank, tpm.pcr_read(bank, mask).unwrap()).unwrap();
    let text = QuoteWriter {
        attest: &quote.attest,
        signature: &quote.signature,
        dump: &dump,
    }
    .to_string();
    let mut buffer = QuoteBuffer::default();
    let read = QuoteText::parse(&text, &mut buffer).unwrap();
    assert_eq!(read.attest_bytes, quote.attest);
    assert_eq!((read.attest.extra_data, read.attest.pcrs), (nonce, mask));
    assert_eq!(read.attest.pcr_digest, read.dump.digest(bank));
    assert_eq!(marshalled(&read.signature)[..], quote.signature[..]);
    assert_eq!(read.dump, dump);
}

/// `TPMT_SIGNATURE`, as part 2 of the TPM 2.0 Library writes it in section 11.3.4.
fn marshalled(signature: &Signature<'_>) -> Vec<u8> {
    let sized = |bytes: &[u8]| {
        let length = u16::try_from(bytes.len()).unwrap();
        [&length.to_be_bytes(), bytes].concat()
    };
    let hash = signature.hash().tpm_id().to_be_bytes();
    match signature {
        Signature::Rsassa { signature, .. } => [&[0, 0x14], &hash[..], &sized(signature)].concat(),
        Signature::Ecdsa { r, s, .. } => [&[0, 0x18], &hash[..], &sized(r), &sized(s)].concat(),
    }
}
