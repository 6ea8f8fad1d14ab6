//! Commands as bytes, and answers as what was asked for.

use tpm2_protocol::basic::{Tpm2b, TpmHandle};
use tpm2_protocol::data::{TpmCc, TpmSt, TpmsAuthCommand};
use tpm2_protocol::frame::{
    TpmFrame, TpmHeader, TpmResponse, TpmUnmarshalBody, tpm_marshal_command,
};
use tpm2_protocol::{TpmResult, TpmUnmarshal, TpmWriter};

use agent_core::tpm::MAX_PUBLIC_BYTES;

use super::transport::HEADER_BYTES;
use crate::tpm::{Cause, ResponseCode, TpmError};

/// Writes a command and returns its length.
///
/// # Errors
/// [`TpmError::Malformed`] if it has no room in the buffer.
pub(super) fn write<C: TpmFrame>(
    name: &'static str,
    command: &C,
    sessions: &[TpmsAuthCommand],
    buffer: &mut [u8],
) -> Result<usize, TpmError> {
    let mut writer = TpmWriter::new(buffer);
    let tag = tag(sessions.is_empty());
    tpm_marshal_command(command, tag, sessions, &mut writer)
        .map_err(|_| TpmError::Malformed { what: name })?;
    Ok(writer.len())
}

/// The response code of an answer, or `None` if it is too short to have one.
///
/// It is read before anything else, and by hand: makers have codes of their own, which tpm2-protocol takes for malformed
/// answers.
///
/// Source: TPM 2.0 Library part 1, section 18.
pub(super) fn code(answer: &[u8]) -> Option<Result<(), Cause>> {
    match *answer.first_chunk::<HEADER_BYTES>()? {
        [.., 0, 0, 0, 0] => Some(Ok(())),
        [.., a, b, c, d] => {
            let code = u32::from_be_bytes([a, b, c, d]);
            Some(Err(Cause::Code(ResponseCode(code))))
        }
    }
}

/// A successful answer: its parts, lent from the buffer that is wiped after use.
pub(super) struct Answer<'a> {
    name: &'static str,
    handles: &'a [u8],
    parameters: &'a [u8],
}

impl<'a> Answer<'a> {
    /// Takes the answer to a command apart: header, handles, parameters and sessions have exactly the lengths that they
    /// say, and nothing follows.
    ///
    /// # Errors
    /// [`TpmError::Malformed`].
    ///
    /// Source: TPM 2.0 Library part 1, section 18.
    pub(super) fn of<C: TpmHeader>(
        name: &'static str,
        is_without_sessions: bool,
        handles: usize,
        answer: &'a [u8],
    ) -> Result<Self, TpmError> {
        Self::parse(name, C::CC, is_without_sessions, handles, answer)
            .ok_or(TpmError::Malformed { what: name })
    }

    fn parse(
        name: &'static str,
        cc: TpmCc,
        is_without_sessions: bool,
        handles: usize,
        answer: &'a [u8],
    ) -> Option<Self> {
        let response = TpmResponse::cast(answer).ok()?;
        response.validate(cc).ok()?;
        if response.tag().ok()? != tag(is_without_sessions) {
            return None;
        }
        let body = answer.get(HEADER_BYTES..)?;
        let (handles, rest) = body.split_at_checked(handles.checked_mul(4)?)?;
        let parameters = if is_without_sessions {
            rest
        } else {
            let (len, rest) = rest.split_first_chunk()?;
            rest.get(..usize::try_from(u32::from_be_bytes(*len)).ok()?)?
        };
        Some(Self {
            name,
            handles,
            parameters,
        })
    }

    /// All of it, as the structure of that answer.
    ///
    /// # Errors
    /// [`TpmError::Malformed`].
    pub(super) fn read<R: TpmUnmarshalBody>(&self) -> Result<R, TpmError> {
        self.well(R::unmarshal_body(self.handles, self.parameters))
    }

    /// The one handle.
    ///
    /// # Errors
    /// [`TpmError::Malformed`].
    pub(super) fn handle(&self) -> Result<u32, TpmError> {
        match self.well(TpmHandle::unmarshal(self.handles))? {
            (handle, []) => Ok(handle.value()),
            _ => Err(self.malformed()),
        }
    }

    /// The parameters as they are.
    pub(super) fn parameters(&self) -> &'a [u8] {
        self.parameters
    }

    /// The contents of the one TPM2B that is there, at most `N` bytes, lent and not copied: it may be a secret.
    ///
    /// # Errors
    /// [`TpmError::Malformed`].
    pub(super) fn sized<const N: usize>(&self) -> Result<&'a [u8], TpmError> {
        self.well(Tpm2b::<N>::cast(self.parameters))
            .map(Tpm2b::data)
    }

    /// The TPM2B at the start, size included, and what follows it.
    ///
    /// # Errors
    /// [`TpmError::Malformed`].
    pub(super) fn first_sized<const N: usize>(&self) -> Result<(&'a Tpm2b<N>, &'a [u8]), TpmError> {
        self.well(Tpm2b::<N>::cast_prefix(self.parameters))
    }

    /// The contents of the TPM2B at the start of the rest of an answer that was read whole.
    ///
    /// # Errors
    /// [`TpmError::Malformed`].
    pub(super) fn contents_of(what: &'static str, rest: &'a [u8]) -> Result<&'a [u8], TpmError> {
        Tpm2b::<MAX_PUBLIC_BYTES>::cast_prefix(rest)
            .map(|(sized, _)| sized.data())
            .map_err(|_| TpmError::Malformed { what })
    }

    fn well<T>(&self, result: TpmResult<T>) -> Result<T, TpmError> {
        result.map_err(|_| self.malformed())
    }

    fn malformed(&self) -> TpmError {
        TpmError::Malformed { what: self.name }
    }
}

