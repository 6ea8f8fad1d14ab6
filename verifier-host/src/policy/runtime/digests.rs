//! Names of files, keyrings or buffers, each with the digests that it may have.
//!
//! A node's list asks for a name with each line: it is found by its hash. Whoever writes a policy, and whoever names files on a node, may
//! choose names as he likes: the hash has a random key.

use std::collections::HashMap;

use agent_core::wire::quote::Digest;

/// Names, each once, with the digests that it may have.
#[derive(Clone, Debug, Default)]
pub struct Digests {
    places: HashMap<Box<str>, Place>,
    /// The digests of all names: side by side, they lie in fewer pages than each by itself.
    all: Vec<Digest>,
}

/// Where a name's digests are.
#[derive(Clone, Copy, Debug)]
struct Place {
    from: usize,
    count: usize,
}

impl Digests {
    /// None yet, with room for so many names.
    pub(super) fn with_capacity(names: usize) -> Self {
        Self {
            places: HashMap::with_capacity(names),
            all: Vec::with_capacity(names),
        }
    }

    /// Adds a name.
    ///
    /// # Errors
    /// The name, if it is there already; nothing is changed then.
    pub(super) fn add(&mut self, name: String, digests: &[Digest]) -> Result<(), String> {
        if self.places.contains_key(&*name) {
            return Err(name);
        }
        let (from, count) = (self.all.len(), digests.len());
        self.all.extend_from_slice(digests);
        self.places.insert(name.into(), Place { from, count });
        Ok(())
    }

    /// A name's digests; `None` if it isn't there.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[Digest]> {
        self.at(*self.places.get(name)?)
    }

    /// Whether a name is there.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    /// How many names there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is no name.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The names with their digests, sorted.
    ///
    /// # Cost
    /// Sorts the names each time.
    #[must_use]
    pub fn sorted(&self) -> Vec<(&str, &[Digest])> {
        let mut sorted: Vec<(&str, &[Digest])> = self
            .places
            .iter()
            .filter_map(|(name, place)| Some((&**name, self.at(*place)?)))
            .collect();
        sorted.sort_unstable_by_key(|(name, _)| *name);
        sorted
    }

    fn at(&self, place: Place) -> Option<&[Digest]> {
        self.all.get(place.from..)?.get(..place.count)
    }
}

impl PartialEq for Digests {
    /// Whether both have the same names with the same digests; the order that they were added in is none of theirs.
    fn eq(&self, other: &Self) -> bool {
        let same = |name: &str| self.get(name) == other.get(name);
        self.len() == other.len() && self.places.keys().all(|name| same(name))
    }
}

impl Eq for Digests {}
