//! What the kernel knows of a process.

use std::fs;
use std::io;
use std::time::Duration;

use hw_tests::Result;

/// The CPU time of a process so far, in user mode and in the kernel: of all its threads, those included that have ended.
///
/// It is what the scheduler counts, in nanoseconds; `utime` and `stime` of `/proc/PID/stat` are the same time cut to
/// ticks of 10 ms.
///
/// # Errors
/// There is no such process.
pub(crate) fn cpu_time(pid: u32) -> Result<Duration> {
    let pid = libc::pid_t::try_from(pid)?;
    let mut clock = 0;
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: both calls write to the variables given, which live on this stack, and to nothing else.
    let status = unsafe {
        match libc::clock_getcpuclockid(pid, &mut clock) {
            0 => libc::clock_gettime(clock, &mut time),
            error => return Err(io::Error::from_raw_os_error(error).into()),
        }
    };
    if status != 0 {
        return Err(io::Error::last_os_error().into());
    }
    Ok(Duration::new(
        u64::try_from(time.tv_sec)?,
        u32::try_from(time.tv_nsec)?,
    ))
}

/// A field of `/proc/PID/status` that is in KiB, such as `VmRSS`.
///
/// # Errors
/// There is no such process, or no such field.
pub(crate) fn status_kib(pid: u32, field: &str) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let value = status
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| *name == field)
        .and_then(|(_, value)| value.trim().strip_suffix(" kB"))
        .ok_or_else(|| format!("no {field} of process {pid}"))?;
    Ok(value.parse()?)
}

pub(crate) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

pub(crate) fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
