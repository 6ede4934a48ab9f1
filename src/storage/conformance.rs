//! A suite that checks the contract of [`Storage`] on any storage.
//!
//! It is for people who write their own, and the storages of this crate pass it too. Entries and fences have random
//! names, so that it may run on a storage that keeps what earlier runs left; it raises [`FenceId::ALL`], which
//! drops all the storage holds. A storage may forget at any time and still pass, unless it keeps nothing at all; give
//! it room for some hundred small entries.
//!
//! ```
//! use actix_fast_cache::MemoryStorage;
//! use actix_fast_cache::storage::conformance;
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), conformance::Violation> {
//! let storage = MemoryStorage::new();
//! conformance::check(async || storage.clone()).await?;
//! # Ok(())
//! # }
//! ```

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderName, HeaderValue};

use crate::fence::{Fence, FenceId, Stamp};
use crate::storage::interface::Storage;
use crate::storage::lease_trial::leases;
use crate::storage::stress::{cancellation, concurrency, folds_within, many_fences};
use crate::storage::trial::{Trial, response};
use crate::stored::entry::{Content, Entry, EntryFences, Selector, Varies};
use crate::stored::response::StoredResponse;

pub use crate::storage::violation::{Clause, Violation};

/// Checks every clause of the contract.
///
/// `open` gives a handle of one and the same storage each time it is called: a clone, or another connection. Runs
/// inside a tokio runtime; one with several threads finds more.
///
/// # Errors
/// The first clause that does not hold, and how. A call that fails breaks the clause it was made for.
pub async fn check<S: Storage>(open: impl AsyncFn() -> S) -> Result<(), Violation> {
    for clause in Clause::EVERY {
        check_clause(*clause, &open).await?;
    }
    Ok(())
}

/// Checks one clause of the contract; see [`check`].
///
/// # Errors
/// How it does not hold. It may be another clause that is found broken on the way.
pub async fn check_clause<S: Storage>(clause: Clause, open: impl AsyncFn() -> S) -> Result<(), Violation> {
    let trial = Trial::open(clause, &open).await;
    let result = match clause {
        Clause::Keeps => trial.plant(&trial.family()).await.map(drop),
        Clause::Whole => whole(&trial).await,
        Clause::OwnKey => own_key(&trial).await,
        Clause::Fences => fences(&trial).await,
        Clause::LatePut => late_put(&trial).await,
        Clause::OtherNames => other_names(&trial).await,
        Clause::IsCurrent => is_current(&trial).await,
        Clause::OlderFill => older_fill(&trial).await,
        Clause::Remove => remove(&trial).await,
        Clause::GetNow => get_now(&trial).await,
        Clause::Stamps => stamps(&trial).await,
        Clause::ManyFences => many_fences(&trial).await,
        Clause::FoldsWithin => folds_within(&trial).await,
        Clause::Leases => leases(&trial).await,
        Clause::Concurrency => concurrency(&trial).await,
        Clause::Cancellation => cancellation(&trial).await,
    };
    trial.tidy().await;
    result
}

async fn whole<S: Storage>(trial: &Trial<S>) -> Result<(), Violation> {
    let family = trial.family();
    let other = Arc::new(family.key("variant"));
    let mut many_fields = StoredResponse::new(StatusCode::NOT_FOUND, "fields");
    for line in 0..200_u16 {
        many_fields = many_fields.with_header(HeaderName::from_static("x-line"), HeaderValue::from(line));
    }
    let empty = StoredResponse::new(StatusCode::NO_CONTENT, "");
    let accept = HeaderName::from_static("accept");
    let contents = [
        ("a response of all bytes", response((0..=255).collect())),
        ("a response without fields and body", Content::Response(Arc::new(empty))),
        ("a response of 200 fields", Content::Response(Arc::new(many_fields))),
        ("a response of 1 MiB", response((0..=255).cycle().take(1 << 20).collect())),
        (
            "a list of variants",
            Content::Varies(Box::new(Varies {
                by: Selector { names: vec![accept], normalised: false },
                variants: vec![other],
            })),
        ),
        ("an alias", Content::Alias(Box::new(family.key("alias")))),
    ];
    // Names that a file, a protocol or a pattern could take amiss; one is the start of another.
    let long = "long/".repeat(2_000);
    let names = ["", "a", "ab", "\0", "a\r\nb", "../*{x}?%00", "\u{fffd}é ", long.as_str()];
    for name in names {
        for (what, content) in &contents {
            let key = family.key(name);
            let stamp = trial.find(&trial.writer, &key).await?.stamp;
            let mut entry = trial.entry(&family, &key, stamp, "");
            entry.content = content.clone();
            entry.fences = EntryFences::exactly((0..3).flat_map(|_| family.fences(&key)).collect());
            let entry = Arc::new(entry);
            trial.put(&entry).await?;
            // None is allowed; the one before, under the same name, is not.
            if let Some(found) = trial.find(&trial.writer, &key).await?.entry {
                trial.require(found == entry, || format!("{what} did not come back as it was put last"))?;
            }
        }
    }
    Ok(())
}

