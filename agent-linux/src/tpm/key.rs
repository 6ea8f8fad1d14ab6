//! A key that the TPM can make again at any time, kept loaded nowhere.

use super::commands::{Commands, PublicArea};
use super::error::TpmError;
use super::room::{has_handle, with_room};
use super::template::Template;

/// A primary key: loaded for one use at a time from its saved context, which only this boot of this TPM can load.
pub(super) struct Key<C: Commands> {
    name: &'static str,
    template: Template,
    public: PublicArea,
    home: Home<C>,
}

enum Home<C: Commands> {
    /// Made persistent by someone.
    Persistent(C::Handle),
    /// Made by us and swapped out.
    Saved(C::Context),
}

impl<C: Commands> Key<C> {
    /// Makes the key of a template; `name` is what errors call it.
    ///
    /// # Errors
    /// The TPM's.
    ///
    /// # Cost
    /// An RSA key takes 20 to 150 ms on a software TPM and seconds on some others; P-256 takes milliseconds.
    pub(super) fn create(
        tpm: &mut C,
        name: &'static str,
        template: Template,
    ) -> Result<Self, TpmError> {
        let (public, context) = with_room(tpm, |tpm| make(tpm, &template))?;
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
        tpm: &mut C,
        name: &'static str,
        handle: u32,
        template: &Template,
    ) -> Result<Option<Self>, TpmError> {
        if !has_handle(tpm, handle)? {
            return Ok(None);
        }
        let (handle, public) = tpm.persistent(handle)?;
        if template.key_in(&public).is_none() {
            tpm.forget(handle)?;
            return Ok(None);
        }
        Ok(Some(Self {
            name,
            template: template.clone(),
            public,
            home: Home::Persistent(handle),
        }))
    }

    /// The public area.
    pub(super) fn public(&self) -> &PublicArea {
        &self.public
    }

    /// The `SubjectPublicKeyInfo` in PEM.
    ///
    /// # Errors
    /// [`TpmError::Malformed`].
    pub(super) fn pem(&self) -> Result<String, TpmError> {
        self.template
            .key_in(&self.public)
            .ok_or(NOT_THE_TEMPLATE)?
            .to_pem()
    }

    /// Loads the key, lends it to `work`, and flushes it whatever comes of that.
    ///
    /// # Errors
    /// Those of `work`, else the TPM's; [`TpmError::Changed`] if a saved context is no longer valid and the key made anew
    /// is another one.
    pub(super) fn with<T>(
        &mut self,
        tpm: &mut C,
        work: impl FnOnce(&mut C, C::Handle) -> Result<T, TpmError>,
    ) -> Result<T, TpmError> {
        let context = match &self.home {
            Home::Persistent(handle) => return work(tpm, *handle),
            Home::Saved(context) => context,
        };
        let handle = match tpm.context_load(context) {
            Ok(handle) => handle,
            Err(error @ TpmError::Command { .. }) if !error.is_out_of_room() => {
                log::info!(
                    "the saved {} is no longer valid ({error}); making it again",
                    self.name
                );
                let context = self.renew(tpm)?;
                let handle = tpm.context_load(&context)?;
                self.home = Home::Saved(context);
                handle
            }
            Err(error) => return Err(error),
        };
        let result = work(tpm, handle);
        let flushed = tpm.flush(handle);
        let value = result?;
        flushed?;
        Ok(value)
    }

    fn renew(&self, tpm: &mut C) -> Result<C::Context, TpmError> {
        let (public, context) = make(tpm, &self.template)?;
        if public == self.public {
            Ok(context)
        } else {
            Err(TpmError::Changed { key: self.name })
        }
    }
}

/// Makes a primary, saves its context, flushes it.
fn make<C: Commands>(
    tpm: &mut C,
    template: &Template,
) -> Result<(PublicArea, C::Context), TpmError> {
    let (handle, public) = tpm.create_primary(template.hierarchy(), template.area())?;
    let saved = tpm.context_save(handle);
    let flushed = tpm.flush(handle);
    let context = saved?;
    flushed?;
    template.key_in(&public).ok_or(NOT_THE_TEMPLATE)?;
    Ok((public, context))
}

const NOT_THE_TEMPLATE: TpmError = TpmError::Malformed {
    what: "a public key of the TPM",
};
