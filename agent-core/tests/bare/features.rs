//! What agent-core depends on: without `std` and `alloc`, and the same packages in `bare/` as in the workspace.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use crate::program::{said_by, source};

/// Macros run in the compiler and may use what they like.
const PRODUCT: &str = "normal,no-proc-macro";

#[test]
fn no_dependency_has_std_or_alloc_on() {
    let found = with_std_or_alloc(PRODUCT);
    assert!(found.is_empty(), "{found:?}");
}

/// Tests may allocate, and these do.
#[test]
fn the_check_sees_what_tests_depend_on() {
    let found = with_std_or_alloc("normal,dev,no-proc-macro");
    let base64 = |line: &String| line.starts_with("base64 ") && line.contains("alloc");
    assert!(found.iter().any(base64), "{found:?}");
}

/// The packages below agent-core, one with its features a line, that have such a feature on.
fn with_std_or_alloc(edges: &str) -> Vec<String> {
    let mut tree = Command::new(env!("CARGO"));
    tree.args(["tree", "--locked", "--package", "agent-core"])
        .args(["--no-default-features", "--target", "all"])
        .args(["--edges", edges, "--prefix", "none"])
        .args(["--format", "{p}\t{f}"])
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    let tree = said_by(&mut tree);
    assert!(tree.contains("aes-gcm "), "{tree}");
    let allocates = |feature: &str| {
        let words = feature.split(['-', '_']);
        words
            .into_iter()
            .any(|word| matches!(word, "std" | "alloc"))
    };
    let mut found = BTreeSet::new();
    for line in tree.lines() {
        let (package, features) = line.split_once('\t').unwrap();
        let features = features.trim_end_matches(" (*)");
        if features.split(',').any(allocates) {
            found.insert(format!("{package} {features}"));
        }
    }
    found.into_iter().collect()
}

#[test]
fn bare_has_the_versions_of_the_workspace() {
    let core = env!("CARGO_MANIFEST_DIR");
    let workspace = fs::read_to_string(format!("{core}/../Cargo.lock")).unwrap();
    let bare = fs::read_to_string(source().join("Cargo.lock")).unwrap();
    let (workspace, bare) = (packages(&workspace), packages(&bare));
    assert!(bare.len() > 20);
    let others: Vec<_> = bare
        .difference(&workspace)
        .filter(|package| !package.starts_with("name = \"bare\""))
        .collect();
    assert!(
        others.is_empty(),
        "{others:?}: copy Cargo.lock to agent-core/bare, then run cargo metadata there"
    );
}

/// Name, version, source and checksum of each package.
fn packages(lock: &str) -> BTreeSet<String> {
    let blocks = lock.split("[[package]]\n").skip(1);
    let head = |block: &str| {
        let lines = block
            .lines()
            .take_while(|line| !line.starts_with("dependencies"));
        lines.collect::<Vec<_>>().join(" ").trim().to_owned()
    };
    blocks.map(head).collect()
}
