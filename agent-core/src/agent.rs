//! The agent as a machine: requests go in, answers and duties come out; no socket, no clock, no file.
//!
//! Each request takes two steps. [`Agent::plan`] reads the head and says what to do with the body; the shell collects it
//! without holding the agent. [`Agent::finish`] then takes the whole request and gives an [`Outcome`].
//!
//! A refused request leaves the agent as it was. The one payload that waits and the one that arrives have a vault each;
//! while one is being opened or its script runs, a new one is refused ([`Refusal::Busy`]).

mod answer;
mod delivery;
mod keyring;
mod note;
mod revocations;
mod step;

use heapless::string::StringView;

use crate::http::Status;
use crate::http::head::{Length, RequestHead};
use crate::payload::halves::{Half, Key};
use crate::payload::seal;
use crate::revocation::{Act, hear};
use crate::tpm::Tpm;
use crate::tpm::quoting::{self, Quoted, Subject};
use crate::wire::form::{Sealed, UKey, VKey};
use crate::wire::quote::{HashAlg, PcrMask, QuoteWriter, SignAlg};
use crate::wire::route::{ApiVersion, ApiVersions, KeyText, Route};
use crate::wire::text::{Hex, Nonce, Uuid};

use delivery::{Delivery, Stage};
use keyring::{Fit, Keyring};

pub use answer::{Refusal, refuse};
pub use delivery::{Clipped, DeliveryNumber, OUTPUT_TAIL_BYTES, ScriptEnd, ScriptReport};
pub use note::Note;
pub use step::{Duty, Lease, Notes, OpenedPayload, Outcome, Peer, Plan, Request};

/// Room for the body of every answer. The longest is a quote of all PCRs (about 4.4 KB), or an outcome whose output is all
/// control characters (6 bytes for each of [`OUTPUT_TAIL_BYTES`]).
pub const MAX_ANSWER_BYTES: usize = 8 * 1024;

/// The largest body without a payload: a revocation notice, each letter of its message escaped, and its signature.
pub const MAX_SMALL_BODY_BYTES: u64 = 72 * 1024;

/// What a payload's body holds beside the payload's base64: the encrypted half, the tag, names and blanks.
pub const UKEY_REST_BYTES: u64 = 4 * 1024;

/// What an agent is told at its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentConfig {
    /// Its identifier.
    pub uuid: Uuid,
    /// The API versions that it speaks.
    pub versions: ApiVersions,
    /// The quoted bank, and the hash of the signature.
    pub bank: HashAlg,
    /// The attestation key's scheme.
    pub scheme: SignAlg,
    /// The attestation key's handle, for `agent/info`.
    pub ak_handle: u32,
    /// The largest sealed payload, in bytes.
    pub max_sealed_bytes: usize,
    /// The most that a payload may unpack to, in bytes, for `agent/info`.
    pub max_unpacked_bytes: u64,
}

/// The machine. `V` is a vault: memory that a sealed payload arrives in and is opened in, wiped when it is dropped.
pub struct Agent<V> {
    config: AgentConfig,
    keyring: Keyring,
    sealed: Option<Sealed<V>>,
    delivery: Delivery,
    leased: bool,
}

impl<V: AsRef<[u8]> + AsMut<[u8]>> Agent<V> {
    /// An agent that nothing has come to yet.
    #[must_use]
    pub fn new(config: AgentConfig) -> Self {
        Self {
            config,
            keyring: Keyring::default(),
            sealed: None,
            delivery: Delivery::default(),
            leased: false,
        }
    }

