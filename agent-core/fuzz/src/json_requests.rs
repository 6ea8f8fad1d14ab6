//! Bodies of requests: read alike in pieces of any size, as another JSON reader reads them, and as they were written.

use std::fmt;

use agent_core::revocation::{MAX_MESSAGE_BYTES, NoticeForm};
use agent_core::wire::form::{FormError, UKeyForm, VKeyForm};
use agent_core::wire::json::{Fields, JsonError, Kind, MAX_NAME_BYTES, ObjectReader, ObjectWriter};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

/// The first byte says in what pieces the others come.
pub fn check(data: &[u8]) {
    let Some((first, body)) = data.split_first() else {
        return;
    };
    let piece = usize::from(*first) + 1;
    let read = read_object(body, body.len().max(1));
    assert_eq!(read_object(body, piece), read);
    check_reference(body, &read);
    if let Ok(members) = &read {
        check_written(members);
    }
    check_forms(body, piece);
}

/// A member: name, text and kind.
type Row = (String, Vec<u8>, Kind);
type Read = Result<Vec<Row>, JsonError<()>>;

/// Keeps all members.
#[derive(Default)]
struct Rows(Vec<Row>);

impl Fields for Rows {
    type Error = ();

    fn begin(&mut self, name: &str) -> Result<(), ()> {
        self.0.push((name.to_owned(), Vec::new(), Kind::Null));
        Ok(())
    }

    fn text(&mut self, piece: &[u8]) -> Result<(), ()> {
        self.0.last_mut().unwrap().1.extend_from_slice(piece);
        Ok(())
    }

    fn end(&mut self, kind: Kind) -> Result<(), ()> {
        self.0.last_mut().unwrap().2 = kind;
        Ok(())
    }
}

fn read_object(body: &[u8], piece: usize) -> Read {
    let mut reader = ObjectReader::new();
    let mut rows = Rows::default();
    for piece in body.chunks(piece) {
        reader.feed(piece, &mut rows)?;
    }
    reader.finish()?;
    Ok(rows.0)
}

/// What serde_json takes, ours takes as the same, within its bounds; and the other way round.
fn check_reference(body: &[u8], read: &Read) {
    let reference = serde_json::from_slice::<Members>(body).map(|members| members.0);
    match (reference, read) {
        (Ok(members), Ok(rows)) => {
            assert_eq!(members.len(), rows.len());
            for ((name, value), (our_name, text, kind)) in members.iter().zip(rows) {
                assert_eq!(name, our_name);
                match value {
                    Value::Null => assert_eq!(*kind, Kind::Null),
                    Value::Bool(_) | Value::Number(_) => assert_eq!(*kind, Kind::Other),
                    Value::String(value) => {
                        assert_eq!((value.as_bytes(), Kind::Text), (&text[..], *kind));
                    }
                    Value::Array(_) | Value::Object(_) => panic!("{name} is nested"),
                }
            }
        }
        (Ok(members), Err(error)) => assert!(
            members.iter().any(|(name, value)| {
                // A number may be longer than ours are.
                name.len() > MAX_NAME_BYTES
                    || matches!(value, Value::Array(_) | Value::Object(_) | Value::Number(_))
            }),
            "{error:?}"
        ),
        (Err(error), Ok(rows)) => assert!(
            // Numbers are only told apart from other values, and texts are not checked for UTF-8 here.
            std::str::from_utf8(body).is_err() || rows.iter().any(|row| row.2 == Kind::Other),
            "{error}"
        ),
        (Err(_), Err(_)) => {}
    }
}

/// The members of an object in their order, doubled ones too.
struct Members(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        from.deserialize_map(Collect)
    }
}

/// What the writer writes, the reader reads.
fn check_written(rows: &[Row]) {
    let mut text = String::new();
    let mut object = ObjectWriter::begin(&mut text).unwrap();
    let mut want = Vec::new();
    for (name, bytes, _) in rows {
        let value = String::from_utf8_lossy(bytes);
        object.text(name, &value).unwrap();
        want.push((name.clone(), value.as_bytes().to_vec(), Kind::Text));
    }
    object.end().unwrap();
    assert_eq!(read_object(text.as_bytes(), text.len()), Ok(want), "{text}");
}

fn check_forms(body: &[u8], piece: usize) {
    let whole = body.len().max(1);
    assert_eq!(ukey(body, piece), ukey(body, whole));
    assert_eq!(vkey(body, piece), vkey(body, whole));
    assert_eq!(notice(body, piece), notice(body, whole));
}

/// A U half as it was read: ciphertext, tag, payload and its hash.
type UKeyRead = (Vec<u8>, [u8; 48], Option<(Vec<u8>, [u8; 32])>);

fn ukey(body: &[u8], piece: usize) -> Result<UKeyRead, FormError> {
    let mut form = UKeyForm::new(vec![0; VAULT_BYTES]);
    for piece in body.chunks(piece) {
        form.feed(piece)?;
    }
    let read = form.finish()?;
    let sealed = read
        .sealed
        .map(|sealed| (sealed.vault[..sealed.length].to_vec(), sealed.sha256));
    Ok((read.encrypted_key.to_vec(), read.auth_tag, sealed))
}

fn vkey(body: &[u8], piece: usize) -> Result<Vec<u8>, FormError> {
    let mut form = VKeyForm::new();
    for piece in body.chunks(piece) {
        form.feed(piece)?;
    }
    Ok(form.finish()?.encrypted_key.to_vec())
}

fn notice(body: &[u8], piece: usize) -> Result<String, FormError> {
    let mut message = [0; MAX_MESSAGE_BYTES];
    let mut form = NoticeForm::new(&mut message);
    for piece in body.chunks(piece) {
        form.feed(piece)?;
    }
    Ok(format!("{:?}", form.finish()?))
}

/// Small enough that a payload can be too large for it.
const VAULT_BYTES: usize = 256;
