//! What a node's kernel and firmware measured: files in place of the kernel's logs, and the node's TPM extended as they say.
//!
//! Digests are made as the kernel makes them: the template hash of a line is SHA-1 of its data, and each bank is extended by
//! the bank's own hash of them.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use agent_core::wire::quote::HashAlg;
use agent_core::wire::text::Hex;
use serde_json::{Map, Value, json};
use verifier_host::evidence::eventlog::EventLog;
use verifier_host::evidence::ima::ListHash;

use crate::Result;
use crate::site::Site;
use crate::swtpm::Swtpm;

/// A file that a node runs: its path and what is in it.
pub type Measured<'a> = (&'a str, &'a [u8]);

/// A node's IMA list: a file in place of `ascii_runtime_measurements`.
#[derive(Debug)]
pub struct ImaList {
    file: PathBuf,
}

impl ImaList {
    /// A list that is still empty, in a directory.
    ///
    /// # Errors
    /// It can't be written.
    pub fn empty(dir: &Path, name: &str) -> Result<Self> {
        let file = dir.join(name);
        fs::write(&file, "")?;
        Ok(Self { file })
    }

    /// Where it is.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Options by which an agent reads it.
    pub fn options(&self) -> [String; 2] {
        let file = self.file.to_string_lossy().into_owned();
        ["--ima-ml-path".to_owned(), file]
    }

