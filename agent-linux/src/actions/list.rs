//! Which actions are wanted: names in the configuration, then in the payload's `action_list`, or its files `local_action_*` if it has
//! none. How a list reads is agent-core's to say.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::Path;

use agent_core::revocation::{
    ACTION_LIST_FILE, ACTION_PREFIX, MAX_ACTION_LIST_BYTES, MAX_ACTION_NAME_BYTES, MAX_ACTIONS,
    check_action_name, listed_actions,
};

/// The name of an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name(String);

impl Name {
    /// Takes a name as it stands.
    ///
    /// # Errors
    /// [`ListError::BadName`].
    pub(super) fn parse(text: &str) -> Result<Self, ListError> {
        match check_action_name(text) {
            Ok(()) => Ok(Self(text.to_owned())),
            Err(_) => Err(ListError::BadName),
        }
    }

    /// The name.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// One line of what is wanted.
#[derive(Debug)]
pub(super) struct Entry {
    /// The name as it stands in its list, or the list that is at fault.
    pub(super) text: String,
    /// The name, if it is one.
    pub(super) name: Result<Name, ListError>,
}

impl Entry {
    /// One that is wanted whatever the lists say.
    pub(super) fn named(name: &str) -> Self {
        Self {
            text: name.to_owned(),
            name: Name::parse(name),
        }
    }

    fn fault(text: &str, error: ListError) -> Self {
        Self {
            text: text.to_owned(),
            name: Err(error),
        }
    }
}

/// What is wanted, in order, each name once, at most [`MAX_ACTIONS`]; `payload` is none if it has no say.
pub(super) fn wanted(configured: &str, payload: Option<&Path>) -> Vec<Entry> {
    let mut found: Vec<String> = listed_actions(configured).map(str::to_owned).collect();
    let mut fault = None;
    match payload.map(names_of_payload) {
        Some(Ok(more)) => found.extend(more),
        Some(Err(error)) => fault = Some(Entry::fault(ACTION_LIST_FILE, error)),
        None => {}
    }
    let mut entries: Vec<Entry> = Vec::new();
    let mut left_out = 0;
    for text in found {
        // A file's name may hold anything; the journal and the log have one line for it.
        let text: String = text
            .chars()
            .map(|letter| {
                if letter.is_control() {
                    '\u{FFFD}'
                } else {
                    letter
                }
            })
            .take(MAX_ACTION_NAME_BYTES + 1)
            .collect();
        if entries.iter().any(|entry| entry.text == text) {
            continue;
        }
        if entries.len() == MAX_ACTIONS {
            left_out += 1;
            continue;
        }
        entries.push(Entry::named(&text));
    }
    entries.extend(fault);
    if left_out > 0 {
        let error = ListError::TooMany { left_out };
        entries.push(Entry::fault(ACTION_LIST_FILE, error));
    }
    entries
}

fn names_of_payload(payload: &Path) -> Result<Vec<String>, ListError> {
    match read_list(&payload.join(ACTION_LIST_FILE))? {
        Some(list) => Ok(listed_actions(&list).map(str::to_owned).collect()),
        None => Ok(names_by_prefix(payload)?),
    }
}

/// The list's text; `None` if there is none.
fn read_list(path: &Path) -> Result<Option<String>, ListError> {
    match path.symlink_metadata() {
        Ok(found) if found.is_file() => {}
        Ok(_) => return Err(ListError::NotAFile),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    let mut bytes = Vec::new();
    // One more than it may have shows that it has too many.
    let limit = u64::try_from(MAX_ACTION_LIST_BYTES + 1).unwrap_or(u64::MAX);
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    if bytes.len() > MAX_ACTION_LIST_BYTES {
        return Err(ListError::TooLong);
    }
    String::from_utf8(bytes)
        .map(Some)
        .map_err(|_| ListError::NotText)
}

fn names_by_prefix(payload: &Path) -> Result<Vec<String>, io::Error> {
    let files = match fs::read_dir(payload) {
        // No payload has come.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        files => files?,
    };
    let mut names = Vec::new();
    for file in files {
        let name = file?.file_name().to_string_lossy().into_owned();
        if name.starts_with(ACTION_PREFIX) {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Why something in a list is no action, or a list can't be used.
#[derive(Debug)]
#[non_exhaustive]
pub enum ListError {
    /// It is no name of an action.
    BadName,
    /// The list is something else than a file.
    NotAFile,
    /// The list is larger than [`MAX_ACTION_LIST_BYTES`].
    TooLong,
    /// The list isn't UTF-8.
    NotText,
    /// The list can't be read.
    Unreadable(io::Error),
    /// More are named than [`MAX_ACTIONS`].
    TooMany {
        /// How many aren't run.
        left_out: usize,
    },
}

impl fmt::Display for ListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadName => f.write_str(
                "no name of an action; write a file's name, without / and not starting with . or -",
            ),
            Self::NotAFile => f.write_str("not a file, so it isn't read"),
            Self::TooLong => write!(
                f,
                "larger than {MAX_ACTION_LIST_BYTES} bytes, so it isn't used"
            ),
            Self::NotText => f.write_str("not UTF-8, so it isn't used"),
            Self::Unreadable(error) => write!(f, "can't be read: {error}"),
            Self::TooMany { left_out } => write!(
                f,
                "more than {MAX_ACTIONS} actions are named, here and in the configuration; the last {left_out} aren't run"
            ),
        }
    }
}

impl std::error::Error for ListError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreadable(error) => Some(error),
            _ => None,
        }
    }
}

