//! The newest update of one node, and who follows it. A change wakes a thousand streams, so following costs an
//! atomic number and a waker, no future that is made anew for each change.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use futures_util::task::AtomicWaker;

use super::Update;

/// What a node is sent now.
#[derive(Debug)]
pub struct Latest {
    /// Of the update, for who only asks whether it is another one.
    number: AtomicU64,
    update: Mutex<Update>,
    followers: Mutex<Vec<Arc<AtomicWaker>>>,
}

impl Latest {
    pub(super) fn new(first: Update) -> Arc<Self> {
        Arc::new(Self {
            number: AtomicU64::new(first.number),
            update: Mutex::new(first),
            followers: Mutex::default(),
        })
    }

    /// Number of the newest update.
    pub fn number(&self) -> u64 {
        self.number.load(Ordering::Acquire)
    }

    /// The newest update.
    pub fn update(&self) -> Update {
        lock(&self.update).clone()
    }

    /// Puts an update in the place of the one before and wakes who follows, where its view is another one.
    pub(super) fn put(&self, next: Update) {
        let mut update = lock(&self.update);
        if update.view.is_the_same_as(&next.view) {
            return;
        }
        let number = next.number;
        *update = next;
        self.number.store(number, Ordering::Release);
        drop(update);
        self.wake();
    }

    /// Lets who follows look around.
    pub(super) fn wake(&self) {
        for follower in lock(&self.followers).iter() {
            follower.wake();
        }
    }

    /// Follows what comes after the update that is given too.
    pub(super) fn follow(self: &Arc<Self>) -> (Update, Follower) {
        let update = self.update();
        let waker = Arc::<AtomicWaker>::default();
        lock(&self.followers).push(Arc::clone(&waker));
        let follower = Follower {
            seen: update.number,
            latest: Arc::clone(self),
            waker,
        };
        (update, follower)
    }
}

/// One stream's end.
#[derive(Debug)]
pub struct Follower {
    latest: Arc<Latest>,
    seen: u64,
    waker: Arc<AtomicWaker>,
}

impl Follower {
    /// The newest update, once for each. The task is woken when there is another one, and when it should look around
    /// ([`Publisher::wake`](super::Publisher::wake)).
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Update> {
        // Before the look, so that nothing comes between the two.
        self.waker.register(context.waker());
        if self.latest.number() == self.seen {
            return Poll::Pending;
        }
        let update = self.latest.update();
        self.seen = update.number;
        Poll::Ready(update)
    }

    /// What it follows.
    pub fn latest(&self) -> &Arc<Latest> {
        &self.latest
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        lock(&self.latest.followers).retain(|waker| !Arc::ptr_eq(waker, &self.waker));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{future::poll_fn, time::Duration};

    use tokio::time::{Instant, timeout};

    use super::*;
    use crate::resource::{Resource, ResourceType, View};

    /// An update with something in it that no other number has.
    pub(crate) fn update(number: u64) -> Update {
        let kind = ResourceType::Cluster;
        let resource = Resource::new(kind, "a", &number.to_string(), b"");
        Update {
            view: Arc::new(View::new(vec![(kind, Arc::new(resource))])),
            since: Instant::now(),
            number,
        }
    }

    pub(crate) fn latest(number: u64) -> Arc<Latest> {
        Latest::new(update(number))
    }

    pub(crate) fn put(latest: &Latest, number: u64) {
        latest.put(update(number));
    }

    #[tokio::test]
    async fn a_follower_is_woken_and_sees_the_newest_once() {
        let latest = latest(1);
        let (first, mut follower) = latest.follow();
        assert_eq!(first.number, 1);
        let mut at_once = Context::from_waker(std::task::Waker::noop());
        assert!(follower.poll_next(&mut at_once).is_pending());
        put(&latest, 2);
        put(&latest, 3);
        let Poll::Ready(seen) = follower.poll_next(&mut at_once) else {
            panic!("there is a newer one");
        };
        assert_eq!(seen.number, 3);
        assert!(follower.poll_next(&mut at_once).is_pending());

        let waiting = tokio::spawn(async move {
            let update = poll_fn(|context| follower.poll_next(context)).await;
            (update.number, follower)
        });
        tokio::task::yield_now().await;
        put(&latest, 4);
        let woken = timeout(Duration::from_secs(60), waiting).await;
        let (number, follower) = woken.expect("it is woken").unwrap();
        assert_eq!(number, 4);
        drop(follower);
        assert!(lock(&latest.followers).is_empty());
    }

    #[test]
    fn a_view_that_is_the_same_is_no_update() {
        let latest = latest(1);
        let same = Update {
            number: 2,
            ..latest.update()
        };
        latest.put(same);
        assert_eq!(latest.number(), 1);
    }
}
