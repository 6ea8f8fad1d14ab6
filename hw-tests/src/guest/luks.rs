//! An encrypted disk, made without root and without the kernel's device mapper: cryptsetup writes the header to a plain file,
//! and the file system is encrypted here.
//!
//! Source: dm-crypt's `aes-xts-plain64`, which is IEEE 1619 XTS-AES-256 with sectors of 512 bytes, counted from the beginning
//! of the data.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use aes::Aes256;
use aes::cipher::{BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};
use rand::TryRng as _;
use rand::rngs::SysRng;

use crate::Result;
use crate::site::Site;

/// A disk in LUKS's second format, on which a file system is.
#[derive(Debug)]
pub struct Luks {
    disk: PathBuf,
    volume_key: [u8; 64],
}

impl Luks {
    /// Encrypts the file system in `plain`, so that `key`, a file's content, and a passphrase unlock it each.
    ///
    /// # Errors
    /// cryptsetup fails.
    pub fn over(site: &Site, plain: &Path, key: &[u8], passphrase: &str) -> Result<Self> {
        let in_dir = |name: &str| site.dir().join(name);
        let (disk, volume_key) = (in_dir("luks"), fresh_key()?);
        for (name, content) in [
            ("luks.volume", &volume_key[..]),
            ("luks.key", key),
            ("luks.passphrase", passphrase.as_bytes()),
        ] {
            fs::write(in_dir(name), content)?;
        }
        let mut system = fs::read(plain)?;
        fs::File::create(&disk)?.set_len(DATA + u64::try_from(system.len())?)?;
        let mut format = cryptsetup("luksFormat");
        let data = (DATA / SECTOR as u64).to_string();
        format.args(["--type", "luks2", "--cipher", "aes-xts-plain64"]);
        format.args(["--key-size", "512", "--sector-size", "512", "--uuid", UUID]);
        format.args(["--offset", &data, "--volume-key-file"]);
        format.arg(in_dir("luks.volume")).arg("--key-file");
        run(format.arg(in_dir("luks.key")).arg(&disk))?;
        let mut add = cryptsetup("luksAddKey");
        add.arg("--key-file").arg(in_dir("luks.key")).arg(&disk);
        run(add.arg(in_dir("luks.passphrase")))?;
        let luks = Self { disk, volume_key };
        luks.crypt(&mut system, Way::Encrypt)?;
        let mut whole = fs::read(&luks.disk)?;
        whole.splice(usize::try_from(DATA)?.., system);
        fs::write(&luks.disk, whole)?;
        Ok(luks)
    }

    /// The disk's image.
    pub fn disk(&self) -> &Path {
        &self.disk
    }

    /// Whether a secret stands on the disk, in the file system or outside it: as it is, in hexadecimal or in Base64.
    ///
    /// # Errors
    /// The image can't be read.
    pub fn contains(&self, secret: &[u8]) -> Result<bool> {
        use base64::Engine;
        let hexadecimal: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        let base64 = base64::engine::general_purpose::STANDARD_NO_PAD.encode(secret);
        let sealed = fs::read(&self.disk)?;
        let mut open = sealed[usize::try_from(DATA)?..].to_vec();
        self.crypt(&mut open, Way::Decrypt)?;
        let forms = [
            secret.to_vec(),
            hexadecimal.to_uppercase().into_bytes(),
            hexadecimal.into_bytes(),
            // Its last letter depends on what follows.
            base64[..base64.len() - 1].into(),
        ];
        Ok(forms.iter().any(|form| {
            let stands_in = |place: &[u8]| place.windows(form.len()).any(|at| at == form);
            stands_in(&sealed) || stands_in(&open)
        }))
    }

    fn crypt(&self, data: &mut [u8], way: Way) -> Result {
        let (first, second) = self.volume_key.split_at(32);
        let (blocks, tweaks) = (
            Aes256::new_from_slice(first)?,
            Aes256::new_from_slice(second)?,
        );
        for (number, sector) in (0_u128..).zip(data.chunks_exact_mut(SECTOR)) {
            let mut tweak = number.to_le_bytes().into();
            tweaks.encrypt_block(&mut tweak);
            let mut tweak = u128::from_le_bytes(tweak.into());
            for block in sector.as_chunks_mut::<16>().0 {
                let mut value = (u128::from_le_bytes(*block) ^ tweak).to_le_bytes().into();
                match way {
                    Way::Encrypt => blocks.encrypt_block(&mut value),
                    Way::Decrypt => blocks.decrypt_block(&mut value),
                }
                *block = (u128::from_le_bytes(value.into()) ^ tweak).to_le_bytes();
                // Times x, modulo x^128 + x^7 + x^2 + x + 1.
                tweak = (tweak << 1) ^ (0x87 * (tweak >> 127));
            }
        }
        Ok(())
    }
}

#[derive(Clone, Copy)]
enum Way {
    Encrypt,
    Decrypt,
}

/// How such a disk is named, in crypttab too.
pub const UUID: &str = "6b657968-616c-4000-8000-000000000001";

/// Where the file system begins: what cryptsetup leaves for its header when nobody says otherwise.
const DATA: u64 = 16 << 20;

const SECTOR: usize = 512;

/// A command of cryptsetup's for a file, with a key derivation that an emulated processor does at once.
fn cryptsetup(command: &str) -> Command {
    let mut cryptsetup = Command::new("cryptsetup");
    cryptsetup.args([command, "--batch-mode", "--disable-locks"]);
    cryptsetup.args(["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"]);
    cryptsetup
}

fn run(command: &mut Command) -> Result {
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(format!("cryptsetup: {}: {text}", output.status).into())
}

/// A key of this many bytes.
///
/// # Errors
/// The kernel has no random numbers.
pub fn fresh_key<const BYTES: usize>() -> Result<[u8; BYTES]> {
    let mut key = [0; BYTES];
    SysRng.try_fill_bytes(&mut key)?;
    Ok(key)
}
