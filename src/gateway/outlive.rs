use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TrackedFuture;

/// Work that goes on when nobody waits for it any more.
///
/// hyper drops a request's future when its sender hangs up. This one is polled
/// in place as long as somebody waits, which costs no task and no wake-up of
/// another thread; dropped before it is done, it is told `left`, and moves to a task
/// of its own. Either way the tracker knows of it, so a drain waits for it.
pub(crate) struct Outliving<F: Future + Send + 'static, L: FnMut()>
where
    F::Output: Send,
{
    work: Option<Pin<Box<TrackedFuture<F>>>>,
    left: L,
}

impl<F: Future + Send + 'static, L: FnMut()> Outliving<F, L>
where
    F::Output: Send,
{
    pub(crate) fn new(tasks: &TaskTracker, work: F, left: L) -> Self {
        Self {
            work: Some(Box::pin(tasks.track_future(work))),
            left,
        }
    }
}

impl<F: Future + Send + 'static, L: FnMut() + Unpin> Future for Outliving<F, L>
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

impl<F: Future + Send + 'static, L: FnMut()> Drop for Outliving<F, L>
where
    F::Output: Send,
{
    fn drop(&mut self) {
        let Some(work) = self.work.take() else {
            return;
        };
        // Before the work goes on: it may do so on another thread at once.
        (self.left)();
        // Without a runtime the process is ending, and the work with it.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
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
        let (leave, left) = oneshot::channel();
        let mut leave = Some(leave);
        let work = async move {
            gone.await.unwrap();
            tell.send("done").unwrap();
        };
        let left_alone = move || leave.take().unwrap().send(()).unwrap();
        let mut work = Box::pin(Outliving::new(&tasks, work, left_alone));
        assert!(futures_util::poll!(&mut work).is_pending());
        drop(work);
        left.await.unwrap();
        go.send(()).unwrap();
        assert_eq!(told.await.unwrap(), "done");
        tasks.close();
        tasks.wait().await;
    }

    #[tokio::test]
    async fn work_done_in_place_needs_no_task() {
        let tasks = TaskTracker::new();
        let work = Outliving::new(&tasks, async { 7 }, || unreachable!("nobody left"));
        assert_eq!(work.await, 7);
        assert!(tasks.is_empty());
    }
}
