//! One hookward beside one that has much of something: what a request costs is to
//! stay the same.

use std::time::{Duration, Instant};

use crate::arguments::Scale;
use crate::contest::{self, Contest, Lane, Pace};
use crate::crowd::Crowd;
use crate::messages::Sender;
use crate::resident::resident;
use crate::target::{Hookward, Target};
use crate::{Bench, EVENT_TYPE, SLICE, marks};

const CONNECTIONS: usize = 16;
const BODY: usize = 1024;
/// How many ids a full ledger knows.
const IDS: usize = 1_000_000;
/// A ledger that is not full by then stays as it is.
const FILLING: Duration = Duration::from_secs(100);

/// Measures one of them.
pub fn row(bench: &Bench, scale: Scale) {
    let mut few = bench.hookward();
    few.name = "few".into();
    let mut many = bench.hookward();
    many.name = "many".into();
    let mut event_type = EVENT_TYPE;
    let what = match scale {
        Scale::Connections => {
            many.settings = "server.max_connections = 12_000\nserver.idle_timeout = \"10m\"".into();
            "10 000 idle connections"
        }
        Scale::Sources => {
            many.paths = (0..1_000).map(|number| format!("/in/{number}")).collect();
            "1 000 sources"
        }
        Scale::Rules => {
            event_type = "t.9999";
            few.types = vec![event_type.into()];
            many.types = (0..10_000).map(rule).collect();
            "10 000 rules"
        }
        Scale::Ledger => "a full ledger",
    };
    let service = bench.upstream.address();
    let targets = [few.start(service), many.start(service)];
    let lane = |target: &Target, hookward: &Hookward, connections| {
        let sender = Sender::new(event_type, BODY, &hookward.paths);
        Lane::open(target, connections, sender, BODY)
    };
    let crowd = (scale == Scale::Connections).then(|| {
        let mut crowd = Crowd::open(targets[1].address, 10_000);
        let load = crowd.greet(&Sender::new(event_type, BODY, &many.paths).sign(10_000));
        bench.promises.answered("many", &load);
        crowd
    });
    if scale == Scale::Ledger {
        fill(bench, &mut lane(&targets[1], &many, 64));
    }
    let mut lanes = [
        lane(&targets[0], &few, CONNECTIONS),
        lane(&targets[1], &many, CONNECTIONS),
    ];
    let contest = Contest {
        upstream: &bench.upstream,
        promises: &bench.promises,
        rounds: bench.arguments.rounds,
        slice: SLICE,
        pace: Pace::Pressed,
    };
    contest.hold(&mut lanes);
    let memory = resident(Some(targets[1].pid()), "VmRSS") as f64 / marks::MIB as f64;
    println!("{what} ({memory:.0} MiB) beside one or none, {CONNECTIONS} connections");
    contest::print(&lanes, &lanes[0]);
    drop(crowd);
}

/// Half of them with stars; the last is what is sent.
fn rule(number: usize) -> String {
    match number % 2 {
        0 => format!("t{number}.**"),
        _ => format!("t.{number}"),
    }
}

/// Delivers messages until the ledger is full.
fn fill(bench: &Bench, lane: &mut Lane) {
    let began = Instant::now();
    let mut delivered = 0;
    while delivered < IDS && began.elapsed() < FILLING {
        let load = lane.press(Duration::from_millis(500));
        bench.promises.answered("many", &load);
        delivered += load.accepted;
    }
    println!("{delivered} ids delivered in {:.0?}", began.elapsed());
}
