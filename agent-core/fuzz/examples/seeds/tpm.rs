//! Structures of a TPM, and quotes as they travel.

use agent_core::tpm::{FakeTpm, Tpm};
use agent_core::wire::quote::{Digest, HashAlg, MAX_DUMP_BYTES, PcrDump, PcrMask, QuoteWriter};

use super::save;

pub(super) fn structures() -> std::io::Result<()> {
    let (attest, signature, dump) = quoted();
    let mut room = [0; MAX_DUMP_BYTES];
    save("tpm_structures", "attest", attest)?;
    save("tpm_structures", "signature-ecdsa", signature)?;
    save("tpm_structures", "signature-rsassa", rsa_signature())?;
    save("tpm_structures", "dump", dump.encode(&mut room))?;
    save(
        "tpm_structures",
        "dump-of-two-lists",
        long_dump().encode(&mut room),
    )?;
    for (name, area) in areas() {
        save("tpm_structures", name, area)?;
    }
    Ok(())
}

pub(super) fn quotes() -> std::io::Result<()> {
    let (attest, signature, dump) = quoted();
    let rsa = rsa_signature();
    let writer = QuoteWriter {
        attest: &attest,
        signature: &signature,
        dump: &dump,
    };
    save("quote_strings", "ecdsa", writer.to_string())?;
    let writer = QuoteWriter {
        signature: &rsa,
        ..writer
    };
    save("quote_strings", "rsassa", writer.to_string())?;
    let long = long_dump();
    let writer = QuoteWriter {
        dump: &long,
        ..writer
    };
    save("quote_strings", "two-lists", writer.to_string())?;
    save("quote_strings", "no-parts", "r::")?;
    save(
        "quote_strings",
        "made",
        b"\x01\x04\x01\x07hxlaYl6NEVXHAWPj1jV4",
    )
}

/// Public areas of an AK and an EK of each kind, by the TCG's templates.
///
/// Source: TPM 2.0 Library part 2, section 12.2; TCG EK Credential Profile 2.5, sections B.3.3 and B.3.4.
fn areas() -> [(&'static str, Vec<u8>); 4] {
    let sized = |bytes: &[u8]| {
        let length = u16::try_from(bytes.len()).expect("short");
        [&length.to_be_bytes(), bytes].concat()
    };
    let point = p256_generator();
    let modulus = rsa_modulus();
    let area = |kind: u16, attributes: u32, policy: &[u8], parameters: &[u8], unique: &[u8]| {
        let head = [kind.to_be_bytes(), [0, 0x0B]].concat();
        sized(
            &[
                &head,
                &attributes.to_be_bytes()[..],
                &sized(policy),
                parameters,
                unique,
            ]
            .concat(),
        )
    };
    const AK: u32 = 0x0005_0472;
    const EK: u32 = 0x0003_00B2;
    let policy = [0x83; 32];
    let aes = [0, 6, 0, 128, 0, 0x43, 0, 0x10];
    let unique = sized(&modulus);
    [
        (
            "ak-p256",
            area(
                0x23,
                AK,
                &[],
                &[0, 0x10, 0, 0x18, 0, 0x0B, 0, 3, 0, 0x10],
                &point,
            ),
        ),
        (
            "ak-rsa",
            area(
                1,
                AK,
                &[],
                &[0, 0x10, 0, 0x14, 0, 0x0B, 8, 0, 0, 0, 0, 0],
                &unique,
            ),
        ),
        (
            "ek-p256",
            area(
                0x23,
                EK,
                &policy,
                &[&aes[..], &[0, 3, 0, 0x10]].concat(),
                &point,
            ),
        ),
        (
            "ek-rsa",
            area(
                1,
                EK,
                &policy,
                &[&aes[..], &[8, 0, 0, 0, 0, 0]].concat(),
                &unique,
            ),
        ),
    ]
}

fn quoted() -> (Vec<u8>, Vec<u8>, PcrDump) {
    let mut tpm = FakeTpm::new(1);
    let mask = PcrMask::from_bits(0x1_0401).expect("PCRs");
    let quote = tpm
        .quote(b"hxlaYl6NEVXHAWPj1jV4", HashAlg::Sha256, mask)
        .expect("fake");
    let values = tpm.pcr_read(HashAlg::Sha256, mask).expect("fake");
    let dump = PcrDump::new(HashAlg::Sha256, values).expect("in order");
    (quote.attest.to_vec(), quote.signature.to_vec(), dump)
}

fn rsa_signature() -> Vec<u8> {
    [&[0, 0x14, 0, 0x0B, 1, 0][..], &[0x55; 256]].concat()
}

/// Nine values, so that they take two lists.
fn long_dump() -> PcrDump {
    let digest = |pcr: u8| Digest::from_slice(&[pcr; 48]).expect("48 bytes");
    let values = (0..9).map(|pcr| (pcr, digest(pcr))).collect();
    PcrDump::new(HashAlg::Sha384, values).expect("in order")
}

/// The generator of P-256, marshalled.
///
/// Source: NIST SP 800-186, section 3.2.1.3.
fn p256_generator() -> Vec<u8> {
    const X: &str = "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296";
    const Y: &str = "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5";
    let number = |hex| agent_core::wire::text::parse_hex::<32>(str::as_bytes(hex)).expect("hex");
    [&[0, 32], &number(X)[..], &[0, 32], &number(Y)].concat()
}

/// A number as a modulus looks, of which nobody has to know the factors.
fn rsa_modulus() -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..256).map(|at| (at * 37 + 11) as u8).collect();
    (bytes[0], bytes[255]) = (0xC5, 0x0D);
    bytes
}
