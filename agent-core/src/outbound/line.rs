//! The session with the verifier.

use crate::wire::push::{Authentication, Challenge, Code, Opened, PushError, Token};

/// Where the session stands.
#[derive(Default)]
pub(super) enum Line {
    /// There is none.
    #[default]
    Closed,
    /// The verifier wants proof.
    Challenged(Opened),
    /// The token counts.
    Live {
        /// It.
        token: Token,
        /// What the proof was about: receipts are bound to it.
        challenge: Challenge,
    },
}

impl Line {
    pub(super) fn token(&self) -> Option<&str> {
        match self {
            Self::Live { token, .. } => Some(token.as_str()),
            _ => None,
        }
    }

    pub(super) const fn challenge(&self) -> Option<&Challenge> {
        match self {
            Self::Live { challenge, .. } => Some(challenge),
            _ => None,
        }
    }

    pub(super) fn close(&mut self) {
        *self = Self::Closed;
    }

    /// Reads the answer to a request for a session.
    pub(super) fn opened(&mut self, body: &[u8]) -> Result<(), PushError> {
        *self = Self::Challenged(Opened::from_answer(body)?);
        Ok(())
    }

    /// Reads the answer to a proof: why it isn't taken, or nothing. Each challenge serves one proof.
    pub(super) fn proved(&mut self, body: &[u8]) -> Result<Option<Option<Code>>, PushError> {
        let Self::Challenged(opened) = core::mem::take(self) else {
            return Ok(None);
        };
        match Authentication::from_answer(body)? {
            Authentication::Failed(code) => Ok(Some(code)),
            Authentication::Token(token) => {
                *self = Self::Live {
                    token,
                    challenge: opened.challenge,
                };
                Ok(None)
            }
        }
    }
}
