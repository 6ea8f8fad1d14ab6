//! What may import what, held by reading the sources and asking cargo.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use hw_tests::Result;

/// agent-core's modules, from what decides down to what is only data: each may use the rows below its own.
const CORE_ORDER: [&[&str]; 4] = [
    &["drive"],
    &["agent"],
    &["http", "payload", "revocation", "tpm"],
    &["wire", "secret"],
];

/// The workspace's crates, and what each may use of it.
const CRATES: [(&str, &[&str]); 5] = [
    ("agent-core", &[]),
    ("agent-linux", &["agent-core"]),
    ("verifier-host", &["agent-core"]),
    ("tenant-host", &["verifier-host", "agent-core"]),
    ("hw-tests", &["verifier-host", "agent-core"]),
];

/// What must not be among the packages that a crate links: `(crate, package, why)`.
const NEVER_LINKED: [(&str, &str, &str); 8] = [
    ("agent-core", "rustls", "TLS is the shell's"),
    (
        "agent-linux",
        "tokio",
        "the agent is blocking, a few threads at most",
    ),
    (
        "agent-linux",
        "rcgen",
        "x509-cert makes the agent's certificate",
    ),
    ("agent-linux", "hyper", "the agent's HTTP is agent-core's"),
    ("agent-linux", "sqlx", "the agent keeps no state"),
    (
        "tenant-host",
        "sqlx",
        "the tenant uses verifier-host without `server`",
    ),
    (
        "tenant-host",
        "axum",
        "the tenant uses verifier-host without `server`",
    ),
    ("tenant-host", "tss-esapi", "only a node has a TPM"),
];

/// Each outside world has one room: `(crate, name in code, files or folders that may say it)`.
const WORLDS: [(&str, &str, &[&str]); 4] = [
    (
        "agent-core",
        "embedded_io",
        &["drive.rs", "drive/", "http.rs", "http/"],
    ),
    (
        "agent-linux",
        "tss_esapi",
        &["tpm.rs", "tpm/tss.rs", "tpm/tss/"],
    ),
    ("verifier-host", "sqlx", &["store.rs", "store/"]),
    ("verifier-host", "axum", &["api.rs", "api/"]),
];

#[test]
fn crates_depend_downward_only() -> Result {
    for (name, allowed) in CRATES {
        let manifest = fs::read_to_string(root().join(name).join("Cargo.toml"))?;
        let dependencies = manifest.split("[dependencies]").nth(1).unwrap_or_default();
        for (other, _) in CRATES {
            let uses = dependencies.lines().any(|line| {
                line.strip_prefix(other)
                    .is_some_and(|rest| rest.starts_with([' ', '.', '=']))
            });
            assert!(
                !uses || allowed.contains(&other),
                "{name} must not depend on {other}"
            );
        }
    }
    Ok(())
}

#[test]
fn crates_link_what_they_may() -> Result {
    for (name, package, why) in NEVER_LINKED {
        let packages = linked_packages(name)?;
        assert!(packages.contains(name), "cargo tree doesn't know {name}");
        assert!(!packages.contains(package), "{name} links {package}: {why}");
    }
    // The same question finds sqlx where it is: a tree that shows nothing would prove nothing.
    assert!(linked_packages_with("verifier-host", &["--features", "server"])?.contains("sqlx"));
    Ok(())
}

#[test]
fn core_modules_import_downward_only() -> Result {
    let sources = root().join("agent-core/src");
    let mut seen = BTreeSet::new();
    for file in rust_files(&sources)? {
        let inside = file.strip_prefix(&sources)?;
        let module = module_of(inside);
        let Some(rank) = rank(&module) else {
            assert_eq!(
                module,
                "lib",
                "{} has no place in the order of modules",
                inside.display()
            );
            continue;
        };
        seen.insert(module.clone());
        for imported in imports(&product_code(&file)?, inside) {
            let Some(lower) = self::rank(&imported) else {
                continue;
            };
            assert!(
                imported == module || lower > rank,
                "{}: {module} must not import {imported}",
                inside.display()
            );
        }
    }
    assert!(seen.len() >= 4, "found only {seen:?}");
    Ok(())
}

