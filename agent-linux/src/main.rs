//! Reads the command line, runs, and says how it ended.

#[cfg(no_unwinding)]
mod unwinding;

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use agent_linux::config::{Invocation, help};

fn main() -> ExitCode {
    #[cfg(feature = "tss")]
    agent_linux::tpm::tss::quiet_library();
    let arguments = std::env::args_os().skip(1);
    let ended = match Invocation::read(arguments, |name| std::env::var(name).ok()) {
        Ok(Invocation::Help) => return print(&help()),
        Ok(Invocation::Version) => {
            return print(concat!("keyhalf-agent ", env!("CARGO_PKG_VERSION"), "\n"));
        }
        Ok(Invocation::Serve(config, warnings)) => {
            agent_linux::log::start(config.log_level);
            warnings.iter().for_each(|text| log::warn!("{text}"));
            agent_linux::run::serve(&Arc::new(*config)).map_err(|error| error.to_string())
        }
        Err(error) => Err(error.to_string()),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("keyhalf-agent: {error}");
            ExitCode::FAILURE
        }
    }
}

fn print(text: &str) -> ExitCode {
    // A reader that has seen enough is no failure.
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}
