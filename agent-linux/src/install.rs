//! `install-initramfs`: puts what an initramfs takes (agent-linux/initramfs) where the system's maker of it looks.
//!
//! A file that is there already is replaced only if it is what this command once wrote, which a list of checksums beside them
//! says; everything is looked at before anything is written, and each file appears whole.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::config::{InstallConfig, Maker};

mod error;
mod files;

pub use error::InstallError;
use files::Piece;

/// Installs, and returns what to tell: what became of each file, and what to do next.
///
/// # Errors
/// [`InstallError`]. Nothing was written, except with [`InstallError::File`].
pub fn install(config: &InstallConfig) -> Result<String, InstallError> {
    let root = config.root.as_deref().unwrap_or(Path::new("/"));
    let mut text = String::new();
    for maker in makers(config, root)? {
        let pieces = maker.pieces();
        let own = Checksums::read(&beneath(root, maker.list()))?;
        let states = pieces
            .iter()
            .map(|piece| state(root, piece, &own))
            .collect::<Result<Vec<_>, _>>()?;
        let foreign: Vec<_> = (pieces.iter().zip(&states))
            .filter(|(_, state)| **state == State::Foreign)
            .map(|(piece, _)| beneath(root, piece.path))
            .collect();
        if !foreign.is_empty() && !config.force {
            return Err(InstallError::Foreign(foreign));
        }
        for (piece, state) in pieces.iter().zip(states) {
            let path = beneath(root, piece.path);
            if !config.dry_run && state != State::Installed {
                write(&path, piece.text, piece.mode)?;
            }
            let what = state.word(config.dry_run);
            let _ = writeln!(text, "{what} {}", path.display());
        }
        if !config.dry_run {
            write(&beneath(root, maker.list()), &checksums(pieces), 0o644)?;
        }
        next(&mut text, maker, config, root);
    }
    Ok(text)
}

/// The makers that were named, or the one that the system has.
fn makers(config: &InstallConfig, root: &Path) -> Result<Vec<Maker>, InstallError> {
    if !config.makers.is_empty() {
        return Ok(config.makers.clone());
    }
    let mut found = [Maker::Dracut, Maker::InitramfsTools]
        .into_iter()
        .filter(|maker| beneath(root, maker.sign()).exists());
    match (found.next(), found.next()) {
        (Some(maker), None) => Ok(vec![maker]),
        (None, _) => Err(InstallError::NoMaker(root.to_owned())),
        (Some(_), Some(_)) => Err(InstallError::TwoMakers(root.to_owned())),
    }
}

/// What is where a file belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing.
    Missing,
    /// The file.
    Installed,
    /// What this command wrote before.
    Older,
    /// What somebody else put there, or has changed.
    Foreign,
}

impl State {
    fn word(self, dry_run: bool) -> &'static str {
        match (self, dry_run) {
            (Self::Installed, _) => "is there:     ",
            (Self::Missing, false) => "written:      ",
            (Self::Missing, true) => "to be written:",
            (Self::Older | Self::Foreign, false) => "replaced:     ",
            (Self::Older | Self::Foreign, true) => "to be replaced:",
        }
    }
}

fn state(root: &Path, piece: &Piece, own: &Checksums) -> Result<State, InstallError> {
    let path = beneath(root, piece.path);
    let metadata = match path.symlink_metadata() {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(State::Missing),
        Err(error) => return Err(InstallError::File { path, error }),
    };
    if !metadata.is_file() {
        return Ok(State::Foreign);
    }
    let content = read(&path)?;
    let same_mode = metadata.permissions().mode() & 0o7777 == piece.mode;
    Ok(match content == piece.text.as_bytes() {
        true if same_mode => State::Installed,
        true => State::Older,
        false if own.has(piece.path, &content) => State::Older,
        false => State::Foreign,
    })
}

/// The list of what this command wrote, as sha256sum has it. An empty one where there is none.
struct Checksums(String);

impl Checksums {
    fn read(path: &Path) -> Result<Self, InstallError> {
        match read(path) {
            Ok(bytes) => Ok(Self(String::from_utf8_lossy(&bytes).into_owned())),
            Err(InstallError::File { error, .. }) if error.kind() == io::ErrorKind::NotFound => {
                Ok(Self(String::new()))
            }
            Err(error) => Err(error),
        }
    }

    fn has(&self, path: &str, content: &[u8]) -> bool {
        let wanted = checksum(path, content);
        self.0.lines().any(|line| line == wanted.trim_end())
    }
}

fn checksums(pieces: &[Piece]) -> String {
    let lines = pieces.iter();
    lines
        .map(|piece| checksum(piece.path, piece.text.as_bytes()))
        .collect()
}

fn checksum(path: &str, content: &[u8]) -> String {
    let mut line = String::new();
    for byte in Sha256::digest(content) {
        let _ = write!(line, "{byte:02x}");
    }
    let _ = writeln!(line, "  {path}");
    line
}

/// As much of a file as could be one of these.
fn read(path: &Path) -> Result<Vec<u8>, InstallError> {
    let failed = |error| InstallError::File {
        path: path.to_owned(),
        error,
    };
    let mut content = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(MOST_BYTES)
        .read_to_end(&mut content)
        .map_err(failed)?;
    Ok(content)
}

/// Writes a file under another name, and gives it its own at once.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), InstallError> {
    let beside = path.with_extension("keyhalf-new");
    let put = || -> io::Result<()> {
        fs::create_dir_all(path.parent().unwrap_or(path))?;
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.set_permissions(Permissions::from_mode(mode))?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    // From an installation that was cut off.
    let _nothing_there = fs::remove_file(&beside);
    put().map_err(|error| InstallError::File {
        path: path.to_owned(),
        error,
    })
}

/// Adds what is still to be done.
fn next(text: &mut String, maker: Maker, config: &InstallConfig, root: &Path) {
    let inside = match &config.root {
        Some(root) => format!("chroot {} ", root.display()),
        None => String::new(),
    };
    if !beneath(root, AGENT).exists() {
        let path = beneath(root, AGENT);
        let _ = writeln!(text, "next: install the static agent to {}", path.display());
    }
    if !beneath(root, CONFIGURATION).exists() {
        let path = beneath(root, CONFIGURATION);
        let _ = writeln!(
            text,
            "next: say in {} where the verifier is, and put its certificate and the tenant's beside it",
            path.display()
        );
    }
    let _ = writeln!(text, "next: {inside}{}", maker.command());
}

fn beneath(root: &Path, path: &str) -> PathBuf {
    root.join(path)
}

/// Where the scripts look for the agent.
const AGENT: &str = "usr/bin/keyhalf-agent";
/// What makes a system want the integration.
const CONFIGURATION: &str = "etc/keyhalf/agent.conf";
/// More than any of the files has: what is longer isn't one.
const MOST_BYTES: u64 = 64 * 1024;
