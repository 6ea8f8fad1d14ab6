//! The files of a directory tree, and those of it that Debian packages own.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use agent_core::wire::quote::Digest;
use verifier_host::policy::runtime::Excludes;

use super::draft::LeftOut;
use super::links::resolve;
use super::pool::{Job, Pool, Queue, Tally};
use super::{MAX_PATH_BYTES, as_measured};
use crate::policy::tool::ToolError;

/// Where dpkg keeps which package owns which files, and which of them are elsewhere.
///
/// Source: dpkg(1), dpkg-divert(1).
const LISTS: &str = "var/lib/dpkg/info";
const DIVERSIONS: &str = "var/lib/dpkg/diversions";

/// The longest list of a package's files.
const MAX_LIST_BYTES: u64 = 64 << 20;

/// Which files of a tree are taken.
#[derive(Clone, Copy, Debug)]
pub struct TreeChoice<'a> {
    /// The directory.
    pub root: &'a Path,
    /// What the directory is on the node; empty for `/`.
    pub prefix: &'a str,
    /// Paths on the node below which nothing is read.
    pub skip: &'a [String],
    /// Paths on the node that aren't looked at.
    pub excludes: &'a Excludes,
    /// Whether file systems that are mounted in it are part of it.
    pub cross: bool,
}

/// Hashes the files of a tree by their paths on the node. Symbolic links aren't followed: IMA measures what they lead to.
///
/// # Errors
/// [`ToolError`]: the first file or directory that can't be read.
pub fn hash_tree(
    pool: Pool,
    choice: TreeChoice<'_>,
    watch: &mut dyn FnMut(&Tally),
) -> Result<(BTreeMap<String, Digest>, LeftOut), ToolError> {
    let root = fs::metadata(choice.root).map_err(ToolError::reading(choice.root))?;
    if !root.is_dir() {
        let error = io::Error::from(io::ErrorKind::NotADirectory);
        return Err(ToolError::reading(choice.root)(error));
    }
    let skip_unreadable = pool.skip_unreadable;
    pool.run(
        |queue| list(choice, root.dev(), skip_unreadable, queue),
        watch,
    )
}

fn list(
    choice: TreeChoice<'_>,
    device: u64,
    skip_unreadable: bool,
    queue: &mut Queue<'_>,
) -> Result<(), ToolError> {
    let mut directories = vec![(
        choice.root.to_owned(),
        choice.prefix.trim_end_matches('/').to_owned(),
    )];
    while let Some((directory, path)) = directories.pop() {
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(_) if skip_unreadable => {
                queue.left_out.note("unreadable", &path);
                continue;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && !path.is_empty() => continue,
            Err(error) => return Err(ToolError::reading(&directory)(error)),
        };
        for entry in entries {
            let entry = entry.map_err(ToolError::reading(&directory))?;
            let (file, name) = (entry.path(), entry.file_name());
            let Some(name) = name.to_str() else {
                queue.left_out.note(
                    "named in something else than UTF-8",
                    &file.display().to_string(),
                );
                continue;
            };
            let path = format!("{path}/{name}");
            // Gone in between: no file of the tree.
            let Ok(kind) = entry.metadata() else {
                continue;
            };
            if kind.is_dir() {
                let here = choice.cross || kind.dev() == device;
                if !here {
                    queue.left_out.note(
                        "on another file system (--cross-file-systems takes them)",
                        &path,
                    );
                } else if !choice.skip.contains(&path) {
                    directories.push((file, path));
                }
                continue;
            }
            let path = as_measured(&path);
            if kind.is_file()
                && !choice.skip.contains(&path)
                && !choice.excludes.matches(path.as_bytes())
                && !queue.push(Job { file, path })
            {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Hashes the files that Debian packages own below a root, by their paths there.
///
/// # Errors
/// [`ToolError`]: the lists or the first file that can't be read.
pub fn hash_packages(
    pool: Pool,
    root: &Path,
    excludes: &Excludes,
    watch: &mut dyn FnMut(&Tally),
) -> Result<(BTreeMap<String, Digest>, LeftOut), ToolError> {
    let owned = owned(root)?;
    pool.run(
        |queue| {
            let target = |path: &str| {
                let leads_to = fs::read_link(inside(root, path)).ok()?;
                leads_to.to_str().map(str::to_owned)
            };
            for listed in &owned {
                let Some(path) = resolve(listed, &target) else {
                    queue
                        .left_out
                        .note("behind links that lead nowhere", listed);
                    continue;
                };
                let file = inside(root, &path);
                match fs::symlink_metadata(&file) {
                    Ok(kind) if kind.is_file() => {}
                    Ok(_) => continue,
                    Err(_) => {
                        queue
                            .left_out
                            .note("listed by a package and not there", listed);
                        continue;
                    }
                }
                let path = as_measured(&path);
                if !excludes.matches(path.as_bytes()) && !queue.push(Job { file, path }) {
                    break;
                }
            }
            Ok(())
        },
        watch,
    )
}

/// A path on the node, as it is below the root.
fn inside(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

/// The paths in all lists, and those that files were diverted to.
fn owned(root: &Path) -> Result<BTreeSet<String>, ToolError> {
    let lists = root.join(LISTS);
    let mut owned = BTreeSet::new();
    let mut found = false;
    for entry in fs::read_dir(&lists).map_err(ToolError::reading(&lists))? {
        let path = entry.map_err(ToolError::reading(&lists))?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "list")
        {
            found = true;
            lines(&path, &mut |line| {
                owned.insert(line.to_owned());
            })?;
        }
    }
    if !found {
        let error = io::Error::new(
            io::ErrorKind::NotFound,
            "it has no list of a package's files",
        );
        return Err(ToolError::reading(&lists)(error));
    }
    let diversions = root.join(DIVERSIONS);
    if diversions.exists() {
        // Three lines each: from, to, by which package.
        let mut number = 0_usize;
        lines(&diversions, &mut |line| {
            if number % 3 == 1 {
                owned.insert(line.to_owned());
            }
            number = number.wrapping_add(1);
        })?;
    }
    Ok(owned)
}

fn lines(path: &Path, take: &mut dyn FnMut(&str)) -> Result<(), ToolError> {
    let file = fs::File::open(path).map_err(ToolError::reading(path))?;
    for line in BufReader::new(file.take(MAX_LIST_BYTES)).lines() {
        let line = line.map_err(ToolError::reading(path))?;
        if line.starts_with('/') && line.len() <= MAX_PATH_BYTES {
            take(&line);
        }
    }
    Ok(())
}
