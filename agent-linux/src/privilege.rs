//! The user that the agent becomes once it holds what only root gets: its port, its landing zone, its TPM.
//!
//! There is no way back: user, group and capabilities go for good, and what the agent starts gains none by a setuid program.
//! Users are looked up in `/etc/passwd` and `/etc/group` themselves, so that a static build without a C library's name
//! service finds the same ones; those of LDAP and the like are given by number.

mod account;

use std::fmt;
use std::io;
use std::path::Path;
use std::str::FromStr;

use rustix::process::{geteuid, getgid, getuid};
use rustix::thread::{capabilities, set_no_new_privs};

use crate::memory;
pub use account::{Account, AccountError};

/// A user, and a group if it isn't the user's own, by name or number: `user[:group]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserSpec {
    user: String,
    group: Option<String>,
}

impl FromStr for UserSpec {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        let is_name = |name: &str| {
            let bad = |byte: u8| byte.is_ascii_control() || matches!(byte, b':' | b'/' | b' ');
            !name.is_empty() && name.len() <= MAX_NAME_BYTES && !name.bytes().any(bad)
        };
        if is_name(user) && group.is_none_or(is_name) {
            Ok(Self {
                user: user.to_owned(),
                group: group.map(str::to_owned),
            })
        } else {
            Err("write a user and perhaps a group, such as nobody, keylime:tss or 65534:65534")
        }
    }
}

/// Why the agent can't become that user.
#[derive(Debug)]
#[non_exhaustive]
pub enum PrivilegeError {
    /// There is no such user or group.
    Account(AccountError),
    /// Only root can become another user.
    NotRoot {
        /// The user that was asked for.
        wanted: String,
        /// The number of the user that the agent is.
        own: u32,
    },
    /// The kernel refuses a step.
    Refused {
        /// Which.
        step: &'static str,
        /// Why.
        error: io::Error,
    },
    /// After all steps the process could still become root again.
    WayBack,
}

impl fmt::Display for PrivilegeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Account(error) => write!(f, "run_as: {error}"),
            Self::NotRoot { wanted, own } => write!(
                f,
                "run_as: only root can become {wanted}, and the agent was started as user {own}; \
                 start it as root, or leave run_as out"
            ),
            Self::Refused { step, error } => write!(f, "run_as: {step}: {error}"),
            Self::WayBack => {
                f.write_str("run_as: the process could become root again, so it doesn't go on")
            }
        }
    }
}

impl std::error::Error for PrivilegeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Account(error) => Some(error),
            Self::Refused { error, .. } => Some(error),
            Self::NotRoot { .. } | Self::WayBack => None,
        }
    }
}

/// Finds out who the agent is to be: this user, or the one that it was started as.
///
/// # Errors
/// [`PrivilegeError::Account`], or [`PrivilegeError::NotRoot`] for another user than its own.
pub fn choose(wanted: Option<&UserSpec>) -> Result<Account, PrivilegeError> {
    let Some(spec) = wanted else {
        return Ok(Account::current(Path::new("/")));
    };
    let account = Account::find(Path::new("/"), &spec.user, spec.group.as_deref())
        .map_err(PrivilegeError::Account)?;
    if is_already(&account) || geteuid().is_root() {
        Ok(account)
    } else {
        Err(PrivilegeError::NotRoot {
            wanted: account.name().to_owned(),
            own: geteuid().as_raw(),
        })
    }
}

/// Becomes this user for good, with its groups, and without a capability: all threads that there are. Threads that this one
/// starts from now on, and programs, gain nothing by setuid programs. For the user that the agent is, nothing changes.
///
/// # Errors
/// [`PrivilegeError`]; the process is then neither the one nor the other, and must end.
pub fn become_user(account: &Account) -> Result<(), PrivilegeError> {
    if is_already(account) {
        return Ok(());
    }
    // Locked memory is counted against its limit once CAP_IPC_LOCK is gone.
    memory::keep_locked();
    step("setgroups", set_groups(account.groups()))?;
    step("setresgid", set_gid(account.gid()))?;
    step("setresuid", set_uid(account.uid()))?;
    let no_privileges = set_no_new_privs(true).map_err(io::Error::from);
    step("no_new_privs", no_privileges)?;
    // The kernel forgets this when the user changes.
    step("prctl", memory::forbid_core_dumps())?;
    let left = capabilities(None).map_err(io::Error::from);
    let left = step("capget", left)?;
    if !account.is_root() && (!left.permitted.is_empty() || set_uid(0).is_ok()) {
        return Err(PrivilegeError::WayBack);
    }
    Ok(())
}

fn is_already(account: &Account) -> bool {
    let own = (getuid().as_raw(), getgid().as_raw());
    own == (account.uid(), account.gid()) && geteuid() == getuid()
}

fn step<T>(step: &'static str, done: io::Result<T>) -> Result<T, PrivilegeError> {
    done.map_err(|error| PrivilegeError::Refused { step, error })
}

fn set_groups(groups: &[u32]) -> io::Result<()> {
    // SAFETY: the pointer and the length are one slice's, which the call only reads.
    done(unsafe { libc::setgroups(groups.len(), groups.as_ptr()) })
}

fn set_gid(gid: u32) -> io::Result<()> {
    // SAFETY: plain numbers. The C library's call, not the kernel's own, which would change this thread alone.
    done(unsafe { libc::setresgid(gid, gid, gid) })
}

fn set_uid(uid: u32) -> io::Result<()> {
    // SAFETY: as for groups.
    done(unsafe { libc::setresuid(uid, uid, uid) })
}

fn done(code: libc::c_int) -> io::Result<()> {
    if code == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Source: useradd(8).
const MAX_NAME_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn what_is_a_user() {
        let rows = [
            ("nobody", Some(("nobody", None))),
            ("keylime:tss", Some(("keylime", Some("tss")))),
            ("65534:65534", Some(("65534", Some("65534")))),
            ("", None),
            (":tss", None),
            ("keylime:", None),
            ("a:b:c", None),
            ("a b", None),
            ("a\n", None),
            ("../a", None),
        ];
        for (text, wanted) in rows {
            let spec = text.parse::<UserSpec>().ok();
            let parts = spec
                .as_ref()
                .map(|spec| (&*spec.user, spec.group.as_deref()));
            assert_eq!(parts, wanted, "{text:?}");
        }
    }

    #[test]
    fn ones_own_user_is_no_change() {
        let account = choose(None).unwrap();
        assert_eq!(account.uid(), geteuid().as_raw());
        become_user(&account).unwrap();
        assert_eq!(account.uid(), geteuid().as_raw());
    }

    #[test]
    fn nobody_by_this_name() {
        let spec = "no-such-user".parse().unwrap();
        let error = choose(Some(&spec)).unwrap_err().to_string();
        assert!(
            error.contains("no-such-user") && error.contains("/etc/passwd"),
            "{error}"
        );
    }
}
