//! The last good copy: what a node goes by while it can't reach its verifier, if its tenant allows that.
//!
//! K is sealed by the TPM to the PCRs of the quote that passed and to the uncapped cap PCR. A copy is tried only while nothing
//! but lost links has come of the verifier, is checked as a fresh deposit is, and has an age limit. What the verifier says
//! against a node takes its copy away.

mod head;
mod why;

use super::attesting::Round;
use super::deposit::check;
use super::{Mode, Moment, Outbound, Stage, Verify};
use crate::payload::halves::Key;
use crate::secret::Secret;
use crate::tpm::quoting::Quoted;
use crate::tpm::{MAX_KEPT_BYTES, OutboundTpm, Tpm};
use crate::wire::manifest::{Deliver, Manifest};
use crate::wire::push::{Code, Deposit, DepositBuffer};
use crate::wire::quote::{Attest, Digest, HashAlg, PcrMask};
use crate::wire::receipt::{Reached, Receipt};
use crate::wire::statement::STATEMENT_PCR;

pub use head::MAX_COPY_HEAD_BYTES;
use head::{Facts, Head, HeadBytes};
pub use why::{Forget, NoCopy};

/// What a quote showed, to be compared with what a copy is sealed to.
#[derive(Clone)]
pub(super) struct Shown {
    bank: HashAlg,
    pcrs: PcrMask,
    /// Hash of the values, one after the other.
    values: Digest,
    clock_ms: u64,
}

/// Where copies stand.
#[derive(Default)]
pub(super) struct Copies {
    /// Of the copy that is made, or that is tried.
    head: HeadBytes,
    /// Whether the shell has still to write it.
    is_made: bool,
    shown: Option<Shown>,
    forget: Option<Forget>,
    refused: Option<NoCopy>,
    /// Whether the verifier has said anything.
    heard: bool,
    is_tried: bool,
    /// Of the copy that is being used, in seconds.
    age: Option<u64>,
}

impl Shown {
    /// What this quote showed of PCRs that no program can reset.
    pub(super) fn of(quoted: &Quoted, pcrs: PcrMask) -> Option<Self> {
        let attest = Attest::parse(&quoted.quote.attest).ok()?;
        let pcrs = lasting(pcrs);
        let bank = quoted.dump.bank();
        let values = pcrs.iter().filter_map(|pcr| quoted.dump.value(pcr));
        Some(Self {
            bank,
            pcrs,
            values: bank.digest(values),
            clock_ms: attest.clock.clock_ms,
        })
    }
}

#[cfg(test)]
impl Shown {
    /// As if these PCRs had been quoted.
    pub(super) fn with_pcrs(self, pcrs: PcrMask) -> Self {
        Self { pcrs, ..self }
    }
}

impl Copies {
    pub(super) const fn hear(&mut self) {
        self.heard = true;
    }

    /// V has come: the quote of this round has passed.
    pub(super) fn passed(&mut self, round: Option<&mut Round>) {
        self.shown = round.and_then(|round| round.shown.take());
    }

    /// Whether the shell has to write the copy now.
    pub(super) const fn take_made(&mut self) -> bool {
        core::mem::replace(&mut self.is_made, false)
    }

    pub(super) const fn take_forget(&mut self) -> Option<Forget> {
        self.forget.take()
    }

    pub(super) const fn take_refused(&mut self) -> Option<NoCopy> {
        self.refused.take()
    }

    pub(super) fn head(&self) -> &[u8] {
        &self.head
    }

    pub(super) const fn age(&self) -> Option<u64> {
        self.age
    }
}

impl Outbound {
    /// Whether a copy may be tried: it is wanted, none was tried yet, and nothing has come of the verifier, not even a refusal.
    #[must_use]
    pub fn awaits_copy(&self) -> bool {
        let copies = &self.copies;
        self.config.last_good
            && self.config.mode == Mode::Provision
            && self.stage == Stage::Manifest
            && self.wanted.is_none()
            && !copies.heard
            && !copies.is_tried
    }

    /// Why a copy has still to be removed: for a shell that leaves before [`Step::Forget`](super::Step::Forget) came.
    #[must_use]
    pub const fn owed_forgetting(&self) -> Option<&Forget> {
        self.copies.forget.as_ref()
    }

    /// Tries a copy, once: all bytes of one that [`Step::Keep`](super::Step::Keep) gave. What comes of it the next steps say;
    /// unless [`Outbound::awaits_copy`], nothing.
    ///
    /// # Cost
    /// A signature's check, the counter, a quote and a PCR; later the TPM's opening.
    pub fn fall_back<T: OutboundTpm>(
        &mut self,
        moment: &Moment<'_>,
        copy: &[u8],
        verify: &impl Verify,
        tpm: &mut T,
    ) {
        if !self.awaits_copy() {
            return;
        }
        self.copies.is_tried = true;
        let read = self.read_copy(copy, verify, tpm);
        match read.and_then(|()| self.judge_copy(moment.wall, tpm)) {
            Ok(()) => {
                self.pauses.clear();
                self.stage = Stage::Reread;
            }
            Err(why) => self.refuse_copy(why),
        }
    }

