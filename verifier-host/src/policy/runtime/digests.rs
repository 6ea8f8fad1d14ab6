//! Names of files, keyrings or buffers, each with the digests that it may have.
//!
//! A node's list asks for a name with each line, in no order, and a policy is larger than a processor's caches: what is looked at for a
//! name is one slot of a small table, and one place where its name and its digests stand together. Whoever writes a policy, and whoever
//! names files on a node, may choose names as he likes: the hash by which they are found has a random key.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::hint::black_box;
use std::iter;
use std::num::NonZeroU32;

use agent_core::wire::quote::Digest;

/// Names, each once, with the digests that it may have.
#[derive(Clone, Debug, Default)]
pub struct Digests {
    /// A power of two of them, or none; a third at least is free. A name's slot is the one that its hash says, or follows behind it
    /// with none between that is free.
    slots: Vec<Option<Slot>>,
    names: usize,
    /// For each name: its size, that of its digests with theirs, the name, and the digests, each behind its size.
    packed: Vec<u8>,
    hash: RandomState,
}

/// Where a name is.
#[derive(Clone, Copy, Debug)]
struct Slot {
    /// A part of the name's hash that didn't choose the slot: few other names have the same. Without zero a free slot takes no more room.
    tag: NonZeroU32,
    /// Where it begins in what is packed.
    place: u32,
}

/// A name that is looked for: where the search begins, with what stands there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sought {
    first: usize,
    tag: NonZeroU32,
    slot: Option<Slot>,
}

/// The digests of a name, in the order of the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed<'a>(&'a [u8]);

impl<'a> Listed<'a> {
    /// The digests.
    pub fn iter(self) -> impl Iterator<Item = &'a [u8]> + Clone {
        let mut rest = self.0;
        iter::from_fn(move || {
            let (size, behind) = rest.split_first()?;
            let (digest, behind) = behind.split_at_checked(usize::from(*size))?;
            rest = behind;
            Some(digest)
        })
    }
}

impl Digests {
    /// Adds a name; `false` if it was there already, and nothing is changed then.
    pub(super) fn add(&mut self, name: &str, digests: &[Digest]) -> bool {
        if self.contains(name) {
            return false;
        }
        // A policy is smaller than 4 GiB. Whatever is larger isn't found, so that it doesn't pass.
        let size = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        let place = size(self.packed.len());
        let digest_bytes = digests.iter().map(|digest| 1 + digest.len()).sum();
        for bytes in [name.len(), digest_bytes] {
            self.packed.extend(size(bytes).to_le_bytes());
        }
        self.packed.extend_from_slice(name.as_bytes());
        for digest in digests {
            let size = u8::try_from(digest.len());
            self.packed.push(size.unwrap_or(u8::MAX));
            self.packed.extend_from_slice(digest);
        }
        self.names += 1;
        if self.names > self.slots.len() / 3 * 2 {
            self.grow();
        } else {
            self.put(name.as_bytes(), place);
        }
        true
    }

    /// Makes a new table for all names.
    fn grow(&mut self) {
        let slots = (self.slots.len() * 2).max(MIN_SLOTS);
        self.slots = vec![None; slots];
        let packed = std::mem::take(&mut self.packed);
        let mut at = 0;
        while let Some((name, listed)) = record(&packed, at) {
            self.put(name, at);
            let size = HEAD_BYTES + name.len() + listed.0.len();
            at = at.saturating_add(u32::try_from(size).unwrap_or(u32::MAX));
        }
        self.packed = packed;
    }

    fn put(&mut self, name: &[u8], place: u32) {
        let (first, tag) = self.first(name);
        let (before, behind) = self.slots.split_at_mut(first);
        if let Some(free) = behind.iter_mut().chain(before).find(|slot| slot.is_none()) {
            *free = Some(Slot { tag, place });
        }
    }

    /// The slot where the search for a name begins, and the name's tag.
    fn first(&self, name: &[u8]) -> (usize, NonZeroU32) {
        let mut hasher = self.hash.build_hasher();
        hasher.write(name);
        let hash = hasher.finish();
        let [a, b, c, d, e, f, g, h] = hash.to_le_bytes();
        let low = usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap_or_default();
        let first = low & self.slots.len().saturating_sub(1);
        let tag = NonZeroU32::new(u32::from_le_bytes([e, f, g, h]));
        (first, tag.unwrap_or(NonZeroU32::MIN))
    }

