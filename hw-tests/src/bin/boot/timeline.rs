//! What happened and when: every line that a program says, as it says it, and the moments that matter.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hw_tests::process::Log;

/// Prints what is said until it is told to stop.
pub(crate) struct Timeline {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<Vec<(Duration, &'static str)>>,
}

/// Which line means what: `(who says it, part of the line, what it means)`. The first such line counts.
const MOMENTS: [(&str, &str, &str); 12] = [
    ("console", "Linux version", "the kernel runs"),
    ("console", "2.0 TPM", "the kernel has found the TPM"),
    ("console", "Run /init", "the kernel starts /init"),
    ("console", "Kernel panic", "the kernel panics"),
    (
        "console",
        "keyhalf-agent",
        "the console speaks of the agent",
    ),
    ("verifier", "registered", "the node registers"),
    ("tenant", "", "the tenant's program has an answer"),
    ("verifier", "added", "the node is added"),
    ("verifier", "passed", "the node has passed"),
    (
        "verifier",
        "V given",
        "it has the verifier's half of the key",
    ),
    ("console", "payload unpacked", "the payload is unpacked"),
    ("console", "reboot: ", "the kernel goes down"),
];

impl Timeline {
    /// Follows these logs; times count from now.
    pub(crate) fn start(logs: Vec<(&'static str, Arc<Log>)>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let since = Instant::now();
        let thread = thread::spawn(move || {
            let mut shown = vec![0; logs.len()];
            let mut moments: Vec<(Duration, &'static str)> = Vec::new();
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

    /// Stops, and prints the moments that matter.
    pub(crate) fn summarize(self) {
        self.stop.store(true, Ordering::Release);
        let moments = self.thread.join().unwrap_or_default();
        println!("\nseconds since power-on:");
        for (at, what) in moments {
            println!("{:9.3}  {what}", at.as_secs_f64());
        }
    }
}

fn note(moments: &mut Vec<(Duration, &'static str)>, at: Duration, who: &str, line: &str) {
    for (speaker, part, what) in MOMENTS {
        let known = moments.iter().any(|(_, earlier)| *earlier == what);
        if speaker == who && line.contains(part) && !known {
            moments.push((at, what));
        }
    }
}
