//! Between the agent's values and the library's, each with its bounds.

use agent_core::wire::quote::{HashAlg, PcrMask};
use tss_esapi::Error as Code;
use tss_esapi::constants::response_code::Tss2ResponseCode;
use tss_esapi::handles::PcrHandle;
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::structures::{PcrSelectionList, PcrSlot, Public};
use tss_esapi::traits::Marshall;

use crate::tpm::commands::PublicArea;
use crate::tpm::value::bounded;
use crate::tpm::{Cause, ResponseCode, TpmError};

/// The library's value of these bytes; its types know their own bounds.
pub(super) fn taken<'a, T: TryFrom<&'a [u8]>>(
    what: &'static str,
    bytes: &'a [u8],
) -> Result<T, TpmError> {
    T::try_from(bytes).map_err(|_| TpmError::Malformed { what })
}

/// A marshalled `TPM2B_PUBLIC`.
pub(super) fn area(public: &Public) -> Result<PublicArea, TpmError> {
    const WHAT: &str = "TPM2B_PUBLIC";
    let malformed = || TpmError::Malformed { what: WHAT };
    let area = public.marshall().map_err(|_| malformed())?;
    let size = u16::try_from(area.len()).map_err(|_| malformed())?;
    bounded(WHAT, &[&size.to_be_bytes(), area.as_slice()].concat())
}

/// A marshalled value of the library's.
pub(super) fn marshalled<const N: usize>(
    what: &'static str,
    value: &impl Marshall,
) -> Result<heapless::Vec<u8, N>, TpmError> {
    let bytes = value.marshall().map_err(|_| TpmError::Malformed { what })?;
    bounded(what, &bytes)
}

pub(super) fn selection(bank: HashAlg, pcrs: PcrMask) -> Result<PcrSelectionList, TpmError> {
    let slots = pcrs
        .iter()
        .map(|pcr| PcrSlot::try_from(1u32 << (pcr & 31)))
        .collect::<Result<Vec<_>, _>>();
    slots
        .and_then(|slots| {
            PcrSelectionList::builder()
                .with_selection(hashing(bank), &slots)
                .build()
        })
        .map_err(|_| TpmError::Malformed {
            what: "the set of PCRs",
        })
}

pub(super) fn pcr_handle(pcr: u8) -> Result<PcrHandle, TpmError> {
    PcrHandle::try_from(u32::from(pcr)).map_err(|_| TpmError::Malformed {
        what: "the number of a PCR",
    })
}

/// The library's name of a hash.
pub(super) const fn hashing(alg: HashAlg) -> HashingAlgorithm {
    match alg {
        HashAlg::Sha256 => HashingAlgorithm::Sha256,
        HashAlg::Sha384 => HashingAlgorithm::Sha384,
        HashAlg::Sha512 => HashingAlgorithm::Sha512,
    }
}

/// Why the library refused.
pub(super) fn cause(code: Code) -> Cause {
    // The library has the number in private, and tells it only in a text that ends with it: "Response code value: 0x902".
    let text = match code {
        Code::Tss2Error(Tss2ResponseCode::FormatZero(rc)) => rc.to_string(),
        Code::Tss2Error(Tss2ResponseCode::FormatOne(rc)) => rc.to_string(),
        code => return Cause::Wrapper(code.to_string()),
    };
    let number = text.rsplit_once("0x").map(|(_, digits)| digits);
    match number.and_then(|digits| u32::from_str_radix(digits, 16).ok()) {
        Some(number) => Cause::Code(ResponseCode(number)),
        None => Cause::Wrapper(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_survive_the_library() {
        for number in [0x902, 0x9A2, 0x2D5, 0x921, 0x000A_000A, 0x000B_0902] {
            let code = Code::Tss2Error(number.into());
            assert_eq!(cause(code), Cause::Code(ResponseCode(number)), "{number:x}");
        }
    }
}