impl From<io::Error> for ListError {
    fn from(error: io::Error) -> Self {
        Self::Unreadable(error)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use tempfile::TempDir;

    /// What is wanted, with `!` before what is refused.
    fn texts(entries: &[Entry]) -> Vec<String> {
        let text = |entry: &Entry| match &entry.name {
            Ok(name) => name.as_str().to_owned(),
            Err(_) => format!("!{}", entry.text),
        };
        entries.iter().map(text).collect()
    }

    /// The whole grammar is tested where it is written.
    #[test]
    fn both_lists_are_read_alike() {
        let rows: [(&str, &[&str]); 3] = [
            ("", &[]),
            (" [ \"b\",\n  a b,a ]\n", &["b", "a"]),
            ("a,../x,.x,-x,b", &["a", "!../x", "!.x", "!-x", "b"]),
        ];
        for (list, want) in rows {
            assert_eq!(texts(&wanted(list, None)), want, "configured {list:?}");
            let payload = TempDir::new().unwrap();
            fs::write(payload.path().join(ACTION_LIST_FILE), list).unwrap();
            let found = wanted("", Some(payload.path()));
            assert_eq!(texts(&found), want, "payload's {list:?}");
        }
    }

    #[test]
    fn the_configurations_come_first() {
        let payload = TempDir::new().unwrap();
        let path = payload.path();
        for name in ["local_action_b.py", "local_action_a", "action", "x"] {
            fs::write(path.join(name), "").unwrap();
        }
        let want = ["z", "local_action_a", "local_action_b.py"];
        assert_eq!(texts(&wanted("z", Some(path))), want, "no list");
        fs::write(path.join(ACTION_LIST_FILE), "x z y").unwrap();
        assert_eq!(texts(&wanted("z", Some(path))), ["z", "x", "y"]);
        assert_eq!(texts(&wanted("z", None)), ["z"], "it has no say");
        fs::write(path.join(ACTION_LIST_FILE), "").unwrap();
        assert_eq!(texts(&wanted("z", Some(path))), ["z"], "an empty list");
        let nowhere = path.join("nowhere");
        assert_eq!(texts(&wanted("z", Some(&nowhere))), ["z"], "no payload");
    }

    #[test]
    fn lists_are_bounded() {
        let many = |count: usize| -> String { (0..count).map(|n| format!("a{n} ")).collect() };
        assert_eq!(wanted(&many(MAX_ACTIONS), None).len(), MAX_ACTIONS);
        let entries = wanted(&many(MAX_ACTIONS + 7), None);
        assert_eq!(entries.len(), MAX_ACTIONS + 1);
        let last = entries.last().map(|entry| &entry.name);
        assert!(matches!(
            last,
            Some(Err(ListError::TooMany { left_out: 7 }))
        ));

        let payload = TempDir::new().unwrap();
        let list = payload.path().join(ACTION_LIST_FILE);
        let refused = ["z", "!action_list"];
        fs::write(&list, "a,".repeat(MAX_ACTION_LIST_BYTES / 2)).unwrap();
        assert_eq!(texts(&wanted("z", Some(payload.path()))), ["z", "a"]);
        for unusable in [&b",".repeat(MAX_ACTION_LIST_BYTES + 1)[..], b"a \xff"] {
            fs::write(&list, unusable).unwrap();
            assert_eq!(texts(&wanted("z", Some(payload.path()))), refused);
        }
        fs::remove_file(&list).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", &list).unwrap();
        assert_eq!(texts(&wanted("z", Some(payload.path()))), refused);
    }
}
