//! Where logs stand in a body: in the answer to an integrity quote, and in the two bodies of an attestation.

use core::fmt::{self, Write};

use super::lines::Written;
use super::{Extent, Lines, LogKind};

/// What of the logs goes into a body, before the body's last brackets ([`Attached::tail`]). A body is complete without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attached {
    /// Keylime 2.x, as members of `results`: the logs that this node has.
    Results {
        /// The line of the IMA list from which on it is wanted; the whole list if it has fewer.
        entry: u64,
        /// Whether the boot log is wanted too.
        boot: bool,
    },
    /// API 3.0, as items of `evidence_supported`: what can be had of the logs that this node has.
    Supported,
    /// API 3.0, as items of `evidence_collected`: what was asked for, all of it.
    Collected {
        /// Whether the boot log was.
        boot: bool,
        /// The lines of the IMA list that were.
        ima: Option<Lines>,
    },
}

/// What there is of each log; none of a log that the node doesn't have, or that isn't wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Of the IMA list.
    pub ima: Option<Extent>,
    /// Of the boot log.
    pub boot: Option<Extent>,
}

/// Takes a body with logs in it.
pub trait LogWriter: Write {
    /// Writes this part of a log: the inside of a string.
    ///
    /// # Errors
    /// The writer's.
    fn log(&mut self, kind: LogKind, extent: &Extent) -> fmt::Result;
}

