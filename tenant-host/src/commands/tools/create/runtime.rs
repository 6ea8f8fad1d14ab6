//! `policy create runtime`: a runtime policy of trees, images, packages and logs.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use agent_core::wire::quote::Digest;
use clap::Args;
use serde_json::{Value, json};
use verifier_host::policy::runtime::Excludes;

use crate::error::Failure;
use crate::policy::create::{
    ArchiveError, Draft, FileHash, LeftOut, LogChoice, MAX_LOG_BYTES, Pool, Tally, TreeChoice,
    hash_packages, hash_tree, read_deb, read_ima_log, read_initrd,
};
use crate::policy::tool::{self, Target, ToolError};
use crate::report::{Output, Report};

/// The largest file of expressions.
const MAX_EXCLUDE_BYTES: usize = 4 << 20;

/// The options that name where files come from.
const SOURCES: &str = "--tree, --initrd, --deb, --dpkg-root, --ima-log, --merge";

/// What the policy is made of.
#[derive(Clone, Debug, Args)]
pub struct Arguments {
    /// Allow all files of this directory tree, whose top is / of the node, or what --root-prefix says. Links aren't followed:
    /// what they lead to is in the tree too, or isn't.
    #[arg(long, value_name = "DIR", help_heading = "Of what")]
    pub tree: Vec<PathBuf>,

    /// What the trees' top is on the node, such as /usr for --tree /usr.
    #[arg(
        long,
        value_name = "PATH",
        default_value = "/",
        requires = "tree",
        help_heading = "Of what"
    )]
    pub root_prefix: String,

    /// Don't go below this path of the node, and write nothing about it into the policy.
    #[arg(long, value_name = "PATH", requires = "tree", help_heading = "Of what")]
    pub skip: Vec<String>,

    /// Take file systems too that are mounted in a tree.
    #[arg(long, requires = "tree", help_heading = "Of what")]
    pub cross_file_systems: bool,

    /// Allow all files of this initramfs image: cpio, packed with gzip, xz, zstd or not at all, archives one after another.
    #[arg(long, value_name = "FILE", help_heading = "Of what")]
    pub initrd: Vec<PathBuf>,

    /// Allow all files of these Debian packages. What their scripts make isn't in them.
    #[arg(long, value_name = "FILE", num_args = 1.., help_heading = "Of what")]
    pub deb: Vec<PathBuf>,

    /// Allow the files that Debian packages own in the system at this directory, as they are there; nothing else.
    #[arg(long, value_name = "DIR", help_heading = "Of what")]
    pub dpkg_root: Vec<PathBuf>,

    /// Allow what this log of IMA has measured, boot_aggregate too: ascii_runtime_measurements of a machine that is trusted.
    #[arg(long, value_name = "FILE", help_heading = "Of what")]
    pub ima_log: Vec<PathBuf>,

    /// Take the keys of keyrings from the logs.
    #[arg(long, requires = "ima_log", help_heading = "Of what")]
    pub keyrings: bool,

    /// Take other measured buffers from the logs, such as kernel command lines.
    #[arg(long, requires = "ima_log", help_heading = "Of what")]
    pub ima_buf: bool,

    /// Allow all that this policy allows; its other parts are kept. It isn't signed.
    #[arg(long, value_name = "FILE", help_heading = "Of what")]
    pub merge: Option<PathBuf>,

    /// Don't look at paths that this regular expression matches from their start: it goes into the policy.
    #[arg(long, value_name = "REGEX", help_heading = "Not of what")]
    pub exclude: Vec<String>,

    /// A file with such an expression on each line; # begins a comment.
    #[arg(long, value_name = "FILE", help_heading = "Not of what")]
    pub exclude_file: Vec<PathBuf>,

    /// Don't look at the keys of this keyring: it goes into the policy.
    #[arg(long, value_name = "NAME", help_heading = "Not of what")]
    pub ignored_keyring: Vec<String>,

    /// Leave files out that can't be read, and say which, rather than to stop.
    #[arg(long, help_heading = "Not of what")]
    pub skip_unreadable: bool,

    /// What files are hashed with: what ima_hash is on the node. Logs keep what they have.
    #[arg(long, value_enum, default_value_t = FileHash::Sha256, help_heading = "How")]
    pub hash: FileHash,

    /// Where the policy goes.
    #[command(flatten)]
    pub target: Target,
}

pub(super) fn run(arguments: &Arguments, output: &Output) -> Result<Report, Failure> {
    arguments.refuse_nothing()?;
    arguments.target.check()?;
    let mut making = Making::begin(arguments, output)?;
    making.trees()?;
    making.archives()?;
    making.logs()?;
    let Making {
        draft, left_out, ..
    } = making;
    for line in left_out.lines() {
        output.say(&line);
    }
    finish(arguments, &draft, &left_out)
}

impl Arguments {
    fn refuse_nothing(&self) -> Result<(), ToolError> {
        let files = [
            &self.tree,
            &self.initrd,
            &self.deb,
            &self.dpkg_root,
            &self.ima_log,
        ];
        match files.iter().all(|files| files.is_empty()) && self.merge.is_none() {
            true => Err(ToolError::NoSource(SOURCES)),
            false => Ok(()),
        }
    }

