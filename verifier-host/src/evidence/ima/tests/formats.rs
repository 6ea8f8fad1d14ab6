//! Lines, templates and binary lists as kernels write them, and as nobody does.

use super::*;

#[test]
fn lines_that_no_kernel_writes() {
    let hash = "0c8a706a75a5689c1e168f0a573a3cbec33061b5";
    let digest = format!("sha256:{}", "ab".repeat(32));
    let long_path = "x".repeat(MAX_PATH_BYTES + 1);
    let long = "ab".repeat(MAX_DATA_BYTES);
    let ends = |what| LineError::Ends { what };
    let part = |what, found: &str| LineError::Part {
        what,
        found: found.to_owned(),
    };
    let data = |field| LineError::Data { field };
    let rows = [
        ("empty", "\n".to_owned(), ends("PCR")),
        ("PCR alone", "10\n".to_owned(), ends("PCR")),
        ("no template", format!("10 {hash}\n"), ends("template hash")),
        ("no fields", format!("10 {hash} ima-ng\n"), ends("fields")),
        (
            "no path",
            format!("10 {hash} ima-ng {digest}\n"),
            ends("fields"),
        ),
        (
            "no signature",
            format!("10 {hash} ima-sig {digest} /a\n"),
            ends("fields"),
        ),
        (
            "PCR",
            format!("x {hash} ima-ng {digest} /a\n"),
            part("PCR", "x"),
        ),
        (
            "signed PCR",
            format!("+10 {hash} ima-ng {digest} /a\n"),
            part("PCR", "+10"),
        ),
        (
            "uppercase",
            format!("10 {} ima-ng {digest} /a\n", hash.to_uppercase()),
            part("template hash", &hash.to_uppercase()),
        ),
        (
            "odd digits",
            format!("10 {hash} ima-ng sha256:abc /a\n"),
            part("digest", "abc"),
        ),
        (
            "no algorithm",
            format!("10 {hash} ima-ng {} /a\n", "ab".repeat(32)),
            part("digest", &"ab".repeat(40)[..64]),
        ),
        (
            "two algorithms",
            format!("10 {hash} ima-ng a:{digest} /a\n"),
            data("d-ng"),
        ),
        (
            "digest of a size that ima has not",
            format!("10 {hash} ima {} /a\n", "ab".repeat(32)),
            data("d"),
        ),
        (
            "NUL",
            format!("10 {hash} ima-ng {digest} /a\0b\n"),
            data("n-ng"),
        ),
        (
            "hash of no size",
            format!("10 {}00 ima-ng {digest} /a\n", hash),
            LineError::TemplateHashSize { have: 21 },
        ),
        (
            "template without a name",
            format!("10 {hash} d-ng|sig {digest} \n"),
            LineError::Lacks {
                template: "d-ng|sig".to_owned(),
                lacks: "name",
            },
        ),
        (
            "long path",
            format!("10 {hash} ima-ng {digest} {long_path}\n"),
            LineError::TooLong {
                what: "path",
                have: MAX_PATH_BYTES + 1,
                limit: MAX_PATH_BYTES,
            },
        ),
        (
            "long buffer",
            format!("10 {hash} ima-buf {digest} n {long}\n"),
            LineError::TooLong {
                what: "template data",
                have: MAX_DATA_BYTES + 54,
                limit: MAX_DATA_BYTES,
            },
        ),
        (
            "long line",
            "x".repeat(MAX_LINE_BYTES + 1),
            LineError::TooLong {
                what: "text",
                have: MAX_LINE_BYTES + 1,
                limit: MAX_LINE_BYTES,
            },
        ),
    ];
    for (name, list, wanted) in rows {
        let mut lines = Lines::new(list.as_bytes());
        assert_eq!(lines.next(), Some(Err(wanted)), "{name}");
        assert_eq!(lines.next(), None, "{name}");
    }
}

#[test]
fn templates_are_packed_as_the_kernel_does() {
    // Data as the kernel's source says; no list of these was at hand.
    let zeros = "00".repeat(40);
    let rows: [(&str, String, Vec<&[u8]>); 5] = [
        (
            "ima-ngv2",
            "verity:sha1:abab /a".to_owned(),
            vec![b"verity:sha1:\0\xAB\xAB", b"/a\0"],
        ),
        (
            "ima-sigv2",
            "ima:sha1:abab /a 0102".to_owned(),
            vec![b"ima:sha1:\0\xAB\xAB", b"/a\0", &[1, 2]],
        ),
        (
            "ima-modsig",
            "sha1:ab /a   ".to_owned(),
            vec![b"sha1:\0\xAB", b"/a\0", b"", b"", b""],
        ),
        (
            "evm-sig",
            "sha1:ab /a 05 user.a|user.b 0102 03 1000 100 33188".to_owned(),
            vec![
                b"sha1:\0\xAB",
                b"/a\0",
                &[5],
                b"user.a|user.b\0",
                &[1, 2],
                &[3],
                &[0xE8, 3, 0, 0],
                &[100, 0, 0, 0],
                &[0xA4, 0x81],
            ],
        ),
        (
            "d|n|sig",
            format!("{} /a ", &zeros[..40]),
            vec![&[0; 20], b"/a\0", b""],
        ),
    ];
    for (template, fields, wanted) in rows {
        let text = format!("10 {} {template} {fields}\n", &zeros[..40]);
        let mut lines = Lines::new(text.as_bytes());
        let entry = lines.next().unwrap().unwrap();
        let wanted: Vec<u8> = wanted
            .iter()
            .flat_map(|field| {
                let length = u32::try_from(field.len()).unwrap().to_le_bytes();
                [&length, *field].concat()
            })
            .collect();
        assert_eq!(entry.data, wanted, "{template}");
        assert_eq!(entry.path, b"/a");
        let kind = (template == "ima-ngv2").then_some("verity");
        assert_eq!(entry.digest.kind, kind, "{template}");
    }
}

#[test]
fn hostile_binary_lists_are_refused() {
    let whole: Vec<u8> = GUEST_BINARY.iter().copied().take(400).collect();
    for at in 1..whole.len() {
        let mut lines = Lines::new(&whole[..at]);
        while let Some(Ok(_)) = lines.next() {}
    }
    // What comes behind an error isn't read.
    let mut broken = GUEST_BINARY.to_vec();
    broken[49] = b'x';
    let mut lines = Lines::new(&broken);
    assert_eq!(lines.next(), Some(Err(LineError::Data { field: "d-ng" })));
    assert_eq!(lines.next(), None);
    assert_eq!(lines.read(), 0);
    let mut huge = whole.clone();
    huge[24..28].copy_from_slice(&u32::MAX.to_le_bytes());
    let mut lines = Lines::new(&huge);
    let cut = LineError::Data { field: "a length" };
    assert_eq!(lines.next(), Some(Err(cut)));
}
