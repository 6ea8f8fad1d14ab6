//! A zip writer that writes whatever it is told, for archives that no honest writer makes.

/// The fields of one header, local or in the directory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields {
    pub(crate) made_by: u16,
    pub(crate) flags: u16,
    pub(crate) method: u16,
    pub(crate) crc: u32,
    pub(crate) packed: u32,
    pub(crate) size: u32,
    pub(crate) disk: u16,
    pub(crate) attributes: u32,
    /// Where the directory says the local header is; the truth if `None`.
    pub(crate) offset: Option<u32>,
    pub(crate) name: Vec<u8>,
    pub(crate) extra: Vec<u8>,
}

/// One entry: what stands before its content, the content, and what the directory says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Member {
    pub(crate) local: Fields,
    pub(crate) content: Vec<u8>,
    pub(crate) descriptor: Vec<u8>,
    pub(crate) central: Fields,
}

impl Member {
    /// A stored file, 0644.
    pub(crate) fn stored(name: &str, content: &[u8]) -> Self {
        Self::of(name, 0, content.to_vec(), content)
    }

    /// A deflated file, 0644.
    pub(crate) fn deflated(name: &str, content: &[u8]) -> Self {
        Self::of(name, 8, deflate(content), content)
    }

    /// A file of which the headers say `content`, packed as `packed`.
    pub(crate) fn of(name: &str, method: u16, packed: Vec<u8>, content: &[u8]) -> Self {
        let fields = Fields {
            made_by: UNIX,
            method,
            crc: crc32fast::hash(content),
            packed: packed.len().try_into().unwrap(),
            size: content.len().try_into().unwrap(),
            attributes: 0o100_644 << 16,
            name: name.into(),
            ..Fields::default()
        };
        Self {
            local: fields.clone(),
            content: packed,
            descriptor: Vec::new(),
            central: fields,
        }
    }

    /// Changes both headers alike.
    pub(crate) fn both(&mut self, change: impl Fn(&mut Fields)) {
        change(&mut self.local);
        change(&mut self.central);
    }

    pub(crate) fn rename(&mut self, name: &[u8]) {
        self.both(|fields| fields.name = name.to_vec());
    }

    pub(crate) fn set_mode(&mut self, mode: u32) {
        self.central.attributes = mode << 16;
    }
}

/// A whole archive; `None` is the truth.
#[derive(Clone, Debug, Default)]
pub(crate) struct Archive {
    pub(crate) members: Vec<Member>,
    pub(crate) disk: u16,
    pub(crate) entries: Option<u16>,
    pub(crate) directory_size: Option<u32>,
    pub(crate) directory_start: Option<u32>,
    pub(crate) comment: Vec<u8>,
    /// Bytes between the directory and the end record, made from where they stand.
    pub(crate) before_end: Option<fn(&End) -> Vec<u8>>,
    pub(crate) trailer: Vec<u8>,
}

/// What the end records are about.
pub(crate) struct End {
    pub(crate) entries: u64,
    pub(crate) size: u64,
    pub(crate) start: u64,
    pub(crate) at: u64,
}

impl Archive {
    pub(crate) fn of(members: Vec<Member>) -> Self {
        Self {
            members,
            ..Self::default()
        }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut directory = Vec::new();
        for member in &self.members {
            let at = out.len().try_into().unwrap();
            member.local.write_local(&mut out);
            out.extend(&member.content);
            out.extend(&member.descriptor);
            member.central.write_central(at, &mut directory);
        }
        let start = out.len();
        out.extend(&directory);
        let entries = self.members.len();
        if let Some(before_end) = self.before_end {
            out.extend(before_end(&End {
                entries: entries as u64,
                size: directory.len() as u64,
                start: start as u64,
                at: (start + directory.len()) as u64,
            }));
        }
        let entries = self.entries.unwrap_or(entries.try_into().unwrap());
        let size = directory.len().try_into().unwrap();
        out.extend(b"PK\x05\x06");
        for field in [self.disk, self.disk, entries, entries] {
            out.extend(field.to_le_bytes());
        }
        out.extend(self.directory_size.unwrap_or(size).to_le_bytes());
        let start = self.directory_start.unwrap_or(start.try_into().unwrap());
        out.extend(start.to_le_bytes());
        out.extend(u16::try_from(self.comment.len()).unwrap().to_le_bytes());
        out.extend(&self.comment);
        out.extend(&self.trailer);
        out
    }
}

impl Fields {
    fn write_local(&self, out: &mut Vec<u8>) {
        out.extend(b"PK\x03\x04\x14\x00");
        self.write_shared(out);
        out.extend(&self.name);
        out.extend(&self.extra);
    }

    fn write_central(&self, at: u32, out: &mut Vec<u8>) {
        out.extend(b"PK\x01\x02");
        out.extend(self.made_by.to_le_bytes());
        out.extend(b"\x14\x00");
        self.write_shared(out);
        out.extend(b"\x00\x00");
        out.extend(self.disk.to_le_bytes());
        out.extend(b"\x00\x00");
        out.extend(self.attributes.to_le_bytes());
        out.extend(self.offset.unwrap_or(at).to_le_bytes());
        out.extend(&self.name);
        out.extend(&self.extra);
    }

    fn write_shared(&self, out: &mut Vec<u8>) {
        out.extend(self.flags.to_le_bytes());
        out.extend(self.method.to_le_bytes());
        out.extend([0; 4]);
        for field in [self.crc, self.packed, self.size] {
            out.extend(field.to_le_bytes());
        }
        for bytes in [&self.name, &self.extra] {
            out.extend(u16::try_from(bytes.len()).unwrap().to_le_bytes());
        }
    }
}

/// A zip64 extra field of these values.
pub(crate) fn wide_extra(values: &[u64]) -> Vec<u8> {
    let mut out = vec![1, 0];
    out.extend(u16::try_from(8 * values.len()).unwrap().to_le_bytes());
    out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    out
}

/// A zip64 end record and its locator.
pub(crate) fn wide_end(end: &End) -> Vec<u8> {
    let mut out = b"PK\x06\x06".to_vec();
    out.extend(44_u64.to_le_bytes());
    out.extend([45, 0, 45, 0]);
    out.extend([0; 8]);
    for field in [end.entries, end.entries, end.size, end.start] {
        out.extend(field.to_le_bytes());
    }
    out.extend(b"PK\x06\x07\0\0\0\0");
    out.extend(end.at.to_le_bytes());
    out.extend(1_u32.to_le_bytes());
    out
}

/// A raw deflate stream of the content, in one block that isn't compressed.
///
/// Source: RFC 1951 section 3.2.4.
pub(crate) fn deflate(content: &[u8]) -> Vec<u8> {
    let len = u16::try_from(content.len()).unwrap();
    let mut out = vec![1];
    out.extend(len.to_le_bytes());
    out.extend((!len).to_le_bytes());
    out.extend(content);
    out
}

/// "Made by" of a Unix system.
const UNIX: u16 = 3 << 8 | 30;
