//! Revocations over the agent's own session: entries are fetched into the journal, and what came of them is reported.

use std::path::Path;
use std::time::Instant;

use agent_core::http::Answer;
use agent_core::http::emit::{Media, Verb};
use agent_core::outbound::{CatchUp, CaughtUp, MAX_PATH_BYTES, OutboundConfig, Request, Verify};
use agent_core::revocation::{
    Act, Delivered, Heard, LogId, MAX_MESSAGE_BYTES, NoticeError, Taken, hear, write_entries_path,
    write_outcomes_body, write_outcomes_path,
};
use agent_core::tpm::OutboundTpm;
use agent_core::wire::text::Uuid;
use heapless::string::StringView;
use zeroize::Zeroizing;

use super::link::{Connect, Link};
use super::{Ending, Enrol, Flow, Running, drive};
use crate::actions::{ActionRules, Actions};
use crate::revocations::Revocations;
use crate::threads;

/// What a flow needs for revocations.
#[derive(Clone, Copy)]
pub struct Acting<'a> {
    /// What is known of them.
    pub revocations: &'a Revocations,
    /// What they set off.
    pub rules: &'a ActionRules,
}

/// What the verifier was asked for and told.
pub(super) struct News<'a> {
    revocations: &'a Revocations,
    /// Who asks, with which token, while it serves.
    session: Option<(Uuid, Zeroizing<String>)>,
    /// The log and the number up to which outcomes were reported.
    reported: (Option<LogId>, u64),
    /// There was no room for all that the verifier has.
    is_behind: bool,
    path: heapless::String<MAX_PATH_BYTES>,
}

/// The way to the verifier, for one exchange after the other.
struct Way<'w, C: Connect> {
    link: &'w mut Link<C>,
    body: &'w mut StringView,
    deadline: Option<Instant>,
}

impl<'a> News<'a> {
    pub(super) fn new(acting: &Acting<'a>) -> Self {
        Self {
            revocations: acting.revocations,
            session: None,
            reported: (None, 0),
            is_behind: false,
            path: heapless::String::new(),
        }
    }

    /// The verifier can be asked.
    fn begin(&mut self, session: &CatchUp<'_>) {
        let token = Zeroizing::new(session.token.to_owned());
        self.session = Some((session.agent.clone(), token));
    }

    /// Whether actions have ended that the verifier can be told of now.
    fn is_due(&self) -> bool {
        self.session.is_some() && self.revocations.has_outcomes_after(self.told())
    }

    /// Reports what has ended, and fetches what comes next; in between `act` may act on it.
    fn catch_up<C: Connect>(&mut self, way: &mut Way<'_, C>, mut act: impl FnMut()) -> CaughtUp {
        let done = loop {
            let step = self.report(way).and_then(|()| self.fetch(way));
            act();
            match step {
                Ok(true) => {}
                // What was acted on meanwhile.
                Ok(false) => break self.report(way).err().unwrap_or(CaughtUp::Done),
                Err(fault) => break fault,
            }
        };
        if done != CaughtUp::Done {
            self.session = None;
        }
        done
    }

    /// Reports what has ended since.
    fn report<C: Connect>(&mut self, way: &mut Way<'_, C>) -> Result<(), CaughtUp> {
        while self.is_due() {
            let standing = self.revocations.standing(None);
            let (Some(log_id), told) = (&standing.log_id, self.told()) else {
                return Ok(());
            };
            way.body.clear();
            let last = write_outcomes_body(way.body, &standing, |each| {
                self.revocations.outcomes(log_id, told, each);
            });
            // Outcomes that are gone already leave the position to be told.
            let last = last.map_err(|_| CaughtUp::Lost)?;
            let last = last.unwrap_or(standing.position);
            self.ask(way, Verb::Post, |path, agent| {
                write_outcomes_path(path, agent)
            })?;
            self.reported = (standing.log_id, last);
        }
        Ok(())
    }

    /// Fetches the entries that come next, as many as there is room for: whether to ask again.
    fn fetch<C: Connect>(&mut self, way: &mut Way<'_, C>) -> Result<bool, CaughtUp> {
        let standing = self.revocations.standing(None);
        way.body.clear();
        let revocations = self.revocations;
        let answer = self.ask(way, Verb::Get, |path, agent| {
            write_entries_path(path, agent, &standing)
        })?;
        let delivered = Delivered::from_answer(answer.body).map_err(|error| {
            log::warn!("the verifier's revocations can't be read: {error}");
            CaughtUp::Lost
        })?;
        let (mut count, mut is_full) = (0_usize, false);
        let mut message = vec![0; MAX_MESSAGE_BYTES].into_boxed_slice();
        let message = message.as_mut_array().ok_or(CaughtUp::Lost)?;
        let read = delivered.each(message, &mut |notice| match hear(notice, revocations) {
            Ok(Heard::Entry { taken, .. }) => {
                count += usize::from(taken == Taken::Acting);
                true
            }
            Ok(_) => true,
            Err(NoticeError::Full) => {
                is_full = true;
                false
            }
            Err(error) => {
                log::error!("a revocation of the verifier's isn't acted on: {error}");
                false
            }
        });
        if let Err(error) = read {
            log::warn!("a revocation of the verifier's can't be read: {error}");
        }
        let wanted = revocations.standing(delivered.log_id.as_ref()).wanted;
        let has_more = count > 0 && !is_full && wanted <= delivered.last;
        self.is_behind = is_full || has_more;
        Ok(has_more)
    }

