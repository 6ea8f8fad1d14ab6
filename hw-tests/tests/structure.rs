//! Which crate may use what, held by reading the sources and asking cargo. The order of agent-core's modules has a test of
//! its own there.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use hw_tests::Result;

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
        "the agent writes its one certificate itself",
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
const WORLDS: [(&str, &str, &[&str]); 5] = [
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
    ("agent-linux", "tpm2_protocol", &["tpm/raw.rs", "tpm/raw/"]),
    ("verifier-host", "sqlx", &["store.rs", "store/"]),
    (
        "verifier-host",
        "axum",
        &[
            "api.rs",
            "api/",
            "http.rs",
            "http/",
            "registrar.rs",
            "registrar/",
            "testing.rs",
            "link/tests.rs",
        ],
    ),
];

#[test]
fn crates_depend_downward_only() -> Result {
    for (name, allowed) in CRATES {
        let manifest = fs::read_to_string(root().join(name).join("Cargo.toml"))?;
        let dependencies = manifest
            .split("\n[dependencies]")
            .nth(1)
            .unwrap_or_default();
        let dependencies = dependencies.split("\n[").next().unwrap_or_default();
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
fn readme_shows_every_cell() -> Result {
    let names = |text: &str| -> BTreeSet<String> {
        let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        let cells = words.filter(|word| word.starts_with("registrar_key"));
        cells.map(str::to_owned).collect()
    };
    let tests = names(&fs::read_to_string(
        root().join("hw-tests/tests/interop/cells.rs"),
    )?);
    assert_eq!(tests.len(), 8);
    assert_eq!(names(&fs::read_to_string(root().join("README.md"))?), tests);
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
