//! `install-initramfs` as it is run, into roots of its own.
#![cfg(feature = "install")]
#![expect(clippy::unwrap_used, reason = "a step that fails is a failed test")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

const MODULE: &str = "usr/lib/dracut/modules.d";
const TOOLS: &str = "usr/share/initramfs-tools";

#[test]
fn installed_files_are_those_of_the_folder() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("initramfs");
    let root = system(&[]);
    install(root.path(), &["--dracut", "--initramfs-tools"]);
    let got = files(root.path());
    let rows = [
        ("dracut/95keyhalf", "usr/lib/dracut/modules.d/95keyhalf"),
        ("initramfs-tools", "etc/initramfs-tools"),
        ("keyhalf-boot", "usr/share/keyhalf/keyhalf-boot"),
        ("keyscript", "usr/share/keyhalf/keyscript"),
    ];
    let mut wanted = BTreeMap::new();
    for (source, place) in rows {
        for (path, file) in files(&folder.join(source)) {
            let path = Path::new(place).join(path);
            // A file's own path has an empty rest.
            wanted.insert(path.components().collect::<PathBuf>(), file);
        }
    }
    let lists = ["dracut", "initramfs-tools"]
        .map(|maker| PathBuf::from(format!("usr/share/keyhalf/{maker}.sha256")));
    for list in &lists {
        let check = Command::new("sha256sum")
            .args(["--check", "--quiet"])
            .arg(root.path().join(list))
            .current_dir(root.path())
            .output()
            .unwrap();
        assert!(check.status.success(), "{check:?}");
    }
    let got: BTreeMap<_, _> = got
        .into_iter()
        .filter(|(path, _)| !lists.contains(path))
        .collect();
    assert_eq!(
        got.keys().collect::<Vec<_>>(),
        wanted.keys().collect::<Vec<_>>()
    );
    assert!(got == wanted, "a file has another content or mode");
}

#[test]
fn the_system_says_which_maker_it_has() {
    let rows: [(&[&str], &[&str], i32); 6] = [
        (&[MODULE], &[], 0),
        (&[TOOLS], &[], 0),
        (&[], &[], 2),
        (&[MODULE, TOOLS], &[], 2),
        (&[MODULE, TOOLS], &["--dracut"], 0),
        (&[], &["--initramfs-tools"], 0),
    ];
    for (system_has, flags, wanted) in rows {
        let root = system(system_has);
        let output = run(root.path(), flags);
        assert_eq!(
            output.status.code(),
            Some(wanted),
            "{system_has:?} {flags:?}"
        );
        let installed = files(root.path());
        let has = |name: &str| installed.keys().any(|path| path.starts_with(name));
        let is = |sign, flag| wanted == 0 && (flags.contains(&flag) || system_has == [sign]);
        assert_eq!(has("usr/lib/dracut"), is(MODULE, "--dracut"));
        assert_eq!(has("etc/initramfs-tools"), is(TOOLS, "--initramfs-tools"));
    }
}

#[test]
fn a_second_installation_changes_nothing() {
    let root = system(&[MODULE]);
    install(root.path(), &[]);
    let once = files(root.path());
    let told = install(root.path(), &[]);
    assert!(files(root.path()) == once);
    assert!(
        !told.contains("written") && !told.contains("replaced"),
        "{told}"
    );
    assert!(
        told.contains("chroot") && told.contains("dracut --force"),
        "{told}"
    );
}

#[test]
fn a_dry_run_writes_nothing() {
    let root = system(&[TOOLS]);
    let told = install(root.path(), &["--dry-run"]);
    assert!(told.contains("to be written: "), "{told}");
    assert!(told.contains("update-initramfs -u"), "{told}");
    assert!(files(root.path()).is_empty());
}

/// What somebody changed, or put there before, stays unless it is asked for; then nothing else is written either.
#[test]
fn files_of_others_stay() {
    type Deed = fn(&Path);
    let deeds: [(&str, Deed); 3] = [
        ("changed", |path| fs::write(path, "mine\n").unwrap()),
        ("a link", |path| {
            fs::remove_file(path).unwrap();
            symlink("/etc/hostname", path).unwrap();
        }),
        ("longer than any of ours", |path| {
            fs::write(path, vec![b'#'; 100_000]).unwrap();
        }),
    ];
    for (name, deed) in deeds {
        let root = system(&[TOOLS]);
        install(root.path(), &[]);
        let wanted = files(root.path());
        let theirs = root.path().join("etc/initramfs-tools/hooks/keyhalf");
        let missing = root.path().join("usr/share/keyhalf/keyscript");
        deed(&theirs);
        fs::remove_file(&missing).unwrap();
        let before = files(root.path());

        let refused = run(root.path(), &[]);
        assert_eq!(refused.status.code(), Some(1), "{name}");
        let told = String::from_utf8(refused.stderr).unwrap();
        assert!(told.contains(&theirs.display().to_string()), "{told}");
        assert!(files(root.path()) == before, "{name}");

        let told = install(root.path(), &["--force"]);
        assert!(told.contains("replaced"), "{told}");
        assert!(files(root.path()) == wanted, "{name}");
    }
}

/// As after an update of the program: the list says that the file was ours.
#[test]
fn older_files_of_ours_are_replaced() {
    let root = system(&[TOOLS]);
    install(root.path(), &[]);
    let wanted = files(root.path());
    let ours = root.path().join("usr/share/keyhalf/keyhalf-boot");
    fs::write(&ours, "an older one\n").unwrap();
    let sum = Command::new("sha256sum")
        .arg("usr/share/keyhalf/keyhalf-boot")
        .current_dir(root.path())
        .output()
        .unwrap();
    let list = root.path().join("usr/share/keyhalf/initramfs-tools.sha256");
    fs::write(&list, sum.stdout).unwrap();
    install(root.path(), &[]);
    assert!(files(root.path()) == wanted);
}

#[test]
fn command_lines() {
    let rows: [(&[&str], i32); 4] = [
        (&["install-initramfs", "--help"], 0),
        (&["install-initramfs", "--tcti", "device:/dev/null"], 2),
        (&["cap", "--dry-run"], 2),
        (&["install-initramfs", "--root"], 2),
    ];
    for (words, wanted) in rows {
        let output = program().args(words).output().unwrap();
        assert_eq!(output.status.code(), Some(wanted), "{words:?}");
    }
}

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_keyhalf-agent"))
}

/// A root directory with these directories in it.
fn system(directories: &[&str]) -> TempDir {
    let root = TempDir::new().unwrap();
    for directory in directories {
        fs::create_dir_all(root.path().join(directory)).unwrap();
    }
    root
}

fn run(root: &Path, flags: &[&str]) -> Output {
    let mut command = program();
    command.arg("install-initramfs").arg("--root").arg(root);
    command.args(flags).output().unwrap()
}

fn install(root: &Path, flags: &[&str]) -> String {
    let output = run(root, flags);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The files in a directory, or the one file: path, mode and content.
fn files(top: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut open = vec![top.to_owned()];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        } else {
            let mode = path.metadata().unwrap().permissions().mode() & 0o7777;
            let name = path.strip_prefix(top).unwrap().to_owned();
            found.insert(name, (mode, fs::read(&path).unwrap()));
        }
    }
    found
}
