//! Records when the agent was built: a machine whose clock stands before that has no right time. Links the static agent.

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
    // A static executable can load anywhere only by a table of its own pointers: 148 KB, packed 1 KB. musl reads the packed
    // form since 1.2.4, of which Rust has a newer one.
    if std::env::var_os("CARGO_CFG_TARGET_ENV").is_some_and(|env| env == "musl") {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}
