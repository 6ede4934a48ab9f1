//! Lookups: those of a turn in one pipeline, and what becomes of the answers.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use futures_util::future::{join, join_all, select};
use redis::{Cmd, Pipeline, RedisResult, Value};
use tokio::runtime::Handle;

use crate::fence::{FenceId, Stamp};
use crate::key::CacheKey;
use crate::storage::error::StorageError;
use crate::storage::interface::Lookup;
use crate::storage::redis::calls::{Calls, in_step, read_times, with_echo};
use crate::storage::redis::connection::Lent;
use crate::storage::redis::door::Connection;
use crate::storage::redis::gathering::{Asked, Duty, Gathering};
use crate::storage::redis::known::{Address, Known, Read, Seen};
use crate::storage::redis::times::{Question, Standing, Times};

/// Looks entries up.
pub(crate) struct Lookups {
    calls: Arc<Calls>,
    gathering: Arc<Gathering>,
    known: Known,
    /// The fence clock as it was read last.
    clock: AtomicU64,
}

/// What is in the place of an entry.
enum Held {
    Nothing,
    Entry(Arc<Seen>),
    Damaged,
    Error(StorageError),
}

impl Lookups {
    pub(crate) fn new(calls: Arc<Calls>) -> Self {
        let gathering = Arc::new(Gathering::new(calls.connections.are_to_one_server()));
        Self { calls, gathering, known: Known::default(), clock: AtomicU64::new(0) }
    }

    pub(crate) async fn look_up(self: &Arc<Self>, key: &CacheKey) -> Result<Lookup, StorageError> {
        let runtime = Handle::try_current().map_err(|error| {
            StorageError::with_source("Redis is asked within a Tokio runtime only", error)
        })?;
        let find = || match self.known.get(key) {
            Some(seen) => (Arc::clone(&seen.address), Some(seen)),
            None => (Arc::new(Address::new(key, &self.calls.names)), None),
        };
        let (place, duty) = self.gathering.join(runtime.id(), key, find);
        if let Some(duty) = duty {
            // In a task of its own: it runs when those have had their turn who are ready to look up too, and goes on for
            // the others when one of them is given up.
            runtime.spawn(Arc::clone(self).send(duty));
        }
        place.answer().await
    }

    async fn send(self: Arc<Self>, mut duty: Duty) {
        let lent = self.calls.connections.lend().await;
        let asked = duty.close();
        match lent {
            Ok(mut lent) => {
                lent.speaks_for(asked.iter().map(Asked::waiting).sum());
                if !asked.is_empty() {
                    let answering = pin!(self.answer(lent, asked));
                    select(answering, pin!(duty.is_pointless())).await;
                }
            }
            Err(error) => answer_all(asked, &Err(error)),
        }
    }

    async fn answer(&self, mut lent: Lent, asked: Vec<Asked>) {
        let (times, values) = match self.ask(&mut lent, &asked).await {
            Ok(answers) => answers,
            Err(error) => return answer_all(asked, &Err(error)),
        };
        let Some(times) = times else {
            // Nothing that is there can be trusted: its fences are gone.
            let clock = self.calls.move_clock(&[]).await;
            return answer_all(asked, &clock.map(|stamp| Lookup { entry: None, stamp }));
        };
        self.clock.store(times.clock.0, Relaxed);
        let miss = || Ok(Lookup { entry: None, stamp: times.clock });
        let (mut damaged, mut in_doubt) = (Vec::new(), Vec::new());
        for (asked, value) in asked.into_iter().zip(values) {
            match self.read(&lent, &asked, value).await {
                Held::Nothing => asked.answer(miss()),
                Held::Damaged => damaged.push(asked),
                Held::Error(error) => asked.answer(Err(error)),
                Held::Entry(seen) => match seen.standing(&times) {
                    Standing::Stands => {
                        let entry = Some(Arc::clone(&seen.entry));
                        asked.answer(Ok(Lookup { entry, stamp: times.clock }));
                    }
                    Standing::Dropped => asked.answer(miss()),
                    Standing::Unknown => in_doubt.push((asked, seen)),
                },
            }
        }
        if damaged.is_empty() && in_doubt.is_empty() {
            return;
        }
        let delete = join_all(damaged.into_iter().map(|asked| async {
            // Before anybody hears of it: what is told to be missing is gone.
            let _ = self.calls.delete(&asked.address.name).await;
            asked.answer(miss());
        }));
        join(delete, self.resolve(&times, in_doubt)).await;
    }

