//! TOML files: table `[agent]` with Keylime's keys and ours.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use super::options::OPTIONS;
use super::tables::{self, SyntaxFault, Value};
use super::{ConfigError, keylime};

/// What is wrong with a configuration file.
#[derive(Debug)]
#[non_exhaustive]
pub enum FileFault {
    /// It can't be read.
    Read(io::Error),
    /// It is larger than any sensible one.
    TooLarge,
    /// It isn't TOML, or more of it than the agent reads.
    Syntax(SyntaxFault),
    /// It has no table `[agent]`.
    NoTable,
    /// A key's value is neither text, number nor boolean, nor, for a list, an array of texts.
    Shape(&'static str),
}

impl fmt::Display for FileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(error) => write!(f, "can't be read: {error}"),
            Self::TooLarge => write!(f, "is larger than {MAX_FILE_BYTES} bytes"),
            Self::Syntax(fault) => write!(f, "isn't the TOML that the agent reads: {fault}"),
            Self::NoTable => f.write_str("has no table [agent]"),
            Self::Shape(key) => write!(f, "{key} must be a text, a number, true or false"),
        }
    }
}

/// Keylime's configuration files beneath a root directory, the weakest first: what the distribution brings, what the
/// administrator writes, and after each the pieces (`*.conf`) in the directory that goes with it, by name.
///
/// # Errors
/// [`ConfigError::File`]: a directory of pieces can't be read.
pub(super) fn default_files(root: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let mut files = Vec::new();
    for place in ["usr/etc/keylime", "etc/keylime"] {
        let file = root.join(place).join("agent.conf");
        let pieces = root.join(place).join("agent.conf.d");
        // A link that leads nowhere is there, and can't be read.
        if is_there(file.symlink_metadata()) {
            files.push(file);
        }
        let mut names = match fs::read_dir(&pieces).and_then(|entries| entries.collect()) {
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                return Err(ConfigError::File {
                    path: pieces,
                    reason: FileFault::Read(error),
                });
            }
            Ok(entries) => names_of(entries),
        };
        names.sort();
        files.extend(names.into_iter().map(|name| pieces.join(name)));
    }
    Ok(files)
}

fn is_there<T>(found: io::Result<T>) -> bool {
    !matches!(found, Err(error) if error.kind() == ErrorKind::NotFound)
}

fn names_of(entries: Vec<fs::DirEntry>) -> Vec<OsString> {
    let names = entries.into_iter().map(|entry| entry.file_name());
    names
        .filter(|name| name.as_encoded_bytes().ends_with(b".conf"))
        .collect()
}

/// Reads a file: what it says, by options' and Keylime's keys. What it has beyond them becomes a warning each.
///
/// # Errors
/// [`ConfigError::File`].
pub(super) fn read(
    path: &Path,
    warnings: &mut Vec<String>,
) -> Result<Vec<(&'static str, String)>, ConfigError> {
    text(path)
        .and_then(|text| parse(&text, warnings))
        .map_err(|reason| ConfigError::File {
            path: path.to_owned(),
            reason,
        })
}

