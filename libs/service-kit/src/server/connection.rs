//! What a connection is doing, and how it ends.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU8, AtomicU64, AtomicUsize,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    task::Poll,
    time::Duration,
};

use futures::task::AtomicWaker;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};
use tracing::debug;

use super::{Limits, places::Place, refusal, service::SiteService, stream::TrackedStream};

/// Bytes of an answer that count as progress. The kernel asks for more when about a third of its buffer is
/// free, so most clients that go on at all take far more at once.
const PROGRESS_BYTES: usize = 4096;

/// How long a client that was refused in the middle of its request may go on sending. If the connection
/// were closed at once, its system would throw away the answer with what could not be delivered.
const LINGER_TIME: Duration = Duration::from_secs(2);

/// How long a connection that has sent nothing is kept after the listener began to close.
const CLOSING_TIME: Duration = Duration::from_secs(1);

/// What a connection is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    /// The header of a request. Begins with the connection, later with the first byte of a header.
    Header,
    /// Our answer.
    Answer,
    /// The client, who has to take the rest of the answer.
    Rest,
    /// The next request.
    Idle,
}

/// Why a connection is told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Verdict {
    /// The listener closes: what was asked is answered.
    Closing,
    /// The listener closes, and the client has sent nothing yet. No limit was exceeded.
    Silent,
    /// The header did not come in time.
    SlowHeader,
    /// No next request came in time.
    Idle,
    /// The client does not take its answer.
    SlowReader,
    /// Another one needs the place.
    Evicted,
}

impl Verdict {
    /// All that are counted, in the order of their numbers.
    pub(super) const COUNTED: [Self; 4] =
        [Self::SlowHeader, Self::Idle, Self::SlowReader, Self::Evicted];

    /// The value of the metric's label.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Closing => "closing",
            Self::Silent => "silent",
            Self::SlowHeader => "slow_header",
            Self::Idle => "idle",
            Self::SlowReader => "slow_reader",
            Self::Evicted => "evicted",
        }
    }

    fn of(number: u8) -> Option<Self> {
        let [a, b, c, d] = Self::COUNTED;
        [Self::Closing, Self::Silent, a, b, c, d]
            .into_iter()
            .find(|verdict| *verdict as u8 == number)
    }
}

/// No verdict yet.
const NONE: u8 = u8::MAX;

/// The state of one connection. Its own task changes it, whoever keeps the limits looks at it; no clock
/// is read for that, as [`Connection::now`] is kept by the listener.
#[derive(Debug)]
pub(super) struct Connection {
    now: Arc<AtomicU64>,
    phase: AtomicU8,
    /// When the phase began, or the last progress within it, in the listener's milliseconds.
    since: AtomicU64,
    /// Whether a part of a request's header has come.
    has_started_header: AtomicBool,
    /// Whether the rest of a request's body has to come before the answer.
    awaits_body: AtomicBool,
    /// Whether the client's system takes no more bytes at present.
    is_blocked: AtomicBool,
    /// Bytes taken since the last progress.
    taken: AtomicUsize,
    /// Whether a request had a body, of which a part may not have been read.
    had_body: AtomicBool,
    verdict: AtomicU8,
    told: AtomicWaker,
}

impl Connection {
    /// A connection that was just accepted.
    pub(super) fn new(now: Arc<AtomicU64>) -> Self {
        let since = AtomicU64::new(now.load(Relaxed));
        Self {
            now,
            phase: AtomicU8::new(Phase::Header as u8),
            since,
            has_started_header: AtomicBool::new(false),
            awaits_body: AtomicBool::new(false),
            is_blocked: AtomicBool::new(false),
            taken: AtomicUsize::new(0),
            had_body: AtomicBool::new(false),
            verdict: AtomicU8::new(NONE),
            told: AtomicWaker::new(),
        }
    }

    fn is(&self, phase: Phase) -> bool {
        self.phase.load(Relaxed) == phase as u8
    }

    fn enter(&self, phase: Phase) {
        self.awaits_body.store(false, Relaxed);
        self.phase.store(phase as u8, Relaxed);
        self.since.store(self.now.load(Relaxed), Relaxed);
    }

    /// Bytes have come.
    pub(super) fn note_read(&self) {
        if self.is(Phase::Idle) {
            self.enter(Phase::Header);
        }
        if self.is(Phase::Header) {
            self.has_started_header.store(true, Relaxed);
        }
    }

    /// A request has been read, except for its body.
    pub(super) fn note_request(&self, has_body: bool) {
        self.has_started_header.store(false, Relaxed);
        if has_body {
            self.had_body.store(true, Relaxed);
        }
        self.enter(Phase::Answer);
    }