#[test]
fn each_outside_world_has_one_room() -> Result {
    for (name, word, rooms) in WORLDS {
        let sources = root().join(name).join("src");
        for file in rust_files(&sources)? {
            let inside = file.strip_prefix(&sources)?.display().to_string();
            let allowed = rooms
                .iter()
                .any(|room| inside == *room || room.ends_with('/') && inside.starts_with(room));
            let named = product_code(&file)?.contains(&format!("{word}::"));
            assert!(
                !named || allowed,
                "{name}/src/{inside} names {word}, which only {rooms:?} may"
            );
        }
    }
    Ok(())
}

#[test]
fn unsafe_code_is_forbidden_where_it_has_no_reason() -> Result {
    for name in ["agent-core", "verifier-host", "tenant-host"] {
        let lib = fs::read_to_string(root().join(name).join("src/lib.rs"))?;
        assert!(
            lib.contains("#![forbid(unsafe_code)]"),
            "{name} doesn't forbid unsafe code"
        );
    }
    let core = fs::read_to_string(root().join("agent-core/src/lib.rs"))?;
    assert!(core.contains("#![no_std]") && !core.contains("extern crate alloc"));
    Ok(())
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn rank(module: &str) -> Option<usize> {
    CORE_ORDER.iter().position(|row| row.contains(&module))
}

/// The top-level module that a source file belongs to.
fn module_of(inside: &Path) -> String {
    let first = inside
        .iter()
        .next()
        .map(|part| part.to_string_lossy().into_owned())
        .unwrap_or_default();
    first.trim_end_matches(".rs").to_owned()
}

/// The code of a file without its comments and its tests.
fn product_code(file: &Path) -> Result<String> {
    let text = fs::read_to_string(file)?;
    let product = text.split("#[cfg(test)]").next().unwrap_or_default();
    Ok(product
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n"))
}

/// Top-level modules that a file names: `crate::a`, `crate::{a, b}`, and `super::a` in a top-level file.
fn imports(code: &str, inside: &Path) -> BTreeSet<String> {
    let mut prefixes = vec!["crate::"];
    if inside.iter().count() == 1 {
        prefixes.push("super::");
    }
    let mut found = BTreeSet::new();
    for prefix in prefixes {
        for rest in code.split(prefix).skip(1) {
            let list = match rest.strip_prefix('{') {
                Some(group) => top_level_names(group),
                None => vec![rest],
            };
            found.extend(list.into_iter().map(|name| {
                name.trim_start()
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect::<String>()
            }));
        }
    }
    found
}

/// The members of `a::{..}, b, c}` that stand at its own level.
fn top_level_names(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut names) = (0_usize, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                names.push(&group[start..at]);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                names.push(&group[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    names
}

fn rust_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|end| end == "rs") {
            files.push(path);
        }
    }
    Ok(files)
}

fn linked_packages(name: &str) -> Result<BTreeSet<String>> {
    linked_packages_with(name, &[])
}

fn linked_packages_with(name: &str, more: &[&str]) -> Result<BTreeSet<String>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "tree",
            "--offline",
            "--locked",
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--package",
            name,
        ])
        .args(more)
        .current_dir(root())
        .output()?;
    if !output.status.success() {
        return Err(format!("cargo tree: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let text = String::from_utf8(output.stdout)?;
    Ok(text
        .lines()
        .filter_map(|line| line.split(' ').next())
        .map(str::to_owned)
        .collect())
}

#[test]
fn the_scan_sees_every_way_to_import() {
    let cases: [(&str, &str, &str, &[&str]); 4] = [
        ("path", "let x = crate::wire::LIMIT;", "agent.rs", &["wire"]),
        (
            "group",
            "use crate::{agent::{A, B}, wire, secret::Secret};",
            "payload/zip.rs",
            &["agent", "secret", "wire"],
        ),
        (
            "super at the top",
            "use super::drive::run;",
            "wire.rs",
            &["drive"],
        ),
        (
            "super below",
            "use super::seal::open;",
            "payload/zip.rs",
            &[],
        ),
    ];
    for (name, code, file, expected) in cases {
        let found: Vec<String> = imports(code, Path::new(file)).into_iter().collect();
        assert_eq!(found, expected, "{name}");
    }
}
