//! Archives in the form that the kernel unpacks into its first root: cpio, "newc".
//!
//! The same entries give the same bytes: they stand in the order of their names, and all have one time, 1970 unless told.
//!
//! Source: Linux, Documentation/driver-api/early-userspace/buffer-format.rst.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::Result;

/// An archive.
#[derive(Clone, Debug, Default)]
pub struct Archive {
    entries: BTreeMap<String, Entry>,
    /// Seconds since 1970.
    written: u32,
}

#[derive(Clone, Debug)]
struct Entry {
    mode: u32,
    device: (u32, u32),
    content: Vec<u8>,
}

impl Archive {
    /// Its files were written now: what an agent in it takes for the earliest possible time.
    ///
    /// # Errors
    /// The clock is beyond what the form can say.
    pub fn written_now(&mut self) -> Result {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        self.written = u32::try_from(now.as_secs())?;
        Ok(())
    }

    /// Puts a file at the absolute `path`, instead of what may be there. Directories above it come by themselves.
    ///
    /// # Errors
    /// The path isn't absolute, or has empty parts or dots in it.
    pub fn file(&mut self, path: &str, mode: u32, content: Vec<u8>) -> Result {
        self.put(path, FILE | mode, (0, 0), content)
    }

    /// An empty directory.
    ///
    /// # Errors
    /// As [`Archive::file`].
    pub fn directory(&mut self, path: &str, mode: u32) -> Result {
        self.put(path, DIRECTORY | mode, (0, 0), Vec::new())
    }

    /// A symbolic link.
    ///
    /// # Errors
    /// As [`Archive::file`].
    pub fn link(&mut self, path: &str, target: &str) -> Result {
        self.put(path, LINK | 0o777, (0, 0), target.into())
    }

    /// A character device with its major and minor number.
    ///
    /// # Errors
    /// As [`Archive::file`].
    pub fn device(&mut self, path: &str, mode: u32, numbers: (u32, u32)) -> Result {
        self.put(path, DEVICE | mode, numbers, Vec::new())
    }

    /// Its bytes.
    ///
    /// # Errors
    /// A file is larger than the form can say.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let end = Entry {
            mode: 0,
            device: (0, 0),
            content: Vec::new(),
        };
        let entries = self.entries.iter().map(|(name, entry)| (&name[..], entry));
        for (number, (name, entry)) in (1..).zip(entries.chain([("TRAILER!!!", &end)])) {
            let links = if entry.mode & DIRECTORY == DIRECTORY {
                2
            } else {
                1
            };
            let content = u32::try_from(entry.content.len())?;
            let name_bytes = u32::try_from(name.len() + 1)?;
            let (major, minor) = entry.device;
            bytes.extend(b"070701");
            // Number, mode, owner, group, links, time, size, device that it was on, device that it is, name, checksum.
            for field in [
                number,
                entry.mode,
                0,
                0,
                links,
                self.written,
                content,
                0,
                0,
                major,
                minor,
                name_bytes,
                0,
            ] {
                bytes.extend(format!("{field:08x}").bytes());
            }
            bytes.extend(name.bytes());
            bytes.push(0);
            pad(&mut bytes);
            bytes.extend(&entry.content);
            pad(&mut bytes);
        }
        Ok(bytes)
    }

    fn put(&mut self, path: &str, mode: u32, device: (u32, u32), content: Vec<u8>) -> Result {
        let name = path.strip_prefix('/').ok_or("not an absolute path")?;
        if name.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(format!("{path} can't be in an archive").into());
        }
        for (at, _) in name.match_indices('/') {
            self.entries.entry(name[..at].to_owned()).or_insert(Entry {
                mode: DIRECTORY | 0o755,
                device: (0, 0),
                content: Vec::new(),
            });
        }
        let entry = Entry {
            mode,
            device,
            content,
        };
        self.entries.insert(name.to_owned(), entry);
        Ok(())
    }
}

/// Headers and contents start at multiples of four bytes.
fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

const FILE: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;
const LINK: u32 = 0o120_000;
const DEVICE: u32 = 0o020_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Result<Archive> {
        let mut archive = Archive::default();
        archive.file("/etc/guest/agent", 0o755, b"#!/bin/sh\n".to_vec())?;
        archive.link("/bin/sh", "busybox")?;
        archive.directory("/proc", 0o555)?;
        archive.device("/dev/console", 0o600, (5, 1))?;
        Ok(archive)
    }

    #[test]
    fn parents_come_first() -> Result {
        let archive = example()?;
        let names: Vec<&str> = archive.entries.keys().map(String::as_str).collect();
        let wanted = [
            "bin",
            "bin/sh",
            "dev",
            "dev/console",
            "etc",
            "etc/guest",
            "etc/guest/agent",
            "proc",
        ];
        assert_eq!(names, wanted);
        Ok(())
    }

    #[test]
    fn first_header_is_as_the_form_has_it() -> Result {
        let mut archive = Archive::default();
        archive.file("/ab", 0o644, b"xyz".to_vec())?;
        let bytes = archive.bytes()?;
        let header = "070701 00000001 000081a4 00000000 00000000 00000001 00000000 00000003 \
            00000000 00000000 00000000 00000000 00000003 00000000";
        // 110 bytes of header and three of name come to 116, where the content starts.
        let wanted = [&header.replace(' ', ""), "ab\0\0\0\0", "xyz\0"].concat();
        assert_eq!(bytes.get(..wanted.len()), Some(wanted.as_bytes()));
        assert_eq!(bytes.len() % 4, 0);
        Ok(())
    }

    #[test]
    fn paths_that_lead_elsewhere_are_refused() {
        for path in ["relative", "/", "/a//b", "/a/../b", "/./a", "/a/"] {
            let put = Archive::default().file(path, 0o644, Vec::new());
            assert!(put.is_err(), "{path}");
        }
    }
}
