//! What a request costs hookward, end to end, beside nginx and HAProxy as plain
//! reverse proxies. See `benches/README.md`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a measurement that cannot go on is to end, and its figures are what it is for"
)]
#![allow(
    unreachable_pub,
    reason = "one binary; nothing is reachable from outside"
)]

mod answer;
mod arguments;
mod contest;
mod cores;
mod crowd;
#[path = "../support/figures.rs"]
mod figures;
mod marks;
mod messages;
#[path = "../support/process.rs"]
mod process;
mod promises;
#[path = "../support/resident.rs"]
mod resident;
mod rest;
mod scale;
mod target;
mod upstream;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use arguments::{Arguments, Part};
use contest::{Contest, Lane, Pace, Slice};
use figures::Figures;
use messages::Sender;
use promises::Promises;
use target::{Hookward, Target};
use upstream::Upstream;

/// Of one slice, closed loop.
const SLICE: Duration = Duration::from_millis(100);
/// Of one slice, open loop: a p99 wants some thousand answers.
const OFFERED_SLICE: Duration = Duration::from_millis(300);
/// Of what nginx can do, closed loop.
const OFFERED_PART: f64 = 0.6;
/// Connections of the open loop.
const OFFERED_OVER: usize = 64;
const EVENT_TYPE: &str = "invoice.paid";
/// From here on the HMAC's own time is told apart (bytes).
const LARGE: usize = 4096;

fn main() -> ExitCode {
    // Whoever runs tests of all targets, or lists them, is to wait for nothing.
    if !std::env::args().any(|argument| argument == "--bench") {
        eprintln!("measures under `cargo bench` alone");
        return ExitCode::SUCCESS;
    }
    let arguments = Arguments::parse();
    let began = Instant::now();
    allow_open_files();
    let cores = cores::given();
    cores::stay_beside();
    match cores.len() {
        1 => println!("one core: sender and service share it with what is measured"),
        _ => println!(
            "targets on core {}, sender and service on another",
            cores[0]
        ),
    }
    let bench = Bench {
        arguments,
        upstream: Upstream::start(),
        promises: Promises::default(),
    };
    if bench.arguments.wants(Part::Requests) || bench.arguments.wants(Part::Latency) {
        bench.beside_proxies();
    }
    if bench.arguments.wants(Part::Memory) {
        rest::memory(&bench);
    }
    if bench.arguments.wants(Part::Start) {
        rest::start(&bench);
    }
    for &scale in &bench.arguments.scale {
        scale::row(&bench, scale);
    }
    println!("measured in {:.0?}", began.elapsed());
    if bench.promises.told() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// What every part of the measurement needs.
pub struct Bench {
    arguments: Arguments,
    upstream: Upstream,
    promises: Promises,
}

impl Bench {
    /// The hookward that is measured.
    pub fn hookward(&self) -> Hookward {
        Hookward::plain("hookward", &self.arguments.hookward)
    }

    fn beside_proxies(&self) {
        let service = self.upstream.address();
        // A million and more ids would be a ledger at work in one setting and a
        // new one in another.
        let small = |mut hookward: Hookward| {
            hookward.settings = "ledger.max_entries = 100_000".into();
            hookward.start(service)
        };
        let beside = self.arguments.beside.as_deref();
        let beside = beside.map(|program| small(Hookward::plain("beside", program)));
        let proxies = [target::nginx(service), target::haproxy(service)];
        let targets: Vec<Target> = proxies
            .into_iter()
            .flatten()
            .chain([small(self.hookward())])
            .chain(beside)
            .collect();
        for &bytes in &self.arguments.bodies {
            if self.arguments.wants(Part::Requests) {
                for &connections in &self.arguments.connections {
                    self.requests(&targets, bytes, connections);
                }
            }
            if self.arguments.wants(Part::Latency) {
                self.latency(&targets, bytes);
            }
        }
    }

    fn requests(&self, targets: &[Target], bytes: usize, connections: usize) {
        let rounds = self.arguments.rounds;
        let lanes = self.contest(
            targets,
            (bytes, connections),
            (rounds, SLICE, Pace::Pressed),
        );
        println!(
            "{bytes}-byte bodies, {connections} connections, {rounds} rounds of {SLICE:?} each"
        );
        let base = &lanes[0];
        contest::print(&lanes, base);
        if base.name != "nginx" {
            return;
        }
        for lane in lanes.iter().filter(|lane| is_hookward(lane)) {
            if bytes < LARGE {
                let ratio = lane.ratio(base, Slice::cost);
                marks::print(
                    &format!("CPU of {} to nginx's", lane.name),
                    &ratio,
                    marks::COST,
                );
                continue;
            }
            let rounds = lane.slices.iter().zip(&base.slices);
            let ratio =
                Figures::of(rounds.map(|(ours, base)| ours.cost() / (base.cost() + ours.hmac)));
            println!("  HMAC alone  {} µs", lane.figures(|slice| slice.hmac));
            let what = format!("CPU of {} to nginx's and the HMAC's", lane.name);
            marks::print(&what, &ratio, marks::COST_WITH_HMAC);
        }
    }

    /// Latency of all when the same is offered to all.
    fn latency(&self, targets: &[Target], bytes: usize) {
        let rounds = self.arguments.rounds;
        let pace = (rounds, OFFERED_SLICE, Pace::Offered(OFFERED_PART));
        let lanes = self.contest(targets, (bytes, OFFERED_OVER), pace);
        let base = &lanes[0];
        println!(
            "{bytes}-byte bodies, {} requests/s offered over {OFFERED_OVER} connections (60 % of what {} can do in each round), {rounds} rounds of {OFFERED_SLICE:?} each",
            base.figures(|slice| slice.offered),
            base.name
        );
        contest::print(&lanes, base);
        for lane in lanes.iter().filter(|lane| is_hookward(lane)) {
            let ratio = lane.ratio(base, Slice::p99);
            let what = format!("p99 of {} to {}'s", lane.name, base.name);
            marks::print(&what, &ratio, marks::P99);
        }
    }

    /// All targets under the same load: so many bytes, over so many connections.
    fn contest(
        &self,
        targets: &[Target],
        (bytes, connections): (usize, usize),
        (rounds, slice, pace): (usize, Duration, Pace),
    ) -> Vec<Lane> {
        let lane = |target| {
            let sender = Sender::new(EVENT_TYPE, bytes, &["/in".into()]);
            Lane::open(target, connections, sender, bytes)
        };
        let mut lanes: Vec<Lane> = targets.iter().map(lane).collect();
        let contest = Contest {
            upstream: &self.upstream,
            promises: &self.promises,
            rounds,
            slice,
            pace,
        };
        contest.hold(&mut lanes);
        lanes
    }
}

fn is_hookward(lane: &Lane) -> bool {
    ["hookward", "beside"].contains(&lane.name.as_str())
}

/// Shells often begin with 1 024 open files; a crowd wants more.
fn allow_open_files() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, raised).unwrap();
}
