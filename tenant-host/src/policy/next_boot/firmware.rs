//! What UEFI firmware measures to PCR 4 before and while it starts images.
//!
//! Source: TCG PC Client Platform Firmware Profile 1.05, sections 3.3.4.5 and 10.4.1.

use agent_core::wire::quote::HashAlg;

use super::NextBootError;
use super::events::{Course, Event};
use super::pe::Image;

/// All up to the last image: what a boot entry begins with, and the images that start others.
pub(super) fn start(loaders: &[&[u8]], bank: HashAlg) -> Result<Course, NextBootError> {
    let mut events = vec![
        Event::of(bank, format!("the words {CALLING:?}"), CALLING.as_bytes()),
        Event::of(
            bank,
            "four zeros, which end what the firmware says about itself",
            &[0; 4],
        ),
    ];
    for loader in loaders {
        events.push(image("a boot loader", loader, bank)?);
    }
    Ok(Course::new(events))
}

/// An image as it is measured when it is loaded.
pub(super) fn image(
    what: &'static str,
    bytes: &[u8],
    bank: HashAlg,
) -> Result<Event, NextBootError> {
    let refused = |source| NextBootError::Image { what, source };
    let image = Image::parse(bytes).map_err(refused)?;
    Ok(Event {
        what: format!("{what}, an EFI image of {} bytes", bytes.len()),
        digest: image.authenticode(bank).map_err(refused)?,
    })
}

/// `EV_EFI_ACTION` as firmware begins with a boot entry.
const CALLING: &str = "Calling EFI Application from Boot Option";
