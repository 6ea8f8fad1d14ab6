//! An agent that calls its verifier: decides the next request or duty from what came, and holds no socket, clock or file.
//!
//! It proves its key, reads the deposit and refuses a bad one at once, has the sealed bytes fetched, attests a key of this
//! boot, asks for V, opens, has it unpacked, **caps**, has the script run, reports, and has revocations acted on. Whatever is answered: no key serves
//! twice, every retry is bounded, and once a release was asked for, no way out leaves the boot uncapped.
//!
//! The rules stand in `agent-core/docs/agent-driven.md`.

#![expect(
    clippy::result_large_err,
    reason = "an end carries its reason, and nothing can be boxed without an allocator"
)]

mod advance;
mod answers;
mod attesting;
mod deposit;
mod end;
mod last_good;
mod line;
mod news;
mod opening;
mod pace;
mod report;
mod step;

use heapless::string::StringView;

use crate::http::Answer;
use crate::secret::Secret;
use crate::tpm::OutboundTpm;
use crate::wire::log::Attached;
use crate::wire::manifest::PayloadId;
use crate::wire::push::{Failure, ReleaseRequest};
use crate::wire::quote::{HashAlg, SignAlg};
use crate::wire::receipt::{Reached, Receipt};
use crate::wire::statement::CAP_TEXT;
use crate::wire::text::Uuid;

use attesting::Round;
use deposit::Wanted;
use last_good::Copies;
use line::Line;
use news::News;
use pace::Pauses;
use report::Report;

pub use deposit::{Fault, MAX_FLOOR_STEPS, Verify, VerifyError};
pub use end::{End, Refusal, Unusable, Why};
pub use last_good::{Forget, MAX_COPY_HEAD_BYTES, NoCopy};
pub use pace::{MAX_RETRY_AFTER_MS, Moment, Pace};
pub use report::ScriptOutcome;
pub use step::{CatchUp, CaughtUp, Fetch, Fetched, MAX_PATH_BYTES, Request, Reread, Step, Unpack};

/// Signing certificates that a node may trust.
pub const MAX_SIGNERS: usize = 4;

/// How an agent calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One payload, then the end.
    Provision,
    /// Attests for ever; a payload that waits for this boot comes too.
    Push,
}

/// What an agent that calls is told.
#[derive(Clone, Debug)]
pub struct OutboundConfig {
    /// How it calls.
    pub mode: Mode,
    /// Its identifier.
    pub agent: Uuid,
    /// The AK's scheme.
    pub sign: SignAlg,
    /// The AK's hash, and the bank that it quotes.
    pub hash: HashAlg,
    /// SHA-256 of each certificate whose key may sign manifests; without one no payload is taken.
    pub signers: heapless::Vec<[u8; 32], MAX_SIGNERS>,
    /// The NV index of the counter against old deposits, if the node has one.
    pub counter: Option<u32>,
    /// The largest sealed payload that is taken.
    pub max_sealed_bytes: u64,
    /// When the system was started, in seconds since 1970.
    pub boot_time: u64,
    /// Whether a copy may be kept for boots without a link, where the tenant allows it.
    pub last_good: bool,
    /// Pauses between tries.
    pub pace: Pace,
}

/// What the machine is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Manifest,
    Fetch,
    Offer,
    Evidence,
    Verdict,
    Release,
    Open,
    Unpacking,
    Landed,
    Unpacked,
    Run,
    Running,
    Leave,
    Reread,
    Recall,
}

/// Which request is out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Nothing,
    Session,
    Proof,
    Manifest,
    Fetch,
    Offer,
    Evidence,
    Verdict,
    Release,
    Receipt,
}

/// The machine. It holds keys for a moment: keep it in locked memory.
pub struct Outbound {
    config: OutboundConfig,
    line: Line,
    pauses: Pauses,
    stage: Stage,
    asked: Asked,
    register: bool,
    wanted: Option<Wanted>,
    /// The deposit that was refused: not looked at again.
    refused: Option<PayloadId>,
    /// Whether this boot's chance of a payload is over.
    spent: bool,
    round: Option<Round>,
    v: Option<Secret<32>>,
    owes_cap: Option<u8>,
    report: Option<Report>,
    copies: Copies,
    news: News,
    end: Option<End>,
    tries: Tries,
    path: heapless::String<MAX_PATH_BYTES>,
}

/// What was tried without success so far.
#[derive(Clone, Copy, Debug, Default)]
struct Tries {
    registrations: u8,
    logins: u8,
    manifests: u8,
    fetches: u8,
    attestations: u8,
    receipts: u8,
}

