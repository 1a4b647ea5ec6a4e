//! What a defect of ours may end: one request, never the thread that serves. A panic is told on standard error by Rust itself.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

/// What `run` gives, `None` if it panicked. What it was about is ended as it is dropped.
pub fn caught<T>(run: impl FnOnce() -> T) -> Option<T> {
    // What is shared is counters and queues: each step leaves them whole, and `Drop` takes back what a request held.
    catch_unwind(AssertUnwindSafe(run)).ok()
}

/// The same for a task: it is not polled again after a panic.
pub async fn caught_task<T>(task: impl Future<Output = T>) -> Option<T> {
    let mut task = pin!(task);
    poll_fn(|context| match caught(|| task.as_mut().poll(context)) {
        Some(Poll::Ready(done)) => Poll::Ready(Some(done)),
        Some(Poll::Pending) => Poll::Pending,
        None => Poll::Ready(None),
    })
    .await
}
