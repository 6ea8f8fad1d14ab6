//! Does what [`Course`] says: asks, seals, sends.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent_core::wire::text::Uuid;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use verifier_host::envelope::CURRENT_VERSION;
use verifier_host::link::Sent;

use super::keys::Found;
use super::load::{self, Load, Recipe};
use super::{Job, Mode, aside, deposit_json, failure, must_exist, terms_in_words};
use crate::client::{ClientError, Enrolled, Enrolment, PayloadAnswer, Verifier};
use crate::commands::deliver::Stop;
use crate::commands::{Context, logs, manage};
use crate::deposit::course::{Course, Event, Step, Verdict};
use crate::deposit::record::Record;
use crate::deposit::view::SignedManifest;
use crate::error::{Failure, RotateError};
use crate::report::{Progress, Report};
use crate::trust::Vouched;
use crate::trust::known::{self, Known};
use crate::trust::pin::{PinError, Pinned};

/// What the verifier was told of a node's certificate and group; empty if it doesn't say.
async fn metadata_of(verifier: &mut Verifier, uuid: &Uuid) -> Result<String, Failure> {
    let details = verifier.details(uuid).await?;
    let metadata = details
        .as_ref()
        .and_then(|details| details.get("meta_data"));
    Ok(metadata
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned())
}

/// A node that fails is revoked by the certificate that the verifier knows: it must be the one that the payload brings.
fn check_certificate(known: &str, brought: &str) -> Result<(), RotateError> {
    let (known, brought) = (logs::serial_in(known), logs::serial_in(brought));
    match brought {
        Some(brought) if known != Some(brought) => {
            Err(RotateError::AnotherCertificate { known, brought })
        }
        _ => Ok(()),
    }
}

/// How often an upload's progress is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// The port of an agent that registered without one; nobody will call it.
const AGENT_PORT: u16 = 9002;

/// What has been found and made so far.
pub(super) struct Work<'w, 'a> {
    context: &'w mut Context<'a>,
    job: &'w Job,
    found: Option<Found>,
    last: Option<SignedManifest>,
    load: Option<Load>,
    /// Why the last step went wrong.
    failure: Option<Failure>,
    removed: bool,
}

impl<'w, 'a> Work<'w, 'a> {
    pub(super) const fn new(context: &'w mut Context<'a>, job: &'w Job) -> Self {
        Self {
            context,
            job,
            found: None,
            last: None,
            load: None,
            failure: None,
            removed: false,
        }
    }

    /// Does a step, and keeps why it went wrong.
    pub(super) async fn take(&mut self, step: Step) -> Event {
        let result = match step {
            Step::AskRegistrar => self.ask_registrar().await,
            Step::AskVerifier => self.ask_verifier().await,
            Step::Seal => self.seal().await,
            Step::RemoveOld => self.remove_old().await,
            Step::Enrol => self.enrol().await,
            Step::Deposit => self.deposit().await,
            Step::LookUp => self.look_up().await,
            Step::Withdraw => return self.withdraw().await,
            Step::Upload | Step::Pause(_) | Step::Done => return Event::Failed,
        };
        self.event(result)
    }

    fn event(&mut self, result: Result<Event, Failure>) -> Event {
        let failure = match result {
            Ok(event) => return event,
            Err(failure) => failure,
        };
        let event = match &failure {
            Failure::Client(error) if error.may_pass() => Event::Unreachable(error.to_string()),
            Failure::Pin(
                PinError::AnotherCertificate { .. }
                | PinError::AnotherHash { .. }
                | PinError::Unknown { .. },
            ) => Event::AnotherKey,
            _ => Event::Failed,
        };
        self.failure = Some(failure);
        event
    }

    async fn ask_registrar(&mut self) -> Result<Event, Failure> {
        let Some(record) = self.context.registrar.record(&self.job.uuid).await? else {
            if self.job.wait.is_some() {
                // What can't be read then would be found out too late.
                must_exist(&self.job.source)?;
            }
            return Ok(Event::NotRegistered);
        };
        self.found = Some(Found::check(self.job, self.context.settings, record)?);
        Ok(Event::Registered)
    }

    async fn ask_verifier(&mut self) -> Result<Event, Failure> {
        let uuid = &self.job.uuid;
        if self.job.has_payload() {
            if let PayloadAnswer::View(view, _) = self.context.verifier.payload(uuid).await? {
                self.last = view.deposit.and_then(|deposit| deposit.signed_manifest());
            }
            if self.job.mode == Mode::Rotate && self.last.is_none() {
                return Err(RotateError::Nothing.into());
            }
        }
        if let Some(demands) = &self.job.demands {
            demands.check_at(&mut self.context.verifier, uuid).await?;
        }
        let view = self.context.verifier.view(uuid).await?;
        Ok(Event::Verifier(view.is_some()))
    }

