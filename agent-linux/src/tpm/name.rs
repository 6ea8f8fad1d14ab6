//! Where the TPM is: the name given by `--tcti`, in the words of tpm2-tss.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::error::TpmError;

/// The name of a TPM: `device:PATH`, `swtpm:host=HOST,port=PORT`, `swtpm:path=SOCKET`, `mssim:...` or `tabrmd[:...]`.
///
/// Which of them a way to the TPM knows shows when it is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TctiName {
    text: String,
    place: Place,
}

/// Where a name leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A character device of the kernel.
    Device(PathBuf),
    /// swtpm's data port.
    Swtpm { host: String, port: u16 },
    /// swtpm's data socket in the file system.
    SwtpmSocket(PathBuf),
    /// The TPM simulator of the specification.
    Simulator,
    /// tpm2-abrmd.
    Broker,
}

impl TctiName {
    /// Whether a resource manager stands before the TPM, so that each user has places of its own for objects.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        match &self.place {
            // A bare device is /dev/tpm and digits; anything else is taken for a resource manager's, so that nothing of
            // others is ever flushed.
            Place::Device(path) => !path
                .to_str()
                .and_then(|path| path.strip_prefix("/dev/tpm"))
                .is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit())),
            Place::Broker => true,
            Place::Swtpm { .. } | Place::SwtpmSocket(_) | Place::Simulator => false,
        }
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// The error of a way to the TPM that doesn't know this name.
    pub(super) fn refused(&self, reason: &'static str) -> TpmError {
        let given = self.text.clone();
        TpmError::Name { given, reason }
    }
}

impl FromStr for TctiName {
    type Err = TpmError;

    /// Reads a name; what tpm2-tss would pass over in silence (an unknown key, which would then mean the default
    /// address) is refused.
    fn from_str(text: &str) -> Result<Self, TpmError> {
        let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
        let place = match kind {
            "device" if rest.starts_with('/') => Ok(Place::Device(rest.into())),
            "device" => Err("a device needs an absolute path"),
            "swtpm" => swtpm(rest),
            "mssim" => values(rest, ["host", "port"]).map(|_| Place::Simulator),
            "tabrmd" => values(rest, ["bus_name", "bus_type"]).map(|_| Place::Broker),
            _ => Err("its kind is none of device, swtpm, mssim, tabrmd"),
        };
        let text = text.to_owned();
        match place {
            Ok(place) => Ok(Self { text, place }),
            Err(reason) => Err(TpmError::Name {
                given: text,
                reason,
            }),
        }
    }
}

fn swtpm(text: &str) -> Result<Place, &'static str> {
    match values(text, ["host", "port", "path"])? {
        [None, None, Some(path)] if path.starts_with('/') => Ok(Place::SwtpmSocket(path.into())),
        [host, port, None] => Ok(Place::Swtpm {
            host: host.unwrap_or("127.0.0.1").to_owned(),
            port: port
                .map_or(Ok(SWTPM_PORT), str::parse)
                .map_err(|_| "its port is no number up to 65535")?,
        }),
        _ => Err("a path is absolute, and stands alone"),
    }
}

/// The values of these keys in `key=value,key=value`.
fn values<'a, const N: usize>(
    text: &'a str,
    keys: [&str; N],
) -> Result<[Option<&'a str>; N], &'static str> {
    let mut values = [None; N];
    for pair in text.split(',').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let place = keys.iter().position(|known| *known == key);
        *place
            .and_then(|place| values.get_mut(place))
            .ok_or("it has a key that this kind doesn't take")? = Some(value);
    }
    Ok(values)
}

/// What swtpm and tpm2-tss take where no port is given.
///
/// Source: tpm2-tss, tcti-swtpm(7).
const SWTPM_PORT: u16 = 2321;

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
            ("swtpm:path=/run/swtpm.sock", Some(false)),
            ("swtpm:path=swtpm.sock", None),
            ("swtpm:path=/run/swtpm.sock,port=2321", None),
            ("swtpm:host=127.0.0.1,port=65536", None),
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
