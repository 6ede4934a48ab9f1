//! Equal requests share one run of the handler, whatever becomes of its leader.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)] // it is test code

mod support;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use actix_fast_cache::storage::{Claimed, Holder};
use actix_fast_cache::{
    CacheConfig, CacheConfigBuilder, CacheKey, FailingStorage, FastCache, Lookup, ManualClock, MemoryStorage,
    Storage, StorageError,
};
use actix_web::body::{BodyStream, SizedStream};
use actix_web::dev::{Service, ServiceRequest};
use actix_web::error::ErrorInternalServerError;
use actix_web::test::{TestRequest, call_service, init_service};
use actix_web::web::Bytes;
use actix_web::{App, Error, HttpRequest, HttpResponse, HttpServer, rt, web};
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use support::{Gate, Reply, Runs, Server, answered_by, request, reset, until};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

/// Nobody who waits for this long ends within a test: who is answered was woken.
const FOR_EVER: Duration = Duration::from_secs(600);

/// Lets nobody through until so many stand before it at once.
#[derive(Clone)]
struct Quorum {
    gate: Gate,
    before: Arc<AtomicUsize>,
    needed: usize,
}

impl Quorum {
    fn of(needed: usize) -> Self {
        Self { gate: Gate::shut(), before: Arc::default(), needed }
    }

    async fn pass(&self) {
        if self.before.fetch_add(1, SeqCst) + 1 == self.needed {
            self.gate.open();
        }
        self.gate.pass().await;
    }
}

/// What a handler of these tests is: it knows which run it is.
fn handler<F, R>(
    runs: &Runs,
    run: F,
) -> impl Fn(HttpRequest) -> LocalBoxFuture<'static, Result<HttpResponse, Error>> + Clone + Send + use<F, R>
where
    F: Fn(usize, HttpRequest) -> R + Clone + Send + 'static,
    R: Future<Output = Result<HttpResponse, Error>> + 'static,
{
    let runs = runs.clone();
    move |req| Box::pin(run(runs.add(), req))
}

fn text(text: impl Into<String>) -> Result<HttpResponse, Error> {
    Ok(HttpResponse::Ok().body(text.into()))
}

/// A builder whose scope counts the requests that have come in, before any lookup.
fn counting(builder: CacheConfigBuilder, arrived: &Runs) -> CacheConfigBuilder {
    let arrived = arrived.clone();
    builder.guard(move |_: &mut ServiceRequest| {
        arrived.add();
        async { Ok::<_, Error>(()) }
    })
}

fn memory() -> CacheConfigBuilder {
    CacheConfig::builder(MemoryStorage::new()).wait(FOR_EVER)
}

macro_rules! serve {
    ($workers:expr, $config:expr, $handler:expr) => {{
        let (config, handler) = ($config.clone(), $handler.clone());
        Server::start($workers, move || {
            App::new().service(
                web::scope("/a")
                    .wrap(FastCache::new(config.clone()))
                    .default_service(web::to(handler.clone())),
            )
        })
    }};
}

/// Sends so many GETs, each on a connection of its own.
fn ask(
    server: &Server,
    many: usize,
    target: &str,
    fields: &'static [(&'static str, &'static str)],
) -> JoinSet<Option<Reply>> {
    let mut asked = JoinSet::new();
    for _ in 0..many {
        let (addr, bytes) = (server.addr, request("GET", target, fields, b""));
        asked.spawn(async move {
            let mut stream = TcpStream::connect(addr).await.unwrap();
            stream.write_all(&bytes).await.unwrap();
            Reply::read(&mut stream, false).await
        });
    }
    asked
}

/// All the answers, which must come: those who wait, wait for ever.
async fn answers(asked: JoinSet<Option<Reply>>) -> Vec<Option<Reply>> {
    tokio::time::timeout(Duration::from_secs(20), asked.join_all()).await.expect("nobody is left waiting")
}

fn all_ok(answers: Vec<Option<Reply>>) -> Vec<Reply> {
    let answers: Vec<Reply> = answers.into_iter().map(|answer| answer.expect("an answer")).collect();
    assert!(answers.iter().all(|answer| answer.status == 200));
    answers
}

/// A connection that has asked and does not read.
async fn ask_and_hold(server: &Server, target: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    stream.write_all(&request("GET", target, &[], b"")).await.unwrap();
    stream
}

