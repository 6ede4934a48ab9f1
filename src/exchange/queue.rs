//! A request that waits for another one's fill.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServiceRequest;
use tokio::time::Sleep;

use crate::engine::Engine;
use crate::flight::{FlightId, Follower, Landed, Landing, Woken};
use crate::found::{Found, selected};
use crate::key::CacheKey;
use crate::stored::response::StoredResponse;

/// A new leader is tried this often after one was lost, or was overtaken by an invalidation; then everybody runs on
/// their own.
const MOST_RETRIES: usize = 1;

/// Whom a request has waited for, and how long it still will.
pub(crate) struct Queue {
    /// Flights that do not precede this one began after the request came.
    came_before: FlightId,
    /// One patience for all waits.
    patience: Option<Pin<Box<Sleep>>>,
    retries: usize,
    /// A flight is followed once: what it brought was of no use.
    followed: Option<FlightId>,
    /// The key of the request's own variant, known from another's answer before the storage knows of variants.
    own_variant: Option<CacheKey>,
}

/// What a request does after a wait.
pub(crate) enum Next {
    Serve(Arc<StoredResponse>),
    /// Something has changed: it may find its answer, or lead.
    LookAgain,
    RunAlone,
    /// It has waited long enough, and runs alone unless a stale answer does.
    GiveUp,
}

impl Queue {
    pub(crate) fn new(engine: &Engine) -> Self {
        let came_before = engine.flights.next();
        Self { came_before, patience: None, retries: 0, followed: None, own_variant: None }
    }

    pub(crate) fn followed(&self) -> Option<FlightId> {
        self.followed
    }

    pub(crate) fn own_variant(&self) -> Option<CacheKey> {
        self.own_variant.clone()
    }

    /// Waits for the leader of what a request looked for, whose own key is `own`, and of which it `found` this.
    pub(crate) async fn follow(
        &mut self,
        follower: Follower,
        wait: Duration,
        engine: &Engine,
        own: &CacheKey,
        found: &Found,
        req: &ServiceRequest,
    ) -> Next {
        let flight = follower.flight();
        self.followed = Some(flight);
        let landed = match follower.wait(self.patience(wait)).await {
            Woken::By(Landing::Stored(landed)) => landed,
            Woken::By(Landing::Found) => return Next::LookAgain,
            Woken::Lost => return self.retry(),
            Woken::By(Landing::Alone) => return Next::RunAlone,
            Woken::TimedOut => return Next::GiveUp,
        };
        match fit(&landed, own, found.key(own), req) {
            Fit::Same => match engine.is_current(landed.entry.stamp(), landed.entry.fences()).await {
                // The leader may have looked from another URL: to this one's name a write may have come since.
                Ok(true) if !engine.is_reached(&landed.entry, found.name.as_deref()).await => self.retry(),
                Ok(true) => Next::Serve(landed.response),
                // Invalidated since: one of those who waited runs anew.
                Ok(false) => self.retry(),
                // A storage in trouble cannot tell. What began after this request came is new enough for it, whatever was
                // invalidated before; so two runs do for all who wait, where each would need one.
                Err(_) if flight >= self.came_before && found.name.is_none() => Next::Serve(landed.response),
                Err(_) => self.retry(),
            },
            Fit::Variant(variant) if self.own_variant.as_ref() != Some(&variant) => {
                self.own_variant = Some(variant);
                Next::LookAgain
            }
            Fit::Variant(_) => Next::RunAlone,
            Fit::Other => self.retry(),
        }
    }

    /// What is left of it.
    pub(crate) fn patience(&mut self, wait: Duration) -> Pin<&mut Sleep> {
        self.patience.get_or_insert_with(|| Box::pin(tokio::time::sleep(wait))).as_mut()
    }

    fn retry(&mut self) -> Next {
        self.retries += 1;
        if self.retries > MOST_RETRIES { Next::RunAlone } else { Next::LookAgain }
    }
}

/// What the answer that another one's fill brought is to a request.
enum Fit {
    /// The one it would find.
    Same,
    /// Another variant; this is the key of its own.
    Variant(CacheKey),
    /// One under a name that the leader's handler chose anew.
    Other,
}

/// Both looked under `key`, which may be a name that their handlers chose before: the leader's may have chosen
/// another since.
fn fit(landed: &Landed, own: &CacheKey, key: &CacheKey, req: &ServiceRequest) -> Fit {
    if landed.entry.key() == key {
        return Fit::Same;
    }
    if landed.own != *own {
        return Fit::Other;
    }
    match &landed.selector {
        None => Fit::Same,
        Some((base, by)) => match selected(base, by, req.headers()) {
            variant if variant == *landed.entry.key() => Fit::Same,
            variant => Fit::Variant(variant),
        },
    }
}
