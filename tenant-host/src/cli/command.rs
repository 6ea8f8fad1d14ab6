//! The commands, by Keylime's names.

use super::UsageError;
use crate::policy::PolicyKind;

/// What the program does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Deliver to a node that the verifier doesn't have yet.
    Add,
    /// Deliver anew.
    Update,
    /// Take a node from the verifier.
    Delete,
    /// Show what registrar and verifier know.
    Status,
    /// Show what the verifier knows.
    VerifierStatus,
    /// Show what the registrar knows.
    RegistrarStatus,
    /// List the verifier's nodes.
    VerifierList,
    /// List the registrar's nodes.
    RegistrarList,
    /// Show what the verifier knows of all its nodes.
    BulkInfo,
    /// Take a node from the registrar.
    RegistrarDelete,
    /// Let the verifier attest a failed node again.
    Reactivate,
    /// Make and show the certificate that nodes of the push model pin.
    Signer,
    /// Seal anew for a node of the push model.
    Rotate,
    /// Accept a TPM that was cleared or replaced.
    Confirm,
    /// Revoke a node, and have its peers told.
    Revoke,
    /// Show revocation logs, and who has acted.
    Revocations,
    /// Work off what was noted for nodes that hadn't registered.
    Watch,
    /// Do something with a policy that the verifier keeps under a name.
    Policy(PolicyAction, PolicyKind),
}

/// What is done with a named policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyAction {
    /// Give the verifier one that it doesn't have yet.
    Add,
    /// Show it.
    Show,
    /// Replace it.
    Update,
    /// Take it from the verifier.
    Delete,
    /// List the names of all.
    List,
}

/// All commands; Keylime's order is kept, ours follow.
const COMMANDS: [(&str, Command); 27] = {
    use PolicyAction as Do;
    use PolicyKind::{MeasuredBoot, Runtime};
    [
        ("add", Command::Add),
        ("update", Command::Update),
        ("delete", Command::Delete),
        ("status", Command::Status),
        ("cvstatus", Command::VerifierStatus),
        ("regstatus", Command::RegistrarStatus),
        ("cvlist", Command::VerifierList),
        ("reglist", Command::RegistrarList),
        ("bulkinfo", Command::BulkInfo),
        ("regdelete", Command::RegistrarDelete),
        ("reactivate", Command::Reactivate),
        ("addruntimepolicy", Command::Policy(Do::Add, Runtime)),
        ("showruntimepolicy", Command::Policy(Do::Show, Runtime)),
        ("updateruntimepolicy", Command::Policy(Do::Update, Runtime)),
        ("deleteruntimepolicy", Command::Policy(Do::Delete, Runtime)),
        ("listruntimepolicy", Command::Policy(Do::List, Runtime)),
        ("addmbpolicy", Command::Policy(Do::Add, MeasuredBoot)),
        ("showmbpolicy", Command::Policy(Do::Show, MeasuredBoot)),
        ("updatembpolicy", Command::Policy(Do::Update, MeasuredBoot)),
        ("deletembpolicy", Command::Policy(Do::Delete, MeasuredBoot)),
        ("listmbpolicy", Command::Policy(Do::List, MeasuredBoot)),
        ("signer", Command::Signer),
        ("rotate", Command::Rotate),
        ("confirm", Command::Confirm),
        ("watch", Command::Watch),
        ("revoke", Command::Revoke),
        ("revocations", Command::Revocations),
    ]
};

impl Command {
    /// Keylime's names of the commands.
    pub fn names() -> impl Iterator<Item = &'static str> {
        COMMANDS.iter().map(|(name, _)| *name)
    }

    /// The command of a name.
    ///
    /// # Errors
    /// [`UsageError::UnknownCommand`].
    pub fn parse(name: &str) -> Result<Self, UsageError> {
        let found = COMMANDS.iter().find(|(known, _)| *known == name);
        found
            .map(|(_, command)| *command)
            .ok_or_else(|| UsageError::UnknownCommand {
                name: name.to_owned(),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_keylimes() {
        for (name, command) in COMMANDS {
            assert_eq!(Command::parse(name), Ok(command));
        }
        for name in ["ad", "", "addallowlist"] {
            let name = name.to_owned();
            let wanted = Err(UsageError::UnknownCommand { name: name.clone() });
            assert_eq!(Command::parse(&name), wanted);
        }
    }
}
