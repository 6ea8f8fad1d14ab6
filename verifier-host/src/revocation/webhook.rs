//! The webhook: each entry is POSTed there too, in order, until it is taken; what it took is remembered in the database.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use agent_core::wire::text::Uuid;
use hyper::Uri;
use rustls::ClientConfig;
use thiserror::Error;
use tokio::sync::Notify;
use tokio::time::sleep;
use tracing::{error, info, warn};

use super::log::Log;
use super::message::Notification;
use super::pace::{FIRST_PAUSE, LAST_PAUSE, jittered};
use super::registry::Revocations;
use crate::link::{Endpoint, Limits, Link, Method};

/// Where the webhook is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookUrl {
    /// Host and port.
    pub endpoint: Endpoint,
    /// Path and query.
    pub path: String,
    /// Whether TLS is spoken there.
    pub tls: bool,
}

/// A text that names no webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("no URL of the form http://host:port/path or https://host:port/path")]
pub struct HookUrlError;

impl FromStr for HookUrl {
    type Err = HookUrlError;

    fn from_str(text: &str) -> Result<Self, HookUrlError> {
        let uri: Uri = text.parse().map_err(|_| HookUrlError)?;
        let authority = uri.authority().ok_or(HookUrlError)?;
        let (tls, port) = match uri.scheme_str() {
            Some("http") => (false, 80),
            Some("https") => (true, 443),
            _ => return Err(HookUrlError),
        };
        if authority.as_str().contains('@') || authority.host().is_empty() {
            return Err(HookUrlError);
        }
        let rest = authority.as_str().strip_prefix(authority.host());
        let port = match rest.ok_or(HookUrlError)? {
            "" => port,
            rest => {
                let digits = rest.strip_prefix(':').ok_or(HookUrlError)?;
                digits.parse().map_err(|_| HookUrlError)?
            }
        };
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self {
            endpoint: Endpoint { host, port },
            path: path.to_owned(),
            tls,
        })
    }
}

/// The webhook and how it is reached. Cheap to clone.
#[derive(Clone)]
pub struct Hook {
    url: HookUrl,
    tls: Option<Arc<ClientConfig>>,
    wake: Arc<Notify>,
}

impl Hook {
    /// The webhook there, which is shown the client certificate of `tls` if it speaks TLS.
    #[must_use]
    pub fn new(url: HookUrl, tls: Arc<ClientConfig>) -> Self {
        Self {
            tls: url.tls.then_some(tls),
            url,
            wake: Arc::default(),
        }
    }

    /// There is an entry that it hasn't taken.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Tells it of a node whose revocation nobody can sign: a few times, then no more.
    pub(super) fn tell_once(&self, id: &Uuid, msg: String) {
        let notification = Notification {
            msg,
            signature: String::new(),
        };
        // Two texts are always JSON.
        let body = serde_json::to_vec(&notification).unwrap_or_default();
        let (hook, id) = (self.clone(), id.clone());
        tokio::spawn(async move {
            let (mut link, mut pause) = (hook.link(), FIRST_PAUSE);
            for attempt in 1..=UNSIGNED_ATTEMPTS {
                match hook.post(&mut link, body.clone().into()).await {
                    Ok(()) => return,
                    Err(error) if attempt == UNSIGNED_ATTEMPTS => {
                        warn!(agent = %id, "its failure didn't reach the webhook: {error}");
                    }
                    Err(_) => sleep(jittered(pause)).await,
                }
                pause *= 2;
            }
        });
    }

    /// Brings it all entries that it hasn't taken, and those that come. Never ends by itself.
    pub async fn serve(self, revocations: Revocations) {
        let mut link = self.link();
        let (mut pause, mut said) = (FIRST_PAUSE, None);
        loop {
            match self.bring_all(&revocations, &mut link).await {
                Ok(()) => {
                    if said.take().is_some() {
                        info!("the webhook takes revocations again");
                    }
                    pause = FIRST_PAUSE;
                    // An idle connection is not kept for days.
                    link = self.link();
                    self.wake.notified().await;
                }
                Err(error) => {
                    if said.as_ref() != Some(&error) {
                        warn!(
                            "revocations don't reach the webhook, tried again until they do: {error}"
                        );
                        said = Some(error);
                    }
                    sleep(jittered(pause)).await;
                    pause = (pause * 2).min(LAST_PAUSE);
                }
            }
        }
    }

    async fn bring_all(&self, revocations: &Revocations, link: &mut Link) -> Result<(), String> {
        for log in revocations.logs() {
            self.bring(revocations, &log, link).await?;
        }
        Ok(())
    }

    async fn bring(
        &self,
        revocations: &Revocations,
        log: &Log,
        link: &mut Link,
    ) -> Result<(), String> {
        let store = revocations.store();
        loop {
            let number = log.webhook.load(Ordering::Acquire) + 1;
            if number > log.last() {
                return Ok(());
            }
            let body = log
                .body(store, number)
                .await
                .map_err(|error| error.to_string())?;
            let body = body.ok_or_else(|| format!("entry {number} of {} is gone", log.id))?;
            self.post(link, body.json).await?;
            if let Err(error) = store.webhook_took(&log.id, number).await {
                // It may get the entry once more after the next start, which it knows by its number.
                error!("what the webhook took can't be recorded: {error}");
            }
            log.webhook.store(number, Ordering::Release);
        }
    }

    async fn post(&self, link: &mut Link, body: bytes::Bytes) -> Result<(), String> {
        let answer = link.send(Method::POST, &self.url.path, Some(body)).await;
        let answer = answer.map_err(|error| error.to_string())?;
        match answer.status {
            200 | 202 => Ok(()),
            status => Err(format!(
                "{}: HTTP {status}, \"{}\"",
                self.url.endpoint,
                answer.reason()
            )),
        }
    }

    fn link(&self) -> Link {
        Link::new(self.url.endpoint.clone(), self.tls.clone(), LIMITS)
    }
}

/// Tries for what isn't signed.
const UNSIGNED_ATTEMPTS: u32 = 4;

const LIMITS: Limits = Limits {
    connect: Duration::from_secs(5),
    answer: Duration::from_secs(30),
    answer_bytes: 64 << 10,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        for (text, expected) in [
            (
                "http://a.example/hook?x=1",
                Some(("a.example:80", "/hook?x=1", false)),
            ),
            ("https://a.example", Some(("a.example:443", "/", true))),
            (
                "https://127.0.0.1:8443/a",
                Some(("127.0.0.1:8443", "/a", true)),
            ),
            ("https://[::1]:1/", Some(("[::1]:1", "/", true))),
            ("", None),
            ("/hook", None),
            ("a.example:80", None),
            ("ftp://a.example/", None),
            ("https://user:pass@a.example/", None),
            ("https://a.example:/", None),
            ("https://a.example:70000/", None),
            ("https:///hook", None),
            ("https://a b/", None),
        ] {
            let found = text.parse::<HookUrl>().ok();
            let found = found.map(|url| (url.endpoint.to_string(), url.path, url.tls));
            let found = found
                .as_ref()
                .map(|(place, path, tls)| (place.as_str(), path.as_str(), *tls));
            assert_eq!(found, expected, "{text}");
        }
    }
}
