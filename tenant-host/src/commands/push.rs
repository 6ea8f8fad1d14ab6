//! The push model: the payload lies at the verifier, sealed, and the node comes for it.
//!
//! The agent is never contacted. That AK and EK sit in one TPM is the registrar's word; that the EK is this node's is not, so
//! it is pinned before anything is sealed.

use std::time::{Duration, Instant};

use agent_core::wire::manifest::{Deliver, Manifest};
use agent_core::wire::text::{Hex, Uuid};
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::Context;
use super::deliver::Stop;
use super::demands::Demands;
use crate::ca::CaDirectory;
use crate::cli::{Arguments, PayloadSource, Settings, UsageError};
use crate::deposit::course::{Course, Mode, Plan, Step, Verdict};
use crate::deposit::made::Made;
use crate::deposit::terms::{Wishes, names_boot};
use crate::error::Failure;
use crate::report::Report;
use crate::seal::SealError;
use crate::trust::known::{self, is_hash};
use crate::trust::pin::Told;

mod keys;
mod load;
mod queue;
pub(super) mod status;
mod work;

pub(super) use queue::{unqueue, watch};
use work::Work;

/// What is to be deposited for one node, checked before anybody is talked to.
pub(super) struct Job {
    /// The node.
    uuid: Uuid,
    mode: Mode,
    source: PayloadSource,
    /// The CA whose signer signs.
    ca: std::path::PathBuf,
    wishes: Wishes,
    told: Told,
    /// None for a rotation: the policies stay.
    demands: Option<Demands>,
    allow_weak_policy: bool,
    wait: Option<Duration>,
}

/// `add` and `update` with `--push-model`.
pub(super) async fn add(context: &mut Context<'_>, replace: bool) -> Result<Report, Failure> {
    let mode = if replace { Mode::Update } else { Mode::Add };
    let job = Job::read(context, mode).await?;
    let push = &context.arguments.push;
    if push.queue && context.registrar.record(&job.uuid).await?.is_none() {
        return queue::note(context, &job);
    }
    run(context, job).await
}

/// `rotate`: the node stays as it is, its payload is sealed anew.
pub(super) async fn rotate(context: &mut Context<'_>) -> Result<Report, Failure> {
    let job = Job::read(context, Mode::Rotate).await?;
    run(context, job).await
}

/// `signer`: the certificate that nodes pin, made if there is none, so that an image can hold it before anything is deposited.
pub(super) fn signer(arguments: &Arguments, settings: &Settings) -> Result<Report, Failure> {
    let ca = signing_ca(arguments, settings)?;
    let (passphrase, time) = (settings.ca_passphrase.as_ref(), OffsetDateTime::now_utc());
    let ca = CaDirectory::open_or_create(&ca, passphrase, time)?;
    let sha256 = Hex(&ca.payload_signer(passphrase, time)?.sha256()).to_string();
    let path = ca.signer_certificate();
    let path = path.display();
    let text = format!(
        "payloads are signed by the key of {path}\nnodes pin it as tenant_signer: that file, or sha256:{sha256}"
    );
    let json = json!({ "command": "signer", "certificate": path.to_string(), "sha256": sha256 });
    Ok(Report::done(text, json))
}

/// `confirm`: a TPM that was cleared or replaced is the node's.
pub(super) async fn confirm(context: &mut Context<'_>) -> Result<Report, Failure> {
    let uuid = context.uuid().await?;
    context.verifier.confirm(&uuid).await?;
    let text =
        format!("{uuid}: its cleared TPM is accepted; the next boot that passes gets its payload");
    let json = json!({ "command": "confirm", "uuid": uuid.as_str(), "confirmed": true });
    Ok(Report::done(text, json))
}

impl Job {
    async fn read(context: &Context<'_>, mode: Mode) -> Result<Self, Failure> {
        let (arguments, settings) = (context.arguments, context.settings);
        let uuid = arguments
            .node()?
            .ok_or(UsageError::Needs("--push-model", "-u"))?;
        let push = &arguments.push;
        let hash = arguments.expected_ek()?;
        let told = Told::read(push.ek_cert.as_deref(), hash, push.trust_new_ek)?;
        arguments.revocation.group()?;
        if mode == Mode::Rotate {
            refuse_policies(arguments)?;
        }
        let demands = match mode {
            Mode::Rotate => None,
            _ => Some(Demands::read(arguments, settings, context.limits).await?),
        };
        let job = Self {
            wait: waits(arguments, settings, &uuid, &told)?,
            source: arguments.payload_source(settings.keylime_dir.join("ca"))?,
            ca: signing_ca(arguments, settings)?,
            wishes: push.wishes()?,
            allow_weak_policy: push.allow_weak_policy,
            uuid,
            mode,
            told,
            demands,
        };
        job.check()?;
        Ok(job)
    }