// S1; with `FULL_SIZE=1` in the environment nearly ten times as many, as 20,000 open files allow
#[tokio::test]
async fn a_thousand_cold_requests_on_four_workers_run_the_handler_once() {
    let many = if std::env::var_os("FULL_SIZE").is_some() { 9_500 } else { 1_000 };
    let (runs, arrived, gate) = (Runs::new(), Runs::new(), Gate::shut());
    let config = counting(memory(), &arrived).build().unwrap();
    let door = gate.clone();
    let handler = handler(&runs, move |run, _| {
        let door = door.clone();
        async move {
            door.pass().await;
            text(format!("run {run}"))
        }
    });
    let server = serve!(4, config, handler);
    let asked = ask(&server, many, "/a/x", &[]);
    until("all have come", || arrived.count() == many).await;
    gate.open();
    let answers = all_ok(answers(asked).await);
    assert!(answers.iter().all(|answer| answer.text() == "run 1"));
    assert_eq!(answers.iter().filter(|answer| answer.cache() == "MISS").count(), 1);
    assert_eq!(runs.count(), 1);
    until("no fill is left", || config.handle().fills_under_way() == 0).await;
}

// S1, over two scopes
#[tokio::test]
async fn two_scopes_of_one_configuration_run_their_handlers_once_a_key() {
    let (runs, arrived, gate) = (Runs::new(), Runs::new(), Gate::shut());
    let config = counting(memory(), &arrived).namespace("n").build().unwrap();
    let door = gate.clone();
    let handler = handler(&runs, move |_, req| {
        let door = door.clone();
        async move {
            door.pass().await;
            text(req.path())
        }
    });
    let shared = config.clone();
    let server = Server::start(2, move || {
        let scope = |path: &str, config: CacheConfig| {
            web::scope(path).wrap(FastCache::new(config)).default_service(web::to(handler.clone()))
        };
        App::new()
            .service(scope("/same1", shared.clone()))
            .service(scope("/same2", shared.clone()))
            .service(scope("/own", shared.scoped("own")))
    });
    let targets = ["/same1/x", "/same2/x", "/own/x", "/own/y"];
    let mut asked: Vec<_> = targets.iter().map(|target| ask(&server, 50, target, &[])).collect();
    until("all have come", || arrived.count() == 200).await;
    gate.open();
    for target in targets {
        let answers = all_ok(answers(asked.remove(0)).await);
        assert!(answers.iter().all(|answer| answer.text() == target));
    }
    assert_eq!(runs.count(), targets.len());
    until("no fill is left", || config.handle().fills_under_way() == 0).await;
}

// S1: the lookup and the lead are two steps
#[tokio::test]
async fn a_fill_that_ends_between_lookup_and_lead_is_not_run_again() {
    /// Answers a lookup, but holds the answer back when it is told to.
    struct Slow {
        memory: MemoryStorage,
        lookups: Runs,
        held: usize,
        gate: Gate,
    }

    impl Storage for Slow {
        async fn get(&self, key: &CacheKey) -> Result<Lookup, StorageError> {
            let answer = self.memory.get(key).await;
            if self.lookups.add() == self.held {
                self.gate.pass().await;
            }
            answer
        }

        answered_by!(memory: put, remove, raise, is_current);
    }

    let (runs, lookups, late) = (Runs::new(), Runs::new(), Gate::shut());
    let storage =
        Slow { memory: MemoryStorage::new(), lookups: lookups.clone(), held: 1, gate: late.clone() };
    let config = CacheConfig::builder(storage).wait(FOR_EVER).storage_deadline(FOR_EVER).build().unwrap();
    let handler = handler(&runs, |run, _| async move { text(format!("run {run}")) });
    let server = serve!(2, config, handler);
    let slow = ask(&server, 1, "/a/x", &[]);
    until("the first has looked", || lookups.count() == 1).await;
    assert_eq!(server.get("/a/x", &[]).await.text(), "run 1");
    until("it is stored", || config.handle().fills_under_way() == 0).await;
    late.open();
    let slow = all_ok(answers(slow).await);
    assert_eq!((slow[0].text().as_str(), runs.count()), ("run 1", 1));
}

// S2
#[tokio::test]
async fn a_leader_whose_client_resets_still_serves_those_who_wait() {
    let (runs, arrived, gate) = (Runs::new(), Runs::new(), Gate::shut());
    let config = counting(memory(), &arrived).build().unwrap();
    let door = gate.clone();
    let handler = handler(&runs, move |run, _| {
        let door = door.clone();
        async move {
            door.pass().await;
            text(format!("run {run}"))
        }
    });
    let server = serve!(4, config, handler);
    let leader = ask_and_hold(&server, "/a/x").await;
    until("the leader runs", || runs.count() == 1).await;
    let asked = ask(&server, 100, "/a/x", &[]);
    until("all have come", || arrived.count() == 101).await;
    reset(leader);
    // The reset has been noticed when a request that came after it is answered on each worker.
    for _ in 0..8 {
        server.get("/none", &[]).await;
    }
    gate.open();
    all_ok(answers(asked).await);
    assert!(runs.count() <= 2, "{} runs", runs.count());
    until("no fill is left", || config.handle().fills_under_way() == 0).await;
}

