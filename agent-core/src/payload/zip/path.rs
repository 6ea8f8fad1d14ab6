//! Which names an archive may have.

use core::fmt;

use crate::wire::limits::{MAX_COMPONENT_BYTES, MAX_PATH_BYTES, MAX_PATH_DEPTH};

/// A name that stays below the directory it is unpacked in.
///
/// Relative, `/`-separated, UTF-8 without control characters and backslashes, no component empty, `.` or `..`; bounded in
/// length and depth. Without the slash that ends a directory's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EntryPath<'a>(&'a str);

impl<'a> EntryPath<'a> {
    /// Checks a name, and says whether it is a directory's.
    pub(super) fn parse(name: &'a [u8]) -> Result<(Self, bool), PathFault> {
        let have = name.len();
        if have > MAX_PATH_BYTES {
            let limit = MAX_PATH_BYTES;
            return Err(PathFault::TooLong { have, limit });
        }
        let name = core::str::from_utf8(name).map_err(|_| PathFault::NotUtf8)?;
        if name.is_empty() {
            return Err(PathFault::Empty);
        }
        if name.starts_with('/') {
            return Err(PathFault::Absolute);
        }
        if name.contains('\\') {
            return Err(PathFault::Backslash);
        }
        if name.contains(char::is_control) {
            return Err(PathFault::Control);
        }
        let path = name.strip_suffix('/').unwrap_or(name);
        let depth = path.split('/').count();
        if depth > MAX_PATH_DEPTH {
            let limit = MAX_PATH_DEPTH;
            return Err(PathFault::TooDeep { have: depth, limit });
        }
        path.split('/').try_for_each(check_component)?;
        Ok((Self(path), path.len() < have))
    }

    pub(super) const fn as_str(self) -> &'a str {
        self.0
    }
}

/// Whether two checked names can't exist side by side: the same name, or one that needs the other to be a directory
/// although it is a file.
pub(super) fn conflict(one: &[u8], other: &[u8]) -> bool {
    excludes(one, other) || excludes(other, one)
}

fn excludes(one: &[u8], other: &[u8]) -> bool {
    match other.strip_prefix(one) {
        None => false,
        Some([]) => true,
        Some([next, ..]) => *next == b'/' && !one.ends_with(b"/"),
    }
}

fn check_component(component: &str) -> Result<(), PathFault> {
    let have = component.len();
    match component {
        "" => Err(PathFault::EmptyComponent),
        "." | ".." => Err(PathFault::Escapes),
        _ if have > MAX_COMPONENT_BYTES => {
            let limit = MAX_COMPONENT_BYTES;
            Err(PathFault::ComponentTooLong { have, limit })
        }
        _ => Ok(()),
    }
}

/// Why a name is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PathFault {
    /// No name at all.
    Empty,
    /// It begins with a slash.
    Absolute,
    /// A component is `.` or `..`.
    Escapes,
    /// Two slashes follow each other.
    EmptyComponent,
    /// A backslash, which some systems take for a separator.
    Backslash,
    /// A control character, NUL among them.
    Control,
    /// Not UTF-8.
    NotUtf8,
    /// Longer than [`MAX_PATH_BYTES`].
    TooLong {
        /// Its bytes.
        have: usize,
        /// The most.
        limit: usize,
    },
    /// A component longer than [`MAX_COMPONENT_BYTES`].
    ComponentTooLong {
        /// Its bytes.
        have: usize,
        /// The most.
        limit: usize,
    },
    /// Deeper than [`MAX_PATH_DEPTH`].
    TooDeep {
        /// Its components.
        have: usize,
        /// The most.
        limit: usize,
    },
}

