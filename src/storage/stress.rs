//! The clauses of the contract that take many calls: floods of fences, many tasks, cancelled calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use futures_util::future::{self, Either};

use crate::fence::{Fence, FenceId, Stamp};
use crate::storage::interface::Storage;
use crate::storage::trial::{Family, Trial, response};
use crate::storage::violation::{Clause, Violation};
use crate::stored::entry::Entry;

/// More fences than any storage should keep, in batches that any protocol takes.
async fn flood<S: Storage>(trial: &Trial<S>, fence: impl Fn(FenceId) -> Fence) -> Result<(), Violation> {
    const FENCES: u64 = 200_000;
    const BATCH: u64 = 1_000;
    let run = FenceId::of(b"flood", trial.name().as_bytes());
    let [first_half @ .., _, _, _, _, _, _, _, _] = run.0;
    for batch in 0..FENCES / BATCH {
        let fences: Vec<Fence> = (batch * BATCH..(batch + 1) * BATCH)
            .map(|number| {
                let mut id = [0; 16];
                let bytes = first_half.into_iter().chain(number.to_le_bytes());
                id.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
                fence(FenceId(id))
            })
            .collect();
        trial.raise(&fences).await?;
    }
    Ok(())
}

pub(crate) async fn many_fences<S: Storage>(trial: &Trial<S>) -> Result<(), Violation> {
    let family = trial.family();
    let mut old: Vec<(Arc<Entry>, Family)> = Vec::new();
    for way in 0..4 {
        let own = if way == 0 { family.clone() } else { trial.family() };
        for entry in trial.plant(&own).await? {
            let raised: Vec<Fence> =
                own.ways(entry.key()).into_iter().skip(way).take(1).map(|(_, fence)| fence).collect();
            trial.raise(&raised).await?;
            old.push((entry, own.clone()));
        }
    }
    let other = trial.family();
    for flooded in 0..2 {
        match flooded {
            0 => flood(trial, |id| family.narrow(id)).await?,
            _ => {
                flood(trial, |id| {
                    if id.0[8] % 2 == 0 { other.narrow(id) } else { Fence { id, within: FenceId::ALL } }
                })
                .await?
            }
        }
        for (entry, own) in &old {
            trial.gone(entry.key(), "was invalidated before many others were").await?;
            trial.put(entry).await?;
            trial.gone(entry.key(), "was invalidated before many others were, and put late").await?;
            let current = trial.current(entry.stamp(), &own.fences(entry.key())).await?;
            trial.require(current == [false; 3], || {
                "is_current forgot an invalidation after many others".to_owned()
            })?;
        }
    }
    trial.plant(&family).await.map(drop)
}

pub(crate) async fn folds_within<S: Storage>(trial: &Trial<S>) -> Result<(), Violation> {
    let (flooded, other) = (trial.family(), trial.family());
    let key = other.key(&trial.name());
    let stamp = trial.stamp().await?;
    flood(trial, |id| flooded.narrow(id)).await?;
    let current = trial.current(stamp, &other.fences(&key)).await?;
    trial.require(current == [true; 3], || {
        "many invalidations in one namespace dropped what is in another".to_owned()
    })
}

/// A fill reads its stamp, then the generation; a raise ends the generation, then raises. So a fill of a generation
/// that had ended when a raise began carries a stamp from before it.
#[derive(Default)]
struct Generations {
    current: AtomicU64,
    /// Everything before this one is invalidated, and that was told.
    first_alive: AtomicU64,
}

