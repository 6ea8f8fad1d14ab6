//! Logs on their way through answers and requests.

use agent_core::drive::{Call, Enclosed, Logs, call_with_logs};
use agent_core::http::emit::{Media, Verb};
use agent_core::wire::log::{Attached, Lines, LogKind};

use crate::world::{Log, Wire, World, put};

pub fn answer(world: &mut World<'_>) -> Option<()> {
    world.node.logs.set(true);
    let target = "/v2.6/quotes/integrity?nonce=abc&mask=0xffffff&partial=0&ima_ml_entry=1";
    let answered = world.get(target, 200);
    world.node.logs.set(false);
    answered?;
    let is_right = world.answered("mb_measurement_list") == Some("ZXZlbnRz")
        && world.answered("ima_measurement_list") == Some("10 cc ima-ng sha256:dd /gün\u{fffd}\\n")
        && world.got.ends_with(b",\"ima_measurement_list_entry\":1}}");
    is_right.then_some(())
}

pub fn call(world: &mut World<'_>) -> Option<()> {
    let mut sent = heapless::Vec::<u8, 1024>::new();
    let mut wire = Wire {
        coming: b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}",
        got: &mut sent,
    };
    let attached = Attached::Collected {
        boot: true,
        ima: Some(Lines { from: 0, count: 1 }),
    };
    put(&mut world.outgoing, r#"{"data":{"a":{"e":[{}]}}}"#)?;
    let asked = Call {
        verb: Verb::Patch,
        path: "/x",
        host: "verifier",
        token: Some("t"),
        media: Media::JsonApi,
        body: "",
    };
    let mut logs = Logs::new(Some(Log::new(LogKind::Ima)), Some(Log::new(LogKind::Boot)));
    let enclosed = Enclosed {
        attached: &attached,
        body: &mut world.outgoing,
        logs: &mut logs,
    };
    world.got.resize_default(world.got.capacity()).ok()?;
    let answer = call_with_logs(&mut wire, &asked, enclosed, &mut world.got).ok()?;
    let is_right = (answer.status, answer.body) == (202, b"{}")
        && sent.ends_with(br#"\n","entry_count":1}}]}}}"#);
    is_right.then_some(())
}