    /// Back to asking the verifier.
    pub(super) fn refuse_copy(&mut self, why: NoCopy) {
        if why.is_final() {
            self.copies.forget = Some(Forget::Old);
        }
        self.copies.head.clear();
        self.copies.age = None;
        self.copies.refused = Some(why);
        self.wanted = None;
        self.stage = Stage::Manifest;
    }

    /// What the verifier says may end the copy.
    pub(super) fn heed(&mut self, code: Code) {
        let ends = matches!(
            code,
            Code::NotRegistered
                | Code::NotEnrolled
                | Code::NoPayload
                | Code::UnknownPayload
                | Code::NotPassed
        );
        if self.config.last_good && ends {
            self.copies.forget = Some(Forget::Verifier(code));
        }
    }

    /// A deposit was accepted: one that allows no copy ends the one that there is.
    pub(super) fn heed_manifest(&mut self, manifest: &Manifest) {
        if self.config.last_good && limit(manifest).is_none() {
            self.copies.forget = Some(Forget::NotAllowed);
        }
    }

    /// Makes the copy of what was opened, or says why there is none.
    pub(super) fn keep<T: OutboundTpm>(&mut self, key: &Key, moment: &Moment<'_>, tpm: &mut T) {
        let shown = self.copies.shown.take();
        self.copies.head.clear();
        if !self.config.last_good {
            return;
        }
        match self.sealed(key, shown, moment.wall, tpm) {
            Ok(head) => {
                self.copies.head = head;
                self.copies.is_made = true;
            }
            Err(why) => self.copies.forget = Some(why),
        }
    }

    fn sealed<T: OutboundTpm>(
        &self,
        key: &Key,
        shown: Option<Shown>,
        wall: Option<u64>,
        tpm: &mut T,
    ) -> Result<HeadBytes, Forget> {
        let wanted = self.wanted.as_ref().ok_or(Forget::NotAllowed)?;
        let manifest = &wanted.manifest;
        limit(manifest).ok_or(Forget::NotAllowed)?;
        let shown = shown.ok_or(Forget::Pcrs)?;
        let (bank, pcrs) = (shown.bank, shown.pcrs);
        if bank != manifest.cap.bank || !pcrs.iter().any(is_boot_pcr) {
            return Err(Forget::Weak);
        }
        let kept_at = wall.ok_or(Forget::Clock)?;
        let fail = |error: T::Error| Forget::Tpm(Receipt::reason(error));
        let secret = <&[u8; 32]>::try_from(key.as_bytes()).map_err(|_| Forget::NotAllowed)?;
        let mut blob = [0; MAX_KEPT_BYTES];
        let kept = tpm.keep(bank, pcrs, &Secret::copy_of(secret), &mut blob);
        let blob = blob.get(..kept.map_err(fail)?).unwrap_or_default();
        // PCRs only move on: with the quote's values now, they had these when it was sealed.
        let now = tpm.pcr_read(bank, pcrs).map_err(fail)?;
        let values = bank.digest(now.iter().map(|(_, value)| value.as_slice()));
        if values != shown.values {
            return Err(Forget::Pcrs);
        }
        let facts = Facts {
            kept_at,
            clock_ms: shown.clock_ms,
            bank,
            pcrs,
            payload_id: manifest.payload_id,
            manifest: wanted.digest(),
        };
        facts.seal(key, blob).ok_or(Forget::Pcrs)
    }

    /// The checks of a fresh deposit.
    // Never inlined: its buffer is off the stack when the TPM is asked for more.
    #[inline(never)]
    fn read_copy<T: OutboundTpm>(
        &mut self,
        copy: &[u8],
        verify: &impl Verify,
        tpm: &mut T,
    ) -> Result<(), NoCopy> {
        let (_, body) = Head::parse(copy).ok_or(NoCopy::Unreadable)?;
        let mut buffer = DepositBuffer::default();
        let deposit = Deposit::from_answer(body, &mut buffer).map_err(|_| NoCopy::Unreadable)?;
        // Put in its place at once: it is too large to be moved about.
        match check(&self.config, &deposit, verify, tpm) {
            Ok(wanted) => self.wanted = Some(wanted),
            Err(end) => return Err(NoCopy::Deposit(end)),
        }
        let bytes = copy.len().saturating_sub(body.len());
        self.copies.head.clear();
        let kept = copy.get(..bytes).unwrap_or_default();
        let kept = self.copies.head.extend_from_slice(kept);
        kept.map_err(|_| NoCopy::Unreadable)
    }

