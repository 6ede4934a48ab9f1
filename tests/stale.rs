//! Stale answers are served in the place of failures where somebody says so, and nowhere else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)] // it is test code

mod support;

use std::time::Duration;

use actix_fast_cache::{CacheConfig, CacheConfigBuilder, FastCache, ManualClock, MemoryStorage};
use actix_web::dev::ServiceRequest;
use actix_web::error::InternalError;
use actix_web::http::StatusCode;
use actix_web::middleware::{Next, from_fn};
use actix_web::web::{self, ReqData};
use actix_web::{App, Error, HttpMessage, HttpRequest, HttpResponse};
use futures_util::future::join_all;
use support::{Gate, Reply, Runs, Server, until};

const MS: Duration = Duration::from_millis(1);
const LIFETIME: Duration = Duration::from_secs(10);
const WINDOW: Duration = Duration::from_secs(60);
/// After a try that failed, the next one of the same key waits so long.
const BACK_OFF: Duration = Duration::from_secs(5);

/// Sets a window.
type Set = fn(CacheConfigBuilder) -> CacheConfigBuilder;

fn with_clock() -> (CacheConfigBuilder, ManualClock) {
    let clock = ManualClock::new();
    let builder = CacheConfig::builder(MemoryStorage::new()).clock(clock.clone()).ttl(LIFETIME);
    (builder.wait(Duration::from_secs(600)), clock)
}

/// A server that answers with what the request's `x-answer` says: a status and fields, as an answer; after `err `, as
/// the handler's error; after `layer `, as the error of a layer inside the cache. Each counts as a run.
fn scripted(config: &CacheConfig, runs: &Runs, gate: &Gate) -> Server {
    let (config, runs, gate) = (config.clone(), runs.clone(), gate.clone());
    Server::start(2, move || {
        let (runs, gate) = (runs.clone(), gate.clone());
        let failing = move |req: ServiceRequest, next: Next<_>| {
            let (run, gate) = (runs.add(), gate.clone());
            async move {
                req.extensions_mut().insert(run);
                gate.pass().await;
                match wanted(req.request()).strip_prefix("layer ") {
                    Some(status) => Err(failure(status)),
                    None => next.call(req).await,
                }
            }
        };
        App::new().service(
            web::scope("/a")
                .wrap(from_fn(failing))
                .wrap(FastCache::new(config.clone()))
                .default_service(web::to(as_wanted)),
        )
    })
}

fn wanted(req: &HttpRequest) -> String {
    req.headers().get("x-answer").unwrap().to_str().unwrap().to_owned()
}

fn failure(status: &str) -> Error {
    InternalError::new("no answer", status.parse::<StatusCode>().unwrap()).into()
}

async fn as_wanted(req: HttpRequest, run: ReqData<usize>) -> Result<HttpResponse, Error> {
    let wanted = wanted(&req);
    if let Some(status) = wanted.strip_prefix("err ") {
        return Err(failure(status));
    }
    let mut parts = wanted.split('|');
    let mut answer = HttpResponse::build(parts.next().unwrap().parse().unwrap());
    for part in parts {
        answer.append_header(part.split_once('=').unwrap());
    }
    Ok(answer.body(format!("run {}", *run)))
}

async fn ask(server: &Server, path: &str, answer: &str) -> Reply {
    server.get(path, &[("x-answer", answer)]).await
}

// RFC 9111 section 4.2.4 and RFC 5861 section 4
#[tokio::test]
async fn each_failure_is_stood_in_for_as_its_setter_says_to_the_end_of_the_window() {
    // A failure, what an error window makes of it, and what one for what cannot be reached does.
    for (failure, for_errors, for_unreachable) in [
        ("500", 200, 500),
        ("502", 200, 502),
        ("503", 200, 503),
        ("504", 200, 504),
        ("err 500", 200, 500),
        ("err 502", 200, 200),
        ("err 503", 200, 200),
        ("err 504", 200, 200),
        ("layer 500", 200, 500),
        ("layer 502", 200, 200),
        ("layer 503", 200, 200),
        ("layer 504", 200, 200),
        ("501", 501, 501),
        ("404", 404, 404),
        ("err 404", 404, 404),
        ("err 501", 501, 501),
    ] {
        let own: u16 = failure.rsplit(' ').next().unwrap().parse().unwrap();
        let setters: [(&str, Set, u16); 3] = [
            ("errors", |builder| builder.stale_if_error(WINDOW), for_errors),
            ("unreachable", |builder| builder.stale_if_unreachable(WINDOW), for_unreachable),
            ("neither", |builder| builder, own),
        ];
        for (name, set, status) in setters {
            let (builder, clock) = with_clock();
            let (config, runs) = (set(builder).build().unwrap(), Runs::new());
            let server = scripted(&config, &runs, &Gate::opened());
            ask(&server, "/a/x", "200").await;
            clock.advance(LIFETIME + WINDOW - MS);
            let stale = ask(&server, "/a/x", failure).await;
            assert_eq!((stale.status, runs.count()), (status, 2), "{failure}, {name}");
            if status == 200 {
                assert_eq!(
                    (stale.cache(), stale.text()),
                    ("HIT".into(), "run 1".into()),
                    "{failure}, {name}"
                );
                assert_eq!(stale.field("age").as_deref(), Some("69"), "{failure}, {name}");
            }
            clock.advance(MS);
            assert_eq!(ask(&server, "/a/x", failure).await.status, own, "{failure}, {name}: past its window");
        }
    }
}

