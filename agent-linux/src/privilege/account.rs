//! Users and groups as `/etc/passwd` and `/etc/group` have them.

use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use rustix::process::{getegid, geteuid};

use crate::landing::Owner;

/// A user, with all that the kernel and a script's environment are told of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    name: String,
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
    home: String,
}

impl Account {
    /// The user by this name or number, with this group or its own, from the files beneath a root directory. A number that
    /// `/etc/passwd` doesn't have is a user too, if its group is given.
    ///
    /// # Errors
    /// [`AccountError`].
    pub(super) fn find(root: &Path, user: &str, group: Option<&str>) -> Result<Self, AccountError> {
        let users = read(root, USERS)?;
        let groups = read(root, GROUPS)?;
        let entry = User::find(&users, user);
        let gid = match (group, &entry) {
            (Some(group), _) => gid_of(&groups, group)?,
            (None, Some(entry)) => entry.gid,
            (None, None) if number(user).is_some() => {
                return Err(AccountError::NoGroupGiven {
                    user: user.to_owned(),
                });
            }
            (None, None) => {
                return Err(AccountError::NoUser {
                    user: user.to_owned(),
                });
            }
        };
        let uid = entry.as_ref().map(|entry| entry.uid).or(number(user));
        let uid = uid.ok_or_else(|| AccountError::NoUser {
            user: user.to_owned(),
        })?;
        let name = entry.as_ref().map_or(user, |entry| entry.name);
        let mut all = vec![gid];
        all.extend(memberships(&groups, name).filter(|other| *other != gid));
        all.truncate(MAX_GROUPS);
        Ok(Self {
            name: name.to_owned(),
            uid,
            gid,
            groups: all,
            home: entry.map_or("/", |entry| entry.home).to_owned(),
        })
    }

    /// The user that this process is. Its name and home are its number and `/` where the file doesn't tell; root needs no
    /// file, an initramfs has none.
    pub(super) fn current(root: &Path) -> Self {
        let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
        if uid == 0 {
            return Self::root();
        }
        let users = read(root, USERS).unwrap_or_default();
        let number = uid.to_string();
        let entry = User::find(&users, &number);
        Self {
            name: entry
                .as_ref()
                .map_or(&*number, |entry| entry.name)
                .to_owned(),
            uid,
            gid,
            groups: vec![gid],
            home: entry.map_or("/", |entry| entry.home).to_owned(),
        }
    }

    /// Root.
    #[must_use]
    pub fn root() -> Self {
        Self {
            name: "root".to_owned(),
            uid: 0,
            gid: 0,
            groups: vec![0],
            home: "/root".to_owned(),
        }
    }

    /// Its name, or its number if it has none.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its number.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// Its group.
    #[must_use]
    pub fn gid(&self) -> u32 {
        self.gid
    }

    /// All its groups.
    #[must_use]
    pub fn groups(&self) -> &[u32] {
        &self.groups
    }

    /// The owner of its landing zone.
    #[must_use]
    pub fn owner(&self) -> Owner {
        Owner {
            uid: self.uid,
            gid: self.gid,
        }
    }

    /// Its home directory, `/` if it has none.
    #[must_use]
    pub fn home(&self) -> &str {
        &self.home
    }

    /// Whether it is root.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.uid == 0
    }
}

/// A line of `/etc/passwd`.
///
/// Source: passwd(5).
struct User<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

impl<'a> User<'a> {
    /// The first of this name, else the first of this number.
    fn find(users: &'a str, wanted: &str) -> Option<Self> {
        let by_name = users
            .lines()
            .filter_map(Self::parse)
            .find(|user| user.name == wanted);
        let by_number = || {
            let wanted = number(wanted)?;
            let mut users = users.lines().filter_map(Self::parse);
            users.find(|user| user.uid == wanted)
        };
        by_name.or_else(by_number)
    }

    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let uid = number(fields.nth(1)?)?;
        let gid = number(fields.next()?)?;
        let home = fields.nth(1).filter(|home| home.starts_with('/'));
        Some(Self {
            name,
            uid,
            gid,
            home: home.unwrap_or("/"),
        })
    }
}

/// The lines of `/etc/group`: name, number, members.
///
/// Source: group(5).
fn group_lines(groups: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    groups.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let gid = number(fields.nth(1)?)?;
        Some((name, gid, fields.next().unwrap_or_default()))
    })
}

fn gid_of(groups: &str, wanted: &str) -> Result<u32, AccountError> {
    group_lines(groups)
        .find(|(name, ..)| *name == wanted)
        .map(|(_, gid, _)| gid)
        .or_else(|| number(wanted))
        .ok_or_else(|| AccountError::NoGroup {
            group: wanted.to_owned(),
        })
}

fn memberships<'a>(groups: &'a str, user: &'a str) -> impl Iterator<Item = u32> + 'a {
    group_lines(groups)
        .filter(move |(_, _, members)| members.split(',').any(|member| member == user))
        .map(|(_, gid, _)| gid)
}

/// A user's or group's number; the kernel takes the highest one for "leave it".
fn number(text: &str) -> Option<u32> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|number| is_plain && *number != u32::MAX)
}

