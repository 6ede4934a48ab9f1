//! The layer around a service: the synchronous hit, and the way to everything else.

use std::cell::Cell;
use std::fmt;
use std::future::{Future, Ready, ready};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_service::{Service, Transform};
use actix_web::Error;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use futures_util::future::LocalBoxFuture;

use crate::config::CacheConfig;
use crate::exchange::behind;
use crate::exchange::body::CacheBody;
use crate::exchange::course::{Finishes, Start, exchange, look_and_answer, run_at_once};
use crate::exchange::handler::{Exchanged, Layer};
use crate::exchange::respond;
use crate::exchange::telling::{Outcome, Told};
use crate::policy::reuse::Reuse;
use crate::request::{self, Asked, Plan};
use crate::scope::Scope;
use crate::stored::entry::Entry;
use crate::stored::response::StoredResponse;

/// The cache as a layer, for `App`, `Scope`, `Resource` and `Route`.
///
/// Make its [`CacheConfig`] once, outside the closure given to `HttpServer::new`, and clone it in: then all workers
/// share one cache, one coalescing and one invalidation.
///
/// ```no_run
/// use actix_fast_cache::{CacheConfig, FastCache, MemoryStorage};
/// use actix_web::{App, HttpServer, web};
///
/// # async fn show() -> &'static str { "" }
/// # #[actix_web::main]
/// # async fn main() -> std::io::Result<()> {
/// let cache = CacheConfig::builder(MemoryStorage::new()).namespace("shop").build()?;
///
/// HttpServer::new(move || {
///     App::new().service(
///         web::scope("/products")
///             .wrap(FastCache::new(cache.scoped("products")))
///             .route("/{id}", web::get().to(show)),
///     )
/// })
/// .bind(("127.0.0.1", 8080))?
/// .run()
/// .await
/// # }
/// ```
#[derive(Clone)]
pub struct FastCache {
    scope: Arc<Scope>,
}

// One value serves all workers.
const _: () = {
    const fn is_shared<T: Clone + Send + Sync + 'static>() {}
    is_shared::<FastCache>();
    is_shared::<CacheConfig>();
    is_shared::<crate::handle::CacheHandle>();
};

impl FastCache {
    /// A layer with this configuration.
    #[must_use]
    pub fn new(config: CacheConfig) -> Self {
        Self { scope: config.into_scope() }
    }
}

impl fmt::Debug for FastCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FastCache").field("namespace", &self.scope.settings.namespace.parts()).finish()
    }
}

impl<S, B> Transform<S, ServiceRequest> for FastCache
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<CacheBody<B>>;
    type Error = Error;
    type Transform = FastCacheService<S>;
    type InitError = ();
    type Future = Ready<Result<Self::Transform, ()>>;

    fn new_transform(&self, service: S) -> Self::Future {
        ready(Ok(FastCacheService { layer: Rc::new(Layer { service, scope: Arc::clone(&self.scope) }) }))
    }
}

/// A service with a cache in front of it; made by [`FastCache`].
pub struct FastCacheService<S> {
    layer: Rc<Layer<S>>,
}

impl<S, B> Service<ServiceRequest> for FastCacheService<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<CacheBody<B>>;
    type Error = Error;
    type Future = CacheFuture<B>;

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.layer.service.poll_ready(cx)
    }

    fn call(&self, req: ServiceRequest) -> CacheFuture<B> {
        let scope = &*self.layer.scope;
        if !scope.settings.checks.is_empty() {
            return self.slow(req, Start::Checks);
        }
        let asked = match request::plan(&scope.settings, &req) {
            Plan::Use(asked) => asked,
            plan => return self.slow(req, Start::Planned(plan)),
        };
        // Before the lookup: what has ended by then, it has seen.
        let ended = scope.engine.flights.ended();
        let Some(lookup) = scope.engine.get_now(&asked.key) else {
            return self.look(req, asked);
        };
        // Nearly all hits are at the request's own key.
        if let Some(stored) = lookup.entry.as_deref().and_then(Entry::response)
            && let Reuse::Fresh { age } = asked.judge(stored, &scope.settings.rules, scope.engine.clock.at())
        {
            return self.hit(req, asked, stored, age);
        }
        let Some(found) = scope.engine.follow_now(lookup, req.headers()) else {
            return self.look(req, asked);
        };
        if let Some(stored) = found.stored()
            && let Reuse::Fresh { age } = asked.judge(stored, &scope.settings.rules, scope.engine.clock.at())
        {
            return self.hit(req, asked, stored, age);
        }
        match run_at_once(Rc::clone(&self.layer), req, asked, found, ended) {
            Ok((run, finishes)) => self.waiting(run, finishes),
            Err((req, start)) => self.slow(req, start),
        }
    }
}