    async fn seal(&mut self) -> Result<Event, Failure> {
        let (job, settings) = (self.job, self.context.settings);
        let (arguments, verifier) = (self.context.arguments, &mut self.context.verifier);
        // What the verifier knows of the node stays as it is: a rotation doesn't add it anew.
        let known = match job.mode {
            Mode::Rotate => Some(metadata_of(verifier, &job.uuid).await?),
            _ => None,
        };
        let group = match (&known, arguments.revocation.group()?) {
            (Some(known), _) => logs::group_in(known),
            (None, group) => group.map(str::to_owned),
        };
        if job.mode == Mode::Rotate && !job.ca.join("cacert.crt").exists() {
            // No CA is made for a rotation: a new one's signer would be another than the node pins.
            return Err(RotateError::Foreign.into());
        }
        let source = &job.source;
        let beginning =
            logs::begin(verifier, source, group.as_deref(), arguments, settings).await?;
        let found = self.found.as_ref().ok_or(Failure::Interrupted)?;
        let last = (job.mode == Mode::Rotate)
            .then(|| self.last.take())
            .flatten();
        let record: Option<Record> = settings.deposits.read(&job.uuid)?;
        let recipe = Recipe {
            beginning,
            group,
            uuid: job.uuid.clone(),
            source: job.source.clone(),
            ca: job.ca.clone(),
            wishes: job.wishes.clone(),
            ek: found.ek.clone(),
            ak: found.ak.clone(),
            policies: job
                .demands
                .as_ref()
                .map(|demands| (demands.pcrs.text.clone(), demands.sha256())),
            last,
            record,
        };
        let shared = Arc::clone(settings);
        let load = aside(move || load::prepare(recipe, &shared)).await?;
        if let Some(known) = &known {
            check_certificate(known, &load.metadata)?;
        }
        known::check_or_record(&settings.known_eks, &job.uuid, &found.ek_hash)?;
        self.say(found, &load);
        self.load = Some(load);
        Ok(Event::Sealed)
    }

    fn say(&self, found: &Found, load: &Load) {
        let (uuid, output) = (&self.job.uuid, self.context.output);
        if found.known == Known::First {
            let by = found.pinned.as_ref().map_or("", Pinned::name);
            let file = self.context.settings.known_eks.display();
            output.say(&format!(
                "EK of {uuid}: {}, known by {by}; recorded in {file}",
                found.ek_hash
            ));
        }
        if let Some(Pinned::FirstUse(Vouched::Nobody { reason })) = &found.pinned {
            output.say(&format!(
                "warning: nobody vouches for this TPM, accepted by require_ek_cert = False: {reason}"
            ));
        }
        if let Some(directory) = load.new_ca.as_deref().map(Path::display) {
            output.say(&format!(
                "made a certificate authority in {directory}; keep its ca-private.pem and PayloadSigner-private.pem to yourself"
            ));
        }
        let demands = self.job.demands.iter();
        demands
            .flat_map(super::Demands::warnings)
            .for_each(|warning| output.say(warning));
        load.warnings.iter().for_each(|warning| output.say(warning));
    }

    async fn remove_old(&mut self) -> Result<Event, Failure> {
        let limit = self.context.settings.timeout;
        self.removed =
            manage::delete_and_wait(&mut self.context.verifier, &self.job.uuid, limit).await?;
        Ok(Event::Removed)
    }

    async fn enrol(&mut self) -> Result<Event, Failure> {
        let uuid = self.job.uuid.to_string();
        let (Some(found), Some(demands)) = (&self.found, &self.job.demands) else {
            return Err(Failure::Interrupted);
        };
        let ak_text = BASE64.encode(found.ak.marshalled());
        let settings = self.context.settings;
        let load = self.load.as_ref();
        let enrolment = Enrolment {
            v: None,
            cloudagent_ip: found.record.ip.as_deref().unwrap_or("127.0.0.1"),
            cloudagent_port: found.record.port.unwrap_or(AGENT_PORT),
            verifier_ip: &settings.verifier.host,
            verifier_port: settings.verifier.port.to_string(),
            tpm_policy: demands.pcrs.text.clone(),
            runtime_policy: &demands.runtime_text,
            runtime_policy_name: demands.runtime_name(),
            runtime_policy_key: &demands.runtime_key,
            mb_policy: demands.boot_text(),
            mb_policy_name: demands.boot_name(),
            ima_sign_verification_keys: "",
            metadata: match load {
                Some(load) => load.metadata.clone(),
                None => logs::metadata(None, self.context.arguments.revocation.group()?),
            },
            revocation_key: load.map_or("", |load| load.revocation_key.as_str()),
            accept_tpm_hash_algs: &settings.accept_hash,
            accept_tpm_encryption_algs: &settings.accept_encryption,
            accept_tpm_signing_algs: &settings.accept_signing,
            ak_tpm: &ak_text,
            // What an agent registers that doesn't listen: the verifier waits for it to call.
            mtls_cert: "disabled",
            supported_version: CURRENT_VERSION.to_owned(),
        };
        match self
            .context
            .verifier
            .enrol(&self.job.uuid, &enrolment)
            .await?
        {
            Enrolled::New => Ok(Event::Enrolled),
            Enrolled::Exists(reason) => Err(Failure::EnrolConflict { uuid, reason }),
        }
    }

