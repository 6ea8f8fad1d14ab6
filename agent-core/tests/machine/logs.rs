//! Logs in answers: Keylime's members, and never a lie about a log that isn't what it was.

use agent_core::drive::{
    AllLent, Call, CallError, Enclosed, EnclosedError, LogFault, Logs, Served, call_with_logs,
};
use agent_core::http::emit::{Media, Verb};
use agent_core::wire::json::Value;
use agent_core::wire::limits::MAX_LOG_BYTES;
use agent_core::wire::log::{Attached, Lines, LogKind};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use embedded_io::ErrorKind;

use crate::bench::{Answer, Bench, Log, Scripted};

/// A log, and what becomes of it the second time that it is read.
#[derive(Clone)]
struct Script {
    now: Vec<u8>,
    then: Vec<u8>,
    /// The most that one read gives.
    piece: usize,
    is_broken: bool,
    seeks: usize,
    at: usize,
}

impl Script {
    fn new(now: impl AsRef<[u8]>) -> Self {
        let now = now.as_ref();
        Self {
            now: now.to_vec(),
            then: now.to_vec(),
            piece: 7,
            is_broken: false,
            seeks: 0,
            at: 0,
        }
    }

    fn then(self, then: impl AsRef<[u8]>) -> Self {
        Self {
            then: then.as_ref().to_vec(),
            ..self
        }
    }
}

