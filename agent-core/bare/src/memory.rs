//! The functions of the C library that compiled code calls without being told.
//!
//! Byte by byte and volatile: anything else may be compiled to a call of itself.

/// # Safety
/// As C has it: both have so many bytes and don't overlap.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, bytes: usize) -> *mut u8 {
    for at in 0..bytes {
        // SAFETY: `at` is within both, by the caller's promise.
        unsafe { to.add(at).write_volatile(from.add(at).read()) };
    }
    to
}

/// # Safety
/// As C has it: both have so many bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, bytes: usize) -> *mut u8 {
    if to.addr() <= from.addr() {
        // SAFETY: copied from the front, no byte is overwritten before it was read; the rest is the caller's promise.
        return unsafe { memcpy(to, from, bytes) };
    }
    for at in (0..bytes).rev() {
        // SAFETY: `at` is within both, by the caller's promise.
        unsafe { to.add(at).write_volatile(from.add(at).read()) };
    }
    to
}

/// # Safety
/// As C has it: so many bytes may be written.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, bytes: usize) -> *mut u8 {
    let [byte, ..] = byte.to_le_bytes();
    for at in 0..bytes {
        // SAFETY: `at` is within `to`, by the caller's promise.
        unsafe { to.add(at).write_volatile(byte) };
    }
    to
}

/// # Safety
/// As C has it: both have so many bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(one: *const u8, other: *const u8, bytes: usize) -> i32 {
    for at in 0..bytes {
        // SAFETY: `at` is within both, by the caller's promise.
        let (one, other) = unsafe { (one.add(at).read_volatile(), other.add(at).read_volatile()) };
        if one != other {
            return i32::from(one) - i32::from(other);
        }
    }
    0
}

/// # Safety
/// As C has it: both have so many bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(one: *const u8, other: *const u8, bytes: usize) -> i32 {
    // SAFETY: the caller's promise is the same.
    unsafe { memcmp(one, other, bytes) }
}
