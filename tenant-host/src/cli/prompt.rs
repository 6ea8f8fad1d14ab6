//! Asking for a passphrase on the terminal, unseen.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read as _, Write as _};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::ca::Passphrase;

/// The longest line that terminals give.
const MAX_LINE_BYTES: usize = 4096;

/// Why no passphrase was given.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PromptError {
    /// The terminal can't be used.
    #[error("can't ask for the passphrase: {0}. --passphrase-file names a file with it")]
    Terminal(io::Error),
    /// Two that differ.
    #[error("the two passphrases differ: nothing was made")]
    Differ,
    /// It isn't text.
    #[error("the passphrase isn't UTF-8")]
    NotText,
}

/// Whether there is somebody to ask.
pub(crate) fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks for the passphrase of keys that are encrypted.
///
/// # Errors
/// [`PromptError`].
pub(crate) fn ask(question: &str) -> Result<Option<Passphrase>, PromptError> {
    Ok(Passphrase::new(line(question)?))
}

/// Asks for a new passphrase, twice; `None` if it is empty.
///
/// # Errors
/// [`PromptError`].
pub(crate) fn ask_twice(question: &str) -> Result<Option<Passphrase>, PromptError> {
    let first = line(question)?;
    if first.trim_end_matches(['\n', '\r']).is_empty() {
        return Ok(None);
    }
    let second = line("The same again: ")?;
    match *first == *second {
        true => Ok(Passphrase::new(first)),
        false => Err(PromptError::Differ),
    }
}

fn line(question: &str) -> Result<Zeroizing<String>, PromptError> {
    let open = File::options().read(true).write(true).open("/dev/tty");
    let mut terminal = open.map_err(PromptError::Terminal)?;
    let read = {
        // Before the question: what is typed as soon as it stands there is neither shown nor thrown away.
        let _quiet = Quiet::new(&terminal).map_err(PromptError::Terminal)?;
        (&terminal)
            .write_all(question.as_bytes())
            .map_err(PromptError::Terminal)?;
        read_line(&terminal)
    };
    // The line end wasn't shown either.
    let _ = terminal.write_all(b"\n");
    read
}

fn read_line(mut terminal: &File) -> Result<Zeroizing<String>, PromptError> {
    let mut bytes = Zeroizing::new([0; MAX_LINE_BYTES]);
    // A terminal gives one line at a time.
    let length = terminal
        .read(bytes.as_mut_slice())
        .map_err(PromptError::Terminal)?;
    let line = bytes.get(..length).unwrap_or_default();
    std::str::from_utf8(line)
        .map(|text| Zeroizing::new(text.to_owned()))
        .map_err(|_| PromptError::NotText)
}

/// A terminal that shows nothing of what is typed, until this is dropped.
struct Quiet<'a> {
    terminal: &'a File,
    before: Termios,
}

impl<'a> Quiet<'a> {
    fn new(terminal: &'a File) -> io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        tcsetattr(terminal, OptionalActions::Flush, &quiet)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        // Where that fails, `stty sane` helps; there is nobody to tell.
        let _ = tcsetattr(self.terminal, OptionalActions::Now, &self.before);
    }
}