    /// What is checked beyond that before the sealed bytes are looked at.
    #[inline(never)]
    fn judge_copy<T: OutboundTpm>(&mut self, wall: Option<u64>, tpm: &mut T) -> Result<(), NoCopy> {
        let (head, _) = Head::parse(&self.copies.head).ok_or(NoCopy::Unreadable)?;
        let wanted = self.wanted.as_ref().ok_or(NoCopy::Unreadable)?;
        let facts = head.facts;
        if !facts.is_of(wanted) {
            return Err(NoCopy::Changed);
        }
        let age = age(&wanted.manifest, &facts, wall)?;
        check_tpm(&wanted.manifest, &facts, tpm)?;
        self.copies.age = Some(age);
        Ok(())
    }

    /// K, from the copy: from here on the boot has to be capped on every way out.
    pub(super) fn recall<T: OutboundTpm>(&mut self, tpm: &mut T) -> Result<Key, NoCopy> {
        let (head, _) = Head::parse(&self.copies.head).ok_or(NoCopy::Unreadable)?;
        let wanted = self.wanted.as_ref().ok_or(NoCopy::Unreadable)?;
        let facts = &head.facts;
        let secret = tpm
            .recall(facts.bank, facts.pcrs, head.blob)
            .map_err(|error| NoCopy::Tpm(Receipt::reason(error)))?;
        let key = Key::from_slice(secret.as_ref()).map_err(|_| NoCopy::Changed)?;
        let agent = self.config.agent.as_str().as_bytes();
        if !key.matches(agent, &wanted.manifest.auth_tag) || !head.is_by(&key) {
            return Err(NoCopy::Changed);
        }
        let (floor, cap) = (wanted.manifest.floor, wanted.manifest.cap.pcr);
        self.raise_counter(floor, tpm).map_err(NoCopy::Deposit)?;
        self.owes_cap = Some(cap);
        self.reach(Reached::Opened);
        Ok(key)
    }
}

/// How old a copy may get; none for a payload of which there is to be none. What is for one boot alone has no copy.
fn limit(manifest: &Manifest) -> Option<u64> {
    match manifest.deliver {
        Deliver::Once => None,
        Deliver::PerBoot | Deliver::Until(_) => manifest.last_good_seconds,
    }
}

/// How old the copy is by the system's clock, if that is not too old.
fn age(manifest: &Manifest, facts: &Facts, wall: Option<u64>) -> Result<u64, NoCopy> {
    let limit = limit(manifest).ok_or(NoCopy::NotAllowed)?;
    let now = wall.ok_or(NoCopy::NoClock)?;
    let kept_at = facts.kept_at;
    let age = now
        .checked_sub(kept_at)
        .ok_or(NoCopy::ClockBehind { now, kept_at })?;
    if age > limit {
        return Err(NoCopy::TooOld { age, limit });
    }
    match manifest.deliver {
        Deliver::Until(until) if now > until => Err(NoCopy::Expired { now, until }),
        _ => Ok(age),
    }
}

/// The TPM's clock, which nobody sets back, and the cap.
fn check_tpm<T: OutboundTpm>(
    manifest: &Manifest,
    facts: &Facts,
    tpm: &mut T,
) -> Result<(), NoCopy> {
    let fail = |error: T::Error| NoCopy::Tpm(Receipt::reason(error));
    let cap = PcrMask::EMPTY.with(manifest.cap.pcr);
    let values = tpm.pcr_read(facts.bank, cap).map_err(fail)?;
    if !values
        .iter()
        .all(|(_, value)| manifest.cap.is_uncapped(value))
    {
        return Err(NoCopy::Capped);
    }
    let clock_ms = clock_ms(facts.bank, cap, tpm)?;
    let age = clock_ms.saturating_sub(facts.clock_ms) / 1000;
    let limit = limit(manifest).ok_or(NoCopy::NotAllowed)?;
    match age > limit {
        true => Err(NoCopy::TooOld { age, limit }),
        false => Ok(()),
    }
}

/// What a quote says of the time that the TPM was powered.
fn clock_ms<T: Tpm>(bank: HashAlg, pcrs: PcrMask, tpm: &mut T) -> Result<u64, NoCopy> {
    let quote = tpm
        .quote(NONCE, bank, pcrs)
        .map_err(|error| NoCopy::Tpm(Receipt::reason(error)))?;
    let attest = Attest::parse(&quote.attest).map_err(|_| NoCopy::NoClock)?;
    Ok(attest.clock.clock_ms)
}

/// Those that no program can reset.
fn lasting(pcrs: PcrMask) -> PcrMask {
    let lasts = |pcr: &u8| ![STATEMENT_PCR, DEBUG_PCR].contains(pcr);
    pcrs.iter()
        .filter(lasts)
        .fold(PcrMask::EMPTY, PcrMask::with)
}

/// Those that tell one system from another.
const fn is_boot_pcr(pcr: u8) -> bool {
    matches!(pcr, 0..=9 | 11..=14)
}

/// No verifier's challenge: theirs have 16 bytes.
const NONCE: &[u8] = b"keyhalf last good clock";
/// The other PCR that a program can reset.
const DEBUG_PCR: u8 = 23;
