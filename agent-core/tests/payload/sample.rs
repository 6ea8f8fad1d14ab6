//! The archive that most tests start from, and ways to change it.

use crate::forge::{Archive, Member};

/// Two files and a directory, which unpack.
pub(crate) fn good() -> Archive {
    let mut dir = Member::stored("dir/", b"");
    dir.set_mode(0o040_755);
    Archive::of(vec![
        Member::stored("first", b"hello"),
        dir,
        Member::deflated("dir/second", &b"again and ".repeat(20)),
    ])
}

/// A wrong archive: its name, how it is made from the good one, and its fault.
pub(crate) type Row<F> = (&'static str, Change, F);
pub(crate) type Change = fn(&mut Archive);

/// Leaves the first file's sizes and CRC to a descriptor, and changes that.
pub(crate) fn open_sizes(zip: &mut Archive, change: fn(&mut Vec<u8>)) {
    let first = &mut zip.members[0];
    first.both(|it| it.flags |= 8);
    first.descriptor = b"PK\x07\x08".to_vec();
    for field in [first.local.crc, first.local.packed, first.local.size] {
        first.descriptor.extend(field.to_le_bytes());
    }
    (first.local.crc, first.local.packed, first.local.size) = (0, 0, 0);
    change(&mut first.descriptor);
}

/// Other bytes for the deflated file, under the sizes and CRC that it has.
pub(crate) fn set_packed(zip: &mut Archive, packed: Vec<u8>) {
    let second = &mut zip.members[2];
    let len = packed.len().try_into().unwrap();
    second.both(|it| it.packed = len);
    second.content = packed;
}
