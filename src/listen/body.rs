use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, Incoming};
use tokio::time::{Instant, timeout_at};

use super::{BufferBudget, Connection, Held};

/// What a body is held to.
#[derive(Clone, Copy, Debug)]
pub struct BodyRules {
    /// The largest body (bytes).
    pub max_body: usize,
    /// How long it may take to come.
    pub timeout: Duration,
    /// When the request as a whole runs out of time.
    pub deadline: Instant,
}

/// A body read whole, with its share of the budget: keep them together.
pub struct Body {
    /// The very bytes.
    pub bytes: Bytes,
    /// The share of the budget they take.
    pub held: Held,
}

/// Why a body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// It is over the limit.
    TooLarge,
    /// It did not come in time.
    Slow,
    /// There is no memory left for it.
    Busy,
    /// The sender went away, or its framing is not HTTP.
    Broken,
}

/// A body must come at this pace on the whole (bytes a second), once [`GRACE`] is over.
const PACE: u64 = 16 * 1024;

/// How long a body may take before it is held to [`PACE`].
const GRACE: Duration = Duration::from_secs(2);

/// What a body takes before any of it has come, unless it is shorter (bytes).
const STEP: usize = 64 * 1024;

/// Reads the body of the present request of `connection` to its end.
///
/// # Errors
/// When it is too large (told before a byte is read where its length is known),
/// too slow, when `budget` has no room, or when the sender breaks off. The rest
/// of it then stays unread, and the connection closes after the answer.
pub async fn read_body(
    body: Incoming,
    connection: &Connection,
    rules: BodyRules,
    budget: &BufferBudget,
) -> Result<Body, BodyError> {
    let body = gather(body, rules, budget).await?;
    connection.body_ended();
    Ok(body)
}

/// Drops a body that is not wanted. Where all of it is already here, the
/// connection can go on after the answer; nothing is waited for.
pub fn skip_body(mut body: Incoming, connection: &Connection) {
    let mut cx = Context::from_waker(Waker::noop());
    while !body.is_end_stream() {
        match Pin::new(&mut body).poll_frame(&mut cx) {
            Poll::Ready(Some(Ok(_))) => {}
            Poll::Ready(None) => break,
            Poll::Ready(Some(Err(_))) | Poll::Pending => return,
        }
    }
    connection.body_ended();
}

async fn gather<B>(body: B, rules: BodyRules, budget: &BufferBudget) -> Result<Body, BodyError>
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    let known = body.size_hint().exact();
    let length = match known {
        Some(length) => usize::try_from(length)
            .ok()
            .filter(|length| *length <= rules.max_body)
            .ok_or(BodyError::TooLarge)?,
        None => rules.max_body,
    };
    // A body that would not fit is refused at once. One that would is only
    // announced yet: a stranger who sends none of it takes little from the others.
    let announced = known.map_or(STEP.min(length), |_| length);
    let mut held = budget.take(announced).ok_or(BodyError::Busy)?;
    held.shrink(STEP.min(length));
    let mut frames = Frames::new(body, rules);

    let Some(first) = frames.next().await? else {
        held.shrink(0);
        let bytes = Bytes::new();
        return Ok(Body { bytes, held });
    };
    let Some(second) = frames.next().await? else {
        // One piece is used as it is, without a copy.
        if held.bytes() < first.len() && !held.grow(first.len() - held.bytes()) {
            return Err(BodyError::Busy);
        }
        held.shrink(first.len());
        return Ok(Body { bytes: first, held });
    };

    // Several pieces are copied together once, because signature and upstream
    // want one run of bytes. The share held is always the buffer's size.
    let mut gathered = Gathered {
        bytes: Vec::with_capacity(held.bytes()),
        held,
        length,
        is_known: known.is_some(),
    };
    gathered.add(&first)?;
    // A piece pins the connection's read buffer: let go of it now.
    drop(first);
    gathered.add(&second)?;
    drop(second);
    while let Some(frame) = frames.next().await? {
        gathered.add(&frame)?;
    }
    Ok(Body {
        bytes: gathered.bytes.into(),
        held: gathered.held,
    })
}

/// The pieces of a body put together.
struct Gathered {
    bytes: Vec<u8>,
    held: Held,
    /// What it is to become, or the most that it may.
    length: usize,
    is_known: bool,
}

impl Gathered {
    fn add(&mut self, frame: &Bytes) -> Result<(), BodyError> {
        let needed = self.bytes.len() + frame.len();
        if needed > self.length {
            return Err(BodyError::TooLarge);
        }
        if needed > self.held.bytes() {
            // Where the length is known, that is the size. Else doubling copies
            // each byte about once; growing by a fixed step would copy a large
            // body over and over.
            let size = match self.is_known {
                true => self.length,
                false => needed
                    .max(self.held.bytes().saturating_mul(2))
                    .max(STEP)
                    .min(self.length),
            };
            if !self.held.grow(size - self.held.bytes()) {
                return Err(BodyError::Busy);
            }
            self.bytes.reserve_exact(size - self.bytes.len());
        }
        self.bytes.extend_from_slice(frame);
        Ok(())
    }
}

/// The data of a body, piece by piece, held to its time.
struct Frames<B> {
    body: B,
    max: usize,
    began: Instant,
    until: Instant,
    received: u64,
}

impl<B: HttpBody<Data = Bytes> + Unpin> Frames<B> {
    fn new(body: B, rules: BodyRules) -> Self {
        let began = Instant::now();
        Self {
            body,
            max: rules.max_body,
            began,
            until: rules.deadline.min(began + rules.timeout),
            received: 0,
        }
    }

    async fn next(&mut self) -> Result<Option<Bytes>, BodyError> {
        while !self.body.is_end_stream() {
            let frame = match self.soon().await {
                // A turn takes long where there is much to do: one that always
                // brings a little is held to its time, too.
                Some(_) if self.received > 0 && Instant::now() > self.limit() => {
                    return Err(BodyError::Slow);
                }
                Some(frame) => frame,
                None => {
                    let limit = self.limit();
                    let frame = poll_fn(|cx| Pin::new(&mut self.body).poll_frame(cx));
                    // Boxed, so that a body that is here does not carry a timer.
                    let frame = Box::pin(timeout_at(limit, frame)).await;
                    frame.map_err(|_| BodyError::Slow)?
                }
            };
            let frame = match frame {
                None => return Ok(None),
                Some(Err(_)) => return Err(BodyError::Broken),
                Some(Ok(frame)) => frame,
            };
            // Anything but data is trailers, which nobody reads.
            if let Ok(data) = frame.into_data()
                && !data.is_empty()
            {
                self.received += data.len() as u64;
                if self.received > self.max as u64 {
                    return Err(BodyError::TooLarge);
                }
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// The next piece, if it is already here, so that no timer is armed for it.
    /// hyper hands it over only once it was asked for, and then at its next turn.
    async fn soon(&mut self) -> Option<Option<Result<Frame<Bytes>, B::Error>>> {
        let mut asked = false;
        poll_fn(|cx| match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(frame) => Poll::Ready(Some(frame)),
            Poll::Pending if asked => Poll::Ready(None),
            Poll::Pending => {
                asked = true;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        })
        .await
    }

    /// When what has come so far is too little: the sender has sent less than
    /// [`PACE`] × (elapsed − [`GRACE`]) from then on.
    fn limit(&self) -> Instant {
        let earned = Duration::from_micros(self.received.saturating_mul(1_000_000) / PACE);
        self.until.min(self.began + GRACE + earned)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::convert::Infallible;

    use http_body::SizeHint;
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
}
