//! The commands, each from its question to its report.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use agent_core::wire::text::Uuid;
use verifier_host::link::{Endpoint, Limits, LinkError};
use verifier_host::pki::{Credentials, ServerTrust, client_config, read_certificates};

use crate::cli::{Arguments, Command, Settings, UsageError};
use crate::client::{ClientError, Peer, Registrar, RegistrarRecord, Verifier};
use crate::error::Failure;
use crate::report::{Output, Report};

mod add;
mod agree;
pub mod ca;
mod deliver;
mod demands;
mod greet;
mod logs;
mod manage;
mod payload;
mod policies;
mod policy;
mod push;
mod revocations;
mod status;
pub mod tools;

/// How long it may take to connect.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// The largest answer of a server: a list of 100,000 nodes has 4 MB, all that is known of them 60.
const ANSWER_BYTES: usize = 64 << 20;

/// What every command works with.
struct Context<'a> {
    arguments: &'a Arguments,
    settings: &'a Arc<Settings>,
    output: &'a Output,
    credentials: Credentials,
    limits: Limits,
    registrar: Registrar,
    verifier: Verifier,
}

/// Runs a command.
///
/// # Errors
/// [`Failure`]: why it didn't happen. A delivery that was begun ends with a [`Report`], whatever came of it.
pub async fn run(
    command: Command,
    arguments: &Arguments,
    settings: &Arc<Settings>,
    output: &Output,
) -> Result<Report, Failure> {
    refuse_lonely(command, arguments)?;
    // What is about files alone has none: no server need be there yet.
    let context = || Context::new(arguments, settings, output);
    let push_model = arguments.push.push_model;
    match command {
        Command::Add if push_model => push::add(&mut context()?, false).await,
        Command::Update if push_model => push::add(&mut context()?, true).await,
        Command::Signer => push::signer(arguments, settings),
        Command::Rotate => push::rotate(&mut context()?).await,
        Command::Confirm => push::confirm(&mut context()?).await,
        Command::Watch => push::watch(&mut context()?).await,
        Command::Add => add::add(&mut context()?, false).await,
        Command::Update => add::add(&mut context()?, true).await,
        Command::Delete => manage::delete(&mut context()?).await,
        Command::RegistrarDelete => manage::registrar_delete(&mut context()?).await,
        Command::Reactivate => manage::reactivate(&mut context()?).await,
        Command::Status => status::both(&mut context()?).await,
        Command::VerifierStatus => status::verifier(&mut context()?).await,
        Command::RegistrarStatus => status::registrar(&mut context()?).await,
        Command::VerifierList => status::verifier_list(&mut context()?).await,
        Command::RegistrarList => status::registrar_list(&mut context()?).await,
        Command::BulkInfo => status::bulk(&mut context()?).await,
        Command::Revoke => {
            // Asked for before anything that a server or a file could be at fault for.
            let reason = arguments.revocation.reason()?;
            revocations::revoke(&mut context()?, reason).await
        }
        Command::Revocations => revocations::show(&mut context()?).await,
        Command::Policy(action, kind) => policies::run(&mut context()?, action, kind).await,
    }
}

/// Options of the push model mean nothing to the other one: with them left aside something else would happen than was meant.
fn refuse_lonely(command: Command, arguments: &Arguments) -> Result<(), UsageError> {
    let pull = matches!(command, Command::Add | Command::Update) && !arguments.push.push_model;
    match arguments.push.lonely().filter(|_| pull) {
        Some(option) => Err(UsageError::Needs(option, "--push-model")),
        None => Ok(()),
    }
}

impl<'a> Context<'a> {
    fn new(
        arguments: &'a Arguments,
        settings: &'a Arc<Settings>,
        output: &'a Output,
    ) -> Result<Self, Failure> {
        let credentials = Credentials::read(&settings.client_cert, &settings.client_key)?;
        let mut cas = Vec::new();
        for path in &settings.server_cas {
            cas.extend(read_certificates(path)?);
        }
        let trust = ServerTrust::Ca(cas);
        let tls = client_config(&trust, Some(&credentials))?;
        let limits = Limits {
            connect: CONNECT_LIMIT.min(settings.request_timeout),
            answer: settings.request_timeout,
            answer_bytes: ANSWER_BYTES,
        };
        Ok(Self {
            arguments,
            settings,
            output,
            credentials,
            limits,
            registrar: Registrar::new(settings.registrar.clone(), Arc::clone(&tls), limits),
            verifier: Verifier::new(settings.verifier.clone(), tls, limits),
        })
    }

    /// The node that is meant: the one of `-u`, else the only one that registered with the address of `-t`.
    async fn uuid(&mut self) -> Result<Uuid, Failure> {
        match self.arguments.node()? {
            Some(uuid) => Ok(uuid),
            None => Ok(self.find().await?.0),
        }
    }

