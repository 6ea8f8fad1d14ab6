//! `action_list`: which files of a payload a node runs when another is revoked.
//!
//! Keylime's agents read the list alone; ours take `local_action_*` without one too. Both look for a name as it stands, then with
//! `.py`, among the actions that are installed and in the payload.

use agent_core::revocation::{
    ACTION_LIST_FILE, ACTION_PREFIX, ACTION_QUOTES, ACTION_SEPARATORS, MAX_ACTION_LIST_BYTES,
    MAX_ACTIONS, check_action_name, listed_actions,
};
use zeroize::Zeroizing;

use super::{Entry, EntryKind, SealError};

const PYTHON: &str = ".py";

/// Checks the payload's list, or writes one if there are actions and no list. Returns what has to be said.
///
/// # Errors
/// [`SealError::Action`]: a name that no agent runs, or an action that isn't there; [`SealError::ActionList`].
pub fn complete(included: &mut Vec<Entry>) -> Result<Vec<String>, SealError> {
    let Some(list) = included.iter().find(|entry| entry.name == ACTION_LIST_FILE) else {
        let list = written(included)?;
        included.extend(list);
        return Ok(Vec::new());
    };
    let text = list.kind.text(MAX_ACTION_LIST_BYTES as u64)?;
    let text = text.ok_or(SealError::ActionList {
        problem: "isn't a text file of at most 16 KiB",
    })?;
    let names: Vec<&str> = listed_actions(&text).collect();
    check_count(names.len())?;
    let mut warnings = Vec::new();
    for name in names {
        check_name(name)?;
        if is_there(included, name) {
            continue;
        }
        if name.starts_with(ACTION_PREFIX) {
            return Err(action(
                name,
                "isn't among the included files, and action_list names it",
            ));
        }
        warnings.push(format!(
            "warning: action_list names {name:?}, which isn't among the included files: it must be installed on the node"
        ));
    }
    Ok(warnings)
}

/// A list of the actions that are there.
fn written(included: &[Entry]) -> Result<Option<Entry>, SealError> {
    let is_action = |entry: &&Entry| {
        entry.name.starts_with(ACTION_PREFIX)
            && !entry.name.contains('/')
            && !matches!(entry.kind, EntryKind::Directory)
    };
    let mut names = Vec::new();
    for entry in included.iter().filter(is_action) {
        let name = entry.name.as_str();
        check_name(name)?;
        if name.contains(ACTION_SEPARATORS)
            || name.contains(ACTION_QUOTES)
            || name.contains(['[', ']'])
        {
            return Err(action(
                name,
                "can't stand in a list: it has a blank, a comma, a quote or a bracket in its name",
            ));
        }
        // Without the ending, as Keylime's documentation writes it, unless that is another file.
        let short = name.strip_suffix(PYTHON).filter(|short| {
            *short != ACTION_PREFIX && !included.iter().any(|entry| entry.name == *short)
        });
        names.push(short.unwrap_or(name).to_owned());
    }
    if names.is_empty() {
        return Ok(None);
    }
    check_count(names.len())?;
    names.sort_unstable();
    Ok(Some(Entry {
        name: ACTION_LIST_FILE.to_owned(),
        mode: 0o644,
        kind: EntryKind::File(Zeroizing::new(names.join(",").into_bytes())),
    }))
}

fn check_name(name: &str) -> Result<(), SealError> {
    check_action_name(name).map_err(|error| action(name, error.text()))
}

fn check_count(count: usize) -> Result<(), SealError> {
    match count <= MAX_ACTIONS {
        true => Ok(()),
        false => Err(SealError::ActionList {
            problem: "would name more than 64 actions, and agents run no more",
        }),
    }
}

fn is_there(included: &[Entry], name: &str) -> bool {
    included.iter().any(|entry| {
        let rest = entry.name.strip_prefix(name);
        matches!(rest, Some("" | PYTHON)) && !matches!(entry.kind, EntryKind::Directory)
    })
}

fn action(name: &str, problem: &'static str) -> SealError {
    SealError::Action {
        name: name.to_owned(),
        problem,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

    use super::*;

    fn file(name: &str, content: &str) -> Entry {
        Entry {
            name: name.to_owned(),
            mode: 0o644,
            kind: EntryKind::File(Zeroizing::new(content.as_bytes().to_vec())),
        }
    }

    #[test]
    fn a_list_is_written_for_the_actions_that_are_there() {
        let rows: [(&str, &[&str], Option<&str>); 6] = [
            ("none", &["autorun.sh"], None),
            (
                "Python and others, in order",
                &["local_action_b.py", "local_action_a.sh", "x"],
                Some("local_action_a.sh,local_action_b"),
            ),
            (
                "both forms",
                &["local_action_a", "local_action_a.py"],
                Some("local_action_a,local_action_a.py"),
            ),
            ("elsewhere", &["deep/local_action_a"], None),
            ("other names", &["action_a", "local_action"], None),
            ("bare", &["local_action_.py"], Some("local_action_.py")),
        ];
        for (name, files, wanted) in rows {
            let mut included: Vec<Entry> = files.iter().map(|name| file(name, "")).collect();
            assert!(complete(&mut included).unwrap().is_empty(), "{name}");
            let list = included.iter().find(|entry| entry.name == ACTION_LIST_FILE);
            let text = list.map(|list| list.kind.text(100).unwrap().unwrap().to_string());
            assert_eq!(text.as_deref(), wanted, "{name}");
            // What was written reads as it was meant.
            assert!(complete(&mut included).unwrap().is_empty(), "{name}");
        }
        for name in [
            "local_action_a b",
            "local_action_a,b",
            "local_action_[",
            "local_action_'",
        ] {
            let result = complete(&mut vec![file(name, "")]);
            assert!(matches!(result, Err(SealError::Action { .. })), "{name}");
        }
    }

    #[test]
    fn a_list_that_names_what_is_missing_is_refused() {
        type Wanted = fn(&Result<Vec<String>, SealError>) -> bool;
        let refused: Wanted = |result| matches!(result, Err(SealError::Action { .. }));
        let rows: [(&str, &str, Wanted); 8] = [
            (
                "as it stands",
                "local_action_a",
                |result| matches!(result, Ok(warnings) if warnings.is_empty()),
            ),
            (
                "without its ending",
                "local_action_b",
                |result| matches!(result, Ok(warnings) if warnings.is_empty()),
            ),
            ("missing", "local_action_a, local_action_c", refused),
            ("a directory", "local_action_d", refused),
            (
                "on the node",
                "reload_nginx",
                |result| matches!(result, Ok(warnings) if warnings.len() == 1),
            ),
            ("leads out", "../local_action_a", refused),
            ("hidden", ".local_action_a", refused),
            ("an option", "-x", refused),
        ];
        for (name, list, wanted) in rows {
            let mut included = vec![
                file("local_action_a", ""),
                file("local_action_b.py", ""),
                Entry {
                    kind: EntryKind::Directory,
                    ..file("local_action_d", "")
                },
                file(ACTION_LIST_FILE, list),
            ];
            let result = complete(&mut included);
            assert!(wanted(&result), "{name}: {result:?}");
            assert_eq!(included.len(), 4, "{name}");
        }
        let many: String = (0..65).map(|number| format!("a{number} ")).collect();
        for list in [many, "a".repeat(20_000)] {
            let result = complete(&mut vec![file(ACTION_LIST_FILE, &list)]);
            assert!(matches!(result, Err(SealError::ActionList { .. })));
        }
    }
}
