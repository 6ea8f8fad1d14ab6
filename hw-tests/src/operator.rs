//! An operator whose registrar, verifier and tenant come from two makers, keyhalf and Keylime.

use std::net::Ipv4Addr;
use std::sync::Arc;

use crate::Result;
use crate::keylime::{self, Keylime, Setting};
use crate::machine::Machine;
use crate::servers::{Servers, Verifier};
use crate::site::{Site, fresh_address};
use crate::tenant::Tenant;

/// Whose program it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker {
    /// keyhalf's.
    Keyhalf,
    /// Keylime's.
    Keylime,
}

/// One operator's servers, on one machine with one `cv_ca`: that of whoever's verifier it is.
#[derive(Debug)]
pub struct Operator<'site> {
    site: &'site Site,
    machine: Arc<Machine>,
    keyhalf: Option<Verifier<'site>>,
    keylime: Keylime<'site>,
    registrar: Maker,
    verifier: Maker,
}

impl<'site> Operator<'site> {
    /// Servers of these makers, running.
    ///
    /// # Errors
    /// One doesn't start.
    pub fn start(site: &'site Site, registrar: Maker, verifier: Maker) -> Result<Self> {
        Self::start_with(site, registrar, verifier, &[])
    }

    /// As [`Operator::start`], with options for Keylime's programs.
    ///
    /// # Errors
    /// As [`Operator::start`].
    pub fn start_with(
        site: &'site Site,
        registrar: Maker,
        verifier: Maker,
        settings: &[Setting<'_>],
    ) -> Result<Self> {
        let machine = Arc::new(Machine::new(site, "operator")?);
        let address = fresh_address();
        // One certificate for servers at two addresses: Keylime is told of the other one, as its operator would tell it.
        let names = (
            "verifier",
            "cert_subject_alternative_names",
            address.to_string(),
        );
        let names = (names.0, names.1, names.2.as_str());
        let settings = [&[names], settings].concat();
        let mut keylime = Keylime::install_on(site, Arc::clone(&machine), &settings)?;
        // Who makes the certificates is first; the others find them.
        if verifier == Maker::Keylime {
            keylime.start_verifier()?;
        }
        let mut keyhalf = None;
        if [registrar, verifier].contains(&Maker::Keyhalf) {
            let machine = Arc::clone(&machine);
            keyhalf = Some(Verifier::start_on(site, machine, address, &[])?);
        }
        if registrar == Maker::Keylime {
            keylime.start_registrar()?;
        }
        Ok(Self {
            site,
            machine,
            keyhalf,
            keylime,
            registrar,
            verifier,
        })
    }

    /// A tenant of this maker beside them.
    ///
    /// # Errors
    /// No TPM was made yet.
    pub fn tenant(&self, maker: Maker) -> Result<Tenant<'_>> {
        match maker {
            Maker::Keyhalf => Tenant::beside(self),
            Maker::Keylime => Tenant::keylimes_beside(self),
        }
    }

    /// Keylime's servers, of which those run that were asked for.
    pub fn keylime(&self) -> &Keylime<'site> {
        &self.keylime
    }

    /// Runs one of Keylime's tools to its end, where the tenant stands.
    ///
    /// # Errors
    /// It fails.
    pub fn keylimes_tool(&self, module: &str, arguments: &[&str]) -> Result {
        let output = keylime::program(&self.machine, module)
            .args(arguments)
            .output()?;
        if output.status.success() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&output.stderr);
        Err(format!("Keylime's {module}: {}: {text}", output.status).into())
    }

    fn address_of(&self, maker: Maker) -> Ipv4Addr {
        match (maker, &self.keyhalf) {
            (Maker::Keyhalf, Some(servers)) => servers.address(),
            _ => self.keylime.address(),
        }
    }
}

impl<'site> Servers<'site> for Operator<'site> {
    fn site(&self) -> &'site Site {
        self.site
    }

    fn machine(&self) -> &Machine {
        &self.machine
    }

    fn registrar(&self) -> Ipv4Addr {
        self.address_of(self.registrar)
    }

    fn verifier(&self) -> Ipv4Addr {
        self.address_of(self.verifier)
    }
}
