//! The program on Linux: its entry, its output and its end, by system calls alone.

use core::fmt::{self, Write};

use crate::stack;
use crate::walk::STEPS;
use crate::world::{VAULT_BYTES, World};

/// The exit code after a panic.
pub const PANICKED: i32 = 101;

/// The exit code of a program that couldn't begin.
const NO_WORLD: i32 = 102;

#[cfg(target_arch = "x86_64")]
core::arch::global_asm!(
    ".globl _start",
    "_start:",
    "xor ebp, ebp",
    "and rsp, -16",
    "call {main}",
    main = sym main,
);

#[cfg(target_arch = "aarch64")]
core::arch::global_asm!(".globl _start", "_start:", "bl {main}", main = sym main);

extern "C" fn main() -> ! {
    exit(match walk() {
        Ok(()) => 0,
        Err(code) => code,
    })
}

/// Takes every step, prints what stack it needed, and tells the number of the first that fails.
fn walk() -> Result<(), i32> {
    let mut memory = [0; VAULT_BYTES];
    let mut world = World::new(&mut memory).ok_or(NO_WORLD)?;
    let mut painted = stack::Painted::take().ok_or(NO_WORLD)?;
    for (number, step) in (1..).zip(STEPS) {
        let mut walked = None;
        let bytes = painted.measure(|| walked = (step.run)(&mut world));
        if walked.is_none() {
            let _ = writeln!(Output(2), "step {number} failed: {}", step.name);
            return Err(number);
        }
        let _ = writeln!(Output(1), "{bytes} {}", step.name);
    }
    Ok(())
}

/// A file descriptor.
struct Output(usize);

impl Write for Output {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // SAFETY: `write` reads the text and touches nothing else.
        unsafe { system_call(WRITE, [self.0, text.as_ptr().addr(), text.len()]) };
        Ok(())
    }
}

/// Ends the program.
pub fn exit(code: i32) -> ! {
    loop {
        // SAFETY: `exit_group` touches no memory.
        unsafe { system_call(EXIT_GROUP, [code.cast_unsigned() as usize, 0, 0]) };
    }
}

#[cfg(target_arch = "x86_64")]
const WRITE: usize = 1;
#[cfg(target_arch = "x86_64")]
const EXIT_GROUP: usize = 231;
#[cfg(target_arch = "aarch64")]
const WRITE: usize = 64;
#[cfg(target_arch = "aarch64")]
const EXIT_GROUP: usize = 94;

/// # Safety
/// What the call does with its arguments has to be sound.
unsafe fn system_call(number: usize, [a, b, c]: [usize; 3]) {
    // SAFETY: these are the registers of Linux's system calls; the kernel keeps all others. The rest is the caller's
    // promise.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        core::arch::asm!(
            "syscall",
            inout("rax") number => _, in("rdi") a, in("rsi") b, in("rdx") c, out("rcx") _, out("r11") _,
            options(nostack)
        );
        #[cfg(target_arch = "aarch64")]
        core::arch::asm!(
            "svc 0",
            in("x8") number, inout("x0") a => _, in("x1") b, in("x2") c,
            options(nostack)
        );
    }
}