impl<S, B> FastCacheService<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    fn hit(
        &self,
        req: ServiceRequest,
        asked: Asked,
        stored: &StoredResponse,
        age: Duration,
    ) -> CacheFuture<B> {
        let scope = &*self.layer.scope;
        let conditions = asked.fields.conditional.then(|| req.headers());
        let answer = respond::answer(scope, req.method(), conditions, stored);
        let (req, _) = req.into_parts();
        let told = Told { outcome: Outcome::Hit, key: Some(&asked.key) };
        let response = respond::from_stored(scope, req, stored, age, answer, told);
        asked.key.recycle();
        CacheFuture(Kind::Ready(Some(response)))
    }

    fn slow(&self, req: ServiceRequest, start: Start) -> CacheFuture<B> {
        let leading = Rc::new(Cell::new(false));
        let exchange = exchange(Rc::clone(&self.layer), req, start, Rc::clone(&leading));
        self.waiting(Box::pin(exchange), Finishes::While(leading))
    }

    fn look(&self, req: ServiceRequest, asked: Asked) -> CacheFuture<B> {
        let leading = Rc::new(Cell::new(false));
        let looking = look_and_answer(Rc::clone(&self.layer), req, asked, Rc::clone(&leading));
        self.waiting(Box::pin(looking), Finishes::While(leading))
    }

    fn waiting(&self, exchange: LocalBoxFuture<'static, Exchanged<B>>, finishes: Finishes) -> CacheFuture<B> {
        let most = self.layer.scope.settings.coalescing.limits.leader;
        CacheFuture(Kind::Slow(Some(exchange), finishes, most))
    }
}

/// The answer of a [`FastCacheService`]: at hand, or on its way.
pub struct CacheFuture<B: MessageBody + 'static>(Kind<B>);

enum Kind<B> {
    Ready(Option<ServiceResponse<CacheBody<B>>>),
    /// With the time that it may go on without its client.
    Slow(Option<LocalBoxFuture<'static, Exchanged<B>>>, Finishes, Duration),
}

// Nothing in it is pinned in place: the exchange has a box of its own.
impl<B: MessageBody + 'static> Unpin for CacheFuture<B> {}

impl<B: MessageBody + 'static> Future for CacheFuture<B> {
    type Output = Exchanged<B>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Kind::Ready(response) => {
                response.take().map_or(Poll::Pending, |response| Poll::Ready(Ok(response)))
            }
            Kind::Slow(exchange, ..) => {
                // Out of its place while it runs: one that panics is not to go on.
                let Some(mut running) = exchange.take() else { return Poll::Pending };
                let answer = running.as_mut().poll(cx);
                if answer.is_pending() {
                    *exchange = Some(running);
                }
                answer
            }
        }
    }
}

async fn finish_within<T>(most: Duration, run: impl Future<Output = T>) {
    let _ = tokio::time::timeout(most, run).await;
}

/// A client that leaves takes its own run with it, but not one that others wait for: that one ends on its own.
impl<B: MessageBody + 'static> Drop for CacheFuture<B> {
    fn drop(&mut self) {
        if let Kind::Slow(exchange, finishes, most) = &mut self.0
            && let Some(exchange) = exchange.take()
            && finishes.now()
        {
            // No client is left to end it.
            behind::go_on(finish_within(*most, exchange));
        }
    }
}
