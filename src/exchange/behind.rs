//! Work that goes on behind its request, on the worker that it began on.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};

use actix_web::rt;
use futures_util::future::poll_immediate;
use tokio::runtime::Handle;

/// Lets work that lost its client go on, where there is something to run it; made to be called from `Drop`.
pub(crate) fn go_on(work: impl Future<Output = ()> + 'static) {
    if std::thread::panicking() || Handle::try_current().is_err() {
        return;
    }
    if rt::System::try_current().is_some() {
        rt::spawn(work);
    } else {
        // Workers of a server under `tokio::main` know no system, and nobody tells whether a runtime takes local
        // work; one that does not would panic here, and the work is dropped as if its client had taken it along.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(rt::spawn(work))));
    }
}

/// Waits for work that comes to its end even if nobody waits any more; what is ready at once needs no task. `None` if
/// it panicked.
pub(crate) fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> impl Future<Output = Option<T>> {
    // Boxed before anybody waits for it: whoever does is not as large as the work.
    let mut work = Box::pin(work);
    async move {
        match poll_immediate(&mut work).await {
            Some(done) => Some(done),
            None => tokio::spawn(work).await.ok(),
        }
    }
}