impl Scripted for Script {
    fn seek(&mut self, at: u64) {
        (self.at, self.seeks) = (usize::try_from(at).unwrap(), self.seeks + 1);
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ErrorKind> {
        if self.is_broken {
            return Err(ErrorKind::Other);
        }
        let bytes = if self.seeks > 1 {
            &self.then
        } else {
            &self.now
        };
        let rest = bytes.get(self.at..).unwrap_or_default();
        let read = rest.len().min(buffer.len()).min(self.piece);
        buffer[..read].copy_from_slice(&rest[..read]);
        self.at += read;
        Ok(read)
    }
}

/// A log as a call takes it.
fn log(script: impl Scripted + 'static) -> Log {
    Log(Box::new(script))
}

const LIST: &str = "10 aa ima-ng sha256:bb boot_aggregate\n10 cc ima-ng sha256:dd /bin/\"a\\b\"\n10 ee ima-ng sha256:ff /bin/gr\u{fc}n\n";

fn line(number: usize) -> String {
    LIST.split_inclusive('\n').skip(number).collect()
}

fn node(ima: Option<Script>, boot: Option<Script>) -> Bench {
    let mut bench = Bench::new();
    let boxed =
        |log: &Option<Script>| -> Option<Box<dyn Scripted>> { Some(Box::new(log.clone()?)) };
    bench.logs = Some(Box::new(move |kind| {
        Ok(match kind {
            LogKind::Ima => boxed(&ima),
            LogKind::Boot => boxed(&boot),
        })
    }));
    bench
}

fn integrity(mask: &str, entry: &str) -> String {
    format!("/v2.6/quotes/integrity?nonce=abc&mask={mask}&partial=1{entry}")
}

/// A member of `results`, unescaped by another reader than ours.
fn member(answer: &Answer, name: &str) -> Option<serde_json::Value> {
    let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    body["results"].get(name).cloned()
}

#[test]
fn lists_are_sent_from_the_line_that_is_asked_for() {
    let rows = [
        ("no entry", "", 0, 0),
        ("all", "&ima_ml_entry=0", 0, 0),
        ("some", "&ima_ml_entry=2", 2, 2),
        ("the next", "&ima_ml_entry=3", 3, 3),
        ("beyond", "&ima_ml_entry=4", 0, 0),
        ("far beyond", "&ima_ml_entry=18446744073709551615", 0, 0),
    ];
    for (name, entry, from, said) in rows {
        for mask in ["0x400", "0"] {
            let bench = node(Some(Script::new(LIST)), Some(Script::new("x")));
            let answer = bench.get(&integrity(mask, entry));
            assert_eq!(answer.status, 200, "{name}");
            let list = member(&answer, "ima_measurement_list").unwrap();
            assert_eq!(list, line(from), "{name}");
            let entry = member(&answer, "ima_measurement_list_entry").unwrap();
            assert_eq!(entry, said, "{name}");
            assert_eq!(member(&answer, "mb_measurement_list"), None, "{name}");
        }
    }
}

#[test]
fn boot_logs_go_with_pcr_0() {
    let log: Vec<u8> = (0..=255).cycle().take(20_000).collect();
    for length in [0, 1, 2, 3, 8191, 8192, 8193, 20_000] {
        let bench = node(None, Some(Script::new(&log[..length])));
        let answer = bench.get(&integrity("0x1", ""));
        let sent = member(&answer, "mb_measurement_list").unwrap();
        assert_eq!(sent, STANDARD.encode(&log[..length]), "{length}");
        assert_eq!(member(&answer, "ima_measurement_list"), None);
        assert_eq!(member(&answer, "ima_measurement_list_entry"), None);
    }
}

#[test]
fn an_empty_list_is_sent_and_a_missing_one_is_not() {
    let answer = node(Some(Script::new("")), None).get(&integrity("0", ""));
    assert_eq!(member(&answer, "ima_measurement_list").unwrap(), "");
    assert_eq!(member(&answer, "ima_measurement_list_entry").unwrap(), 0);
    let without = node(None, None);
    for target in [
        integrity("0x401", "&ima_ml_entry=7"),
        "/v2.6/quotes/identity?nonce=abc".into(),
    ] {
        let answer = without.get(&target);
        assert_eq!(member(&answer, "ima_measurement_list_entry"), None);
    }
    let identity = node(Some(Script::new(LIST)), None).get("/v2.6/quotes/identity?nonce=abc");
    assert_eq!(member(&identity, "ima_measurement_list"), None);
}

/// Larger than every buffer, with what needs an escape and what is no UTF-8 in every place of it.
#[test]
fn lists_larger_than_every_buffer() {
    let mut list = Vec::new();
    for n in 0..2000 {
        let name = b"ab\"\xc3\xa4\\\x07\xff".repeat(n % 40);
        list.extend([b"10 aa ima-ng sha256:bb /", &name[..], b"\n"].concat());
    }
    for piece in [1, 100, 4096, usize::MAX] {
        let script = Script {
            piece,
            ..Script::new(&list)
        };
        let answer = node(Some(script), None).get(&integrity("0", "&ima_ml_entry=1000"));
        let sent = member(&answer, "ima_measurement_list").unwrap();
        let text = String::from_utf8_lossy(&list);
        let want: String = text.split_inclusive('\n').skip(1000).collect();
        assert_eq!(sent, want, "{piece}");
    }
}

#[test]
fn what_a_log_grows_by_meanwhile_is_left_for_the_next_time() {
    let grown = format!("{LIST}10 11 ima-ng sha256:22 /new\n");
    let script = Script::new(LIST).then(&grown);
    let answer = node(Some(script), None).get(&integrity("0", "&ima_ml_entry=1"));
    assert_eq!(member(&answer, "ima_measurement_list").unwrap(), line(1));
    // A line of which a part alone is there isn't one.
    let half = &grown[..LIST.len() + 9];
    let answer = node(Some(Script::new(half)), None).get(&integrity("0", ""));
    assert_eq!(member(&answer, "ima_measurement_list").unwrap(), LIST);
}

#[test]
fn a_log_that_is_not_what_it_was_breaks_the_answer_off() {
    let other = LIST.replace("/bin/gr", "\"bin\"gr");
    let rows = [
        ("vanished", Script::new(LIST).then("")),
        ("shorter", Script::new(LIST).then(line(1))),
        ("longer text", Script::new(LIST).then(other)),
        (
            "shorter text",
            Script::new(LIST).then(LIST.replace('"', "x")),
        ),
    ];
    for (name, script) in rows {
        let bench = node(Some(script), None);
        let get = format!("GET {} HTTP/1.1\r\n\r\n", integrity("0", ""));
        let (answers, served) = bench.connection(get.as_bytes());
        assert_eq!((answers.len(), served), (0, Served::Gone), "{name}");
        let notes = bench.notes.borrow();
        assert!(notes[0].to_string().contains("has changed"), "{notes:?}");
    }
}

#[test]
fn logs_that_cannot_be_had_are_a_500() {
    let broken = Script {
        is_broken: true,
        ..Script::new(LIST)
    };
    let rows = [
        (
            "broken list",
            node(Some(broken.clone()), None),
            "cannot be read",
        ),
        (
            "broken boot log",
            node(None, Some(broken)),
            "cannot be read",
        ),
        (
            "lent",
            node(Some(Script::new(LIST)), None),
            "cannot be read",
        ),
    ];
    for (name, mut bench, word) in rows {
        if name == "lent" {
            bench.logs = Some(Box::new(|_| Err(AllLent)));
        }
        let answer = bench.get(&integrity("0x1", ""));
        assert_eq!((answer.status, answer.closes), (500, false), "{name}");
        assert!(answer.text("status").contains(word), "{name}");
        assert!(!answer.body.contains("other error"), "{name}");
        assert_eq!(bench.notes.borrow().len(), 1, "{name}");
    }
}

/// Endless zeros.
struct Endless(u64);

impl Scripted for Endless {
    fn seek(&mut self, _: u64) {}

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ErrorKind> {
        self.0 += u64::try_from(buffer.len()).unwrap();
        assert!(self.0 <= MAX_LOG_BYTES + (1 << 20), "it is read for ever");
        Ok(buffer.len())
    }
}

/// A verifier that has answered already.
struct Verifier {
    answer: Vec<u8>,
    got: Vec<u8>,
}

impl embedded_io::ErrorType for Verifier {
    type Error = ErrorKind;
}

impl embedded_io::Read for Verifier {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ErrorKind> {
        let read = self.answer.len().min(buffer.len()).min(1000);
        buffer[..read].copy_from_slice(&self.answer[..read]);
        self.answer.drain(..read);
        Ok(read)
    }
}

impl embedded_io::Write for Verifier {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        self.got.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), ErrorKind> {
        Ok(())
    }
}

