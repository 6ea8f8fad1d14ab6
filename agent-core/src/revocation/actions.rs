//! Lists of actions: which names stand in one, and which of them name an action. Read alike by whoever writes a list and by whoever
//! acts on it.
//!
//! Commas, blanks and line ends stand between names, brackets may stand around the whole and quotes around a name. A payload without a
//! list wants its files `local_action_*`.
//!
//! Source: Keylime's `revocation_notifier` and agent, which read lists in two ways; Keylime's documentation of revocation actions.

use core::fmt;

/// A payload's list.
pub const ACTION_LIST_FILE: &str = "action_list";

/// How actions of a payload are called that has no list.
pub const ACTION_PREFIX: &str = "local_action_";

/// The largest list in bytes.
pub const MAX_ACTION_LIST_BYTES: usize = 16 * 1024;

/// The most actions that a notice sets off.
pub const MAX_ACTIONS: usize = 64;

/// The longest name of an action in bytes.
///
/// Source: Linux, `limits.h`.
pub const MAX_ACTION_NAME_BYTES: usize = 255;

/// Letters that stand between names.
pub const ACTION_SEPARATORS: [char; 5] = [',', ' ', '\t', '\n', '\r'];

/// Letters that may stand around a name.
pub const ACTION_QUOTES: [char; 2] = ['"', '\''];

/// The names in a list, as they stand there.
pub fn listed_actions(list: &str) -> impl Iterator<Item = &str> {
    let list = list.trim().trim_matches(ACTION_QUOTES).trim();
    let inside = list
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    inside
        .unwrap_or(list)
        .split(ACTION_SEPARATORS)
        .map(|name| name.trim_matches(ACTION_QUOTES))
        .filter(|name| !name.is_empty())
}

/// Why a text names no action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ActionNameError {
    /// It is empty.
    Empty,
    /// It leads out of its directory, or into another.
    Slash,
    /// It starts with a dot or a hyphen: a hidden file, or an option.
    Start,
    /// It has a zero byte.
    Zero,
    /// It is longer than [`MAX_ACTION_NAME_BYTES`].
    TooLong,
}

/// Checks that a text names an action: one plain component of a path, so that it can't lead out of a directory, and no option.
///
/// # Errors
/// [`ActionNameError`].
pub fn check_action_name(name: &str) -> Result<(), ActionNameError> {
    if name.is_empty() {
        Err(ActionNameError::Empty)
    } else if name.contains('/') {
        Err(ActionNameError::Slash)
    } else if name.starts_with(['.', '-']) {
        Err(ActionNameError::Start)
    } else if name.contains('\0') {
        Err(ActionNameError::Zero)
    } else if name.len() > MAX_ACTION_NAME_BYTES {
        Err(ActionNameError::TooLong)
    } else {
        Ok(())
    }
}

impl ActionNameError {
    /// What is wrong with the name, as what follows it in a sentence.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Empty => "is empty",
            Self::Slash => "has a `/` in its name: actions lie beside action_list, in no directory",
            Self::Start => "is no name of an action: it starts with `.` or `-`",
            Self::Zero => "has a zero byte in its name",
            Self::TooLong => "is longer than 255 bytes",
        }
    }
}

impl fmt::Display for ActionNameError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.text())
    }
}

impl core::error::Error for ActionNameError {}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::string::{String, ToString};
    use std::vec::Vec;

    use super::*;

    #[test]
    fn action_list_grammar() {
        let rows: [(&str, &[&str]); 22] = [
            ("", &[]),
            (" \t\r\n,, ", &[]),
            ("a", &["a"]),
            ("a,b", &["a", "b"]),
            ("a, b ,c", &["a", "b", "c"]),
            ("a b\tc", &["a", "b", "c"]),
            ("a\nb\n", &["a", "b"]),
            ("a\r\nb\r\n", &["a", "b"]),
            ("[a, b]", &["a", "b"]),
            (" [ a,\n  b ]\n", &["a", "b"]),
            ("[]", &[]),
            ("\"a,b\"", &["a", "b"]),
            ("[\"a\", 'b']", &["a", "b"]),
            ("\"a\", \"b\"", &["a", "b"]),
            ("\"[a, b]\"", &["a", "b"]),
            ("\"\"", &[]),
            ("b a b", &["b", "a", "b"]),
            (
                "local_action_rm_ssh.py rm_ssh",
                &["local_action_rm_ssh.py", "rm_ssh"],
            ),
            ("*.py $HOME ~", &["*.py", "$HOME", "~"]),
            ("[a", &["[a"]),
            ("é", &["é"]),
            (
                "a,../x,/x,.,..,.x,-x,x/,b",
                &["a", "!../x", "!/x", "!.", "!..", "!.x", "!-x", "!x/", "b"],
            ),
        ];
        for (list, want) in rows {
            let found: Vec<String> = listed_actions(list)
                .map(|name| match check_action_name(name) {
                    Ok(()) => name.to_string(),
                    Err(_) => std::format!("!{name}"),
                })
                .collect();
            assert_eq!(found, want, "{list:?}");
        }
    }

    #[test]
    fn names_of_actions() {
        let (longest, longer) = ("a".repeat(255), "a".repeat(256));
        let rows = [
            ("a.py", Ok(())),
            ("é a", Ok(())),
            (&longest, Ok(())),
            (&longer, Err(ActionNameError::TooLong)),
            ("", Err(ActionNameError::Empty)),
            ("../a", Err(ActionNameError::Slash)),
            (".a", Err(ActionNameError::Start)),
            ("-a", Err(ActionNameError::Start)),
            ("a\0b", Err(ActionNameError::Zero)),
        ];
        for (name, want) in rows {
            assert_eq!(check_action_name(name), want, "{name:?}");
        }
    }
}