// RFC 9111 sections 5.2.2.2, 5.2.2.4, 5.2.2.8, 5.2.2.10
#[tokio::test]
async fn what_forbids_it_is_served_stale_in_no_way_by_the_defaults_and_by_the_preset() {
    for preset in [false, true] {
        for (directives, may_be_stale) in [
            ("max-age=10", true),
            ("max-age=10, must-revalidate", false),
            ("max-age=10, proxy-revalidate", false),
            ("s-maxage=10", false),
            ("no-cache, max-age=10", false),
            ("no-cache", false),
        ] {
            let (builder, clock) = with_clock();
            let builder = if preset { builder.rfc9111() } else { builder };
            let (config, runs) = (builder.build().unwrap(), Runs::new());
            let server = scripted(&config, &runs, &Gate::opened());
            let windows = "stale-while-revalidate=60, stale-if-error=120";
            let good = format!("200|etag=\"e\"|cache-control={directives}, {windows}");
            let about = format!("{directives}, preset: {preset}");
            ask(&server, "/a/x", &good).await;
            clock.advance(LIFETIME);
            let behind = ask(&server, "/a/x", &good).await;
            assert_eq!(behind.text() == "run 1", may_be_stale, "{about}");
            until("the second run", || runs.count() == 2).await;
            until("the refresh is over", || config.handle().fills_under_way() == 0).await;
            clock.advance(LIFETIME + WINDOW);
            for failure in ["500", "503", "err 500", "layer 500"] {
                let failed = ask(&server, "/a/x", failure).await;
                assert_eq!(failed.status == 200, may_be_stale, "{about}: {failure}");
            }
        }
    }
}

/// Fails so behind answers that must not be served stale; what the client gets where the origin was not reached, and
/// nobody is told of that by the defaults.
async fn fails_where_stale_is_forbidden(failures: &[(&str, u16)]) {
    let setters: [(&str, Set, &[&str]); 3] = [
        ("setter", |builder| builder.stale_if_unreachable(WINDOW), &[]),
        ("preset", CacheConfigBuilder::rfc9111, &["no-cache", "no-cache, max-age=10"]),
        ("neither", |builder| builder, &[]),
    ];
    for (name, set, more) in setters {
        let directives = ["max-age=10, must-revalidate", "max-age=10, proxy-revalidate", "s-maxage=10"];
        for directives in directives.iter().chain(more) {
            let (builder, clock) = with_clock();
            let (config, runs) = (set(builder).build().unwrap(), Runs::new());
            let server = scripted(&config, &runs, &Gate::opened());
            ask(&server, "/a/x", &format!("200|etag=\"e\"|cache-control={directives}")).await;
            clock.advance(LIFETIME);
            for (failure, status) in failures {
                let own: u16 = failure.rsplit(' ').next().unwrap().parse().unwrap();
                let status = if name == "neither" { own } else { *status };
                let before = runs.count();
                let answer = ask(&server, "/a/x", failure).await;
                assert_eq!(answer.status, status, "{name}, {directives}: {failure}");
                // It was tried, for each client anew, and nothing stored was used.
                assert_eq!((answer.field("age"), runs.count()), (None, before + 1));
            }
        }
    }
}

// RFC 9111 section 5.2.2.2: disconnected, a cache must answer with an error, and should with 504
#[tokio::test]
async fn where_a_stale_answer_is_forbidden_and_nothing_can_be_reached_the_client_gets_504() {
    fails_where_stale_is_forbidden(&[("err 502", 504), ("err 503", 504), ("err 504", 504)]).await;
}

