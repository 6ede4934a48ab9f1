//! One cached route: the first request runs the handler, the second does not.

use actix_fast_cache::{CacheConfig, FastCache, MemoryStorage};
use actix_web::{App, HttpServer, Responder, web};

async fn hello() -> impl Responder {
    println!("the handler runs");
    "Hello from the handler!\n"
}

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());

    // Made once, outside the closure: all workers share it.
    let cache = CacheConfig::builder(MemoryStorage::new()).build()?;

    println!("listening on http://{address}/cached and /uncached");
    HttpServer::new(move || {
        App::new()
            .service(
                web::scope("/cached").wrap(FastCache::new(cache.clone())).route("", web::get().to(hello)),
            )
            .route("/uncached", web::get().to(hello))
    })
    .bind(address)?
    .run()
    .await
}
