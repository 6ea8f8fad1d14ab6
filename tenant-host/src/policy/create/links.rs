//! Paths through symbolic links, inside a root of one's own.
//!
//! IMA writes the path that a file really has, so `/bin/sh` is `/usr/bin/sh` where `/bin` is a link.

use super::MAX_PATH_BYTES;

/// The most links in one path; Linux follows as many.
const MAX_LINKS: usize = 40;

/// The real path of `path`, whose last part isn't followed. `target` tells where a link leads, and nothing for all else.
/// `None` if the links go round in circles, or the path becomes longer than paths are.
pub(super) fn resolve(path: &str, target: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let mut left: Vec<String> = parts(path);
    let mut real: Vec<String> = Vec::new();
    let mut links = 0_usize;
    while let Some(part) = left.pop() {
        if part == ".." {
            real.pop();
            continue;
        }
        real.push(part);
        if left.is_empty() {
            break;
        }
        let so_far = joined(&real);
        if let Some(leads_to) = target(&so_far) {
            links = links.checked_add(1).filter(|links| *links <= MAX_LINKS)?;
            real.pop();
            if leads_to.starts_with('/') {
                real.clear();
            }
            left.extend(parts(&leads_to));
        }
        let length = left.iter().chain(&real).map(|part| part.len() + 1);
        if length.sum::<usize>() > MAX_PATH_BYTES {
            return None;
        }
    }
    Some(joined(&real))
}

/// The parts of a path, last one first.
fn parts(path: &str) -> Vec<String> {
    let parts = path
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".");
    parts.rev().map(str::to_owned).collect()
}

fn joined(parts: &[String]) -> String {
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_followed_within_the_root() {
        let target = |path: &str| {
            let leads_to = match path {
                "/bin" => "usr/bin",
                "/lib64" => "/usr/lib64",
                "/usr/up" => "../etc",
                "/out" => "../../../etc",
                "/loop" => "loop",
                _ => return None,
            };
            Some(leads_to.to_owned())
        };
        let rows = [
            ("no link", "/usr/bin/sh", Some("/usr/bin/sh")),
            ("relative", "/bin/sh", Some("/usr/bin/sh")),
            ("absolute", "lib64/ld.so", Some("/usr/lib64/ld.so")),
            ("upwards", "/usr/up/passwd", Some("/etc/passwd")),
            ("never out", "/out/passwd", Some("/etc/passwd")),
            ("dots", "./usr/./bin/../lib/x", Some("/usr/lib/x")),
            ("the last part", "/bin", Some("/bin")),
            ("a circle", "/loop/x", None),
        ];
        for (name, path, wanted) in rows {
            assert_eq!(resolve(path, &target).as_deref(), wanted, "{name}");
        }
    }
}