    /// What no verifier and no node would take, said before anybody is asked.
    fn check(&self) -> Result<(), Failure> {
        match &self.source {
            PayloadSource::Sealed { .. } => {
                let instead = "the push model seals by itself: give --cert with --include, or -f";
                let option = "-k";
                return Err(UsageError::NotHere { option, instead }.into());
            }
            PayloadSource::None if self.mode == Mode::Rotate => {
                return Err(UsageError::Needs("-c rotate", "--cert or -f").into());
            }
            PayloadSource::None => return Ok(()),
            PayloadSource::Package { .. } | PayloadSource::File(_) => {}
        }
        if let Some(demands) = &self.demands {
            let weak = !demands.has_logs() && !names_boot(&demands.pcrs.text);
            if weak && !self.allow_weak_policy {
                return Err(Failure::WeakPolicy);
            }
        }
        Ok(())
    }

    const fn has_payload(&self) -> bool {
        !matches!(self.source, PayloadSource::None)
    }
}

fn refuse_policies(arguments: &Arguments) -> Result<(), UsageError> {
    let instead =
        "a rotation keeps the node's policies and group; `-c update --push-model` replaces them";
    let runtime = arguments.policies.runtime()?;
    let boot = arguments.policies.measured_boot(None)?;
    let given = [
        ("--tpm_policy", arguments.tpm_policy.is_some()),
        (
            "--runtime-policy",
            runtime.name.is_some() || runtime.file.is_some(),
        ),
        ("--mb-policy", boot.name.is_some() || boot.file.is_some()),
        ("--group", arguments.revocation.group.is_some()),
    ];
    match given.iter().find(|(_, is_given)| *is_given) {
        Some((option, _)) => Err(UsageError::NotHere { option, instead }),
        None => Ok(()),
    }
}

/// How long to wait for a node that hasn't registered. Only for one whose key is known: else the first who comes gets it.
fn waits(
    arguments: &Arguments,
    settings: &Settings,
    uuid: &Uuid,
    told: &Told,
) -> Result<Option<Duration>, Failure> {
    let push = &arguments.push;
    if push.wait.is_none() && !push.queue {
        return Ok(None);
    }
    if push.wait.is_some() && push.queue {
        return Err(UsageError::Both("--wait", "--queue").into());
    }
    if push.trust_new_ek {
        return Err(UsageError::Both("--trust-new-ek", "--wait or --queue").into());
    }
    let is_known = told.names_a_key()
        || is_hash(uuid.as_str())
        || known::recorded(&settings.known_eks, uuid)?.is_some();
    if !is_known {
        return Err(UsageError::Needs("--wait or --queue", "--ek-cert or --ek-hash").into());
    }
    Ok(push
        .wait
        .map(|seconds| seconds.map_or(settings.timeout, Duration::from_secs)))
}

fn signing_ca(
    arguments: &Arguments,
    settings: &Settings,
) -> Result<std::path::PathBuf, UsageError> {
    let default = || settings.keylime_dir.join("ca");
    let of_cert = arguments.cert.as_ref().map(|ca| match ca.as_os_str() {
        name if name == "default" => default(),
        _ => ca.clone(),
    });
    match (of_cert, &arguments.push.signer) {
        (Some(_), Some(_)) => Err(UsageError::Both("--cert", "--signer")),
        (Some(ca), None) => Ok(ca),
        (None, Some(ca)) => Ok(ca.clone()),
        (None, None) => Ok(default()),
    }
}

/// Runs a deposit to its end.
async fn run(context: &mut Context<'_>, job: Job) -> Result<Report, Failure> {
    let start = Instant::now();
    let mut stop = Stop::listen()?;
    let mut course = Course::new(Plan {
        mode: job.mode,
        payload: job.has_payload(),
        wait: job.wait,
        limit: context.settings.timeout,
    });
    let mut progress = context.output.progress();
    let mut work = Work::new(context, &job);
    loop {
        let step = course.step();
        if step == Step::Done {
            break;
        }
        let event = match step {
            Step::Pause(pause) => {
                progress.show(course.last_seen(), start.elapsed());
                match stop.or_pause(pause).await {
                    Some(_) => crate::deposit::course::Event::Interrupted,
                    None => continue,
                }
            }
            Step::Upload => work.upload(&mut progress, &mut stop).await,
            step => work.take(step).await,
        };
        course.happened(event, start.elapsed());
    }
    drop(progress);
    work.finish(&course)
}

