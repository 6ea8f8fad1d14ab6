//! Sealing for a deposit: a zip of any size, segment by segment, from one private file into another.
//!
//! Both files have no name, so that they are gone however this program ends. The plaintext lies in memory where there is room
//! for it; of what is sealed, one segment at a time is in a buffer that is wiped.

use std::fs::File;
use std::io::{self, Read, Seek as _, Write};
use std::path::{Path, PathBuf};

use agent_core::payload::halves::{Half, Key};
use agent_core::payload::segment::{Binding, SEGMENT_BYTES, Segments, seal as seal_segment};
use agent_core::wire::manifest::PayloadId;
use agent_core::wire::text::Uuid;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::ca::NodeIdentity;
use crate::seal::{Entry, SealError, package_into, random};

/// Where files lie in memory.
const MEMORY: &str = "/dev/shm";

/// The largest plaintext that is kept in memory.
const IN_MEMORY_BYTES: u64 = 512 << 20;

/// Bytes of K, V and U.
const KEY_BYTES: usize = 32;

/// A sealed payload in a file without a name, and its key in both halves.
pub struct SealedFile {
    file: File,
    agent: Uuid,
    payload_id: PayloadId,
    segments: Segments,
    sha256: [u8; 32],
    key: Key,
    u: Half,
    v: Half,
    names: Vec<String>,
    unpacked_bytes: u64,
}

impl SealedFile {
    /// Packs and seals for this node, under a new key and a new number.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn make(
        agent: &Uuid,
        identity: Option<&NodeIdentity>,
        included: &[Entry],
    ) -> Result<Self, SealError> {
        let identity = identity.map(|identity| (agent.as_str(), identity));
        let (zip, unpacked_bytes) = pack(identity, included)?;
        let names = included.iter().map(|entry| entry.name.clone()).collect();
        let mut sealed = seal(agent, &zip)?;
        sealed.names = names;
        sealed.unpacked_bytes = unpacked_bytes;
        Ok(sealed)
    }

    /// Which deposit.
    #[must_use]
    pub const fn payload_id(&self) -> PayloadId {
        self.payload_id
    }

    /// Who it is for.
    #[must_use]
    pub const fn agent(&self) -> &Uuid {
        &self.agent
    }

    /// How many sealed bytes there are.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.segments.sealed_bytes()
    }

    /// SHA-256 of the sealed bytes.
    #[must_use]
    pub const fn sha256(&self) -> [u8; 32] {
        self.sha256
    }

    /// What the files have together.
    #[must_use]
    pub const fn unpacked_bytes(&self) -> u64 {
        self.unpacked_bytes
    }

    /// What was included, by name.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The half that goes into the blob.
    #[must_use]
    pub const fn u(&self) -> &Half {
        &self.u
    }

    /// The half that the verifier keeps.
    #[must_use]
    pub const fn v(&self) -> &Half {
        &self.v
    }

    /// HMAC of the node's identifier under K.
    #[must_use]
    pub fn auth_tag(&self) -> [u8; 48] {
        self.key.auth_tag(self.agent.as_str().as_bytes())
    }

    /// The sealed bytes from their start.
    ///
    /// # Errors
    /// [`SealError::Temporary`].
    pub fn reader(&self) -> Result<impl Read + Send + use<>, SealError> {
        let mut file = self.file.try_clone().map_err(temporary("read"))?;
        file.rewind().map_err(temporary("read"))?;
        Ok(file)
    }
}

/// Packs into memory, or into a file where that has no room.
fn pack(
    identity: Option<(&str, &NodeIdentity)>,
    included: &[Entry],
) -> Result<(File, u64), SealError> {
    let size: u64 = included.iter().map(|entry| entry.kind.size()).sum();
    let memory = Path::new(MEMORY);
    if size <= IN_MEMORY_BYTES
        && let Ok(file) = tempfile::tempfile_in(memory)
    {
        match package_into(&file, identity, included) {
            Ok(unpacked) => return Ok((file, unpacked)),
            Err(SealError::Zip(zip::result::ZipError::Io(error)))
                if error.kind() == io::ErrorKind::StorageFull => {}
            Err(error) => return Err(error),
        }
    }
    let file = tempfile::tempfile_in(on_disk()).map_err(temporary("make"))?;
    let unpacked = package_into(&file, identity, included)?;
    Ok((file, unpacked))
}

fn on_disk() -> PathBuf {
    std::env::temp_dir()
}

fn seal(agent: &Uuid, mut plain: &File) -> Result<SealedFile, SealError> {
    let have = plain.metadata().map_err(temporary("read"))?.len();
    plain.rewind().map_err(temporary("read"))?;
    let segments = Segments::of_plain(have).ok_or(SealError::Unsealable { have })?;
    let key = Key::from_slice(random::<KEY_BYTES>()?.as_slice()).map_err(SealError::Half)?;
    let v = Half::from_slice(random::<KEY_BYTES>()?.as_slice()).map_err(SealError::Half)?;
    let u = key.other_half(&v).map_err(SealError::Half)?;
    let payload_id = PayloadId(*random::<8>()?);
    let binding = Binding {
        agent,
        payload_id,
        count: segments.count(),
    };
    let mut file = tempfile::tempfile_in(on_disk()).map_err(temporary("make"))?;
    let mut hash = Sha256::new();
    let mut buffer = Zeroizing::new(vec![0; SEGMENT_BYTES]);
    let mut left = have;
    for number in 0..segments.count() {
        let wanted = usize::try_from(left).map_or(SEGMENT_BYTES, |left| left.min(SEGMENT_BYTES));
        let (body, _) = buffer.split_at_mut(wanted);
        plain.read_exact(body).map_err(temporary("read"))?;
        let tag = seal_segment(&key, &binding, number, body).map_err(SealError::Cipher)?;
        for part in [&*body, &tag] {
            hash.update(part);
            file.write_all(part).map_err(temporary("write"))?;
        }
        left -= wanted as u64;
    }
    Ok(SealedFile {
        file,
        agent: agent.clone(),
        payload_id,
        segments,
        sha256: hash.finalize().into(),
        key,
        u,
        v,
        names: Vec::new(),
        unpacked_bytes: 0,
    })
}

fn temporary(action: &'static str) -> impl FnOnce(io::Error) -> SealError {
    move |source| SealError::Temporary { action, source }
}
