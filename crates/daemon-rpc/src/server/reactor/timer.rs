//! Waiting for a time, and for something that must not take longer.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use pin_project_lite::pin_project;

use super::{Reactor, lock};

impl Reactor {
    /// Waits for this long.
    pub(crate) fn sleep(&self, patience: Duration) -> Sleep<'_> {
        Sleep {
            reactor: self,
            // A time that cannot be told never comes.
            until: Instant::now().checked_add(patience),
            key: None,
        }
    }

    /// What the future returns; `None` if that takes longer than `patience`.
    pub(crate) fn timeout<F: Future>(&self, patience: Duration, future: F) -> Timeout<'_, F> {
        let sleep = self.sleep(patience);
        Timeout { future, sleep }
    }
}

/// See [`Reactor::sleep`].
pub(crate) struct Sleep<'a> {
    reactor: &'a Reactor,
    until: Option<Instant>,
    /// Set while a timer runs.
    key: Option<u64>,
}

impl Future for Sleep<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(until) = self.until else {
            return Poll::Pending;
        };
        if until <= Instant::now() {
            return Poll::Ready(());
        }
        let reactor = self.reactor;
        let key = *self.key.get_or_insert_with(|| reactor.key());
        let mut timers = lock(&reactor.timers);
        let earlier = timers.insert((until, key), context.waker().clone());
        let is_first = timers.first_key_value().is_some_and(|(k, _)| k.1 == key);
        drop(timers);
        if earlier.is_none() && is_first {
            // Who waits already waits for a later one.
            reactor.interrupt();
        }
        reactor.waits(context.waker());
        Poll::Pending
    }
}

impl Drop for Sleep<'_> {
    fn drop(&mut self) {
        if let (Some(until), Some(key)) = (self.until, self.key) {
            let _waker = lock(&self.reactor.timers).remove(&(until, key));
        }
    }
}

pin_project! {
    /// See [`Reactor::timeout`].
    pub(crate) struct Timeout<'a, F> {
        #[pin]
        future: F,
        sleep: Sleep<'a>,
    }
}

impl<F: Future> Future for Timeout<'_, F> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        // A future that is ready needs no timer.
        if let Poll::Ready(value) = this.future.poll(context) {
            return Poll::Ready(Some(value));
        }
        Pin::new(this.sleep).poll(context).map(|()| None)
    }
}