/// The failure of a course that didn't come to its end.
fn failure(course: &Course, job: &Job, known: Option<Failure>) -> Failure {
    let uuid = job.uuid.to_string();
    let source = match course.verdict() {
        Some(Verdict::NotRegistered) => Failure::NotRegistered {
            uuid,
            waited: job.wait,
        },
        Some(Verdict::Exists) => Failure::ExistsForPush { uuid },
        Some(Verdict::Missing) => Failure::Unknown {
            who: "the verifier",
            uuid,
            hint: "`-c add --push-model` adds it",
        },
        Some(Verdict::TimedOut(seen)) => Failure::DepositTimeout(seen.clone()),
        Some(Verdict::Interrupted) => Failure::Stopped,
        _ => known.unwrap_or(Failure::Interrupted),
    };
    match course.withdrawn() {
        Some(result) => Failure::TakenBack {
            source: Box::new(source),
            uuid: job.uuid.to_string(),
            result: result.clone(),
        },
        None => source,
    }
}

/// The terms of a manifest, for programs.
fn terms_json(manifest: &Manifest) -> Value {
    let (deliver, until) = match manifest.deliver {
        Deliver::Once => ("once", None),
        Deliver::PerBoot => ("per-boot", None),
        Deliver::Until(time) => ("until", Some(time)),
    };
    json!({
        "payload_id": manifest.payload_id.to_string(), "sealed_bytes": manifest.sealed_bytes,
        "sealed_sha256": Hex(&manifest.sealed_sha256).to_string(), "deliver": deliver, "until": until,
        "floor": manifest.floor, "script": manifest.script.as_ref().map(|name| name.as_str()),
        "last_good_seconds": manifest.last_good_seconds, "cap_pcr": manifest.cap.pcr,
        "cap_bank": manifest.cap.bank.name(), "sealed_at": manifest.sealed_at,
    })
}

/// The terms of a manifest, for people.
fn terms_in_words(manifest: &Manifest) -> String {
    let deliver = match manifest.deliver {
        Deliver::Once => "to the first boot that asks".to_owned(),
        Deliver::PerBoot => "to each boot".to_owned(),
        Deliver::Until(time) => format!("to each boot until {}", date(time)),
    };
    let script = match &manifest.script {
        Some(name) => format!("script {name}"),
        None => "no script".to_owned(),
    };
    let floor = match manifest.floor {
        Some(floor) => format!("floor {floor}"),
        None => "no floor counter: the node can't notice an older deposit".to_owned(),
    };
    format!("{deliver}; {script}; {floor}")
}

/// A time as RFC 3339 writes it.
fn date(seconds: u64) -> String {
    use time::format_description::well_known::Rfc3339;
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| format!("{seconds} (seconds since 1970)"))
}

/// Now, in seconds since 1970.
fn now() -> u64 {
    u64::try_from(OffsetDateTime::now_utc().unix_timestamp()).unwrap_or(0)
}

/// Where sealing goes on aside, an end of its thread is an interruption.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let task = tokio::task::spawn_blocking(work);
    task.await.map_err(|_| Failure::Interrupted)?
}

/// That there is something to deposit, before it is waited for.
fn must_exist(source: &PayloadSource) -> Result<(), SealError> {
    match source {
        PayloadSource::Package {
            include: Some(include),
            ..
        } => crate::seal::list_tree(include).map(drop),
        PayloadSource::File(path) => crate::seal::list_file(path).map(drop),
        _ => Ok(()),
    }
}

/// What is reported of a deposit.
fn deposit_json(made: &Made, signer_sha256: &[u8; 32]) -> Value {
    let mut terms = terms_json(&made.manifest);
    if let Some(members) = terms.as_object_mut() {
        let unpacked = made.sealed.unpacked_bytes();
        members.insert("unpacked_bytes".to_owned(), unpacked.into());
        let signer = Hex(signer_sha256).to_string();
        members.insert("signer_sha256".to_owned(), signer.into());
    }
    terms
}
