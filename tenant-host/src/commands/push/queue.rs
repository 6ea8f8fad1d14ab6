//! Requests for nodes that haven't registered yet: `--queue` notes one, `watch` works them off.
//!
//! A request names files and a key; what the files hold is read when the payload is sealed. No secret is in it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agent_core::wire::text::Uuid;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use serde_json::json;
use verifier_host::evidence::certificate::EkCertificate;

use super::{Job, Mode, must_exist, now};
use crate::cli::{Arguments, PolicyArguments, PushArguments, RevocationArguments};
use crate::commands::Context;
use crate::commands::deliver::Stop;
use crate::deposit::record::StateError;
use crate::error::{Exit, Failure};
use crate::report::Report;

/// How often `watch` asks.
const ROUND: Duration = Duration::from_secs(5);

/// The form of a request.
const FORMAT: u32 = 1;

/// What to deposit once the node has registered.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    format: u32,
    noted_at: u64,
    replace: bool,
    cert: Option<PathBuf>,
    include: Option<PathBuf>,
    file: Option<PathBuf>,
    /// The EK's certificate, base64 DER.
    ek_certificate: Option<String>,
    ek_hash: Option<String>,
    tpm_policy: Option<String>,
    policies: PolicyArguments,
    push: PushArguments,
    /// What requests of older programs don't have.
    #[serde(default)]
    revocation: RevocationArguments,
}

/// Notes a request, in place of an older one for the node.
pub(super) fn note(context: &Context<'_>, job: &Job) -> Result<Report, Failure> {
    must_exist(&job.source)?;
    let queue = &context.settings.queue;
    let request = Request::of(context.arguments, job, &absolute)?;
    let replaced = queue.read::<Request>(&job.uuid)?.is_some();
    queue.write(&job.uuid, &request)?;
    let uuid = job.uuid.as_str();
    let text = format!(
        "{uuid} hasn't registered yet: the request is noted in {}{}. `keyhalf-tenant watch` deposits when it has",
        queue.path(&job.uuid).display(),
        if replaced {
            ", in place of an older one"
        } else {
            ""
        }
    );
    let json = json!({ "command": "add", "uuid": uuid, "model": "push", "result": "queued", "replaced": replaced });
    Ok(Report::done(text, json))
}

/// Forgets the request for a node. False if there was none.
pub(in crate::commands) fn unqueue(context: &Context<'_>, uuid: &Uuid) -> Result<bool, Failure> {
    Ok(context.settings.queue.remove(uuid)?)
}

impl Request {
    fn of(
        arguments: &Arguments,
        job: &Job,
        absolute: &dyn Fn(&Path) -> Result<PathBuf, StateError>,
    ) -> Result<Self, StateError> {
        // The word isn't a path.
        let path = |path: &Option<PathBuf>| match path {
            Some(path) if path.as_os_str() == "default" => Ok(Some(path.clone())),
            Some(path) => absolute(path).map(Some),
            None => Ok(None),
        };
        let given = &arguments.policies;
        let policies = PolicyArguments {
            runtime_policy: path(&given.runtime_policy)?,
            runtime_policy_sig_key: path(&given.runtime_policy_sig_key)?,
            mb_policy: path(&given.mb_policy)?,
            allowlist: path(&given.allowlist)?,
            exclude: path(&given.exclude)?,
            mb_refstate: path(&given.mb_refstate)?,
            ..given.clone()
        };
        let certificate = job.told.certificate.as_ref();
        Ok(Self {
            format: FORMAT,
            noted_at: now(),
            replace: job.mode == Mode::Update,
            cert: path(&arguments.cert)?,
            include: path(&arguments.include)?,
            file: path(&arguments.file)?,
            ek_certificate: certificate.map(|certificate| BASE64.encode(certificate.der())),
            ek_hash: job.told.hash.clone(),
            tpm_policy: arguments.tpm_policy.clone(),
            policies,
            push: PushArguments {
                signer: path(&arguments.push.signer)?,
                ek_cert: None,
                wait: None,
                queue: false,
                queue_dir: None,
                ..arguments.push.clone()
            },
            revocation: arguments.revocation.clone(),
        })
    }

    /// The command line that the request stands for, with the rest from the one of `watch`.
    fn arguments(&self, uuid: &Uuid, watch: &Arguments) -> Arguments {
        Arguments {
            command: if self.replace { "update" } else { "add" }.to_owned(),
            word: None,
            uuid: Some(uuid.to_string()),
            cert: self.cert.clone(),
            include: self.include.clone(),
            file: self.file.clone(),
            ek_hash: self.ek_hash.clone(),
            tpm_policy: self.tpm_policy.clone(),
            policies: self.policies.clone(),
            push: self.push.clone(),
            revocation: self.revocation.clone(),
            ..watch.clone()
        }
    }

    /// The certificate that was told.
    fn certificate(&self) -> Option<EkCertificate> {
        let der = BASE64.decode(self.ek_certificate.as_ref()?).ok()?;
        EkCertificate::parse(&der).ok()
    }
}

fn absolute(path: &Path) -> Result<PathBuf, StateError> {
    std::path::absolute(path).map_err(|source| StateError::Io {
        action: "find",
        path: path.to_owned(),
        source,
    })
}

/// What `watch` has done.
#[derive(Default)]
struct Tally {
    deposited: Vec<String>,
    /// What went wrong, by node: each reason is said once.
    failed: BTreeMap<Uuid, (String, Exit)>,
}

