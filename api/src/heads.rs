use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use hyper::rt::{Sleep, Timer};
use hyper_util::rt::TokioTimer;

/// The first request's head must arrive within this time after its connection.
pub const FIRST: Duration = Duration::from_secs(5);
/// A connection is kept for its next request, whose head must be there by then. Longer than load
/// balancers keep theirs (nginx and AWS a minute, Traefik 90 s, Caddy two minutes): where we close
/// first, a request that they have just sent is lost, and one that changes something they may not
/// send again.
pub const NEXT: Duration = Duration::from_secs(150);

/// One connection's clock. hyper has one time for heads, which for a kept connection begins with the
/// wait for the next request; this tells the first head from those after it.
#[derive(Clone, Debug, Default)]
pub struct Heads {
    is_kept: Arc<AtomicBool>,
}

impl Timer for Heads {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        TokioTimer::new().sleep(duration)
    }

    /// hyper asks for this once for each head, and over HTTP/1 for nothing else.
    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        let more = match self.is_kept.swap(true, Ordering::Relaxed) {
            true => NEXT - FIRST,
            false => Duration::ZERO,
        };
        TokioTimer::new().sleep_until(deadline + more)
    }

    fn now(&self) -> Instant {
        TokioTimer::new().now()
    }
}
