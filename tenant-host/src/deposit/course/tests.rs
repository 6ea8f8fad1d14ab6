use super::*;

const PLAN: Plan = Plan {
    mode: Mode::Add,
    payload: true,
    wait: None,
    limit: Duration::from_secs(60),
};

/// Runs a course: a step, what comes of it, and so on. Pauses pass by themselves, each a second long.
fn run(plan: Plan, script: &[(Step, Event)]) -> Course {
    let mut course = Course::new(plan);
    let mut now = Duration::ZERO;
    for (wanted, event) in script {
        let mut step = course.step();
        while matches!(step, Step::Pause(_)) {
            now += Duration::from_secs(1);
            step = course.step();
        }
        assert_eq!(step, *wanted, "{:?}", course);
        course.happened(event.clone(), now);
    }
    course
}

fn away() -> Event {
    Event::Unreachable("away".to_owned())
}

fn timed_out() -> Verdict {
    Verdict::TimedOut("away".to_owned())
}

const START: [(Step, Event); 3] = [
    (Step::AskRegistrar, Event::Registered),
    (Step::AskVerifier, Event::Verifier(false)),
    (Step::Seal, Event::Sealed),
];

/// The start, and what follows.
fn from_start(more: &[(Step, Event)]) -> Vec<(Step, Event)> {
    START.iter().chain(more).cloned().collect()
}

#[test]
fn each_mode_has_its_way() {
    let there = (Step::AskVerifier, Event::Verifier(true));
    let deposit = [
        (Step::Deposit, Event::Deposited),
        (Step::Upload, Event::Uploaded),
    ];
    let [register, new, seal] = START;
    let enrol = (Step::Enrol, Event::Enrolled);
    let remove = (Step::RemoveOld, Event::Removed);
    let [first, second] = deposit;
    let add = [&register, &new, &seal, &enrol, &first, &second];
    let update = [&register, &there, &seal, &remove, &enrol, &first, &second];
    let rotate = [&register, &there, &seal, &first, &second];
    let attest = [&register, &new, &enrol];
    type Row<'a> = (&'a str, Mode, bool, &'a [&'a (Step, Event)]);
    let rows: [Row<'_>; 4] = [
        ("add", Mode::Add, true, &add),
        ("update", Mode::Update, true, &update),
        ("rotate", Mode::Rotate, true, &rotate),
        ("attested only", Mode::Add, false, &attest),
    ];
    for (name, mode, payload, script) in rows {
        let script: Vec<(Step, Event)> = script.iter().copied().cloned().collect();
        let plan = Plan {
            mode,
            payload,
            ..PLAN
        };
        let mut course = run(plan, &script);
        assert_eq!(course.step(), Step::Done, "{name}");
        assert_eq!(course.verdict(), Some(&Verdict::Done), "{name}");
        assert_eq!(course.withdrawn(), None, "{name}");
    }
}

#[test]
fn nothing_is_sealed_for_a_node_that_is_not_as_it_should_be() {
    let [register, ..] = START;
    let rows = [
        (
            "not registered",
            Mode::Add,
            vec![(Step::AskRegistrar, Event::NotRegistered)],
            Verdict::NotRegistered,
        ),
        (
            "another key",
            Mode::Add,
            vec![(Step::AskRegistrar, Event::AnotherKey)],
            Verdict::AnotherKey,
        ),
        (
            "bad keys",
            Mode::Add,
            vec![(Step::AskRegistrar, Event::Failed)],
            Verdict::Failed,
        ),
        (
            "no registrar",
            Mode::Add,
            vec![(Step::AskRegistrar, away())],
            Verdict::Failed,
        ),
        (
            "there already",
            Mode::Add,
            vec![register.clone(), (Step::AskVerifier, Event::Verifier(true))],
            Verdict::Exists,
        ),
        (
            "not there",
            Mode::Rotate,
            vec![
                register.clone(),
                (Step::AskVerifier, Event::Verifier(false)),
            ],
            Verdict::Missing,
        ),
        (
            "no payloads there",
            Mode::Add,
            vec![register.clone(), (Step::AskVerifier, Event::Failed)],
            Verdict::Failed,
        ),
        (
            "no verifier",
            Mode::Add,
            vec![register, (Step::AskVerifier, away())],
            Verdict::Failed,
        ),
    ];
    for (name, mode, script, wanted) in rows {
        let mut course = run(Plan { mode, ..PLAN }, &script);
        assert_eq!(course.step(), Step::Done, "{name}");
        assert_eq!(course.verdict(), Some(&wanted), "{name}");
    }
}

