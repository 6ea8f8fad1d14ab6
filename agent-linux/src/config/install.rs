//! What only `install-initramfs` is told: it is about what is done now, so no file and no variable may say it.

use std::path::PathBuf;

use super::ConfigError;

/// What makes a system's initramfs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker {
    /// dracut.
    Dracut,
    /// initramfs-tools.
    InitramfsTools,
}

/// Where the integration goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InstallConfig {
    /// The makers that get it; none: the one that the system has.
    pub makers: Vec<Maker>,
    /// The system's root directory; none: this system's.
    pub root: Option<PathBuf>,
    /// Only say what would be done.
    pub dry_run: bool,
    /// Replace files that this command didn't make, too.
    pub force: bool,
}

impl InstallConfig {
    /// Whether this flag is one of its.
    pub(super) fn knows(flag: &str) -> bool {
        FLAGS.contains(&flag)
    }

    /// Takes a flag that it knows, and what stands behind it.
    pub(super) fn take(
        &mut self,
        flag: &str,
        parser: &mut lexopt::Parser,
    ) -> Result<(), ConfigError> {
        match flag {
            ROOT => self.root = Some(parser.value()?.into()),
            DRACUT => self.makers.push(Maker::Dracut),
            INITRAMFS_TOOLS => self.makers.push(Maker::InitramfsTools),
            DRY_RUN => self.dry_run = true,
            _ => self.force = true,
        }
        Ok(())
    }

    /// A flag that was given.
    pub(super) fn first_flag(&self) -> Option<&'static str> {
        let given = [
            (self.root.is_some(), ROOT),
            (self.makers.contains(&Maker::Dracut), DRACUT),
            (!self.makers.is_empty(), INITRAMFS_TOOLS),
            (self.dry_run, DRY_RUN),
            (self.force, FORCE),
        ];
        given
            .into_iter()
            .find_map(|(given, flag)| given.then_some(flag))
    }
}

const FLAGS: [&str; 5] = [ROOT, DRACUT, INITRAMFS_TOOLS, DRY_RUN, FORCE];
const ROOT: &str = "root";
const DRACUT: &str = "dracut";
const INITRAMFS_TOOLS: &str = "initramfs-tools";
const DRY_RUN: &str = "dry-run";
const FORCE: &str = "force";
