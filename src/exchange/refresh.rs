//! Refreshes behind a stale answer (RFC 5861 section 3).

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use actix_service::Service;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::HeaderMap;
use actix_web::{Error, rt};

use crate::clock::Timestamp;
use crate::engine::{BACK_OFF, Engine};
use crate::exchange::body;
use crate::exchange::duty::{Duty, Lease};
use crate::exchange::filling::fill;
use crate::exchange::handler::{Exchanged, Layer};
use crate::exchange::leading::judge;
use crate::flight::{Landing, Lead, Role};
use crate::found::Found;
use crate::key::CacheKey;
use crate::policy::reuse::{Reuse, StandIn};
use crate::request::Asked;
use crate::scope::Scope;
use crate::storage::interface::Claimed;

/// Most background refreshes at a time; past them a stale answer is served and left for a later request.
const MOST_REFRESHES: usize = 64;

/// While another process refreshes, this one looks again after so long.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// The duty to refresh one key, and a place among the refreshes under way.
pub(crate) struct Refresh {
    engine: Arc<Engine>,
    lead: Option<Lead>,
}

impl Refresh {
    /// Takes the duty, unless somebody has it, had it a moment ago, or too many are at work.
    pub(crate) fn claim(scope: &Scope, key: &CacheKey) -> Option<Self> {
        let engine = &scope.engine;
        let now = engine.clock.at();
        if engine.backing_off.contains(key, now) {
            return None;
        }
        let one_more = |under_way| (under_way < MOST_REFRESHES).then_some(under_way + 1);
        engine.refreshes.fetch_update(Relaxed, Relaxed, one_more).ok()?;
        let mut refresh = Self { engine: Arc::clone(engine), lead: None };
        match engine.flights.join(key, now, scope.settings.coalescing.limits, None) {
            // Another one may have begun and failed since the look above.
            Role::Lead(_) if engine.backing_off.contains(key, now) => None,
            Role::Lead(lead) => {
                // Success forgets it again; failure, panic and hanging need nobody to remember.
                engine.backing_off.remember(key, now, BACK_OFF);
                refresh.lead = Some(lead);
                Some(refresh)
            }
            Role::Follow(_) | Role::Crowded => None,
        }
    }

    /// Runs the request again, for nobody but the cache.
    ///
    /// It must be the request itself: it alone has its data and its way through the router.
    pub(crate) fn run_behind<S, B>(
        mut self,
        layer: Rc<Layer<S>>,
        req: ServiceRequest,
        asked: Asked,
        found: Found,
        due: Timestamp,
    ) where
        S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
        B: MessageBody + 'static,
    {
        // No client is there to leave: one that hangs would keep its place for ever.
        let most = layer.scope.settings.coalescing.limits.leader;
        rt::spawn(tokio::time::timeout(most, async move {
            let Ok(duty) = self.duty(&layer.scope, &asked, &found, req.headers(), due).await else { return };
            let stale = Reuse::Stale(StandIn::default());
            if let Ok(response) = fill(layer, req, asked, found, stale, None, Some(duty)).await {
                body::exhaust(response.into_body()).await;
            }
        }));
    }

    /// Runs the request for its client too, who waits; where that fails, the stale answer stands in.
    pub(crate) async fn run_in_front<S, B>(
        self,
        layer: Rc<Layer<S>>,
        req: ServiceRequest,
        asked: Asked,
        found: Found,
        duty: Duty,
    ) -> Exchanged<B>
    where
        S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
        B: MessageBody + 'static,
    {
        let in_its_window = Reuse::Stale(StandIn { errors: true, unreachable: true });
        fill(layer, req, asked, found, in_its_window, None, Some(duty)).await
    }

    /// The duty, unless another process has it, or had it a moment ago: then what that one has stored, if it has.
    pub(crate) async fn duty(
        &mut self,
        scope: &Scope,
        asked: &Asked,
        found: &Found,
        fields: &HeaderMap,
        due: Timestamp,
    ) -> Result<Duty, Option<Found>> {
        let (engine, key) = (&self.engine, found.key(&asked.key));
        let Some(mut lease) = Lease::wanted(engine, key) else {
            return self.lead.take().map(|lead| Duty::new(lead, None)).ok_or(None);
        };
        let lease = match lease.claim().await {
            Some(Claimed::Held) => {
                // It may be done soon, and stale again.
                engine.backing_off.remember(key, engine.clock.at(), LOOK_AGAIN_AFTER);
                return Err(None);
            }
            Some(Claimed::Granted) => {
                let again = engine.find(&asked.key, fields).await;
                if !judge(scope, &again, asked, due).refreshes_behind() {
                    engine.backing_off.forget(key);
                    if let Some(lead) = &self.lead {
                        lead.land(Landing::Found);
                    }
                    return Err(Some(again));
                }
                lease.keep(scope.settings.coalescing.limits.leader);
                Some(lease)
            }
            // What nobody waits for is nobody's, and a storage in trouble keeps nobody apart.
            Some(Claimed::Refused) | None => None,
        };
        self.lead.take().map(|lead| Duty::new(lead, lease)).ok_or(None)
    }

    /// Gives the duty back: it was done already.
    pub(crate) fn give_back(self, key: &CacheKey) {
        if let Some(lead) = &self.lead {
            lead.land(Landing::Found);
        }
        self.engine.backing_off.forget(key);
    }
}

impl Drop for Refresh {
    fn drop(&mut self) {
        self.engine.refreshes.fetch_sub(1, Relaxed);
    }
}