    /// Reports what has ended, and fetches what there was no room for before. What can't be done now waits for the next
    /// attestation.
    fn tell<C: Connect>(&mut self, way: &mut Way<'_, C>) {
        let mut told = self.report(way);
        while told.is_ok() && self.is_behind {
            match self.fetch(way) {
                Ok(true) => {}
                // Room comes with the next end.
                Ok(false) => break,
                Err(fault) => told = Err(fault),
            }
        }
        if told.is_err() {
            self.session = None;
        }
    }

    /// Up to where the verifier was told, of the log that is followed.
    fn told(&self) -> u64 {
        match &self.reported {
            (log, last) if *log == self.revocations.standing(None).log_id => *last,
            _ => 0,
        }
    }

    /// One exchange that succeeds, or what it means.
    fn ask<'w, C: Connect>(
        &mut self,
        way: &'w mut Way<'_, C>,
        verb: Verb,
        write: impl FnOnce(&mut StringView, &Uuid) -> std::fmt::Result,
    ) -> Result<Answer<'w>, CaughtUp> {
        let (agent, token) = self.session.as_ref().ok_or(CaughtUp::Lost)?;
        self.path.clear();
        write(&mut self.path, agent).map_err(|_| CaughtUp::Lost)?;
        let request = Request {
            verb,
            path: &self.path,
            token: Some(token),
            media: Media::Json,
            is_deposit: false,
            logs: None,
        };
        let until = super::link::soon(way.deadline);
        let answer = way.link.exchange(&request, way.body, until, way.deadline);
        let answer = answer.ok_or(CaughtUp::Lost)?;
        match answer.status {
            200 | 204 => Ok(answer),
            status => Err(CaughtUp::Answered { status }),
        }
    }
}

impl<C, T, V, E> Flow<'_, C, T, V, E>
where
    C: Connect,
    T: OutboundTpm,
    V: Verify,
    E: Enrol<T>,
{
    /// Fetches revocations; a node that provisions acts on them now, as far as there is time.
    pub(super) fn catch_up(
        &mut self,
        news: Option<&mut News<'_>>,
        session: &CatchUp<'_>,
        body: &mut StringView,
    ) -> CaughtUp {
        let (Some(news), Some(acting)) = (news, self.terms.acting) else {
            return CaughtUp::Done;
        };
        news.begin(session);
        let (payload, private) = (self.zone.unzipped(), self.zone.path().to_owned());
        let (deadline, stop) = (self.terms.deadline, self.terms.stop);
        let actions = actions(&acting, &self.terms.script, &payload, &private, deadline);
        let mut way = Way {
            link: &mut self.link,
            body,
            deadline,
        };
        news.catch_up(&mut way, || {
            // An agent that has no deadline has a thread for them.
            if deadline.is_some() {
                acting.revocations.work_off(&actions, stop);
            }
        })
    }

    /// Tells the verifier what has ended meanwhile, and fetches what there was no room for.
    pub(super) fn tell(&mut self, news: Option<&mut News<'_>>, body: &mut StringView) {
        let Some(news) = news.filter(|news| news.is_due()) else {
            return;
        };
        let mut way = Way {
            link: &mut self.link,
            body,
            deadline: self.terms.deadline,
        };
        news.tell(&mut way);
    }
}

/// Attesting goes on while actions run, in a thread of their own.
pub(super) fn beside_actions<C, T, V, E>(
    config: OutboundConfig,
    flow: Flow<'_, C, T, V, E>,
    acting: Acting<'_>,
) -> Ending
where
    C: Connect,
    T: OutboundTpm,
    V: Verify,
    E: Enrol<T>,
{
    let (running, stop) = (flow.terms.script, flow.terms.stop);
    let (payload, private) = (flow.zone.unzipped(), flow.zone.path().to_owned());
    let act = move || {
        let actions = actions(&acting, &running, &payload, &private, None);
        acting.revocations.work(&actions, stop, &|_| {});
    };
    let (mut parts, mut ending) = (Some((config, flow)), Ending::Stopped);
    threads::beside("actions", &act, &mut || {
        if let Some((config, flow)) = parts.take() {
            ending = drive(config, flow);
        }
        acting.revocations.stop();
    });
    ending
}

fn actions<'a>(
    acting: &Acting<'a>,
    running: &Running<'a>,
    payload: &'a Path,
    private: &'a Path,
    deadline: Option<Instant>,
) -> Actions<'a> {
    Actions {
        rules: acting.rules,
        payload,
        private,
        identity: running.identity,
        output: running.output,
        deadline,
    }
}
