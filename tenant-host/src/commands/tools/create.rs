//! `policy create`: policies of what is there.

use clap::Subcommand;

use crate::error::Failure;
use crate::report::{Output, Report};

pub mod measured_boot;
pub mod runtime;
pub mod tpm;

/// What kind of policy is made.
#[derive(Clone, Debug, Subcommand)]
pub enum Create {
    /// A runtime policy, which says what IMA may measure: of trees, images, packages and logs.
    Runtime(runtime::Arguments),
    /// A tpm_policy, which says what PCRs must hold: of a node that answers now, or of what tpm2_pcrread prints.
    Tpm(tpm::Arguments),
    /// A measured-boot policy, which says what the boot log must show: of the log of a machine that is trusted.
    MeasuredBoot(measured_boot::Arguments),
}

pub(super) async fn run(create: &Create, output: &Output) -> Result<Report, Failure> {
    match create {
        Create::Runtime(arguments) => runtime::run(arguments, output),
        Create::MeasuredBoot(arguments) => measured_boot::run(arguments, output),
        Create::Tpm(arguments) => tpm::run(arguments, output).await,
    }
}