    fn excludes(&self) -> Result<Vec<String>, ToolError> {
        let mut all = self.exclude.clone();
        for path in &self.exclude_file {
            let text = tool::read_bounded(path, MAX_EXCLUDE_BYTES)?;
            let text = String::from_utf8_lossy(&text);
            let lines = text.lines().map(str::trim);
            all.extend(
                lines
                    .filter(|line| !line.is_empty() && !line.starts_with('#'))
                    .map(str::to_owned),
            );
        }
        Ok(all)
    }
}

/// A policy while it is made.
struct Making<'a> {
    arguments: &'a Arguments,
    output: &'a Output,
    excludes: Excludes,
    draft: Draft,
    left_out: LeftOut,
    start: Instant,
}

impl<'a> Making<'a> {
    fn begin(arguments: &'a Arguments, output: &'a Output) -> Result<Self, ToolError> {
        let excludes = Excludes::parse(arguments.excludes()?).map_err(ToolError::Exclude)?;
        let mut draft = match &arguments.merge {
            None => Draft::default(),
            Some(path) => Draft::based_on(&tool::read_policy(path)?).map_err(|source| {
                let path = path.clone();
                ToolError::Runtime { path, source }
            })?,
        };
        draft.exclude(excludes.texts());
        draft.ignore_keyrings(&arguments.ignored_keyring);
        let (left_out, start) = (LeftOut::default(), Instant::now());
        Ok(Self {
            arguments,
            output,
            excludes,
            draft,
            left_out,
            start,
        })
    }

    fn trees(&mut self) -> Result<(), ToolError> {
        let arguments = self.arguments;
        let pool = Pool {
            hash: arguments.hash,
            skip_unreadable: arguments.skip_unreadable,
        };
        let (mut progress, start) = (self.output.progress(), self.start);
        let mut watch = |tally: &Tally| {
            let (files, bytes) = tally.so_far();
            progress.show(
                &format!("{files} files hashed, {} MiB", bytes >> 20),
                start.elapsed(),
            );
        };
        for root in &arguments.tree {
            let choice = TreeChoice {
                root,
                prefix: &arguments.root_prefix,
                skip: &arguments.skip,
                excludes: &self.excludes,
                cross: arguments.cross_file_systems,
            };
            let (files, left_out) = hash_tree(pool, choice, &mut watch)?;
            take(&mut self.draft, None, files);
            self.left_out.extend(left_out);
        }
        for root in &arguments.dpkg_root {
            let (files, left_out) = hash_packages(pool, root, &self.excludes, &mut watch)?;
            take(&mut self.draft, None, files);
            self.left_out.extend(left_out);
        }
        Ok(())
    }

    fn archives(&mut self) -> Result<(), ToolError> {
        let arguments = self.arguments;
        let mut progress = self.output.progress();
        let all = arguments.initrd.iter().map(|path| (path, true));
        for (path, is_initrd) in all.chain(arguments.deb.iter().map(|path| (path, false))) {
            progress.show(&format!("reading {}", path.display()), self.start.elapsed());
            let read = |error: ArchiveError| ToolError::Archive {
                path: path.clone(),
                source: error,
            };
            let mut file = open(path)?;
            let files = if is_initrd {
                read_initrd(&mut file, arguments.hash)
            } else {
                read_deb(&mut file, arguments.hash)
            };
            take(&mut self.draft, Some(&self.excludes), files.map_err(read)?);
        }
        Ok(())
    }

    fn logs(&mut self) -> Result<(), ToolError> {
        let arguments = self.arguments;
        let choice = LogChoice {
            keyrings: arguments.keyrings,
            buffers: arguments.ima_buf,
            ignored: &arguments.ignored_keyring,
            excludes: &self.excludes,
        };
        for path in &arguments.ima_log {
            let log = tool::read_bounded(path, MAX_LOG_BYTES)?;
            let left_out = read_ima_log(&log, choice, &mut self.draft).map_err(|source| {
                let path = path.clone();
                ToolError::Log { path, source }
            })?;
            self.left_out.extend(left_out);
        }
        Ok(())
    }
}

fn open(path: &Path) -> Result<BufReader<File>, ToolError> {
    let file = File::open(path).map_err(ToolError::reading(path))?;
    Ok(BufReader::with_capacity(1 << 16, file))
}

fn take(draft: &mut Draft, excludes: Option<&Excludes>, files: BTreeMap<String, Digest>) {
    for (path, digest) in files {
        if !excludes.is_some_and(|excludes| excludes.matches(path.as_bytes())) {
            draft.allow_file(&path, digest);
        }
    }
}

fn finish(arguments: &Arguments, draft: &Draft, left_out: &LeftOut) -> Result<Report, Failure> {
    let write = |out: &mut dyn Write| draft.write(out);
    if let Some(bytes) = arguments.target.write(&write)? {
        let text = String::from_utf8_lossy(&bytes).trim_end().to_owned();
        let json = serde_json::from_str(&text).unwrap_or(Value::Null);
        return Ok(Report::done(text, json));
    }
    let file = arguments
        .target
        .output
        .as_deref()
        .unwrap_or(Path::new(""))
        .display();
    let (keyrings, buffers) = draft.buffers();
    let text = format!(
        "{file}: a runtime policy with {} files, {keyrings} keyrings and {buffers} other buffers",
        draft.files()
    );
    let left_out: Vec<_> = left_out
        .iter()
        .map(|(reason, count, names)| json!({ "reason": reason, "count": count, "first": names }))
        .collect();
    let json = json!({
        "output": file.to_string(),
        "digests": draft.files(),
        "keyrings": keyrings,
        "ima-buf": buffers,
        "left_out": left_out,
    });
    Ok(Report::done(text, json))
}
