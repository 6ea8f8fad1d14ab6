//! Keylime's reference state, as its example policy reads it.
//!
//! Fields that the example policy doesn't have are ignored, as there. What it would fail on at each evaluation is refused when
//! it is read.
//!
//! Source: `keylime/mba/elchecking/example.py` of Keylime 7.14.3.

use agent_core::wire::quote::{Digest, HashAlg, PcrMask};
use regex::Regex;
use serde::Deserialize;

use super::condition::anchored;
use super::{MeasuredBootFailure, MeasuredBootPolicyError, json, part};
use crate::evidence::eventlog::{EventLog, Guid, LogHash, Signature};
use crate::policy::{Pairs, from_hex};

mod judge;

/// 0 to 9 and 14.
pub(super) const PCRS: PcrMask = PcrMask::from_select([0xFF, 0x43, 0]);

/// What the example policy compares a boot with.
#[derive(Clone, Debug)]
pub struct Refstate {
    secure_boot: bool,
    firmwares: Vec<Firmware>,
    kernels: Vec<Kernel>,
    pk: Vec<Key>,
    kek: Vec<Key>,
    db: Vec<Key>,
    dbx: Vec<Key>,
    vendor_db: Vec<Key>,
    mok: Vec<Digests>,
    mok_excluded: Vec<Digests>,
}

/// Digests of one thing, by hash.
type Digests = Vec<(LogHash, Digest)>;

/// A firmware that may have run.
#[derive(Clone, Debug)]
struct Firmware {
    version: Digests,
    blobs: Vec<Digests>,
}

/// A way to boot: images, initramfs and command line that belong together.
#[derive(Clone, Debug)]
struct Kernel {
    shim: Digest,
    grub: Digest,
    /// With Secure Boot the image's Authenticode digest, without it the file's.
    kernel: Digest,
    initrd: Digest,
    command_line: Regex,
}

/// A certificate or digest in a signature database.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    owner: Guid,
    data: Vec<u8>,
}

impl Key {
    fn is(&self, signature: &Signature<'_>) -> bool {
        self.owner == signature.owner && self.data == signature.data
    }
}

impl Refstate {
    pub(super) fn read(bytes: &[u8]) -> Result<Self, MeasuredBootPolicyError> {
        let text: Text = serde_json::from_slice(bytes).map_err(json)?;
        let secure_boot = text.has_secureboot;
        Ok(Self {
            secure_boot,
            firmwares: all("scrtm_and_bios", text.scrtm_and_bios, Firmware::new)?,
            kernels: all("kernels", text.kernels, |kernel| {
                Kernel::new(kernel, secure_boot)
            })?,
            pk: all("pk", text.pk, Key::new)?,
            kek: all("kek", text.kek, Key::new)?,
            db: all("db", text.db, Key::new)?,
            dbx: all("dbx", text.dbx, Key::new)?,
            vendor_db: all("vendor_db", text.vendor_db, Key::new)?,
            mok: all("mokdig", text.mokdig, digests)?,
            mok_excluded: all("mokxdig", text.mokxdig, digests)?,
        })
    }

    pub(super) fn judge(
        &self,
        log: &EventLog<'_>,
        bank: HashAlg,
    ) -> Result<(), MeasuredBootFailure> {
        judge::judge(self, log, bank)
    }
}

#[derive(Deserialize)]
struct Text {
    #[serde(default = "yes")]
    has_secureboot: bool,
    scrtm_and_bios: Vec<FirmwareText>,
    kernels: Vec<KernelText>,
    pk: Vec<KeyText>,
    kek: Vec<KeyText>,
    db: Vec<KeyText>,
    dbx: Vec<KeyText>,
    #[serde(default)]
    vendor_db: Vec<KeyText>,
    mokdig: Vec<Pairs<String>>,
    mokxdig: Vec<Pairs<String>>,
}

const fn yes() -> bool {
    true
}

#[derive(Deserialize)]
struct FirmwareText {
    scrtm: Pairs<String>,
    platform_firmware: Vec<Pairs<String>>,
}

