//! The whole program: registrar and verifier over one database, until it is told to stop.

use std::io;
use std::sync::Arc;

use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::api::{self, v2, v3};
use crate::config::Config;
use crate::http::stop_switch;
use crate::memory;
use crate::payloads::Vault;
use crate::pki::{Authority, PkiError, Place, ServerTrust, read_certificates};
use crate::registrar::Registrar;
use crate::revocation::Notifications;
use crate::revocation::webhook::Hook;
use crate::rounds::schedule::{ChangeError, Rounds};
use crate::store::{Store, StoreError};

/// Why the program doesn't start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RunError {
    /// The database or the at-rest key.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The certificates in `cv_ca`.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The authorities of the webhook's server.
    #[error(
        "webhook_ca {0}; name a file of certificates in PEM (--webhook-ca), or none for the CA of cv_ca"
    )]
    WebhookCa(PkiError),
    /// The nodes of the database.
    #[error(transparent)]
    Rounds(Box<ChangeError>),
    /// The directory of sealed payloads.
    #[error("the directory of sealed payloads: {0}")]
    Vault(io::Error),
    /// An address can't be listened on.
    #[error("can't listen: {0}; is another verifier or registrar running?")]
    Listen(io::Error),
    /// The system gives no threads or signals.
    #[error("the system: {0}")]
    System(io::Error),
}

/// Runs until SIGTERM or SIGINT, then stops within a second.
///
/// # Errors
/// [`RunError`]: it didn't start.
pub fn run(config: &Config) -> Result<(), RunError> {
    log_to_stderr(config.log_level);
    memory::keep_private().map_err(RunError::System)?;
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(RunError::System)?
        .block_on(serve(config))
}

async fn serve(config: &Config) -> Result<(), RunError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(RunError::System)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::System)?;

    let store = Store::open(&config.keylime_dir).await?;
    let places = [config.verifier, config.registrar].map(|address| Place::Address(address.ip()));
    let authority = Arc::new(Authority::open_or_create(
        &config.keylime_dir.join("cv_ca"),
        &places,
    )?);
    let rounds = Rounds::new(
        store.clone(),
        Arc::clone(&authority),
        config.quote_interval,
        notifications(config, &authority)?,
    );
    let tls = authority.server_config()?;
    let registrar = Registrar::bind(
        store.clone(),
        config.registrar,
        config.registrar_tls,
        Arc::clone(&tls),
    )
    .await
    .map_err(RunError::Listen)?;
    rounds
        .resume()
        .await
        .map_err(|error| RunError::Rounds(Box::new(error)))?;
    let vault =
        Vault::open(&config.keylime_dir, &rounds.sealed_files()).map_err(RunError::Vault)?;
    let tenants = v2::Api {
        rounds: rounds.clone(),
        ip: config.verifier.ip().to_string(),
        port: config.verifier.port(),
        vault: vault.clone(),
    };
    let agents = v3::Api::new(rounds.clone(), vault, config.max_payload_bytes);
    let verifier = api::listen(config.verifier, tls, tenants, agents)
        .await
        .map_err(RunError::Listen)?;

    let (plain, with_tls) = registrar.addresses().map_err(RunError::Listen)?;
    info!("registrar listening on {plain}, with TLS on {with_tls}");
    info!(
        "verifier listening on {}",
        verifier.address().map_err(RunError::Listen)?
    );
    info!(
        "certificates in {}: agents trust cacert.crt, tenants use client-cert.crt and client-private.pem",
        authority.dir().display()
    );

    let (switch, stop) = stop_switch();
    let serving =
        tokio::spawn(
            async move { tokio::join!(registrar.serve(stop.clone()), verifier.serve(stop)) },
        );
    tokio::select! {
        _ = terminate.recv() => info!("stopping"),
        _ = interrupt.recv() => info!("stopping"),
    }
    switch.stop();
    rounds.shut_down().await;
    // Ends by itself; the error would be a panic, which has been printed.
    let _ = serving.await;
    store.close().await;
    Ok(())
}

/// Who is told of revocations.
fn notifications(config: &Config, authority: &Authority) -> Result<Notifications, RunError> {
    let webhook = match &config.webhook {
        None => None,
        Some(url) => {
            let trust = match &config.webhook_ca {
                None => authority.server_trust(),
                Some(path) => {
                    ServerTrust::Ca(read_certificates(path).map_err(RunError::WebhookCa)?)
                }
            };
            Some(Hook::new(url.clone(), authority.client_config(&trust)?))
        }
    };
    Ok(Notifications {
        agents: config.notify_agents,
        webhook,
    })
}

/// This program's own lines at the level, its libraries' from `warn` on: they know nothing of secrets.
fn log_to_stderr(level: LevelFilter) {
    let targets = Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target("verifier_host", level);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_target(false);
    // An error means that a test has set its own.
    let _ = tracing_subscriber::registry()
        .with(targets)
        .with(lines)
        .try_init();
}