impl Outbound {
    /// A machine before its first request.
    #[must_use]
    pub fn new(config: OutboundConfig) -> Self {
        Self {
            line: Line::default(),
            pauses: Pauses::new(config.pace),
            config,
            stage: Stage::Manifest,
            asked: Asked::Nothing,
            register: false,
            wanted: None,
            refused: None,
            spent: false,
            round: None,
            v: None,
            owes_cap: None,
            report: None,
            copies: Copies::default(),
            news: News::default(),
            end: None,
            tries: Tries::default(),
            path: heapless::String::new(),
        }
    }

    /// What is to be done next. A request's body is written to `body`, which takes
    /// [`MAX_BODY_BYTES`](crate::wire::push::MAX_BODY_BYTES); logs that belong into it are the shell's to add
    /// ([`Request::logs`]).
    ///
    /// Asked again before a request was answered, it gives that request anew.
    ///
    /// # Cost
    /// At most the TPM's work for one request: a certification, five quotes, or the opening with sixteen steps of a counter.
    pub fn next<T: OutboundTpm>(
        &mut self,
        moment: &Moment<'_>,
        tpm: &mut T,
        body: &mut StringView,
    ) -> Step<'_> {
        body.clear();
        let step = self.advance(moment, tpm, body);
        match step {
            Advance::Wait(millis, why) => Step::Wait { millis, why },
            Advance::Register => Step::Register,
            Advance::Send(verb, media) => Step::Send(Request {
                verb,
                path: &self.path,
                token: self.line.token(),
                media,
                is_deposit: self.asked == Asked::Manifest,
                logs: self.attached(),
            }),
            Advance::Fetch => match &self.wanted {
                Some(wanted) => Step::Fetch(Fetch {
                    path: &self.path,
                    token: self.line.token(),
                    payload_id: wanted.manifest.payload_id,
                    segments: wanted.segments,
                    sha256: &wanted.manifest.sealed_sha256,
                }),
                None => Step::Done(End::Stopped),
            },
            Advance::Unpack(key) => match &self.wanted {
                Some(wanted) => Step::Unpack(Unpack {
                    key,
                    binding: wanted.binding(),
                    copy_age: self.copies.age(),
                }),
                None => Step::Done(End::Stopped),
            },
            Advance::Run => match self.wanted.as_ref().and_then(Wanted::script) {
                Some(script) => Step::Run { script },
                None => Step::Done(End::Stopped),
            },
            Advance::Attested(attestation, verdict) => Step::Attested {
                attestation,
                verdict,
            },
            Advance::Keep => Step::Keep {
                head: self.copies.head(),
            },
            Advance::Forget(why) => Step::Forget(why),
            Advance::Reread => match &self.wanted {
                Some(wanted) => Step::Reread(Reread {
                    payload_id: wanted.manifest.payload_id,
                    segments: wanted.segments,
                    sha256: &wanted.manifest.sealed_sha256,
                }),
                None => Step::Done(End::Stopped),
            },
            Advance::CatchUp => match self.line.token() {
                Some(token) => Step::CatchUp(CatchUp {
                    agent: &self.config.agent,
                    token,
                }),
                None => Step::Done(End::Stopped),
            },
            Advance::NoCopy(why) => Step::NoCopy(why),
            Advance::Report(end) => Step::Report(end),
            Advance::Done(end) => Step::Done(end),
        }
    }

    /// Caps the boot if a release was asked for since: whether that was so. The machine does so itself on its ways out; a shell
    /// that leaves before [`Step::Done`] calls this first.
    ///
    /// # Errors
    /// The TPM's: then the cap is still owed.
    pub fn cap<T: OutboundTpm>(&mut self, tpm: &mut T) -> Result<bool, T::Error> {
        let Some(pcr) = self.owes_cap else {
            return Ok(false);
        };
        tpm.extend_all_banks(pcr, CAP_TEXT)?;
        self.owes_cap = None;
        // Nothing of this boot opens any more.
        self.spent = true;
        self.forget_keys();
        Ok(true)
    }

    /// The registrar was asked to take this node: whether it did.
    pub fn registered(&mut self, moment: &Moment<'_>, is_done: bool) {
        self.register = false;
        if is_done {
            self.pauses.clear();
        } else {
            self.pauses.back_off(moment, Why::NotRegistered);
        }
    }

    /// The sealed bytes were asked for, with this result. What has come stays where it is, for the next try.
    pub fn fetched(&mut self, moment: &Moment<'_>, fetched: &Fetched<'_>) {
        if self.stage == Stage::Reread {
            return match fetched {
                Fetched::Whole => self.stage = Stage::Recall,
                _ => self.refuse_copy(NoCopy::Sealed),
            };
        }
        if self.stage != Stage::Fetch {
            return;
        }
        self.asked = Asked::Fetch;
        match fetched {
            Fetched::Whole => {
                self.reach(Reached::Received);
                self.pauses.succeed();
                self.stage = Stage::Offer;
            }
            Fetched::Lost => self.pauses.back_off(moment, Why::Unreachable),
            Fetched::Digest if self.tries.fetches < MAX_FETCHES => {
                self.tries.fetches = self.tries.fetches.saturating_add(1);
            }
            Fetched::Digest => self.leave(End::BadPayload(Fault::Digest)),
            Fetched::NoRoom(reason) => self.leave(End::NoRoom(Receipt::reason(reason))),
            Fetched::Answered(answer) => {
                self.copies.hear();
                let failure = Failure::from_answer(answer.status, answer.body);
                self.failed(moment, &failure, answer.retry_after);
            }
        }
        self.asked = Asked::Nothing;
    }

    /// The payload was unpacked, or why it wasn't. Nothing of it may be in place then.
    pub fn unpacked(&mut self, result: Result<(), &dyn core::fmt::Display>) {
        if self.stage != Stage::Unpacking {
            return;
        }
        match result {
            Ok(()) => {
                self.reach(Reached::Unpacked);
                self.stage = Stage::Landed;
            }
            Err(error) => self.leave(End::NotUnpacked(Receipt::reason(error))),
        }
    }

    /// The script has ended, or why it wasn't run.
    pub fn ran(&mut self, result: Result<ScriptOutcome, &dyn core::fmt::Display>) {
        if self.stage != Stage::Running {
            return;
        }
        match result {
            Ok(outcome) => {
                self.reach(Reached::Finished);
                if let Some(report) = &mut self.report {
                    report.script = Some(outcome);
                }
                self.leave(match outcome.exit_code {
                    Some(0) => End::Finished,
                    _ => End::Script(outcome),
                });
            }
            Err(error) => self.leave(End::NotRun(Receipt::reason(error))),
        }
    }

    /// The request has this answer; none if the exchange failed.
    ///
    /// # Cost
    /// As [`Outbound::next`], and a signature's check.
    pub fn answered<T: OutboundTpm>(
        &mut self,
        moment: &Moment<'_>,
        answer: Option<&Answer<'_>>,
        verify: &impl Verify,
        tpm: &mut T,
    ) {
        if answer.is_some() {
            self.copies.hear();
        }
        match answer {
            None => self.lost(moment),
            Some(answer) if matches!(answer.status, 200..=299) => {
                self.succeeded(moment, answer, verify, tpm);
            }
            Some(answer) => {
                let failure = Failure::from_answer(answer.status, answer.body);
                self.failed(moment, &failure, answer.retry_after);
            }
        }
        self.asked = Asked::Nothing;
    }

    /// The logs that belong to the request that is out.
    fn attached(&self) -> Option<Attached> {
        match self.asked {
            Asked::Offer => Some(Attached::Supported),
            Asked::Evidence => self.round.as_ref().and_then(|round| round.chosen.logs),
            _ => None,
        }
    }

    fn reach(&mut self, reached: Reached) {
        if let Some(report) = &mut self.report {
            report.reached = reached;
        }
    }

    /// Wipes what could open something.
    fn forget_keys(&mut self) {
        self.round = None;
        self.v = None;
    }

    /// From here on there is only the way out.
    fn leave(&mut self, end: End) {
        self.forget_keys();
        if let Some(report) = &mut self.report {
            report.fail(&end);
        }
        self.tries.receipts = 0;
        self.end = Some(end);
        self.stage = Stage::Leave;
        self.pauses.clear();
    }

    /// The body of a request for V; from now on the boot has to be capped on every way out.
    fn ask_release(&mut self, body: &mut StringView) -> Option<()> {
        let (wanted, round) = (self.wanted.as_ref()?, self.round.as_ref()?);
        let request = ReleaseRequest {
            attestation: round.chosen.attestation,
            payload_id: wanted.manifest.payload_id,
            release_key: round.key.as_ref()?.public(),
        };
        request.write(body).ok()?;
        self.owes_cap = Some(wanted.manifest.cap.pcr);
        Some(())
    }
}

use step::Advance;

/// Sessions in a row whose tokens aren't taken.
const MAX_LOGINS: u8 = 3;
/// Deposits that are replaced while they are being fetched or released.
const MAX_MANIFESTS: u8 = 4;
/// Sealed bytes that don't fit their digest: the second time they are fresh.
const MAX_FETCHES: u8 = 1;
/// Attestations for one payload.
const MAX_ATTESTATIONS: u8 = 4;
/// Tries to send the last receipt.
const MAX_RECEIPTS: u8 = 2;

#[cfg(test)]
mod tests;
