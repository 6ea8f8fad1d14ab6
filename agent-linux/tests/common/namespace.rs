//! Tests that mount: that takes rights, and must not touch the machine that tests run on.

use std::process::Command;

const IN_NAMESPACE: &str = "KEYHALF_TEST_IN_NAMESPACE";

/// Whether the test is in a mount namespace of its own (and a user namespace, if it isn't root); if not, runs it again in one
/// and passes its failure on.
pub(crate) fn is_in_namespace(test: &str) -> bool {
    if std::env::var_os(IN_NAMESPACE).is_some() {
        return true;
    }
    let rights = if rustix::process::geteuid().is_root() {
        "-m"
    } else {
        "-Urm"
    };
    let out = Command::new("unshare")
        .arg(rights)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(IN_NAMESPACE, "1")
        .output()
        .unwrap();
    let text =
        String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    assert!(
        out.status.success() && text.contains("1 passed"),
        "in its namespace:\n{text}"
    );
    false
}