// S2, on workers that belong to no actix system
#[tokio::test]
async fn a_server_under_plain_tokio_finishes_what_a_leader_left() {
    let (runs, gate) = (Runs::new(), Gate::shut());
    let config = memory().build().unwrap();
    let door = gate.clone();
    let handler = handler(&runs, move |run, _| {
        let door = door.clone();
        async move {
            door.pass().await;
            text(format!("run {run}"))
        }
    });
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let (shared, (stop, stopped)) = (config.clone(), tokio::sync::oneshot::channel::<()>());
    let server = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let server = HttpServer::new(move || {
                App::new().service(
                    web::scope("/a")
                        .wrap(FastCache::new(shared.clone()))
                        .default_service(web::to(handler.clone())),
                )
            });
            let server = server.workers(1).disable_signals().listen(listener).unwrap().run();
            let handle = server.handle();
            let _ = futures_util::future::join(server, async move {
                let _ = stopped.await;
                handle.stop(false).await;
            })
            .await;
        });
    });
    let ask = async || {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(&request("GET", "/a/x", &[], b"")).await.unwrap();
        stream
    };
    let leader = ask().await;
    until("the leader runs", || runs.count() == 1).await;
    reset(leader);
    for _ in 0..8 {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(&request("GET", "/none", &[], b"")).await.unwrap();
        Reply::read(&mut stream, false).await.unwrap();
    }
    gate.open();
    let answer = Reply::read(&mut ask().await, false).await.unwrap();
    assert_eq!((answer.text().as_str(), runs.count()), ("run 1", 1));
    stop.send(()).unwrap();
    server.join().unwrap();
}

// S3
#[tokio::test]
async fn a_leader_that_panics_is_replaced_and_nobody_waits_for_ever() {
    for panics in [1, 2, 101] {
        let (runs, arrived, gate) = (Runs::new(), Runs::new(), Gate::shut());
        let config = counting(memory(), &arrived).build().unwrap();
        let door = gate.clone();
        let handler = handler(&runs, move |run, _| {
            let door = door.clone();
            async move {
                door.pass().await;
                assert!(run > panics, "a handler panics");
                text("well")
            }
        });
        let server = serve!(4, config, handler);
        let asked = ask(&server, 101, "/a/x", &[]);
        until("all have come", || arrived.count() == 101).await;
        gate.open();
        let answers = answers(asked).await;
        assert_eq!(answers.iter().filter(|answer| answer.is_none()).count(), panics);
        assert!(answers.iter().flatten().all(|answer| answer.text() == "well"));
        assert!(panics > 1 || runs.count() == 2, "{} runs", runs.count());
        until("no fill is left", || config.handle().fills_under_way() == 0).await;
    }
}

// S4
#[tokio::test]
async fn the_failure_of_a_leader_is_its_own_and_the_others_run_side_by_side() {
    #[derive(Clone, Copy)]
    enum Failure {
        Answer,
        HandlerError,
        LayerError,
    }

    for failure in [Failure::Answer, Failure::HandlerError, Failure::LayerError] {
        let (runs, arrived, gate) = (Runs::new(), Runs::new(), Gate::shut());
        let config = counting(memory(), &arrived).build().unwrap();
        let (door, counted) = (gate.clone(), runs.clone());
        let together = Quorum::of(50);
        let server_config = config.clone();
        let server = Server::start(4, move || {
            let (door, together, runs) = (door.clone(), together.clone(), counted.clone());
            App::new().service(
                web::scope("/a")
                    .wrap(actix_web::middleware::from_fn(
                        move |req: ServiceRequest, next: actix_web::middleware::Next<_>| {
                            let (door, together, runs) = (door.clone(), together.clone(), runs.clone());
                            async move {
                                if runs.add() > 1 {
                                    together.pass().await;
                                    return next.call(req).await;
                                }
                                door.pass().await;
                                match failure {
                                    Failure::LayerError => Err(ErrorInternalServerError("no")),
                                    Failure::Answer | Failure::HandlerError => {
                                        let mut req = req;
                                        let name = actix_web::http::header::HeaderName::from_static("x-fail");
                                        req.headers_mut().insert(name, 1.into());
                                        next.call(req).await
                                    }
                                }
                            }
                        },
                    ))
                    .wrap(FastCache::new(server_config.clone()))
                    .default_service(web::to(move |req: HttpRequest| async move {
                        match (req.headers().contains_key("x-fail"), failure) {
                            (false, _) => text("well"),
                            (true, Failure::Answer) => Ok(HttpResponse::InternalServerError().body("no")),
                            (true, _) => Err(ErrorInternalServerError("no")),
                        }
                    })),
            )
        });
        let asked = ask(&server, 101, "/a/x", &[]);
        until("all have come", || arrived.count() == 101).await;
        gate.open();
        let answers = answers(asked).await;
        let failed = answers.iter().flatten().filter(|answer| answer.status == 500).count();
        let well = answers.iter().flatten().filter(|answer| answer.text() == "well").count();
        assert_eq!((failed, well), (1, 100));
        until("no fill is left", || config.handle().fills_under_way() == 0).await;
    }
}

