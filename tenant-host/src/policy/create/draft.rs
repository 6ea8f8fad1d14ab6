//! A runtime policy while it is made, and how it is written.

use std::collections::BTreeMap;
use std::io::{self, Write};

use agent_core::wire::quote::Digest;
use agent_core::wire::text::Hex;
use serde::ser::{SerializeMap as _, SerializeSeq as _};
use serde::{Deserialize, Serialize, Serializer};
use verifier_host::policy::runtime::{Digests, RuntimePolicy, RuntimePolicyError};

/// The version of the format.
const VERSION: u64 = 1;

/// How many of the things left out are kept by name.
const NAMED: usize = 20;

/// Names with their digests, in the order that they are written in.
type Sorted = BTreeMap<String, Vec<Digest>>;

/// A runtime policy of version 1 that allows nothing yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Draft {
    meta: Meta,
    release: u64,
    #[serde(serialize_with = "in_hex")]
    digests: Sorted,
    excludes: Vec<String>,
    #[serde(serialize_with = "in_hex")]
    keyrings: Sorted,
    ima: Ima,
    #[serde(rename = "ima-buf", serialize_with = "in_hex")]
    buffers: Sorted,
    #[serde(rename = "verification-keys")]
    verification_keys: String,
}

/// Generator 0 stands for tools that Keylime doesn't know. No time is written: the same files make the same policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Meta {
    version: u64,
    generator: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Ima {
    ignored_keyrings: Vec<String>,
    log_hash_alg: String,
    dm_policy: Option<()>,
}

impl Default for Draft {
    fn default() -> Self {
        Self {
            meta: Meta {
                version: VERSION,
                generator: 0,
            },
            release: 0,
            digests: Sorted::new(),
            excludes: Vec::new(),
            keyrings: Sorted::new(),
            ima: Ima {
                ignored_keyrings: Vec::new(),
                // Keylime's default; every verifier takes each entry's own.
                log_hash_alg: "sha1".to_owned(),
                dm_policy: None,
            },
            buffers: Sorted::new(),
            verification_keys: String::new(),
        }
    }
}

impl Draft {
    /// Begins with all that another policy has.
    ///
    /// # Errors
    /// [`RuntimePolicyError`] if it is none, or a signed one.
    pub fn based_on(bytes: &[u8]) -> Result<Self, RuntimePolicyError> {
        #[derive(Deserialize)]
        struct Rest {
            release: u64,
            ima: Ima,
            #[serde(rename = "verification-keys")]
            verification_keys: String,
        }
        let policy = RuntimePolicy::read(bytes, None)?;
        let rest: Rest =
            serde_json::from_slice(bytes).map_err(|error| RuntimePolicyError::Json {
                reason: error.to_string(),
            })?;
        Ok(Self {
            release: rest.release,
            digests: sorted(&policy.digests),
            excludes: policy.excludes.texts().to_vec(),
            keyrings: sorted(&policy.keyrings),
            ima: rest.ima,
            buffers: sorted(&policy.buffers),
            verification_keys: rest.verification_keys,
            ..Self::default()
        })
    }

    /// Allows a file to have this digest.
    pub fn allow_file(&mut self, path: &str, digest: Digest) {
        insert(&mut self.digests, path, digest);
    }

    /// Allows a keyring to get a key with this digest.
    pub fn allow_key(&mut self, keyring: &str, digest: Digest) {
        insert(&mut self.keyrings, keyring, digest);
    }

    /// Allows another buffer to have this digest.
    pub fn allow_buffer(&mut self, name: &str, digest: Digest) {
        insert(&mut self.buffers, name, digest);
    }

    /// Excludes paths.
    pub fn exclude(&mut self, expressions: &[String]) {
        extend(&mut self.excludes, expressions);
    }

    /// Ignores keyrings.
    pub fn ignore_keyrings(&mut self, names: &[String]) {
        extend(&mut self.ima.ignored_keyrings, names);
    }

    /// How many files it allows.
    #[must_use]
    pub fn files(&self) -> usize {
        self.digests.len()
    }

    /// How many keyrings and other buffers it allows.
    #[must_use]
    pub fn buffers(&self) -> (usize, usize) {
        (self.keyrings.len(), self.buffers.len())
    }

    /// Writes it as JSON with a path on each line, sorted.
    ///
    /// # Errors
    /// What the writer says.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut serializer = serde_json::Serializer::with_formatter(&mut *out, Lines::default());
        self.serialize(&mut serializer)?;
        out.write_all(b"\n")
    }
}

fn sorted(digests: &Digests) -> Sorted {
    let sorted = digests.sorted().into_iter();
    sorted
        .map(|(name, listed)| {
            // No policy has a longer one.
            let digest = |digest| Digest::from_slice(digest).unwrap_or_default();
            let listed = listed.iter().map(digest);
            (name.to_owned(), listed.collect())
        })
        .collect()
}

fn insert(map: &mut Sorted, name: &str, digest: Digest) {
    let listed = match map.get_mut(name) {
        Some(listed) => listed,
        None => map.entry(name.to_owned()).or_default(),
    };
    if !listed.contains(&digest) {
        listed.push(digest);
        listed.sort_unstable();
    }
}

fn extend(list: &mut Vec<String>, more: &[String]) {
    for text in more {
        if !list.contains(text) {
            list.push(text.clone());
        }
    }
}

