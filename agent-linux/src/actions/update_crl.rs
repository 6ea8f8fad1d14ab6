//! The action that is built in: an entry's revocation list takes the place of an older one.

use std::time::Instant;

use agent_core::wire::json::Value;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Actions;
use crate::crl::{ListError, Offered};
use crate::job::{End, Ended};

/// Its name.
///
/// Source: `agent-core/docs/revocation.md`.
pub const UPDATE_CRL: &str = "update-crl";

/// Whether a message brings a list.
pub(super) fn is_wanted(message: &str) -> bool {
    member(message, LIST).is_some_and(|list| !list.is_null())
}

/// Runs it: exit code 0 when no place has an older list; what it says otherwise is in the log, too.
pub(super) fn run(actions: &Actions<'_>, message: &str) -> Ended {
    let began = Instant::now();
    let done = offered(message).and_then(|offered| {
        let rules = &actions.rules.lists;
        rules.update(actions.payload, &offered)
    });
    let (code, text) = match done {
        Ok(0) => {
            log::info!("{UPDATE_CRL}: the lists in place are as new");
            (0, String::new())
        }
        Ok(count) => {
            log::info!("{UPDATE_CRL}: {count} files have the new list");
            (0, String::new())
        }
        Err(error) => {
            log::error!("{UPDATE_CRL}: {error}");
            (error.code(), error.to_string())
        }
    };
    Ended {
        end: End::Exit(code),
        duration: began.elapsed(),
        tail: text.into_bytes().into(),
        left_behind: 0,
    }
}

fn offered(message: &str) -> Result<Offered, ListError> {
    let list = bytes(message, LIST).ok_or(ListError::Malformed("the entry's list"))?;
    let signer = match member(message, SIGNER).filter(|signer| !signer.is_null()) {
        None => None,
        Some(_) => Some(bytes(message, SIGNER).ok_or(ListError::Malformed("crl_issuer"))?),
    };
    Ok(Offered { list, signer })
}

fn member<'a>(message: &'a str, name: &str) -> Option<Value<'a>> {
    Value::parse(message.as_bytes()).ok()?.member(name)
}

fn bytes(message: &str, name: &str) -> Option<Vec<u8>> {
    let text = member(message, name)?.text()?;
    let mut bytes = vec![0; text.len()];
    let length = STANDARD.decode_slice(text, &mut bytes).ok()?;
    bytes.truncate(length);
    Some(bytes)
}

const LIST: &str = "crl";
const SIGNER: &str = "crl_issuer";
