//! Options for runtime and measured-boot policies, and which of them go together.

use std::path::PathBuf;

use clap::Args;
use serde::{Deserialize, Serialize};

use super::UsageError;
use crate::policy::{Form, MeasuredBootChoice, PolicyName, RuntimeChoice, RuntimeFile, Source};
use crate::trust::known::is_hash;

/// The options as they were given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args, Serialize, Deserialize)]
#[command(next_help_heading = "Policies")]
#[serde(default, deny_unknown_fields)]
pub struct PolicyArguments {
    /// What IMA may measure on the node: a runtime policy in JSON, or a signed one (DSSE).
    #[arg(long, value_name = "FILE")]
    pub runtime_policy: Option<PathBuf>,

    /// The runtime policy's name at the verifier. Alone, it names one that is there.
    #[arg(long, value_name = "NAME")]
    pub runtime_policy_name: Option<String>,

    /// Fetch the runtime policy. `http:` needs a checksum or a signature that protects it.
    #[arg(long, value_name = "URL")]
    pub runtime_policy_url: Option<String>,

    /// The SHA-256 that the bytes of the runtime policy must have.
    #[arg(long, value_name = "HEX")]
    pub runtime_policy_checksum: Option<String>,

    /// The ECDSA public key, or its certificate, that must have signed the runtime policy; PEM.
    #[arg(long, value_name = "FILE")]
    pub runtime_policy_sig_key: Option<PathBuf>,

    /// What the node's boot log must show: a measured-boot policy in JSON; `default` is mb_refstate of tenant.conf.
    #[arg(long, value_name = "FILE")]
    pub mb_policy: Option<PathBuf>,

    /// The measured-boot policy's name at the verifier. Alone, it names one that is there.
    #[arg(long, value_name = "NAME")]
    pub mb_policy_name: Option<String>,

    /// Deprecated: --runtime-policy. An allowlist, as JSON or as lines of digest and path; it is converted.
    #[arg(long, value_name = "FILE")]
    pub allowlist: Option<PathBuf>,

    /// Deprecated: `excludes` in the runtime policy. A file with a regular expression a line, for --allowlist.
    #[arg(long, value_name = "FILE")]
    pub exclude: Option<PathBuf>,

    /// Deprecated: --runtime-policy-url. The same for an allowlist.
    #[arg(long, value_name = "URL")]
    pub allowlist_url: Option<String>,

    /// Deprecated: --runtime-policy-name.
    #[arg(long, value_name = "NAME")]
    pub allowlist_name: Option<String>,

    /// Deprecated: --mb-policy.
    #[arg(long = "mb_refstate", value_name = "FILE")]
    pub mb_refstate: Option<PathBuf>,
}

impl PolicyArguments {
    /// Which runtime policy is meant.
    ///
    /// # Errors
    /// [`UsageError`] for options that exclude or miss each other, and for values that aren't of their kind.
    pub fn runtime(&self) -> Result<RuntimeChoice, UsageError> {
        let name = either(
            ("--runtime-policy-name", self.runtime_policy_name.clone()),
            ("--allowlist-name", self.allowlist_name.clone()),
        )?;
        Ok(RuntimeChoice {
            name: name.map(PolicyName::parse).transpose()?,
            file: self.runtime_file()?,
        })
    }

    fn runtime_file(&self) -> Result<Option<RuntimeFile>, UsageError> {
        let (file, url) = (Source::File, Source::Url);
        let policy = either(
            ("--runtime-policy", self.runtime_policy.clone().map(file)),
            (
                "--runtime-policy-url",
                self.runtime_policy_url.clone().map(url),
            ),
        )?;
        let allowlist = either(
            ("--allowlist", self.allowlist.clone().map(file)),
            ("--allowlist-url", self.allowlist_url.clone().map(url)),
        )?;
        if allowlist.is_none() && self.exclude.is_some() {
            return Err(UsageError::Needs("--exclude", "--allowlist"));
        }
        if allowlist.is_some() && self.runtime_policy_sig_key.is_some() {
            let (key, policy) = ("--runtime-policy-sig-key", "--runtime-policy");
            return Err(UsageError::Needs(key, policy));
        }
        let form = match &allowlist {
            Some(_) => Form::Allowlist {
                exclude: self.exclude.clone(),
            },
            None => Form::Policy {
                key: self.runtime_policy_sig_key.clone(),
            },
        };
        let source = either(("--runtime-policy", policy), ("--allowlist", allowlist))?;
        let checksum = self.checksum()?;
        let lonely = [
            ("--runtime-policy-checksum", checksum.is_some()),
            (
                "--runtime-policy-sig-key",
                self.runtime_policy_sig_key.is_some(),
            ),
        ];
        match (source, lonely.iter().find(|(_, given)| *given)) {
            (None, Some((option, _))) => Err(UsageError::Needs(option, "--runtime-policy")),
            (None, None) => Ok(None),
            (Some(source), _) => Ok(Some(RuntimeFile {
                source,
                form,
                checksum,
            })),
        }
    }

