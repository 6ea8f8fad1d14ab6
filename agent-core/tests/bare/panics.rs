//! Nothing of agent-core panics: of all the places in the optimised program that begin a panic, none is on a line of ours.
//!
//! A place is an instruction that refers to a function which never returns and ends in the panic handler. By the program's
//! lines it belongs to a chain of inlined functions; it is the innermost one outside of `core` that panics. Where there is
//! none, `core` panics in a function of its own, such as the search for a pattern.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use crate::disassembly::{Frame, Program};
use crate::program::{PLAIN, build, rustc, said_by, source};

/// The files that panic, of other crates. It may only shrink.
const LIST: &str = include_str!("../panic_sites.txt");

/// Where a panic begins.
struct Site {
    file: String,
    function: String,
}

#[test]
fn nothing_of_ours_panics() {
    let ours: Vec<_> = sites(&PLAIN)
        .into_iter()
        .filter(|site| crate_file(&site.file).is_none())
        .map(|site| format!("{} in {}", site.file, site.function))
        .collect();
    assert!(ours.is_empty(), "{ours:#?}");
}

/// An index in a closure that is inlined into `payload::zip`.
#[test]
fn the_search_finds_an_inlined_panic() {
    let feature = "should-fail-panic";
    let program = build(feature, &["--release", "--features", feature]).unwrap();
    let file = source().join("src/walk/files.rs");
    let found = sites(&program)
        .into_iter()
        .any(|site| Path::new(&site.file) == file);
    assert!(found);
    assert!(locations_of_ours(&program), "its location isn't there");
}

/// What a panic would say of its place: only code that can panic brings such a text along.
#[test]
fn no_panic_would_name_a_line_of_ours() {
    assert!(!locations_of_ours(&PLAIN));
}

/// Other crates panic where they did, and nowhere else.
#[test]
fn the_list_of_others_only_shrinks() {
    if std::env::consts::ARCH != "x86_64" {
        println!("the list is of x86_64: other machines have other code for AES");
        return;
    }
    let found: BTreeSet<_> = sites(&PLAIN)
        .iter()
        .filter_map(|site| crate_file(&site.file))
        .collect();
    let listed: BTreeSet<_> = LIST
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(str::to_owned)
        .collect();
    let more: Vec<_> = found.difference(&listed).collect();
    assert!(more.is_empty(), "new in tests/panic_sites.txt: {more:#?}");
    // Another compiler may see more, or less, of what can't happen.
    let compiler = rustc(&["--version"]);
    if LIST.contains(compiler.split(" (").next().unwrap()) {
        let less: Vec<_> = listed.difference(&found).collect();
        assert!(
            less.is_empty(),
            "remove from tests/panic_sites.txt: {less:#?}"
        );
    }
}

/// All sites of a program.
fn sites(path: &Path) -> Vec<Site> {
    let program = Program::read(path);
    let begin = |name: &str| name == "panicked" || name.contains("rust_begin_unwind");
    let mut panicking: BTreeSet<u64> = program
        .functions
        .iter()
        .filter(|(_, function)| begin(&function.name))
        .map(|(address, _)| *address)
        .collect();
    assert_eq!(panicking.len(), 2, "the panic handler isn't there");
    let handler = panicking.clone();
    let mut frames = BTreeMap::new();
    loop {
        // Every reference to a function that ends in a panic, with the function that it is in.
        let mut begins = BTreeMap::new();
        for (address, function) in &program.functions {
            let into = function.references.iter();
            let into = into.filter(|(_, to)| panicking.contains(to) && to != address);
            begins.extend(into.map(|(at, _)| (*at, *address)));
        }
        begins.retain(|_, address| !handler.contains(address));
        let new = begins.keys().filter(|at| !frames.contains_key(*at));
        let new = new.copied().collect();
        frames.extend(program.frames(&new));
        let before = panicking.len();
        let by_core = begins
            .iter()
            .filter(|(at, _)| frames[*at].iter().all(is_core));
        let diverging = by_core.filter(|(_, address)| !program.functions[*address].returns);
        panicking.extend(diverging.map(|(_, address)| *address));
        if panicking.len() == before {
            let of_helpers = |at: &u64| panicking.contains(&begins[at]);
            let sites = frames.iter().filter(|(at, _)| !of_helpers(at));
            return sites.map(|(_, frames)| Site::of(frames)).collect();
        }
    }
}

impl Site {
    fn of(frames: &[Frame]) -> Self {
        let outside = frames.iter().find(|frame| !is_core(frame));
        let Frame { function, file } = outside.or(frames.last()).unwrap().clone();
        Self { file, function }
    }
}

/// Whether it is the standard library's, which is compiled elsewhere.
fn is_core(frame: &Frame) -> bool {
    frame.file.starts_with("/rustc/") || frame.file.contains("/rustlib/src/rust/library/")
}

/// A file of another crate, without the crate's version: `aes src/lib.rs`; `None` for what isn't.
fn crate_file(file: &str) -> Option<String> {
    if let Some((_, file)) = file.split_once("/library/") {
        let (name, file) = file.split_once('/')?;
        return Some(format!("{name} {file}"));
    }
    let (_, after) = file.split_once("/registry/src/")?;
    let mut parts = after.splitn(3, '/').skip(1);
    let (directory, file) = (parts.next()?, parts.next()?);
    let (name, _) = directory.rsplit_once('-')?;
    Some(format!("{name} {file}"))
}

/// Whether the program's constants name a file of agent-core or of `bare/`.
fn locations_of_ours(program: &Path) -> bool {
    let mut readelf = Command::new("readelf");
    let constants = said_by(readelf.args(["--string-dump", ".rodata"]).arg(program));
    assert!(constants.contains(".rs"), "no constant names a file");
    constants.contains("agent-core/src/") || constants.contains("src/walk/files.rs")
}
