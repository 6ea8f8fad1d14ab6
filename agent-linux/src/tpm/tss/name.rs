//! Where the TPM is: the name given by `--tcti`, in the words of tpm2-tss.

use std::fmt;
use std::str::FromStr;

use tss_esapi::tcti_ldr::TctiNameConf;

use super::error::TssError;

/// The name of a TPM: `device:PATH`, `swtpm:host=HOST,port=PORT`, `mssim:...` or `tabrmd[:...]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TctiName {
    text: String,
    shared: bool,
}

impl TctiName {
    /// Whether a resource manager stands before the TPM, so that each user has places of its own for objects.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.shared
    }

    /// The library's form of it.
    pub(super) fn to_conf(&self) -> Result<TctiNameConf, TssError> {
        TctiNameConf::from_str(&self.text).map_err(|_| self.refused("tpm2-tss doesn't take it"))
    }

    fn refused(&self, reason: &'static str) -> TssError {
        TssError::Name {
            given: self.text.clone(),
            reason,
        }
    }
}

impl FromStr for TctiName {
    type Err = TssError;

    /// Reads a name; what tpm2-tss would pass over in silence (an unknown key, which would then mean the default
    /// address) is refused.
    fn from_str(text: &str) -> Result<Self, TssError> {
        let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
        let keys: &[&str] = match kind {
            "device" => &[],
            "swtpm" | "mssim" => &["host", "port"],
            "tabrmd" => &["bus_name", "bus_type"],
            _ => {
                let given = text.to_owned();
                return Err(TssError::Name {
                    given,
                    reason: "its kind is none of device, swtpm, mssim, tabrmd",
                });
            }
        };
        let shared = match kind {
            // A bare device is /dev/tpm and digits; anything else is taken for a resource manager's, so that nothing of
            // others is ever flushed.
            "device" => !rest
                .strip_prefix("/dev/tpm")
                .is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit())),
            kind => kind == "tabrmd",
        };
        let name = Self {
            text: text.to_owned(),
            shared,
        };
        let unknown = |pair: &&str| !keys.contains(&pair.split('=').next().unwrap_or_default());
        match kind {
            "device" if !rest.starts_with('/') => {
                Err(name.refused("a device needs an absolute path"))
            }
            "device" => Ok(name),
            _ if rest
                .split(',')
                .filter(|pair| !pair.is_empty())
                .any(|pair| unknown(&pair)) =>
            {
                Err(name.refused("it has a key that this kind doesn't take"))
            }
            _ => Ok(name),
        }
    }
}

impl fmt::Display for TctiName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let rows = [
            ("device:/dev/tpmrm0", Some(true)),
            ("device:/dev/tpm0", Some(false)),
            ("device:/dev/tpm", Some(false)),
            ("device:/run/other", Some(true)),
            ("device", None),
            ("device:", None),
            ("device:tpm0", None),
            ("swtpm", Some(false)),
            ("swtpm:host=127.0.0.1,port=2321", Some(false)),
            ("swtpm:path=/run/swtpm.sock", None),
            ("swtpm:host=127.0.0.1,socket=x", None),
            ("mssim:port=2321", Some(false)),
            ("tabrmd", Some(true)),
            ("tabrmd:bus_type=session", Some(true)),
            ("", None),
            ("libtss2-tcti-evil.so", None),
        ];
        for (text, shared) in rows {
            assert_eq!(
                TctiName::from_str(text).ok().map(|name| name.is_shared()),
                shared,
                "{text:?}"
            );
        }
    }
}