    /// The socket was read, and had nothing if it `is_empty`. Until the answer nothing but a body is read.
    pub(super) fn note_body(&self, is_empty: bool) {
        if self.is(Phase::Answer) {
            self.awaits_body.store(is_empty, Relaxed);
            if !is_empty {
                self.since.store(self.now.load(Relaxed), Relaxed);
            }
        }
    }

    /// The whole answer has been given to hyper.
    pub(super) fn note_answer(&self) {
        self.enter(Phase::Rest);
    }

    /// The client's system has taken bytes.
    pub(super) fn note_written(&self, bytes: usize) {
        if self.is_blocked.load(Relaxed) {
            let taken = self.taken.load(Relaxed) + bytes;
            if taken >= PROGRESS_BYTES {
                self.taken.store(0, Relaxed);
                self.since.store(self.now.load(Relaxed), Relaxed);
            } else {
                self.taken.store(taken, Relaxed);
            }
        }
    }

    /// The client's system takes no more bytes.
    pub(super) fn note_blocked(&self) {
        if !self.is_blocked.swap(true, Relaxed) {
            self.taken.store(0, Relaxed);
            self.since.store(self.now.load(Relaxed), Relaxed);
        }
    }

    /// All that was to be sent has been sent.
    pub(super) fn note_flushed(&self) {
        if self.is(Phase::Rest) {
            self.is_blocked.store(false, Relaxed);
            self.enter(Phase::Idle);
        }
    }

    /// Since when the client is the one to go on, in the listener's milliseconds; `None` if we are.
    pub(super) fn unused_since(&self) -> Option<u64> {
        let is_unused =
            self.is(Phase::Idle) || self.is(Phase::Header) || self.awaits_body.load(Relaxed);
        is_unused.then(|| self.since.load(Relaxed))
    }

    /// Whether no part of a request has come yet.
    pub(super) fn is_silent(&self) -> bool {
        self.is(Phase::Header) && !self.has_started_header.load(Relaxed)
    }

    /// What is to be done with it at this time.
    pub(super) fn judge(&self, limits: &Limits, is_closing: bool) -> Option<Verdict> {
        let waited = self.now.load(Relaxed).saturating_sub(self.since.load(Relaxed));
        let waited = Duration::from_millis(waited);
        if self.is(Phase::Header) {
            if waited > limits.header_time {
                return Some(Verdict::SlowHeader);
            }
            (is_closing && self.is_silent() && waited > CLOSING_TIME).then_some(Verdict::Silent)
        } else if self.is(Phase::Idle) {
            (waited > limits.idle_time).then_some(Verdict::Idle)
        } else {
            let is_blocked = self.is_blocked.load(Relaxed);
            (is_blocked && waited > limits.progress_time).then_some(Verdict::SlowReader)
        }
    }

    /// Tells its task.
    pub(super) fn tell(&self, verdict: Verdict) {
        self.verdict.store(verdict as u8, Release);
        self.told.wake();
    }

    /// What its task is told, once.
    fn take_verdict(&self) -> Option<Verdict> {
        match self.verdict.load(Acquire) {
            NONE => None,
            number => {
                self.verdict.store(NONE, Relaxed);
                Verdict::of(number).filter(|verdict| self.still_deserves(*verdict))
            }
        }
    }

    /// Whether the verdict still holds: the client may have gone on in the meantime.
    fn still_deserves(&self, verdict: Verdict) -> bool {
        match verdict {
            Verdict::Closing => true,
            Verdict::Silent => self.is_silent(),
            Verdict::SlowHeader => self.is(Phase::Header),
            Verdict::Idle => self.is(Phase::Idle),
            Verdict::SlowReader => self.is_blocked.load(Relaxed),
            Verdict::Evicted => self.unused_since().is_some(),
        }
    }
}

/// What hyper serves.
pub(super) type Served = http1::Connection<TokioIo<TrackedStream>, SiteService>;

/// What a connection's task wakes up for.
enum Event {
    Ended(hyper::Result<()>),
    Told(Verdict),
}

