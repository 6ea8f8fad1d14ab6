//! What an answer means for what comes next: by the request that it is for, and its status.

use super::deposit::{Fault, Verify};
use super::end::{End, Refusal, Unusable, Why};
use super::pace::Moment;
use super::{
    Asked, MAX_ATTESTATIONS, MAX_LOGINS, MAX_MANIFESTS, MAX_RECEIPTS, Mode, Outbound, Stage,
};
use crate::http::Answer;
use crate::tpm::OutboundTpm;
use crate::wire::push::{
    Accepted, Chosen, Code, Evaluation, Failure, Verdict, released_from_answer,
};

impl Outbound {
    pub(super) fn lost(&mut self, moment: &Moment<'_>) {
        match self.asked {
            Asked::Nothing => return,
            Asked::Session | Asked::Proof => self.line.close(),
            // The verifier may have it all the same.
            Asked::Evidence => {
                if let Some(round) = &mut self.round {
                    round.resent = true;
                }
            }
            Asked::Verdict => return self.judge(None),
            Asked::Receipt => return self.receipt_sent(),
            _ => {}
        }
        self.pauses.back_off(moment, Why::Unreachable);
    }

    pub(super) fn succeeded<T: OutboundTpm>(
        &mut self,
        moment: &Moment<'_>,
        answer: &Answer<'_>,
        verify: &impl Verify,
        tpm: &mut T,
    ) {
        if !matches!(self.asked, Asked::Session | Asked::Proof) {
            self.tries.logins = 0;
        }
        match self.asked {
            Asked::Nothing | Asked::Fetch => {}
            Asked::Session => match self.line.opened(answer.body) {
                Ok(()) => self.pauses.succeed(),
                Err(error) => self.bad_answer(moment, error.into()),
            },
            Asked::Proof => self.proved(moment, answer.body),
            Asked::Manifest => self.take_deposit(moment, answer.body, verify, tpm),
            Asked::Offer => self.take_choice(moment, answer, tpm),
            Asked::Evidence => self.evidence_taken(Accepted::from_answer(answer.body)),
            Asked::Verdict => self.judge(Verdict::from_answer(answer.body).ok()),
            Asked::Release => self.take_v(moment, answer.body),
            Asked::Receipt => self.receipt_sent(),
        }
    }

    /// Its values are large, and nobody else needs room for them.
    #[inline(never)]
    fn take_choice<T: OutboundTpm>(
        &mut self,
        moment: &Moment<'_>,
        answer: &Answer<'_>,
        tpm: &mut T,
    ) {
        match Chosen::from_answer(answer.location, answer.body) {
            Ok(chosen) => self.begin_round(moment, chosen, tpm),
            Err(error) => self.bad_answer(moment, error.into()),
        }
    }

    /// Handles an answer that isn't the wanted one.
    pub(super) fn failed(
        &mut self,
        moment: &Moment<'_>,
        failure: &Failure,
        retry_after: Option<u64>,
    ) {
        let (asked, status) = (self.asked, failure.status);
        self.heed(failure.code);
        match (asked, status) {
            (Asked::Nothing, _) => {}
            (Asked::Receipt, 401) if self.tries.receipts < MAX_RECEIPTS => self.line.close(),
            (Asked::Receipt, _) => self.receipt_sent(),
            (Asked::Verdict, 503) => self.pauses.wait_for(moment, retry_after, Why::Busy),
            (Asked::Verdict, _) => self.judge(None),
            (Asked::Session, 404) => self.bad_status(moment, failure),
            (Asked::Proof, 404) => {
                self.line.close();
                self.pauses.back_off(moment, Why::Busy);
            }
            (Asked::Session | Asked::Proof, 401 | 403) => {
                self.line.close();
                self.refuse(moment, failure);
            }
            (_, 401) => self.log_in_again(moment, failure),
            (_, 429) => self.pauses.wait_for(moment, retry_after, Why::TooEarly),
            (_, 503) => self.pauses.wait_for(moment, retry_after, Why::Busy),
            (_, 409) => self.pauses.back_off(moment, Why::Busy),
            (_, 500..) => self.pauses.back_off(moment, Why::ServerError { status }),
            (Asked::Manifest, _) => self.no_deposit(moment, failure),
            (Asked::Fetch, 404) => self.read_manifest_again(moment, failure),
            (Asked::Offer, 404) => self.pauses.back_off(moment, Why::NotEnrolled),
            (Asked::Offer, 403) => self.refuse(moment, failure),
            (Asked::Evidence, 403) => self.evidence_refused(moment, failure),
            (Asked::Evidence, 404) => self.attest_again(moment, failure),
            (Asked::Release, 403 | 404) => self.not_released(moment, failure),
            _ => self.bad_status(moment, failure),
        }
    }

    /// The token doesn't count any more: another session, a bounded number of times.
    fn log_in_again(&mut self, moment: &Moment<'_>, failure: &Failure) {
        self.line.close();
        self.tries.logins = self.tries.logins.saturating_add(1);
        if self.tries.logins > MAX_LOGINS {
            self.tries.logins = 0;
            return self.leave(End::Refused(Refusal::of(failure)));
        }
        if self.tries.logins > 1 {
            self.pauses.back_off(moment, Why::Refused);
        }
        // What is attested counts in its session alone.
        if matches!(
            self.stage,
            Stage::Evidence | Stage::Verdict | Stage::Release
        ) {
            self.attest_again(moment, failure);
        }
    }

