//! Which names were there already.

use core::cmp::Ordering;

use super::entry::Header;
use super::fault::{ArchiveFault, EntryFault, UnpackError};
use super::path::conflict;
use crate::wire::limits::MAX_ENTRIES;

/// The names of the entries so far, in order and without copies: each is where its header begins in the directory, which
/// so many entries can't bring to 4 GiB.
///
/// The order compares component by component, so that what is below a name comes right after it. No two names
/// conflict; of a new one only the neighbours can.
pub(super) struct Names<'a> {
    directory: &'a [u8],
    sorted: heapless::Vec<u32, MAX_ENTRIES>,
}

impl<'a> Names<'a> {
    pub(super) const fn of(directory: &'a [u8]) -> Self {
        Self {
            directory,
            sorted: heapless::Vec::new(),
        }
    }

    /// Adds a header's name, which has been checked by itself.
    ///
    /// # Cost
    /// About ten comparisons of names among 1024.
    pub(super) fn add<E, A>(&mut self, header: &Header<'_>) -> Result<(), UnpackError<E, A>> {
        let name_at = |at: &u32| {
            let at = usize::try_from(*at).unwrap_or(usize::MAX);
            Header::name_at(self.directory, at)
        };
        let place = self
            .sorted
            .partition_point(|at| order(name_at(at), header.name) == Ordering::Less);
        let (before, after) = self.sorted.split_at_checked(place).unwrap_or_default();
        let mut neighbours = before.last().into_iter().chain(after.first());
        if neighbours.any(|at| conflict(name_at(at), header.name)) {
            return Err(UnpackError::entry(header.name, EntryFault::Conflict));
        }
        let (announced, found) = (MAX_ENTRIES, MAX_ENTRIES.saturating_add(1));
        let full = ArchiveFault::Count { announced, found };
        let at = u32::try_from(header.at).map_err(|_| full)?;
        self.sorted.insert(place, at).map_err(|_| full.into())
    }
}

/// Byte by byte, a slash below everything else: no checked name has control characters, and one at its end doesn't count.
fn order(one: &[u8], other: &[u8]) -> Ordering {
    components(one).cmp(components(other))
}

fn components(name: &[u8]) -> impl Iterator<Item = u8> + '_ {
    let path = name.strip_suffix(b"/").unwrap_or(name);
    path.iter()
        .map(|byte| if *byte == b'/' { 0 } else { *byte })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_below_a_name_comes_right_after_it() {
        let sorted = [
            "a", "a/", "a/b", "a/b/c", "a/b-", "a!b", "a-b", "a-b/c", "ab",
        ];
        for pair in sorted.windows(2) {
            let order = order(pair[0].as_bytes(), pair[1].as_bytes());
            assert_ne!(order, Ordering::Greater, "{pair:?}");
        }
        assert_eq!(order(b"a", b"a/"), Ordering::Equal);
    }
}
