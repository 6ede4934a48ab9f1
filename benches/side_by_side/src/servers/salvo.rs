//! Salvo, with its cache around the pages.

use std::io;

use salvo_cache::{Cache, MokaStore, RequestIssuer};
use salvo_core::conn::{Acceptor, TcpListener};
use salvo_core::http::header::{CACHE_CONTROL, HeaderName, HeaderValue};
use salvo_core::http::{ResBody, StatusCode};
use salvo_core::prelude::*;

use super::tell;
use crate::pages::{self, LIFETIME};

pub async fn serve() -> io::Result<()> {
    let cache = Cache::new(MokaStore::builder().time_to_live(LIFETIME).build(), RequestIssuer::default());
    let pages = Router::new()
        .hoop(cache)
        .push(Router::with_path("small").get(small))
        .push(Router::with_path("entry/{number}").get(entry))
        .push(Router::with_path("large").get(large))
        .push(Router::with_path("slow/{number}").get(slow))
        .push(Router::with_path("stream/{number}").get(stream));
    let router = Router::new().push(pages).push(Router::with_path("runs").get(runs));
    let acceptor = TcpListener::new(("127.0.0.1", 0)).bind().await;
    for holding in acceptor.holdings() {
        if let Some(address) = holding.local_addr.clone().into_std() {
            tell(address);
        }
    }
    salvo_core::Server::new(acceptor).try_serve(router).await
}

#[handler]
async fn small(answer: &mut Response) {
    fill(answer, ResBody::Once(pages::small()));
}

#[handler]
async fn entry(answer: &mut Response) {
    fill(answer, ResBody::Once(pages::entry()));
}

#[handler]
async fn large(answer: &mut Response) {
    fill(answer, ResBody::Once(pages::large()));
}

#[handler]
async fn slow(answer: &mut Response) {
    fill(answer, ResBody::Once(pages::slow().await));
}

#[handler]
async fn stream(answer: &mut Response) {
    fill(answer, ResBody::stream(pages::streamed()));
}

#[handler]
async fn runs(answer: &mut Response) {
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer.body(ResBody::Once(pages::runs().into()));
}

fn fill(answer: &mut Response, body: ResBody) {
    answer.status_code(StatusCode::OK);
    for (name, value) in pages::FIELDS {
        answer.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    answer.body(body);
}