// S5, S6
#[tokio::test]
async fn an_answer_that_cannot_be_stored_holds_nobody_up_and_is_remembered_for_a_while() {
    const MANY: usize = 300;
    let (runs, arrived, gate) = (Runs::new(), Runs::new(), Gate::shut());
    let clock = ManualClock::new();
    let builder = CacheConfig::builder(MemoryStorage::new()).wait(FOR_EVER).clock(clock.clone());
    let config = counting(builder, &arrived).uncacheable_for(Duration::from_secs(10)).build().unwrap();
    let (door, waiters, later) = (gate.clone(), Quorum::of(MANY - 50), Quorum::of(100));
    let storable = Runs::new();
    let now_storable = storable.clone();
    let handler = handler(&runs, move |run, _| {
        let (door, waiters, later) = (door.clone(), waiters.clone(), later.clone());
        let storable = now_storable.count() > 0;
        async move {
            match run {
                1 => door.pass().await,
                2..=MANY => waiters.pass().await,
                run if run <= MANY + 100 => later.pass().await,
                _ => {}
            }
            let directive = if storable { "max-age=60" } else { "no-store" };
            Ok(HttpResponse::Ok().insert_header(("cache-control", directive)).body(format!("run {run}")))
        }
    });
    let server = serve!(4, config, handler);
    let asked = ask(&server, MANY, "/a/x", &[]);
    until("all have come", || arrived.count() == MANY).await;
    gate.open();
    all_ok(answers(asked).await);
    assert_eq!(runs.count(), MANY);

    // All hundred are in the handler at once: none waits for another.
    all_ok(answers(ask(&server, 100, "/a/x", &[])).await);
    assert_eq!(runs.count(), MANY + 100);

    storable.add();
    assert_eq!(server.get("/a/x", &[]).await.cache(), "MISS");
    assert_eq!(server.get("/a/x", &[]).await.cache(), "HIT");
    until("no fill is left", || config.handle().fills_under_way() == 0).await;
}

// S6
#[tokio::test]
async fn the_memory_of_an_unstorable_answer_ends() {
    let (runs, arrived, gate) = (Runs::new(), Runs::new(), Gate::shut());
    let clock = ManualClock::new();
    let builder = CacheConfig::builder(MemoryStorage::new()).wait(FOR_EVER).clock(clock.clone());
    let config = counting(builder, &arrived).uncacheable_for(Duration::from_secs(10)).build().unwrap();
    let door = gate.clone();
    let handler = handler(&runs, move |run, _| {
        let door = door.clone();
        async move {
            if run == 1 {
                return Ok(HttpResponse::NotFound().finish());
            }
            door.pass().await;
            text("well")
        }
    });
    let server = serve!(2, config, handler);
    assert_eq!(server.get("/a/x", &[]).await.status, 404);
    clock.advance(Duration::from_secs(10));
    let asked = ask(&server, 50, "/a/x", &[]);
    until("all have come", || arrived.count() == 51).await;
    gate.open();
    all_ok(answers(asked).await);
    assert_eq!(runs.count(), 2);
}

// S6: what one client may not share says nothing of the others
#[tokio::test]
async fn requests_that_run_on_their_own_do_not_stop_the_others_from_sharing() {
    for (method, fields) in [
        ("HEAD", &[][..]),
        ("GET", &[("authorization", "Basic YTpi")][..]),
        ("GET", &[("cookie", "session=1")][..]),
    ] {
        let (runs, arrived, gate) = (Runs::new(), Runs::new(), Gate::shut());
        let config = counting(memory(), &arrived).build().unwrap();
        let door = gate.clone();
        let handler = handler(&runs, move |run, _| {
            let door = door.clone();
            async move {
                if run > 1 {
                    door.pass().await;
                }
                text("well")
            }
        });
        let server = serve!(2, config, handler);
        assert_eq!(server.send(method, "/a/x", fields, b"").await.status, 200);
        let asked = ask(&server, 50, "/a/x", &[]);
        until("all have come", || arrived.count() == 51).await;
        gate.open();
        all_ok(answers(asked).await);
        assert_eq!(runs.count(), 2, "after {method} {fields:?}");
    }
}

