//! Fills under way: one leader per key, over all workers, and those who wait for it.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::hash::BuildHasherDefault;
use std::pin::{Pin, pin};
use std::sync::atomic::{
    AtomicU64, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::sync::Notify;
use tokio::time::Sleep;

use crate::clock::Timestamp;
use crate::key::CacheKey;
use crate::key_hash::IsHash;
use crate::stored::entry::{Entry, Selector};
use crate::stored::response::StoredResponse;

/// How a flight ended.
#[derive(Clone)]
pub(crate) enum Landing {
    /// The answer is stored; here it is, whatever the storage thinks of it.
    Stored(Landed),
    /// The answer is for the leader only: everybody runs on their own, at once and not one after the other.
    Alone,
    /// Nothing was run: what the leader wanted is stored after all.
    Found,
}

/// A stored answer as it is handed to followers.
#[derive(Clone)]
pub(crate) struct Landed {
    pub(crate) entry: Arc<Entry>,
    pub(crate) response: Arc<StoredResponse>,
    /// The leader's own key.
    pub(crate) own: CacheKey,
    /// The key and the request fields that selected it; it is for those only who select it too.
    pub(crate) selector: Option<(CacheKey, Selector)>,
}

/// What a request is to a flight.
pub(crate) enum Role {
    /// It runs the handler; the token must end in [`Lead::land`], or its drop tells everybody to look again.
    Lead(Lead),
    /// It waits.
    Follow(Follower),
    /// Enough are waiting.
    Crowded,
}

/// How long a leader may take before it is given up, and how many may wait for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) leader: Duration,
    pub(crate) followers: usize,
}

#[derive(Default)]
pub(crate) struct Flights {
    under_way: Mutex<HashMap<CacheKey, Arc<Flight>, BuildHasherDefault<IsHash>>>,
    next_id: AtomicU64,
    ended: AtomicU64,
}

/// Tells a flight from its successors under the same key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FlightId(u64);

struct Flight {
    id: FlightId,
    began: Timestamp,
    followers: AtomicUsize,
    state: Mutex<State>,
    /// Rung once the flight has landed, or its leader is gone.
    bell: Notify,
}

enum State {
    UnderWay,
    Landed(Landing),
    /// Without a landing.
    Lost,
}

impl Flight {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, state: State) {
        *self.state() = state;
        self.bell.notify_waiters();
    }

    fn outcome(&self) -> Option<Woken> {
        match &*self.state() {
            State::UnderWay => None,
            State::Landed(landing) => Some(Woken::By(landing.clone())),
            State::Lost => Some(Woken::Lost),
        }
    }
}

impl Flights {
    /// Leads a fill of this key, or follows the one under way.
    ///
    /// `in_vain` is a flight that was followed and brought nothing of use: it is not followed again while it ends.
    pub(crate) fn join(
        self: &Arc<Self>,
        key: &CacheKey,
        now: Timestamp,
        limits: Limits,
        in_vain: Option<FlightId>,
    ) -> Role {
        let mut under_way = self.lock();
        match under_way.entry(key.clone()) {
            Slot::Occupied(flight)
                if now.since(flight.get().began) < limits.leader && Some(flight.get().id) != in_vain =>
            {
                let flight = flight.get();
                if flight.followers.fetch_add(1, Relaxed) >= limits.followers {
                    flight.followers.fetch_sub(1, Relaxed);
                    return Role::Crowded;
                }
                Role::Follow(Follower(Arc::clone(flight)))
            }
            slot => {
                let flight = Arc::new(Flight {
                    id: FlightId(self.next_id.fetch_add(1, Relaxed)),
                    began: now,
                    followers: AtomicUsize::new(0),
                    state: Mutex::new(State::UnderWay),
                    bell: Notify::new(),
                });
                slot.insert_entry(Arc::clone(&flight));
                Role::Lead(Lead { flights: Arc::clone(self), key: key.clone(), flight })
            }
        }
    }

    /// Counts the flights that have ended: while it stands, what a lookup did not find was not stored since.
    pub(crate) fn ended(&self) -> u64 {
        self.ended.load(Acquire)
    }

    /// The id that the next flight has or exceeds: a flight that does not precede it began later than now.
    pub(crate) fn next(&self) -> FlightId {
        FlightId(self.next_id.load(Acquire))
    }

