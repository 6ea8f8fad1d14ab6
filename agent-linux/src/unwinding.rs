//! What the static agent has in place of an unwinding library: nothing.
//!
//! Its panics abort, after std's hook has written their message and place. It is stripped, so a backtrace would be a list of
//! numbers, and the tables that one is read from are left out (`build.rs`). std is compiled for programs that unwind and print
//! backtraces all the same, and names the functions below. Link-time optimization sees here that they do nothing, and leaves
//! out what std has around them: readers of debug information, demanglers, landing pads.
//!
//! The linker takes a member of libunwind's archive only for a symbol that is missing. If a later std names another one, the
//! link fails with symbols defined twice, and that one belongs into the list.
//!
//! Source: Itanium C++ ABI, exception handling, level I; LLVM's `unwind.h`.
use std::ffi::{c_int, c_void};
use std::process;

#[cfg(panic = "unwind")]
compile_error!(
    "the static agent is built without what unwinding takes: its profile needs panic = \"abort\""
);

/// Walks the stack for a backtrace: says at once that it has no more frames.
// SAFETY: the only definition of the symbol in the program, with the original's parameters, of which it reads none, and one of
// the original's results.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Backtrace(_: *const c_void, _: *mut c_void) -> c_int {
    END_OF_STACK
}

/// `_URC_END_OF_STACK`.
const END_OF_STACK: c_int = 5;

/// Functions that only an unwinder's own callbacks and landing pads call: nothing unwinds, so nobody does.
macro_rules! never {
    ($($name:ident($($parameter:ty),*) -> $result:ty;)*) => {
        $(
            // SAFETY: the only definition of the symbol in the program, with the original's parameters and result; it doesn't
            // return.
            #[unsafe(no_mangle)]
            extern "C" fn $name($(_: $parameter),*) -> $result {
                process::abort()
            }
        )*
    };
}

never! {
    _Unwind_GetDataRelBase(*mut c_void) -> usize;
    _Unwind_GetIP(*mut c_void) -> usize;
    _Unwind_GetIPInfo(*mut c_void, *mut c_int) -> usize;
    _Unwind_GetLanguageSpecificData(*mut c_void) -> *const c_void;
    _Unwind_GetRegionStart(*mut c_void) -> usize;
    _Unwind_GetTextRelBase(*mut c_void) -> usize;
    _Unwind_Resume(*mut c_void) -> !;
    _Unwind_SetGR(*mut c_void, c_int, usize) -> ();
    _Unwind_SetIP(*mut c_void, usize) -> ();
}