    /// Reads a head. Only [`Plan::UKey`] changes the agent: it takes the lease.
    pub fn plan(&mut self, head: &RequestHead<'_>, peer: Peer) -> Plan {
        let versions = self.config.versions;
        let route = match Route::parse(head.method, head.path, head.query, versions) {
            Ok(route) => route,
            Err(error) => return Plan::Refuse(Refusal::Route(error)),
        };
        let is_post = matches!(route, Route::UKey | Route::VKey | Route::Revocation);
        let length = match head.length {
            Length::Bytes(length) if is_post || length == 0 => length,
            Length::Bytes(_) => return Plan::Refuse(Refusal::UnwantedBody),
            Length::Unsaid if is_post => return Plan::Refuse(Refusal::NoLength),
            Length::Unsaid => 0,
        };
        match route {
            Route::UKey => match peer {
                Peer::Tenant => self.plan_upload(length),
                Peer::Other => Plan::Refuse(Refusal::NotTheTenant),
                Peer::Unknown => Plan::Refuse(Refusal::NotAuthenticated),
            },
            Route::VKey | Route::Revocation if length > MAX_SMALL_BODY_BYTES => {
                Plan::Refuse(Refusal::BodyTooLarge)
            }
            Route::VKey => Plan::VKey,
            Route::Revocation => Plan::Notice,
            route => Plan::Answer(route),
        }
    }

    fn plan_upload(&mut self, length: u64) -> Plan {
        let limit = self.config.max_sealed_bytes;
        let text = limit.div_ceil(3).saturating_mul(4);
        let longest = u64::try_from(text)
            .unwrap_or(u64::MAX)
            .saturating_add(UKEY_REST_BYTES);
        if length > longest {
            return Plan::Refuse(Refusal::BodyTooLarge);
        }
        if self.leased || self.delivery.is_under_way() {
            return Plan::Refuse(Refusal::Busy);
        }
        self.leased = true;
        // Four letters of the body give at most three bytes.
        let decoded = usize::try_from(length.div_ceil(4).saturating_mul(3));
        Plan::UKey(Lease {
            vault_bytes: decoded.unwrap_or(limit).min(limit),
        })
    }

    /// Takes the lease back from an upload that came to nothing.
    pub fn give_up(&mut self, _: Lease) {
        self.leased = false;
    }

    /// Answers a whole request into `out`, which needs [`MAX_ANSWER_BYTES`]. Logs aren't in it: [`Outcome::logs`] says which
    /// belong to it, to be read from now on, so that none is older than its quote.
    ///
    /// # Cost
    /// A quote or one decryption by the TPM; for the half that completes a key, also the decryption of the payload.
    pub fn finish<T: Tpm>(
        &mut self,
        request: Request<'_, V>,
        tpm: &mut T,
        act: &impl Act,
        out: &mut StringView,
    ) -> Outcome<V> {
        let mut notes = Notes::new();
        let mut duty = None;
        let logs = request.logs();
        let answered =
            match request {
                Request::Ask(Route::Outcomes { log_id, after }) => Ok(
                    revocations::answer_outcomes(log_id.as_ref(), after, act, out),
                ),
                Request::Ask(route) => self.answer(&route, tpm, &mut notes, out),
                Request::UKey(lease, ukey) => {
                    self.give_up(lease);
                    self.take_ukey(ukey, tpm, &mut notes).map(|taken| {
                        duty = taken;
                        answer::accept(out)
                    })
                }
                Request::VKey(vkey) => self.take_vkey(&vkey, tpm, &mut notes).map(|taken| {
                    duty = taken;
                    answer::accept(out)
                }),
                Request::Notice(notice) => {
                    let heard = hear(&notice, act);
                    put(&mut notes, Note::of(&heard));
                    heard
                        .map(|heard| revocations::answer_heard(&heard, act, out))
                        .map_err(Refusal::Notice)
                }
            };
        Outcome {
            logs: logs.filter(|_| answered.is_ok()),
            status: answered.unwrap_or_else(|refusal| refuse(refusal, out)),
            duty,
            notes,
        }
    }