const BODY: &str = r#"{"data":{"type":"attestation","attributes":{"list":[{"first":1}]}}}"#;

type Called = Result<(u16, Vec<u8>), EnclosedError<ErrorKind, ErrorKind>>;

/// What a call with these logs sends, and what it comes to.
fn call(attached: &Attached, logs: &mut Logs<Log>, answer: &str) -> (String, Called) {
    let length = answer.len();
    let head = format!("HTTP/1.1 202 Accepted\r\nContent-Length: {length}\r\n\r\n");
    let mut verifier = Verifier {
        answer: [head.as_bytes(), answer.as_bytes()].concat(),
        got: Vec::new(),
    };
    let mut body = heapless::String::<256>::try_from(BODY).unwrap();
    let asked = Call {
        verb: Verb::Patch,
        path: "/v3.0/x",
        host: "v",
        token: Some("t"),
        media: Media::JsonApi,
        body: "",
    };
    let enclosed = Enclosed {
        attached,
        body: &mut body,
        logs,
    };
    let mut buffer = [0; 2048];
    let done = call_with_logs(&mut verifier, &asked, enclosed, &mut buffer);
    let done = done.map(|answer| (answer.status, answer.body.to_vec()));
    (String::from_utf8(verifier.got).unwrap(), done)
}

/// The items that a request adds to the first one, and how long the body says it is.
fn items(sent: &str) -> Vec<serde_json::Value> {
    let (head, body) = sent.split_once("\r\n\r\n").unwrap();
    assert!(
        head.contains(&format!("\r\nContent-Length: {}", body.len())),
        "{head}"
    );
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    let list = body["data"]["attributes"]["list"].as_array().unwrap();
    list[1..].to_vec()
}

#[test]
fn requests_bring_what_is_asked_for() {
    let collected = |boot, ima| Attached::Collected { boot, ima };
    let lines = |from, count| Some(Lines { from, count });
    let boot = serde_json::json!({"evidence_class": "log", "evidence_type": "uefi_log",
        "data": {"entries": "ZXZlbnRz"}});
    let ima = |from: usize, count: usize| {
        let entries: String = LIST.split_inclusive('\n').skip(from).take(count).collect();
        serde_json::json!({"evidence_class": "log", "evidence_type": "ima_log",
            "data": {"entries": entries, "entry_count": entries.matches('\n').count()}})
    };
    let rows = [
        ("boot log", collected(true, None), vec![boot.clone()]),
        (
            "list",
            collected(false, lines(0, u64::MAX)),
            vec![ima(0, 9)],
        ),
        (
            "both",
            collected(true, lines(1, u64::MAX)),
            vec![boot, ima(1, 9)],
        ),
        ("one line", collected(false, lines(1, 1)), vec![ima(1, 1)]),
        (
            "new lines, of which there are none",
            collected(false, lines(3, u64::MAX)),
            vec![ima(3, 9)],
        ),
        (
            "beyond: those that are there",
            collected(false, lines(9, u64::MAX)),
            vec![ima(9, 9)],
        ),
    ];
    for (name, attached, want) in rows {
        let mut logs = Logs::new(
            Some(log(Script::new(LIST))),
            Some(log(Script::new("events"))),
        );
        let (sent, done) = call(&attached, &mut logs, "{}");
        assert_eq!(items(&sent), want, "{name}");
        assert_eq!(done, Ok((202, b"{}".to_vec())), "{name}");
    }
}

