//! The agent that calls its verifier: gives the core's machine a connection, a clock, a place for files and a process.
//!
//! The machine decides; what is here does one step after the other, until the end or a deadline. On each way out, the boot is
//! capped if a release was asked for.

#[cfg(feature = "revocations")]
mod catch_up;
mod copy;
mod ending;
mod fetch;
mod link;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use agent_core::outbound::{
    Moment, Outbound, OutboundConfig, ScriptOutcome, Step, Unpack, Verify, Why,
};
use agent_core::payload::zip::Limits;
use agent_core::secret::Secret;
use agent_core::tpm::OutboundTpm;
use agent_core::wire::push::{Evaluation, MAX_BODY_BYTES};
use rustix::rand::{GetRandomFlags, getrandom};

use crate::job::{End as JobEnd, Ended, Identity, OutputPolicy};
use crate::landing::Zone;
use crate::log::Seconds;
use crate::memory::wipe_stack;
use crate::script::Script;
use crate::spool::Spool;

#[cfg(feature = "revocations")]
pub use catch_up::Acting;
#[cfg(feature = "revocations")]
use catch_up::News;
use copy::Copies;
pub use ending::Ending;
use fetch::{Got, Store};
pub use link::{Connect, Link};

/// How a payload's script is run.
#[derive(Clone, Copy, Debug)]
pub struct Running<'a> {
    /// As whom.
    pub identity: Identity<'a>,
    /// How long it may take.
    pub timeout: Duration,
    /// What becomes of its output.
    pub output: OutputPolicy,
}

/// What a flow is told beside the machine's configuration.
pub struct Terms<'a> {
    /// Until when everything has to be over; none for an agent that goes on for ever.
    pub deadline: Option<Instant>,
    /// Where sealed bytes wait; none keeps them in memory.
    pub spool: Option<PathBuf>,
    /// When the image was made, at the earliest, in seconds since 1970: a clock before that isn't right.
    pub image_seconds: u64,
    /// What an archive may hold.
    pub archives: Limits,
    /// How the script is run.
    pub script: Running<'a>,
    /// Ends the flow early.
    pub stop: &'a AtomicBool,
    /// Revocations; none leaves them to others.
    #[cfg(feature = "revocations")]
    pub acting: Option<Acting<'a>>,
}

/// Takes this node to its registrar.
pub trait Enrol<T> {
    /// Registers once: whether it worked. What went wrong is logged.
    fn enrol(&mut self, tpm: &mut T) -> bool;
}

/// What a flow works with.
pub struct Flow<'a, C: Connect, T, V, E> {
    /// The way to the verifier.
    pub link: Link<C>,
    /// The TPM.
    pub tpm: &'a mut T,
    /// Checks the tenant's signatures.
    pub verify: V,
    /// The way to the registrar.
    pub enrol: E,
    /// Where files go.
    pub zone: &'a mut Zone,
    /// The rest.
    pub terms: Terms<'a>,
}

