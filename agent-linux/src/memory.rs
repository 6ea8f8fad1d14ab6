//! Memory for secrets: not swapped, not dumped, wiped before it is given back.

use std::ffi::c_void;
use std::io;
use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};
use std::slice;

use rustix::mm::{self, Advice, MapFlags, MlockAllFlags, MlockFlags, ProtFlags};
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
};
use zeroize::Zeroize;

/// Makes sure that no core file and no debugger of another user gets this process's memory, nor that of its scripts.
///
/// # Errors
/// The kernel's.
pub fn forbid_core_dumps() -> io::Result<()> {
    setrlimit(
        Resource::Core,
        Rlimit {
            current: Some(0),
            maximum: Some(0),
        },
    )?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// Keeps all of this process out of swap, now and later: keys, halves, and what libraries hold of them. `false` if it isn't
/// permitted (no CAP_IPC_LOCK, and RLIMIT_MEMLOCK too small).
#[must_use]
pub fn lock_all() -> bool {
    let everything = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    if mm::mlockall(everything).is_err() {
        return false;
    }
    // A limit that counts for this process would later refuse it memory altogether: then rather nothing is locked.
    let is_enough = match getrlimit(Resource::Memlock).current {
        Some(limit) if limit < PLENTY => usize::try_from(limit).is_ok_and(|limit| {
            let len = limit.saturating_add(1);
            map(len).map(|start| unmap(start, len)).is_ok()
        }),
        _ => true,
    };
    if !is_enough {
        let _ = mm::munlockall();
    }
    is_enough
}

/// Lets what is locked stay so once CAP_IPC_LOCK is gone, by raising the limit that then counts. Where the limit can't be
/// raised, vaults alone are locked, as far as it goes.
pub fn keep_locked() {
    let unlimited = Rlimit {
        current: None,
        maximum: None,
    };
    let limit = getrlimit(Resource::Memlock).current;
    if setrlimit(Resource::Memlock, unlimited).is_err() && limit.is_some_and(|limit| limit < PLENTY)
    {
        let _ = mm::munlockall();
        log::warn!(
            "RLIMIT_MEMLOCK can't be raised, so only payloads are kept out of swap: raise it for this service"
        );
    }
}

/// Overwrites the stack below its caller, where a call that has returned may have left key halves.
#[inline(never)]
pub fn wipe_stack() {
    let mut used = [0_u8; USED_STACK_BYTES];
    used.zeroize();
}

/// How deep a request's calls go, the TSS included.
const USED_STACK_BYTES: usize = 32 * 1024;

/// More memory than the agent ever maps.
const PLENTY: u64 = 4 << 30;

/// A region for one sealed payload, opened in place.
///
/// Pages come into being when they are first written, so an empty vault costs no memory however large it is.
pub struct Vault {
    start: NonNull<u8>,
    len: usize,
    locked: bool,
}

impl Vault {
    /// A vault of `len` zero bytes. Where it can't be locked into memory (RLIMIT_MEMLOCK), it is used all the same:
    /// [`Vault::is_locked`] tells.
    ///
    /// # Errors
    /// The kernel's, if there is no memory.
    pub fn new(len: usize) -> io::Result<Self> {
        let len = len.max(1);
        let mut vault = Self {
            start: map(len)?,
            len,
            locked: false,
        };
        vault.protect()?;
        Ok(vault)
    }

    /// Whether the region stays out of swap.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.locked
    }

    fn protect(&mut self) -> io::Result<()> {
        let start = self.start.as_ptr().cast::<c_void>();
        // SAFETY: start and len are this value's own live mapping; the advice changes no contents.
        unsafe { mm::madvise(start, self.len, Advice::LinuxDontDump)? };
        // SAFETY: as above; locking changes no contents.
        self.locked = unsafe { mm::mlock_with(start, self.len, MlockFlags::ONFAULT) }.is_ok();
        Ok(())
    }
}

impl Deref for Vault {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the mapping is readable, initialized (by the kernel, with zeros), len bytes long, and borrowed with self.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for Vault {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`; the mapping is private and writable, and `&mut self` makes this the only reference.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl AsRef<[u8]> for Vault {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl AsMut<[u8]> for Vault {
    fn as_mut(&mut self) -> &mut [u8] {
        self
    }
}

impl Drop for Vault {
    fn drop(&mut self) {
        self.zeroize();
        unmap(self.start, self.len);
    }
}

// SAFETY: the mapping belongs to this value alone and isn't tied to a thread.
unsafe impl Send for Vault {}

fn map(len: usize) -> io::Result<NonNull<u8>> {
    // SAFETY: a new private mapping at a place of the kernel's choice touches no memory of ours.
    let start = unsafe {
        mm::mmap_anonymous(
            ptr::null_mut(),
            len,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE | MapFlags::NORESERVE,
        )?
    };
    NonNull::new(start.cast()).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
}

fn unmap(start: NonNull<u8>, len: usize) {
    // SAFETY: the callers own this mapping and never use it again. It can't fail for a whole mapping of our own.
    let _ = unsafe { mm::munmap(start.as_ptr().cast(), len) };
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_vault_holds_what_is_written() {
        let mut vault = Vault::new(1 << 20).unwrap();
        assert_eq!(vault.len(), 1 << 20);
        assert!(vault.iter().all(|byte| *byte == 0));
        vault[(1 << 20) - 1] = 1;
        assert_eq!(
            vault.iter().map(|byte| usize::from(*byte)).sum::<usize>(),
            1
        );
        assert_eq!(Vault::new(0).unwrap().len(), 1);
    }

    #[test]
    fn nothing_is_dumped() {
        forbid_core_dumps().unwrap();
        assert_eq!(
            rustix::process::dumpable_behavior().unwrap(),
            DumpableBehavior::NotDumpable
        );
        assert_eq!(rustix::process::getrlimit(Resource::Core).maximum, Some(0));
        let vault = Vault::new(4096).unwrap();
        let holds = |line: &str| {
            let bounds = line
                .split(' ')
                .next()
                .and_then(|range| range.split_once('-'));
            let bounds =
                bounds.map(|(from, to)| [from, to].map(|end| usize::from_str_radix(end, 16)));
            matches!(bounds, Some([Ok(from), Ok(to)]) if (from..to).contains(&vault.as_ptr().addr()))
        };
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let flags = maps
            .lines()
            .skip_while(|line| !holds(line))
            .find(|line| line.starts_with("VmFlags:"))
            .unwrap();
        assert!(flags.contains(" dd"), "MADV_DONTDUMP: {flags}");
    }

    #[test]
    fn an_unused_vault_takes_no_memory() {
        let resident = || -> usize {
            let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
            statm.split(' ').nth(1).unwrap().parse().unwrap()
        };
        let before = resident();
        let vault = Vault::new(64 << 20).unwrap();
        assert!(resident() < before + 1024, "pages of 4 KiB");
        drop(vault);
    }
}
