//! Why a certificate was revoked, by the names of RFC 5280.

use std::fmt;
use std::str::FromStr;

use rcgen::RevocationReason as Code;

/// Why a certificate was revoked.
///
/// Source: RFC 5280 section 5.3.1; the names are those of `openssl ca`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reason(Code);

/// A text that names no reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no reason: {}", OFFERED.map(|code| Reason(code).name()).join(", "))]
pub struct ReasonError {
    /// What was given.
    text: String,
}

/// What an operator may give. A hold isn't among them: nothing here ends one.
const OFFERED: [Code; 6] = [
    Code::Unspecified,
    Code::KeyCompromise,
    Code::AffiliationChanged,
    Code::Superseded,
    Code::CessationOfOperation,
    Code::PrivilegeWithdrawn,
];

const NAMES: [(Code, &str); 10] = [
    (Code::Unspecified, "unspecified"),
    (Code::KeyCompromise, "keyCompromise"),
    (Code::CaCompromise, "CACompromise"),
    (Code::AffiliationChanged, "affiliationChanged"),
    (Code::Superseded, "superseded"),
    (Code::CessationOfOperation, "cessationOfOperation"),
    (Code::CertificateHold, "certificateHold"),
    (Code::RemoveFromCrl, "removeFromCRL"),
    (Code::PrivilegeWithdrawn, "privilegeWithdrawn"),
    (Code::AaCompromise, "AACompromise"),
];

impl Reason {
    /// No reason given; a list has none then.
    pub const UNSPECIFIED: Self = Self(Code::Unspecified);
    /// Others may have the key: what a node that failed attestation has to be taken for.
    pub const KEY_COMPROMISE: Self = Self(Code::KeyCompromise);
    /// It isn't used any more.
    pub const CESSATION: Self = Self(Code::CessationOfOperation);

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        let found = NAMES.iter().find(|(code, _)| *code == self.0);
        found.map_or("unspecified", |(_, name)| *name)
    }

    /// As it stands in a list.
    pub(super) const fn code(self) -> Code {
        self.0
    }

    /// Of the number in a list; an unknown one counts as unspecified.
    pub(super) fn of_number(number: u8) -> Self {
        let found = NAMES.iter().find(|(code, _)| *code as u8 == number);
        found.map_or(Self::UNSPECIFIED, |(code, _)| Self(*code))
    }

    /// Of any of the names, as a list or an index may have them.
    pub(super) fn of_name(name: &str) -> Option<Self> {
        let found = NAMES
            .iter()
            .find(|(_, known)| known.eq_ignore_ascii_case(name));
        found.map(|(code, _)| Self(*code))
    }
}

impl FromStr for Reason {
    type Err = ReasonError;

    fn from_str(text: &str) -> Result<Self, ReasonError> {
        Self::of_name(text)
            .filter(|reason| OFFERED.contains(&reason.0))
            .ok_or_else(|| ReasonError {
                text: text.to_owned(),
            })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_have_the_standards_names() {
        let rows = [
            ("keyCompromise", Some(1)),
            ("keycompromise", Some(1)),
            ("superseded", Some(4)),
            ("privilegeWithdrawn", Some(9)),
            ("certificateHold", None),
            ("removeFromCRL", None),
            ("the disk was stolen", None),
            ("", None),
        ];
        for (text, wanted) in rows {
            let parsed: Option<Reason> = text.parse().ok();
            assert_eq!(parsed.map(|reason| reason.0 as u8), wanted, "{text}");
            if let Some(number) = wanted {
                assert_eq!(Some(Reason::of_number(number)), parsed);
            }
        }
        assert_eq!(Reason::of_number(7), Reason::UNSPECIFIED);
    }
}
