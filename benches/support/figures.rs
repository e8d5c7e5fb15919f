use std::fmt;
use std::time::Duration;

/// What one slice came to.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Events that were accepted.
    pub events: usize,
    /// How long that took.
    pub took: Duration,
    /// What the one that is measured used for it.
    pub cpu: Duration,
}

impl Sample {
    /// Events in a second.
    pub fn rate(&self) -> f64 {
        self.events as f64 / self.took.as_secs_f64()
    }

    /// Microseconds of processor time for an event.
    pub fn cost(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.events.max(1) as f64
    }
}

/// Figures of one kind, of which the median and the quartiles are told.
#[derive(Clone, Debug, Default)]
pub struct Figures(Vec<f64>);

impl Figures {
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Self {
        let mut figures: Vec<f64> = figures.into_iter().collect();
        figures.sort_by(f64::total_cmp);
        Self(figures)
    }

    /// The figure below which this part of them lies.
    pub fn at(&self, part: f64) -> f64 {
        let last = self.0.len().saturating_sub(1);
        let place = part * last as f64;
        let figure = |place: f64| self.0.get(place as usize).copied().unwrap_or(f64::NAN);
        let (below, above) = (figure(place.floor()), figure(place.ceil()));
        below + (above - below) * place.fract()
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = match self.at(0.5) {
            median if median < 10.0 => 2,
            median if median < 100.0 => 1,
            _ => 0,
        };
        let [low, median, high] = [0.25, 0.5, 0.75].map(|part| self.at(part));
        write!(f, "{median:.digits$} ({low:.digits$}–{high:.digits$})")
    }
}