// S7
#[tokio::test]
async fn a_follower_that_has_waited_long_enough_runs_on_its_own() {
    let (runs, gate) = (Runs::new(), Gate::shut());
    let config = CacheConfig::builder(MemoryStorage::new()).wait(Duration::from_millis(50)).build().unwrap();
    let door = gate.clone();
    let handler = handler(&runs, move |run, _| {
        let door = door.clone();
        async move {
            if run == 1 {
                door.pass().await;
            }
            text(format!("run {run}"))
        }
    });
    let server = serve!(2, config, handler);
    let leader = ask(&server, 1, "/a/x", &[]);
    until("the leader runs", || runs.count() == 1).await;
    let follower = server.get("/a/x", &[]).await;
    assert_eq!((follower.status, follower.text().as_str()), (200, "run 2"));
    gate.open();
    all_ok(answers(leader).await);
}

// S8, R5
#[tokio::test]
async fn a_leader_that_hangs_is_replaced_and_its_late_answer_does_not_win() {
    let (runs, gate, clock) = (Runs::new(), Gate::shut(), ManualClock::new());
    let config = CacheConfig::builder(MemoryStorage::new())
        .clock(clock.clone())
        .wait(FOR_EVER)
        .leader_age(Duration::from_secs(30))
        .build()
        .unwrap();
    let door = gate.clone();
    let handler = handler(&runs, move |run, _| {
        let door = door.clone();
        async move {
            if run == 1 {
                door.pass().await;
            }
            text(format!("run {run}"))
        }
    });
    let server = serve!(2, config, handler);
    let hung = ask(&server, 1, "/a/x", &[]);
    until("the leader runs", || runs.count() == 1).await;
    clock.advance(Duration::from_secs(30));
    assert_eq!(server.get("/a/x", &[]).await.text(), "run 2");
    gate.open();
    assert_eq!(all_ok(answers(hung).await)[0].text(), "run 1");
    let after = server.get("/a/x", &[]).await;
    assert_eq!((after.cache().as_str(), after.text().as_str()), ("HIT", "run 2"));
    until("no fill is left", || config.handle().fills_under_way() == 0).await;
}

// S9
#[actix_web::test]
async fn ten_thousand_waiters_that_leave_harm_nobody_and_leave_nothing() {
    const MANY: usize = 10_000;
    let (runs, gate) = (Runs::new(), Gate::shut());
    let config = memory().max_waiters(MANY).build().unwrap();
    let door = gate.clone();
    let handler = handler(&runs, move |run, _| {
        let door = door.clone();
        async move {
            door.pass().await;
            text(format!("run {run}"))
        }
    });
    let app = init_service(App::new().service(
        web::scope("/a").wrap(FastCache::new(config.clone())).default_service(web::to(handler.clone())),
    ))
    .await;
    let get = || app.call(TestRequest::get().uri("/a/x").to_request());
    let mut leader = Box::pin(get());
    assert!(leader.as_mut().now_or_never().is_none());
    for _ in 0..2 {
        // The second crowd finds room only if the first left none of its own behind.
        let mut waiting: Vec<_> = (0..MANY).map(|_| Box::pin(get())).collect();
        for waiter in &mut waiting {
            assert!(waiter.as_mut().now_or_never().is_none());
        }
        assert_eq!((runs.count(), config.handle().fills_under_way()), (1, 1));
    }
    gate.open();
    assert_eq!(leader.await.unwrap().status(), 200);
    assert_eq!((runs.count(), config.handle().fills_under_way()), (1, 0));
}

