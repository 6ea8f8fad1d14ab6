//! One attestation: a key of its own for the release, bound to the quote through PCR 16.

use heapless::string::StringView;

use super::end::{End, Unusable};
use super::last_good::Shown;
use super::{Moment, Outbound, Stage};
use crate::payload::release::ReleaseKey;
use crate::secret::Secret;
use crate::tpm::quoting::{self, Quoted, Subject};
use crate::tpm::{OutboundTpm, name_of};
use crate::wire::push::{Capabilities, Chosen, Evidence, Proof, ReceiptMessage, Verdict};
use crate::wire::quote::{Digest, PcrMask};
use crate::wire::receipt::{MAX_RECEIPT_BYTES, Receipt};
use crate::wire::statement;

/// An attestation that the verifier has begun.
pub(super) struct Round {
    pub(super) chosen: Chosen,
    /// What V is to be sealed to, if a payload is wanted. It serves this round alone.
    pub(super) key: Option<ReleaseKey>,
    /// Whether the evidence may have come already.
    pub(super) resent: bool,
    pub(super) seconds_to_next: Option<u64>,
    pub(super) judged: bool,
    pub(super) verdict: Option<Verdict>,
    /// What its quote showed, if a copy may be kept.
    pub(super) shown: Option<Shown>,
}

impl Outbound {
    /// The body that says what this node can show.
    pub(super) fn write_capabilities<T: OutboundTpm>(
        &self,
        tpm: &T,
        body: &mut StringView,
    ) -> Option<()> {
        let ak_public = &tpm.identity().ak_public;
        let capabilities = Capabilities {
            ak_public,
            ak_name: &name_of(ak_public),
            sign: self.config.sign,
            hash: self.config.hash,
            boot_time: self.config.boot_time,
        };
        capabilities.write(body).ok()
    }

    /// The verifier has chosen: draws the key of this round.
    pub(super) fn begin_round<T: OutboundTpm>(
        &mut self,
        moment: &Moment<'_>,
        chosen: Chosen,
        tpm: &mut T,
    ) {
        if (chosen.sign, chosen.bank) != (self.config.sign, self.config.hash) {
            return self.bad_answer(moment, Unusable::Scheme);
        }
        self.pauses.accepted();
        let mut key = None;
        if self.wanted.is_some() {
            self.tries.attestations = self.tries.attestations.saturating_add(1);
            let mut random = Secret::zeroed();
            if let Err(error) = tpm.random(random.as_mut()) {
                return self.leave(End::Tpm(Receipt::reason(error)));
            }
            key = Some(ReleaseKey::from_random(moment.random, &random));
        }
        self.round = Some(Round {
            chosen,
            key,
            resent: false,
            seconds_to_next: None,
            judged: false,
            verdict: None,
            shown: None,
        });
        self.stage = Stage::Evidence;
    }

    /// The body that proves the AK.
    #[inline(never)]
    pub(super) fn write_proof<T: OutboundTpm>(
        &self,
        tpm: &mut T,
        body: &mut StringView,
    ) -> Result<(), End> {
        let super::Line::Challenged(opened) = &self.line else {
            return Err(End::Stopped);
        };
        let certified = tpm.certify_ak(&opened.challenge);
        let certified = certified.map_err(|error| End::Tpm(Receipt::reason(error)))?;
        let proof = Proof {
            agent: &self.config.agent,
            session: &opened.session,
            message: &certified.attest,
            signature: &certified.signature,
        };
        proof.write(body).map_err(|_| End::Stopped)
    }

    /// The body with this round's quote.
    #[inline(never)]
    pub(super) fn write_evidence<T: OutboundTpm>(
        &mut self,
        tpm: &mut T,
        body: &mut StringView,
    ) -> Result<(), End> {
        let round = self.round.as_ref().ok_or(End::Stopped)?;
        let (bank, challenge) = (round.chosen.bank, &round.chosen.challenge);
        let said = match &round.key {
            Some(key) => statement::release(bank, &self.config.agent, challenge, key.public()),
            None => statement::nothing(bank),
        };
        let pcrs = match &self.wanted {
            Some(wanted) => round.chosen.pcrs.with(wanted.manifest.cap.pcr),
            None => round.chosen.pcrs,
        };
        let mut quoted = Quoted::empty(bank);
        let subject = Subject {
            nonce: challenge,
            bank,
            pcrs,
            statement: &said,
        };
        evidence(tpm, &subject, &mut quoted)?
            .write(body)
            .map_err(|_| End::Stopped)?;
        if self.config.last_good
            && self.wanted.is_some()
            && let Some(round) = &mut self.round
        {
            round.shown = Shown::of(&quoted, pcrs);
        }
        Ok(())
    }

    /// The body with a receipt and its quote, about the session's challenge.
    #[inline(never)]
    pub(super) fn write_receipt<T: OutboundTpm>(
        &self,
        tpm: &mut T,
        body: &mut StringView,
    ) -> Result<(), End> {
        let (report, challenge) = self
            .report
            .as_ref()
            .zip(self.line.challenge())
            .ok_or(End::Stopped)?;
        let mut receipt = heapless::String::<MAX_RECEIPT_BYTES>::new();
        let written = report.receipt(&self.config.agent).write(&mut receipt);
        written.map_err(|_| End::Stopped)?;
        let receipt = receipt.as_bytes();
        let said: Digest = statement::receipt(report.bank, &self.config.agent, challenge, receipt);
        let mut quoted = Quoted::empty(report.bank);
        let subject = Subject {
            nonce: challenge,
            bank: report.bank,
            pcrs: PcrMask::EMPTY.with(report.cap_pcr),
            statement: &said,
        };
        let quote = evidence(tpm, &subject, &mut quoted)?;
        ReceiptMessage { receipt, quote }
            .write(body)
            .map_err(|_| End::Stopped)
    }
}

/// Quotes, into memory that is lent.
fn evidence<'q, T: OutboundTpm>(
    tpm: &mut T,
    subject: &Subject<'_>,
    quoted: &'q mut Quoted,
) -> Result<Evidence<'q>, End> {
    quoting::quote(tpm, subject, quoted).map_err(|error| End::Tpm(Receipt::reason(error)))?;
    Ok(Evidence {
        message: &quoted.quote.attest,
        signature: &quoted.quote.signature,
        dump: &quoted.dump,
    })
}
