//! What the CA has issued and revoked: `index.txt`, in the format of `openssl ca`.
//!
//! A line is a certificate: `V`, `R` or `E`, when it ends, when it was revoked and why, its serial in hexadecimal, `unknown`,
//! its subject, with tabs between. The file is replaced in one step; one that can't be read is never replaced.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::ErrorKind;
use std::path::Path;

use time::{Date, Duration, Month, OffsetDateTime, Time};

use super::keyfile::write_atomically;
use super::reason::Reason;
use super::{CaError, names};

/// The largest index that is read: a million certificates.
const MAX_BYTES: u64 = 128 << 20;

/// A certificate that the CA has issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// Its serial number.
    pub serial: u64,
    /// Its common name.
    pub name: String,
    /// When it ends.
    pub not_after: OffsetDateTime,
    /// Since when and why it isn't to be taken.
    pub revoked: Option<Revoked>,
}

/// When and why a certificate was revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// When; whole seconds.
    pub at: OffsetDateTime,
    /// Why.
    pub reason: Reason,
}

/// All certificates that are known to be the CA's, by serial number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Index(BTreeMap<u64, Issued>);

impl Index {
    /// Reads the index; an empty one if there is none yet.
    ///
    /// # Errors
    /// [`CaError::Index`]: the first line that isn't understood. [`CaError::Io`].
    pub(super) fn read(directory: &Path) -> Result<Self, CaError> {
        let path = directory.join(names::INDEX);
        let io = |source| CaError::io("read", &path, source);
        let size = match std::fs::metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            found => found.map_err(io)?.len(),
        };
        if size > MAX_BYTES {
            return Err(CaError::Index { path, line: 0 });
        }
        let text = std::fs::read_to_string(&path).map_err(io)?;
        let mut index = Self::default();
        for (number, line) in (1..).zip(text.lines()) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let issued = parse(line).ok_or_else(|| CaError::Index {
                path: path.clone(),
                line: number,
            })?;
            index.0.insert(issued.serial, issued);
        }
        Ok(index)
    }

    /// Replaces the index.
    ///
    /// # Errors
    /// [`CaError::Io`]; the older one is whole then.
    pub(super) fn write(&self, directory: &Path) -> Result<(), CaError> {
        let mut text = String::new();
        for issued in self.0.values() {
            write_line(&mut text, issued);
        }
        let path = directory.join(names::INDEX);
        write_atomically(&path, text.as_bytes(), 0o644)
            .map_err(|source| CaError::io("write", &path, source))
    }

    /// Adds a certificate that isn't in it. True if it wasn't.
    pub(super) fn add(&mut self, issued: Issued) -> bool {
        let is_new = !self.0.contains_key(&issued.serial);
        self.0.entry(issued.serial).or_insert(issued);
        is_new
    }

    pub(super) fn get(&self, serial: u64) -> Option<&Issued> {
        self.0.get(&serial)
    }

    /// Marks a certificate, unless it is marked or unknown. True if this call marked it.
    pub(super) fn revoke(&mut self, serial: u64, revoked: Revoked) -> bool {
        match self.0.get_mut(&serial) {
            Some(issued) if issued.revoked.is_none() => {
                issued.revoked = Some(revoked);
                true
            }
            _ => false,
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Issued> {
        self.0.values()
    }

    pub(super) fn is_revoked(&self, serial: u64) -> bool {
        self.get(serial)
            .is_some_and(|issued| issued.revoked.is_some())
    }

    /// The largest serial number in it.
    pub(super) fn last_serial(&self) -> Option<u64> {
        self.0.keys().next_back().copied()
    }
}

fn write_line(text: &mut String, issued: &Issued) {
    let (state, revoked) = match issued.revoked {
        None => ("V", String::new()),
        Some(Revoked { at, reason }) if reason == Reason::UNSPECIFIED => ("R", stamp(at)),
        Some(Revoked { at, reason }) => ("R", format!("{},{reason}", stamp(at))),
    };
    let serial = format!("{:X}", issued.serial);
    let zero = if serial.len() % 2 == 0 { "" } else { "0" };
    let _ = writeln!(
        text,
        "{state}\t{}\t{revoked}\t{zero}{serial}\tunknown\t{SUBJECT}{}",
        stamp(issued.not_after),
        issued.name
    );
}

fn parse(line: &str) -> Option<Issued> {
    let fields: Vec<&str> = line.split('\t').collect();
    let [state, end, revoked, serial, _, subject] = fields[..] else {
        return None;
    };
    let revoked = match state {
        "V" | "E" => None,
        "R" => {
            let (at, reason) = revoked.split_once(',').unwrap_or((revoked, "unspecified"));
            Some(Revoked {
                at: unstamp(at)?,
                reason: Reason::of_name(reason)?,
            })
        }
        _ => return None,
    };
    Some(Issued {
        serial: u64::from_str_radix(serial, 16).ok()?,
        name: subject.strip_prefix(SUBJECT).unwrap_or(subject).to_owned(),
        not_after: unstamp(end)?,
        revoked,
    })
}

const SUBJECT: &str = "/CN=";

/// A time as certificates have it: `YYMMDDhhmmssZ` up to 2049, `YYYYMMDDhhmmssZ` from then on.
fn stamp(time: OffsetDateTime) -> String {
    let time = time.to_offset(time::UtcOffset::UTC);
    let year = match time.year() {
        year @ 1950..=2049 => format!("{:02}", year % 100),
        year => format!("{year:04}"),
    };
    format!(
        "{year}{:02}{:02}{:02}{:02}{:02}Z",
        u8::from(time.month()),
        time.day(),
        time.hour(),
        time.minute(),
        time.second()
    )
}

fn unstamp(text: &str) -> Option<OffsetDateTime> {
    let digits = text.strip_suffix('Z')?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = match digits.len() {
        12 => digits.split_at_checked(2)?,
        14 => digits.split_at_checked(4)?,
        _ => return None,
    };
    let year: i32 = match year.parse().ok()? {
        short @ 0..50 if year.len() == 2 => 2000 + short,
        short @ 50..100 if year.len() == 2 => 1900 + short,
        long => long,
    };
    let mut pairs = rest.as_bytes().chunks(2).map(|pair| {
        let text = std::str::from_utf8(pair).ok()?;
        text.parse::<u8>().ok()
    });
    let mut pair = || pairs.next().flatten();
    let date = Date::from_calendar_date(year, Month::try_from(pair()?).ok()?, pair()?).ok()?;
    let time = Time::from_hms(pair()?, pair()?, pair()?).ok()?;
    Some(date.with_time(time).assume_utc())
}

/// A time without its fraction of a second: as certificates, lists and the index have it.
pub(super) fn whole_seconds(time: OffsetDateTime) -> OffsetDateTime {
    time - Duration::nanoseconds(time.nanosecond().into())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

    use super::*;

    #[test]
    fn lines_are_those_of_openssl() {
        let rows = [
            "V\t271126021700Z\t\t03\tunknown\t/CN=web.example.org",
            "R\t271126021700Z\t261126021700Z\t0A\tunknown\t/CN=node",
            "R\t20521126021700Z\t261126021700Z,keyCompromise\t0100\tunknown\t/CN=node",
        ];
        for line in rows {
            let mut written = String::new();
            write_line(&mut written, &parse(line).unwrap());
            assert_eq!(written.trim_end(), line);
        }
    }

    #[test]
    fn what_is_not_understood_is_not_replaced() {
        let rows = [
            ("state", "X\t271126021700Z\t\t03\tunknown\t/CN=a"),
            ("field", "V\t271126021700Z\t\t03\tunknown"),
            ("month", "V\t271326021700Z\t\t03\tunknown\t/CN=a"),
            ("year", "V\t2027112602170Z\t\t03\tunknown\t/CN=a"),
            ("serial", "V\t271126021700Z\t\t0x3\tunknown\t/CN=a"),
            (
                "reason",
                "R\t271126021700Z\t261126021700Z,because\t03\tunknown\t/CN=a",
            ),
        ];
        let root = tempfile::tempdir().unwrap();
        for (name, line) in rows {
            std::fs::write(root.path().join(names::INDEX), format!("# mine\n{line}\n")).unwrap();
            let read = Index::read(root.path());
            assert!(
                matches!(read, Err(CaError::Index { line: 2, .. })),
                "{name}: {read:?}"
            );
        }
    }

    #[test]
    fn a_certificate_is_revoked_once() {
        let now = whole_seconds(OffsetDateTime::now_utc());
        let mut index = Index::default();
        let issued = Issued {
            serial: 7,
            name: "a".to_owned(),
            not_after: now,
            revoked: None,
        };
        assert!(index.add(issued.clone()) && !index.add(issued));
        let revoked = |reason| Revoked { at: now, reason };
        assert!(index.revoke(7, revoked(Reason::KEY_COMPROMISE)));
        assert!(!index.revoke(7, revoked(Reason::UNSPECIFIED)));
        assert!(!index.revoke(8, revoked(Reason::UNSPECIFIED)));
        let root = tempfile::tempdir().unwrap();
        index.write(root.path()).unwrap();
        assert_eq!(Index::read(root.path()).unwrap(), index);
    }
}