// S10
#[tokio::test]
async fn a_leader_whose_client_does_not_read_holds_nobody_up() {
    const SIZE: usize = 16 << 20;
    let chunks = || {
        let chunk = Bytes::from(vec![b'x'; 64 << 10]);
        futures_util::stream::iter((0..SIZE / chunk.len()).map(move |_| Ok::<_, Error>(chunk.clone())))
    };
    for sized in [true, false] {
        let (runs, arrived) = (Runs::new(), Runs::new());
        let config = counting(memory(), &arrived).body_limit(SIZE).build().unwrap();
        let handler = handler(&runs, move |_, _| async move {
            Ok(if sized {
                HttpResponse::Ok().body(SizedStream::new(SIZE as u64, chunks()))
            } else {
                HttpResponse::Ok().body(BodyStream::new(chunks()))
            })
        });
        let server = serve!(2, config, handler);
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4 << 10).unwrap();
        let mut deaf = socket.connect(server.addr).await.unwrap();
        deaf.write_all(&request("GET", "/a/x", &[], b"")).await.unwrap();
        until("the leader runs", || runs.count() == 1).await;
        let answers = all_ok(answers(ask(&server, 4, "/a/x", &[])).await);
        assert!(answers.iter().all(|answer| answer.body.len() == SIZE));
        assert_eq!(runs.count(), 1);
        reset(deaf);
    }
}

// S11
#[tokio::test]
async fn a_thousand_requests_for_a_stale_answer_get_it_at_once_and_one_refreshes_it() {
    let (runs, gate, clock) = (Runs::new(), Gate::shut(), ManualClock::new());
    let config = CacheConfig::builder(MemoryStorage::new())
        .clock(clock.clone())
        .wait(FOR_EVER)
        .stale_while_revalidate(Duration::from_secs(60))
        .build()
        .unwrap();
    let door = gate.clone();
    let handler = handler(&runs, move |run, _| {
        let door = door.clone();
        async move {
            if run > 1 {
                door.pass().await;
            }
            text(format!("run {run}"))
        }
    });
    let server = serve!(4, config, handler);
    server.get("/a/x", &[]).await;
    clock.advance(Duration::from_secs(61));
    let answers = all_ok(answers(ask(&server, 1_000, "/a/x", &[])).await);
    assert!(answers.iter().all(|answer| answer.text() == "run 1" && answer.cache() == "HIT"));
    until("the refresh runs", || runs.count() == 2).await;
    gate.open();
    until("no fill is left", || config.handle().fills_under_way() == 0).await;
    let after = server.get("/a/x", &[]).await;
    assert_eq!((after.text().as_str(), after.cache().as_str(), runs.count()), ("run 2", "HIT", 2));
}

/// How the refreshes of a test go wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Trouble {
    Fails,
    Errs,
    Panics,
    Hangs,
}

// S12
#[tokio::test]
async fn a_refresh_in_trouble_is_tried_once_per_back_off_and_stale_serves_to_the_end_of_its_window() {
    for trouble in [Trouble::Fails, Trouble::Errs, Trouble::Panics, Trouble::Hangs] {
        let (runs, clock) = (Runs::new(), ManualClock::new());
        let config = CacheConfig::builder(MemoryStorage::new())
            .clock(clock.clone())
            .wait(Duration::from_millis(20))
            .leader_age(Duration::from_secs(5))
            .stale_while_revalidate(Duration::from_secs(60))
            .build()
            .unwrap();
        let handler = handler(&runs, move |run, req| async move {
            if run == 1 || req.headers().contains_key("x-well") {
                return text(format!("run {run}"));
            }
            match trouble {
                Trouble::Fails => Ok(HttpResponse::BadGateway().finish()),
                Trouble::Errs => Err(ErrorInternalServerError("no")),
                Trouble::Panics => panic!("a refresh panics"),
                Trouble::Hangs => std::future::pending().await,
            }
        });
        let server = serve!(2, config, handler);
        server.get("/a/x", &[]).await;
        clock.advance(Duration::from_secs(60));
        for turn in 1..=3 {
            for answer in all_ok(answers(ask(&server, 20, "/a/x", &[])).await) {
                assert_eq!(
                    (answer.text().as_str(), answer.cache().as_str()),
                    ("run 1", "HIT"),
                    "{trouble:?}"
                );
            }
            until(&format!("the refresh runs: {trouble:?} {turn}"), || runs.count() == 1 + turn).await;
            let is_over = || trouble == Trouble::Hangs || config.handle().fills_under_way() == 0;
            until("the refresh is over", is_over).await;
            for answer in all_ok(answers(ask(&server, 20, "/a/x", &[])).await) {
                assert_eq!(answer.text(), "run 1", "{trouble:?}");
            }
            assert_eq!(runs.count(), 1 + turn, "{trouble:?}");
            clock.advance(Duration::from_secs(5));
        }
        clock.advance(Duration::from_secs(45));
        let after = server.get("/a/x", &[("x-well", "1")]).await;
        assert_eq!((after.status, after.cache().as_str()), (200, "MISS"), "{trouble:?}");
    }
}