    async fn deposit(&mut self) -> Result<Event, Failure> {
        let load = self.load.as_ref().ok_or(Failure::Interrupted)?;
        let body = load
            .made
            .to_body(self.job.allow_weak_policy)
            .map_err(|error| Failure::Output(error.into()))?;
        self.context
            .verifier
            .put_payload(&self.job.uuid, body)
            .await?;
        Ok(Event::Deposited)
    }

    /// Sends the sealed bytes, and shows how far that is.
    pub(super) async fn upload(&mut self, progress: &mut Progress, stop: &mut Stop) -> Event {
        let Some(load) = &self.load else {
            return Event::Failed;
        };
        let (sent, start, all) = (Sent::default(), Instant::now(), load.made.sealed.bytes());
        let verifier = &mut self.context.verifier;
        let result = {
            let upload = verifier.put_sealed(&self.job.uuid, &load.made.sealed, &sent);
            tokio::pin!(upload);
            loop {
                tokio::select! {
                    result = &mut upload => break result,
                    stopped = stop.or_pause(LOOK) => match stopped {
                        Some(_) => return Event::Interrupted,
                        None => progress.show_bytes("sending the sealed payload", sent.bytes(), all, start.elapsed()),
                    },
                }
            }
        };
        let result = match result {
            Ok(true) => Ok(Event::Uploaded),
            Ok(false) => Ok(Event::UnknownPayload),
            Err(error) => Err(error.into()),
        };
        self.event(result)
    }

    async fn look_up(&mut self) -> Result<Event, Failure> {
        let load = self.load.as_ref().ok_or(Failure::Interrupted)?;
        let ours = load.made.manifest.payload_id.to_string();
        let answer = self.context.verifier.payload(&self.job.uuid).await?;
        let found = match answer {
            PayloadAnswer::View(view, _) => view
                .deposit
                .is_some_and(|deposit| deposit.payload_id == ours),
            PayloadAnswer::Nothing | PayloadAnswer::UnknownNode | PayloadAnswer::OtherModel => {
                false
            }
        };
        Ok(Event::Found(found))
    }

    async fn withdraw(&mut self) -> Event {
        let result: Result<_, ClientError> = self.context.verifier.delete(&self.job.uuid).await;
        Event::Withdrawn(result.map(|_| ()).map_err(|error| error.to_string()))
    }

    /// The report of a deposit that is whole, or the failure.
    pub(super) fn finish(self, course: &Course) -> Result<Report, Failure> {
        if course.verdict() != Some(&Verdict::Done) {
            let source = failure(course, self.job, self.failure);
            return Err(match self.removed {
                true => Failure::AfterRemoval {
                    source: Box::new(source),
                },
                false => source,
            });
        }
        let uuid = self.job.uuid.as_str();
        let command = match self.job.mode {
            Mode::Add => "add",
            Mode::Update => "update",
            Mode::Rotate => "rotate",
        };
        let found = self.found.as_ref().ok_or(Failure::Interrupted)?;
        let pinned = found.pinned.as_ref().map(Pinned::name);
        let mut json = json!({
            "command": command, "uuid": uuid, "model": "push",
            "ek": { "hash": found.ek_hash, "known_by": pinned, "first_seen": found.known == Known::First },
        });
        let mut insert = |name: &str, value: Value| {
            if let Some(members) = json.as_object_mut() {
                members.insert(name.to_owned(), value);
            }
        };
        if let Some(demands) = &self.job.demands {
            insert("policies", demands.as_json());
        }
        let Some(load) = &self.load else {
            insert("result", "enrolled".into());
            let text =
                format!("{uuid} is at the verifier, which waits for it to call; it has no payload");
            return Ok(Report::done(text, json));
        };
        let record = load::record_of(load, &found.ak, &found.ek_hash);
        if let Err(error) = self
            .context
            .settings
            .deposits
            .write(&self.job.uuid, &record)
        {
            // The deposit is there all the same.
            self.context.output.say(&format!(
                "warning: {error}; status can't tell then whether the verifier shows this deposit or another"
            ));
        }
        insert("result", "deposited".into());
        insert("deposit", deposit_json(&load.made, &load.signer_sha256));
        let manifest = &load.made.manifest;
        let text = format!(
            "{uuid}: payload {} is deposited, {} bytes sealed, to be released {}\nsigner: {} (the node's configuration has to pin it)",
            manifest.payload_id,
            manifest.sealed_bytes,
            terms_in_words(manifest),
            record.signer_sha256
        );
        Ok(Report::done(text, json))
    }
}
