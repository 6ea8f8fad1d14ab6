//! The tables of where the time goes, and their plot beside them, for `hw-tests/docs`.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use hw_tests::Result;

use super::chart;
use super::stages::{AGENT, AGENTS_FIRST, BOOT, Stage, Timeline};
use crate::figure::Runs;

/// What was measured.
pub(super) struct Measured {
    /// From power-on to the secret.
    pub(super) boots: Vec<Timeline>,
    /// The agent's part of further boots, whose log says more.
    pub(super) agents: Vec<Timeline>,
    /// What those waited for the TPM.
    pub(super) tpm: Runs,
    /// The host's load average of the minute before.
    pub(super) load: f64,
}

/// Writes `boot.md` and `boot.svg`, in place of those of an earlier run.
///
/// # Errors
/// They can't be written.
pub(super) fn write(docs: &Path, measured: &Measured) -> Result {
    fs::create_dir_all(docs)?;
    let (page, plot) = (docs.join("boot.md"), docs.join("boot.svg"));
    fs::write(&page, text(measured)?)?;
    fs::write(&plot, chart::svg(measured)?)?;
    eprintln!("written: {} and {}", page.display(), plot.display());
    Ok(())
}

fn text(measured: &Measured) -> Result<String> {
    let Measured {
        boots,
        agents,
        tpm,
        load,
    } = measured;
    let mut page = format!(
        "# From power-on to secret\n\n\
         Written by `./hw-tests/bench boot`: {} boots of a guest ({}) that has registered before and has a deposit. SeaBIOS, \
         Debian's cloud kernel, busybox, the static agent, swtpm, the documented payload. Times are those of the guest's kernel \
         log, and the host's before the kernel's clock runs. When it began, the host had a load of {load}: what is far above 0 \
         makes every stage longer.\n\n\
         ![Where the time goes](boot.svg)\n\n",
        boots.len(),
        super::machine(),
    );
    let whole = took(boots, |boot| boot.from(0));
    let agent = took(boots, |boot| boot.from(AGENTS_FIRST));
    table(&mut page, &BOOT, boots)?;
    row(
        &mut page,
        "**the agent, from its start to its exit**",
        &agent,
        &whole,
    )?;
    row(&mut page, "**power-on to secret**", &whole, &whole)?;
    write!(
        page,
        "\n## The agent's part\n\n\
         {} further boots, whose agent logs each command to its TPM: that costs time itself, most of it on the guest's serial \
         port. The TPM's answers took {:.0} ms of it.\n\n",
        agents.len(),
        tpm.median(),
    )?;
    let whole = took(agents, |agent| agent.from(0));
    table(&mut page, &AGENT, agents)?;
    row(&mut page, "**the agent**", &whole, &whole)?;
    Ok(page)
}

fn table(page: &mut String, stages: &[Stage], timelines: &[Timeline]) -> Result {
    page.push_str(
        "| stage | median ms | least | most | share |\n| --- | ---: | ---: | ---: | ---: |\n",
    );
    let whole = took(timelines, |one| one.from(0));
    for (number, stage) in stages.iter().enumerate() {
        let took = took(timelines, |one| one.took(number));
        row(page, stage.name, &took, &whole)?;
    }
    Ok(())
}

fn row(page: &mut String, name: &str, took: &Runs, whole: &Runs) -> Result {
    let (median, (least, most)) = (took.median(), took.ends());
    let share = 100.0 * median / whole.median();
    let numbers = format!("{median:.0} | {least:.0} | {most:.0} | {share:.0} %");
    Ok(writeln!(page, "| {name} | {numbers} |")?)
}

/// How long something took, boot by boot.
pub(super) fn took(timelines: &[Timeline], of: impl Fn(&Timeline) -> f64) -> Runs {
    timelines.iter().map(of).collect::<Vec<_>>().into()
}
