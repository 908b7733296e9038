//! Waits for a future on a thread that may block, without a runtime: connections are driven by the engine's own.

use std::{
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::{Duration, Instant},
};

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Blocks until the future is ready; `None` once `limit` has passed.
pub(super) fn wait<T>(future: impl Future<Output = T>, limit: Duration) -> Option<T> {
    let until = Instant::now() + limit;
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(done) = future.as_mut().poll(&mut context) {
            return Some(done);
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        thread::park_timeout(left);
    }
}

/// Sends a request whose answer nobody waits for: a request goes out when it is polled first.
pub(super) fn send(request: impl Future) {
    let _ = pin!(request).poll(&mut Context::from_waker(Waker::noop()));
}

/// A request on its way, and what it answers.
type Request<'a, T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'a>>;

/// Polls all futures in their order until each is ready, so that their requests go out in that order. Answers the first
/// error in that order.
pub(super) async fn in_order<T, E>(mut requests: Vec<Request<'_, T, E>>) -> Result<(), E> {
    let mut answers: Vec<Option<Result<T, E>>> = requests.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        let mut ready = true;
        for (request, answer) in requests.iter_mut().zip(&mut answers) {
            if answer.is_none() {
                match request.as_mut().poll(context) {
                    Poll::Ready(done) => *answer = Some(done),
                    Poll::Pending => ready = false,
                }
            }
        }
        match ready {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
    answers.into_iter().flatten().find_map(Result::err).map_or(Ok(()), Err)
}