fn text(path: &Path) -> Result<String, FileFault> {
    let mut text = String::new();
    let file = File::open(path).map_err(FileFault::Read)?;
    file.take(MAX_FILE_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(FileFault::Read)?;
    if u64::try_from(text.len()).is_ok_and(|len| len > MAX_FILE_BYTES) {
        Err(FileFault::TooLarge)
    } else {
        Ok(text)
    }
}

fn parse(text: &str, warnings: &mut Vec<String>) -> Result<Vec<(&'static str, String)>, FileFault> {
    let tables = tables::read(text).map_err(FileFault::Syntax)?;
    let Some(agent) = tables.get("agent") else {
        return Err(FileFault::NoTable);
    };
    let mut found = Vec::new();
    for (key, value) in agent {
        let Some((key, shape)) = known(key) else {
            warnings.push(format!(
                "the configuration has an unknown key {key:?}: it has no effect"
            ));
            continue;
        };
        let value = shape.text(value).ok_or(FileFault::Shape(key))?;
        found.push((key, value));
    }
    Ok(found)
}

/// A key as the tables have it.
fn known(key: &str) -> Option<(&'static str, Shape)> {
    let option = OPTIONS.iter().find(|option| option.key == key);
    match option {
        Some(option) if option.is_list() => Some((option.key, Shape::List)),
        Some(option) => Some((option.key, Shape::Single)),
        None => keylime::key(key).map(|key| (key.name, Shape::Single)),
    }
}

/// What a value may look like in TOML.
#[derive(Clone, Copy)]
enum Shape {
    Single,
    List,
}

impl Shape {
    /// The value as a variable or a flag would have it.
    fn text(self, value: &Value) -> Option<String> {
        match (value, self) {
            (Value::Text(text), _) => Some(text.clone()),
            (Value::Integer(number), _) => Some(number.to_string()),
            (Value::Boolean(truth), _) => Some(truth.to_string()),
            (Value::Texts(texts), Self::List) => Some(texts.join(",")),
            (Value::Texts(_), Self::Single) => None,
        }
    }
}

const MAX_FILE_BYTES: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn files() {
        type Wanted = Result<&'static [(&'static str, &'static str)], &'static str>;
        let rows: [(&str, &str, Wanted, usize); 11] = [
            (
                "options",
                "[agent]\nip = \"127.0.0.2\"\nport = 9003",
                Ok(&[("ip", "127.0.0.2"), ("port", "9003")]),
                0,
            ),
            (
                "a switch",
                "[agent]\nreport_script_output = true",
                Ok(&[("report_script_output", "true")]),
                0,
            ),
            (
                "a list",
                "[agent]\napi_versions = [\"2.1\", \"2.4\"]",
                Ok(&[("api_versions", "2.1,2.4")]),
                0,
            ),
            (
                "a list as text",
                "[agent]\napi_versions = \"2.1, 2.4\"",
                Ok(&[("api_versions", "2.1, 2.4")]),
                0,
            ),
            (
                "a list of numbers",
                "[agent]\napi_versions = [2.1]",
                Err("line 2: an array holds texts"),
                0,
            ),
            (
                "Keylime's other keys",
                "[agent]\nek_handle = \"generate\"",
                Ok(&[("ek_handle", "generate")]),
                0,
            ),
            ("unknown key", "[agent]\nprot = 1", Ok(&[]), 1),
            ("other tables", "[agent]\n[tenant]\nx = 1", Ok(&[]), 0),
            ("no table", "ip = \"127.0.0.2\"", Err("no table"), 0),
            ("no TOML", "[agent\n", Err("line 1: a table's name"), 0),
            (
                "an array",
                "[agent]\nip = [\"127.0.0.2\"]",
                Err("ip must be"),
                0,
            ),
        ];
        for (name, text, wanted, warned) in rows {
            let mut warnings = Vec::new();
            match (parse(text, &mut warnings), wanted) {
                (Ok(found), Ok(wanted)) => {
                    let found: Vec<_> = found
                        .iter()
                        .map(|(key, value)| (*key, value.as_str()))
                        .collect();
                    assert_eq!(found, wanted, "{name}");
                }
                (Err(fault), Err(text)) => {
                    assert!(fault.to_string().contains(text), "{name}: {fault}")
                }
                (found, _) => panic!("{name}: {found:?}"),
            }
            assert_eq!(warnings.len(), warned, "{name}: {warnings:?}");
        }
    }

    #[test]
    fn the_default_files() {
        let root = tempfile::TempDir::new().unwrap();
        assert_eq!(default_files(root.path()).unwrap(), Vec::<PathBuf>::new());
        let names = [
            "usr/etc/keylime/agent.conf",
            "etc/keylime/agent.conf",
            "etc/keylime/agent.conf.d/10-a.conf",
            "etc/keylime/agent.conf.d/9-b.conf",
        ];
        fs::create_dir_all(root.path().join("usr/etc/keylime")).unwrap();
        fs::create_dir_all(root.path().join("etc/keylime/agent.conf.d")).unwrap();
        for name in names {
            fs::write(root.path().join(name), "[agent]").unwrap();
        }
        fs::write(root.path().join("etc/keylime/agent.conf.d/10-a.conf~"), "").unwrap();
        let found = default_files(root.path()).unwrap();
        assert_eq!(found, names.map(|name| root.path().join(name)));

        let blocked = tempfile::TempDir::new().unwrap();
        fs::create_dir_all(blocked.path().join("etc/keylime")).unwrap();
        fs::write(blocked.path().join("etc/keylime/agent.conf.d"), "").unwrap();
        let error = default_files(blocked.path()).unwrap_err();
        assert!(error.to_string().contains("agent.conf.d"), "{error}");
    }

    #[test]
    fn a_file_that_is_not_there() {
        let error = read(Path::new("/nonexistent/agent.toml"), &mut Vec::new()).unwrap_err();
        assert!(
            error.to_string().contains("/nonexistent/agent.toml"),
            "{error}"
        );
    }
}