/// The text of a file beneath the root directory; one that isn't there is empty.
fn read(root: &Path, name: &str) -> Result<String, AccountError> {
    let path = root.join(name);
    let mut text = Vec::new();
    let read =
        File::open(&path).and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut text));
    match read {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(AccountError::Read { path, error }),
        Ok(_) if u64::try_from(text.len()).is_ok_and(|len| len > MAX_FILE_BYTES) => {
            let error = ErrorKind::FileTooLarge.into();
            Err(AccountError::Read { path, error })
        }
        // Comments in other encodings are no reason to know nobody.
        Ok(_) => Ok(String::from_utf8_lossy(&text).into_owned()),
    }
}

/// Why there is no such user.
#[derive(Debug)]
#[non_exhaustive]
pub enum AccountError {
    /// No user has this name.
    NoUser {
        /// The name.
        user: String,
    },
    /// No group has this name.
    NoGroup {
        /// The name.
        group: String,
    },
    /// A number that no user has, without a group.
    NoGroupGiven {
        /// The number.
        user: String,
    },
    /// A file can't be read.
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

impl fmt::Display for AccountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoUser { user } => write!(
                f,
                "/{USERS} has no user {user}; make one (useradd --system {user}), or give numbers: UID:GID"
            ),
            Self::NoGroup { group } => write!(
                f,
                "/{GROUPS} has no group {group}; make one (groupadd --system {group}), or give its number"
            ),
            Self::NoGroupGiven { user } => write!(
                f,
                "/{USERS} has no user {user}, so its group must be given: {user}:GID"
            ),
            Self::Read { path, error } => write!(f, "{} can't be read: {error}", path.display()),
        }
    }
}

impl std::error::Error for AccountError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read { error, .. } => Some(error),
            _ => None,
        }
    }
}

const USERS: &str = "etc/passwd";
const GROUPS: &str = "etc/group";
/// Some ten thousand users.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// Source: linux/limits.h, NGROUPS_MAX.
const MAX_GROUPS: usize = 65_536;

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash
# a comment
broken:x:one:1::/:/bin/sh
keylime:x:990:991:Keylime:/var/lib/keylime:/sbin/nologin
shadow:x:4294967295:1::/:/bin/sh
1000:x:7:7::/seven:/bin/sh
ann:x:1000:1000:Ann
";
    const GROUP: &str = "root:x:0:
tss:x:59:other,keylime
keylime:x:991:
both:x:60:keylime,ann
";

    fn etc() -> tempfile::TempDir {
        let root = tempfile::TempDir::new().unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        std::fs::write(root.path().join(USERS), PASSWD).unwrap();
        std::fs::write(root.path().join(GROUPS), GROUP).unwrap();
        root
    }

    #[test]
    fn users() {
        type Found = Result<(&'static str, u32, u32, &'static [u32], &'static str), &'static str>;
        let rows: [(&str, Option<&str>, Found); 13] = [
            ("root", None, Ok(("root", 0, 0, &[0], "/root"))),
            (
                "keylime",
                None,
                Ok(("keylime", 990, 991, &[991, 59, 60], "/var/lib/keylime")),
            ),
            (
                "keylime",
                Some("tss"),
                Ok(("keylime", 990, 59, &[59, 60], "/var/lib/keylime")),
            ),
            (
                "990",
                Some("60"),
                Ok(("keylime", 990, 60, &[60, 59], "/var/lib/keylime")),
            ),
            ("ann", None, Ok(("ann", 1000, 1000, &[1000, 60], "/"))),
            ("1000", None, Ok(("1000", 7, 7, &[7], "/seven"))),
            ("4711", Some("4712"), Ok(("4711", 4711, 4712, &[4712], "/"))),
            ("4711", None, Err("4711:GID")),
            ("bob", None, Err("no user bob")),
            ("bob", Some("tss"), Err("no user bob")),
            ("ann", Some("nogroup"), Err("no group nogroup")),
            ("shadow", Some("tss"), Err("no user shadow")),
            ("4294967295", Some("tss"), Err("no user 4294967295")),
        ];
        let root = etc();
        for (user, group, wanted) in rows {
            match (Account::find(root.path(), user, group), wanted) {
                (Ok(found), Ok((name, uid, gid, groups, home))) => {
                    let parts = (
                        found.name(),
                        found.uid(),
                        found.gid(),
                        found.groups(),
                        found.home(),
                    );
                    assert_eq!(parts, (name, uid, gid, groups, home), "{user} {group:?}");
                }
                (Err(error), Err(text)) => {
                    assert!(error.to_string().contains(text), "{user}: {error}");
                }
                (found, _) => panic!("{user} {group:?}: {found:?}"),
            }
        }
    }

    #[test]
    fn files_that_are_not_there_or_too_large() {
        let root = tempfile::TempDir::new().unwrap();
        assert!(Account::find(root.path(), "1", Some("1")).is_ok());
        assert!(Account::find(root.path(), "root", None).is_err());
        let large = "x".repeat(usize::try_from(MAX_FILE_BYTES).unwrap() + 1);
        std::fs::create_dir(root.path().join("etc")).unwrap();
        std::fs::write(root.path().join(USERS), large).unwrap();
        let error = Account::find(root.path(), "1", Some("1")).unwrap_err();
        assert!(error.to_string().contains("passwd"), "{error}");
    }
}
