//! What the example policy wants of single events and variables, without a memory of others.

use agent_core::wire::quote::Digest;

use super::{Digests, Key};
use crate::evidence::eventlog::{Event, Explained, Guid, LogHash, Signature, Variable};

/// Nothing, or why not.
pub(super) type Checked<T = ()> = Result<T, String>;

/// Where a signature was to be.
pub(super) const NO_SIGNATURE: &str = "there is no signature in it";

/// What the firmware may say it does, by PCR.
const ACTIONS: [(u32, &[&str]); 3] = [
    (1, &["Entering ROM Based Setup"]),
    (
        4,
        &[
            "Calling EFI Application from Boot Option",
            "Returning from EFI Application from Boot Option",
        ],
    ),
    (
        5,
        &[
            "Exit Boot Services Invocation",
            "Exit Boot Services Returned with Failure",
            "Exit Boot Services Returned with Success",
        ],
    ),
];

pub(super) fn same(what: &str, events: &[Event<'_>], wanted: &[(&str, &Digest)]) -> Checked {
    if events.len() != wanted.len() {
        let (have, want) = (events.len(), wanted.len());
        return Err(format!("{have} {what} instead of {want}"));
    }
    let mut pairs = events.iter().zip(wanted);
    let differs =
        pairs.find(|(event, (_, digest))| event.digest(LogHash::Sha256) != Some(digest.as_slice()));
    match differs {
        Some((event, (name, _))) => Err(format!("{event:?} is not {name}")),
        None => Ok(()),
    }
}

/// Whether the digest of the quoted bank is the listed one.
pub(super) fn holds(event: &Event<'_>, digests: &Digests) -> bool {
    let listed = digests.iter().find(|(hash, _)| *hash == LogHash::Sha256);
    listed.is_some_and(|(hash, digest)| event.digest(*hash) == Some(digest.as_slice()))
}

pub(super) fn variable<'a>(event: &Event<'a>) -> Checked<Variable<'a>> {
    match event.explained(LogHash::Sha256) {
        Some(Explained::Variable(variable)) => Ok(variable),
        _ => Err("the log doesn't have the variable that was measured".to_owned()),
    }
}

pub(super) fn secure_boot(variable: &Variable<'_>, wanted: bool) -> Checked {
    if variable.content == [u8::from(wanted)] {
        return Ok(());
    }
    let wanted = if wanted { "on" } else { "off" };
    Err(format!("has_secureboot wants Secure Boot {wanted}"))
}

/// Boot options: any content, which alone is measured.
pub(super) fn boot_option(event: &Event<'_>) -> Checked {
    let known = Variable::parse(event.data).is_some_and(|variable| {
        let name = variable.name();
        let number = name.strip_prefix("Boot").unwrap_or_default();
        let option = !number.is_empty() && number.bytes().all(|letter| letter.is_ascii_hexdigit());
        variable.owner == Guid::GLOBAL && (name == "BootOrder" || option)
    });
    if known {
        return Ok(());
    }
    Err("the example policy takes BootOrder and boot options only".to_owned())
}

pub(super) fn action(event: &Event<'_>) -> Checked {
    let allowed = ACTIONS.iter().find(|(pcr, _)| *pcr == event.pcr);
    let said = allowed.is_some_and(|(_, texts)| {
        let Some(Explained::Text(measured)) = event.explained(LogHash::Sha256) else {
            return false;
        };
        texts.contains(&measured.text().as_ref())
    });
    if said {
        return Ok(());
    }
    Err("the example policy doesn't know the action".to_owned())
}

pub(super) fn separator(event: &Event<'_>) -> Checked {
    match event.explained(LogHash::Sha256) {
        Some(Explained::Separator) => Ok(()),
        _ => Err("it is not that of a firmware without errors".to_owned()),
    }
}

/// What the log calls what was measured.
pub(super) fn label(event: &Event<'_>) -> String {
    let text = event.data.strip_suffix(&[0]).unwrap_or(event.data);
    String::from_utf8_lossy(text).into_owned()
}

fn signatures<'a>(variable: &Variable<'a>) -> Checked<Vec<Signature<'a>>> {
    let signatures = variable.signatures().collect::<Result<_, _>>();
    signatures.map_err(|_| "its content is no list of signatures".to_owned())
}

pub(super) fn listed(signature: &Signature<'_>, keys: &[Key]) -> Checked {
    if keys.iter().any(|key| key.is(signature)) {
        return Ok(());
    }
    Err(format!(
        "a signature of the owner {} is not in the reference state",
        signature.owner
    ))
}

pub(super) fn subset(variable: &Variable<'_>, keys: &[Key], kinds: &[Guid]) -> Checked {
    for signature in signatures(variable)? {
        if !kinds.contains(&signature.kind) {
            return Err(format!("it has signatures of the kind {}", signature.kind));
        }
        listed(&signature, keys)?;
    }
    Ok(())
}

/// Keylime wants one list of SHA-256 digests with all of these in it.
pub(super) fn superset(variable: &Variable<'_>, keys: &[Key]) -> Checked {
    let have = signatures(variable)?;
    if have.is_empty() {
        return Err("it is empty".to_owned());
    }
    if let Some(other) = have.iter().find(|signature| signature.kind != Guid::SHA256) {
        return Err(format!("it has signatures of the kind {}", other.kind));
    }
    let missing = keys
        .iter()
        .filter(|key| !have.iter().any(|signature| key.is(signature)));
    match missing.count() {
        0 => Ok(()),
        count => Err(format!(
            "{count} of the dbx of the reference state are not in it"
        )),
    }
}