/// Serves the connection in `place` to its end, and counts it if it is cut off.
pub(super) async fn drive(mut served: Served, place: Place) {
    let connection = Arc::clone(&place.connection);
    loop {
        let event = poll_fn(|context| {
            // It flushes before it ends the connection, which `poll_without_shutdown` does not.
            if let Poll::Ready(ended) = Pin::new(&mut served).poll(context) {
                return Poll::Ready(Event::Ended(ended));
            }
            connection.told.register(context.waker());
            connection.take_verdict().map_or(Poll::Pending, |it| Poll::Ready(Event::Told(it)))
        });
        match event.await {
            Event::Ended(ended) => {
                if let Err(error) = ended {
                    debug!(%error, "a connection ended early");
                }
                let stream = served.into_parts().io.into_inner();
                return end(stream, &connection, connection.had_body.load(Relaxed)).await;
            }
            // hyper would throw away what is not sent yet. The next sweep tells it again.
            Event::Told(Verdict::Closing) if connection.is(Phase::Rest) => {}
            Event::Told(Verdict::Closing) => Pin::new(&mut served).graceful_shutdown(),
            Event::Told(verdict) => {
                debug!(verdict = verdict.label(), "a connection is cut off");
                place.count(verdict);
                let is_owed_a_word =
                    verdict == Verdict::SlowHeader && connection.has_started_header.load(Relaxed);
                if is_owed_a_word {
                    let mut stream = served.into_parts().io.into_inner();
                    // There is room for it, as nothing was sent for a while; if not, it is not worth more.
                    stream.try_write(&refusal::slow_header());
                    end(stream, &connection, true).await;
                }
                return;
            }
        }
    }
}

/// Closes the connection. If the client may still be sending, it gets time to read the answer.
async fn end(mut stream: TrackedStream, connection: &Connection, may_be_sending: bool) {
    if let Err(error) = stream.shutdown().await {
        return debug!(%error, "a connection was closed by the client");
    }
    if !(may_be_sending || stream.has_refused()) || stream.has_ended() {
        return;
    }
    let mut thrown_away = [0; 4096];
    let drained = async { while !matches!(stream.read(&mut thrown_away).await, Ok(0) | Err(_)) {} };
    let evicted = poll_fn(|context| {
        connection.told.register(context.waker());
        match connection.take_verdict() {
            Some(Verdict::Evicted) => Poll::Ready(()),
            _ => Poll::Pending,
        }
    });
    tokio::select! {
        drained = timeout(LINGER_TIME, drained) => if drained.is_err() {
            debug!("a client went on sending after it was refused");
        },
        () = evicted => {}
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicU64, Ordering},
        },
        time::Duration,
    };

    use super::{Connection, Limits, Verdict};

    const SECOND: u64 = 1000;

    struct Watched {
        now: Arc<AtomicU64>,
        connection: Connection,
    }

    impl Watched {
        fn new() -> Self {
            let now = Arc::new(AtomicU64::new(0));
            Self { now: Arc::clone(&now), connection: Connection::new(now) }
        }

        fn after(&self, seconds: u64) -> Option<Verdict> {
            self.now.fetch_add(seconds * SECOND, Ordering::Relaxed);
            let limits = Limits {
                header_time: Duration::from_secs(10),
                idle_time: Duration::from_secs(75),
                progress_time: Duration::from_secs(20),
                ..Limits::default()
            };
            self.connection.judge(&limits, false)
        }
    }

    #[test]
    fn a_header_has_ten_seconds_however_it_trickles() {
        let watched = Watched::new();
        for _ in 0..10 {
            assert_eq!(watched.after(1), None);
            watched.connection.note_read();
        }
        assert_eq!(watched.after(1), Some(Verdict::SlowHeader));
    }

    #[test]
    fn an_idle_connection_is_kept_longer_than_a_header_may_take() {
        let watched = Watched::new();
        watched.connection.note_read();
        watched.connection.note_request(false);
        assert_eq!(watched.after(1000), None, "we are the ones who take long");
        watched.connection.note_answer();
        watched.connection.note_flushed();
        assert_eq!(watched.after(75), None);
        watched.connection.note_read();
        assert_eq!(watched.after(10), None, "a next header begins with its first byte");
        assert_eq!(watched.after(1), Some(Verdict::SlowHeader));
    }

    #[test]
    fn a_slow_reader_is_one_that_takes_less_than_a_little() {
        let watched = Watched::new();
        watched.connection.note_request(false);
        watched.connection.note_answer();
        watched.connection.note_blocked();
        for _ in 0..5 {
            assert_eq!(watched.after(15), None);
            watched.connection.note_written(5000);
            watched.connection.note_blocked();
        }
        for _ in 0..20 {
            assert_eq!(watched.after(1), None);
            watched.connection.note_written(100);
            watched.connection.note_blocked();
        }
        assert_eq!(watched.after(1), Some(Verdict::SlowReader));
        watched.connection.note_flushed();
        assert_eq!(watched.after(0), None, "it has everything now");
    }

    #[test]
    fn each_verdict_is_found_by_its_number() {
        for verdict in Verdict::COUNTED {
            assert_eq!(Verdict::of(verdict as u8), Some(verdict));
        }
        assert_eq!(Verdict::of(super::NONE), None);
    }
}
