//! Refreshes for those whose outer layers need the request itself: in the foreground, or with its data taken along.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)] // it is test code

mod support;

use std::time::Duration;

use actix_fast_cache::{CacheConfig, CacheConfigBuilder, FastCache, ManualClock, MemoryStorage};
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::{Next, from_fn};
use actix_web::web;
use actix_web::{App, Error, HttpMessage, HttpResponse};
use support::{Gate, Runs, Server, until};

const LIFETIME: Duration = Duration::from_secs(10);

fn builder(clock: &ManualClock) -> CacheConfigBuilder {
    let builder = CacheConfig::builder(MemoryStorage::new()).clock(clock.clone()).ttl(LIFETIME);
    builder.stale_while_revalidate(Duration::from_secs(60))
}

/// What a layer outside the cache leaves in the request, and looks for when the answer comes.
#[derive(Clone)]
struct RequestId(u32);

async fn number(
    req: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    req.extensions_mut().insert(RequestId(7));
    let mut answer = next.call(req).await?;
    let id = answer.request().extensions().get::<RequestId>().map_or("-".to_owned(), |id| id.0.to_string());
    let pattern = answer.request().match_pattern().unwrap_or_else(|| "-".to_owned());
    answer.headers_mut().insert("x-seen".parse().unwrap(), format!("{id} {pattern}").parse().unwrap());
    Ok(answer)
}

/// A page that runs behind a gate, from its second run on.
fn serve(config: CacheConfig) -> (Server, Runs, Gate) {
    let (runs, gate) = (Runs::new(), Gate::shut());
    let (counted, door) = (runs.clone(), gate.clone());
    let server = Server::start(2, move || {
        let (runs, gate) = (counted.clone(), door.clone());
        let page = move || {
            let (run, gate) = (runs.add(), gate.clone());
            async move {
                if run > 1 {
                    gate.pass().await;
                }
                HttpResponse::Ok().body(format!("run {run}"))
            }
        };
        let cache = FastCache::new(config.clone());
        App::new().service(web::resource("/{page}").wrap(cache).wrap(from_fn(number)).to(page))
    });
    (server, runs, gate)
}

// RFC 5861 section 3
#[tokio::test]
async fn in_the_foreground_the_first_one_waits_and_all_others_get_the_stale_answer() {
    let clock = ManualClock::new();
    let (server, runs, gate) = serve(builder(&clock).foreground_refresh().build().unwrap());
    server.get("/x", &[]).await;
    clock.advance(LIFETIME);
    let first = async {
        let reply = server.get("/x", &[]).await;
        (reply.text(), reply.cache(), reply.field("x-seen").unwrap())
    };
    let others = async {
        until("the refresh is at the handler", || runs.count() == 2).await;
        for _ in 0..5 {
            let reply = server.get("/x", &[]).await;
            assert_eq!((reply.text().as_str(), reply.cache().as_str()), ("run 1", "HIT"));
        }
        gate.open();
    };
    let (first, ()) = futures_util::future::join(first, others).await;
    assert_eq!(first, ("run 2".into(), "MISS".into(), "7 /{page}".into()), "it is the request itself");
    assert_eq!((server.get("/x", &[]).await.text().as_str(), runs.count()), ("run 2", 2));
}

// Behind a stale answer, layers outside see a stand-in for the request
#[tokio::test]
async fn data_of_the_request_is_taken_along_where_the_scope_says_so() {
    for (taken_along, seen) in [(false, "- -"), (true, "7 -")] {
        let clock = ManualClock::new();
        let builder = if taken_along {
            builder(&clock).forward_request_data::<RequestId>().forward_request_data::<String>()
        } else {
            builder(&clock)
        };
        let (server, runs, gate) = serve(builder.build().unwrap());
        assert_eq!(server.get("/x", &[]).await.field("x-seen").unwrap(), "7 /{page}");
        clock.advance(LIFETIME);
        let stale = server.get("/x", &[]).await;
        assert_eq!((stale.text().as_str(), stale.field("x-seen").as_deref()), ("run 1", Some(seen)));
        gate.open();
        until("the refresh has run", || runs.count() == 2).await;
    }
}