    fn checksum(&self) -> Result<Option<String>, UsageError> {
        let given = self.runtime_policy_checksum.as_ref();
        match given.map(|text| text.to_ascii_lowercase()) {
            Some(text) if !is_hash(&text) => Err(UsageError::BadChecksum),
            text => Ok(text),
        }
    }

    /// Which measured-boot policy is meant. `default` stands for the file of that name in the configuration.
    ///
    /// # Errors
    /// [`UsageError`] as above.
    pub fn measured_boot(
        &self,
        default: Option<&PathBuf>,
    ) -> Result<MeasuredBootChoice, UsageError> {
        let file = either(
            ("--mb-policy", self.mb_policy.clone()),
            ("--mb_refstate", self.mb_refstate.clone()),
        )?;
        let file = match file {
            Some(file) if file.as_os_str() == "default" => Some(default.cloned().ok_or(
                UsageError::Needs("--mb-policy default", "mb_refstate in tenant.conf"),
            )?),
            file => file,
        };
        let name = self.mb_policy_name.clone();
        Ok(MeasuredBootChoice {
            name: name.map(PolicyName::parse).transpose()?,
            file,
        })
    }

    /// The deprecated options that were given, each with what replaces it.
    pub(super) fn deprecated(&self) -> Vec<(&'static str, &'static str)> {
        let converted =
            "--runtime-policy: `keylime-policy create runtime --allowlist FILE` converts it";
        let all = [
            (self.allowlist.is_some(), "--allowlist", converted),
            (
                self.exclude.is_some(),
                "--exclude",
                "`excludes` in a runtime policy, and give that with --runtime-policy",
            ),
            (
                self.allowlist_url.is_some(),
                "--allowlist-url",
                "--runtime-policy-url",
            ),
            (
                self.allowlist_name.is_some(),
                "--allowlist-name",
                "--runtime-policy-name",
            ),
            (self.mb_refstate.is_some(), "--mb_refstate", "--mb-policy"),
        ];
        let given = all.into_iter().filter(|(given, ..)| *given);
        given
            .map(|(_, option, instead)| (option, instead))
            .collect()
    }
}

