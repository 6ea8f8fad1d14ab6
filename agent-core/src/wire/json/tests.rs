use core::fmt::Write;

use super::*;

/// Writes down what it receives, as `name=text;` or `name:kind;`.
#[derive(Default)]
struct Record(heapless::String<256>);

impl Fields for Record {
    type Error = ();

    fn begin(&mut self, name: &str) -> Result<(), ()> {
        write!(self.0, "{name}=").map_err(drop)
    }

    fn text(&mut self, piece: &[u8]) -> Result<(), ()> {
        let piece = core::str::from_utf8(piece).map_err(drop)?;
        self.0.write_str(piece).map_err(drop)
    }

    fn end(&mut self, kind: Kind) -> Result<(), ()> {
        let mark = match kind {
            Kind::Text => ";",
            Kind::Null => "(null);",
            Kind::Other => "(other);",
        };
        self.0.write_str(mark).map_err(drop)
    }
}

fn read(text: &str, piece: usize) -> Result<heapless::String<256>, JsonError<()>> {
    let mut record = Record::default();
    let mut reader = ObjectReader::new();
    for chunk in text.as_bytes().chunks(piece) {
        reader.feed(chunk, &mut record)?;
    }
    reader.finish()?;
    Ok(record.0)
}

#[test]
fn flat_objects_in_any_pieces() {
    let cases = [
        ("{}", ""),
        (" { } \n", ""),
        (r#"{"a":"b"}"#, "a=b;"),
        (r#"{ "a" : "b" , "c":"" }"#, "a=b;c=;"),
        (
            r#"{"a":null,"b":true,"c":-1.5e3,"d":0}"#,
            "a=(null);b=(other);c=(other);d=(other);",
        ),
        (r#"{"a":"x\/y\\\"\n"}"#, "a=x/y\\\"\n;"),
        (r#"{"a":"\u00e9\ud83d\ude00"}"#, "a=é😀;"),
        (r#"{"\u0061":"b"}"#, "a=b;"),
    ];
    for (text, want) in cases {
        for piece in 1..=text.len() {
            assert_eq!(read(text, piece).as_deref(), Ok(want), "{text} by {piece}");
        }
    }
}

#[test]
fn what_is_no_flat_object_is_refused() {
    let syntax = |offset| JsonError::Syntax { offset };
    let cases = [
        ("", JsonError::Unfinished),
        ("{", JsonError::Unfinished),
        (r#"{"a":"b""#, JsonError::Unfinished),
        ("[]", syntax(0)),
        ("x", syntax(0)),
        ("{}{}", syntax(2)),
        (r#"{"a":"b",}"#, syntax(9)),
        (r#"{,"a":"b"}"#, syntax(1)),
        (r#"{"a" "b"}"#, syntax(5)),
        (r#"{"a":{}}"#, JsonError::Nested),
        (r#"{"a":[1]}"#, JsonError::Nested),
        (r#"{"a":nul}"#, syntax(8)),
        (r#"{"a":nan}"#, syntax(8)),
        (r#"{"a":1.}"#, syntax(7)),
        (r#"{"a":01}"#, syntax(7)),
        (r#"{"a":,"b":1}"#, syntax(5)),
        (r#"{"a":"\x"}"#, syntax(7)),
        (r#"{"a":"\u12g4"}"#, syntax(10)),
        (r#"{"a":"\ud800x"}"#, syntax(12)),
        (r#"{"a":"\udc00"}"#, syntax(11)),
        (r#"{"a":"\ud800\u0041"}"#, syntax(17)),
        ("{\"a\":\"\n\"}", syntax(6)),
        (
            r#"{"0123456789012345678901234567890123456789012345678901234567890123456":1}"#,
            JsonError::Name,
        ),
    ];
    for (text, want) in cases {
        for piece in [1, 3, 200] {
            assert_eq!(read(text, piece), Err(want), "{text} by {piece}");
        }
    }
}

#[test]
fn writes_what_it_would_read() {
    let mut out = heapless::String::<256>::new();
    let mut object = ObjectWriter::begin(&mut out).unwrap();
    object.text("a", "x\"y\\z\n\u{1}é").unwrap();
    object.number("b", -7).unwrap();
    object.flag("c", true).unwrap();
    object.null("d").unwrap();
    object.texts("e", ["1", "2"]).unwrap();
    let mut inner = object.object("f").unwrap();
    inner.text_or_null("g", None::<&str>).unwrap();
    inner.end().unwrap();
    object.end().unwrap();
    assert_eq!(
        out,
        r#"{"a":"x\"y\\z\n\u0001é","b":-7,"c":true,"d":null,"e":["1","2"],"f":{"g":null}}"#
    );
}

#[test]
fn no_room_is_an_error() {
    let mut out = heapless::String::<8>::new();
    let mut object = ObjectWriter::begin(&mut out).unwrap();
    assert!(object.text("name", "value").is_err());
}