// RFC 9111 section 5.2.2.2
#[tokio::test]
async fn it_gets_504_where_a_layer_inside_the_cache_fails_too() {
    fails_where_stale_is_forbidden(&[("layer 502", 504), ("layer 503", 504), ("layer 504", 504)]).await;
}

// RFC 9111 section 5.2.2.2: these came from the origin
#[tokio::test]
async fn where_a_stale_answer_is_forbidden_failures_that_say_something_reach_the_client_as_they_are() {
    let answers =
        [("502", 502), ("503", 503), ("504", 504), ("500", 500), ("err 500", 500), ("layer 500", 500)];
    fails_where_stale_is_forbidden(&answers).await;
}

// S12, for runs before their client
#[tokio::test]
async fn after_a_failure_the_stale_answer_serves_without_another_try_until_the_back_off_is_over() {
    let setters: [(Set, &[&str]); 2] = [
        (|builder| builder.stale_if_error(WINDOW), &["500", "502", "503", "504", "err 500", "layer 503"]),
        (|builder| builder.stale_if_unreachable(WINDOW), &["err 502", "err 503", "err 504", "layer 502"]),
    ];
    for (set, failures) in setters {
        for failure in failures {
            let (builder, clock) = with_clock();
            let (config, runs) = (set(builder).build().unwrap(), Runs::new());
            let server = scripted(&config, &runs, &Gate::opened());
            ask(&server, "/a/x", "200").await;
            clock.advance(LIFETIME);
            for tried in 2..=4 {
                for (later, answer) in [(Duration::ZERO, *failure), (MS, "200"), (BACK_OFF - 2 * MS, failure)]
                {
                    clock.advance(later);
                    let stale = ask(&server, "/a/x", answer).await;
                    assert_eq!((stale.cache(), stale.text()), ("HIT".into(), "run 1".into()), "{failure}");
                    assert_eq!(runs.count(), tried, "{failure}");
                }
                clock.advance(MS);
            }
            // Another key is tried all the same, and a try that succeeds ends it.
            assert_eq!(ask(&server, "/a/y", "200").await.text(), "run 5", "{failure}");
            assert_eq!(ask(&server, "/a/x", "200").await.text(), "run 6", "{failure}");
            assert_eq!(ask(&server, "/a/x", "200").await.text(), "run 6", "{failure}");
            clock.advance(LIFETIME);
            assert_eq!(ask(&server, "/a/x", "200").await.text(), "run 7", "{failure}");
        }
    }
}

// S12, from one window to the next
#[tokio::test]
async fn a_refresh_that_failed_behind_an_answer_counts_for_the_back_off_of_runs_before_their_client() {
    let setters: [(&str, Set); 2] = [
        ("500", |builder| builder.stale_if_error(WINDOW)),
        ("err 502", |builder| builder.stale_if_unreachable(WINDOW)),
    ];
    for (failure, set) in setters {
        let (builder, clock) = with_clock();
        let (config, runs) = (set(builder).stale_while_revalidate(LIFETIME).build().unwrap(), Runs::new());
        let server = scripted(&config, &runs, &Gate::opened());
        ask(&server, "/a/x", "200").await;
        clock.advance(2 * LIFETIME - MS);
        ask(&server, "/a/x", failure).await;
        until("the refresh fails", || runs.count() == 2 && config.handle().fills_under_way() == 0).await;
        // The window for refreshes behind is over, the other one is not.
        for (later, tried) in [(MS, 2), (BACK_OFF - 2 * MS, 2), (MS, 3)] {
            clock.advance(later);
            let stale = ask(&server, "/a/x", failure).await;
            assert_eq!((stale.status, stale.text(), runs.count()), (200, "run 1".into(), tried), "{failure}");
        }
    }
}

/// A stale answer, asked for by so many at once while the first run for it is held; what they get when that ends so.
async fn crowd(set: Set, many: usize, ending: &str) -> (Vec<Reply>, Runs) {
    let (builder, clock) = with_clock();
    let (runs, arrived, gate) = (Runs::new(), Runs::new(), Gate::opened());
    let come = arrived.clone();
    let builder = set(builder).guard(move |_: &mut ServiceRequest| {
        come.add();
        async { Ok::<_, Error>(()) }
    });
    let config = builder.build().unwrap();
    let server = scripted(&config, &runs, &gate);
    ask(&server, "/a/x", "200").await;
    clock.advance(LIFETIME);
    gate.close();
    let asking = join_all((0..many).map(|_| Box::pin(ask(&server, "/a/x", ending))));
    let (answers, ()) = tokio::join!(asking, async {
        until("all have come", || arrived.count() == 1 + many).await;
        gate.open();
    });
    (answers, runs)
}

