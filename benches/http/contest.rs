use std::time::Duration;

use crate::cores::{self, Place};
use crate::crowd::{Crowd, Load};
use crate::figures::{Figures, Sample};
use crate::messages::Sender;
use crate::process::cpu_time;
use crate::promises::Promises;
use crate::target::Target;
use crate::upstream::Upstream;

/// Slices of load, one of each lane in turns: a machine that is faster now than a
/// moment ago shifts all of a round alike, and ratios are taken within a round.
pub struct Contest<'a> {
    pub upstream: &'a Upstream,
    pub promises: &'a Promises,
    pub rounds: usize,
    pub slice: Duration,
    pub pace: Pace,
}

/// When the next request is sent.
#[derive(Clone, Copy)]
pub enum Pace {
    /// When the last was answered.
    Pressed,
    /// They come at random times, whatever is answered: this part of what the first
    /// lane could do, pressed, right before the round. A machine that is slower now
    /// than a moment ago would else be offered what it cannot do.
    Offered(f64),
}

/// One target under load.
pub struct Lane {
    pub name: String,
    pid: u32,
    crowd: Crowd,
    sender: Sender,
    bytes: usize,
    pub slices: Vec<Slice>,
}

/// What a slice came to.
pub struct Slice {
    sample: Sample,
    latencies: Figures,
    /// How many a second were offered, where that was not left to the target.
    pub offered: f64,
    /// What the HMAC of one message took in that moment (microseconds).
    pub hmac: f64,
}

/// Before the first slice of each lane, and not counted.
const WARM: Duration = Duration::from_millis(300);

/// How long it is looked what a lane can do.
const LOOK: Duration = Duration::from_millis(100);

impl Lane {
    /// Opens so many connections to a target, for bodies of so many bytes.
    pub fn open(target: &Target, connections: usize, sender: Sender, bytes: usize) -> Self {
        Self {
            name: target.name.clone(),
            pid: target.pid(),
            crowd: Crowd::open(target.address, connections),
            sender,
            bytes,
            slices: Vec::new(),
        }
    }

    /// This figure of every slice.
    pub fn figures(&self, of: fn(&Slice) -> f64) -> Figures {
        Figures::of(self.slices.iter().map(of))
    }

    /// This figure of every slice, to that of the slice beside it.
    pub fn ratio(&self, base: &Lane, of: fn(&Slice) -> f64) -> Figures {
        let pairs = self.slices.iter().zip(&base.slices);
        Figures::of(pairs.map(|(ours, base)| of(ours) / of(base)))
    }

    /// Closed loop without measuring.
    pub fn press(&mut self, lasting: Duration) -> Load {
        let most = self.most(lasting);
        self.crowd.press(&self.sender.sign(most), lasting)
    }

    /// More than can be sent in that time.
    fn most(&self, lasting: Duration) -> usize {
        let rate = (2e9 / (self.bytes as f64 + 19_000.0)).min(100_000.0);
        (rate * lasting.as_secs_f64()) as usize + self.crowd.size()
    }
}

impl Slice {
    /// Microseconds of processor time for a request.
    pub fn cost(&self) -> f64 {
        self.sample.cost()
    }

    /// Requests a second.
    pub fn rate(&self) -> f64 {
        self.sample.rate()
    }

    /// In microseconds.
    pub fn p50(&self) -> f64 {
        self.latencies.at(0.5)
    }

    /// In microseconds.
    pub fn p99(&self) -> f64 {
        self.latencies.at(0.99)
    }
}

impl Contest<'_> {
    /// Puts all under the same load.
    pub fn hold(&self, lanes: &mut [Lane]) {
        for lane in &mut *lanes {
            let load = lane.press(WARM);
            self.promises.answered(&lane.name, &load);
        }
        for round in 0..self.rounds {
            let offered = match self.pace {
                Pace::Pressed => None,
                Pace::Offered(part) => Some(part * self.peak(&mut lanes[0])),
            };
            let count = lanes.len();
            for turn in 0..count {
                let lane = &mut lanes[(turn + round) % count];
                let slice = self.measure(lane, offered);
                lane.slices.push(slice);
            }
        }
    }

    /// How many requests a second a lane can do at the moment.
    fn peak(&self, lane: &mut Lane) -> f64 {
        let load = lane.press(LOOK);
        self.promises.answered(&lane.name, &load);
        load.accepted as f64 / load.took.as_secs_f64()
    }

    /// A slice in which so many requests a second are offered, or each when the last
    /// was answered.
    fn measure(&self, lane: &mut Lane, offered: Option<f64>) -> Slice {
        let hmac = cores::on(Place::Measured, || lane.sender.hmac());
        let most = match offered {
            None => lane.most(self.slice),
            Some(rate) => (rate * self.slice.as_secs_f64()).ceil() as usize,
        };
        let signed = lane.sender.sign(most);
        let delivered = self.upstream.requests();
        let used = cpu_time(lane.pid);
        let load = match offered {
            None => lane.crowd.press(&signed, self.slice),
            Some(rate) => lane.crowd.offer(&signed, rate),
        };
        let cpu = cpu_time(lane.pid) - used;
        self.promises.answered(&lane.name, &load);
        let delivered = self.upstream.requests() - delivered;
        self.promises.delivered(&lane.name, &load, delivered);
        Slice {
            sample: Sample {
                events: load.accepted,
                took: load.took,
                cpu,
            },
            latencies: Figures::of(load.latencies),
            offered: offered.unwrap_or(f64::INFINITY),
            hmac,
        }
    }
}

/// Prints what all lanes came to, and ratios to the base.
pub fn print(lanes: &[Lane], base: &Lane) {
    let columns = ["CPU µs/request", "requests/s", "p50 µs", "p99 µs"];
    println!(
        "  {:<12}{:<24}{:<24}{:>12}{:>9}{:>9}",
        "",
        columns[0],
        format!("ratio to {}", base.name),
        columns[1],
        columns[2],
        columns[3]
    );
    for lane in lanes {
        println!(
            "  {:<12}{:<24}{:<24}{:>12.0}{:>9.0}{:>9.0}",
            lane.name,
            lane.figures(Slice::cost).to_string(),
            lane.ratio(base, Slice::cost).to_string(),
            lane.figures(Slice::rate).at(0.5),
            lane.figures(Slice::p50).at(0.5),
            lane.figures(Slice::p99).at(0.5),
        );
    }
}
