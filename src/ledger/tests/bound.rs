//! What is kept and what is forgotten when there are many ids.

use std::sync::Mutex;

use super::*;

fn numbered(number: usize) -> Claim {
    claim(&format!("msg_{number}"))
}

fn known(ledger: &Arc<Ledger<u32>>, numbers: impl IntoIterator<Item = usize>) -> usize {
    let known = |number: &usize| told(ledger, "clerk", &format!("msg_{number}")).is_some();
    numbers.into_iter().filter(known).count()
}

#[test]
fn the_newest_half_is_known_of_four_times_what_there_is_room_for() {
    let (ledger, metrics) = ledger(HOUR, 1000);
    for number in 0..4000 {
        deliver(&ledger, numbered(number));
    }
    assert_eq!(known(&ledger, 3500..4000), 500, "before anything is tidied");
    ledger.tick();
    assert_eq!(known(&ledger, 3500..4000), 500);
    assert_eq!(known(&ledger, 0..4000), 1000);
    assert_eq!(metrics.entries.get(), 1000);
    assert_eq!(metrics.evictions.get(), 3000);
}

#[test]
fn the_newest_half_is_known_when_eight_threads_settle() {
    let (ledger, _) = ledger(HOUR, 1000);
    let order = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (ledger, order) = (&ledger, &order);
            scope.spawn(move || {
                for number in (thread * 500)..(thread * 500 + 500) {
                    // Before, so that whoever is interrupted here is newer than
                    // its place says, never older.
                    order.lock().unwrap().push(number);
                    deliver(ledger, numbered(number));
                }
            });
        }
    });
    ledger.tick();
    let newest = order.into_inner().unwrap().split_off(3500);
    assert_eq!(known(&ledger, newest), 500);
}

#[test]
fn repeats_of_old_ids_push_no_newer_one_out() {
    let (ledger, _) = ledger(HOUR, 1000);
    for number in 0..1000 {
        deliver(&ledger, numbered(number));
    }
    for number in 0..600 {
        assert!(is_duplicate(&reserve(&ledger, numbered(number))));
    }
    for number in 1000..1400 {
        deliver(&ledger, numbered(number));
    }
    ledger.tick();
    assert_eq!(known(&ledger, 900..1400), 500);
    assert_eq!(known(&ledger, 400..1400), 1000, "the oldest went");
}

#[test]
fn a_running_id_is_never_pushed_out() {
    let (ledger, _) = ledger(HOUR, 10);
    let running: Vec<_> = (0..100).map(|n| run(&ledger, numbered(n))).collect();
    for number in 100..200 {
        deliver(&ledger, numbered(number));
    }
    ledger.tick();
    for number in 0..100 {
        drop(wait(&ledger, numbered(number)).outcome());
    }
    drop(running);
}

#[test]
fn what_is_pushed_out_is_counted_and_told_apart_by_its_window() {
    let (ledger, metrics) = ledger(HOUR, 10);
    let deliver_ten = |from: usize, time| {
        for number in from..from + 10 {
            deliver(
                &ledger,
                Claim {
                    now: at(time),
                    ..numbered(number)
                },
            );
        }
        ledger.tick();
        (metrics.evictions.get(), metrics.window_breaches.get())
    };
    assert_eq!(deliver_ten(0, 0), (0, 0));
    assert_eq!(
        deliver_ten(10, 300),
        (10, 10),
        "at the very end of the window"
    );
    assert_eq!(deliver_ten(20, 301), (20, 10), "a second past it");
}

#[test]
fn an_expired_id_that_is_pushed_out_is_no_loss() {
    let (ledger, metrics) = ledger(Duration::from_secs(30), 10);
    let deliver_ten = |from: usize, time| {
        for number in from..from + 10 {
            let now = at(time);
            deliver(
                &ledger,
                Claim {
                    now,
                    ..numbered(number)
                },
            );
        }
        ledger.tick();
    };
    deliver_ten(0, 0);
    // Sooner than the next sweep.
    deliver_ten(10, 30);
    assert_eq!(known(&ledger, 10..20), 10);
    assert_eq!(metrics.entries.get(), 10);
    assert_eq!(metrics.evictions.get(), 0);
    deliver_ten(20, 31);
    assert_eq!(metrics.evictions.get(), 10);
}