    fn answer<T: Tpm>(
        &self,
        route: &Route,
        tpm: &mut T,
        notes: &mut Notes,
        out: &mut StringView,
    ) -> Result<Status, Refusal> {
        match route {
            Route::Version => Ok(answer::succeed(out, |results| {
                results.text("supported_version", self.config.versions.newest())?;
                results.texts("supported_versions", self.config.versions.iter())
            })),
            Route::Info(version) => Ok(self.info(*version, out)),
            Route::Identity { version, nonce } => {
                let quote = Asked {
                    version: *version,
                    nonce,
                    mask: PcrMask::EMPTY,
                    key: KeyText::Sent,
                };
                self.quote(&quote, tpm, notes, out)
            }
            Route::Integrity {
                version,
                nonce,
                mask,
                key,
                ..
            } => {
                let quote = Asked {
                    version: *version,
                    nonce,
                    mask: *mask,
                    key: *key,
                };
                self.quote(&quote, tpm, notes, out)
            }
            Route::TransportKey => Ok(answer::succeed(out, |results| {
                results.text("pubkey", &tpm.identity().transport_pem)
            })),
            Route::VerifyKey { challenge } => {
                let hmac = self.keyring.answer(challenge).ok_or(Refusal::NoKey)?;
                Ok(answer::succeed(out, |results| {
                    results.text("hmac", Hex(&hmac))
                }))
            }
            Route::Outcome => Ok(answer::succeed(out, |results| self.delivery.write(results))),
            // Their bodies make other requests of them, and the last is answered by the shell's memory.
            Route::UKey | Route::VKey | Route::Revocation | Route::Outcomes { .. } => {
                Err(Refusal::NoLength)
            }
        }
    }

    fn info(&self, version: ApiVersion, out: &mut StringView) -> Status {
        answer::succeed(out, |results| {
            results.text("agent_uuid", &self.config.uuid)?;
            results.text("tpm_hash_alg", self.config.bank.name())?;
            results.text("tpm_enc_alg", encryption_name(version))?;
            results.text("tpm_sign_alg", self.config.scheme.name())?;
            results.number("ak_handle", self.config.ak_handle)?;
            // Ours: Keylime's agents don't say how much they take.
            let limit = u64::try_from(self.config.max_sealed_bytes);
            results.number("max_sealed_bytes", limit.unwrap_or(u64::MAX))?;
            results.number("max_unpacked_bytes", self.config.max_unpacked_bytes)
        })
    }

    fn quote<T: Tpm>(
        &self,
        asked: &Asked<'_>,
        tpm: &mut T,
        notes: &mut Notes,
        out: &mut StringView,
    ) -> Result<Status, Refusal> {
        let bank = self.config.bank;
        let mut quoted = Quoted::empty(bank);
        // PCR 16 stands for the transport key.
        let statement = bank.digest([tpm.identity().transport_pem.as_bytes()]);
        let subject = Subject {
            nonce: asked.nonce.as_str().as_bytes(),
            bank,
            pcrs: asked.mask,
            statement: &statement,
        };
        quoting::quote(tpm, &subject, &mut quoted).map_err(|failure| {
            put(notes, Note::NoQuote(Clipped::head(failure)));
            Refusal::NoQuote
        })?;
        Ok(answer::succeed(out, |results| {
            let text = QuoteWriter {
                attest: &quoted.quote.attest,
                signature: &quoted.quote.signature,
                dump: &quoted.dump,
            };
            results.text("quote", text)?;
            results.text("hash_alg", bank.name())?;
            results.text("enc_alg", encryption_name(asked.version))?;
            results.text("sign_alg", self.config.scheme.name())?;
            match asked.key {
                KeyText::Sent => results.text("pubkey", &tpm.identity().transport_pem),
                KeyText::Omitted => Ok(()),
            }
        }))
    }

    fn take_ukey<T: Tpm>(
        &mut self,
        ukey: UKey<V>,
        tpm: &mut T,
        notes: &mut Notes,
    ) -> Result<Option<Duty<V>>, Refusal> {
        // An older payload may have been opened while this one arrived.
        if self.delivery.is_under_way() {
            return Err(Refusal::Busy);
        }
        let half = decrypt_half(&ukey.encrypted_key, tpm, notes)?;
        let (fit, lost) = self.keyring.take_u(half, ukey.auth_tag, &self.config.uuid);
        if lost {
            put(notes, Note::ULost);
        }
        let payload = ukey.sealed.as_ref().map(|sealed| sealed.length);
        put(notes, Note::UReceived { payload });
        self.delivery
            .receive(ukey.sealed.as_ref().map(|sealed| sealed.sha256));
        self.sealed = ukey.sealed;
        Ok(self.after_half(fit, notes))
    }

