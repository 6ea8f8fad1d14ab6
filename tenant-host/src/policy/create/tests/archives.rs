//! Images and packages, packed by the programs that distributions pack them with.

use std::io::Cursor;
use std::os::unix::fs::symlink;

use super::*;

/// One entry of an archive: name, mode, inode, number of links, content.
fn entry(name: &str, mode: u32, (inode, links): (u32, u32), content: &str) -> Vec<u8> {
    let fields = [
        inode,
        mode,
        0,
        0,
        links,
        0,
        u32::try_from(content.len()).unwrap(),
        0,
        0,
        0,
        0,
    ];
    let mut bytes = b"070701".to_vec();
    for field in fields {
        write!(bytes, "{field:08x}").unwrap();
    }
    write!(bytes, "{:08x}{:08x}{name}\0", name.len() + 1, 0).unwrap();
    pad(&mut bytes);
    bytes.extend(content.as_bytes());
    pad(&mut bytes);
    bytes
}

fn pad(bytes: &mut Vec<u8>) {
    while !bytes.len().is_multiple_of(4) {
        bytes.push(0);
    }
}

fn file(name: &str, content: &str) -> Vec<u8> {
    entry(name, 0o100_755, (1, 1), content)
}

fn link(name: &str, target: &str) -> Vec<u8> {
    entry(name, 0o120_777, (2, 1), target)
}

fn archive(entries: &[Vec<u8>]) -> Vec<u8> {
    [&entries.concat()[..], &entry("TRAILER!!!", 0, (0, 1), "")].concat()
}

fn read_image(image: &[u8]) -> Result<Vec<String>, ArchiveError> {
    let files = read_initrd(&mut Cursor::new(image), FileHash::Sha256)?;
    Ok(contents(&files, &["", "one", "two", "microcode"]))
}

#[test]
fn an_image_is_read_as_the_kernel_reads_it() {
    let directory = entry("usr/bin", 0o040_755, (3, 2), "");
    let main = archive(&[
        file("init", "one"),
        directory.clone(),
        file("./usr/bin/a b", "two"),
    ]);
    let early = archive(&[file("kernel/x86/microcode/A.bin", "microcode")]);
    let padded = |mut archive: Vec<u8>, zeros: usize| {
        archive.resize(archive.len().next_multiple_of(512) + zeros, 0);
        archive
    };
    let wanted = ["/init=one", "/usr/bin/a_b=two"];
    let both = [
        "/init=one",
        "/kernel/x86/microcode/A.bin=microcode",
        "/usr/bin/a_b=two",
    ];
    let linked = archive(&[
        entry("a", 0o100_755, (7, 3), ""),
        entry("b", 0o100_755, (7, 3), ""),
        entry("c", 0o100_755, (7, 3), "two"),
        entry("d", 0o100_755, (8, 2), "one"),
        entry("e", 0o100_755, (8, 2), ""),
    ]);
    let gzip = |bytes: &[u8]| filter("gzip -9n", bytes);
    let rows: [(&str, Vec<u8>, &[&str]); 13] = [
        ("plain", main.clone(), &wanted),
        ("plain, padded", padded(main.clone(), 1024), &wanted),
        ("gzip", gzip(&main), &wanted),
        ("gzip with a name", filter("gzip -c", &main), &wanted),
        ("zstd", filter("zstd -q -19 -c", &main), &wanted),
        (
            "zstd with a checksum",
            filter("zstd -q --check -c", &main),
            &wanted,
        ),
        (
            "xz as the kernel has it",
            filter("xz --check=crc32 --lzma2=dict=1MiB -c", &main),
            &wanted,
        ),
        (
            "early, then gzip",
            [padded(early.clone(), 0), gzip(&main)].concat(),
            &both,
        ),
        (
            "early, then zstd",
            [padded(early.clone(), 512), filter("zstd -q -c", &main)].concat(),
            &both,
        ),
        (
            "gzip, then xz",
            [gzip(&early), filter("xz --check=crc32 -c", &main)].concat(),
            &both,
        ),
        (
            "two in one",
            gzip(&[padded(early, 0), main.clone()].concat()),
            &both,
        ),
        (
            "links and a later file",
            archive(&[
                link("bin", "usr/bin"),
                file("bin/x", "one"),
                file("usr/bin/x", "two"),
                link("y", "x"),
            ]),
            &["/usr/bin/x=two"],
        ),
        (
            "hard links",
            linked,
            &["/a=two", "/b=two", "/c=two", "/d=one", "/e=one"],
        ),
    ];
    for (name, image, wanted) in rows {
        assert_eq!(read_image(&image).unwrap(), wanted, "{name}");
    }
}

