//! The files, as agent-linux/initramfs has them, and where each maker of an initramfs wants them.

use crate::config::Maker;

/// A file of the integration.
pub(super) struct Piece {
    /// Where it belongs, from the system's root.
    pub(super) path: &'static str,
    pub(super) text: &'static str,
    pub(super) mode: u32,
}

macro_rules! pieces {
    ($($mode:literal $place:literal / $name:literal = $source:literal;)*) => {
        &[$(Piece {
            path: concat!($place, "/", $name),
            text: include_str!(concat!("../../initramfs/", $source, $name)),
            mode: $mode,
        }),*]
    };
}

impl Maker {
    /// What is there where a system has it.
    pub(super) const fn sign(self) -> &'static str {
        match self {
            Self::Dracut => "usr/lib/dracut/modules.d",
            Self::InitramfsTools => "usr/share/initramfs-tools",
        }
    }

    /// What makes a new initramfs.
    pub(super) const fn command(self) -> &'static str {
        match self {
            Self::Dracut => "dracut --force",
            Self::InitramfsTools => "update-initramfs -u",
        }
    }

    /// Where the checksums of what was installed are kept.
    pub(super) const fn list(self) -> &'static str {
        match self {
            Self::Dracut => "usr/share/keyhalf/dracut.sha256",
            Self::InitramfsTools => "usr/share/keyhalf/initramfs-tools.sha256",
        }
    }

    /// What it takes.
    pub(super) const fn pieces(self) -> &'static [Piece] {
        match self {
            Self::Dracut => DRACUT,
            Self::InitramfsTools => INITRAMFS_TOOLS,
        }
    }
}

const DRACUT: &[Piece] = pieces! {
    0o755 "usr/lib/dracut/modules.d/95keyhalf" / "cap.sh" = "dracut/95keyhalf/";
    0o755 "usr/lib/dracut/modules.d/95keyhalf" / "finished.sh" = "dracut/95keyhalf/";
    0o755 "usr/lib/dracut/modules.d/95keyhalf" / "keyhalf-boot" = "";
    0o644 "usr/lib/dracut/modules.d/95keyhalf" / "keyhalf.service" = "dracut/95keyhalf/";
    0o755 "usr/lib/dracut/modules.d/95keyhalf" / "leave.sh" = "dracut/95keyhalf/";
    0o755 "usr/lib/dracut/modules.d/95keyhalf" / "module-setup.sh" = "dracut/95keyhalf/";
    0o755 "usr/lib/dracut/modules.d/95keyhalf" / "network.sh" = "dracut/95keyhalf/";
    0o755 "usr/lib/dracut/modules.d/95keyhalf" / "start.sh" = "dracut/95keyhalf/";
    0o755 "usr/lib/dracut/modules.d/95keyhalf" / "wait.sh" = "dracut/95keyhalf/";
};

const INITRAMFS_TOOLS: &[Piece] = pieces! {
    0o755 "usr/share/keyhalf" / "keyhalf-boot" = "";
    0o755 "usr/share/keyhalf" / "keyscript" = "";
    0o755 "etc/initramfs-tools/hooks" / "keyhalf" = "initramfs-tools/hooks/";
    0o755 "etc/initramfs-tools/scripts/init-premount" / "keyhalf" = "initramfs-tools/scripts/init-premount/";
    0o755 "etc/initramfs-tools/scripts/panic" / "keyhalf" = "initramfs-tools/scripts/panic/";
    0o755 "etc/initramfs-tools/scripts/init-bottom" / "keyhalf" = "initramfs-tools/scripts/init-bottom/";
};
