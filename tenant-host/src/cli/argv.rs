//! Keylime's short options of several letters, and those of its options that have another way here.

use std::ffi::OsString;

use super::UsageError;

/// Short options of several letters and the long ones that they stand for.
const SHORT: [(&str, &str); 5] = [
    ("-tp", "--targetport"),
    ("-vp", "--cvport"),
    ("-rp", "--registrarport"),
    ("-vi", "--cvid"),
    ("-nvc", "--no-verifier-check"),
];

/// What to use instead of the options for keys of file signatures.
const IN_THE_POLICY: &str = "put the key into the runtime policy (its verification-keys; `keylime-policy create runtime \
    --add-ima-signature-verification-key FILE` does) and give that with --runtime-policy";

/// Options of Keylime's tenant that are answered with what to use instead.
const INSTEAD: [(&str, &str); 7] = [
    ("--sign_verification_key", IN_THE_POLICY),
    ("--signature-verification-key", IN_THE_POLICY),
    ("--signature-verification-key-sig", IN_THE_POLICY),
    ("--signature-verification-key-sig-key", IN_THE_POLICY),
    ("--signature-verification-key-sig-url", IN_THE_POLICY),
    ("--signature-verification-key-sig-url-key", IN_THE_POLICY),
    ("--signature-verification-key-url", IN_THE_POLICY),
];

/// Writes Keylime's short options of several letters out, up to `--`.
pub(super) fn expand(argv: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut options_end = false;
    let expand = |word: OsString| {
        options_end |= word == "--";
        let Some(text) = word.to_str().filter(|_| !options_end) else {
            return word;
        };
        let (name, value) = text
            .split_once('=')
            .map_or((text, None), |(name, value)| (name, Some(value)));
        match (SHORT.iter().find(|(short, _)| *short == name), value) {
            (Some((_, long)), Some(value)) => format!("{long}={value}").into(),
            (Some((_, long)), None) => (*long).into(),
            (None, _) => word,
        }
    };
    argv.into_iter().map(expand).collect()
}

/// Refuses what Keylime's tenant would understand and this one would have to ignore.
///
/// # Errors
/// [`UsageError::Instead`], with the option and what to use instead.
pub(super) fn refuse_replaced(argv: &[OsString]) -> Result<(), UsageError> {
    let words = argv
        .iter()
        .take_while(|word| *word != "--")
        .filter_map(|word| word.to_str());
    for word in words {
        let name = word.split_once('=').map_or(word, |(name, _)| name);
        if let Some((option, instead)) = INSTEAD.iter().find(|(option, _)| *option == name) {
            return Err(UsageError::Instead { option, instead });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::{Arguments, Command};

    fn words(text: &str) -> Vec<OsString> {
        text.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn keylimes_short_options_are_written_out() {
        let rows = [
            (
                "port",
                "-t 10.0.0.1 -tp 9002",
                "-t 10.0.0.1 --targetport 9002",
            ),
            (
                "servers",
                "-v a -vp 1 -r b -rp 2",
                "-v a --cvport 1 -r b --registrarport 2",
            ),
            ("with =", "-tp=9002", "--targetport=9002"),
            (
                "flag",
                "t -c delete -nvc",
                "t -c delete --no-verifier-check",
            ),
            ("id", "-vi default", "--cvid default"),
            ("after --", "-- -tp", "-- -tp"),
            ("others", "-p x --tpm_policy {}", "-p x --tpm_policy {}"),
        ];
        for (name, given, wanted) in rows {
            assert_eq!(expand(words(given)), words(wanted), "{name}");
        }
    }

    #[test]
    fn an_option_with_another_way_names_it() {
        let refused = |option: &str| {
            let found = INSTEAD.iter().find(|(name, _)| *name == option);
            found.map_or(Ok(()), |(option, instead)| {
                Err(UsageError::Instead { option, instead })
            })
        };
        let key = "--signature-verification-key";
        let rows = [
            (
                "key",
                "-t a --signature-verification-key k.pem",
                refused(key),
            ),
            ("with =", "--signature-verification-key=k", refused(key)),
            ("after --", "-- --signature-verification-key=k", Ok(())),
            ("policy", "-t a --runtime-policy p.json", Ok(())),
        ];
        for (name, given, wanted) in rows {
            assert_eq!(refuse_replaced(&words(given)), wanted, "{name}");
        }
    }

    /// The vector: names of options and commands, as Keylime's own help lists them.
    #[test]
    fn every_flag_and_command_of_keylime_has_an_answer() {
        let vector = include_str!("vectors/keylime-tenant-7.14.3-help.txt");
        let names: Vec<&str> = vector
            .lines()
            .filter(|line| !line.starts_with('#'))
            .flat_map(str::split_whitespace)
            .collect();
        let mut parser = Arguments::command();
        parser.build();
        let (mut refused, mut commands) = (Vec::new(), 0);
        for name in &names {
            if !name.starts_with('-') {
                assert!(Command::parse(name).is_ok(), "no command {name}");
                commands += 1;
            } else if refuse_replaced(&words(name)).is_err() {
                refused.push(*name);
            } else {
                assert!(has_option(&parser, name), "no option {name}");
            }
        }
        assert_eq!((names.len() - commands, commands), (55, 21));
        assert!(refused.len() <= 8, "{refused:?}");
        let idle = INSTEAD.iter().filter(|(name, _)| !refused.contains(name));
        assert_eq!(
            idle.count(),
            0,
            "a refusal that Keylime's help doesn't need"
        );
    }

    fn has_option(parser: &clap::Command, name: &str) -> bool {
        let short = SHORT.iter().find(|(short, _)| *short == name);
        let name = short.map_or(name, |(_, long)| long);
        parser.get_arguments().any(|argument| {
            let long = argument.get_long_and_visible_aliases().unwrap_or_default();
            let short = argument.get_short().map(|letter| format!("-{letter}"));
            short.as_deref() == Some(name)
                || long
                    .iter()
                    .any(|long| name.strip_prefix("--") == Some(long))
        })
    }
}