/// The one of two options that was given.
fn either<T>(
    (one, first): (&'static str, Option<T>),
    (other, second): (&'static str, Option<T>),
) -> Result<Option<T>, UsageError> {
    match (first, second) {
        (Some(_), Some(_)) => Err(UsageError::Both(one, other)),
        (first, second) => Ok(first.or(second)),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

    use clap::Parser as _;

    use super::*;
    use crate::cli::Arguments;

    fn parse(text: &str) -> Arguments {
        let words = format!("keylime_tenant {text}");
        Arguments::try_parse_from(words.split_whitespace()).unwrap()
    }

    #[test]
    fn a_runtime_policy_comes_from_one_place() {
        let file = |source, form| {
            Ok(Some(RuntimeFile {
                source,
                form,
                checksum: None,
            }))
        };
        let (path, url) = (
            Source::File("p".into()),
            Source::Url("https://h/p".to_owned()),
        );
        let bare = || Form::Policy { key: None };
        let signed = Form::Policy {
            key: Some("k".into()),
        };
        let list = |exclude: Option<&str>| Form::Allowlist {
            exclude: exclude.map(Into::into),
        };
        let needs = |option, other| Err(UsageError::Needs(option, other));
        let both = |one, other| Err(UsageError::Both(one, other));
        let rows = [
            ("none", "", Ok(None)),
            ("file", "--runtime-policy p", file(path.clone(), bare())),
            (
                "URL",
                "--runtime-policy-url https://h/p",
                file(url.clone(), bare()),
            ),
            (
                "signed",
                "--runtime-policy p --runtime-policy-sig-key k",
                file(path.clone(), signed),
            ),
            ("allowlist", "--allowlist p", file(path.clone(), list(None))),
            (
                "with excludes",
                "--allowlist p --exclude e",
                file(path, list(Some("e"))),
            ),
            (
                "allowlist's URL",
                "--allowlist-url https://h/p",
                file(url, list(None)),
            ),
            (
                "two places",
                "--runtime-policy p --runtime-policy-url u",
                both("--runtime-policy", "--runtime-policy-url"),
            ),
            (
                "two forms",
                "--runtime-policy p --allowlist-url u",
                both("--runtime-policy", "--allowlist"),
            ),
            (
                "two lists",
                "--allowlist p --allowlist-url u",
                both("--allowlist", "--allowlist-url"),
            ),
            (
                "excludes alone",
                "--exclude e",
                needs("--exclude", "--allowlist"),
            ),
            (
                "excludes of a policy",
                "--runtime-policy p --exclude e",
                needs("--exclude", "--allowlist"),
            ),
            (
                "key of a list",
                "--allowlist p --runtime-policy-sig-key k",
                needs("--runtime-policy-sig-key", "--runtime-policy"),
            ),
            (
                "key alone",
                "--runtime-policy-sig-key k",
                needs("--runtime-policy-sig-key", "--runtime-policy"),
            ),
            (
                "no checksum",
                "--runtime-policy p --runtime-policy-checksum 0",
                Err(UsageError::BadChecksum),
            ),
        ];
        for (name, text, wanted) in rows {
            assert_eq!(parse(text).policies.runtime_file(), wanted, "{name}");
        }
        let sum = "AB".repeat(32);
        let with_sum = parse(&format!("--allowlist p --runtime-policy-checksum {sum}"));
        let found = with_sum.policies.runtime_file().unwrap().unwrap();
        assert_eq!(found.checksum, Some("ab".repeat(32)));
        let alone = parse(&format!("--runtime-policy-checksum {sum}"));
        let wanted = UsageError::Needs("--runtime-policy-checksum", "--runtime-policy");
        assert_eq!(alone.policies.runtime_file(), Err(wanted));
    }

    #[test]
    fn names_have_an_older_option() {
        let name = |text| parse(text).policies.runtime().map(|choice| choice.name);
        let web = PolicyName::parse("web".to_owned()).unwrap();
        assert_eq!(name("--runtime-policy-name web"), Ok(Some(web.clone())));
        assert_eq!(name("--allowlist-name web"), Ok(Some(web)));
        let both = UsageError::Both("--runtime-policy-name", "--allowlist-name");
        assert_eq!(
            name("--runtime-policy-name a --allowlist-name b"),
            Err(both)
        );
        assert!(matches!(
            name("--allowlist-name a/b"),
            Err(UsageError::BadName(_))
        ));
    }

    #[test]
    fn a_measured_boot_policy_may_be_the_configured_one() {
        let configured = PathBuf::from("/conf");
        let file = |text, default: Option<&PathBuf>| {
            let choice = parse(text).policies.measured_boot(default);
            choice.map(|choice| choice.file)
        };
        assert_eq!(file("", None), Ok(None));
        assert_eq!(file("--mb-policy p", None), Ok(Some("p".into())));
        assert_eq!(file("--mb_refstate p", None), Ok(Some("p".into())));
        assert_eq!(
            file("--mb-policy default", Some(&configured)),
            Ok(Some(configured.clone()))
        );
        assert!(matches!(
            file("--mb-policy default", None),
            Err(UsageError::Needs(..))
        ));
        let both = UsageError::Both("--mb-policy", "--mb_refstate");
        assert_eq!(file("--mb-policy a --mb_refstate b", None), Err(both));
    }

    #[test]
    fn each_deprecated_option_is_warned_of_once() {
        assert!(
            parse("--runtime-policy p --mb-policy m")
                .deprecated()
                .is_empty()
        );
        let all = "--allowlist a --allowlist a --exclude e --allowlist-url u --allowlist-name n --mb_refstate m \
            --supported-version 2.2";
        let warnings = parse(all).deprecated();
        assert_eq!(warnings.len(), 6, "{warnings:?}");
        for (option, instead) in [
            ("--allowlist ", "--runtime-policy"),
            ("--exclude ", "excludes"),
            ("--allowlist-url ", "--runtime-policy-url"),
            ("--allowlist-name ", "--runtime-policy-name"),
            ("--mb_refstate ", "--mb-policy"),
            ("--supported-version ", "--agent-api-version"),
        ] {
            let of = |text: &&String| text.starts_with(&format!("warning: {option}"));
            let found: Vec<_> = warnings.iter().filter(of).collect();
            assert!(
                found.len() == 1 && found[0].contains(instead),
                "{option}: {found:?}"
            );
        }
    }

    #[test]
    fn the_newer_option_for_the_version_counts() {
        let version = |text| parse(text).version().unwrap().unwrap().to_string();
        assert_eq!(version("--supported-version 2.2"), "2.2");
        assert_eq!(
            version("--supported-version 2.2 --agent-api-version 2.5"),
            "2.5"
        );
        assert!(parse("--agent-api-version 9").version().is_err());
    }
}