/// Gets one payload, to the end or the deadline: what the program `provision` is.
pub fn provision<C, T, V, E>(config: OutboundConfig, flow: Flow<'_, C, T, V, E>) -> Ending
where
    C: Connect,
    T: OutboundTpm,
    V: Verify,
    E: Enrol<T>,
{
    drive(config, flow)
}

/// Registers, then attests until it is stopped; a payload that waits for this boot comes too. What the program `push` is.
pub fn push<C, T, V, E>(config: OutboundConfig, mut flow: Flow<'_, C, T, V, E>) -> Ending
where
    C: Connect,
    T: OutboundTpm,
    V: Verify,
    E: Enrol<T>,
{
    let mut pause = config.pace.first_ms;
    while !flow.enrol.enrol(flow.tpm) {
        if !sleep(Duration::from_millis(pause), flow.terms.stop) {
            return Ending::Stopped;
        }
        pause = pause.saturating_mul(2).min(config.pace.last_ms);
    }
    #[cfg(feature = "revocations")]
    if let Some(acting) = flow.terms.acting {
        return catch_up::beside_actions(config, flow, acting);
    }
    drive(config, flow)
}

fn drive<C, T, V, E>(config: OutboundConfig, mut flow: Flow<'_, C, T, V, E>) -> Ending
where
    C: Connect,
    T: OutboundTpm,
    V: Verify,
    E: Enrol<T>,
{
    let spool = flow.terms.spool.take();
    let mut copies = Copies::new(&config, spool.as_deref(), flow.terms.deadline);
    let mut store = Store::new(spool, config.agent.clone());
    let mut machine = Box::new(Outbound::new(config));
    let ending = flow.run(&mut machine, &mut store, &mut copies);
    if let Some(why) = machine.owed_forgetting() {
        copies.forget(why);
    }
    // The machine caps on its own ways out: this is for a deadline, a signal, and a cap that has failed before.
    let ending = match machine.cap(flow.tpm) {
        Ok(false) => ending,
        Ok(true) => {
            log::info!("this boot is capped");
            ending
        }
        Err(error) => {
            log::error!("this boot could not be capped: {error}; run keyhalf-agent cap");
            Ending::NotCapped
        }
    };
    drop(machine);
    wipe_stack();
    ending
}

impl<C, T, V, E> Flow<'_, C, T, V, E>
where
    C: Connect,
    T: OutboundTpm,
    V: Verify,
    E: Enrol<T>,
{
    fn run(&mut self, machine: &mut Outbound, store: &mut Store, copies: &mut Copies) -> Ending {
        let began = Instant::now();
        #[cfg(feature = "revocations")]
        let mut news = self.terms.acting.as_ref().map(News::new);
        let mut body = heapless::String::<MAX_BODY_BYTES>::new();
        let mut last = None;
        loop {
            if self.terms.stop.load(Ordering::Relaxed) {
                return Ending::Stopped;
            }
            if self.left().is_zero() {
                let settled = machine.settled().cloned();
                return settled.map_or(Ending::Deadline(last), Ending::Done);
            }
            let mut random = Secret::zeroed();
            if let Err(error) = fill(random.as_mut()) {
                log::error!("the system has no random numbers: {error}");
                return Ending::Stopped;
            }
            let moment = Moment {
                now: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
                dice: dice(),
                random: &random,
                wall: copy::wall(self.terms.image_seconds),
            };
            if machine.awaits_copy()
                && let Some(copy) = copies.take_due()
            {
                machine.fall_back(&moment, &copy, &self.verify, self.tpm);
            }
            // Nothing may take the time in which a copy is tried.
            let due = copies.due().filter(|_| machine.awaits_copy());
            match machine.next(&moment, self.tpm, &mut body) {
                Step::Send(request) => {
                    let until = self.until(due);
                    let answer =
                        self.link
                            .exchange(&request, &mut body, until, self.terms.deadline);
                    if let Some(answer) = answer.filter(|_| request.is_deposit) {
                        copies.hold(answer.body);
                    }
                    last = answer.is_none().then_some(Why::Unreachable);
                    machine.answered(&moment, answer.as_ref(), &self.verify, self.tpm);
                }
                Step::Wait { millis, why } => {
                    self.release();
                    let pause = Duration::from_millis(millis);
                    #[cfg(feature = "revocations")]
                    let meanwhile = &mut |flow: &mut Self| flow.tell(news.as_mut(), &mut body);
                    #[cfg(not(feature = "revocations"))]
                    let meanwhile = &mut |_: &mut Self| {};
                    if let Some(ending) = self.wait(pause, why, due, meanwhile) {
                        return ending;
                    }
                    last = Some(why);
                }
                Step::Register => {
                    let is_done = self.enrol.enrol(self.tpm);
                    machine.registered(&moment, is_done);
                }
                Step::Fetch(fetch) => {
                    let got = store.fetch(&mut self.link, &fetch, self.terms.deadline);
                    last = matches!(got, Got::Lost).then_some(Why::Unreachable);
                    machine.fetched(&moment, &got.as_fetched());
                }
                Step::Unpack(unpack) => {
                    if let Some(age) = unpack.copy_age {
                        log_copy(age);
                    }
                    self.hold();
                    let landed = self.land(store.take(), &unpack);
                    drop(unpack);
                    match &landed {
                        Ok(()) => {
                            let unzipped = self.zone.unzipped();
                            log::info!("payload unpacked to {}", unzipped.display());
                            machine.unpacked(Ok(()));
                        }
                        Err(error) => {
                            log::error!("nothing of the payload is kept: {error}");
                            machine.unpacked(Err(error));
                        }
                    }
                }
                Step::Run { script } => {
                    self.hold();
                    let ended = self.run_script(script);
                    self.release();
                    match &ended {
                        Ok(outcome) => machine.ran(Ok(*outcome)),
                        Err(error) => {
                            log::error!("the script was not run: {error}");
                            machine.ran(Err(error));
                        }
                    }
                }
                Step::Attested {
                    attestation,
                    verdict,
                } => log_verdict(attestation, verdict.as_ref()),
                Step::Keep { head } => copies.keep(head),
                Step::Forget(why) => copies.forget(&why),
                Step::Reread(reread) => {
                    let got = store.reread(&reread);
                    machine.fetched(&moment, &got.as_fetched());
                }
                Step::NoCopy(why) => log::error!("the last good copy is not used: {why}"),
                #[cfg(feature = "revocations")]
                Step::CatchUp(session) => {
                    self.release();
                    let caught = self.catch_up(news.as_mut(), &session, &mut body);
                    machine.caught_up(&moment, caught);
                }
                // As if the verifier had none.
                #[cfg(not(feature = "revocations"))]
                Step::CatchUp(_) => {
                    let caught = agent_core::outbound::CaughtUp::Answered { status: 404 };
                    machine.caught_up(&moment, caught);
                }
                Step::Report(end) => {
                    self.release();
                    log::info!("payload: {end}");
                }
                Step::Done(end) => return Ending::Done(end),
            }
        }
    }

    /// Opens and unpacks a payload into the landing zone, all or nothing.
    fn land(&mut self, spool: Option<Spool>, unpack: &Unpack<'_>) -> Result<(), String> {
        let mut spool = spool.ok_or("its sealed bytes are gone")?;
        let limits = &self.terms.archives;
        self.zone
            .land(&mut spool, &unpack.key, &unpack.binding, limits)
            .map_err(|error| error.to_string())?;
        #[cfg(feature = "revocations")]
        if let Some(acting) = &self.terms.acting {
            acting.revocations.land();
        }
        Ok(())
    }

    /// No revocation action may begin: a payload lands, and its script comes first.
    fn hold(&self) {
        #[cfg(feature = "revocations")]
        if let Some(acting) = &self.terms.acting {
            acting.revocations.hold();
        }
    }

    /// They may begin.
    fn release(&self) {
        #[cfg(feature = "revocations")]
        if let Some(acting) = &self.terms.acting {
            acting.revocations.release();
        }
    }

    /// Waits, unless there is no time for it: then the ending. Now and then something is done meanwhile.
    fn wait(
        &mut self,
        pause: Duration,
        why: Why,
        due: Option<Instant>,
        meanwhile: &mut dyn FnMut(&mut Self),
    ) -> Option<Ending> {
        match why {
            Why::NextRound => log::debug!("{why}"),
            _ => log::warn!("{why}; next try in {}", Seconds(pause)),
        }
        let until_due = due.map(|due| due.saturating_duration_since(Instant::now()));
        let pause = until_due.map_or(pause, |left| left.min(pause));
        if pause >= self.left() {
            return Some(Ending::Deadline(Some(why)));
        }
        let stop = self.terms.stop;
        let went_on = sleep_beside(pause, stop, &mut || meanwhile(self));
        (!went_on).then_some(Ending::Stopped)
    }

    /// Time until the deadline; long if there is none.
    fn left(&self) -> Duration {
        let left = |deadline: Instant| deadline.saturating_duration_since(Instant::now());
        self.terms.deadline.map_or(Duration::MAX, left)
    }

    /// Until when a request has to be answered.
    fn until(&self, due: Option<Instant>) -> Instant {
        let until = Instant::now() + REQUEST;
        let until = due.map_or(until, |due| due.min(until));
        self.terms
            .deadline
            .map_or(until, |deadline| deadline.min(until))
    }

    fn run_script(&self, name: &str) -> Result<ScriptOutcome, String> {
        let unzipped: &Path = &self.zone.unzipped();
        let script = match Script::find(unzipped, name) {
            Ok(Some(script)) => script,
            Ok(None) => return Err(format!("the payload has no {name}")),
            Err(error) => return Err(error.to_string()),
        };
        log::info!("running {name}");
        let terms = &self.terms;
        let timeout = terms.script.timeout.min(self.left());
        let ended = script.run(
            terms.script.identity,
            timeout,
            terms.script.output,
            terms.stop,
        );
        let ended = ended.map_err(|error| error.to_string())?;
        ended.log(name);
        Ok(outcome(&ended))
    }
}

fn outcome(ended: &Ended) -> ScriptOutcome {
    let (exit_code, signal, timed_out) = match ended.end {
        JobEnd::Exit(code) => (Some(code), None, false),
        JobEnd::Signal(signal) => (None, Some(signal), false),
        JobEnd::TimedOut => (None, None, true),
        JobEnd::Cancelled => (None, Some(signal_hook::consts::SIGTERM), false),
    };
    ScriptOutcome {
        exit_code,
        signal,
        timed_out,
        duration_ms: u64::try_from(ended.duration.as_millis()).unwrap_or(u64::MAX),
    }
}

fn log_copy(age: u64) {
    let age = copy::spoken(age);
    log::warn!("the last good copy is used, kept {age} ago; no receipt can be sent");
}

fn log_verdict(attestation: u64, verdict: Option<&agent_core::wire::push::Verdict>) {
    match verdict.map(|verdict| (verdict.evaluation, verdict.reason.as_str())) {
        Some((Evaluation::Fail, reason)) => {
            log::warn!("attestation {attestation} failed: {reason}");
        }
        Some((Evaluation::Pass, _)) => log::info!("attestation {attestation} passed"),
        _ => log::info!("attestation {attestation} was sent"),
    }
}

/// The system's random numbers, which may take a moment in early boot.
fn fill(mut bytes: &mut [u8]) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        match getrandom(&mut *bytes, GetRandomFlags::empty()) {
            Ok(got) => bytes = bytes.get_mut(got..).unwrap_or_default(),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Any number: not secret.
fn dice() -> u32 {
    let bytes = RandomState::new().build_hasher().finish().to_le_bytes();
    bytes.first_chunk().copied().map_or(0, u32::from_le_bytes)
}

/// `false` if it was stopped meanwhile.
fn sleep(pause: Duration, stop: &AtomicBool) -> bool {
    sleep_beside(pause, stop, &mut || {})
}

/// The same, with something that is done now and then.
fn sleep_beside(pause: Duration, stop: &AtomicBool, meanwhile: &mut dyn FnMut()) -> bool {
    let end = Instant::now() + pause;
    loop {
        meanwhile();
        if stop.load(Ordering::Relaxed) {
            return false;
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        thread::sleep(left.min(STOP_WITHIN));
    }
}

/// How long a request may take, its answer included.
const REQUEST: Duration = Duration::from_secs(10);
/// Within what a pause notices that it is to stop.
const STOP_WITHIN: Duration = Duration::from_millis(100);