impl fmt::Display for PathFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("has no name"),
            Self::Absolute => f.write_str("has an absolute path"),
            Self::Escapes => f.write_str("has `.` or `..` in its path"),
            Self::EmptyComponent => f.write_str("has an empty component in its path"),
            Self::Backslash => f.write_str("has a backslash in its path"),
            Self::Control => f.write_str("has a control character in its path"),
            Self::NotUtf8 => f.write_str("has a path that isn't UTF-8"),
            Self::TooLong { have, limit } => {
                write!(f, "has a path of {have} bytes, {limit} are allowed")
            }
            Self::ComponentTooLong { have, limit } => {
                write!(
                    f,
                    "has a name of {have} bytes in its path, {limit} are allowed"
                )
            }
            Self::TooDeep { have, limit } => {
                write!(f, "has a path {have} levels deep, {limit} are allowed")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        const LONG: &str = match core::str::from_utf8(&[b'a'; MAX_PATH_BYTES + 1]) {
            Ok(text) => text,
            Err(_) => "",
        };
        const DEEP: &str = "a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/";
        type Row<'a> = (&'a str, Result<(&'a str, bool), PathFault>);
        let rows: &[Row<'_>] = &[
            ("a", Ok(("a", false))),
            ("a/", Ok(("a", true))),
            ("a/b c/.ssh", Ok(("a/b c/.ssh", false))),
            ("..a/b..", Ok(("..a/b..", false))),
            ("schlüssel", Ok(("schlüssel", false))),
            (
                &LONG[..MAX_COMPONENT_BYTES],
                Ok((&LONG[..MAX_COMPONENT_BYTES], false)),
            ),
            (&DEEP[2..], Ok((&DEEP[2..DEEP.len() - 1], true))),
            ("", Err(PathFault::Empty)),
            ("/", Err(PathFault::Absolute)),
            ("/etc/shadow", Err(PathFault::Absolute)),
            ("..", Err(PathFault::Escapes)),
            ("../x", Err(PathFault::Escapes)),
            ("a/../../x", Err(PathFault::Escapes)),
            ("a/..", Err(PathFault::Escapes)),
            ("a/../", Err(PathFault::Escapes)),
            (".", Err(PathFault::Escapes)),
            ("./a", Err(PathFault::Escapes)),
            ("a//b", Err(PathFault::EmptyComponent)),
            ("a//", Err(PathFault::EmptyComponent)),
            ("..\\x", Err(PathFault::Backslash)),
            ("C:\\x", Err(PathFault::Backslash)),
            ("a\0.txt", Err(PathFault::Control)),
            ("a\nb", Err(PathFault::Control)),
            ("\u{1b}[2J", Err(PathFault::Control)),
            ("a\u{85}b", Err(PathFault::Control)),
            (
                LONG,
                Err(PathFault::TooLong {
                    have: 513,
                    limit: 512,
                }),
            ),
            (
                &LONG[..256],
                Err(PathFault::ComponentTooLong {
                    have: 256,
                    limit: 255,
                }),
            ),
            (
                DEEP,
                Err(PathFault::TooDeep {
                    have: 17,
                    limit: 16,
                }),
            ),
        ];
        for (name, want) in rows {
            let have = EntryPath::parse(name.as_bytes())
                .map(|(path, directory)| (path.as_str(), directory));
            assert_eq!(have, *want, "{name:?}");
        }
        assert_eq!(EntryPath::parse(b"a\xFF"), Err(PathFault::NotUtf8));
    }

    #[test]
    fn conflicts() {
        let rows = [
            ("a", "a", true),
            ("a/", "a/", true),
            ("a", "a/", true),
            ("a", "a/b", true),
            ("a", "a/b/c/", true),
            ("a/", "a/b", false),
            ("a", "ab", false),
            ("a-x", "a/b", false),
            ("a/b", "a/c", false),
            ("a/b", "b", false),
        ];
        for (one, other, want) in rows {
            assert_eq!(
                conflict(one.as_bytes(), other.as_bytes()),
                want,
                "{one} {other}"
            );
            assert_eq!(
                conflict(other.as_bytes(), one.as_bytes()),
                want,
                "{other} {one}"
            );
        }
    }
}