#[test]
fn only_logs_that_can_be_had_are_offered() {
    let broken = Script {
        is_broken: true,
        ..Script::new(LIST)
    };
    let names = |sent: &str| -> Vec<String> {
        let name = |item: &serde_json::Value| item["evidence_type"].as_str().unwrap().to_owned();
        items(sent).iter().map(name).collect()
    };
    let good = || Some(Script::new(LIST));
    let rows = [
        (good(), good(), vec!["uefi_log", "ima_log"], None),
        (good(), None, vec!["ima_log"], None),
        (None, None, vec![], None),
        (
            Some(broken),
            good(),
            vec!["uefi_log"],
            Some(LogFault::Read(LogKind::Ima, ErrorKind::Other)),
        ),
    ];
    for (ima, boot, want, left_out) in rows {
        let mut logs = Logs::new(ima.map(log), boot.map(log));
        let (sent, _) = call(&Attached::Supported, &mut logs, "{}");
        assert_eq!(names(&sent), want);
        assert_eq!(logs.left_out, left_out);
        for item in items(&sent)
            .iter()
            .filter(|item| item["evidence_type"] == "ima_log")
        {
            assert_eq!(item["capabilities"]["entry_count"], 3);
        }
    }
    let mut logs = Logs::new(Some(log(Endless(0))), None);
    let (sent, _) = call(&Attached::Supported, &mut logs, "{}");
    assert_eq!(names(&sent), Vec::<String>::new());
    assert_eq!(logs.left_out, Some(LogFault::TooLarge(LogKind::Ima)));
}

#[test]
fn what_is_asked_for_and_cannot_be_had_is_an_error() {
    let attached = Attached::Collected {
        boot: false,
        ima: Some(Lines::from(0)),
    };
    let broken = Script {
        is_broken: true,
        ..Script::new(LIST)
    };
    let fault = |fault| Err(EnclosedError::Log(fault));
    let rows = [
        (None, fault(LogFault::Missing(LogKind::Ima)), false),
        (
            Some(broken),
            fault(LogFault::Read(LogKind::Ima, ErrorKind::Other)),
            false,
        ),
        (
            Some(Script::new(LIST).then("x")),
            fault(LogFault::Changed(LogKind::Ima)),
            true,
        ),
    ];
    for (ima, want, is_begun) in rows {
        let (sent, done) = call(&attached, &mut Logs::new(ima.map(log), None), "{}");
        assert_eq!(done, want);
        assert_eq!(!sent.is_empty(), is_begun);
        assert!(!sent.ends_with(attached.tail()));
    }
}

#[test]
fn of_evidence_that_is_sent_back_the_end_is_kept() {
    let attached = Attached::Supported;
    let mut logs = Logs::new(Some(log(Script::new(LIST))), None);
    for size in [0, 1900, 2000, 3000, 100_000] {
        let echo = "x".repeat(size);
        let answer = format!(r#"{{"data":"{echo}","meta":{{"seconds_to_next_attestation": 61}}}}"#);
        let (_, done) = call(&attached, &mut logs, &answer);
        let (status, body) = done.unwrap();
        assert_eq!(status, 202);
        assert!(answer.as_bytes().ends_with(&body), "{size}");
        let accepted = agent_core::wire::push::Accepted::from_answer(&body);
        assert_eq!(accepted.seconds_to_next, Some(61), "{size}");
        assert_eq!(Value::parse(&body).is_ok(), body.len() == answer.len());
    }
    let (_, done) = call(&attached, &mut logs, "");
    assert_eq!(done, Ok((202, Vec::new())));
    let mut cut = Verifier {
        answer: b"HTTP/1.1 202 A\r\nContent-Length: 99999\r\n\r\nxxx".to_vec(),
        got: Vec::new(),
    };
    let mut body = heapless::String::<256>::try_from(BODY).unwrap();
    let asked = Call {
        verb: Verb::Patch,
        path: "/",
        host: "v",
        token: None,
        media: Media::JsonApi,
        body: "",
    };
    let enclosed = Enclosed {
        attached: &attached,
        body: &mut body,
        logs: &mut logs,
    };
    let mut buffer = [0; 2048];
    let done = call_with_logs(&mut cut, &asked, enclosed, &mut buffer);
    assert_eq!(done.err(), Some(EnclosedError::Call(CallError::Cut)));
}
