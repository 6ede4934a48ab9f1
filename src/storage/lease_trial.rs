//! Leases on trial: of several holders that claim a key one has it.

use std::time::Duration;

use futures_util::future::join3;

use crate::key::CacheKey;
use crate::storage::interface::{Claimed, Holder, Storage};
use crate::storage::trial::Trial;
use crate::storage::violation::Violation;

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(50);
/// Far more than a short lease lasts, in steps.
const STEPS: usize = 200;
const STEP: Duration = Duration::from_millis(20);

pub(crate) async fn leases<S: Storage>(trial: &Trial<S>) -> Result<(), Violation> {
    if !trial.writer.leases() {
        return Ok(());
    }
    let family = trial.family();
    for _ in 0..20 {
        let key = family.key(&trial.name());
        let [a, b, c] = trial.handles();
        let claims = join3(
            claim(trial, a, &key, 1, LONG),
            claim(trial, b, &key, 2, LONG),
            claim(trial, c, &key, 3, LONG),
        );
        let claims = claims.await;
        let claims = [claims.0?, claims.1?, claims.2?];
        let granted = claims.iter().filter(|claimed| **claimed == Claimed::Granted).count();
        trial.require(granted == 1, || format!("of three claims at once {granted} were granted"))?;
        let has = claims.iter().position(|claimed| *claimed == Claimed::Granted).unwrap_or(0) as u64 + 1;
        expect(trial, &key, has, Claimed::Granted, "its own holder claims it again").await?;
        let other = has % 3 + 1;
        expect(trial, &key, other, Claimed::Held, "another one has it").await?;
        release(trial, &key, other, None).await?;
        expect(trial, &key, other, Claimed::Held, "somebody without it gave it back").await?;
        release(trial, &key, has, None).await?;
        expect(trial, &key, other, Claimed::Granted, "it was given back").await?;
        release(trial, &key, other, Some(LONG)).await?;
        expect(trial, &key, has, Claimed::Refused, "it was refused").await?;
    }
    let (lost, refused) = (family.key(&trial.name()), family.key(&trial.name()));
    claim(trial, &trial.writer, &lost, 1, SHORT).await?;
    claim(trial, &trial.writer, &refused, 1, LONG).await?;
    release(trial, &refused, 1, Some(SHORT)).await?;
    for key in [lost, refused] {
        let mut steps = 0;
        while claim(trial, &trial.reader, &key, 2, LONG).await? != Claimed::Granted {
            trial.require(steps < STEPS, || "a lease whose time is over is not granted again".to_owned())?;
            steps += 1;
            tokio::time::sleep(STEP).await;
        }
    }
    Ok(())
}

async fn claim<S: Storage>(
    trial: &Trial<S>,
    on: &S,
    key: &CacheKey,
    holder: u64,
    lease: Duration,
) -> Result<Claimed, Violation> {
    trial.ran("claim", on.claim(key, Holder(holder), lease).await)
}

async fn release<S: Storage>(
    trial: &Trial<S>,
    key: &CacheKey,
    holder: u64,
    refused: Option<Duration>,
) -> Result<(), Violation> {
    trial.ran("release", trial.raiser.release(key, Holder(holder), refused).await)
}

async fn expect<S: Storage>(
    trial: &Trial<S>,
    key: &CacheKey,
    holder: u64,
    expected: Claimed,
    when: &str,
) -> Result<(), Violation> {
    let claimed = claim(trial, &trial.reader, key, holder, LONG).await?;
    trial.require(claimed == expected, || format!("a claim is {claimed:?} where {when}"))
}