    /// Asks for the fences of entries that have more than their keys tell: tags, and names that a handler chose.
    async fn resolve(&self, first: &Times, in_doubt: Vec<(Asked, Arc<Seen>)>) {
        if in_doubt.is_empty() {
            return;
        }
        // All of them: a fence may have become the wider one around it since.
        let fences = in_doubt.iter().flat_map(|(_, seen)| &*seen.fences).copied().collect();
        let times = self.calls.times(fences).await;
        for (asked, seen) in in_doubt {
            let stamp = first.clock;
            let outcome = match &times {
                Ok(Some(times)) if seen.standing(times) == Standing::Stands => {
                    Ok(Lookup { entry: Some(Arc::clone(&seen.entry)), stamp })
                }
                Ok(_) => Ok(Lookup { entry: None, stamp }),
                Err(error) => Err(error.clone()),
            };
            asked.answer(outcome);
        }
    }

    /// What a value is; what it says is known from then on.
    async fn read(&self, lent: &Lent, asked: &Asked, value: RedisResult<Value>) -> Held {
        let key = &asked.address.key;
        let bytes = match value {
            Ok(Value::BulkString(bytes)) => bytes,
            Ok(_) => {
                if asked.seen.is_some() {
                    self.known.forget(key);
                }
                return Held::Nothing;
            }
            // A key of another type is not ours, and in our place.
            Err(error) if error.code() == Some("WRONGTYPE") => return Held::Damaged,
            Err(error) => {
                return match lent.outcome::<Held>(Err(error)).await {
                    Ok(held) => held,
                    Err(error) => Held::Error(error),
                };
            }
        };
        if let Some(seen) = asked.seen.as_ref().filter(|seen| seen.is_said_by(&bytes)) {
            return Held::Entry(Arc::clone(seen));
        }
        match Seen::read(&asked.address, bytes) {
            Read::Entry(seen) => {
                self.known.keep(Arc::clone(&seen));
                Held::Entry(seen)
            }
            Read::Another => Held::Nothing,
            Read::Damaged => {
                self.known.forget(key);
                Held::Damaged
            }
        }
    }

    /// The times of all fences that are known before, and what is under each name.
    async fn ask(
        &self,
        lent: &mut Lent,
        asked: &[Asked],
    ) -> Result<(Option<Times>, Vec<RedisResult<Value>>), StorageError> {
        // Hardly any of them where nothing is invalidated for a while. If something was just now, they are asked for later.
        let clock = Stamp(self.clock.load(Relaxed));
        let question =
            Question::new(asked.iter().flat_map(|asked| open_fences(asked, clock)).copied().collect());
        let of_fences = question.command(&self.calls.names.fences);
        let names = asked.iter().map(|asked| &asked.address.name);
        let (times, values) = match &lent.connection {
            Connection::Server(server) => {
                let (mut server, word) = (server.clone(), self.calls.word());
                let mut call = Pipeline::with_capacity(asked.len() + 2);
                call.add_command(of_fences);
                for name in names {
                    call.add_command(get(name));
                }
                call.cmd("ECHO").arg(&word);
                let outcome = server.send_packed_commands(&call, 0, asked.len() + 2).await;
                let mut values = lent.outcome(outcome).await?;
                let echo = lent.outcome(values.pop().unwrap_or(Value::Nil).extract_error()).await?;
                if echo != Value::BulkString(word.into_bytes()) || values.len() != asked.len() + 1 {
                    return Err(lent.out_of_step().await);
                }
                let mut values = values.into_iter();
                (values.next().unwrap_or(Value::Nil), values.map(Value::extract_error).collect())
            }
            // They are on several nodes.
            Connection::Cluster(cluster) => {
                let call = |command| {
                    let (mut cluster, word) = (cluster.clone(), self.calls.word());
                    async move {
                        let outcome = with_echo(command, &word).query_async(&mut cluster).await;
                        (outcome, word)
                    }
                };
                let calls = names.map(|name| call(get(name)));
                let ((times, word), outcomes) = join(call(of_fences), join_all(calls)).await;
                let times = in_step(lent, times, &word).await?;
                let mut values = Vec::with_capacity(outcomes.len());
                for (value, word) in outcomes {
                    values.push(in_step(lent, value, &word).await?);
                }
                (lent.outcome(times).await?, values)
            }
        };
        if values.iter().any(|value| !matches!(value, Ok(Value::Nil | Value::BulkString(_)) | Err(_))) {
            return Err(lent.out_of_step().await);
        }
        Ok((read_times(lent, question, times).await?, values))
    }
}

fn get(name: &str) -> Cmd {
    let mut command = Cmd::with_capacity(2, 3 + name.len());
    command.arg("GET").arg(name);
    command
}

/// The fences of a key, and those of the entry that it had when it was asked for last; none if they are known to say
/// nothing against it where the clock stands so.
fn open_fences(asked: &Asked, clock: Stamp) -> &[FenceId] {
    match &asked.seen {
        Some(seen) if seen.is_sound_at(clock) => &[],
        Some(seen) => &seen.fences,
        None => &asked.address.fences,
    }
}

fn answer_all(asked: Vec<Asked>, outcome: &Result<Lookup, StorageError>) {
    for asked in asked {
        asked.answer(outcome.clone());
    }
}
