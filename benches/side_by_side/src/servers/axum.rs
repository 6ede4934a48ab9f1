//! axum, with axum-response-cache around the pages.

use std::io;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;
use axum::routing::get;
use axum_response_cache::CacheLayer;
use tokio::net::TcpListener;

use super::tell;
use crate::pages::{self, LIFETIME};

pub async fn serve() -> io::Result<()> {
    let router = Router::new()
        .route(pages::SMALL, get(async || answer(pages::small())))
        .route("/entry/{number}", get(async || answer(pages::entry())))
        .route(pages::LARGE, get(async || answer(pages::large())))
        .route("/slow/{number}", get(async || answer(pages::slow().await)))
        .route("/stream/{number}", get(async || answer(Body::from_stream(pages::streamed()))))
        .layer(CacheLayer::with_lifespan(LIFETIME))
        .route(pages::RUNS, get(async || Bytes::from(pages::runs())));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    tell(listener.local_addr()?);
    axum::serve(listener, router).await
}

fn answer(body: impl Into<Body>) -> Response {
    let mut answer = Response::new(body.into());
    for (name, value) in pages::FIELDS {
        answer.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    answer
}