const fn tag(is_without_sessions: bool) -> TpmSt {
    if is_without_sessions {
        TpmSt::NoSessions
    } else {
        TpmSt::Sessions
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use tpm2_protocol::frame::{TpmHmacCommand, TpmHmacResponse};

    use super::*;

    /// An answer with these parameters and the session that a password command's has.
    fn answer(parameters: &[u8], trailing: &[u8]) -> Vec<u8> {
        let session = [0, 0, 1, 0, 0];
        let len = u8::try_from(10 + 4 + parameters.len() + session.len() + trailing.len()).unwrap();
        let parameter_len = u8::try_from(parameters.len()).unwrap();
        [
            &[0x80, 0x02, 0, 0, 0, len, 0, 0, 0, 0, 0, 0, 0, parameter_len],
            parameters,
            &session,
            trailing,
        ]
        .concat()
    }

    #[test]
    fn answers() {
        let good = answer(&[0, 2, 7, 7], &[]);
        type Row = (&'static str, Vec<u8>, Option<&'static [u8]>);
        let rows: [Row; 9] = [
            ("good", good.clone(), Some(&[7, 7])),
            ("cut", good[..good.len() - 1].to_vec(), None),
            ("longer than it says", [&good[..], &[0]].concat(), None),
            ("trailing bytes", answer(&[0, 2, 7, 7], &[0]), None),
            ("a parameter too many", answer(&[0, 2, 7, 7, 7], &[]), None),
            ("a short parameter", answer(&[0, 2, 7], &[]), None),
            ("no parameter", answer(&[], &[]), None),
            ("empty", Vec::new(), None),
            (
                "no sessions",
                {
                    let mut other = good.clone();
                    other[1] = 1;
                    other
                },
                None,
            ),
        ];
        for (name, bytes, wanted) in rows {
            let read =
                Answer::of::<TpmHmacCommand>("TPM2_HMAC", false, 0, &bytes).and_then(|answer| {
                    answer.read::<TpmHmacResponse>()?;
                    answer.sized::<32>().map(<[u8]>::to_vec)
                });
            assert_eq!(read.ok().as_deref(), wanted, "{name}");
        }
    }

    /// Answers with a few changes at random, always the same ones: none panics, none is read past its end, and what is read is
    /// part of the answer.
    #[test]
    fn changed_answers() {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut below = |limit: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state >> 33).unwrap() % limit
        };
        let seeds = [
            answer(&[0, 2, 7, 7], &[]),
            answer(&[0, 0], &[]),
            answer(&[7; 64], &[]),
            vec![0x80, 1, 0, 0, 0, 14, 0, 0, 0, 0, 0, 2, 7, 7],
            vec![0x80, 1, 0, 0, 0, 10, 0, 0, 1, 1],
        ];
        let mut read = [0; 2];
        for round in 0..50_000 {
            let mut bytes = seeds[round % seeds.len()].clone();
            for _ in 0..below(4) {
                let at = below(bytes.len());
                let byte = [0, 1, 2, 0x7F, 0x80, 0xFF][below(6)];
                match below(4) {
                    0 => bytes[at] = byte,
                    1 => bytes[at] ^= 1 << below(8),
                    2 => bytes.insert(at, byte),
                    _ => bytes.truncate(at + 1),
                }
            }
            assert_eq!(code(&bytes).is_some(), bytes.len() >= HEADER_BYTES);
            for (is_without_sessions, handles) in [(false, 0), (true, 0), (false, 1), (true, 3)] {
                let answer =
                    Answer::of::<TpmHmacCommand>("TPM2_HMAC", is_without_sessions, handles, &bytes);
                let Ok(answer) = answer else { continue };
                // Handles and parameters lie in the answer, behind its header and without each other.
                let len = HEADER_BYTES + answer.handles.len() + answer.parameters.len();
                assert!(len <= bytes.len(), "{bytes:02x?}");
                assert_eq!(answer.handles.len(), 4 * handles);
                read[0] += 1;
                let _ = answer.handle();
                let _ = answer.first_sized::<32>();
                if let Ok(sized) = answer.sized::<32>() {
                    assert!(sized.len() <= 32 && sized.len() + 2 == answer.parameters.len());
                }
                if answer.read::<TpmHmacResponse>().is_ok() {
                    read[1] += 1;
                }
            }
        }
        // Changes that are too wild would try the first check only.
        assert!(read.iter().all(|count| *count > 5_000), "{read:?}");
    }

    #[test]
    fn codes() {
        type Row = (&'static [u8], Option<Result<(), u32>>);
        let rows: [Row; 4] = [
            (&[0x80, 1, 0, 0, 0, 10, 0, 0, 0, 0], Some(Ok(()))),
            (&[0x80, 1, 0, 0, 0, 10, 0, 0, 9, 2], Some(Err(0x902))),
            (&[0x80, 1, 0, 0, 0, 10, 0, 0, 5, 0xFF], Some(Err(0x5FF))),
            (&[0x80, 1, 0, 0, 0, 10, 0, 0, 5], None),
        ];
        for (bytes, wanted) in rows {
            let wanted = wanted.map(|code| code.map_err(|code| Cause::Code(ResponseCode(code))));
            assert_eq!(code(bytes), wanted, "{bytes:02x?}");
        }
    }
}
