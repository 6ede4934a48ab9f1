//! Calls to the servers that lookups and invalidations share.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use redis::{Cmd, Pipeline, RedisResult, Script, Value};

use crate::fence::{Fence, FenceId, Stamp};
use crate::storage::error::StorageError;
use crate::storage::redis::connection::{Connections, Lent};
use crate::storage::redis::names::{Names, fence};
use crate::storage::redis::times::{NoTimes, Question, Times};
use crate::storage::redis::value::millis;

/// Fences outlive every entry that is older than they are.
pub(crate) const FENCES_LIVE: Duration = Duration::from_secs(8 * 24 * 3600);
/// More fences than these are folded into those around them.
const MOST_FENCES: usize = 65_536;

static RAISE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("raise.lua")));

/// The connections to the servers, the names under which things are there, and the words that calls are known by.
pub(crate) struct Calls {
    pub(crate) connections: Connections,
    pub(crate) names: Names,
    words: AtomicU64,
}

impl Calls {
    pub(crate) fn new(connections: Connections, names: Names) -> Self {
        Self { connections, names, words: AtomicU64::new(0) }
    }

    /// A word to be echoed. Calls share a connection, and answers have no names: one that is lost or doubled on the way
    /// would give each call another one's answer, for good. Whatever an answer rests on comes with the call's own word.
    pub(crate) fn word(&self) -> String {
        self.words.fetch_add(1, Relaxed).to_string()
    }

    /// The fence clock and the times of these fences; none if there is no clock.
    pub(crate) async fn times(&self, fences: Vec<FenceId>) -> Result<Option<Times>, StorageError> {
        let (question, word) = (Question::new(fences), self.word());
        let call = with_echo(question.command(&self.names.fences), &word);
        let mut lent = self.connections.lend().await?;
        let outcome = call.query_async(&mut lent.connection).await;
        let times = in_step(&lent, outcome, &word).await?;
        let times = lent.outcome(times).await?;
        read_times(&lent, question, times).await
    }

    /// Raises fences, or makes the clock; tells the time.
    pub(crate) async fn move_clock(&self, fences: &[Fence]) -> Result<Stamp, StorageError> {
        let (names, word) = (&self.names, self.word());
        let mut call = RAISE.key(&names.fences);
        call.key(&names.within)
            .arg(millis(FENCES_LIVE))
            .arg(MOST_FENCES)
            .arg(fence(FenceId::ALL).as_slice())
            .arg(&word);
        call.arg(&names.news);
        for raised in fences {
            call.arg(fence(raised.id).as_slice()).arg(fence(raised.within).as_slice());
        }
        let mut lent = self.connections.lend().await?;
        let outcome = call.invoke_async::<(u64, String)>(&mut lent.connection).await;
        match lent.outcome(outcome).await? {
            (clock, echo) if echo == word => Ok(Stamp(clock)),
            _ => Err(lent.out_of_step().await),
        }
    }

    /// Removes what is under a name; tells whether there was something.
    pub(crate) async fn delete(&self, name: &str) -> Result<bool, StorageError> {
        let mut lent = self.connections.lend().await?;
        let outcome = redis::cmd("DEL").arg(name).query_async::<u64>(&mut lent.connection).await;
        Ok(lent.outcome(outcome).await? > 0)
    }
}

/// A call, and a word to be echoed.
pub(crate) fn with_echo(call: Cmd, word: &str) -> Pipeline {
    let mut pipeline = Pipeline::with_capacity(2);
    pipeline.add_command(call).cmd("ECHO").arg(word);
    pipeline.ignore_errors();
    pipeline
}

/// An answer that came with the word that it was to come with.
pub(crate) async fn in_step<T>(
    lent: &Lent,
    outcome: RedisResult<(T, RedisResult<String>)>,
    word: &str,
) -> Result<T, StorageError> {
    let (answer, echo) = lent.outcome(outcome).await?;
    if lent.outcome(echo).await? == word { Ok(answer) } else { Err(lent.out_of_step().await) }
}

/// What an answer says of fences.
pub(crate) async fn read_times(
    lent: &Lent,
    question: Question,
    answer: Value,
) -> Result<Option<Times>, StorageError> {
    match question.read(answer) {
        Ok(times) => Ok(times),
        Err(NoTimes::Error(error)) => lent.outcome(Err(error)).await,
        Err(NoTimes::OutOfStep) => Err(lent.out_of_step().await),
    }
}
