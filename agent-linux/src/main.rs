//! Reads the command line, runs, and says how it ended.

#[cfg(no_unwinding)]
mod unwinding;

use std::io::Write;
use std::process::ExitCode;

use agent_core::outbound::Mode;
use agent_linux::config::{Invocation, help};
use agent_linux::exit::Exit;
use agent_linux::{calling, log, offline};

fn main() -> ExitCode {
    #[cfg(feature = "tss")]
    agent_linux::tpm::tss::quiet_library();
    let arguments = std::env::args_os().skip(1);
    let exit = match Invocation::read(arguments, |name| std::env::var(name).ok()) {
        Ok(Invocation::Help(command)) => print(&help(command)),
        Ok(Invocation::Version) => {
            print(concat!("keyhalf-agent ", env!("CARGO_PKG_VERSION"), "\n"))
        }
        #[cfg(feature = "pull")]
        Ok(Invocation::Serve(config, warnings)) => {
            log::begin(config.log_level, &warnings);
            match agent_linux::run::serve(&std::sync::Arc::new(*config)) {
                Ok(()) => Exit::Done,
                Err(error) => fail(&error, Exit::Internal),
            }
        }
        Ok(Invocation::Push(config, warnings)) => {
            log::begin(config.log_level, &warnings);
            calling::call(Mode::Push, *config)
        }
        Ok(Invocation::Provision(config, warnings)) => {
            log::begin(config.log_level, &warnings);
            calling::call(Mode::Provision, *config)
        }
        Ok(Invocation::Cap(config, warnings)) => {
            log::begin(config.log_level, &warnings);
            offline::cap(&config)
        }
        Ok(Invocation::Floor(config, warnings)) => {
            log::begin(config.log_level, &warnings);
            match offline::floor(&config) {
                Ok(text) => print(&text),
                Err(exit) => exit,
            }
        }
        #[cfg(feature = "install")]
        Ok(Invocation::InstallInitramfs(config)) => match agent_linux::install::install(&config) {
            Ok(text) => print(&text),
            Err(error) => fail(&error, error.exit()),
        },
        Err(error) => fail(&error, Exit::Usage),
    };
    exit.into()
}

fn print(text: &str) -> Exit {
    // A reader that has seen enough is no failure.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Exit::Done
}

fn fail(error: &impl std::fmt::Display, exit: Exit) -> Exit {
    eprintln!("keyhalf-agent: {error}");
    exit
}