pub(crate) async fn concurrency<S: Storage>(trial: &Trial<S>) -> Result<(), Violation> {
    const TURNS: usize = 300;
    let family = trial.family();
    let key = family.key(&trial.name());
    let generations = Arc::new(Generations::default());
    let mut tasks = Vec::new();
    if tokio::runtime::Handle::try_current().is_err() {
        return trial.broken("the suite has to run inside a tokio runtime");
    }
    for task in 0..9_u64 {
        let mut dice = task;
        let (writer, reader, raiser) =
            (Arc::clone(&trial.writer), Arc::clone(&trial.reader), Arc::clone(&trial.raiser));
        let (generations, family, key) = (Arc::clone(&generations), family.clone(), key.clone());
        let template = trial.entry(&family, &key, Stamp::default(), "");
        tasks.push(tokio::spawn(async move {
            let failed = |error| Violation::failed(Clause::Concurrency, "a call", error);
            for turn in 0..TURNS {
                match task % 3 {
                    0 => {
                        let on = if task == 0 { &writer } else { &reader };
                        let stamp = on.get(&key).await.map_err(failed)?.stamp;
                        let generation = generations.current.load(SeqCst);
                        tokio::task::yield_now().await;
                        let body = response(generation.to_be_bytes().to_vec());
                        let entry = Entry { stamp, content: body, ..template.clone() };
                        on.put(Arc::new(entry)).await.map_err(failed)?;
                    }
                    1 => {
                        let on = if task == 1 { &raiser } else { &writer };
                        let ended = generations.current.fetch_add(1, SeqCst);
                        let fence = family.ways(&key).into_iter().nth(turn % 5).map(|(_, fence)| fence);
                        on.raise(fence.as_slice()).await.map_err(failed)?;
                        generations.first_alive.fetch_max(ended + 1, SeqCst);
                    }
                    _ => {
                        let on = if task == 2 { &reader } else { &raiser };
                        let first_alive = generations.first_alive.load(SeqCst);
                        let at_once = on.get_now(&key).and_then(|lookup| lookup.entry);
                        let waited = on.get(&key).await.map_err(failed)?.entry;
                        for entry in at_once.into_iter().chain(waited) {
                            if generation(&entry).is_none_or(|generation| generation < first_alive) {
                                let how = "an entry was given after a raise that names it had returned";
                                return Err(Violation::new(Clause::Concurrency, how));
                            }
                        }
                    }
                }
                // Unevenly, so that the tasks do not run in one fixed order.
                dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                for _ in 0..(dice >> 60) % 4 {
                    tokio::task::yield_now().await;
                }
            }
            Ok(())
        }));
    }
    for task in tasks {
        match task.await {
            Ok(result) => result?,
            Err(_) => return trial.broken("the storage panicked"),
        }
    }
    trial.plant(&family).await.map(drop)
}

/// What the concurrent fills write into their bodies.
fn generation(entry: &Entry) -> Option<u64> {
    let body = entry.response()?.body();
    Some(u64::from_be_bytes(body.as_ref().try_into().ok()?))
}

pub(crate) async fn cancellation<S: Storage>(trial: &Trial<S>) -> Result<(), Violation> {
    let family = trial.family();
    for polls in 0..6 {
        for entry in trial.plant(&family).await? {
            let key = entry.key();
            let fences = [family.narrow(key.target_fence())];
            let next = Arc::new(trial.entry(&family, key, entry.stamp(), "next"));
            give_up(polls, trial.writer.get(key)).await;
            give_up(polls, trial.writer.put(Arc::clone(&next))).await;
            give_up(polls, trial.writer.is_current(entry.stamp(), entry.fences())).await;
            if let Some(found) = trial.find(&trial.writer, key).await?.entry {
                trial.require(found == entry || found == next, || {
                    "after a cancelled put, something else than either entry is there".to_owned()
                })?;
            }
            give_up(polls, trial.writer.remove(key)).await;
            give_up(polls, trial.raiser.raise(&fences)).await;
            trial.raise(&fences).await?;
            // A cancelled put may still end later: it carries a stamp from before.
            trial.gone(key, "was put before a raise of its target, among cancelled calls").await?;
        }
    }
    let after = "after cancelled calls nothing is kept";
    trial.plant(&family).await.map_err(|violation| violation.under(trial.clause, after)).map(drop)
}

/// Polls a call so often, as a deadline or a client that leaves does, and drops it.
async fn give_up<T>(polls: usize, call: impl Future<Output = T>) {
    let patience = async {
        for _ in 0..polls {
            tokio::task::yield_now().await;
        }
    };
    // Dropped unpolled at zero: the call is second.
    match future::select(std::pin::pin!(patience), std::pin::pin!(call)).await {
        Either::Left(_) | Either::Right(_) => {}
    }
}
