//! A key that the TPM can make again at any time, kept loaded nowhere.

use tss_esapi::handles::{KeyHandle, ObjectHandle, PersistentTpmHandle, TpmHandle};
use tss_esapi::interface_types::resource_handles::Hierarchy;
use tss_esapi::interface_types::session_handles::AuthSession;
use tss_esapi::structures::Public;
use tss_esapi::utils::TpmsContext;

use super::channel::Channel;
use super::error::{CREATE_PRIMARY, TssError};
use super::template;

/// A primary key: loaded for one use at a time from its saved context, which only this boot of this TPM can load.
pub(super) struct Key {
    name: &'static str,
    template: Public,
    public: Public,
    home: Home,
}

enum Home {
    /// Made persistent by someone: the library's handle of it.
    Persistent(ObjectHandle),
    /// Made by us and swapped out.
    Saved(TpmsContext),
}

impl Key {
    /// Makes the key of a template; `name` is what errors call it.
    ///
    /// # Errors
    /// The TPM's.
    ///
    /// # Cost
    /// An RSA key takes 20 to 150 ms on a software TPM and seconds on some others; P-256 takes milliseconds.
    pub(super) fn create(
        channel: &mut Channel,
        name: &'static str,
        template: Public,
    ) -> Result<Self, TssError> {
        let (public, context) = channel.with_room(|channel| make(channel, &template))?;
        Ok(Self {
            name,
            template,
            public,
            home: Home::Saved(context),
        })
    }

    /// The key at a persistent handle, or `None` if there is none or one that doesn't follow the template.
    ///
    /// # Errors
    /// The TPM's.
    pub(super) fn persistent(
        channel: &mut Channel,
        name: &'static str,
        handle: u32,
        template: &Public,
    ) -> Result<Option<Self>, TssError> {
        if !channel.has_handle(handle)? {
            return Ok(None);
        }
        let handle = PersistentTpmHandle::new(handle)
            .map_err(|_| TssError::Malformed { what: "a handle" })?;
        let mut object = channel.ask("TPM2_ReadPublic", |tpm| {
            tpm.tr_from_tpm_public(TpmHandle::Persistent(handle))
        })?;
        let (public, _, _) = channel.ask("TPM2_ReadPublic", |tpm| {
            tpm.read_public(KeyHandle::from(object))
        })?;
        if !template::follows(&public, template) {
            channel.ask("Esys_TR_Close", |tpm| tpm.tr_close(&mut object))?;
            return Ok(None);
        }
        Ok(Some(Self {
            name,
            template: template.clone(),
            public,
            home: Home::Persistent(object),
        }))
    }

    /// The public area.
    pub(super) fn public(&self) -> &Public {
        &self.public
    }

    /// Loads the key, lends it to `work`, and flushes it whatever comes of that.
    ///
    /// # Errors
    /// Those of `work`, else the TPM's; [`TssError::Changed`] if a saved context is no longer valid and the key made anew
    /// is another one.
    pub(super) fn with<T>(
        &mut self,
        channel: &mut Channel,
        work: impl FnOnce(&mut Channel, KeyHandle) -> Result<T, TssError>,
    ) -> Result<T, TssError> {
        let context = match &self.home {
            Home::Persistent(handle) => return work(channel, KeyHandle::from(*handle)),
            Home::Saved(context) => context,
        };
        let handle = match load(channel, context) {
            Ok(handle) => handle,
            Err(error @ TssError::Command { .. }) if !error.is_out_of_room() => {
                log::info!(
                    "the saved {} is no longer valid ({error}); making it again",
                    self.name
                );
                let context = self.renew(channel)?;
                let handle = load(channel, &context)?;
                self.home = Home::Saved(context);
                handle
            }
            Err(error) => return Err(error),
        };
        let result = work(channel, KeyHandle::from(handle));
        let flushed = channel.flush(handle);
        let value = result?;
        flushed?;
        Ok(value)
    }

    fn renew(&self, channel: &mut Channel) -> Result<TpmsContext, TssError> {
        let (public, context) = make(channel, &self.template)?;
        if public == self.public {
            Ok(context)
        } else {
            Err(TssError::Changed { key: self.name })
        }
    }
}

/// Makes a primary, saves its context, flushes it.
fn make(channel: &mut Channel, template: &Public) -> Result<(Public, TpmsContext), TssError> {
    let made = channel.ask(CREATE_PRIMARY, |tpm| {
        tpm.execute_with_session(Some(AuthSession::Password), |tpm| {
            tpm.create_primary(
                Hierarchy::Endorsement,
                template.clone(),
                None,
                None,
                None,
                None,
            )
        })
    })?;
    let handle = ObjectHandle::from(made.key_handle);
    let saved = channel.ask("TPM2_ContextSave", |tpm| tpm.context_save(handle));
    let flushed = channel.flush(handle);
    let context = saved?;
    flushed?;
    Ok((made.out_public, context))
}

fn load(channel: &mut Channel, context: &TpmsContext) -> Result<ObjectHandle, TssError> {
    channel.ask("TPM2_ContextLoad", |tpm| tpm.context_load(context.clone()))
}
