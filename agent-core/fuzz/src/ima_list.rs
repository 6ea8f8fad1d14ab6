//! IMA lists, as text and in binary: what is read is the whole list, and a match stands by itself.

use std::convert::Infallible;

use agent_core::wire::quote::HashAlg;
use verifier_host::evidence::ima::{
    Content, Entry, FileKey, FileSignature, ImaError, Lines, MAX_DATA_BYTES, MAX_PATH_BYTES,
    Replayed, check as replay,
};

/// The bytes are a list.
pub fn check(data: &[u8]) {
    let read = read_all(data);
    let anything = &mut |_: &Entry<'_>| Ok::<(), Infallible>(());
    let start = Replayed::default();
    // No PCR is empty, so that nothing matches.
    let Err(error) = replay(data, HashAlg::Sha256, &start, &[], 0, anything) else {
        panic!("matched nothing");
    };
    let ImaError::NoMatch { last, pcr, .. } = error else {
        return;
    };
    assert_eq!(read, Some(last), "all lines were replayed");
    let end: Vec<u8> = (0..pcr.len() / 2)
        .map(|at| u8::from_str_radix(&pcr[2 * at..2 * at + 2], 16).unwrap())
        .collect();
    let matched = replay(data, HashAlg::Sha256, &start, &end, last, anything).unwrap();
    assert_eq!((matched.replayed.lines, matched.beyond), (last, 0));
    // From there on nothing is left, and it is the same for whoever was there.
    let again = replay(
        b"",
        HashAlg::Sha256,
        &matched.replayed,
        &end,
        last,
        anything,
    );
    assert_eq!(again.unwrap().replayed, matched.replayed);
}

/// Reads each line, and says how many there are if all are lines.
fn read_all(data: &[u8]) -> Option<u64> {
    let mut lines = Lines::new(data);
    let mut all = true;
    let mut count = 0;
    while let Some(entry) = lines.next() {
        let Ok(entry) = entry else {
            all = false;
            continue;
        };
        count += 1;
        assert_eq!(entry.line, count);
        assert!(entry.data.len() <= MAX_DATA_BYTES + MAX_PATH_BYTES + 512);
        assert!(entry.path.len() <= MAX_PATH_BYTES && !entry.path.contains(&0));
        match entry.content {
            Content::Signed(bytes) => {
                let _ = FileSignature::parse(bytes);
            }
            Content::Buffer(bytes) => {
                let _ = FileKey::from_der(bytes);
            }
            Content::File => {}
        }
    }
    assert_eq!(lines.read(), count);
    all.then_some(count)
}