    /// Runs files on the node for the first time. As in the kernel, a line is in the list before the TPM is extended.
    ///
    /// # Errors
    /// The list can't be written, or the TPM refuses.
    pub fn measure(&self, tpm: &Swtpm, files: &[Measured<'_>]) -> Result {
        let entries = files.iter().map(|(path, content)| {
            let digest = HashAlg::Sha256.digest([*content]);
            Entry::new(path, &digest)
        });
        self.append(tpm, &entries.collect::<Vec<_>>())
    }

    /// Begins the list as a kernel does, with its measurement of PCRs 0 to 9.
    ///
    /// # Errors
    /// As [`ImaList::measure`].
    pub fn begin(&self, tpm: &Swtpm) -> Result {
        let pcrs = "sha256:0,1,2,3,4,5,6,7,8,9";
        tpm.tool("tpm2_pcrread", &[pcrs, "-o", "boot-pcrs"])?;
        let values = fs::read(tpm.dir().join("boot-pcrs"))?;
        let aggregate = HashAlg::Sha256.digest([values.as_slice()]);
        self.append(tpm, &[Entry::new("boot_aggregate", &aggregate)])
    }

    /// Appends entries, and extends PCR 10 by them.
    ///
    /// # Errors
    /// As [`ImaList::measure`].
    pub fn append(&self, tpm: &Swtpm, entries: &[Entry]) -> Result {
        let lines: String = entries.iter().map(Entry::line).collect();
        let mut file = File::options().append(true).open(&self.file)?;
        file.write_all(lines.as_bytes())?;
        let banks = [HashAlg::Sha256, HashAlg::Sha384];
        let extensions = entries.iter().map(|entry| {
            let digests = banks.map(|bank| {
                let digest = bank.digest([entry.data.as_slice()]);
                format!("{}={}", bank.name(), Hex(&digest))
            });
            format!("10:{}", digests.join(","))
        });
        extend(tpm, &extensions.collect::<Vec<_>>())
    }
}

/// A machine that booted by [`boot_log`], and shows both logs.
#[derive(Debug)]
pub struct Booted {
    /// Its TPM, extended as both logs say.
    pub tpm: Swtpm,
    /// Its list, which the kernel has begun.
    pub list: ImaList,
    /// Options by which an agent reads both logs.
    pub options: Vec<String>,
}

impl Booted {
    /// A new machine that has run these files; its list has this name in the scenario's directory.
    ///
    /// # Errors
    /// As [`ImaList::measure`].
    pub fn new(site: &Site, list: &str, files: &[Measured<'_>]) -> Result<Self> {
        let tpm = Swtpm::fresh(site)?;
        let list = boot(&tpm, site, list, files)?;
        let log = boot_log().to_string_lossy().into_owned();
        let boot = ["--measuredboot-ml-path".to_owned(), log];
        Ok(Self {
            options: [list.options(), boot].concat(),
            tpm,
            list,
        })
    }
}

/// Boots a machine by [`boot_log`] that then runs these files: its TPM has just been switched on.
///
/// # Errors
/// As [`ImaList::measure`].
pub fn boot(tpm: &Swtpm, site: &Site, list: &str, files: &[Measured<'_>]) -> Result<ImaList> {
    let bytes = fs::read(boot_log())?;
    let log = EventLog::parse(&bytes)?;
    let events = log.events().filter(|event| event.is_extended());
    let extensions = events.filter_map(|event| {
        let digest = event.digest(HashAlg::Sha256)?;
        Some(format!("{}:sha256={}", event.pcr, Hex(digest)))
    });
    extend(tpm, &extensions.collect::<Vec<_>>())?;
    let list = ImaList::empty(site.dir(), list)?;
    list.begin(tpm)?;
    list.measure(tpm, files)?;
    Ok(list)
}

/// An entry of the template ima-ng.
#[derive(Debug)]
pub struct Entry {
    path: String,
    digest: String,
    /// What the kernel hashes.
    pub data: Vec<u8>,
}

impl Entry {
    /// An entry for a file with this SHA-256.
    pub fn new(path: &str, digest: &[u8]) -> Self {
        let fields = [
            [b"sha256:\0", digest].concat(),
            [path.as_bytes(), b"\0"].concat(),
        ];
        let sized = fields.iter().flat_map(|field| {
            let size = u32::try_from(field.len()).unwrap_or(u32::MAX);
            [&size.to_le_bytes(), field.as_slice()].concat()
        });
        Self {
            path: path.to_owned(),
            digest: Hex(digest).to_string(),
            data: sized.collect(),
        }
    }

    /// Its line in the list.
    pub fn line(&self) -> String {
        let template_hash = ListHash::Sha1.digest(&self.data);
        let (hash, Self { path, digest, .. }) = (Hex(&template_hash), self);
        format!("10 {hash} ima-ng sha256:{digest} {path}\n")
    }
}

/// A runtime policy that lets these files pass, and by its excludes all that they match.
pub fn runtime_policy(files: &[Measured<'_>], excludes: &[&str]) -> Value {
    let digests = files.iter().map(|(path, content)| {
        let digest = HashAlg::Sha256.digest([*content]);
        ((*path).to_owned(), json!([Hex(&digest).to_string()]))
    });
    policy_of(digests.collect(), excludes)
}

/// A runtime policy with these digests.
pub fn policy_of(digests: Map<String, Value>, excludes: &[&str]) -> Value {
    json!({
        "meta": { "version": 1, "generator": 0 },
        "release": 0,
        "digests": digests,
        "excludes": excludes,
        "keyrings": {},
        "ima": { "ignored_keyrings": [], "log_hash_alg": "sha1", "dm_policy": null },
        "ima-buf": {},
        "verification-keys": "",
    })
}

/// A log of a real machine's firmware with Secure Boot, shim and GRUB, as a file.
pub fn boot_log() -> PathBuf {
    vectors().join("ovmf-shim-grub.bin")
}

/// The reference state that Keylime's program made of [`boot_log`].
pub fn reference_state() -> PathBuf {
    vectors().join("ovmf-shim-grub.refstate.json")
}

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../verifier-host/tests/vectors/eventlog")
}

/// A command line has room for so many extensions.
const AT_ONCE: usize = 200;

fn extend(tpm: &Swtpm, extensions: &[String]) -> Result {
    for some in extensions.chunks(AT_ONCE) {
        let some: Vec<&str> = some.iter().map(String::as_str).collect();
        tpm.tool("tpm2_pcrextend", &some)?;
    }
    Ok(())
}
