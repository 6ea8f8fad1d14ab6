//! Findings in the regular expressions of `excludes`, which Keylime's verifier gives to Python and ours to an engine of linear
//! time.
//!
//! Source: Python's `re`, the syntax of the crate `regex`; Keylime joins all expressions as `(a)|(b)`.

use super::{Finding, some};
use verifier_host::policy::runtime::Excludes;

/// Paths that have nothing in common but that they are paths.
const ANY_PATHS: [&str; 5] = [
    "/usr/bin/bash",
    "/init",
    "/etc/ld.so.cache",
    "/opt/a/b.py",
    "/zQ7",
];

/// Where programs, libraries and settings are.
const SYSTEM_PATHS: [&str; 8] = [
    "/usr/bin/zQ7",
    "/usr/sbin/zQ7",
    "/usr/lib/zQ7",
    "/usr/lib/x86_64-linux-gnu/zQ7.so",
    "/bin/zQ7",
    "/sbin/zQ7",
    "/etc/zQ7",
    "/boot/zQ7",
];

pub(super) fn lint(expressions: &[String], findings: &mut Vec<Finding>) {
    for text in expressions {
        let alone = match Excludes::parse(vec![text.clone()]) {
            Ok(alone) => alone,
            Err(error) => {
                findings.push(Finding::error("expression", format!("excludes: {error}")));
                continue;
            }
        };
        if let Some(why) = differs(text) {
            let text = format!("excludes has {text:?}, in which {why}");
            findings.push(Finding::warning("expression-differs", text));
        }
        let wide: Vec<_> = SYSTEM_PATHS
            .into_iter()
            .filter(|path| alone.matches(path.as_bytes()))
            .collect();
        // What matches the start of an empty path matches the start of each.
        if alone.matches(b"") || ANY_PATHS.iter().all(|path| alone.matches(path.as_bytes())) {
            let text = format!(
                "excludes has {text:?}, which matches every path from its start: whatever a node runs passes"
            );
            findings.push(Finding::error("excludes-everything", text));
        } else if !wide.is_empty() {
            let text = format!(
                "excludes has {text:?}, which leaves out what is run as root, such as {}",
                some(wide)
            );
            findings.push(Finding::warning("excludes-system", text));
        }
        if !text.is_empty()
            && !alone.matches(b"")
            && text.starts_with(|letter: char| letter.is_ascii_alphanumeric())
        {
            let text = format!(
                "excludes has {text:?}: expressions match from the start of a path, which is /"
            );
            findings.push(Finding::warning("never-matches", text));
        }
    }
    let mut sorted: Vec<_> = expressions.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    let twice = sorted.windows(2).filter_map(|pair| match pair {
        [one, other] if one == other => Some(*one),
        _ => None,
    });
    let twice: Vec<_> = twice.collect();
    if !twice.is_empty() {
        findings.push(Finding::warning(
            "duplicate-exclude",
            format!("excludes has twice: {}", some(twice)),
        ));
    }
}

/// What the two engines read differently in an expression that the linear one takes; the first such thing.
fn differs(text: &str) -> Option<&'static str> {
    const CLASS_PARTS: [&str; 3] = ["&&", "--", "~~"];
    let mut letters = text.chars().peekable();
    let mut in_class = false;
    let mut at = 0_usize;
    while let Some(letter) = letters.next() {
        let rest = text.get(at..).unwrap_or_default();
        at = at.saturating_add(letter.len_utf8());
        match letter {
            '\\' => {
                let escaped = letters.next()?;
                at = at.saturating_add(escaped.len_utf8());
                match escaped {
                    'z' => return Some("\\z is the end here and no expression for Python"),
                    'p' | 'P' => {
                        return Some("\\p is a class here and no expression for Python");
                    }
                    '<' | '>' => {
                        return Some("\\< and \\> are ends of words here and letters for Python");
                    }
                    'x' | 'u' | 'U' if letters.peek() == Some(&'{') => {
                        return Some("\\x{...} is a letter here and no expression for Python");
                    }
                    'b' if letters.peek() == Some(&'{') => {
                        return Some(
                            "\\b{...} is an end of a word here and a repetition for Python",
                        );
                    }
                    _ => {}
                }
            }
            '[' if in_class => {
                return Some("a [ in a class begins another class here and is a letter for Python");
            }
            '[' => {
                in_class = true;
                // A first ] is a letter for both.
                for first in ['^', ']'] {
                    if letters.next_if_eq(&first).is_some() {
                        at = at.saturating_add(1);
                    }
                }
            }
            ']' => in_class = false,
            _ if in_class && CLASS_PARTS.iter().any(|part| rest.starts_with(part)) => {
                return Some(
                    "&&, -- and ~~ in a class combine classes here and are letters for Python",
                );
            }
            _ if in_class => {}
            '$' => {
                return Some(
                    "$ is the end here, and for Python also the place before a last newline; leave it out or end with it knowingly",
                );
            }
            '(' if is_flags(rest) => {
                return Some(
                    "flags such as (?i) count to the end of their group here, and break the whole policy for Python unless they open it",
                );
            }
            '(' if rest.starts_with("(?<") => {
                return Some(
                    "(?<name>...) is a group here and no expression for Python: (?P<name>...) is one for both",
                );
            }
            '{' if rest.starts_with("{,") => return Some("{,n} is 0 to n for Python alone"),
            _ => {}
        }
    }
    None
}

/// `(?i)` and the like, not `(?i:...)`, which both have, but for flags that one of them lacks.
fn is_flags(rest: &str) -> bool {
    let Some(flags) = rest.strip_prefix("(?") else {
        return false;
    };
    let end = flags.find(|letter: char| !letter.is_ascii_alphabetic() && letter != '-');
    let (flags, end) = flags.split_at(end.unwrap_or(flags.len()));
    let only_here = flags.contains(['U', 'R']);
    flags != "P" && !flags.is_empty() && (end.starts_with(')') || only_here)
}