// S12: what hangs must not use up the places of what would not
#[tokio::test]
async fn refreshes_that_hang_are_given_up() {
    const HUNG: usize = 64;
    let (runs, clock) = (Runs::new(), ManualClock::new());
    let config = CacheConfig::builder(MemoryStorage::new())
        .clock(clock.clone())
        .leader_age(Duration::from_millis(100))
        .stale_while_revalidate(Duration::from_secs(60))
        .build()
        .unwrap();
    let handler = handler(&runs, move |run, req| async move {
        if run > HUNG + 1 && req.path() != "/a/well" {
            std::future::pending::<()>().await;
        }
        text(format!("run {run}"))
    });
    let server = serve!(2, config, handler);
    for n in 0..HUNG {
        server.get(&format!("/a/{n}"), &[]).await;
    }
    server.get("/a/well", &[]).await;
    clock.advance(Duration::from_secs(60));
    for n in 0..HUNG {
        assert_eq!(server.get(&format!("/a/{n}"), &[]).await.cache(), "HIT");
    }
    until("all places are taken", || runs.count() == 2 * HUNG + 1).await;
    until("all are given up", || config.handle().fills_under_way() == 0).await;
    assert_eq!(server.get("/a/well", &[]).await.cache(), "HIT");
    until("another is refreshed", || runs.count() == 2 * HUNG + 2).await;
}

// S2: without a client nobody but the cache can end it
#[tokio::test]
async fn a_leader_that_hangs_without_its_client_is_given_up() {
    struct Ended(Runs);

    impl Drop for Ended {
        fn drop(&mut self) {
            self.0.add();
        }
    }

    let (runs, ended) = (Runs::new(), Runs::new());
    let config = memory().leader_age(Duration::from_millis(100)).build().unwrap();
    let counted = ended.clone();
    let handler = handler(&runs, move |_, _| {
        let ended = Ended(counted.clone());
        async move {
            std::future::pending::<()>().await;
            drop(ended);
            text("never")
        }
    });
    let server = serve!(1, config, handler);
    let leader = ask_and_hold(&server, "/a/x").await;
    until("the leader runs", || runs.count() == 1).await;
    reset(leader);
    until("the run is over", || ended.count() == 1).await;
    assert_eq!(config.handle().fills_under_way(), 0);
}

// S13
#[tokio::test]
async fn followers_of_another_variant_share_a_run_of_their_own_side_by_side() {
    let (runs, arrived, gate) = (Runs::new(), Runs::new(), Gate::shut());
    let config = counting(memory(), &arrived).build().unwrap();
    let (door, others) = (gate.clone(), Quorum::of(2));
    let handler = handler(&runs, move |run, req| {
        let (door, others) = (door.clone(), others.clone());
        async move {
            if run == 1 {
                door.pass().await;
            } else {
                others.pass().await;
            }
            let accept = req.headers().get("accept").unwrap().to_str().unwrap().to_owned();
            Ok(HttpResponse::Ok().insert_header(("vary", "Accept")).body(accept))
        }
    });
    let server = serve!(4, config, handler);
    let plain = ask(&server, 50, "/a/x", &[("accept", "text/plain")]);
    let html = ask(&server, 50, "/a/x", &[("accept", "text/html")]);
    let json = ask(&server, 50, "/a/x", &[("accept", "text/json")]);
    until("all have come", || arrived.count() == 150).await;
    gate.open();
    for (asked, accept) in [(plain, "text/plain"), (html, "text/html"), (json, "text/json")] {
        assert!(all_ok(answers(asked).await).iter().all(|answer| answer.text() == accept));
    }
    assert_eq!(runs.count(), 3);
    until("no fill is left", || config.handle().fills_under_way() == 0).await;
}

// S14
#[tokio::test]
async fn a_handler_that_asks_for_its_own_url_gets_an_answer_after_the_wait() {
    let runs = Runs::new();
    let config = CacheConfig::builder(MemoryStorage::new()).wait(Duration::from_millis(100)).build().unwrap();
    let handler = handler(&runs, move |run, req| async move {
        if run > 1 {
            return text("inner");
        }
        let mut stream = TcpStream::connect(req.app_config().local_addr()).await.unwrap();
        stream.write_all(&request("GET", "/a/x", &[], b"")).await.unwrap();
        let inner = Reply::read(&mut stream, false).await.unwrap();
        text(format!("outer of {}", inner.text()))
    });
    let server = serve!(2, config, handler);
    let answers = all_ok(answers(ask(&server, 1, "/a/x", &[])).await);
    assert_eq!((answers[0].text().as_str(), runs.count()), ("outer of inner", 2));
}