#[test]
fn the_window_is_that_of_the_newest_request() {
    let (ledger, metrics) = ledger(HOUR, 1);
    settle(&ledger, claim("m"), &["billing"], false);
    let retry = Claim {
        signed: START + 400,
        now: at(400),
        ..claim("m")
    };
    settle(&ledger, retry, &["audit"], true);
    deliver(
        &ledger,
        Claim {
            now: at(500),
            ..claim("other")
        },
    );
    ledger.tick();
    assert_eq!(metrics.window_breaches.get(), 1);
}

#[test]
fn expired_ids_go_at_the_next_sweep() {
    let (ledger, metrics) = ledger(HOUR, 1000);
    deliver(&ledger, claim("old"));
    deliver(
        &ledger,
        Claim {
            now: at(1800),
            ..claim("new")
        },
    );
    ledger.tick();
    assert_eq!(metrics.entries.get(), 2);
    drop(run(
        &ledger,
        Claim {
            now: at(3600),
            ..claim("later")
        },
    ));
    ledger.tick();
    assert_eq!(metrics.entries.get(), 1);
    assert_eq!(metrics.evictions.get(), 0);
    assert!(told(&ledger, "clerk", "new").is_some());
}

#[test]
fn a_hundred_thousand_runs_without_a_receipt_leave_it_empty() {
    let (ledger, metrics) = ledger(HOUR, 1000);
    for number in 0..100_000 {
        drop(run(&ledger, numbered(number)));
    }
    ledger.tick();
    assert_eq!(metrics.entries.get(), 0);
    assert!(ledger.shards.iter().all(|s| lock(s).running.is_empty()));
}

#[test]
fn a_smaller_ledger_keeps_the_newest() {
    let (ledger, metrics) = ledger(HOUR, 1000);
    for number in 0..1000 {
        let now = at(number as u64);
        deliver(
            &ledger,
            Claim {
                now,
                ..numbered(number)
            },
        );
    }
    let running = run(
        &ledger,
        Claim {
            now: at(1000),
            ..claim("running")
        },
    );
    let config = LedgerConfig {
        retention: HOUR,
        max_entries: 100,
        ..LedgerConfig::default()
    };
    ledger.reconfigure(&config);
    ledger.tick();
    assert_eq!(known(&ledger, 900..1000), 100);
    assert_eq!((metrics.entries.get(), metrics.evictions.get()), (100, 900));
    running.accept(&"billing".into(), at(1000));
    now(running.settle(true, Some(200), at(1000))).unwrap();
    deliver(
        &ledger,
        Claim {
            now: at(1000),
            ..numbered(1000)
        },
    );
    ledger.tick();
    assert_eq!(
        known(&ledger, 902..1001),
        99,
        "the oldest goes first, still"
    );
    assert_eq!(known(&ledger, 0..902), 0);
}

#[test]
fn a_larger_ledger_forgets_nothing() {
    let (ledger, metrics) = ledger(HOUR, 100);
    for number in 0..100 {
        deliver(&ledger, numbered(number));
    }
    let config = LedgerConfig {
        retention: HOUR,
        max_entries: 200,
        ..LedgerConfig::default()
    };
    ledger.reconfigure(&config);
    for number in 100..200 {
        deliver(&ledger, numbered(number));
    }
    ledger.tick();
    assert_eq!(known(&ledger, 0..200), 200);
    assert_eq!(metrics.evictions.get(), 0);
}

#[test]
fn another_retention_counts_at_once() {
    let ledger = small();
    deliver(&ledger, claim("m"));
    let later = || Claim {
        now: at(600),
        ..claim("m")
    };
    assert!(is_duplicate(&reserve(&ledger, later())));
    let config = LedgerConfig {
        retention: Duration::from_secs(600),
        max_entries: 1000,
        ..LedgerConfig::default()
    };
    ledger.reconfigure(&config);
    drop(run(&ledger, later()));
}
