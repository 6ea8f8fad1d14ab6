//! A whole connection, heads and bodies, with a TPM in memory: whatever comes, each answer is well-formed, does not depend on
//! how the bytes were cut, and leaves an agent that takes a good delivery.

use agent_core::agent::Peer;

use crate::bench::{Answer, Bench, Delivery};

/// The first byte says who the peer is and how its bytes come; the others are what it sends.
pub fn check(data: &[u8]) {
    let Some((first, sent)) = data.split_first() else {
        return;
    };
    let peer = match first % 4 {
        0 => Peer::Other,
        1 => Peer::Unknown,
        _ => Peer::Tenant,
    };
    let piece = usize::from(first / 4) + 1;
    check_alike(
        &exchange(peer, sent, usize::MAX),
        &exchange(peer, sent, piece),
    );
}

/// What the peer gets, and what of it reached the shell.
struct Seen {
    answers: Vec<Answer>,
    opened: Vec<Vec<u8>>,
    notices: Vec<String>,
}

/// A body that is refused before it has come whole closes the connection, so what came in pieces may be answered less. All
/// else is the same.
fn check_alike(whole: &Seen, pieces: &Seen) {
    let said = |answer: &Answer| (answer.status, answer.body.clone());
    for (one, other) in whole.answers.iter().zip(&pieces.answers) {
        assert_eq!(said(one), said(other));
    }
    if pieces.answers.len() == whole.answers.len() {
        assert_eq!(pieces.opened, whole.opened);
        assert_eq!(pieces.notices, whole.notices);
    } else {
        assert!(pieces.answers.len() < whole.answers.len());
        let last = pieces.answers.last().unwrap();
        assert!(last.closes && last.status >= 400, "{last:?}");
    }
}

fn exchange(peer: Peer, sent: &[u8], piece: usize) -> Seen {
    let bench = Bench::new();
    let (mut answers, _) = bench.connection_of(peer, sent, piece);
    // Whether a body is waited for depends on what has come.
    answers.retain(|answer| answer.status != 100);
    for answer in &answers {
        assert!(
            STATUSES.contains(&answer.status),
            "status {}",
            answer.status
        );
        let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(body["code"], answer.status);
    }
    assert!(bench.most_vaults.get() <= 2);
    let seen = Seen {
        answers,
        opened: bench.opened(),
        notices: bench.notices.borrow().clone(),
    };

    bench.work();
    assert!(bench.vaults.get() <= 1);
    let delivery = Delivery::new(1);
    assert_eq!(bench.ukey(&delivery).status, 200);
    assert_eq!(bench.vkey(&delivery).status, 200);
    assert_eq!(bench.opened(), [delivery.payload.unwrap()]);
    seen
}

const STATUSES: [u16; 10] = [200, 400, 403, 404, 405, 411, 413, 431, 500, 505];
