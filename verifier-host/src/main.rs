//! `keyhalf-verifier`: registrar and verifier in one program.

use std::process::ExitCode;

use clap::Parser as _;
use verifier_host::cli::Cli;
use verifier_host::program;

fn main() -> ExitCode {
    let config = match Cli::parse().config() {
        Ok(config) => config,
        Err(error) => return failed(&error),
    };
    match program::run(&config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn failed(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("keyhalf-verifier: {error}");
    ExitCode::FAILURE
}
