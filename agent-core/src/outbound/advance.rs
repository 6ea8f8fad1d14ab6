//! The next request or duty of each stage.

use core::fmt::Write;

use heapless::string::StringView;

use super::end::{End, Why};
use super::pace::Moment;
use super::step::Advance;
use super::{Asked, Line, MAX_RECEIPTS, Mode, Outbound, Stage, Wanted};
use crate::http::emit::{Media, Verb};
use crate::tpm::OutboundTpm;
use crate::wire::push::SessionRequest;
use crate::wire::receipt::Receipt;

impl Outbound {
    pub(super) fn advance<T: OutboundTpm>(
        &mut self,
        moment: &Moment<'_>,
        tpm: &mut T,
        body: &mut StringView,
    ) -> Advance {
        // Every turn but the last changes the stage for a later one, or ends in `Leave`.
        for _ in 0..MAX_TURNS {
            if let Some(step) = self.turn(moment, tpm, body) {
                return step;
            }
        }
        Advance::Wait(self.config.pace.first_ms, Why::Busy)
    }

    /// One stage: its step, or none where another stage follows at once.
    fn turn<T: OutboundTpm>(
        &mut self,
        moment: &Moment<'_>,
        tpm: &mut T,
        body: &mut StringView,
    ) -> Option<Advance> {
        if let Some(why) = self.copies.take_forget() {
            return Some(Advance::Forget(why));
        }
        if let Some(why) = self.copies.take_refused() {
            return Some(Advance::NoCopy(why));
        }
        if self.news.take_due() && self.may_catch_up() {
            return Some(Advance::CatchUp);
        }
        if let Some((left, why)) = self.pauses.left(moment.now) {
            return Some(Advance::Wait(left, why));
        }
        if self.register {
            return Some(Advance::Register);
        }
        match self.stage {
            Stage::Open => return self.turn_open(moment, tpm),
            Stage::Reread => return Some(Advance::Reread),
            Stage::Recall => return self.turn_recall(tpm),
            Stage::Unpacking | Stage::Running => {
                self.leave(End::Stopped);
                return None;
            }
            Stage::Landed => return self.turn_landed(tpm),
            Stage::Run => {
                self.stage = Stage::Running;
                return Some(Advance::Run);
            }
            Stage::Leave => return self.turn_leave(moment, tpm, body),
            Stage::Unpacked if self.line.token().is_none() => {
                // The script doesn't wait for a new session.
                self.stage = Stage::Run;
                return None;
            }
            Stage::Verdict if self.round.as_ref().is_none_or(|round| round.judged) => {
                return Some(self.turn_judged(moment));
            }
            Stage::Manifest if self.skips_deposits() => {
                self.stage = Stage::Offer;
                return None;
            }
            _ => {}
        }
        if self.line.token().is_none() {
            return self.log_in(tpm, body);
        }
        self.ask(tpm, body)
    }

    /// Whether no payload is to be had: none that is signed by anybody known, or this boot's chance is over.
    fn skips_deposits(&self) -> bool {
        self.config.mode == Mode::Push && (self.spent || self.config.signers.is_empty())
    }

    fn log_in<T: OutboundTpm>(&mut self, tpm: &mut T, body: &mut StringView) -> Option<Advance> {
        if let Line::Challenged(opened) = &self.line {
            self.path.clear();
            let written = write!(self.path, "/v3.0/sessions/{}", opened.session);
            let proof = self.write_proof(tpm, body);
            if let (Ok(()), Ok(())) = (written, &proof) {
                self.asked = Asked::Proof;
                return Some(Advance::Send(Verb::Patch, Media::Json));
            }
            self.line.close();
            self.leave(proof.err().unwrap_or(End::Stopped));
            return None;
        }
        self.path.clear();
        let agent = &self.config.agent;
        let written = self.path.push_str("/v3.0/sessions").is_ok()
            && SessionRequest { agent }.write(body).is_ok();
        if !written {
            self.leave(End::Stopped);
            return None;
        }
        self.asked = Asked::Session;
        Some(Advance::Send(Verb::Post, Media::Json))
    }

    /// The request of a stage that has a token.
    fn ask<T: OutboundTpm>(&mut self, tpm: &mut T, body: &mut StringView) -> Option<Advance> {
        let asked = match self.stage {
            Stage::Manifest => self.send(Asked::Manifest, Verb::Get, "payload"),
            Stage::Fetch => self.fetch(),
            Stage::Offer => self
                .write_capabilities(tpm, body)
                .ok_or(End::Stopped)
                .and_then(|()| self.send(Asked::Offer, Verb::Post, "attestations")),
            Stage::Evidence => self
                .write_evidence(tpm, body)
                .and_then(|()| self.send_on_round(Asked::Evidence, Verb::Patch)),
            Stage::Verdict => self.send_on_round(Asked::Verdict, Verb::Get),
            Stage::Release => self
                .ask_release(body)
                .ok_or(End::Stopped)
                .and_then(|()| self.send(Asked::Release, Verb::Post, "payload/release")),
            _ => self
                .write_receipt(tpm, body)
                .and_then(|()| self.send(Asked::Receipt, Verb::Post, "payload/receipt")),
        };
        match asked {
            Ok(step) => Some(step),
            Err(_) if self.stage == Stage::Unpacked => {
                self.receipt_sent();
                None
            }
            Err(end) => {
                self.leave(end);
                None
            }
        }
    }