    /// How many fills are under way.
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<CacheKey, Arc<Flight>, BuildHasherDefault<IsHash>>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The duty to end a flight. Dropped without [`land`](Self::land), the flight is lost: one follower leads anew.
pub(crate) struct Lead {
    flights: Arc<Flights>,
    key: CacheKey,
    flight: Arc<Flight>,
}

impl Lead {
    /// Tells the followers; the flight stays joinable until the token is dropped, so that nobody slips between the
    /// news and the storage.
    pub(crate) fn land(&self, landing: Landing) {
        self.flight.end(State::Landed(landing));
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        {
            let mut under_way = self.flights.lock();
            // A leader that was given up finds its successor in its place.
            if under_way.get(&self.key).is_some_and(|flight| Arc::ptr_eq(flight, &self.flight)) {
                under_way.remove(&self.key);
            }
        }
        self.flights.ended.fetch_add(1, Release);
        if matches!(*self.flight.state(), State::UnderWay) {
            self.flight.end(State::Lost);
        }
    }
}

/// A place in the queue of a flight.
pub(crate) struct Follower(Arc<Flight>);

/// Why a follower stopped waiting.
pub(crate) enum Woken {
    By(Landing),
    /// The leader is gone: cancelled, or panicked.
    Lost,
    TimedOut,
}

impl Follower {
    pub(crate) fn flight(&self) -> FlightId {
        self.0.id
    }

    /// Waits until the flight ends, or until the patience that all waits of a request share.
    pub(crate) async fn wait(self, patience: Pin<&mut Sleep>) -> Woken {
        let ended = pin!(async {
            loop {
                // Before the look: whoever lands after it rings this one.
                let rung = self.0.bell.notified();
                if let Some(outcome) = self.0.outcome() {
                    return outcome;
                }
                rung.await;
            }
        });
        match select(ended, patience).await {
            Either::Left((outcome, _)) => outcome,
            Either::Right(_) => Woken::TimedOut,
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.followers.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{KeyWriter, Part};

    const LIMITS: Limits = Limits { leader: Duration::from_secs(30), followers: 2 };

    fn key(name: &str) -> CacheKey {
        let mut writer = KeyWriter::new(b"");
        writer.part(Part::Name, name.as_bytes());
        writer.finish()
    }

    fn lead(flights: &Arc<Flights>, now: Timestamp) -> Lead {
        match flights.join(&key("k"), now, LIMITS, None) {
            Role::Lead(lead) => lead,
            _ => panic!("not the leader"),
        }
    }

    fn follow(flights: &Arc<Flights>, now: Timestamp) -> Follower {
        match flights.join(&key("k"), now, LIMITS, None) {
            Role::Follow(follower) => follower,
            _ => panic!("not a follower"),
        }
    }

    async fn wait(follower: Follower) -> Woken {
        follower.wait(pin!(tokio::time::sleep(Duration::from_secs(5)))).await
    }

    #[actix_web::test]
    async fn a_lost_leader_wakes_everybody_and_leaves_no_residue() {
        let (flights, now) = (Arc::new(Flights::default()), Timestamp::default());
        let leader = lead(&flights, now);
        let follower = follow(&flights, now);
        drop(leader);
        assert!(matches!(wait(follower).await, Woken::Lost));
        assert_eq!(flights.len(), 0);
    }

    #[actix_web::test]
    async fn what_landed_reaches_those_who_join_before_the_token_is_dropped() {
        let (flights, now) = (Arc::new(Flights::default()), Timestamp::default());
        let leader = lead(&flights, now);
        leader.land(Landing::Alone);
        let late = follow(&flights, now);
        drop(leader);
        assert!(matches!(wait(late).await, Woken::By(Landing::Alone)));
    }

    #[test]
    fn a_leader_past_its_age_is_replaced_and_does_not_take_its_successor_along() {
        let (flights, now) = (Arc::new(Flights::default()), Timestamp::default());
        let hung = lead(&flights, now);
        let later = now.plus(LIMITS.leader);
        let _successor = lead(&flights, later);
        drop(hung);
        let _follower = follow(&flights, later);
    }

    #[test]
    fn the_queue_is_bounded_and_leaving_makes_room() {
        let (flights, now) = (Arc::new(Flights::default()), Timestamp::default());
        let _leader = lead(&flights, now);
        let first = follow(&flights, now);
        let _second = follow(&flights, now);
        assert!(matches!(flights.join(&key("k"), now, LIMITS, None), Role::Crowded));
        drop(first);
        let _third = follow(&flights, now);
    }

    #[actix_web::test]
    async fn followers_on_other_threads_are_woken() {
        let (flights, now) = (Arc::new(Flights::default()), Timestamp::default());
        let leader = lead(&flights, now);
        let follower = follow(&flights, now);
        let thread = std::thread::spawn(move || leader.land(Landing::Alone));
        assert!(matches!(wait(follower).await, Woken::By(Landing::Alone)));
        thread.join().expect("no panic");
    }

    #[test]
    fn a_flight_followed_in_vain_is_not_followed_again_while_it_ends() {
        let (flights, now) = (Arc::new(Flights::default()), Timestamp::default());
        let ending = lead(&flights, now);
        ending.land(Landing::Alone);
        let in_vain = follow(&flights, now).flight();
        let successor = match flights.join(&key("k"), now, LIMITS, Some(in_vain)) {
            Role::Lead(lead) => lead,
            _ => panic!("not the leader"),
        };
        drop(ending);
        assert_eq!((flights.len(), flights.ended()), (1, 1));
        let _follower = follow(&flights, now);
        drop(successor);
        assert_eq!((flights.len(), flights.ended()), (0, 2));
    }
}
