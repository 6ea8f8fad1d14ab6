//! The command line.

use std::env;
use std::path::PathBuf;
use std::time::Duration;

use hw_tests::guest::{MEMORY_MIB, boot::Firmware};

/// What to boot, and with what.
#[derive(Debug)]
pub(crate) struct Options {
    /// Kernel and initramfs; without, only the state is made.
    pub(crate) image: Option<(PathBuf, PathBuf)>,
    pub(crate) disk: Option<PathBuf>,
    pub(crate) append: String,
    pub(crate) firmware: Firmware,
    pub(crate) memory_mib: u32,
    pub(crate) payload: Option<PathBuf>,
    pub(crate) policy: String,
    pub(crate) limit: Duration,
    pub(crate) state: PathBuf,
}

/// A policy that wants nothing.
pub(crate) const ANY_BOOT: &str = "{}";

impl Options {
    /// The command line's, or what is wrong with it.
    pub(crate) fn read(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let (mut kernel, mut initrd, mut prepare) = (None, None, false);
        let mut options = Self {
            image: None,
            disk: None,
            append: String::new(),
            firmware: Firmware::Bios,
            memory_mib: MEMORY_MIB,
            payload: None,
            policy: ANY_BOOT.to_owned(),
            limit: Duration::from_secs(120),
            state: env::var_os("KEYHALF_BOOT_STATE").map_or_else(|| "boot".into(), PathBuf::from),
        };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} needs a value"));
            match word.as_str() {
                "--kernel" => kernel = Some(PathBuf::from(value()?)),
                "--initrd" => initrd = Some(PathBuf::from(value()?)),
                "--disk" => options.disk = Some(value()?.into()),
                "--append" => options.append = value()?,
                "--uefi" => options.firmware = Firmware::Uefi,
                "--memory" => options.memory_mib = number(&word, &value()?)?,
                "--payload" => options.payload = Some(value()?.into()),
                "--policy" => options.policy = value()?,
                "--limit" => options.limit = Duration::from_secs(number(&word, &value()?)?),
                "--state" => options.state = value()?.into(),
                "--prepare" => prepare = true,
                _ => return Err(format!("unknown option {word}")),
            }
        }
        options.image = match (kernel, initrd) {
            (Some(kernel), Some(initrd)) => Some((kernel, initrd)),
            (None, None) if prepare => None,
            (None, _) => return Err("--kernel FILE is missing".to_owned()),
            (_, None) => return Err("--initrd FILE is missing".to_owned()),
        };
        let (kernel, initrd) = options
            .image
            .iter()
            .cloned()
            .unzip::<_, _, Vec<_>, Vec<_>>();
        let files = kernel.iter().chain(&initrd).chain(&options.disk);
        for file in files.chain(&options.payload) {
            if !file.exists() {
                return Err(format!("there is no {}", file.display()));
            }
        }
        Ok(options)
    }
}

fn number<T: std::str::FromStr>(word: &str, value: &str) -> Result<T, String> {
    let number = value.parse();
    number.map_err(|_| format!("{word} takes a number, not {value:?}"))
}