#[test]
fn an_image_that_cant_be_read_says_why() {
    let main = archive(&[file("init", "one")]);
    let packed = filter("lz4 -l -c", &main);
    assert!(matches!(
        read_image(&packed),
        Err(ArchiveError::Packed { with: "lz4", .. })
    ));
    let rows: [(&str, Vec<u8>, &str); 7] = [
        ("empty", Vec::new(), "no archive"),
        ("zeros", vec![0; 512], "no archive"),
        (
            "garbage",
            b"garbage!".to_vec(),
            "at byte 0 it has no cpio archive",
        ),
        (
            "garbage behind",
            [&main[..], b"garbage!"].concat(),
            "it has no cpio archive",
        ),
        (
            "no number",
            main.iter()
                .map(|byte| if *byte == b'8' { b'x' } else { *byte })
                .collect(),
            "is no number",
        ),
        (
            "a long name",
            entry(&"x".repeat(5000), 0, (0, 1), ""),
            "a name has 5001 bytes",
        ),
        (
            "another kind of cpio",
            b"070707000000000".repeat(20),
            "it has no header of a cpio archive",
        ),
    ];
    for (name, image, wanted) in rows {
        let error = read_image(&image).unwrap_err().to_string();
        assert!(error.contains(wanted), "{name}: {error}");
    }
    for packed in [
        main.clone(),
        filter("gzip -c", &main),
        filter("zstd -q -c", &main),
        filter("xz -c", &main),
    ] {
        for end in 1..packed.len() {
            assert!(
                read_image(&packed[..end]).is_err(),
                "cut at {end} of {}",
                packed.len()
            );
        }
    }
}

/// Whatever a byte is changed to, reading ends, in an error or in other files.
#[test]
fn flipped_bytes_end_nothing_but_the_reading() {
    let root = tempfile::tempdir().unwrap();
    let main = archive(&[
        file("init", "one"),
        link("bin", "usr/bin"),
        file("bin/x", "two"),
    ]);
    let package = package(root.path(), "-Zgzip");
    let images = [
        main.clone(),
        filter("gzip -c", &main),
        filter("zstd -q -c", &main),
        filter("xz -c", &main),
    ];
    for image in images {
        for at in 0..image.len() {
            let mut image = image.clone();
            image[at] ^= 0x41;
            let _ = read_initrd(&mut Cursor::new(image), FileHash::Sha1);
        }
    }
    for at in 0..package.len() {
        let mut package = package.clone();
        package[at] ^= 0x41;
        let _ = read_deb(&mut Cursor::new(package), FileHash::Sha1);
    }
}

/// A package as dpkg-deb makes it.
fn package(root: &Path, packing: &str) -> Vec<u8> {
    let tree = root.join("tree");
    let long = format!("usr/share/{}/{}", "d".repeat(90), "f".repeat(120));
    write(
        &tree,
        &[
            (
                "DEBIAN/control",
                "Package: x\nVersion: 1\nArchitecture: all\nMaintainer: x <x@example.org>\nDescription: x\n",
            ),
            ("bin/x", "one"),
            ("usr/bin/a b", "two"),
            (&long, "three"),
            ("etc/empty", ""),
        ],
    );
    // Made once a test.
    let _ = symlink("bin/x", tree.join("link"));
    let _ = fs::hard_link(tree.join("bin/x"), tree.join("usr/bin/hard"));
    let out = root.join("x.deb");
    run(
        &format!("dpkg-deb --root-owner-group {packing} --build"),
        &[&tree, &out],
    );
    fs::read(out).unwrap()
}

#[test]
fn a_package_has_the_files_that_it_would_install() {
    let root = tempfile::tempdir().unwrap();
    let long = format!("/usr/share/{}/{}=three", "d".repeat(90), "f".repeat(120));
    let wanted = [
        "/bin/x=one",
        "/etc/empty=",
        "/usr/bin/a_b=two",
        "/usr/bin/hard=one",
        "/usr/bin/x=one",
        &long,
    ];
    for packing in ["-Zxz", "-Zzstd", "-Zgzip", "-Znone"] {
        let package = package(root.path(), packing);
        let files = read_deb(&mut Cursor::new(&package), FileHash::Sha256).unwrap();
        assert_eq!(
            contents(&files, &["", "one", "two", "three"]),
            wanted,
            "{packing}"
        );
        for end in (1..package.len()).step_by(61) {
            let cut = read_deb(&mut Cursor::new(&package[..end]), FileHash::Sha256);
            assert!(cut.is_err(), "{packing}: cut at {end}");
        }
    }
    let posix = filter(
        "tar --format=posix -C TREE -cf - ."
            .replace("TREE", root.path().join("tree").to_str().unwrap())
            .as_str(),
        b"",
    );
    let member = |name: &str, content: &[u8]| {
        let head = format!(
            "{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n",
            0,
            0,
            0,
            100_644,
            content.len()
        );
        [head.as_bytes(), content].concat()
    };
    let package = [
        b"!<arch>\n".to_vec(),
        member("debian-binary", b"2.0\n"),
        member("data.tar/", &posix),
    ]
    .concat();
    let files = read_deb(&mut Cursor::new(&package), FileHash::Sha256).unwrap();
    assert!(contents(&files, &["three"]).contains(&long));
    let rows = [
        (
            "another file",
            b"#!/bin/sh\n".repeat(9),
            "no Debian package",
        ),
        (
            "no data",
            [b"!<arch>\n".to_vec(), member("debian-binary", b"2.0\n")].concat(),
            "no data.tar",
        ),
        (
            "bzip2",
            [b"!<arch>\n".to_vec(), member("data.tar.bz2", b"")].concat(),
            "dpkg-deb -x",
        ),
    ];
    for (name, package, wanted) in rows {
        let error = read_deb(&mut Cursor::new(package), FileHash::Sha256)
            .unwrap_err()
            .to_string();
        assert!(error.contains(wanted), "{name}: {error}");
    }
}
