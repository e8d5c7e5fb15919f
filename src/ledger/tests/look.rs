use super::*;

#[test]
fn a_look_tells_how_far_an_id_is() {
    let ledger = small();
    let look = || told(&ledger, "clerk", "m");
    assert_eq!(look(), None);
    let reservation = run(&ledger, claim("m"));
    reservation.accept(&"billing".into(), at(2));
    let expected = |state, destinations: &[(&str, u64)]| {
        let destinations = destinations.iter().map(|&(name, s)| (name.into(), at(s)));
        Some(Look {
            state,
            first: Some(at(2)),
            signed: START,
            destinations: destinations.collect(),
        })
    };
    assert_eq!(look(), expected(LookState::Running, &[("billing", 2)]));
    now(reservation.settle(false, Some(502), at(3))).unwrap();
    assert_eq!(look(), expected(LookState::Partly, &[("billing", 2)]));
    settle(
        &ledger,
        Claim {
            now: at(9),
            ..claim("m")
        },
        &["audit"],
        true,
    );
    let both = [("billing", 2), ("audit", 9)];
    assert_eq!(look(), expected(LookState::Delivered, &both));
}

#[test]
fn a_forgotten_id_runs_again() {
    let ledger = small();
    deliver(&ledger, claim("m"));
    assert_eq!(
        now(ledger.forget("clerk", "m", None)).unwrap(),
        Forgotten::Done
    );
    assert_eq!(
        now(ledger.forget("clerk", "m", None)).unwrap(),
        Forgotten::Unknown
    );
    let reservation = run(&ledger, claim("m"));
    assert_eq!(
        now(ledger.forget("clerk", "m", None)).unwrap(),
        Forgotten::Running
    );
    assert!(!reservation.has_receipt("billing"));
}

#[test]
fn a_forgotten_receipt_lets_the_next_retry_reach_that_destination() {
    let ledger = small();
    settle(&ledger, claim("m"), &["billing", "audit"], true);
    let forget = |destination| now(ledger.forget("clerk", "m", Some(destination))).unwrap();
    assert_eq!(forget("nobody"), Forgotten::Unknown);
    assert_eq!(forget("audit"), Forgotten::Done);
    assert_eq!(forget("audit"), Forgotten::Unknown);
    let retry = run(&ledger, claim("m"));
    assert!(retry.has_receipt("billing") && !retry.has_receipt("audit"));
    drop(retry);
    assert_eq!(forget("billing"), Forgotten::Done);
    assert_eq!(told(&ledger, "clerk", "m"), None);
}

#[test]
fn a_forgotten_receipt_of_a_resend_leaves_what_was_delivered() {
    let ledger = small();
    deliver(&ledger, claim("m"));
    settle(&ledger, resend(100, 100), &["audit"], false);
    assert_eq!(
        now(ledger.forget("clerk", "m", Some("audit"))).unwrap(),
        Forgotten::Done
    );
    assert!(is_duplicate(&reserve(&ledger, claim("m"))));
    let retry = run(&ledger, resend(101, 101));
    assert!(retry.is_resend() && !retry.has_receipt("audit"));
}

#[test]
fn the_ids_of_a_source_are_forgotten_by_time() {
    let ledger = small();
    for (id, time) in [("a", 10), ("b", 20), ("c", 30)] {
        deliver(
            &ledger,
            Claim {
                now: at(time),
                ..claim(id)
            },
        );
    }
    deliver(
        &ledger,
        Claim {
            source: "shop".into(),
            now: at(30),
            ..claim("c")
        },
    );
    let running = run(
        &ledger,
        Claim {
            now: at(31),
            ..claim("d")
        },
    );
    assert_eq!(now(ledger.forget_since("nobody", at(0))).unwrap(), 0);
    assert_eq!(now(ledger.forget_since("clerk", at(20))).unwrap(), 2);
    let known = |source, id| told(&ledger, source, id).is_some();
    assert!(known("clerk", "a") && !known("clerk", "b") && !known("clerk", "c"));
    assert!(known("shop", "c") && known("clerk", "d"));
    drop(running);
}

#[test]
fn a_receipt_that_came_after_the_settling_is_known() {
    let ledger = small();
    settle(&ledger, claim("a"), &["billing"], true);
    now(ledger.accept_late("clerk", "a", &"audit".into(), at(1_002)));
    let look = told(&ledger, "clerk", "a").unwrap();
    let names: Vec<_> = look.destinations.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["billing", "audit"]);
    assert_eq!(look.state, LookState::Delivered);

    now(ledger.accept_late("clerk", "never-seen", &"audit".into(), at(1_002)));
    assert_eq!(told(&ledger, "clerk", "never-seen"), None);
}

#[test]
fn who_lets_an_id_go_twice_takes_no_run_from_another() {
    let ledger = small();
    let id = IdDigest::of("clerk", "m");
    let held = ledger.try_hold(id).unwrap();
    ledger.end(id, None);
    let reservation = run(&ledger, claim("m"));
    drop(held);
    let _waiter = wait(&ledger, claim("m"));
    drop(reservation);
}
