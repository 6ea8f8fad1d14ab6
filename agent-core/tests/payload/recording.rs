//! A sink that remembers everything it was told.

use agent_core::payload::inflate::Inflater;
use agent_core::payload::sink::Sink;
use agent_core::payload::zip::{Limits, Summary, UnpackError, unpack};

/// What a sink received, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A directory and its mode.
    Directory(String, u32),
    /// A file, its mode, its announced size, its bytes, and whether its end was told.
    File(String, u32, u64, Vec<u8>, bool),
}

/// Remembers; refuses the call with the given number, if any.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Recording {
    pub(crate) events: Vec<Event>,
    pub(crate) refuse_call: Option<usize>,
    pub(crate) calls: usize,
}

/// The sink's refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused;

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("refused")
    }
}

impl Recording {
    fn call(&mut self) -> Result<(), Refused> {
        self.calls += 1;
        if self.refuse_call == Some(self.calls) {
            return Err(Refused);
        }
        Ok(())
    }
}

impl Sink for Recording {
    type Error = Refused;

    fn directory(&mut self, path: &str, mode: u32) -> Result<(), Refused> {
        self.call()?;
        self.events.push(Event::Directory(path.into(), mode));
        Ok(())
    }

    fn file(&mut self, path: &str, mode: u32, size: u64) -> Result<(), Refused> {
        self.call()?;
        self.events
            .push(Event::File(path.into(), mode, size, Vec::new(), false));
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        self.call()?;
        match self.events.last_mut() {
            Some(Event::File(_, _, size, content, false)) => {
                content.extend_from_slice(bytes);
                assert!(content.len() as u64 <= *size, "more than was announced");
            }
            other => panic!("bytes for {other:?}"),
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), Refused> {
        self.call()?;
        match self.events.last_mut() {
            Some(Event::File(_, _, size, content, is_complete @ false)) => {
                assert_eq!(content.len() as u64, *size);
                *is_complete = true;
            }
            other => panic!("end of {other:?}"),
        }
        Ok(())
    }
}

/// A complete file.
pub(crate) fn file(path: &str, mode: u32, content: &[u8]) -> Event {
    Event::File(
        path.into(),
        mode,
        content.len() as u64,
        content.to_vec(),
        true,
    )
}

/// A directory.
pub(crate) fn directory(path: &str, mode: u32) -> Event {
    Event::Directory(path.into(), mode)
}

/// What an archive in one piece gives under the default limits, and what the sink saw.
pub(crate) fn unpack_whole(archive: &[u8]) -> (Result<Summary, UnpackError<Refused>>, Vec<Event>) {
    let mut sink = Recording::default();
    let result = unpack(archive, &Limits::default(), &mut Inflater::new(), &mut sink);
    (result, sink.events)
}