    fn send(&mut self, asked: Asked, verb: Verb, what: &str) -> Result<Advance, End> {
        self.path.clear();
        let agent = &self.config.agent;
        write!(self.path, "/v3.0/agents/{agent}/{what}").map_err(|_| End::Stopped)?;
        self.asked = asked;
        let media = match asked {
            Asked::Offer | Asked::Evidence | Asked::Verdict => Media::JsonApi,
            _ => Media::Json,
        };
        Ok(Advance::Send(verb, media))
    }

    fn send_on_round(&mut self, asked: Asked, verb: Verb) -> Result<Advance, End> {
        let round = self.round.as_ref().ok_or(End::Stopped)?;
        let number = round.chosen.attestation;
        let step = self.send(asked, verb, "attestations/")?;
        write!(self.path, "{number}").map_err(|_| End::Stopped)?;
        Ok(step)
    }

    fn fetch(&mut self) -> Result<Advance, End> {
        let wanted = self.wanted.as_ref().ok_or(End::Stopped)?;
        let id = wanted.manifest.payload_id;
        self.send(Asked::Fetch, Verb::Get, "payload/")?;
        write!(self.path, "{id}/sealed").map_err(|_| End::Stopped)?;
        Ok(Advance::Fetch)
    }

    fn turn_open<T: OutboundTpm>(&mut self, moment: &Moment<'_>, tpm: &mut T) -> Option<Advance> {
        match self.open(tpm) {
            Ok(key) => {
                self.keep(&key, moment, tpm);
                Some(Advance::Unpack(key))
            }
            Err(end) => {
                self.leave(end);
                None
            }
        }
    }

    fn turn_recall<T: OutboundTpm>(&mut self, tpm: &mut T) -> Option<Advance> {
        match self.recall(tpm) {
            Ok(key) => {
                self.stage = Stage::Unpacking;
                Some(Advance::Unpack(key))
            }
            Err(why) => {
                self.refuse_copy(why);
                None
            }
        }
    }

    /// The files are in place: the boot is capped before anything of them runs.
    fn turn_landed<T: OutboundTpm>(&mut self, tpm: &mut T) -> Option<Advance> {
        if let Err(error) = self.cap(tpm) {
            self.leave(End::NotCapped(Receipt::reason(error)));
            return None;
        }
        if self.copies.take_made() {
            return Some(Advance::Keep);
        }
        if self.wanted.as_ref().and_then(Wanted::script).is_some() {
            self.stage = Stage::Unpacked;
        } else {
            self.reach(crate::wire::receipt::Reached::Finished);
            self.leave(End::Finished);
        }
        None
    }

    /// The way out: the cap, the last receipt, the revocations since, the end.
    fn turn_leave<T: OutboundTpm>(
        &mut self,
        moment: &Moment<'_>,
        tpm: &mut T,
        body: &mut StringView,
    ) -> Option<Advance> {
        if let Err(error) = self.cap(tpm)
            && self.tries.receipts == 0
        {
            // It is still owed: whoever reads this end has to see to it.
            self.end = Some(End::NotCapped(Receipt::reason(error)));
        }
        if self.report.is_some() && self.tries.receipts < MAX_RECEIPTS {
            let step = if self.line.token().is_some() {
                self.write_receipt(tpm, body)
                    .and_then(|()| self.send(Asked::Receipt, Verb::Post, "payload/receipt"))
                    .ok()
            } else {
                None
            };
            self.tries.receipts = self.tries.receipts.saturating_add(1);
            if step.is_some() {
                return step;
            }
        }
        if self.catches_up_at_end() {
            return Some(Advance::CatchUp);
        }
        self.report = None;
        self.wanted = None;
        let end = self.end.take().unwrap_or(End::Stopped);
        if self.config.mode == Mode::Provision {
            // Asked again, it says the same.
            self.end = Some(end.clone());
            return Some(Advance::Done(end));
        }
        self.pauses.back_off(moment, Why::NextRound);
        self.stage = Stage::Offer;
        Some(Advance::Report(end))
    }

    /// A round without a payload is over; the next one begins in its time.
    fn turn_judged(&mut self, moment: &Moment<'_>) -> Advance {
        let Some(round) = self.round.take() else {
            self.stage = Stage::Manifest;
            return Advance::Wait(0, Why::NextRound);
        };
        let seconds = round.seconds_to_next.unwrap_or(DEFAULT_ROUND_SECONDS);
        self.pauses.wait_for(moment, Some(seconds), Why::NextRound);
        self.stage = Stage::Manifest;
        self.news.judged(moment);
        Advance::Attested(round.chosen.attestation, round.verdict)
    }

    /// The receipt was taken, or won't be.
    pub(super) fn receipt_sent(&mut self) {
        match self.stage {
            Stage::Unpacked => self.stage = Stage::Run,
            _ => self.tries.receipts = MAX_RECEIPTS,
        }
    }
}

/// Stages that follow each other without a step between.
const MAX_TURNS: u32 = 8;
/// Where a verifier doesn't say when the next attestation is due.
const DEFAULT_ROUND_SECONDS: u64 = 60;
