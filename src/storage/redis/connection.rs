//! Connections to the servers: one for each runtime, made when it is first needed and again after it broke.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, PushInfo, RedisError, ServerErrorKind};
use tokio::runtime::{Handle, Id};
use tokio::sync::mpsc::UnboundedSender;

use crate::clock::{Clock, Timestamp};
use crate::storage::error::StorageError;
use crate::storage::redis::door::{Connection, Door};

/// After a connection could not be made, nobody tries again for so long.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// The connections to the servers.
///
/// What drives a connection lives on the runtime that made it, and ends with it: each worker has one of its own.
pub(crate) struct Connections {
    door: Arc<Door>,
    clock: Clock,
    of_runtimes: Mutex<HashMap<Id, Arc<Line>>>,
}

/// After so many calls in a row whose callers would not wait any longer, a connection is taken for stuck: what came out
/// of it may have been the start of an answer that never ends.
const MOST_UNANSWERED: u32 = 3;

/// The connection of one runtime; whoever finds none makes it, and the others wait for that.
#[derive(Default)]
struct Line {
    state: Arc<tokio::sync::Mutex<State>>,
    /// Calls since the last answer.
    unanswered: AtomicU32,
}

#[derive(Default)]
struct State {
    open: Option<Connection>,
    /// Tells a connection from its successor.
    number: u64,
    failed: Option<Timestamp>,
}

/// A connection as it is lent to one call.
pub(crate) struct Lent {
    pub(crate) connection: Connection,
    line: Arc<Line>,
    number: u64,
    /// How many wait for what it is lent for.
    callers: u32,
    /// A server that does not take writes may have a successor.
    leaves_read_only: bool,
    answered: AtomicBool,
}

impl Connections {
    pub(crate) fn new(door: Door) -> Self {
        Self { door: Arc::new(door), clock: Clock::system(), of_runtimes: Mutex::default() }
    }

    pub(crate) fn are_to_one_server(&self) -> bool {
        !matches!(*self.door, Door::Cluster(..))
    }

    /// The connection of this runtime.
    pub(crate) async fn lend(&self) -> Result<Lent, StorageError> {
        let runtime = Handle::try_current().map_err(|error| {
            StorageError::with_source("Redis is asked within a Tokio runtime only", error)
        })?;
        let line = {
            let mut lines = self.of_runtimes.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(lines.entry(runtime.id()).or_default())
        };
        let mut state = Arc::clone(&line.state).lock_owned().await;
        if line.unanswered.load(Relaxed) >= MOST_UNANSWERED {
            state.open = None;
        }
        if let Some(connection) = state.open.clone() {
            let number = state.number;
            drop(state);
            return Ok(self.lent(connection, line, number));
        }
        let now = self.clock.at();
        if state.failed.is_some_and(|failed| now.since(failed) < TRY_AGAIN_AFTER) {
            return Err(StorageError::new("Redis could not be reached a moment ago"));
        }
        // Should it be lost with its runtime, the next one has to wait a moment too.
        state.failed = Some(now);
        let (door, clock, waiting) = (Arc::clone(&self.door), self.clock.clone(), Arc::clone(&line));
        // In a task of its own: it may take longer than its callers wait, and they would end it each time.
        let connecting = tokio::spawn(async move {
            match door.connect().await {
                Ok(connection) => {
                    state.failed = None;
                    state.number += 1;
                    state.open = Some(connection.clone());
                    waiting.unanswered.store(0, Relaxed);
                    Ok((connection, state.number))
                }
                Err(error) => {
                    state.failed = Some(clock.at());
                    Err(StorageError::with_source("Redis cannot be reached", error))
                }
            }
        });
        let lost = |error| StorageError::with_source("the runtime ended while Redis was connected", error);
        let (connection, number) = connecting.await.map_err(lost)??;
        Ok(self.lent(connection, line, number))
    }

    /// A connection for news to the server that has `key`.
    pub(crate) async fn listen(
        &self,
        key: &str,
        news: UnboundedSender<PushInfo>,
    ) -> Result<MultiplexedConnection, StorageError> {
        self.door
            .listen(key, news)
            .await
            .map_err(|error| StorageError::with_source("Redis cannot be listened to", error))
    }

    fn lent(&self, connection: Connection, line: Arc<Line>, number: u64) -> Lent {
        let leaves_read_only = self.door.may_lead_elsewhere();
        Lent { connection, line, number, callers: 1, leaves_read_only, answered: AtomicBool::new(false) }
    }
}

impl Lent {
    /// It is lent to so many at once.
    pub(crate) fn speaks_for(&mut self, callers: usize) {
        self.callers = u32::try_from(callers).unwrap_or(u32::MAX);
    }

    /// The outcome of a call; a connection that broke on it is not lent again.
    pub(crate) async fn outcome<T>(&self, outcome: Result<T, RedisError>) -> Result<T, StorageError> {
        self.answered.store(true, Relaxed);
        self.line.unanswered.store(0, Relaxed);
        match outcome {
            Ok(value) => Ok(value),
            Err(error) => {
                // An answer of another kind than the question's is hardly its answer.
                let is_other = error.kind() == ErrorKind::UnexpectedReturnType;
                let is_demoted =
                    self.leaves_read_only && error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly);
                if error.is_unrecoverable_error() || error.is_timeout() || is_other || is_demoted {
                    self.give_up().await;
                }
                Err(StorageError::with_source("Redis did not do what it was asked", error))
            }
        }
    }

    /// The connection gave an answer to another question: nothing that comes out of it can be trusted any more.
    pub(crate) async fn out_of_step(&self) -> StorageError {
        self.give_up().await;
        StorageError::new("a connection to Redis was out of step")
    }

    async fn give_up(&self) {
        let mut state = self.line.state.lock().await;
        if state.number == self.number {
            state.open = None;
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if !self.answered.load(Relaxed) {
            self.line.unanswered.fetch_add(self.callers, Relaxed);
        }
    }
}