    fn read_manifest_again(&mut self, moment: &Moment<'_>, failure: &Failure) {
        self.forget_keys();
        self.wanted = None;
        self.tries.manifests = self.tries.manifests.saturating_add(1);
        if self.tries.manifests > MAX_MANIFESTS {
            return self.leave(End::Refused(Refusal::of(failure)));
        }
        if self.tries.manifests > 1 {
            self.pauses.back_off(moment, Why::NoPayload);
        }
        self.stage = Stage::Manifest;
    }

    /// Another attestation, with another key; a bounded number of times for one payload.
    fn attest_again(&mut self, moment: &Moment<'_>, failure: &Failure) {
        self.forget_keys();
        if self.wanted.is_some() && self.tries.attestations >= MAX_ATTESTATIONS {
            return self.leave(End::Refused(Refusal::of(failure)));
        }
        // The first time at once.
        if self.tries.attestations != 1 {
            self.pauses.back_off(moment, Why::Busy);
        }
        self.stage = Stage::Offer;
    }

    fn evidence_refused(&mut self, moment: &Moment<'_>, failure: &Failure) {
        match &self.round {
            // It had come before its answer was lost.
            Some(round) if round.resent && self.wanted.is_some() => self.stage = Stage::Release,
            _ => self.attest_again(moment, failure),
        }
    }

    fn evidence_taken(&mut self, accepted: Accepted) {
        self.pauses.succeed();
        if let Some(round) = &mut self.round {
            round.seconds_to_next = accepted.seconds_to_next;
        }
        self.stage = if self.wanted.is_some() {
            Stage::Release
        } else {
            Stage::Verdict
        };
    }

    /// The verdict on an attestation without a payload is there, or can't be had.
    fn judge(&mut self, verdict: Option<Verdict>) {
        if let Some(round) = &mut self.round {
            round.judged = true;
            round.verdict = verdict.filter(|verdict| verdict.evaluation != Evaluation::Pending);
        }
    }

    fn not_released(&mut self, moment: &Moment<'_>, failure: &Failure) {
        match failure.code {
            Code::UnknownPayload | Code::NoPayload => self.read_manifest_again(moment, failure),
            Code::NotFresh => self.attest_again(moment, failure),
            _ => self.leave(End::Refused(Refusal::of(failure))),
        }
    }

    fn take_v(&mut self, moment: &Moment<'_>, body: &[u8]) {
        let released = match released_from_answer(body) {
            Ok(released) => released,
            Err(error) => return self.bad_answer(moment, error.into()),
        };
        let v = match (&self.wanted, &mut self.round) {
            (Some(wanted), Some(round)) => wanted.unwrap_v(&self.config.agent, round, released),
            _ => Err(Fault::V),
        };
        self.pauses.succeed();
        self.copies.passed(self.round.as_mut());
        // The key has served: the round is over, whatever came out.
        self.round = None;
        match v {
            Ok(v) => {
                self.v = Some(v);
                self.stage = Stage::Open;
            }
            Err(fault) => self.leave(End::BadPayload(fault)),
        }
    }

    /// A verifier that refuses this node: the end for one that wants its payload, a pause for one that goes on attesting.
    fn refuse(&mut self, moment: &Moment<'_>, failure: &Failure) {
        match self.config.mode {
            Mode::Provision => self.leave(End::Refused(Refusal::of(failure))),
            Mode::Push => self.pauses.back_off(moment, Why::Refused),
        }
    }

    pub(super) fn bad_answer(&mut self, moment: &Moment<'_>, error: Unusable) {
        match self.config.mode {
            Mode::Provision => self.leave(End::Verifier(error)),
            Mode::Push => self.pauses.back_off(moment, Why::Unusable(error)),
        }
        if matches!(self.asked, Asked::Session | Asked::Proof) {
            self.line.close();
        }
    }

    fn bad_status(&mut self, moment: &Moment<'_>, failure: &Failure) {
        let status = failure.status;
        self.bad_answer(moment, Unusable::Status(status));
    }

    fn proved(&mut self, moment: &Moment<'_>, body: &[u8]) {
        match self.line.proved(body) {
            Ok(None) => self.pauses.succeed(),
            Ok(Some(Some(Code::NotRegistered))) => {
                self.heed(Code::NotRegistered);
                if self.tries.registrations > 0 {
                    self.pauses.back_off(moment, Why::NotRegistered);
                }
                self.tries.registrations = self.tries.registrations.saturating_add(1);
                self.register = true;
            }
            // A verifier of Keylime doesn't say why.
            Ok(Some(code)) => {
                self.heed(code.unwrap_or(Code::Other));
                self.pauses.back_off(moment, Why::NotEnrolled);
            }
            Err(error) => self.bad_answer(moment, error.into()),
        }
    }
}