    fn take_vkey<T: Tpm>(
        &mut self,
        vkey: &VKey,
        tpm: &mut T,
        notes: &mut Notes,
    ) -> Result<Option<Duty<V>>, Refusal> {
        let half = decrypt_half(&vkey.encrypted_key, tpm, notes)?;
        let (fit, lost) = self.keyring.take_v(half, &self.config.uuid);
        if lost {
            put(notes, Note::VLost);
        }
        put(notes, Note::VReceived);
        Ok(self.after_half(fit, notes))
    }

    /// Opens what waited for the key, if the key is there now.
    fn after_half(&mut self, fit: Fit, notes: &mut Notes) -> Option<Duty<V>> {
        match fit {
            Fit::Alone => return None,
            Fit::Apart => {
                put(notes, Note::HalvesApart);
                return None;
            }
            Fit::Together => put(notes, Note::KeyMade),
        }
        let Some(sealed) = self.sealed.take() else {
            // A key alone was delivered, and is there.
            self.delivery.finish(None);
            return None;
        };
        let opened = self
            .keyring
            .key()
            .and_then(|key| open(key, sealed, self.delivery.number()));
        if opened.is_some() {
            self.delivery.reach(Stage::Opened);
        } else {
            self.delivery.fail("the payload does not open with its key");
            put(notes, Note::SealBroken);
        }
        opened.map(Duty::Unpack)
    }

    /// The shell has put the files in place.
    pub fn unpacked(&mut self, number: DeliveryNumber) {
        if self.is_at_work_on(number) {
            self.delivery.reach(Stage::Unpacked);
        }
    }

    /// All is done; `None` if the payload has no script.
    pub fn finished(&mut self, number: DeliveryNumber, script: Option<ScriptReport>) {
        if self.is_at_work_on(number) {
            self.delivery.finish(script);
        }
    }

    /// It went wrong before a script could end; the reason goes to the tenant.
    pub fn failed(&mut self, number: DeliveryNumber, reason: impl core::fmt::Display) {
        if self.is_at_work_on(number) {
            self.delivery.fail(reason);
        }
    }

    fn is_at_work_on(&self, number: DeliveryNumber) -> bool {
        self.delivery.is_under_way() && self.delivery.number() == number
    }
}

/// What a quote is asked for.
struct Asked<'n> {
    version: ApiVersion,
    nonce: &'n Nonce,
    mask: PcrMask,
    key: KeyText,
}

/// The transport key's algorithm, as this version names it.
fn encryption_name(version: ApiVersion) -> &'static str {
    if version >= ApiVersion::WITH_KEY_SIZES {
        "rsa2048"
    } else {
        "rsa"
    }
}

fn decrypt_half<T: Tpm>(encrypted: &[u8], tpm: &mut T, notes: &mut Notes) -> Result<Half, Refusal> {
    let opened = tpm.oaep_decrypt(encrypted).map_err(|error| {
        put(notes, Note::KeyNotDecrypted(Clipped::head(error)));
        Refusal::KeyCiphertext
    })?;
    let bytes = opened.bytes.as_ref().get(..opened.len);
    Half::from_slice(bytes.unwrap_or_default()).map_err(|_| Refusal::KeyLength)
}

fn open<V: AsRef<[u8]> + AsMut<[u8]>>(
    key: &Key,
    sealed: Sealed<V>,
    number: DeliveryNumber,
) -> Option<OpenedPayload<V>> {
    let Sealed {
        mut vault, length, ..
    } = sealed;
    let plaintext = seal::open_single(key, vault.as_mut().get_mut(..length)?).ok()?;
    let end = seal::NONCE_BYTES.checked_add(plaintext.len())?;
    Some(OpenedPayload {
        number,
        vault,
        plaintext: seal::NONCE_BYTES..end,
    })
}

/// Notes beyond the room for them are lost; no step makes more than four.
fn put(notes: &mut Notes, note: Note) {
    let _ = notes.push(note);
}