async fn own_key<S: Storage>(trial: &Trial<S>) -> Result<(), Violation> {
    let family = trial.family();
    trial.gone(&family.key("never put"), "was never put").await?;
    for entry in trial.plant(&family).await? {
        let twin = entry.key().with_same_hash();
        trial.gone(&twin, "is another's: the hashes are equal, the keys are not").await?;
        let removed = trial.remove(&twin).await?;
        trial.require(!removed, || "remove took another key with the same hash for this one".to_owned())?;
        // Whichever of the two is kept, it is under its own name.
        let second = Arc::new(trial.entry(&family, &twin, entry.stamp(), "twin"));
        trial.put(&second).await?;
        for (key, own) in [(entry.key(), &entry), (&twin, &second)] {
            if let Some(found) = trial.find(&trial.writer, key).await?.entry {
                trial.require(found == *own, || "two keys with the same hash were mixed up".to_owned())?;
            }
        }
    }
    Ok(())
}

async fn fences<S: Storage>(trial: &Trial<S>) -> Result<(), Violation> {
    trial.raise(&[]).await?;
    for way in 0..5 {
        let family = trial.family();
        let planted = trial.plant(&family).await?;
        let ways = || planted.iter().filter_map(|entry| family.ways(entry.key()).into_iter().nth(way));
        let what = ways().next().map_or("", |(what, _)| what);
        let raised: Vec<Fence> = ways().map(|(_, fence)| fence).collect();
        trial.raise(&raised).await?;
        for entry in &planted {
            trial.gone(entry.key(), &format!("was put before a raise of {what}")).await?;
        }
        let after = format!("what was filled after a raise of {what} is not kept");
        trial.plant(&family).await.map_err(|violation| violation.under(trial.clause, &after))?;
    }
    Ok(())
}

async fn late_put<S: Storage>(trial: &Trial<S>) -> Result<(), Violation> {
    for way in 0..5 {
        let family = trial.family();
        // Late over nothing, and late over a newer one.
        for entry in trial.plant(&family).await? {
            let Some((what, fence)) = family.ways(entry.key()).into_iter().nth(way) else { continue };
            let why = format!("was put after a raise of {what} with a stamp from before it");
            trial.raise(&[fence]).await?;
            trial.put(&entry).await?;
            trial.gone(entry.key(), &why).await?;
            let stamp = trial.find(&trial.writer, entry.key()).await?.stamp;
            let newer = Arc::new(trial.entry(&family, entry.key(), stamp, "newer"));
            trial.put(&newer).await?;
            trial.put(&entry).await?;
            for on in trial.handles() {
                let found = trial.find(on, entry.key()).await?.entry;
                trial.require(found.is_none_or(|found| found == newer), || {
                    format!("get gave an entry that {why}")
                })?;
            }
        }
    }
    Ok(())
}

async fn other_names<S: Storage>(trial: &Trial<S>) -> Result<(), Violation> {
    let (one, other) = (trial.family(), trial.family());
    for way in 0..4 {
        // What is gone may have been forgotten; that all of it is, time after time, is no accident.
        let mut all_gone = 0;
        while all_gone < 3 {
            let planted = trial.plant(&other).await?;
            let names = one.ways(&one.key(&trial.name()));
            let Some((what, fence)) = names.into_iter().nth(way) else { break };
            trial.raise(&[fence]).await?;
            let mut left = false;
            for entry in &planted {
                let current = trial.current(entry.stamp(), entry.fences()).await?;
                trial.require(current == [true; 3], || {
                    format!("is_current says that a raise of {what} in one namespace concerns another")
                })?;
                left |= trial.find(&trial.reader, entry.key()).await?.entry.is_some();
            }
            if left {
                break;
            }
            all_gone += 1;
        }
        trial.require(all_gone < 3, || "each raise emptied another namespace too".to_owned())?;
    }
    // In one namespace, a target leaves the others.
    let stamp = trial.stamp().await?;
    let (first, second) = (one.key(&trial.name()), one.key(&trial.name()));
    trial.raise(&[one.narrow(first.target_fence())]).await?;
    let current = trial.current(stamp, &one.fences(&second)).await?;
    trial.require(current == [true; 3], || "a raise of one target dropped another".to_owned())
}

