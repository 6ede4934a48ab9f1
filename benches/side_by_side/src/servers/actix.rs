//! actix-web: the bare handler, this crate in two places, and actix_tower's cache.

use std::io;

use actix_fast_cache::{CacheConfig, FastCache, MemoryStorage};
use actix_web::body::{BodySize, MessageBody};
use actix_web::dev::{Server, ServiceRequest, ServiceResponse};
use actix_web::http::header::{CACHE_CONTROL, CONTENT_LENGTH, HeaderName, HeaderValue};
use actix_web::middleware::{Next, from_fn};
use actix_web::web::{self, ServiceConfig};
use actix_web::{App, Error, HttpResponse, HttpResponseBuilder, HttpServer, Resource, rt};

use super::tell;
use crate::pages::{self, LARGE_BYTES, LIFETIME};

/// Where a cache is around the handlers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    None,
    AroundApp,
    AroundResources,
    ActixTower,
}

/// Room for everything that is asked for; all else is as it comes.
const CAPACITY: u64 = 1 << 30;

macro_rules! server {
    ($app:expr) => {{
        let server = HttpServer::new($app).workers(1).disable_signals().bind(("127.0.0.1", 0))?;
        if let Some(address) = server.addrs().first() {
            tell(*address);
        }
        server.run()
    }};
}

pub fn serve(layer: Layer) -> io::Result<()> {
    rt::System::new().block_on(async { server(layer)?.await })
}

fn server(layer: Layer) -> io::Result<Server> {
    let config = CacheConfig::builder(MemoryStorage::with_capacity(CAPACITY)).body_limit(LARGE_BYTES).build();
    let config = config.map_err(io::Error::other)?;
    Ok(match layer {
        Layer::None => server!(|| App::new().configure(|app| add(app, |resource| resource))),
        Layer::AroundApp => server!(move || {
            App::new().wrap(FastCache::new(config.clone())).configure(|app| add(app, |resource| resource))
        }),
        Layer::AroundResources => server!(move || {
            let cache = FastCache::new(config.clone());
            App::new().configure(|app| add(app, |resource| resource.wrap(cache.clone())))
        }),
        Layer::ActixTower => server!(|| {
            App::new()
                .wrap(from_fn(declare_length))
                .wrap(actix_tower::prelude::Cache::new(LIFETIME))
                .configure(|app| add(app, |resource| resource))
        }),
    })
}

/// Adds the pages, each as a resource that may be wrapped.
fn add<F>(app: &mut ServiceConfig, wrap: impl Fn(Resource) -> F)
where
    F: actix_web::dev::HttpServiceFactory + 'static,
{
    for (path, route) in [
        (pages::SMALL, web::get().to(async || answer().body(pages::small()))),
        ("/entry/{number}", web::get().to(async || answer().body(pages::entry()))),
        (pages::LARGE, web::get().to(async || answer().body(pages::large()))),
        ("/slow/{number}", web::get().to(async || answer().body(pages::slow().await))),
        ("/stream/{number}", web::get().to(async || answer().streaming(pages::streamed()))),
    ] {
        app.service(wrap(web::resource(path).route(route)));
    }
    app.route(
        pages::RUNS,
        web::get()
            .to(async || HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).body(pages::runs())),
    );
}

fn answer() -> HttpResponseBuilder {
    let mut answer = HttpResponse::Ok();
    for (name, value) in pages::FIELDS {
        answer.insert_header((HeaderName::from_static(name), HeaderValue::from_static(value)));
    }
    answer
}

/// actix_tower stores only what has a `Content-Length` before actix-web has written it.
async fn declare_length(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let mut answer = next.call(request).await?;
    let is_stored = answer.headers().get(CACHE_CONTROL).is_none_or(|value| value != "no-store");
    if let (true, BodySize::Sized(length)) = (is_stored, answer.response().body().size()) {
        answer.headers_mut().insert(CONTENT_LENGTH, length.into());
    }
    Ok(answer)
}
