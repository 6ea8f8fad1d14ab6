//! Revoking: by hand, and as a revocation log says.

use time::OffsetDateTime;

use super::index::{Index, Issued, Revoked, whole_seconds};
use super::{CaDirectory, CaError, Reason, is_reserved, names};

impl CaDirectory {
    /// Marks certificates as revoked: all of that name that haven't ended, else the one with that serial number (decimal, or
    /// hexadecimal after `0x`). Returns those that weren't marked before; the list is still the old one.
    ///
    /// # Errors
    /// [`CaError::Unknown`] if there is none, [`CaError::ReservedName`] for one of the authority's own.
    pub fn revoke(
        &self,
        which: &str,
        reason: Reason,
        now: OffsetDateTime,
    ) -> Result<Vec<Issued>, CaError> {
        let mut index = self.files.full_index()?;
        let serials = find(&index, which, now)?;
        let at = whole_seconds(now);
        let mut marked = Vec::new();
        for serial in serials {
            self.refuse_own(&index, serial)?;
            if index.revoke(serial, Revoked { at, reason }) {
                marked.extend(index.get(serial).cloned());
            }
        }
        index.write(self.path())?;
        Ok(marked)
    }

    /// Marks certificates as revoked as entries of a log say: serial, name of the node, when and why. Returns those that weren't
    /// marked before. The authority's own certificates and numbers that were never given out are left alone.
    ///
    /// # Errors
    /// [`CaError`] if the index can't be read or written.
    pub fn import(&self, entries: &[Issued]) -> Result<Vec<Issued>, CaError> {
        let mut index = self.files.full_index()?;
        let spent = self.spent()?;
        let mut marked = Vec::new();
        for entry in entries {
            let Some(revoked) = entry.revoked else {
                continue;
            };
            if entry.serial >= spent || self.refuse_own(&index, entry.serial).is_err() {
                continue;
            }
            // One whose file and line were lost counts as valid for as long as it can be.
            index.add(Issued {
                not_after: self.files.end()?,
                revoked: None,
                ..entry.clone()
            });
            if index.revoke(entry.serial, revoked) {
                marked.extend(index.get(entry.serial).cloned());
            }
        }
        if !marked.is_empty() {
            index.write(self.path())?;
        }
        Ok(marked)
    }

    fn refuse_own(&self, index: &Index, serial: u64) -> Result<(), CaError> {
        let ca = self.files.certificate()?.serial;
        match index.get(serial) {
            Some(issued) if is_reserved(&issued.name) => Err(CaError::OwnCertificate {
                name: issued.name.clone(),
            }),
            _ if serial == ca => Err(CaError::OwnCertificate {
                name: names::CA_CERT.to_owned(),
            }),
            _ => Ok(()),
        }
    }
}

fn find(index: &Index, which: &str, now: OffsetDateTime) -> Result<Vec<u64>, CaError> {
    let named: Vec<&Issued> = index.iter().filter(|issued| issued.name == which).collect();
    if !named.is_empty() {
        let lasting = named.iter().filter(|issued| issued.not_after > now);
        return Ok(lasting.map(|issued| issued.serial).collect());
    }
    let number = match which.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => which.parse().ok(),
    };
    number
        .filter(|serial| index.get(*serial).is_some())
        .map(|serial| vec![serial])
        .ok_or_else(|| CaError::Unknown {
            which: which.to_owned(),
        })
}
