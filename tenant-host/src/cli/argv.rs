//! Keylime's short options of several letters, and those of its options that aren't supported yet.

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

/// Options of Keylime's tenant for policies that can't be evaluated yet.
const LATER: [&str; 26] = [
    "--allowlist",
    "--allowlist-checksum",
    "--allowlist-name",
    "--allowlist-sig",
    "--allowlist-sig-key",
    "--allowlist-sig-url",
    "--allowlist-url",
    "--exclude",
    "--mb-policy",
    "--mb-policy-name",
    "--mb_refstate",
    "--runtime-policy",
    "--runtime-policy-checksum",
    "--runtime-policy-name",
    "--runtime-policy-sig",
    "--runtime-policy-sig-key",
    "--runtime-policy-sig-url",
    "--runtime-policy-url",
    "--sign_verification_key",
    "--signature-verification-key",
    "--signature-verification-key-sig",
    "--signature-verification-key-sig-key",
    "--signature-verification-key-sig-url",
    "--signature-verification-key-sig-url-key",
    "--signature-verification-key-url",
    "--vtpm_policy",
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
/// [`UsageError::NotYet`], with the option.
pub(super) fn refuse_unsupported(argv: &[OsString]) -> Result<(), UsageError> {
    let words = argv
        .iter()
        .take_while(|word| *word != "--")
        .filter_map(|word| word.to_str());
    for word in words {
        let name = word.split_once('=').map_or(word, |(name, _)| name);
        if LATER.contains(&name) {
            return Err(UsageError::NotYet {
                what: name.to_owned(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

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
            ("flag", "-c delete -nvc", "-c delete --no-verifier-check"),
            ("id", "-vi default", "--cvid default"),
            ("after --", "-- -tp", "-- -tp"),
            ("others", "-p x --tpm_policy {}", "-p x --tpm_policy {}"),
        ];
        for (name, given, wanted) in rows {
            assert_eq!(expand(words(given)), words(wanted), "{name}");
        }
    }

    #[test]
    fn unevaluated_policy_fails() {
        let refused = |what: &str| {
            Err(UsageError::NotYet {
                what: what.to_owned(),
            })
        };
        let rows = [
            (
                "runtime policy",
                "-t a --runtime-policy p.json",
                refused("--runtime-policy"),
            ),
            ("with =", "--mb_refstate=x", refused("--mb_refstate")),
            ("none", "-t a --cert myca", Ok(())),
        ];
        for (name, given, wanted) in rows {
            assert_eq!(refuse_unsupported(&words(given)), wanted, "{name}");
        }
    }
}