// S1, F17: a storage in trouble cannot say whether what was waited for is still valid; one who waited runs for the others
#[tokio::test]
async fn with_a_storage_that_fails_two_runs_do_for_all_who_wait() {
    let (runs, arrived, first, second) = (Runs::new(), Runs::new(), Gate::shut(), Gate::shut());
    let builder = CacheConfig::builder(FailingStorage).wait(FOR_EVER);
    let config = counting(builder, &arrived).build().unwrap();
    let doors = (first.clone(), second.clone());
    let handler = handler(&runs, move |run, _| {
        let (first, second) = doors.clone();
        async move {
            if run == 1 {
                first.pass().await
            } else {
                second.pass().await
            }
            text(format!("run {run}"))
        }
    });
    let server = serve!(2, config, handler);
    let asked = ask(&server, 50, "/a/x", &[]);
    until("all have come", || arrived.count() == 50).await;
    first.open();
    // All but the leader ask whether its answer is valid, and most look again: then nobody asks any more.
    let calls = || {
        let trouble = config.handle().storage_trouble();
        trouble.failed + trouble.left_alone
    };
    let mut last = 0;
    while last < calls() {
        last = calls();
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    second.open();
    let answers = all_ok(answers(asked).await);
    // The first answer is for its leader, and for those who came before it led: it may be older than a write that the
    // others know of. One more may slip between its look and the queue.
    let first = answers.iter().filter(|answer| answer.text() == "run 1").count();
    assert!(first >= 1 && (2..=4).contains(&runs.count()), "{first}, {}", runs.count());
    until("no fill is left", || config.handle().fills_under_way() == 0).await;
}

// S1: a namesake in the queue is bounded work for the queue
#[actix_web::test]
async fn followers_of_a_fill_that_was_invalidated_share_the_next_one() {
    let (runs, first) = (Runs::new(), Gate::shut());
    let config = memory().build().unwrap();
    let door = first.clone();
    let handler = handler(&runs, move |run, _| {
        let door = door.clone();
        async move {
            if run == 1 {
                door.pass().await;
            } else {
                rt::task::yield_now().await;
            }
            text(format!("run {run}"))
        }
    });
    let app = init_service(App::new().service(
        web::scope("/a").wrap(FastCache::new(config.clone())).default_service(web::to(handler.clone())),
    ))
    .await;
    let get = || app.call(TestRequest::get().uri("/a/x").to_request());
    let mut leader = Box::pin(get());
    assert!(leader.as_mut().now_or_never().is_none());
    let mut waiting: Vec<_> = (0..100).map(|_| Box::pin(get())).collect();
    for waiter in &mut waiting {
        assert!(waiter.as_mut().now_or_never().is_none());
    }
    config.handle().clear().await.unwrap();
    first.open();
    let leader = leader.await.unwrap();
    assert_eq!(actix_web::test::read_body(leader).await, "run 1");
    for answer in futures_util::future::join_all(waiting).await {
        assert_eq!(actix_web::test::read_body(answer.unwrap()).await, "run 2");
    }
    let again = call_service(&app, TestRequest::get().uri("/a/x").to_request()).await;
    assert_eq!(again.headers().get("x-cache").unwrap(), "HIT");
    assert_eq!(runs.count(), 2);
}

/// A fence clock that nothing has moved yet stands at zero: that is no trouble.
#[actix_web::test]
async fn another_process_is_waited_for_before_anything_was_ever_invalidated() {
    /// Another process has each lease for a while, and stores nothing.
    struct Elsewhere {
        memory: MemoryStorage,
        claims: Runs,
    }

    const HELD: usize = 5;

    impl Storage for Elsewhere {
        fn leases(&self) -> bool {
            true
        }

        async fn claim(&self, _: &CacheKey, _: Holder, _: Duration) -> Result<Claimed, StorageError> {
            Ok(if self.claims.add() <= HELD { Claimed::Held } else { Claimed::Granted })
        }

        answered_by!(memory: get, put, remove, raise, is_current);
    }

    let (runs, claims) = (Runs::new(), Runs::new());
    let storage = Elsewhere { memory: MemoryStorage::new(), claims: claims.clone() };
    let config = CacheConfig::builder(storage).wait(FOR_EVER).build().unwrap();
    let handler = handler(&runs, |run, _| async move { text(format!("run {run}")) });
    let cache = FastCache::new(config);
    let app =
        init_service(App::new().service(web::scope("/a").wrap(cache).default_service(web::to(handler))));
    let answer = call_service(&app.await, TestRequest::get().uri("/a/x").to_request()).await;
    assert_eq!(actix_web::test::read_body(answer).await, "run 1");
    assert!(claims.count() > HELD, "{} claims", claims.count());
}
