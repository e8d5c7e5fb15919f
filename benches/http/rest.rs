//! What is not told by requests a second: memory, and the start.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::Bench;
use crate::answer::Answer;
use crate::contest::Lane;
use crate::crowd::Crowd;
use crate::figures::Figures;
use crate::marks;
use crate::messages::Sender;
use crate::resident::resident;
use crate::target::{self, Hookward, Target};

/// How many connections are idle.
const IDLE: usize = 1000;
/// How many connections press.
const PRESSING: usize = 64;
const PRESSED: Duration = Duration::from_secs(2);
const BODY: usize = 1024;
/// How often the start is timed.
const STARTS: usize = 9;

/// At rest, under load, and of an idle connection.
pub fn memory(bench: &Bench) {
    println!("memory, {BODY}-byte bodies");
    let service = bench.upstream.address();
    let hookward = Hookward {
        // What ids cost is another figure.
        settings: "ledger.max_entries = 1_000\nserver.idle_timeout = \"10m\"".into(),
        ..bench.hookward()
    };
    let ours = used(bench, || Some(hookward.start(service)));
    let Some([at_rest, under_load, connection]) = ours else {
        return;
    };
    used(bench, || target::nginx(service));
    marks::print_bytes("at rest", at_rest, marks::AT_REST);
    marks::print_bytes(
        &format!("under {PRESSING} connections"),
        under_load,
        marks::UNDER_LOAD,
    );
    let promises = &bench.promises;
    promises.at_most("memory at rest", at_rest, marks::STATED_AT_REST);
    promises.at_most("an idle connection", connection, marks::STATED_CONNECTION);
}

/// What one kind of target uses: at rest, at the most under load, and for an idle
/// connection (bytes).
fn used(bench: &Bench, start: impl Fn() -> Option<Target>) -> Option<[u64; 3]> {
    let target = start()?;
    settle();
    let at_rest = resident(Some(target.pid()), "VmRSS");
    let mut lane = Lane::open(&target, PRESSING, sender(), BODY);
    let load = lane.press(PRESSED);
    bench.promises.answered(&target.name, &load);
    let under_load = resident(Some(target.pid()), "VmHWM");
    drop((lane, target));

    let target = start()?;
    let mut sender = sender();
    let mut first = Crowd::open(target.address, 1);
    first.greet(&sender.sign(1));
    settle();
    let before = resident(Some(target.pid()), "VmRSS");
    let mut crowd = Crowd::open(target.address, IDLE);
    let load = crowd.greet(&sender.sign(IDLE));
    bench.promises.answered(&target.name, &load);
    settle();
    let connection = resident(Some(target.pid()), "VmRSS").saturating_sub(before) / IDLE as u64;
    println!(
        "  {:<12}at rest {:.1} MiB, under {PRESSING} connections {:.1} MiB, an idle connection {:.1} KiB (of {IDLE})",
        target.name,
        at_rest as f64 / marks::MIB as f64,
        under_load as f64 / marks::MIB as f64,
        connection as f64 / 1024.0
    );
    Some([at_rest, under_load, connection])
}

/// From the start of the process to its first answer, a message that is delivered.
pub fn start(bench: &Bench) {
    let times = (0..STARTS).map(|_| {
        let hookward = bench.hookward();
        let (target, began) = hookward.start_timed(bench.upstream.address());
        first_answer(target.address);
        began.elapsed().as_secs_f64() * 1e3
    });
    let times = Figures::of(times);
    println!("start");
    marks::print("first answer (ms)", &times, marks::START);
}

fn first_answer(address: SocketAddr) {
    let messages = sender().sign(1);
    let (head, body) = messages.request(0);
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(&[head, body].concat()).unwrap();
    let mut answer = Answer::default();
    let status = loop {
        let read = stream.read(answer.room()).unwrap();
        assert_ne!(read, 0, "the first request is answered");
        if let Some(status) = answer.came(read) {
            break status;
        }
    };
    assert_eq!(status, 200, "the first request is delivered");
}

fn sender() -> Sender {
    Sender::new(crate::EVENT_TYPE, BODY, &["/in".into()])
}

/// Lets what was begun end: nothing tells when a process is at rest.
fn settle() {
    std::thread::sleep(Duration::from_millis(500));
}
