//! Records when the agent was built: a machine whose clock stands before that has no right time. Links the static agent. And
//! looks whether the tests of the fence can run here (`cfg(no_landlock)`); the agent itself looks when it starts.

use std::time::{SystemTime, UNIX_EPOCH};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    let now = || {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |time| time.as_secs())
    };
    let seconds = std::env::var("SOURCE_DATE_EPOCH")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(now);
    println!("cargo::rustc-env=KEYHALF_BUILD_SECONDS={seconds}");
    link_static();
    println!("cargo::rustc-check-cfg=cfg(no_landlock)");
    let (nothing, no_bytes, version) = (std::ptr::null::<u8>(), 0_usize, 1_u32);
    // SAFETY: with this flag the call reads no memory and makes nothing; it tells the version of Landlock.
    if unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            nothing,
            no_bytes,
            version,
        )
    } < 1
    {
        let why = std::io::Error::last_os_error();
        println!(
            "cargo::warning=no Landlock here, its test is ignored: landlock_create_ruleset: {why}"
        );
        println!("cargo::rustc-cfg=no_landlock");
    }
}

/// Links the agent against musl.
fn link_static() {
    println!("cargo::rustc-check-cfg=cfg(no_unwinding)");
    println!("cargo::rerun-if-changed={NO_UNWINDING}");
    let is = |name: &str, wanted: &str| std::env::var_os(name).is_some_and(|value| value == wanted);
    if !is("CARGO_CFG_TARGET_ENV", "musl") {
        return;
    }
    let argument = |text: &str| println!("cargo::rustc-link-arg-bins=-Wl,{text}");
    // A static executable can load anywhere only by a table of its own pointers: 148 KB, packed 1 KB. musl reads the packed
    // form since 1.2.4, of which Rust has a newer one.
    argument("-z,pack-relative-relocs");
    // No variable tells the profile, nor how it panics: only `tiny` asks for the least size.
    if is("OPT_LEVEL", "z") {
        println!("cargo::rustc-cfg=no_unwinding");
        let directory = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        argument(&format!("-T,{directory}/{NO_UNWINDING}"));
        argument("--no-eh-frame-hdr");
    }
}

const NO_UNWINDING: &str = "link/no-unwinding.ld";
