//! `keyhalf-tenant`, also called as `keylime_tenant`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    tenant_host::cli::run(std::env::args_os())
}
