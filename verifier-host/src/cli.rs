//! The command line of `keyhalf-verifier`.

use std::path::PathBuf;

use clap::Parser;

use crate::config::{Config, ConfigError, Flags};

/// Registrar and verifier of keyhalf: learns nodes by their TPM, attests them, and gives each its half of the payload key
/// once it has passed.
///
/// The first start makes cv_ca in the Keylime directory. Give cv_ca/cacert.crt to every agent (its trusted_client_ca), and cacert.crt,
/// client-cert.crt and client-private.pem to whoever is to administrate: keyhalf-tenant --tls-dir.
///
/// Each option can also come from a variable (KEYHALF_QUOTE_INTERVAL for --quote-interval; Keylime's names work too) or from a
/// file in the form of Keylime's verifier.conf; flags come first, then variables, then the file.
#[derive(Debug, Parser)]
#[command(name = "keyhalf-verifier", version)]
pub struct Cli {
    /// Configuration file, as Keylime's verifier.conf
    #[arg(long, value_name = "FILE", env = "KEYHALF_CONFIG")]
    config: Option<PathBuf>,
    /// Where certificates, database and keys are kept [default: /var/lib/keylime]
    #[arg(long, value_name = "DIR")]
    keylime_dir: Option<String>,
    /// Address that the verifier listens on [default: 127.0.0.1]
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<String>,
    /// Port that the verifier listens on [default: 8881]
    #[arg(long)]
    port: Option<String>,
    /// Address that the registrar listens on [default: 127.0.0.1]
    #[arg(long, value_name = "ADDRESS")]
    registrar_ip: Option<String>,
    /// Port where nodes register, without TLS [default: 8890]
    #[arg(long, value_name = "PORT")]
    registrar_port: Option<String>,
    /// Port where tenants ask the registrar, with TLS [default: 8891]
    #[arg(long, value_name = "PORT")]
    registrar_tls_port: Option<String>,
    /// Time between two quotes of a node; fractions are fine [default: 2]
    #[arg(long, value_name = "SECONDS")]
    quote_interval: Option<String>,
    /// Largest sealed payload that a tenant may deposit [default: 1073741824]
    #[arg(long, value_name = "BYTES")]
    max_payload_bytes: Option<String>,
    /// Who is told when a node fails, besides nodes that ask by themselves: agent, webhook, both (agent,webhook) or none ([])
    /// [default: agent]
    #[arg(long, value_name = "LIST")]
    enabled_revocation_notifications: Option<String>,
    /// Where the webhook takes revocations, as http:// or https://; it is shown cv_ca/client-cert.crt
    #[arg(long, value_name = "URL")]
    webhook_url: Option<String>,
    /// CAs in PEM that the webhook's server is trusted under [default: cv_ca/cacert.crt]
    #[arg(long, value_name = "FILE")]
    webhook_ca: Option<String>,
    /// What is logged to standard error: error, warn, info, debug, trace [default: info]
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
}

impl Cli {
    /// The configuration that command line, environment and file give together.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn config(self) -> Result<Config, ConfigError> {
        let flags: Flags = [
            ("keylime-dir", self.keylime_dir),
            ("ip", self.ip),
            ("port", self.port),
            ("registrar-ip", self.registrar_ip),
            ("registrar-port", self.registrar_port),
            ("registrar-tls-port", self.registrar_tls_port),
            ("quote-interval", self.quote_interval),
            ("max-payload-bytes", self.max_payload_bytes),
            (
                "enabled-revocation-notifications",
                self.enabled_revocation_notifications,
            ),
            ("webhook-url", self.webhook_url),
            ("webhook-ca", self.webhook_ca),
            ("log-level", self.log_level),
        ]
        .into_iter()
        .filter_map(|(name, value)| value.map(|value| (name, value)))
        .collect();
        Config::resolve(
            &flags,
            |name| std::env::var(name).ok(),
            self.config.as_deref(),
        )
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::Cli;

    #[test]
    fn definition_is_sound() {
        Cli::command().debug_assert();
    }
}
