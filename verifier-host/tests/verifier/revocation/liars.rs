//! Agents that say of a log what isn't so.

use super::*;

#[tokio::test]
async fn liars_are_not_called_in_a_hurry() {
    let verifier = Verifier::start().await;
    let node = verifier.agent(1).await;
    fleet(
        &verifier,
        &[("1", &node), ("2", &node), ("3", &node), ("liar", &node)],
    )
    .await;
    for id in ["1", "2", "3"] {
        verifier.revoke(id).await;
    }
    LOG_ID.set(verifier.log_id().await.0).unwrap();
    // Without a position: it stays where it was, or goes to the end where it says so.
    let lies: [(&str, Lie, &str, Option<u64>); 9] = [
        ("far back", |_| said(0, 1), "waiting", Some(0)),
        (
            "back and forth",
            |sent| said(0, 1 + sent % 2),
            "waiting",
            Some(0),
        ),
        ("far ahead", |_| said(0, u64::MAX), "waiting", Some(0)),
        ("never done", |_| said(2, 4), "waiting", Some(2)),
        (
            "done with more than there is",
            |_| said(u64::MAX, u64::MAX),
            "acted",
            None,
        ),
        (
            "another log",
            |_| success(json!({ "log_id": "x", "position": 0, "wanted": 1 })),
            "refuses",
            None,
        ),
        (
            "nonsense",
            |_| success(json!({ "log_id": [], "wanted": {} })),
            "refuses",
            None,
        ),
        (
            "no",
            |_| error(StatusCode::BAD_REQUEST, "not signed by my anchor\u{7}"),
            "refuses",
            None,
        ),
        (
            "not now",
            |_| error(StatusCode::INTERNAL_SERVER_ERROR, "no room"),
            "waiting",
            None,
        ),
    ];
    for (name, lie, state, position) in lies {
        let id = name.replace(' ', "-");
        let liar = verifier.agent(2).await;
        liar.lock().log = Some(Log::default());
        liar.lock().lie = Some(lie);
        fleet(&verifier, &[(&id, &liar)]).await;
        verifier.until_status(&id, "PASS").await;
        verifier.revoke("1").await;
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let view = verifier.view(&id).await["revocations"].clone();
        let asked = {
            let inner = liar.lock();
            inner.revocations.len() + inner.outcomes_asked
        };
        assert!(asked < 30, "{name}: called {asked} times");
        let last = view["last"].as_u64().unwrap();
        let end = if state == "acted" { last } else { last - 1 };
        let position = position.unwrap_or(end);
        assert_eq!(
            (view["state"].as_str(), view["position"].as_u64()),
            (Some(state), Some(position)),
            "{name}: {view}"
        );
        let shown = view["error"].as_str().unwrap_or_default();
        assert!(shown.chars().all(|shown| !shown.is_control()), "{shown}");
        let answer = verifier
            .ask(Method::DELETE, &format!("/v2.6/agents/{id}"), None)
            .await;
        assert_eq!(answer.status, 200);
        let mut liar = liar;
        liar.go_down().await;
    }
}

fn said(position: u64, wanted: u64) -> axum::response::Response {
    success(
        json!({ "log_id": LOG_ID.get(), "position": position, "wanted": wanted, "outcomes": [] }),
    )
}
