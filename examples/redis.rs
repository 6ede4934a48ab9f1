//! Two processes, one cache: what one has answered, the other knows; what one drops, both have lost.
//!
//! ```text
//! redis-server --port 6379 &
//! cargo run --features redis --example redis -- 127.0.0.1:8080 &
//! cargo run --features redis --example redis -- 127.0.0.1:8081 &
//! ```

use std::time::Duration;

use actix_fast_cache::{CacheConfig, CacheControl, FastCache, HostPolicy, RedisStorage};
use actix_web::{App, HttpServer, Responder, web};

/// Slow, and the same for everybody: a thing to share.
async fn report(id: web::Path<u32>, cache: CacheControl) -> impl Responder {
    println!("making report {id}");
    tokio::time::sleep(Duration::from_millis(200)).await;
    cache.tag(format!("report:{id}"));
    format!("report {id}\n")
}

async fn change(id: web::Path<u32>, cache: CacheControl) -> actix_web::Result<impl Responder> {
    // ... write to the database, then:
    cache.invalidate_tag(format!("report:{id}")).await?;
    Ok("changed\n")
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let address = args.next().unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let redis = args.next().unwrap_or_else(|| "redis://127.0.0.1:6379".to_owned());

    // Nothing is connected yet: without Redis the app runs, and caches nothing.
    let cache = CacheConfig::builder(RedisStorage::open(&redis, "example")?)
        .namespace("reports")
        // Here each process is asked under an address of its own, and the reports do not show it.
        .host(HostPolicy::Ignore)
        .build()?;

    println!("listening on http://{address}/reports/1");
    HttpServer::new(move || {
        App::new().service(
            web::resource("/reports/{id}")
                .wrap(FastCache::new(cache.clone()))
                .route(web::get().to(report))
                .route(web::patch().to(change)),
        )
    })
    .bind(address)?
    .run()
    .await?;
    Ok(())
}