async fn is_current<S: Storage>(trial: &Trial<S>) -> Result<(), Violation> {
    let family = trial.family();
    let key = family.key(&trial.name());
    let says = async |stamp: Stamp, fences: &[FenceId], expected: bool, when: &str| {
        let current = trial.current(stamp, fences).await?;
        trial.require(current == [expected; 3], || format!("is_current is not {expected} {when}"))
    };
    for entry in trial.plant(&family).await? {
        says(entry.stamp(), entry.fences(), true, "for an entry that get gave").await?;
        says(entry.stamp(), &[], true, "for a fill that no fence names").await?;
    }
    for (what, fence) in family.ways(&key) {
        let before = trial.stamp().await?;
        trial.raise(&[fence]).await?;
        let after = trial.stamp().await?;
        let all = family.fences(&key);
        says(before, &all, false, &format!("for a stamp from before a raise of {what}")).await?;
        says(after, &all, true, &format!("for a stamp from after a raise of {what}")).await?;
        says(before, &[fence.id], false, &format!("for {what} alone, from before its raise")).await?;
        let others: Vec<FenceId> = all.into_iter().filter(|id| *id != fence.id).collect();
        let everything = fence.id == FenceId::ALL;
        says(
            before,
            &others,
            !everything,
            &format!("for the other names of an entry, after a raise of {what}"),
        )
        .await?;
    }
    Ok(())
}

async fn older_fill<S: Storage>(trial: &Trial<S>) -> Result<(), Violation> {
    let family = trial.family();
    let early = trial.stamp().await?;
    // A fence of another name moves the clock on.
    let other = trial.family();
    trial.raise(&[other.narrow(other.tag)]).await?;
    let late = trial.stamp().await?;
    let second = Duration::from_secs(1);
    let pairs = [
        ("an earlier beginning", (early, trial.now), (early, trial.now.plus(second))),
        ("an older stamp", (early, trial.now), (late, trial.now)),
        ("an older stamp and a clock that is ahead", (early, trial.now.plus(second)), (late, trial.now)),
    ];
    for (what, older, newer) in pairs {
        for _ in 0..8 {
            let key = family.key(&format!("{what}{}", trial.name()));
            let entry =
                |(stamp, began), body| Arc::new(Entry { began, ..trial.entry(&family, &key, stamp, body) });
            let (older, newer) = (entry(older, "older"), entry(newer, "newer"));
            trial.put(&newer).await?;
            trial.put(&older).await?;
            let found = trial.find(&trial.writer, &key).await?.entry;
            trial.require(found.is_none_or(|found| found != older), || {
                format!("a fill with {what} took the place of a newer one")
            })?;
            trial.put(&newer).await?;
            let again = entry((newer.stamp(), newer.began()), "again");
            trial.put(&again).await?;
            let found = trial.find(&trial.writer, &key).await?.entry;
            trial.require(found.is_none_or(|found| found == again), || {
                "of two fills that began together, the first one put was given back".to_owned()
            })?;
        }
    }
    Ok(())
}

async fn remove<S: Storage>(trial: &Trial<S>) -> Result<(), Violation> {
    let family = trial.family();
    let unknown = trial.remove(&family.key(&trial.name())).await?;
    trial.require(!unknown, || "remove found an entry that was never put".to_owned())?;
    let mut found = false;
    for entry in trial.plant(&family).await? {
        found |= trial.remove(entry.key()).await?;
        trial.gone(entry.key(), "was removed").await?;
        let again = trial.remove(entry.key()).await?;
        trial.require(!again, || "remove found an entry that was removed before".to_owned())?;
    }
    trial.require(found, || "remove says of no entry that there was one".to_owned())?;
    trial.plant(&family).await.map(drop)
}

async fn get_now<S: Storage>(trial: &Trial<S>) -> Result<(), Violation> {
    let family = trial.family();
    let planted = trial.plant(&family).await?;
    let mut answers = 0;
    let mut entries = 0;
    for entry in &planted {
        trial.find(&trial.reader, entry.key()).await?;
        if let Some(lookup) = trial.reader.get_now(entry.key()) {
            answers += 1;
            entries += usize::from(lookup.entry.is_some());
            let behind = trial.find(&trial.reader, entry.key()).await?.stamp < lookup.stamp;
            trial.require(!behind, || "get reads an older stamp than get_now did before it".to_owned())?;
        }
    }
    trial.require(answers < planted.len() || entries > 0, || {
        "get_now answers, and has nothing of what get has".to_owned()
    })
}

async fn stamps<S: Storage>(trial: &Trial<S>) -> Result<(), Violation> {
    let family = trial.family();
    let key = family.key(&trial.name());
    for on in trial.handles() {
        let mut last = Stamp::default();
        for _ in 0..50 {
            let at_once = on.get_now(&key).map(|lookup| lookup.stamp);
            let waited = trial.find(on, &key).await?.stamp;
            for stamp in at_once.into_iter().chain([waited]) {
                trial.require(stamp >= last, || format!("stamp {} came after {}", stamp.0, last.0))?;
                last = stamp;
            }
            trial.raise(&[family.narrow(family.tag)]).await?;
        }
    }
    Ok(())
}