#[test]
fn a_node_is_waited_for_until_the_told_key_registers() {
    let wait = Some(Duration::from_secs(3));
    let plan = Plan { wait, ..PLAN };
    let not_yet = (Step::AskRegistrar, Event::NotRegistered);
    let other = (Step::AskRegistrar, Event::AnotherKey);
    let nobody = (Step::AskRegistrar, away());
    let [register, ..] = START;
    let comes = [not_yet.clone(), other.clone(), nobody.clone(), register];
    assert_eq!(run(plan, &comes).step(), Step::AskVerifier);
    for (last, wanted) in [
        (not_yet.clone(), Verdict::NotRegistered),
        (other, Verdict::AnotherKey),
        (nobody, Verdict::Failed),
    ] {
        let script = [not_yet.clone(), not_yet.clone(), not_yet.clone(), last];
        assert_eq!(run(plan, &script).verdict(), Some(&wanted));
    }
    let mut course = Course::new(plan);
    let pauses = [250, 500, 1000, 2000, 4000, 5000, 5000].map(Duration::from_millis);
    for pause in pauses {
        assert_eq!(course.step(), Step::AskRegistrar);
        course.happened(Event::NotRegistered, Duration::ZERO);
        assert_eq!(course.step(), Step::Pause(pause));
    }
}

#[test]
fn what_is_half_done_is_taken_back() {
    let enrol = (Step::Enrol, Event::Enrolled);
    let deposit = (Step::Deposit, Event::Deposited);
    let forgotten = (Step::Upload, Event::UnknownPayload);
    let rows = [
        (
            "enrolment refused",
            vec![(Step::Enrol, Event::Failed)],
            Verdict::Failed,
            false,
        ),
        (
            "its answer lost",
            vec![(Step::Enrol, away())],
            Verdict::Failed,
            true,
        ),
        (
            "manifest refused",
            vec![enrol.clone(), (Step::Deposit, Event::Failed)],
            Verdict::Failed,
            true,
        ),
        (
            "digest",
            vec![
                enrol.clone(),
                deposit.clone(),
                (Step::Upload, Event::Failed),
            ],
            Verdict::Failed,
            true,
        ),
        (
            "stopped",
            vec![enrol.clone(), (Step::Deposit, Event::Interrupted)],
            Verdict::Interrupted,
            true,
        ),
        (
            "forgotten again and again",
            vec![
                enrol,
                deposit.clone(),
                forgotten.clone(),
                deposit.clone(),
                forgotten.clone(),
                deposit,
                forgotten,
            ],
            Verdict::Failed,
            true,
        ),
    ];
    for (name, more, wanted, withdraws) in rows {
        let mut course = run(PLAN, &from_start(&more));
        assert_eq!(course.verdict(), Some(&wanted), "{name}");
        assert_eq!(course.step() == Step::Withdraw, withdraws, "{name}");
        course.happened(Event::Interrupted, Duration::ZERO);
        course.happened(Event::Withdrawn(Ok(())), Duration::ZERO);
        assert_eq!(course.step(), Step::Done, "{name}");
        assert_eq!(course.withdrawn().is_some(), withdraws, "{name}");
    }
    // The deposit that a rotation would replace stays.
    let there = (Step::AskVerifier, Event::Verifier(true));
    let [register, _, seal] = START;
    let script = [register, there, seal, (Step::Deposit, Event::Failed)];
    let mut course = run(
        Plan {
            mode: Mode::Rotate,
            ..PLAN
        },
        &script,
    );
    assert_eq!(course.step(), Step::Done);
}

#[test]
fn a_lost_answer_is_looked_up() {
    let sent = [
        (Step::Enrol, Event::Enrolled),
        (Step::Deposit, away()),
        (Step::Deposit, Event::Deposited),
        (Step::Upload, away()),
    ];
    let rows = [
        ("it is there", vec![(Step::LookUp, Event::Found(true))]),
        (
            "it isn't",
            vec![
                (Step::LookUp, Event::Found(false)),
                (Step::Upload, Event::Uploaded),
            ],
        ),
        (
            "nobody says",
            vec![(Step::LookUp, away()), (Step::LookUp, Event::Found(true))],
        ),
    ];
    for (name, more) in rows {
        let script = from_start(&[&sent[..], &more].concat());
        let mut course = run(PLAN, &script);
        assert_eq!(
            (course.step(), course.verdict()),
            (Step::Done, Some(&Verdict::Done)),
            "{name}"
        );
    }
    let limit = Duration::from_secs(2);
    let never = [&sent[..], &[(Step::LookUp, away())]].concat();
    let mut course = run(Plan { limit, ..PLAN }, &from_start(&never));
    assert_eq!(
        (course.step(), course.verdict()),
        (Step::Withdraw, Some(&timed_out()))
    );
}