fn in_hex<S: Serializer>(digests: &Sorted, serializer: S) -> Result<S::Ok, S::Error> {
    struct List<'a>(&'a [Digest]);
    impl Serialize for List<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut list = serializer.serialize_seq(Some(self.0.len()))?;
            for digest in self.0 {
                list.serialize_element(&Hex(digest).to_string())?;
            }
            list.end()
        }
    }
    let mut map = serializer.serialize_map(Some(digests.len()))?;
    for (name, list) in digests {
        map.serialize_entry(name, &List(list))?;
    }
    map.end()
}

/// JSON with each field of an object on a line of its own, and lists on one line.
#[derive(Default)]
struct Lines {
    depth: usize,
    has_field: bool,
}

impl serde_json::ser::Formatter for Lines {
    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.depth = self.depth.saturating_add(1);
        self.has_field = false;
        writer.write_all(b"{")
    }

    fn begin_object_key<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        writer.write_all(if first { b"\n" } else { b",\n" })?;
        (0..self.depth).try_for_each(|_| writer.write_all(b" "))
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, _writer: &mut W) -> io::Result<()> {
        self.has_field = true;
        Ok(())
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.depth = self.depth.saturating_sub(1);
        if self.has_field {
            writer.write_all(b"\n")?;
            (0..self.depth).try_for_each(|_| writer.write_all(b" "))?;
        }
        writer.write_all(b"}")
    }
}

/// What a source has and a policy hasn't, by reason: how many, and the first of them by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftOut(BTreeMap<&'static str, (u64, Vec<String>)>);

impl LeftOut {
    /// Notes one.
    pub fn note(&mut self, reason: &'static str, name: &str) {
        let (count, names) = self.0.entry(reason).or_default();
        *count = count.saturating_add(1);
        if names.len() < NAMED {
            names.push(name.to_owned());
        }
    }

    /// Takes over what another source left out.
    pub fn extend(&mut self, other: Self) {
        for (reason, (more, named)) in other.0 {
            let (count, names) = self.0.entry(reason).or_default();
            *count = count.saturating_add(more);
            names.extend(named);
            names.truncate(NAMED);
        }
    }

    /// Reason, number, and the first names.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64, &[String])> {
        let all = self.0.iter();
        all.map(|(reason, (count, names))| (*reason, *count, names.as_slice()))
    }

    /// A line for each reason.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        const SHOWN: usize = 3;
        let line = |(reason, count, names): (&str, u64, &[String])| {
            let shown: Vec<_> = names.iter().take(SHOWN).map(String::as_str).collect();
            let more = if count > shown.len() as u64 {
                ", ..."
            } else {
                ""
            };
            format!("left out: {count} {reason}: {}{more}", shown.join(", "))
        };
        self.iter().map(line).collect()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]
mod tests {
    use super::*;

    fn digest(byte: u8) -> Digest {
        Digest::from_slice(&[byte; 32]).unwrap()
    }

    fn written(draft: &Draft) -> String {
        let mut out = Vec::new();
        draft.write(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_draft_is_a_policy_that_comes_back() {
        let mut draft = Draft::default();
        for (path, byte) in [("/b", 2), ("/a", 3), ("/a", 1), ("/a", 3)] {
            draft.allow_file(path, digest(byte));
        }
        draft.allow_key(".ima", digest(4));
        draft.allow_buffer("kexec-cmdline", digest(5));
        draft.exclude(&["/tmp/.*".to_owned(), "/tmp/.*".to_owned()]);
        draft.ignore_keyrings(&[".evm".to_owned()]);
        let text = written(&draft);
        let policy = RuntimePolicy::read(text.as_bytes(), None).unwrap();
        let listed = policy.digests.get(b"/a").unwrap();
        assert!(listed.iter().eq([&*digest(1), &*digest(3)]));
        assert_eq!(policy.excludes.texts(), ["/tmp/.*"]);
        assert_eq!(policy.ignored_keyrings, [".evm"]);
        let lines: Vec<_> = text.lines().collect();
        assert!(lines.contains(&format!("  \"/b\": [\"{}\"]", "02".repeat(32)).as_str()));
        assert!(text.ends_with("\n}\n"), "{text}");
        let again = Draft::based_on(text.as_bytes()).unwrap();
        assert_eq!(again, draft);
        let empty = written(&Draft::default());
        assert!(
            empty.contains("\"digests\": {}")
                && RuntimePolicy::read(empty.as_bytes(), None).is_ok()
        );
    }

    #[test]
    fn the_rest_of_a_base_is_kept() {
        let base = r#"{"meta": {"version": 1, "generator": 3, "timestamp": "t"}, "release": 7, "digests": {}, "excludes": ["x"],
            "keyrings": {}, "ima": {"ignored_keyrings": ["k"], "log_hash_alg": "sha256", "dm_policy": null}, "ima-buf": {},
            "verification-keys": "{\"meta\": {\"version\": 1}, \"keyids\": [], \"pubkeys\": []}"}"#;
        let draft = Draft::based_on(base.as_bytes()).unwrap();
        assert_eq!(
            (draft.release, draft.ima.log_hash_alg.as_str()),
            (7, "sha256")
        );
        assert!(draft.verification_keys.contains("pubkeys"));
        assert_eq!(
            (draft.excludes.as_slice(), draft.ima.ignored_keyrings.len()),
            (&["x".to_owned()][..], 1)
        );
        assert!(Draft::based_on(b"{}").is_err());
    }
}
