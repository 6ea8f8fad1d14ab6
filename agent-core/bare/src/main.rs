//! agent-core in a program that has nothing: no std, no allocator, no C library, a panic handler of its own.
//!
//! It walks through the public API with a real payload ([`walk::STEPS`]): that it links shows that nothing in the core
//! allocates, and what it is linked from shows where the core could panic. On Linux it also runs: each step on a painted
//! stack, whose use it prints, one `BYTES NAME` a line. It ends with 0, or with the number of the step that failed.
//!
//! | feature | what must happen |
//! | --- | --- |
//! | `should-fail-alloc` | the linker misses an allocator |
//! | `should-fail-std` | two panic handlers |
//! | `should-fail-panic` | the search for panics finds one |
#![no_std]
#![no_main]

#[cfg(feature = "should-fail-alloc")]
extern crate alloc;

#[cfg(feature = "should-fail-std")]
extern crate std;

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
mod memory;
#[cfg(target_os = "linux")]
mod stack;
mod walk;
mod world;

/// Every panic ends here.
#[panic_handler]
#[inline(never)]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    panicked()
}

/// A name to look for in the program.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn panicked() -> ! {
    #[cfg(target_os = "linux")]
    linux::exit(linux::PANICKED);
    #[cfg(not(target_os = "linux"))]
    loop {
        core::hint::spin_loop();
    }
}

/// Where a target without a system begins: it has nobody to tell, so it walks again and again.
#[cfg(not(target_os = "linux"))]
#[unsafe(no_mangle)]
extern "C" fn _start() -> ! {
    loop {
        let mut memory = [0; world::VAULT_BYTES];
        if let Some(mut world) = world::World::new(&mut memory) {
            for step in walk::STEPS {
                core::hint::black_box((step.name, (step.run)(&mut world)));
            }
        }
    }
}