    /// The node that is meant, with the registrar's record.
    async fn registered(&mut self) -> Result<(Uuid, RegistrarRecord), Failure> {
        let Some(uuid) = self.arguments.node()? else {
            return self.find().await;
        };
        match self.registrar.record(&uuid).await? {
            Some(record) => Ok((uuid, record)),
            None => Err(Failure::Unknown {
                who: Peer::Registrar.name(),
                uuid: uuid.to_string(),
                hint: "Has its agent started and registered? `-c reglist` shows who has",
            }),
        }
    }

    /// The only node that registered with the address of `-t`, and the port of `-tp` if that is given.
    async fn find(&mut self) -> Result<(Uuid, RegistrarRecord), Failure> {
        let host = self
            .arguments
            .targethost
            .clone()
            .ok_or(UsageError::NoNode)?;
        let addresses = resolve(&host).await?;
        let port = self.arguments.targetport;
        let mut found: Vec<(Uuid, RegistrarRecord)> = Vec::new();
        for text in self.registrar.list().await? {
            let Some(uuid) = Uuid::parse(&text) else {
                continue;
            };
            // Gone since the list was made: no match.
            let Some(record) = self.registrar.record(&uuid).await? else {
                continue;
            };
            if lives_at(&record, &host, &addresses)
                && port.is_none_or(|port| record.port == Some(port))
            {
                found.push((uuid, record));
            }
        }
        let place = port.map_or_else(|| host.clone(), |port| format!("{host} port {port}"));
        exactly_one(found, &place)
    }
}

/// The only node found, or an error that lists what was found instead.
fn exactly_one(
    found: Vec<(Uuid, RegistrarRecord)>,
    place: &str,
) -> Result<(Uuid, RegistrarRecord), Failure> {
    match <[_; 1]>::try_from(found) {
        Ok([only]) => Ok(only),
        Err(found) if found.is_empty() => Err(Failure::Ambiguous(format!(
            "no node has registered with the address {place}. `-c reglist` shows who has; -u names one by its identifier"
        ))),
        Err(found) => {
            let list = found.iter().map(|(uuid, record)| {
                let port = record
                    .port
                    .map_or_else(|| "?".to_owned(), |port| port.to_string());
                format!("{uuid} (port {port})")
            });
            Err(Failure::Ambiguous(format!(
                "{} nodes have registered with the address {place}: {}. Name one with -u",
                found.len(),
                list.collect::<Vec<_>>().join(", ")
            )))
        }
    }
}

/// Whether a record names one of these addresses, or the host by name.
fn lives_at(record: &RegistrarRecord, host: &str, addresses: &[IpAddr]) -> bool {
    let Some(ip) = record.ip.as_deref() else {
        return false;
    };
    ip.eq_ignore_ascii_case(host)
        || ip
            .parse()
            .is_ok_and(|ip: IpAddr| addresses.contains(&ip.to_canonical()))
}

/// The addresses of a host.
async fn resolve(host: &str) -> Result<Vec<IpAddr>, ClientError> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![address.to_canonical()]);
    }
    match tokio::net::lookup_host((host, 0)).await {
        Ok(addresses) => Ok(addresses
            .map(|address| address.ip().to_canonical())
            .collect()),
        Err(source) => Err(ClientError::link(
            Peer::Agent,
            LinkError::Resolve {
                peer: Endpoint {
                    host: host.to_owned(),
                    port: 0,
                },
                source,
            },
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(ip: Option<&str>) -> RegistrarRecord {
        RegistrarRecord {
            ek_tpm: String::new(),
            ekcert: None,
            aik_tpm: String::new(),
            ip: ip.map(str::to_owned),
            port: Some(9002),
            mtls_cert: None,
            regcount: None,
        }
    }

    #[test]
    fn an_address_must_mean_exactly_one_node() {
        let nodes = |names: &[&str]| {
            let named = names.iter().filter_map(|name| Uuid::parse(name));
            exactly_one(named.map(|uuid| (uuid, record(None))).collect(), "10.0.0.7")
        };
        assert!(nodes(&["a"]).is_ok_and(|(uuid, _)| uuid.as_str() == "a"));
        let none = nodes(&[]).err().map(|error| error.to_string());
        assert!(none.is_some_and(|text| {
            text.starts_with("no node has registered with the address 10.0.0.7")
        }));
        let several = nodes(&["a", "b"]).err().map(|error| error.to_string());
        assert!(
            several.is_some_and(|text| text.contains("10.0.0.7: a (port 9002), b (port 9002)"))
        );
    }

    #[test]
    fn a_record_matches_by_address_or_by_name() {
        let addresses = [IpAddr::from([10, 0, 0, 7])];
        let rows = [
            ("the same", Some("10.0.0.7"), true),
            ("mapped into IPv6", Some("::ffff:10.0.0.7"), true),
            ("the name", Some("Node7"), true),
            ("another", Some("10.0.0.70"), false),
            ("everywhere", Some("0.0.0.0"), false),
            ("none", None, false),
        ];
        for (name, ip, wanted) in rows {
            assert_eq!(lives_at(&record(ip), "node7", &addresses), wanted, "{name}");
        }
    }
}