// S1 and S4, where a stale answer is at hand
#[tokio::test]
async fn a_crowd_for_a_stale_answer_tries_what_fails_once() {
    let setters: [(&str, Set); 2] = [
        ("500", |builder| builder.stale_if_error(WINDOW)),
        ("err 502", |builder| builder.stale_if_unreachable(WINDOW)),
    ];
    for (failure, set) in setters {
        let (answers, runs) = crowd(set, 100, failure).await;
        assert!(answers.iter().all(|answer| (answer.status, answer.text()) == (200, "run 1".into())));
        assert_eq!(runs.count(), 2, "{failure}");
    }
}

// RFC 5861 section 4: for errors, and a 404 is none
#[tokio::test]
async fn a_crowd_for_a_stale_answer_gets_the_new_one_where_that_is_no_failure_and_not_stored() {
    for (ending, status) in [("404", 404), ("err 410", 410), ("200|cache-control=no-store", 200)] {
        let (answers, runs) = crowd(|builder| builder.stale_if_error(WINDOW), 10, ending).await;
        let new = |answer: &Reply| answer.status == status && answer.text() != "run 1";
        assert_eq!(answers.iter().filter(|answer| new(answer)).count(), 10, "{ending}");
        assert_eq!(runs.count(), 11, "{ending}");
    }
}

/// A refresh that begins at the very end of its window, with one for errors after it.
async fn refreshed_at_the_end(gate: &Gate, ending: &str) -> (Server, CacheConfig, Runs) {
    let (builder, clock) = with_clock();
    let builder = builder.stale_while_revalidate(LIFETIME).stale_if_error(WINDOW);
    let (config, runs) = (builder.build().unwrap(), Runs::new());
    let server = scripted(&config, &runs, gate);
    ask(&server, "/a/x", "200").await;
    clock.advance(2 * LIFETIME - MS);
    gate.close();
    assert_eq!(ask(&server, "/a/x", ending).await.text(), "run 1");
    until("the refresh runs", || runs.count() == 2).await;
    clock.advance(MS);
    (server, config, runs)
}

// RFC 5861 section 4: for errors
#[tokio::test]
async fn a_refresh_that_brought_what_is_not_stored_has_not_failed() {
    for (ending, status) in [("404", 404), ("200|cache-control=no-store", 200)] {
        let gate = Gate::opened();
        let (server, config, runs) = refreshed_at_the_end(&gate, ending).await;
        gate.open();
        until("the refresh is over", || config.handle().fills_under_way() == 0).await;
        let answer = ask(&server, "/a/x", ending).await;
        assert_eq!((answer.status, answer.text(), runs.count()), (status, "run 3".into(), 3), "{ending}");
    }
}

// RFC 5861 section 4: for errors
#[tokio::test]
async fn who_comes_after_the_window_waits_for_the_refresh_under_way() {
    let gate = Gate::opened();
    let (server, _, runs) = refreshed_at_the_end(&gate, "200").await;
    let (answer, ()) = tokio::join!(ask(&server, "/a/x", "200"), async {
        // When others that came later are answered on both workers, it waits, or was answered without waiting.
        for _ in 0..8 {
            Box::pin(server.get("/none", &[])).await;
        }
        gate.open();
    });
    assert_eq!((answer.text(), runs.count()), ("run 2".into(), 2));
}

// R4
#[tokio::test]
async fn what_was_invalidated_while_its_origin_was_tried_does_not_stand_in_for_it() {
    let (builder, clock) = with_clock();
    let (runs, gate) = (Runs::new(), Gate::opened());
    let config = builder.stale_if_unreachable(WINDOW).build().unwrap();
    let server = scripted(&config, &runs, &gate);
    ask(&server, "/a/x", "200").await;
    clock.advance(LIFETIME);
    gate.close();
    let (answer, ()) = tokio::join!(ask(&server, "/a/x", "err 502"), async {
        until("the origin is tried", || runs.count() == 2).await;
        config.handle().invalidate_url("http://test.example/a/x").await.unwrap();
        gate.open();
    });
    assert_eq!(answer.status, 502);
    // Nor later, during the back-off.
    assert_eq!(ask(&server, "/a/x", "200").await.text(), "run 3");
}
