//! agent-core in a program that has nothing: no std, no allocator, and a panic handler of its own.
//!
//! A static library is a whole program to the compiler: if `alloc` were anywhere below, it would ask for a global
//! allocator, and if `std` were, there would be two panic handlers.
#![no_std]

#[cfg(feature = "should-fail-alloc")]
extern crate alloc;

#[cfg(feature = "should-fail-std")]
extern crate std;

use agent_core as _;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {
        core::hint::spin_loop();
    }
}