    /// A name's digests; `None` if it isn't there.
    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<Listed<'_>> {
        self.find(name, self.seek(name))
    }

    /// Begins to look for a name. The slot is read here, and first looked at by [`find`](Self::find): what is done in between doesn't
    /// wait for it.
    pub(super) fn seek(&self, name: &[u8]) -> Sought {
        let (first, tag) = self.first(name);
        let slot = self.slots.get(first).copied().flatten();
        Sought { first, tag, slot }
    }

    /// Reads a byte of each line of the cache that the name and its first digest are in, if they are where the search begins.
    pub(super) fn fetch(&self, name: &[u8], sought: &Sought) {
        let place = sought
            .slot
            .and_then(|slot| usize::try_from(slot.place).ok());
        let rest = place.and_then(|place| self.packed.get(place..));
        let rest = rest.unwrap_or_default();
        let near = rest.get(..HEAD_BYTES + name.len() + 1 + USUAL_DIGEST_BYTES);
        let bytes = near.unwrap_or(rest).iter().step_by(CACHE_LINE_BYTES);
        black_box(bytes.fold(0, |all, byte| all | byte));
    }

    /// The digests of a name that was begun to look for; `None` if it isn't there.
    pub(super) fn find(&self, name: &[u8], sought: Sought) -> Option<Listed<'_>> {
        let Sought { first, tag, slot } = sought;
        let (before, behind) = self.slots.split_at_checked(first)?;
        let mut others = behind.iter().skip(1).chain(before);
        let mut slot = slot?;
        loop {
            if slot.tag == tag
                && let Some(listed) = self.listed_at(slot.place, name)
            {
                return Some(listed);
            }
            slot = (*others.next()?)?;
        }
    }

    /// The digests at a place, if they are this name's. All that is read there is found by the size of the name that is asked for, so
    /// that nothing waits for the size that stands there.
    fn listed_at(&self, place: u32, name: &[u8]) -> Option<Listed<'_>> {
        let rest = self.packed.get(usize::try_from(place).ok()?..)?;
        let (head, rest) = rest.split_first_chunk::<HEAD_BYTES>()?;
        let (found, rest) = rest.split_at_checked(name.len())?;
        let [name_bytes, digest_bytes] = sizes(*head)?;
        let same = name_bytes == name.len() && found == name;
        if same {
            rest.get(..digest_bytes).map(Listed)
        } else {
            None
        }
    }

    /// Whether a name is there.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.get(name.as_bytes()).is_some()
    }

    /// How many names there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.names
    }

    /// Whether there is no name.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.names == 0
    }

    /// The names with their digests, sorted.
    ///
    /// # Cost
    /// Sorts the names each time.
    #[must_use]
    pub fn sorted(&self) -> Vec<(&str, Listed<'_>)> {
        let slots = self.slots.iter().flatten();
        let mut sorted: Vec<_> = slots
            .filter_map(|slot| {
                let (name, listed) = record(&self.packed, slot.place)?;
                Some((std::str::from_utf8(name).ok()?, listed))
            })
            .collect();
        sorted.sort_unstable_by_key(|(name, _)| *name);
        sorted
    }
}

impl PartialEq for Digests {
    /// Whether both have the same names with the same digests; the order that they were added in is none of theirs.
    fn eq(&self, other: &Self) -> bool {
        self.sorted() == other.sorted()
    }
}

impl Eq for Digests {}

/// A name and its digests, of which the sizes stand in front.
fn record(packed: &[u8], place: u32) -> Option<(&[u8], Listed<'_>)> {
    let rest = packed.get(usize::try_from(place).ok()?..)?;
    let (head, rest) = rest.split_first_chunk()?;
    let [name_bytes, digest_bytes] = sizes(*head)?;
    let (name, rest) = rest.split_at_checked(name_bytes)?;
    Some((name, Listed(rest.get(..digest_bytes)?)))
}

fn sizes(head: [u8; HEAD_BYTES]) -> Option<[usize; 2]> {
    let [a, b, c, d, e, f, g, h] = head;
    let size = |bytes| usize::try_from(u32::from_le_bytes(bytes)).ok();
    Some([size([a, b, c, d])?, size([e, f, g, h])?])
}

/// Both sizes of a record.
const HEAD_BYTES: usize = 2 * size_of::<u32>();

/// A digest of SHA-256.
const USUAL_DIGEST_BYTES: usize = 32;

/// What a processor fetches at once; where it is another size, some is fetched late.
const CACHE_LINE_BYTES: usize = 64;

/// Slots of a table that isn't empty.
const MIN_SLOTS: usize = 16;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
mod tests {
    use super::*;

    fn digest(byte: u8, bytes: usize) -> Digest {
        std::iter::repeat_n(byte, bytes).collect()
    }

    /// So many names that the table grows, and that searches go past its end.
    #[test]
    fn each_name_is_found_with_its_own_digests() {
        let mut all = Digests::default();
        assert_eq!((all.len(), all.get(b"/0")), (0, None));
        let listed = |number: u32| [digest(number as u8, 32), digest(1, 20)];
        for number in 0..5000 {
            assert!(all.add(&format!("/{number}"), &listed(number)));
            assert!(!all.add(&format!("/{number}"), &[]));
        }
        for number in 0..5000 {
            let found = all.get(format!("/{number}").as_bytes()).unwrap();
            assert!(
                found
                    .iter()
                    .eq(listed(number).iter().map(|digest| &**digest))
            );
            assert!(!all.contains(&format!("/{}", 5000 + number)));
        }
        assert_eq!(
            (all.len(), all.get(b""), all.get(&[0xff])),
            (5000, None, None)
        );
        let names: Vec<_> = all.sorted().iter().map(|(name, _)| *name).collect();
        assert!(names.len() == 5000 && names.is_sorted());
    }

    #[test]
    fn the_same_names_in_another_order_are_equal() {
        let of = |names: &[(&str, u8)]| {
            let mut all = Digests::default();
            for (name, byte) in names {
                assert!(all.add(name, &[digest(*byte, 32)]));
            }
            all
        };
        let one = of(&[("/a", 1), ("/b", 2)]);
        assert_eq!(one, of(&[("/b", 2), ("/a", 1)]));
        assert_ne!(one, of(&[("/a", 1), ("/b", 3)]));
        assert_ne!(one, of(&[("/a", 1)]));
    }
}
