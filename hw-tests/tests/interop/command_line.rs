//! `keylime_tenant`'s words: each of Keylime's is one of ours, or is answered with what to write instead.

use std::collections::BTreeSet;

use hw_tests::Result;
use hw_tests::operator::{Maker, Operator};
use hw_tests::site::story;
use hw_tests::swtpm::Swtpm;
use hw_tests::tenant::Tenant;

/// How many of Keylime's words may be answered with others.
const MOST_REPLACED: usize = 8;

#[test]
fn every_flag_and_command_of_keylimes_help_has_an_answer() {
    story(|site| {
        let operator = Operator::start(site, Maker::Keyhalf, Maker::Keyhalf)?;
        let _manufacturer = Swtpm::fresh(site)?;
        let theirs = operator.tenant(Maker::Keylime)?.does(&["--help"])?.text;
        let ours = operator.tenant(Maker::Keyhalf)?.called_keylime_tenant()?;
        let (flags, commands) = (flags_of(&theirs), commands_of(&theirs));
        assert!(
            flags.len() > 40 && commands.len() > 20,
            "{flags:?} {commands:?}"
        );

        let mut replaced = BTreeSet::new();
        for flag in &flags {
            if !knows_flag(&ours, flag)? {
                replaced.insert(flag.clone());
            }
        }
        for command in &commands {
            let told = ours.run(&["-c", command])?;
            assert!(
                !told.text.contains("there is no command"),
                "{command}: {}",
                told.text
            );
        }
        assert!(replaced.len() <= MOST_REPLACED, "{replaced:?}");
        Ok(())
    });
}

/// Whether our tenant takes a flag; one that it answers with another word isn't taken, one that it doesn't know at all is an
/// error.
fn knows_flag(ours: &Tenant<'_>, flag: &str) -> Result<bool> {
    // Flags without a value take the next word for something else, which is as good: the first complaint counts.
    let told = ours.run(&["-c", "cvlist", flag, "1"])?;
    for unknown in ["unexpected argument", "wasn't expected"] {
        if told.text.contains(&format!("{unknown} '{flag}'")) {
            return Err(format!("{flag}: {}", told.text).into());
        }
    }
    Ok(!told.text.contains(&format!("{flag} isn't taken: ")))
}

/// Words of a help text that begin with a dash, usage and explanations left out.
fn flags_of(help: &str) -> BTreeSet<String> {
    let options = help.split("options:").nth(1).unwrap_or_default();
    let lines = options.lines().filter(|line| line.starts_with("  -"));
    let words = lines.flat_map(|line| line.split([' ', ',']));
    words
        .filter(|word| word.starts_with('-') && !["-h", "--help"].contains(word))
        .map(str::to_owned)
        .collect()
}

/// The commands that the help of `-c` lists; Python's argparse breaks its lines anywhere.
fn commands_of(help: &str) -> BTreeSet<String> {
    let list = help.split("valid commands are ").nth(1).unwrap_or_default();
    let list = list.split("defaults to").next().unwrap_or_default();
    let list: String = list.split_whitespace().collect();
    let names = list.trim_end_matches('.').split(',');
    names
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}
