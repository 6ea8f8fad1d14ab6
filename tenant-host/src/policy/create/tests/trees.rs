//! Trees and installed packages.

use std::os::unix::fs::symlink;

use super::*;
use crate::policy::tool::ToolError;

const POOL: Pool = Pool {
    hash: FileHash::Sha256,
    skip_unreadable: false,
};

fn none() -> Excludes {
    Excludes::parse(Vec::new()).unwrap()
}

fn choice<'a>(root: &'a Path, excludes: &'a Excludes) -> TreeChoice<'a> {
    TreeChoice {
        root,
        prefix: "/",
        skip: &[],
        excludes,
        cross: false,
    }
}

#[test]
fn a_tree_is_hashed_as_the_node_sees_it() {
    let root = tempfile::tempdir().unwrap();
    write(
        root.path(),
        &[
            ("bin/x", "one"),
            ("a b/c", "two"),
            ("var/cache/y", "one"),
            ("var/lib/z", "two"),
        ],
    );
    symlink("bin/x", root.path().join("link")).unwrap();
    symlink("bin", root.path().join("sbin")).unwrap();
    run("mkfifo", &[&root.path().join("pipe")]);
    let excludes = Excludes::parse(vec!["/var/cache/".to_owned()]).unwrap();
    let none = none();
    let plain = choice(root.path(), &none);
    let skip = ["/var".to_owned(), "/bin/x".to_owned()];
    let rows: [(&str, TreeChoice<'_>, &[&str]); 4] = [
        (
            "all",
            plain,
            &[
                "/a_b/c=two",
                "/bin/x=one",
                "/var/cache/y=one",
                "/var/lib/z=two",
            ],
        ),
        (
            "excluded",
            choice(root.path(), &excludes),
            &["/a_b/c=two", "/bin/x=one", "/var/lib/z=two"],
        ),
        (
            "skipped",
            TreeChoice {
                skip: &skip,
                ..plain
            },
            &["/a_b/c=two"],
        ),
        (
            "elsewhere",
            TreeChoice {
                prefix: "/opt/app/",
                skip: &["/opt/app/var".to_owned()],
                ..plain
            },
            &["/opt/app/a_b/c=two", "/opt/app/bin/x=one"],
        ),
    ];
    for (name, choice, wanted) in rows {
        let (files, left_out) = hash_tree(POOL, choice, &mut |_| {}).unwrap();
        assert_eq!(contents(&files, &["one", "two"]), wanted, "{name}");
        assert_eq!(left_out, LeftOut::default(), "{name}");
    }
    let missing = root.path().join("missing");
    assert!(hash_tree(POOL, choice(&missing, &none), &mut |_| {}).is_err());
    assert!(hash_tree(POOL, choice(&root.path().join("bin/x"), &none), &mut |_| {}).is_err());
}

/// More files than the queue has room for, with names that sort otherwise than they are found.
#[test]
fn many_files_are_all_hashed() {
    let root = tempfile::tempdir().unwrap();
    for number in 0..3000 {
        fs::write(root.path().join(number.to_string()), number.to_string()).unwrap();
    }
    let (files, _) = hash_tree(POOL, choice(root.path(), &none()), &mut |_| {}).unwrap();
    assert_eq!(files.len(), 3000);
    let (digest, _) = FileHash::Sha256.of(&mut &b"2999"[..]).unwrap();
    assert_eq!(files["/2999"], digest);
}

/// Files of /proc: the memory of a process can't be read from its start, and a status has more bytes than its size says.
#[test]
fn a_file_that_cant_be_hashed_is_named() {
    let unreadable = Path::new("/proc/self/mem");
    let changing = Path::new("/proc/self/status");
    let hash = |pool: Pool, file: &Path| {
        let job = pool::Job {
            file: file.to_owned(),
            path: "/x".to_owned(),
        };
        // More of them than there are threads, and more than the queue takes.
        let list = |queue: &mut pool::Queue<'_>| {
            while queue.left_out == LeftOut::default() && queue.push(job.clone()) {
                if pool.skip_unreadable {
                    break;
                }
            }
            Ok(())
        };
        pool.run(list, &mut |_| {})
    };
    assert!(
        matches!(hash(POOL, unreadable), Err(ToolError::Read { path, .. }) if path == unreadable)
    );
    assert!(matches!(hash(POOL, changing), Err(ToolError::Changing { path }) if path == changing));
    let lenient = Pool {
        skip_unreadable: true,
        ..POOL
    };
    for file in [unreadable, changing] {
        let (files, left_out) = hash(lenient, file).unwrap();
        assert!(files.is_empty());
        let lines = left_out.lines();
        assert_eq!(lines, ["left out: 1 unreadable: /x"]);
    }
    let (files, left_out) = hash(lenient, Path::new("/missing")).unwrap();
    assert!(files.is_empty() && left_out.lines()[0].contains("vanished"));
}

#[test]
fn what_packages_own_is_hashed_where_it_really_is() {
    let root = tempfile::tempdir().unwrap();
    write(
        root.path(),
        &[
            ("usr/bin/x", "one"),
            ("usr/bin/sh.distrib", "two"),
            ("usr/bin/nobodys", "two"),
            ("etc/conf", "two"),
            (
                "var/lib/dpkg/info/x.list",
                "/.\n/bin\n/bin/x\n/usr/share/doc/gone\n/out/conf\n",
            ),
            ("var/lib/dpkg/info/y:amd64.list", "/etc\n/etc/conf\n"),
            ("var/lib/dpkg/info/y.md5sums", "/usr/bin/nobodys\n"),
            (
                "var/lib/dpkg/diversions",
                "/bin/sh\n/bin/sh.distrib\ndash\n",
            ),
        ],
    );
    symlink("usr/bin", root.path().join("bin")).unwrap();
    symlink("/etc", root.path().join("out")).unwrap();
    let (files, left_out) = hash_packages(POOL, root.path(), &none(), &mut |_| {}).unwrap();
    let wanted = ["/etc/conf=two", "/usr/bin/sh.distrib=two", "/usr/bin/x=one"];
    assert_eq!(contents(&files, &["one", "two"]), wanted);
    assert_eq!(
        left_out.lines(),
        ["left out: 1 listed by a package and not there: /usr/share/doc/gone"]
    );
    let empty = tempfile::tempdir().unwrap();
    assert!(hash_packages(POOL, empty.path(), &none(), &mut |_| {}).is_err());
}
