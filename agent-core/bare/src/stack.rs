//! A stack that is painted before each use, so that it shows how deep it was used.

use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::sync::atomic::{AtomicBool, Ordering};

/// More than anything may use: what runs over it would write to the memory below.
const BYTES: usize = 256 * 1024;

/// A byte that code rarely leaves behind; a run of it at the deepest end would count as unused.
const PAINT: u8 = 0xC5;

#[repr(align(64))]
struct Memory(UnsafeCell<[u8; BYTES]>);

// SAFETY: `Painted::take` lends it once.
unsafe impl Sync for Memory {}

static MEMORY: Memory = Memory(UnsafeCell::new([0; BYTES]));
static TAKEN: AtomicBool = AtomicBool::new(false);

/// The one painted stack.
pub struct Painted(*mut [u8; BYTES]);

impl Painted {
    /// The first time only.
    pub fn take() -> Option<Self> {
        let is_first = !TAKEN.swap(true, Ordering::Relaxed);
        is_first.then(|| Self(MEMORY.0.get()))
    }

    /// Runs the work on this stack, and tells the most bytes of it that were in use.
    pub fn measure(&mut self, work: impl FnOnce()) -> usize {
        self.paint();
        let top = self.0.wrapping_add(1).cast::<c_void>();
        let mut job = Some(work);
        // SAFETY: `top` is the aligned end of memory that nothing else uses, and `run_job` is given the job it is made for.
        unsafe { call_on(top, run_job_of(&job), (&raw mut job).cast()) };
        BYTES.saturating_sub(self.unused())
    }

    fn paint(&mut self) {
        // SAFETY: the memory is this value's alone, and nothing runs on it now.
        let bytes = unsafe { &mut *self.0 };
        bytes.fill(PAINT);
    }

    fn unused(&self) -> usize {
        // SAFETY: the memory is this value's alone, and nothing runs on it any more.
        let bytes = unsafe { &*self.0 };
        bytes.iter().take_while(|byte| **byte == PAINT).count()
    }
}

/// The function that runs jobs of this type, whose name can't be written.
fn run_job_of<F: FnOnce()>(_: &Option<F>) -> unsafe extern "C" fn(*mut c_void) {
    run_job::<F>
}

/// # Safety
/// `job` is an `Option<F>` that nothing else uses meanwhile.
unsafe extern "C" fn run_job<F: FnOnce()>(job: *mut c_void) {
    // SAFETY: the caller's promise.
    let job = unsafe { &mut *job.cast::<Option<F>>() };
    if let Some(work) = job.take() {
        work();
    }
}

/// Calls a function on another stack.
///
/// # Safety
/// `top` is the end, aligned to 16 bytes, of memory that is large enough and not in use; `function` may be called with
/// `argument`.
unsafe fn call_on(
    top: *mut c_void,
    function: unsafe extern "C" fn(*mut c_void),
    argument: *mut c_void,
) {
    // SAFETY: the old stack pointer waits in a register that a C function keeps, and is back before the end; everything
    // that a C function may change is declared. The rest is the caller's promise.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        core::arch::asm!(
            "xchg rsp, r12", "call {function}", "mov rsp, r12",
            function = in(reg) function, inout("r12") top => _, in("rdi") argument,
            clobber_abi("C")
        );
        #[cfg(target_arch = "aarch64")]
        core::arch::asm!(
            "mov x20, sp", "mov sp, {top}", "blr {function}", "mov sp, x20",
            top = in(reg) top, function = in(reg) function, out("x20") _, in("x0") argument,
            clobber_abi("C")
        );
    }
}
