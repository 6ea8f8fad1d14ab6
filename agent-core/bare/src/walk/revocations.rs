//! A revocation log as it reaches the node, from both sides of its calls.

use agent_core::outbound::{CaughtUp, Moment};
use agent_core::revocation::{
    Act, Delivered, Heard, LogHead, LogId, Message, NoticeError, Taken, check_action_name, hear,
    listed_actions, write_entries_path, write_outcomes_body, write_outcomes_path,
};
use agent_core::secret::Secret;
use agent_core::wire::text::Uuid;

use crate::world::{UUID, World, put};

const ROUTE: &str = "/v2.6/notifications/revocation";

/// An entry as it stands in a body, escaped.
macro_rules! entry {
    ($number:literal) => {
        concat!(
            r#"{\"type\":\"revocation\",\"log_id\":\""#,
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-0000000000000001",
            r#"\",\"number\":"#,
            $number,
            r#",\"previous\":\""#,
            "0000000000000000000000000000000000000000000000000000000000000000",
            r#"\"}"#
        )
    };
}

const LOG: &str =
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-0000000000000001";

/// The package's word, from which on entries count.
pub fn land(world: &mut World<'_>) -> Option<()> {
    let text = concat!(
        r#"{"log_id":""#,
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-0000000000000001",
        r#"","number":0,"previous":""#,
        "0000000000000000000000000000000000000000000000000000000000000000",
        r#""}"#
    );
    let head = LogHead::read(text.as_bytes()).ok()?;
    put(&mut world.body, LogHead::read(b"{}").err()?)?;
    let before = world.node.ledger(|ledger| {
        let before = ledger.has_landed();
        ledger.land(Some(&head));
        before
    })?;
    let standing = world.node.standing(None);
    let is_right = before && standing.log_id == Some(head.log_id) && standing.wanted == 1;
    is_right.then_some(())
}

/// A list of actions, as an agent reads the payload's.
pub fn list(world: &mut World<'_>) -> Option<()> {
    let names = ["a.py", "../b", ".c"];
    let is_right = listed_actions("[\"a.py\", ../b\n.c]").eq(names);
    for (name, is_action) in names.into_iter().zip([true, false, false]) {
        match check_action_name(name) {
            Ok(()) if is_action => {}
            Err(error) if !is_action => put(&mut world.body, error)?,
            _ => return None,
        }
    }
    is_right.then_some(())
}

/// In order, again, and too early; forked, and without a number.
pub fn notify(world: &mut World<'_>) -> Option<()> {
    let rows = [
        (entry!(3), 200, 1),
        (entry!(1), 200, 2),
        (entry!(1), 200, 2),
        (entry!(2), 400, 2),
        ("{}", 400, 2),
    ];
    for (text, status, wanted) in rows {
        put(
            &mut world.body,
            format_args!(r#"{{"msg":"{text}","signature":"Z29vZA=="}}"#),
        )?;
        world.post(ROUTE, status)?;
        (world.node.standing(None).wanted == wanted).then_some(())?;
    }
    Some(())
}

pub fn tell(world: &mut World<'_>) -> Option<()> {
    let id = LogId::parse(LOG)?;
    world.node.ledger(|ledger| ledger.ended(&id, 1))?;
    world.get("/v2.6/revocations/outcomes?after=0", 200)?;
    (world.answered("name") == Some("update-crl")).then_some(())
}

/// What a verifier answers, and what it is told.
pub fn catch_up(world: &mut World<'_>) -> Option<()> {
    let answer = concat!(
        r#"{"data":{"attributes":{"log_id":""#,
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-0000000000000001",
        r#"","last":3,"entries":[{"msg":""#,
        entry!(1),
        r#"","signature":"Z29vZA=="},{"msg":"{}","signature":"YmFk"},{"msg":""}]}}}"#
    );
    let delivered = Delivered::from_answer(answer.as_bytes()).ok()?;
    let node = &world.node;
    let (mut known, mut refused) = (0_u32, 0_u32);
    let end = delivered.each(&mut world.message, &mut |notice| {
        match hear(notice, node) {
            Ok(Heard::Entry {
                taken: Taken::Known,
                ..
            }) => known = known.saturating_add(1),
            Err(NoticeError::Verify(_)) => refused = refused.saturating_add(1),
            _ => return false,
        }
        true
    });
    let agent = Uuid::parse(UUID)?;
    let standing = node.standing(None);
    world.body.clear();
    write_entries_path(&mut world.body, &agent, &standing).ok()?;
    write_outcomes_path(&mut world.body, &agent).ok()?;
    let id = LogId::parse(LOG)?;
    let told = write_outcomes_body(&mut world.body, &standing, |each| {
        node.outcomes(&id, 0, each);
    });
    let is_right = (known, refused) == (1, 1) && end.is_err() && told == Ok(Some(1));
    is_right.then_some(())
}

pub fn small_things(world: &mut World<'_>) -> Option<()> {
    let silence = Message::read(r#"{"type":"comm_error"}"#) == Ok(Message::Silence);
    let error = Message::read(r#"{"number":1}"#).err()?;
    put(&mut world.body, error)?;
    let random = Secret::zeroed();
    let moment = Moment {
        now: 0,
        dice: 0,
        random: &random,
        wall: None,
    };
    world
        .outbound
        .caught_up(&moment, CaughtUp::Answered { status: 404 });
    (silence && world.outbound.settled().is_none()).then_some(())
}
