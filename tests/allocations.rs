//! A memory hit allocates nothing of ours.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // it is test code

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use actix_fast_cache::{CacheConfig, FastCache, MemoryStorage};
use actix_service::{Service, Transform};
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::test::{TestRequest, init_service};
use actix_web::web::Bytes;
use actix_web::{App, Error, HttpResponse, web};
use futures_util::FutureExt;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The least an outermost layer can do: answer at once.
struct AtOnce;

struct AtOnceService;

impl<S: Service<ServiceRequest>> Transform<S, ServiceRequest> for AtOnce {
    type Response = ServiceResponse<Bytes>;
    type Error = Error;
    type Transform = AtOnceService;
    type InitError = ();
    type Future = Ready<Result<Self::Transform, ()>>;

    fn new_transform(&self, _: S) -> Self::Future {
        ready(Ok(AtOnceService))
    }
}

impl Service<ServiceRequest> for AtOnceService {
    type Response = ServiceResponse<Bytes>;
    type Error = Error;
    type Future = Ready<Result<Self::Response, Error>>;

    fn poll_ready(&self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&self, req: ServiceRequest) -> Self::Future {
        let mut response = HttpResponse::with_body(StatusCode::OK, Bytes::from_static(b"hello"));
        response.headers_mut().append(header::AGE, HeaderValue::from_static("0"));
        response.headers_mut().append(HeaderName::from_static("x-cache"), HeaderValue::from_static("HIT"));
        ready(Ok(req.into_response(response)))
    }
}

/// Allocations of the hundredth answer to a request.
fn allocations<S, B>(app: &S, request: impl Fn() -> TestRequest, status: u16) -> usize
where
    S: Service<actix_http::Request, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
{
    let mut last = 0;
    for _ in 0..100 {
        let request = request().to_request();
        let before = ALLOCATIONS.get();
        let response = app.call(request).now_or_never().expect("a hit waits for nothing").unwrap();
        last = ALLOCATIONS.get() - before;
        assert_eq!(response.status(), status);
    }
    last
}

#[actix_web::test]
async fn a_memory_hit_allocates_nothing_of_ours() {
    let floor = {
        let app = init_service(App::new().wrap(AtOnce)).await;
        allocations(&app, || TestRequest::get().uri("/hello"), 200)
    };
    let cache = CacheConfig::builder(MemoryStorage::new()).vary(["accept-language"]).build().unwrap();
    let handler = || async {
        HttpResponse::Ok()
            .insert_header((header::CACHE_CONTROL, "max-age=600"))
            .insert_header((header::ETAG, "\"one\""))
            .insert_header(("x-one", "1"))
            .body("hello")
    };
    let app =
        init_service(App::new().wrap(FastCache::new(cache)).route("/hello", web::get().to(handler))).await;
    for (what, request) in [
        ("plain", (|| TestRequest::get().uri("/hello")) as fn() -> TestRequest),
        ("query", || TestRequest::get().uri("/hello?b=2&a=1&b=1")),
        ("fields", || {
            TestRequest::get()
                .uri("/hello")
                .insert_header(("host", "a.example"))
                .insert_header(("user-agent", "x"))
                .insert_header(("x-forwarded-proto", "https"))
        }),
    ] {
        app.call(request().to_request()).await.unwrap();
        assert_eq!(allocations(&app, request, 200), floor, "{what}");
    }
    let conditional = || TestRequest::get().uri("/hello").insert_header(("if-none-match", "\"one\""));
    assert_eq!(allocations(&app, conditional, 304), floor, "304");
}