/// Works requests off until it is stopped, or once.
pub(in crate::commands) async fn watch(context: &mut Context<'_>) -> Result<Report, Failure> {
    let queue = &context.settings.queue;
    let _alone = queue.lock()?;
    let once = context.arguments.push.once;
    let mut stop = Stop::listen()?;
    let mut tally = Tally::default();
    loop {
        let nodes = queue.nodes()?;
        tally.failed.retain(|uuid, _| nodes.contains(uuid));
        for uuid in &nodes {
            work_off(context, uuid, &mut tally).await;
        }
        if once || stop.or_pause(ROUND).await.is_some() {
            break;
        }
    }
    let left: Vec<String> = queue.nodes()?.iter().map(Uuid::to_string).collect();
    let failed = tally.failed.iter();
    let failed: BTreeMap<&str, &str> = failed
        .map(|(uuid, (reason, _))| (uuid.as_str(), reason.as_str()))
        .collect();
    let exit = match once {
        true => tally
            .failed
            .values()
            .next()
            .map_or(Exit::Done, |(_, exit)| *exit),
        false => Exit::Done,
    };
    let text = format!(
        "{} deposited, {} left in {}",
        tally.deposited.len(),
        left.len(),
        queue.directory().display()
    );
    let json =
        json!({ "command": "watch", "deposited": tally.deposited, "left": left, "failed": failed });
    Ok(Report { exit, text, json })
}

/// Works one request off, if its node has registered. What goes wrong is said, and tried again in the next round.
async fn work_off(context: &mut Context<'_>, uuid: &Uuid, tally: &mut Tally) {
    let failure = match try_one(context, uuid).await {
        Ok(None) => {
            tally.failed.remove(uuid);
            return;
        }
        Ok(Some(report)) => {
            context.output.say(&report.text);
            tally.deposited.push(uuid.to_string());
            tally.failed.remove(uuid);
            return;
        }
        Err(failure) => failure,
    };
    let (reason, exit) = (failure.to_string(), failure.exit());
    if tally
        .failed
        .get(uuid)
        .is_none_or(|(known, _)| *known != reason)
    {
        context.output.say(&format!("{uuid}: {reason}"));
    }
    tally.failed.insert(uuid.clone(), (reason, exit));
}

/// Deposits for one node; `None` if it hasn't registered.
async fn try_one(context: &mut Context<'_>, uuid: &Uuid) -> Result<Option<Report>, Failure> {
    let (settings, output) = (context.settings, context.output);
    let Some(request) = settings.queue.read::<Request>(uuid)? else {
        // Somebody took it back.
        return Ok(None);
    };
    if request.format != FORMAT {
        let (uuid, format) = (uuid.to_string(), request.format);
        return Err(Failure::RequestFormat { uuid, format });
    }
    if context.registrar.record(uuid).await?.is_none() {
        return Ok(None);
    }
    let arguments = request.arguments(uuid, context.arguments);
    let mut own = Context::new(&arguments, settings, output)?;
    let mode = if request.replace {
        Mode::Update
    } else {
        Mode::Add
    };
    let mut job = Job::read(&own, mode).await?;
    job.told.certificate = request.certificate();
    if request.ek_certificate.is_some() && job.told.certificate.is_none() {
        let (uuid, format) = (uuid.to_string(), request.format);
        return Err(Failure::RequestFormat { uuid, format });
    }
    let report = super::run(&mut own, job).await?;
    settings.queue.remove(uuid)?;
    Ok(Some(report))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

    use clap::Parser as _;

    use super::*;
    use crate::deposit::terms::Wishes;
    use crate::trust::pin::Told;

    #[test]
    fn a_request_stands_for_its_command_line() {
        let parse = |text: &str| Arguments::try_parse_from(text.split_whitespace()).unwrap();
        let hash = "a".repeat(64);
        let words = format!(
            "t -c update -u node --push-model --cert ca --include tree --ek-hash {hash} --deliver once --floor 3 \
             --runtime-policy p.json --mb-policy default --queue --timeout 5 -v here"
        );
        let given = parse(&words);
        let job = Job {
            uuid: Uuid::parse("node").unwrap(),
            mode: Mode::Update,
            source: given.payload_source("x".into()).unwrap(),
            ca: "ca".into(),
            wishes: Wishes::default(),
            told: Told {
                hash: Some(hash.clone()),
                ..Told::default()
            },
            demands: None,
            allow_weak_policy: false,
            wait: None,
        };
        let absolute = |path: &Path| Ok(Path::new("/here").join(path));
        let request = Request::of(&given, &job, &absolute).unwrap();
        let text = serde_json::to_string(&request).unwrap();
        let request: Request = serde_json::from_str(&text).unwrap();
        let again = request.arguments(&job.uuid, &parse("t -c watch --once --timeout 9 -v there"));
        let kept = (again.command.as_str(), again.uuid.as_deref(), again.ek_hash);
        assert_eq!(kept, ("update", Some("node"), Some(hash)));
        let paths = [&again.cert, &again.include, &again.policies.runtime_policy];
        let paths = paths.map(|path| path.as_ref().unwrap().to_str().unwrap().to_owned());
        assert_eq!(paths, ["/here/ca", "/here/tree", "/here/p.json"]);
        assert_eq!(again.policies.mb_policy.unwrap(), Path::new("default"));
        let push = (
            again.push.deliver.as_deref(),
            again.push.floor,
            again.push.queue,
        );
        assert_eq!(push, (Some("once"), Some(3), false));
        // Servers and limits are those of `watch`.
        let watch = (again.timeout, again.verifier_ip.as_deref());
        assert_eq!(watch, (Some(9), Some("there")));
    }
}
