//! The payload's way from sealed bytes to files: good archives of several writers, hostile ones, and published vectors.
#![expect(clippy::unwrap_used, reason = "a test that can't go on should stop")]

mod accepted;
mod budget;
mod content;
mod foreign;
mod forge;
mod hostile;
mod hostile_files;
mod mutated;
mod pieces;
mod recording;
mod sample;
mod secrecy;
mod segmented;
mod vectors;
mod wycheproof;
