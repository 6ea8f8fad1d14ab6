//! Heads of requests and of answers: read within their bytes, to one end only, and as they were written.

use agent_core::http::Status;
use agent_core::http::emit::{Asking, Media, Verb, answer_head, request_head};
use agent_core::http::head::{After, AnswerHead, Length, RequestHead};
use agent_core::wire::route::{ApiVersions, Method, Route};

/// The bytes are a head, with or without something after it.
pub fn check(data: &[u8]) {
    if let Ok(Some((head, size))) = RequestHead::parse(data) {
        check_end(data, size, |bytes| {
            RequestHead::parse(bytes)
                .map(|found| found.map(|(head, size)| (format!("{head:?}"), size)))
        });
        check_fields(&data[..size], head.length);
        check_written(&head);
        let _ = Route::parse(head.method, head.path, head.query, ApiVersions::all());
    }
    if let Ok(Some((head, size))) = AnswerHead::parse(data) {
        check_end(data, size, |bytes| {
            AnswerHead::parse(bytes)
                .map(|found| found.map(|(head, size)| (format!("{head:?}"), size)))
        });
        check_fields(&data[..size], head.length);
        check_answer(&head);
    }
}

/// The head ends where it says: nothing after that matters, and nothing less is a head.
fn check_end<H, E>(data: &[u8], size: usize, parse: impl Fn(&[u8]) -> Result<Option<(H, usize)>, E>)
where
    H: PartialEq + std::fmt::Debug,
    E: PartialEq + std::fmt::Debug,
{
    assert!(data[..size].ends_with(b"\n"));
    let whole = parse(data);
    assert_eq!(parse(&data[..size]), whole);
    assert_eq!(parse(&[&data[..size], b"\0:\r"].concat()), whole);
    for cut in [size - 1, size / 2, usize::from(data[0]) % size] {
        assert_eq!(parse(&data[..cut]), Ok(None), "cut to {cut}");
    }
}

/// Whoever reads the head in the plainest way finds the same end of the body.
fn check_fields(head: &[u8], length: Length) {
    let lines = head.split(|byte| *byte == b'\n').skip(1);
    let fields = lines.filter_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = line[..colon].trim_ascii().to_ascii_lowercase();
        Some((name, line[colon + 1..].trim_ascii()))
    });
    let mut found = Length::Unsaid;
    for (name, value) in fields {
        assert_ne!(name, b"transfer-encoding");
        if name == b"content-length" {
            assert_eq!(found, Length::Unsaid, "two lengths");
            found = Length::Bytes(std::str::from_utf8(value).unwrap().parse().unwrap());
        }
    }
    assert_eq!(found, length);
}

fn check_written(head: &RequestHead<'_>) {
    let verb = match head.method {
        Method::Get => Verb::Get,
        Method::Post => Verb::Post,
        Method::Other => Verb::Put,
    };
    let length = match head.length {
        Length::Bytes(length) => usize::try_from(length).unwrap(),
        Length::Unsaid => 0,
    };
    let mut text = String::new();
    let target = format!("{}?{}", head.path, head.query);
    let asking = Asking {
        verb,
        path: &target,
        host: "host",
        token: None,
        media: Media::Json,
        from: 0,
        length,
    };
    request_head(&mut text, &asking).unwrap();
    let (read, size) = RequestHead::parse(text.as_bytes()).unwrap().unwrap();
    let want = RequestHead {
        length: match length {
            0 => Length::Unsaid,
            _ => head.length,
        },
        after: After::Keep,
        expects_continue: false,
        ..head.clone()
    };
    assert_eq!((read, size), (want, text.len()));
}

fn check_answer(head: &AnswerHead<'_>) {
    let (Some(status), Length::Bytes(length)) = (status(head.status), head.length) else {
        return;
    };
    let mut text = String::new();
    answer_head(
        &mut text,
        status,
        usize::try_from(length).unwrap(),
        head.after,
    )
    .unwrap();
    let (read, size) = AnswerHead::parse(text.as_bytes()).unwrap().unwrap();
    let want = AnswerHead {
        retry_after: None,
        location: None,
        range: None,
        ..*head
    };
    assert_eq!((read, size), (want, text.len()));
}

fn status(code: u16) -> Option<Status> {
    let all = [
        Status::Ok,
        Status::BadRequest,
        Status::Forbidden,
        Status::NotFound,
        Status::MethodNotAllowed,
        Status::LengthRequired,
        Status::PayloadTooLarge,
        Status::HeadTooLarge,
        Status::InternalError,
        Status::VersionNotSupported,
    ];
    all.into_iter().find(|status| status.code() == code)
}