#[derive(Deserialize)]
struct KernelText {
    shim_authcode_sha256: String,
    grub_authcode_sha256: String,
    kernel_authcode_sha256: Option<String>,
    vmlinuz_plain_sha256: Option<String>,
    initrd_plain_sha256: String,
    kernel_cmdline: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct KeyText {
    signature_owner: String,
    signature_data: String,
}

impl Firmware {
    fn new(text: FirmwareText) -> Result<Self, String> {
        let blobs = text.platform_firmware.into_iter().map(digests);
        Ok(Self {
            version: digests(text.scrtm)?,
            blobs: blobs.collect::<Result<_, _>>()?,
        })
    }
}

impl Kernel {
    fn new(text: KernelText, secure_boot: bool) -> Result<Self, String> {
        let (name, kernel) = if secure_boot {
            ("kernel_authcode_sha256", text.kernel_authcode_sha256)
        } else {
            ("vmlinuz_plain_sha256", text.vmlinuz_plain_sha256)
        };
        let kernel = kernel.ok_or_else(|| format!("{name} is missing"))?;
        Ok(Self {
            shim: sha256(&text.shim_authcode_sha256)?,
            grub: sha256(&text.grub_authcode_sha256)?,
            kernel: sha256(&kernel)?,
            initrd: sha256(&text.initrd_plain_sha256)?,
            command_line: anchored(&text.kernel_cmdline)?,
        })
    }
}

impl Key {
    fn new(text: KeyText) -> Result<Self, String> {
        let owner = &text.signature_owner;
        let digits = after_0x(&text.signature_data)?;
        Ok(Self {
            owner: Guid::from_text(owner)
                .ok_or_else(|| format!("SignatureOwner {owner:?} is no GUID"))?,
            data: bytes(digits).ok_or("SignatureData is not hexadecimal")?,
        })
    }
}

fn all<T, V>(
    field: &str,
    texts: Vec<T>,
    value: impl Fn(T) -> Result<V, String>,
) -> Result<Vec<V>, MeasuredBootPolicyError> {
    let numbered = texts.into_iter().enumerate();
    numbered
        .map(|(number, text)| value(text).map_err(|why| part(format!("{field}[{number}]"), why)))
        .collect()
}

/// Hashes that the log's digests aren't read of are left out: they would never match.
fn digests(texts: Pairs<String>) -> Result<Digests, String> {
    let mut digests = Digests::new();
    for (name, text) in texts.0 {
        let digits = lowercase(&text)?;
        let Some(hash) = LogHash::from_name(&name) else {
            continue;
        };
        let digest = from_hex(digits)
            .filter(|digest| digest.len() == hash.digest_bytes())
            .ok_or_else(|| format!("{name} is {:?}, which is no such digest", cut(&text)))?;
        if digests.iter().any(|(known, _)| *known == hash) {
            return Err(format!("{name} is there twice"));
        }
        digests.push((hash, digest));
    }
    Ok(digests)
}

fn sha256(text: &str) -> Result<Digest, String> {
    from_hex(lowercase(text)?)
        .filter(|digest| digest.len() == LogHash::Sha256.digest_bytes())
        .ok_or_else(|| format!("{:?} is no SHA-256 digest", cut(text)))
}

/// As Keylime wants digests: it compares texts.
fn lowercase(text: &str) -> Result<&str, String> {
    let digits = after_0x(text)?;
    let plain = |letter: u8| matches!(letter, b'0'..=b'9' | b'a'..=b'f');
    if digits.is_empty() || !digits.bytes().all(plain) {
        return Err(format!(
            "{:?} is not 0x and lowercase hexadecimal digits",
            cut(text)
        ));
    }
    Ok(digits)
}

fn after_0x(text: &str) -> Result<&str, String> {
    text.strip_prefix("0x")
        .ok_or_else(|| format!("{:?} does not begin with 0x", cut(text)))
}

fn cut(text: &str) -> String {
    text.chars().take(130).collect()
}

/// As many bytes as there are: certificates are longer than digests.
fn bytes(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    pairs
        .map(|pair| {
            let pair = std::str::from_utf8(pair)
                .ok()
                .filter(|pair| pair.len() == 2)?;
            let plain = pair.bytes().all(|letter| letter.is_ascii_hexdigit());
            u8::from_str_radix(pair, 16).ok().filter(|_| plain)
        })
        .collect()
}
