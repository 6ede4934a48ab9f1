//! Reports that take a second each, behind an API key; and the same reports without a cache.

use std::time::Duration;

use actix_fast_cache::{CacheConfig, FastCache, MemoryStorage};
use actix_web::dev::ServiceRequest;
use actix_web::error::{Error, ErrorNotFound, ErrorUnauthorized};
use actix_web::rt::time::sleep;
use actix_web::web::{self, Bytes};
use actix_web::{App, HttpResponse, HttpServer, Responder};
use futures_util::stream;
use serde::Deserialize;

/// Runs for every request, before the cache is asked: a stored report is no way around it.
async fn check_api_key(req: &mut ServiceRequest) -> Result<(), Error> {
    match req.headers().get("x-api-key") {
        Some(key) if key == "secret" => Ok(()),
        _ => Err(ErrorUnauthorized("an API key is needed\n")),
    }
}

/// One year; an error is never stored, so a report can appear at any time.
async fn report(year: web::Path<u16>) -> Result<impl Responder, Error> {
    println!("making the report of {year}");
    if *year > 2025 {
        return Err(ErrorNotFound("no such report yet\n"));
    }
    sleep(Duration::from_secs(1)).await;
    Ok(format!("report of {year}\n"))
}

#[derive(Deserialize)]
struct Span {
    from: u16,
    to: u16,
}

/// Many years: `?from=2020&to=2022` and `?to=2022&from=2020` are one entry.
async fn reports(span: web::Query<Span>) -> impl Responder {
    println!("making the reports from {} to {}", span.from, span.to);
    sleep(Duration::from_secs(1)).await;
    format!("reports from {} to {}\n", span.from, span.to)
}

/// Row after row: the client sees each as it is made, and the cache stores them when the last is out.
async fn rows(year: web::Path<u16>) -> impl Responder {
    println!("making the rows of {year}");
    let rows = stream::unfold(1..=3, move |mut numbers| {
        let year = *year;
        async move {
            let number = numbers.next()?;
            sleep(Duration::from_millis(500)).await;
            let row = Bytes::from(format!("{year}, row {number}\n"));
            Some((Ok::<_, Error>(row), numbers))
        }
    });
    HttpResponse::Ok().content_type("text/csv").streaming(rows)
}

fn routes(config: &mut web::ServiceConfig) {
    config
        .route("", web::get().to(reports))
        .route("/{year}", web::get().to(report))
        .route("/{year}/rows", web::get().to(rows));
}

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());

    let cache = CacheConfig::builder(MemoryStorage::new())
        .namespace("reports")
        .ttl(Duration::from_secs(300))
        .guard(check_api_key)
        .build()?;

    println!("listening on http://{address}/reports and /uncached");
    HttpServer::new(move || {
        App::new()
            .service(web::scope("/reports").wrap(FastCache::new(cache.clone())).configure(routes))
            .service(web::scope("/uncached").configure(routes))
    })
    .bind(address)?
    .run()
    .await
}