impl Attached {
    /// The last brackets of the body.
    #[must_use]
    pub const fn tail(&self) -> &'static str {
        match self {
            Self::Results { .. } => "}}",
            Self::Supported | Self::Collected { .. } => "]}}}",
        }
    }

    /// The lines of the IMA list that are wanted, if it is.
    #[must_use]
    pub const fn ima(&self) -> Option<Lines> {
        match self {
            Self::Results { entry, .. } => Some(Lines::from(*entry)),
            Self::Supported => Some(Lines { from: 0, count: 0 }),
            Self::Collected { ima, .. } => *ima,
        }
    }

    /// Whether the boot log is wanted.
    #[must_use]
    pub const fn boot(&self) -> bool {
        match self {
            Self::Results { boot, .. } | Self::Collected { boot, .. } => *boot,
            Self::Supported => true,
        }
    }

    /// Writes what goes before the tail.
    ///
    /// # Errors
    /// The writer's.
    pub fn write(&self, found: &Found, out: &mut dyn LogWriter) -> fmt::Result {
        // In this order, which is that of 3.0.
        if let Some(boot) = &found.boot {
            self.write_boot(boot, out)?;
        }
        match &found.ima {
            Some(ima) => self.write_ima(ima, out),
            None => Ok(()),
        }
    }

    /// Bytes that [`Attached::write`] writes.
    #[must_use]
    pub fn length(&self, found: &Found) -> u64 {
        let mut length = Length(Written(0));
        // A count takes everything.
        let _ = self.write(found, &mut length);
        length.0.0
    }

    fn write_boot(&self, boot: &Extent, out: &mut dyn LogWriter) -> fmt::Result {
        let (before, after) = match self {
            Self::Results { .. } => (r#","mb_measurement_list":""#, "\""),
            Self::Supported => return out.write_str(BOOT_SUPPORTED),
            Self::Collected { .. } => (BOOT_COLLECTED, "\"}}"),
        };
        out.write_str(before)?;
        out.log(LogKind::Boot, boot)?;
        out.write_str(after)
    }

    fn write_ima(&self, ima: &Extent, out: &mut dyn LogWriter) -> fmt::Result {
        let before = match self {
            Self::Results { .. } => r#","ima_measurement_list":""#,
            Self::Supported => {
                return write!(out, "{IMA_SUPPORTED}{}}}}}", ima.total);
            }
            Self::Collected { .. } => IMA_COLLECTED,
        };
        out.write_str(before)?;
        out.log(LogKind::Ima, ima)?;
        match self {
            Self::Results { .. } => write!(out, r#"","ima_measurement_list_entry":{}"#, ima.first),
            _ => write!(out, r#"","entry_count":{}}}}}"#, ima.entries),
        }
    }
}

/// Counts what is written, a log by its extent.
struct Length(Written);

impl Write for Length {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write_str(text)
    }
}

impl LogWriter for Length {
    fn log(&mut self, _: LogKind, extent: &Extent) -> fmt::Result {
        self.0.0 = self.0.0.saturating_add(extent.written);
        Ok(())
    }
}

/// 2.1 is the version of the log's format that Keylime's agents name.
const BOOT_SUPPORTED: &str = r#",{"evidence_class":"log","evidence_type":"uefi_log","capabilities":{"evidence_version":"2.1","supports_partial_access":false,"appendable":false,"formats":["application/octet-stream"]}}"#;
const IMA_SUPPORTED: &str = r#",{"evidence_class":"log","evidence_type":"ima_log","capabilities":{"supports_partial_access":true,"appendable":true,"formats":["text/plain"],"entry_count":"#;
const BOOT_COLLECTED: &str =
    r#",{"evidence_class":"log","evidence_type":"uefi_log","data":{"entries":""#;
const IMA_COLLECTED: &str =
    r#",{"evidence_class":"log","evidence_type":"ima_log","data":{"entries":""#;

#[cfg(test)]
mod tests {
    extern crate std;

    use std::string::String;

    use super::*;

    /// Writes the name of a log in its place.
    struct Names(String);

    impl Write for Names {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0.write_str(text)
        }
    }

    impl LogWriter for Names {
        fn log(&mut self, kind: LogKind, _: &Extent) -> fmt::Result {
            write!(self.0, "<{kind:?}>")
        }
    }

    #[test]
    fn members_are_keylimes() {
        let ima = Extent {
            written: 5,
            first: 7,
            entries: 2,
            total: 9,
            ..Extent::default()
        };
        let boot = Extent {
            written: 6,
            ..Extent::default()
        };
        let both = Found {
            ima: Some(ima),
            boot: Some(boot),
        };
        let results = Attached::Results {
            entry: 7,
            boot: true,
        };
        let collected = Attached::Collected {
            boot: true,
            ima: Some(Lines::from(7)),
        };
        let rows = [
            (
                results,
                both,
                r#","mb_measurement_list":"<Boot>","ima_measurement_list":"<Ima>","ima_measurement_list_entry":7"#,
            ),
            (
                results,
                Found { boot: None, ..both },
                r#","ima_measurement_list":"<Ima>","ima_measurement_list_entry":7"#,
            ),
            (results, Found::default(), ""),
            (
                Attached::Supported,
                both,
                r#",{"evidence_class":"log","evidence_type":"uefi_log","capabilities":{"evidence_version":"2.1","supports_partial_access":false,"appendable":false,"formats":["application/octet-stream"]}},{"evidence_class":"log","evidence_type":"ima_log","capabilities":{"supports_partial_access":true,"appendable":true,"formats":["text/plain"],"entry_count":9}}"#,
            ),
            (
                collected,
                both,
                r#",{"evidence_class":"log","evidence_type":"uefi_log","data":{"entries":"<Boot>"}},{"evidence_class":"log","evidence_type":"ima_log","data":{"entries":"<Ima>","entry_count":2}}"#,
            ),
            (
                collected,
                Found { ima: None, ..both },
                r#",{"evidence_class":"log","evidence_type":"uefi_log","data":{"entries":"<Boot>"}}"#,
            ),
        ];
        for (attached, found, want) in rows {
            let mut names = Names(String::new());
            attached.write(&found, &mut names).unwrap();
            assert_eq!(names.0, want);
            // `<Ima>` and `<Boot>` are as long as the extents say.
            assert_eq!(usize::try_from(attached.length(&found)), Ok(want.len()));
        }
    }
}
