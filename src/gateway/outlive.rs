use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TrackedFuture;

/// Work that goes on when nobody waits for it any more.
///
/// hyper drops a request's future when its sender hangs up. This one is polled
/// in place as long as somebody waits, which costs no task and no wake-up of
/// another thread; dropped before it is done, it moves to a task of its own.
/// Either way the tracker knows of it, so a drain waits for it.
pub(crate) struct Outliving<F: Future + Send + 'static>
where
    F::Output: Send,
{
    work: Option<Pin<Box<TrackedFuture<F>>>>,
}

impl<F: Future + Send + 'static> Outliving<F>
where
    F::Output: Send,
{
    pub(crate) fn new(tasks: &TaskTracker, work: F) -> Self {
        Self {
            work: Some(Box::pin(tasks.track_future(work))),
        }
    }
}

impl<F: Future + Send + 'static> Future for Outliving<F>
where
    F::Output: Send,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Some(work) = &mut self.work else {
            return Poll::Pending;
        };
        let output = std::task::ready!(work.as_mut().poll(context));
        self.work = None;
        Poll::Ready(output)
    }
}

impl<F: Future + Send + 'static> Drop for Outliving<F>
where
    F::Output: Send,
{
    fn drop(&mut self) {
        // Without a runtime the process is ending, and the work with it.
        if let Some(work) = self.work.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(work);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn work_goes_on_when_its_waiter_is_gone() {
        let tasks = TaskTracker::new();
        let (go, gone) = oneshot::channel::<()>();
        let (tell, told) = oneshot::channel();
        let mut work = Box::pin(Outliving::new(&tasks, async move {
            gone.await.unwrap();
            tell.send("done").unwrap();
        }));
        assert!(futures_util::poll!(&mut work).is_pending());
        drop(work);
        go.send(()).unwrap();
        assert_eq!(told.await.unwrap(), "done");
        tasks.close();
        tasks.wait().await;
    }

    #[tokio::test]
    async fn work_done_in_place_needs_no_task() {
        let tasks = TaskTracker::new();
        assert_eq!(Outliving::new(&tasks, async { 7 }).await, 7);
        assert!(tasks.is_empty());
    }
}
