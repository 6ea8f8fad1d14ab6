//! What happened and when: every line that a program says, as it says it, and the moments that matter.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hw_tests::process::Log;

/// Prints what is said until it is told to stop.
pub(crate) struct Timeline {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<Vec<(Duration, Moment)>>,
}

/// What a line can mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    KernelRuns,
    TpmFound,
    InitStarts,
    KernelPanics,
    AgentSpeaks,
    Registered,
    TenantAnswers,
    Added,
    Deposited,
    Passed,
    VGiven,
    Released,
    Unpacked,
    ScriptTold,
    Capped,
    NoSecret,
    KernelEnds,
}

impl Moment {
    fn text(self) -> &'static str {
        match self {
            Self::KernelRuns => "the kernel runs",
            Self::TpmFound => "the kernel has found the TPM",
            Self::InitStarts => "the kernel starts /init",
            Self::KernelPanics => "the kernel panics",
            Self::AgentSpeaks => "the console speaks of the agent",
            Self::Registered => "the node registers",
            Self::TenantAnswers => "the tenant's program has an answer",
            Self::Added => "the node is added",
            Self::Deposited => "the payload is deposited for it",
            Self::Passed => "the node has passed",
            Self::VGiven => "it has the verifier's half of the key",
            Self::Released => "the verifier's half of the key is released to it",
            Self::Unpacked => "the payload is unpacked",
            Self::ScriptTold => "the node has told how the payload's script ended",
            Self::Capped => "this boot is capped: it gets nothing more",
            Self::NoSecret => "the boot goes on without the secret",
            Self::KernelEnds => "the kernel goes down",
        }
    }
}

/// Which line means what: `(who says it, part of the line, what it means)`. The first such line counts.
const LINES: [(&str, &str, Moment); 20] = [
    ("console", "Linux version", Moment::KernelRuns),
    ("console", "2.0 TPM", Moment::TpmFound),
    ("console", "Run /init", Moment::InitStarts),
    ("console", "Kernel panic", Moment::KernelPanics),
    ("console", "keyhalf", Moment::AgentSpeaks),
    ("console", "the verifier", Moment::AgentSpeaks),
    ("console", "not registered at", Moment::AgentSpeaks),
    ("verifier", "registered agent=", Moment::Registered),
    ("tenant", "", Moment::TenantAnswers),
    ("verifier", " added", Moment::Added),
    ("verifier", " deposited", Moment::Deposited),
    ("verifier", "passed", Moment::Passed),
    ("verifier", "V given", Moment::VGiven),
    ("verifier", " released", Moment::Released),
    ("verifier", ": unpacked", Moment::Unpacked),
    ("console", "payload unpacked", Moment::Unpacked),
    ("verifier", ": finished", Moment::ScriptTold),
    ("console", "is capped in every bank", Moment::Capped),
    ("console", "no secret for this boot", Moment::NoSecret),
    ("console", "reboot: ", Moment::KernelEnds),
];

impl Timeline {
    /// Follows these logs; times count from now.
    pub(crate) fn start(logs: Vec<(&'static str, Arc<Log>)>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let since = Instant::now();
        let thread = thread::spawn(move || {
            let mut shown = vec![0; logs.len()];
            let mut moments = Vec::new();
            loop {
                // What is said before it stops is still shown.
                let last = stopped.load(Ordering::Acquire);
                for ((who, log), shown) in logs.iter().zip(&mut shown) {
                    let said = log.len();
                    if said == *shown {
                        continue;
                    }
                    for line in log.text().lines().take(said).skip(*shown) {
                        let at = since.elapsed();
                        println!("{:9.3}  {who:8}  {line}", at.as_secs_f64());
                        note(&mut moments, at, who, line);
                    }
                    *shown = said;
                }
                if last {
                    return moments;
                }
                thread::sleep(Duration::from_millis(10));
            }
        });
        Self { stop, thread }
    }

    /// Stops, prints the moments that matter, and returns them.
    pub(crate) fn summarize(self) -> Vec<Moment> {
        self.stop.store(true, Ordering::Release);
        let moments = self.thread.join().unwrap_or_default();
        println!("\nseconds since power-on:");
        for (at, moment) in &moments {
            println!("{:9.3}  {}", at.as_secs_f64(), moment.text());
        }
        moments.into_iter().map(|(_, moment)| moment).collect()
    }
}

fn note(moments: &mut Vec<(Duration, Moment)>, at: Duration, who: &str, line: &str) {
    // The kernel repeats the words that it was given.
    if who == "console" && line.contains("ommand line") {
        return;
    }
    for (speaker, part, moment) in LINES {
        let known = moments.iter().any(|(_, earlier)| *earlier == moment);
        if speaker == who && line.contains(part) && !known {
            moments.push((at, moment));
        }
    }
}
