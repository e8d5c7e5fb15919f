use std::collections::VecDeque;
use std::convert::Infallible;

use http_body::{Frame, SizeHint};
use prometheus::IntGauge;
use tokio::time::Sleep;

use super::*;

/// A body that sends each piece after a pause.
struct Script {
    pieces: VecDeque<(Duration, Bytes)>,
    length: Option<u64>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl HttpBody for Script {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some((wait, _)) = self.pieces.front() else {
            return Poll::Ready(None);
        };
        let wait = *wait;
        if !wait.is_zero() {
            let pause = self
                .pause
                .get_or_insert_with(|| Box::pin(tokio::time::sleep(wait)));
            std::task::ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        let piece = self.pieces.pop_front();
        Poll::Ready(piece.map(|(_, bytes)| Ok(Frame::data(bytes))))
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}

struct Bench {
    budget: BufferBudget,
    gauge: IntGauge,
}

impl Bench {
    fn new(limit: usize) -> Self {
        let gauge = IntGauge::new("held", "held").unwrap();
        let budget = BufferBudget::new(limit, gauge.clone());
        Self { budget, gauge }
    }

    async fn read(
        &self,
        length: Option<u64>,
        pieces: impl IntoIterator<Item = (Duration, Bytes)>,
    ) -> Result<Body, BodyError> {
        let script = Script {
            pieces: pieces.into_iter().collect(),
            length,
            pause: None,
        };
        let rules = BodyRules {
            max_body: 1 << 20,
            timeout: Duration::from_secs(10),
            deadline: Instant::now() + Duration::from_secs(12),
        };
        gather(script, rules, &self.budget).await
    }
}

fn piece(seconds: f64, length: usize) -> (Duration, Bytes) {
    (
        Duration::from_secs_f64(seconds),
        Bytes::from(vec![b'x'; length]),
    )
}

#[tokio::test]
async fn a_body_of_one_piece_is_not_copied() {
    let bench = Bench::new(1 << 20);
    for length in [Some(1000), None] {
        let piece = piece(0.0, 1000);
        let at = piece.1.as_ptr();
        let body = bench.read(length, [piece]).await.unwrap();
        assert_eq!(body.bytes.as_ptr(), at);
        assert_eq!((body.bytes.len(), bench.gauge.get()), (1000, 1000));
    }
    assert_eq!(bench.gauge.get(), 0);
}

#[tokio::test]
async fn several_pieces_become_one_and_hold_what_their_buffer_takes() {
    let bench = Bench::new(1 << 20);
    let pieces = || (0..5).map(|_| piece(0.0, 30_000));
    let body = bench.read(Some(150_000), pieces()).await.unwrap();
    assert_eq!((body.bytes.len(), bench.gauge.get()), (150_000, 150_000));
    drop(body);
    let body = bench.read(None, pieces()).await.unwrap();
    assert_eq!(body.bytes.len(), 150_000);
    assert_eq!(bench.gauge.get(), 4 * 65_536, "64 KiB, doubled twice");
}

#[tokio::test]
async fn too_large_is_told_before_reading_where_the_length_is_known() {
    let bench = Bench::new(usize::MAX);
    let never = piece(1e6, 1);
    let told = bench.read(Some((1 << 20) + 1), [never]).await.err();
    assert_eq!(told, Some(BodyError::TooLarge));
    let pieces = (0..33).map(|_| piece(0.0, 1 << 15));
    let told = bench.read(None, pieces).await.err();
    assert_eq!(told, Some(BodyError::TooLarge));
    let exactly = (0..32).map(|_| piece(0.0, 1 << 15));
    let body = bench.read(None, exactly).await.unwrap();
    assert_eq!((body.bytes.len(), bench.gauge.get()), (1 << 20, 1 << 20));
}

#[tokio::test]
async fn a_body_without_room_in_the_budget_is_busy_at_once() {
    let bench = Bench::new(100_000);
    let never = piece(1e6, 1);
    let told = bench.read(Some(100_001), [never]).await.err();
    assert_eq!(told, Some(BodyError::Busy));
    let pieces = (0..5).map(|_| piece(0.0, 30_000));
    let told = bench.read(None, pieces).await.err();
    assert_eq!(told, Some(BodyError::Busy));
    assert_eq!(bench.gauge.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn large_bodies_that_are_only_announced_leave_room_for_others() {
    let bench = Bench::new(2 << 20);
    let never = || bench.read(Some(1 << 20), [piece(1e6, 1)]);
    let small = bench.read(Some(1000), [piece(1.0, 1000)]);
    let (one, two, small) = tokio::join!(never(), never(), small);
    assert_eq!(one.err(), Some(BodyError::Slow));
    assert_eq!(two.err(), Some(BodyError::Slow));
    assert!(small.is_ok());
}

#[tokio::test(start_paused = true)]
async fn who_sends_some_of_a_large_body_holds_no_more_than_twice_that() {
    let bench = Bench::new(usize::MAX);
    for (sent, held) in [(1, 16_384), (16_384, 16_384), (65_537, 131_074)] {
        let some = [piece(0.0, sent - sent / 2), piece(0.1, sent / 2)];
        let pieces = some.into_iter().chain([piece(1e6, 1)]);
        let told = bench.read(Some(1 << 20), pieces);
        let look = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            bench.gauge.get()
        };
        let (told, seen) = tokio::join!(told, look);
        assert_eq!(told.err(), Some(BodyError::Slow));
        assert!(seen <= held, "{seen} held for {sent}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stops_is_cut_after_the_grace() {
    let bench = Bench::new(1 << 20);
    let began = Instant::now();
    let told = bench.read(Some(100), [piece(3.0, 100)]).await.err();
    assert_eq!(told, Some(BodyError::Slow));
    assert_eq!(began.elapsed().as_secs(), 2);
}

/// A body of which one byte comes whenever it is asked for a second time.
struct Drip(bool);

impl HttpBody for Drip {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0 = !self.0;
        if self.0 {
            return Poll::Pending;
        }
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"x")))))
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_drips_at_every_turn_is_held_to_its_pace_on_a_busy_machine() {
    let bench = Bench::new(1 << 20);
    let began = Instant::now();
    let rules = BodyRules {
        max_body: 1 << 20,
        timeout: Duration::from_secs(10),
        deadline: began + Duration::from_secs(12),
    };
    // Every turn takes half a second.
    let turns = async {
        loop {
            tokio::time::advance(Duration::from_millis(500)).await;
        }
    };
    tokio::select! {
        body = gather(Drip(false), rules, &bench.budget) => {
            assert_eq!(body.err(), Some(BodyError::Slow));
        }
        () = turns => {}
    }
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_body_just_above_the_pace_is_read_and_one_just_below_is_cut() {
    let bench = Bench::new(1 << 20);
    // 5 pieces over 5 s have to bring 16 KiB × (5 − 2) s in all.
    let above = (0..5).map(|_| piece(1.0, 16 * 1024));
    assert!(bench.read(Some(5 * 16 * 1024), above).await.is_ok());
    let below = (0..9).map(|_| piece(1.0, 12 * 1024));
    let told = bench.read(Some(9 * 12 * 1024), below).await.err();
    assert_eq!(told, Some(BodyError::Slow));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_keeps_its_pace_is_still_held_to_its_timeout() {
    let bench = Bench::new(1 << 20);
    let began = Instant::now();
    let pieces = (0..20).map(|_| piece(1.0, 20 * 1024));
    let told = bench.read(None, pieces).await.err();
    assert_eq!(told, Some(BodyError::Slow));
    assert_eq!(began.elapsed().as_secs(), 10);
    assert_eq!(bench.gauge.get(), 0);
}
