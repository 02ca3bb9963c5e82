//! A connection and the streams on it as one task. What a stream has to say is written in the turn in which it is
//! said. With a task for each of them, as is usual, a change that a thousand streams are told is a thousand responses
//! in memory before the first of them is written.

use std::{
    future::Future,
    mem,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures_util::{
    StreamExt as _, future::BoxFuture, future::poll_fn, stream::FuturesUnordered, task::AtomicWaker,
};
use hyper::rt::Executor;

/// Turns before other tasks get theirs.
const TURNS_MAX: usize = 8;

/// Streams that a connection began, until its task takes them over.
#[derive(Clone, Default)]
pub(super) struct Begun(Arc<Mutex<Vec<BoxFuture<'static, ()>>>>);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Begun {
    fn execute(&self, stream: F) {
        let mut begun = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        begun.push(Box::pin(stream));
    }
}

impl Begun {
    fn take(&self) -> Vec<BoxFuture<'static, ()>> {
        mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Runs a connection that begins its streams by `begun`, and these.
pub(super) async fn run<C: Future>(connection: C, begun: Begun) -> C::Output {
    let mut connection = pin!(connection);
    let mut turns = Turns {
        begun,
        streams: FuturesUnordered::new(),
        of_streams: Part::new(),
        of_connection: Part::new(),
    };
    poll_fn(|context| turns.poll(context, connection.as_mut())).await
}

struct Turns {
    begun: Begun,
    streams: FuturesUnordered<BoxFuture<'static, ()>>,
    of_streams: Part,
    of_connection: Part,
}

impl Turns {
    fn poll<C: Future>(
        &mut self,
        context: &mut Context<'_>,
        connection: Pin<&mut C>,
    ) -> Poll<C::Output> {
        let parts = [&self.of_streams.flag, &self.of_connection.flag].map(Arc::clone);
        for flag in &parts {
            flag.enter(context);
        }
        let done = self.take_turns(connection);
        // What comes from now on wakes the task; what came before is seen here.
        let mut is_up = false;
        for flag in &parts {
            is_up |= flag.leave();
        }
        match done {
            Some(output) => Poll::Ready(output),
            None => {
                if is_up {
                    context.waker().wake_by_ref();
                }
                Poll::Pending
            }
        }
    }

    /// Streams come first, so that one turn writes what they say.
    fn take_turns<C: Future>(&mut self, mut connection: Pin<&mut C>) -> Option<C::Output> {
        for _ in 0..TURNS_MAX {
            let has_streams = self.of_streams.flag.lower();
            if has_streams {
                self.poll_streams();
            }
            let has_connection = self.of_connection.flag.lower();
            if has_connection {
                let mut context = Context::from_waker(&self.of_connection.waker);
                if let Poll::Ready(output) = connection.as_mut().poll(&mut context) {
                    // They learn of it, and note what they have to note.
                    self.poll_streams();
                    return Some(output);
                }
            }
            let begun = self.begun.take();
            if !begun.is_empty() {
                self.streams.extend(begun);
                self.of_streams.flag.raise();
            } else if !has_streams && !has_connection {
                return None;
            }
        }
        None
    }

    fn poll_streams(&mut self) {
        let mut context = Context::from_waker(&self.of_streams.waker);
        while let Poll::Ready(Some(())) = self.streams.poll_next_unpin(&mut context) {}
    }
}

/// The streams, or the connection itself.
struct Part {
    flag: Arc<Flag>,
    waker: Waker,
}

impl Part {
    fn new() -> Self {
        let flag = Arc::new(Flag {
            is_up: AtomicBool::new(true),
            is_in_turn: AtomicBool::new(false),
            task: AtomicWaker::new(),
        });
        let waker = Waker::from(Arc::clone(&flag));
        Self { flag, waker }
    }
}

/// That a part has something to do. While its task is at it the task is not woken for it: it looks by itself.
struct Flag {
    is_up: AtomicBool,
    is_in_turn: AtomicBool,
    task: AtomicWaker,
}

impl Flag {
    fn enter(&self, context: &mut Context<'_>) {
        self.task.register(context.waker());
        self.is_in_turn.store(true, Ordering::SeqCst);
    }

    fn leave(&self) -> bool {
        self.is_in_turn.store(false, Ordering::SeqCst);
        self.is_up.load(Ordering::SeqCst)
    }

    fn raise(&self) {
        self.is_up.store(true, Ordering::SeqCst);
    }

    fn lower(&self) -> bool {
        self.is_up.swap(false, Ordering::SeqCst)
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.raise();
        if !self.is_in_turn.load(Ordering::SeqCst) {
            self.task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::atomic::AtomicUsize, task::Poll, time::Duration};

    use tokio::{sync::mpsc, time::timeout};

    use super::*;

    /// What streams say and what is written of it, as in HTTP/2: saying wakes the connection.
    #[derive(Default)]
    struct Lines {
        said: AtomicUsize,
        written: AtomicUsize,
        connection: AtomicWaker,
    }

    impl Lines {
        fn say(&self) {
            self.said.fetch_add(1, Ordering::SeqCst);
            self.connection.wake();
        }

        /// Done when so many lines are written.
        async fn write(self: Arc<Self>, all: usize) {
            poll_fn(|context| {
                self.connection.register(context.waker());
                let said = self.said.load(Ordering::SeqCst);
                self.written.store(said, Ordering::SeqCst);
                match said == all {
                    true => Poll::Ready(()),
                    false => Poll::Pending,
                }
            })
            .await;
        }
    }

    #[test]
    fn what_a_stream_says_is_written_in_the_same_turn() {
        let lines = Arc::<Lines>::default();
        let begun = Begun::default();
        for _ in 0..3 {
            let lines = Arc::clone(&lines);
            begun.execute(async move {
                lines.say();
                std::future::pending().await
            });
        }
        let mut task = pin!(run(Arc::clone(&lines).write(4), begun));
        let mut once = Context::from_waker(Waker::noop());
        assert!(task.as_mut().poll(&mut once).is_pending());
        assert_eq!(lines.written.load(Ordering::SeqCst), 3);
    }

    #[test]
    fn streams_that_never_rest_leave_others_their_turn() {
        let begun = Begun::default();
        begun.execute(poll_fn(|context| {
            context.waker().wake_by_ref();
            Poll::Pending
        }));
        let mut task = pin!(run(std::future::pending::<()>(), begun));
        let mut once = Context::from_waker(Waker::noop());
        assert!(task.as_mut().poll(&mut once).is_pending());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn nothing_that_comes_from_elsewhere_is_missed() {
        const STREAMS: usize = 8;
        const LINES: usize = 2_000;
        let lines = Arc::<Lines>::default();
        let begun = Begun::default();
        let mut senders = Vec::new();
        for _ in 0..STREAMS {
            let (sender, mut receiver) = mpsc::channel(1);
            senders.push(sender);
            let lines = Arc::clone(&lines);
            begun.execute(async move {
                while receiver.recv().await.is_some() {
                    lines.say();
                }
            });
        }
        let task = tokio::spawn(run(Arc::clone(&lines).write(STREAMS * LINES), begun));
        for sender in senders {
            tokio::spawn(async move {
                for _ in 0..LINES {
                    let _ = sender.send(()).await;
                }
            });
        }
        let done = timeout(Duration::from_secs(60), task).await;
        let written = lines.written.load(Ordering::SeqCst);
        assert!(
            done.is_ok(),
            "{written} of {} were written",
            STREAMS * LINES
        );
    }
}
