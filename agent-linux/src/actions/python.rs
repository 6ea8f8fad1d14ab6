//! Actions in Python, which Keylime's documentation asks for: a module with a function `execute`, started through a shim.

use std::fs;
use std::os::unix::fs::PermissionsExt;

/// Python's arguments before the action: nothing of the user's or of the current directory comes into its module path, and
/// no compiled copy is left beside the action.
pub(super) const ARGUMENTS: [&str; 4] = ["-I", "-B", "-c", include_str!("shim.py")];

/// The interpreter in the first of these directories that has one.
pub(super) fn interpreter(search_path: &str) -> Option<String> {
    search_path
        .split(':')
        .map(|directory| format!("{directory}/python3"))
        .find(|path| {
            fs::metadata(path)
                .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
        })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn looked_for_where_it_may_be() {
        let place = tempfile::TempDir::new().unwrap();
        let [none, no_program, one, two] = ["none", "no-program", "one", "two"].map(|name| {
            let directory = place.path().join(name);
            fs::create_dir(&directory).unwrap();
            directory.to_str().unwrap().to_owned()
        });
        for (directory, mode) in [(&no_program, 0o644), (&one, 0o755), (&two, 0o755)] {
            let path = format!("{directory}/python3");
            fs::write(&path, "").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        let rows = [
            (none.clone(), None),
            (format!("{none}/nowhere:{no_program}"), None),
            (format!("{none}:{no_program}:{one}:{two}"), Some(&one)),
            (format!("{two}:{one}"), Some(&two)),
        ];
        for (search_path, wanted) in rows {
            let wanted = wanted.map(|directory| format!("{directory}/python3"));
            assert_eq!(interpreter(&search_path), wanted, "{search_path}");
        }
    }
}
