//! A caching reverse proxy: every request is forwarded to one origin, unless the cache knows the answer.
//!
//! ```text
//! cargo run --release --example reverse_proxy -- --origin http://127.0.0.1:8000
//! ```

mod args;
mod cache;
mod forward;
mod purge;

use actix_fast_cache::FastCache;
use actix_web::{
    App, HttpServer,
    dev::Service as _,
    middleware::{Condition, from_fn},
    web,
};
use clap::Parser as _;

use crate::{
    args::Args,
    forward::{Origin, forward, settle},
    purge::purge,
};

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let args = Args::parse();
    // Made once, outside the closure: all workers share it.
    let cache = cache::configure(&args).unwrap_or_else(|refused| refused.exit());
    let (authority, may_purge) = (args.origin.clone(), args.purge);

    let mut server = HttpServer::new(move || {
        App::new()
            .app_data(web::Data::new(Origin::new(authority.clone())))
            .app_data(cache.clone())
            .wrap(FastCache::new(cache.clone()))
            .wrap(Condition::new(may_purge, from_fn(purge)))
            // The last layer is the outermost: the cache sees requests settled.
            .wrap_fn(|mut request, next| {
                settle(request.head_mut());
                next.call(request)
            })
            .default_service(web::to(forward))
    });
    if let Some(workers) = args.workers {
        server = server.workers(workers.get());
    }
    let server = server.bind(&args.listen)?;
    for address in server.addrs() {
        eprintln!("listening on http://{address}, forwarding to http://{}", args.origin);
    }
    server.run().await
}
