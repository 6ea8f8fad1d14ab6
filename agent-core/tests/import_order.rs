//! Which module of the core may import which: only downward.
#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

use std::fs;
use std::path::{Path, PathBuf};

/// From the top down: a module imports itself and what stands below its rank, nothing beside it and nothing above.
const RANKS: [&[&str]; 4] = [
    &["drive"],
    &["agent", "outbound"],
    &["http", "payload", "revocation", "tpm"],
    &["secret", "wire"],
];

fn rank(module: &str) -> usize {
    let known = RANKS.iter().position(|rank| rank.contains(&module));
    known.unwrap_or_else(|| panic!("module {module} has no rank: give it one"))
}

/// Every source file with its top-level module.
fn sources() -> Vec<(String, PathBuf)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut directories = vec![root.clone()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            let inside = path.strip_prefix(&root).unwrap().with_extension("");
            let module = inside.iter().next().unwrap().to_str().unwrap().to_owned();
            if module != "lib" {
                found.push((module, path));
            }
        }
    }
    found
}

/// Modules named by `crate::`, in code and in `use` alike.
fn imports(text: &str) -> Vec<String> {
    let code = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    let after = |line: &str| -> Vec<String> {
        let pieces = line.split("crate::").skip(1);
        let word = |piece: &str| {
            let end = piece.find(|c: char| !c.is_alphanumeric() && c != '_');
            piece[..end.unwrap_or(piece.len())].to_owned()
        };
        pieces.map(word).collect()
    };
    code.flat_map(after).collect()
}

fn violations(module: &str, text: &str) -> Vec<String> {
    let upward = |import: &String| import != module && rank(import) <= rank(module);
    imports(text).into_iter().filter(upward).collect()
}

#[test]
fn modules_import_downward() {
    let sources = sources();
    assert!(sources.len() > 20);
    for (module, path) in sources {
        let text = fs::read_to_string(&path).unwrap();
        let found = violations(&module, &text);
        assert!(found.is_empty(), "{}: imports {found:?}", path.display());
    }
}

#[test]
fn only_drive_names_embedded_io() {
    for (module, path) in sources() {
        let text = fs::read_to_string(&path).unwrap();
        let names = text.contains("embedded_io::");
        assert_eq!(names, module == "drive", "{}", path.display());
    }
}

#[test]
fn the_check_finds_what_it_looks_for() {
    assert_eq!(violations("wire", "use crate::agent::Agent;"), ["agent"]);
    assert_eq!(
        violations("wire", "fn f(s: crate::http::Status) {}"),
        ["http"]
    );
    assert_eq!(violations("tpm", "use crate::http::Status;"), ["http"]);
    assert_eq!(
        violations("outbound", "use crate::agent::Agent;"),
        ["agent"]
    );
    assert!(violations("agent", "use crate::agent::x; use crate::wire::y;").is_empty());
}
