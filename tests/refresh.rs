//! Stale answers that come at once are refreshed behind it, with all that a handler may ask of its request.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)] // it is test code

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use actix_fast_cache::{
    CacheConfig, CacheConfigBuilder, CookiePolicy, FastCache, ManualClock, MemoryStorage,
};
use actix_session::{Session, SessionExt, SessionMiddleware, storage::CookieSessionStore};
use actix_web::body::MessageBody;
use actix_web::cookie::Key;
use actix_web::dev::{Service, ServiceRequest, ServiceResponse};
use actix_web::middleware::{Condition, Next, from_fn};
use actix_web::test::{TestRequest, init_service};
use actix_web::web::{self, Data, Path, Query, ReqData};
use actix_web::{App, Error, HttpMessage, HttpRequest, HttpResponse, rt};
use futures_util::future::join_all;
use serde::Deserialize;
use support::{Gate, Reply, Runs, Server, request, until};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const LIFETIME: Duration = Duration::from_secs(10);
const WINDOW: Duration = Duration::from_secs(60);
/// No more refreshes run at a time.
const MOST_REFRESHES: usize = 64;

fn with_clock() -> (CacheConfigBuilder, ManualClock) {
    let clock = ManualClock::new();
    let builder = CacheConfig::builder(MemoryStorage::new()).clock(clock.clone()).ttl(LIFETIME);
    (builder.wait(Duration::from_secs(600)), clock)
}

async fn is_refreshed(config: &CacheConfig) {
    until("the refresh is over", || config.handle().fills_under_way() == 0).await;
}

// ---- The request behind the answer

#[derive(Clone, Copy, Debug, PartialEq)]
enum Level {
    App,
    Scope,
    Resource,
    Route,
}

/// Where the cache may stand, and whether sessions are made outside it or inside it.
const PLACES: [(Level, bool); 8] = [
    (Level::App, false),
    (Level::App, true),
    (Level::Scope, false),
    (Level::Scope, true),
    (Level::Resource, false),
    (Level::Resource, true),
    (Level::Route, false),
    (Level::Route, true),
];

/// What a layer outside the cache leaves for the handler.
#[derive(Clone)]
struct Visitor(String);

#[derive(Deserialize)]
struct Shown {
    page: u32,
}

#[derive(Clone)]
struct Shared {
    name: &'static str,
    runs: Runs,
    gate: Gate,
}

/// Uses all that a handler may, before and after the stale answer has left through the layers outside.
async fn page(
    req: HttpRequest,
    path: Path<(u32, String)>,
    query: Query<Shown>,
    shared: Data<Shared>,
    visitor: ReqData<Visitor>,
    session: Session,
) -> String {
    let run = shared.runs.add();
    let look = || {
        let (id, name) = (path.0, &path.1);
        let parameters: Vec<_> =
            req.match_info().iter().map(|(name, value)| format!("{name}={value}")).collect();
        let left = req.extensions().get::<Visitor>().unwrap().0.clone();
        let user = session.get::<String>("user").unwrap().unwrap();
        let user_again = req.get_session().get::<String>("user").unwrap().unwrap();
        format!(
            "{id} {name} page={} {} {} {left} {user} {user_again} {} {} {} {}",
            query.page,
            shared.name,
            visitor.0,
            req.match_pattern().unwrap(),
            parameters.join(","),
            req.path(),
            req.peer_addr().unwrap().ip(),
        )
    };
    let early = look();
    if run > 1 {
        shared.gate.pass().await;
    }
    assert_eq!(early, look(), "what the handler saw was taken from it");
    format!("run {run}: {early}")
}

/// What `page` should see.
fn seen(run: usize, visitor: &str) -> String {
    format!(
        "run {run}: 7 x page=3 shared {visitor} {visitor} ann ann /a/{{id}}/{{name}} id=7,name=x /a/7/x 127.0.0.1"
    )
}

/// A layer outside the cache: leaves something for the handler, and tells what it sees when the answer comes back.
async fn meet(
    req: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let visitor = |req: &HttpRequest| req.headers().get("x-visitor").unwrap().to_str().unwrap().to_owned();
    let came = visitor(req.request());
    req.extensions_mut().insert(Visitor(came));
    let mut answer = next.call(req).await?;
    let req = answer.request();
    let parameters: Vec<_> = req.match_info().iter().map(|(_, value)| value).collect();
    let back = format!(
        "{} {} {:?} {} {} {} [{}]",
        req.method(),
        req.uri(),
        req.version(),
        req.connection_info().host(),
        req.connection_info().realip_remote_addr().unwrap(),
        visitor(req),
        parameters.join(","),
    );
    answer.headers_mut().insert("x-back".parse().unwrap(), back.parse().unwrap());
    Ok(answer)
}

fn sessions() -> SessionMiddleware<CookieSessionStore> {
    let store = CookieSessionStore::default();
    SessionMiddleware::builder(store, Key::from(&[7; 64])).cookie_name("id".to_owned()).build()
}

/// The cookie of somebody who has signed in.
async fn cookie() -> String {
    let enter = async |session: Session| session.insert("user", "ann").map(|()| "welcome");
    let app = init_service(App::new().wrap(sessions()).default_service(web::to(enter))).await;
    let answer = app.call(TestRequest::get().to_request()).await.unwrap();
    let cookie = answer.response().cookies().next().unwrap();
    format!("{}={}", cookie.name(), cookie.value())
}

/// Puts the cache around something, between a layer that leaves data and one that makes sessions.
macro_rules! dressed {
    ($service:expr, $config:expr, $place:expr, $level:expr) => {{
        let (level, inside) = $place;
        let here = level == $level;
        $service
            .wrap(Condition::new(here && inside, sessions()))
            .wrap(Condition::new(here, FastCache::new($config.clone())))
            .wrap(Condition::new(here && !inside, sessions()))
            .wrap(Condition::new(here, from_fn(meet)))
    }};
}

/// An answer of `page` that has just gone stale, and the means to ask for it.
struct House {
    server: Server,
    config: CacheConfig,
    shared: Shared,
    cookie: String,
}

impl House {
    async fn with_stale(place: (Level, bool)) -> Self {
        let (builder, clock) = with_clock();
        let builder = builder.stale_while_revalidate(WINDOW);
        let config = builder.cookies(CookiePolicy::KeyBy(vec!["id".to_owned()])).build().unwrap();
        let shared = Shared { name: "shared", runs: Runs::new(), gate: Gate::shut() };
        let (cache, data) = (config.clone(), shared.clone());
        let server = Server::start(2, move || {
            let route = dressed!(web::get().to(page), cache, place, Level::Route);
            let resource = web::resource("/{id}/{name}").route(route);
            let resource = dressed!(resource, cache, place, Level::Resource);
            let scope = dressed!(web::scope("/a").service(resource), cache, place, Level::Scope);
            let app = App::new().app_data(Data::new(data.clone())).service(scope);
            dressed!(app, cache, place, Level::App)
        });
        let house = Self { server, config, shared, cookie: cookie().await };
        let first = house.get("one").await;
        assert_eq!((first.cache(), first.text()), ("MISS".into(), seen(1, "one")), "{place:?}");
        clock.advance(LIFETIME);
        house
    }

    async fn get(&self, visitor: &str) -> Reply {
        self.server.get("/a/7/x?page=3", &[("x-visitor", visitor), ("cookie", &self.cookie)]).await
    }
}

// RFC 5861 section 3
#[actix_web::test]
async fn wherever_the_cache_stands_a_refresh_sees_what_a_run_before_its_client_sees() {
    for place in PLACES {
        let house = House::with_stale(place).await;
        // It comes although the handler waits.
        let stale = house.get("two").await;
        assert_eq!((stale.cache(), stale.text()), ("HIT".into(), seen(1, "one")), "{place:?}");
        assert_eq!(stale.field("age").as_deref(), Some("10"), "{place:?}");
        until("the refresh runs", || house.shared.runs.count() == 2).await;
        house.shared.gate.open();
        is_refreshed(&house.config).await;
        let fresh = house.get("three").await;
        assert_eq!((fresh.cache(), fresh.text()), ("HIT".into(), seen(2, "two")), "{place:?}");
        assert_eq!(fresh.field("age").as_deref(), Some("0"), "{place:?}");
        assert_eq!(house.shared.runs.count(), 2, "{place:?}");
    }
}

// The request itself goes to the refresh: ACTIX-NOTES, "Refresh in the background"
#[actix_web::test]
async fn the_layers_outside_see_the_same_request_on_a_stale_answer_as_on_a_fresh_one() {
    for place in PLACES {
        let house = House::with_stale(place).await;
        house.shared.gate.open();
        let stale = house.get("two").await;
        is_refreshed(&house.config).await;
        let fresh = house.get("two").await;
        assert_eq!((stale.text(), fresh.text()), (seen(1, "one"), seen(2, "two")), "{place:?}");
        let back = stale.field("x-back").unwrap();
        // Before the router there are no parameters yet, and a hit does not get there.
        let parameters = if matches!(place.0, Level::App | Level::Scope) { "" } else { "7,x" };
        let expected = format!("GET /a/7/x?page=3 HTTP/1.1 test.example 127.0.0.1 two [{parameters}]");
        assert_eq!(back, expected, "{place:?}");
        assert_eq!(fresh.field("x-back"), Some(back), "{place:?}");
    }
}

// A cache inside another one, which keeps what it is told to keep
#[tokio::test]
async fn a_stale_answer_of_an_inner_cache_is_not_kept_by_an_outer_one() {
    let ((outer, clock), (inner, _)) = (with_clock(), with_clock());
    let (outer, runs) = (outer.clock(clock.clone()).build().unwrap(), Runs::new());
    let inner = inner.clock(clock.clone()).stale_while_revalidate(WINDOW).build().unwrap();
    let (counted, shared) = (runs.clone(), inner.clone());
    let server = Server::start(1, move || {
        let runs = counted.clone();
        let page = move || std::future::ready(format!("run {}", runs.add()));
        let scope = web::scope("/a").wrap(FastCache::new(shared.clone())).default_service(web::to(page));
        App::new().wrap(FastCache::new(outer.clone())).service(scope)
    });
    assert_eq!(server.get("/a/x", &[]).await.text(), "run 1");
    clock.advance(LIFETIME);
    assert_eq!(server.get("/a/x", &[]).await.text(), "run 1");
    until("the refresh runs", || runs.count() == 2).await;
    is_refreshed(&inner).await;
    assert_eq!((server.get("/a/x", &[]).await.text(), runs.count()), ("run 2".into(), 2));
}

// ---- How many refreshes

/// A server whose handler is told how many runs there were.
fn serve<R>(
    workers: usize,
    config: &CacheConfig,
    runs: &Runs,
    run: impl Fn(usize, HttpRequest) -> R + Clone + Send + 'static,
) -> Server
where
    R: Future<Output = HttpResponse> + 'static,
{
    let (config, runs) = (config.clone(), runs.clone());
    Server::start(workers, move || {
        let (run, runs) = (run.clone(), runs.clone());
        let handler = move |req: HttpRequest| run(runs.add(), req);
        App::new()
            .service(web::scope("/a").wrap(FastCache::new(config.clone())).default_service(web::to(handler)))
    })
}

/// Asks for one after the other on one connection: the answers.
async fn walk(server: &Server, targets: impl Iterator<Item = String>) -> Vec<Reply> {
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    let mut answers = Vec::new();
    for target in targets {
        stream.write_all(&request("GET", &target, &[], b"")).await.unwrap();
        answers.push(Reply::read(&mut stream, false).await.expect("an answer"));
    }
    answers
}

// X13
#[tokio::test]
async fn of_many_keys_that_go_stale_at_once_a_bounded_number_is_refreshed_at_a_time() {
    const KEYS: usize = 2_000;
    const WALKERS: usize = 8;
    let (builder, clock) = with_clock();
    let config = builder.stale_while_revalidate(WINDOW).build().unwrap();
    let (runs, gate) = (Runs::new(), Gate::shut());
    let (at_work, peak) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let watch = (gate.clone(), Arc::clone(&at_work), Arc::clone(&peak));
    let server = serve(4, &config, &runs, move |run, _| {
        let (gate, at_work, peak) = watch.clone();
        async move {
            if run > KEYS {
                peak.fetch_max(at_work.fetch_add(1, SeqCst) + 1, SeqCst);
                gate.pass().await;
                rt::task::yield_now().await;
                at_work.fetch_sub(1, SeqCst);
            }
            HttpResponse::Ok().body(if run > KEYS { "new" } else { "old" })
        }
    });
    let round = async || {
        let part = |first: usize| (first..KEYS).step_by(WALKERS).map(|key| format!("/a/{key}"));
        let parts = join_all((0..WALKERS).map(|first| walk(&server, part(first)))).await;
        parts.into_iter().flatten().map(|answer| (answer.cache(), answer.text())).collect::<Vec<_>>()
    };
    let all = |answers: Vec<(String, String)>, cache: &str, texts: &[&str]| {
        assert_eq!(answers.len(), KEYS);
        assert!(answers.iter().all(|(told, text)| told == cache && texts.contains(&text.as_str())));
    };
    all(round().await, "MISS", &["old"]);
    clock.advance(LIFETIME);
    // While none comes to its end, everybody is answered, and no more than so many begin.
    all(round().await, "HIT", &["old"]);
    until("all places are taken", || at_work.load(SeqCst) >= MOST_REFRESHES).await;
    assert_eq!((at_work.load(SeqCst), runs.count()), (MOST_REFRESHES, KEYS + MOST_REFRESHES));
    gate.open();
    // What found no place finds one later.
    let mut rounds = 0;
    while runs.count() < 2 * KEYS {
        all(round().await, "HIT", &["old", "new"]);
        rounds += 1;
        assert!(rounds < 200, "{} of {KEYS} refreshed", runs.count() - KEYS);
    }
    is_refreshed(&config).await;
    all(round().await, "HIT", &["new"]);
    assert_eq!((peak.load(SeqCst), runs.count()), (MOST_REFRESHES, 2 * KEYS));
}

// X13
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_that_claim_the_last_place_for_a_refresh_at_once_do_not_all_get_it() {
    const KEYS: usize = 96;
    const WALKERS: usize = 8;
    const ROUNDS: u32 = 200;
    let (builder, clock) = with_clock();
    let config = builder.stale_while_revalidate(ROUNDS * LIFETIME).build().unwrap();
    let (runs, gate) = (Runs::new(), Gate::opened());
    let door = gate.clone();
    let server = serve(4, &config, &runs, move |_, _| {
        let gate = door.clone();
        async move {
            gate.pass().await;
            HttpResponse::Ok().body("page")
        }
    });
    let server = Arc::new(server);
    walk(&server, (0..KEYS).map(|key| format!("/a/{key}"))).await;
    for _ in 0..ROUNDS {
        clock.advance(LIFETIME);
        gate.close();
        let before = runs.count();
        let walks = (0..WALKERS).map(|first| {
            let server = Arc::clone(&server);
            let keys = (first..KEYS).step_by(WALKERS).map(|key| format!("/a/{key}"));
            tokio::spawn(async move { walk(&server, keys).await })
        });
        for answers in join_all(walks).await {
            assert!(answers.unwrap().iter().all(|answer| answer.cache() == "HIT"));
        }
        until("all places are taken", || config.handle().fills_under_way() >= MOST_REFRESHES).await;
        assert_eq!(config.handle().fills_under_way(), MOST_REFRESHES);
        gate.open();
        until("they run", || runs.count() == before + MOST_REFRESHES).await;
        is_refreshed(&config).await;
    }
}

// S11 and RFC 9111 section 4.1
#[tokio::test]
async fn each_variant_of_a_stale_answer_is_refreshed_once_with_the_fields_that_select_it() {
    let (builder, clock) = with_clock();
    let config = builder.stale_while_revalidate(WINDOW).build().unwrap();
    let (runs, gate) = (Runs::new(), Gate::shut());
    let door = gate.clone();
    let server = serve(2, &config, &runs, move |run, req| {
        let gate = door.clone();
        async move {
            if run > 2 {
                gate.pass().await;
            }
            let language = req.headers().get("accept-language").unwrap().to_str().unwrap();
            let age = if run > 2 { "new" } else { "old" };
            HttpResponse::Ok().insert_header(("vary", "accept-language")).body(format!("{age} {language}"))
        }
    });
    let get = async |language: &str| {
        let answer = server.get("/a/x", &[("accept-language", language)]).await;
        format!("{} {}", answer.cache(), answer.text())
    };
    assert_eq!((get("en").await, get("de").await), ("MISS old en".into(), "MISS old de".into()));
    clock.advance(LIFETIME);
    for _ in 0..10 {
        assert_eq!((get("en").await, get("de").await), ("HIT old en".into(), "HIT old de".into()));
    }
    gate.open();
    until("both are refreshed", || runs.count() == 4 && config.handle().fills_under_way() == 0).await;
    assert_eq!((get("en").await, get("de").await), ("HIT new en".into(), "HIT new de".into()));
    assert_eq!(runs.count(), 4);
}

// RFC 9111 section 4.3.2
#[tokio::test]
async fn a_clients_conditions_and_ranges_are_answered_from_a_stale_answer_too() {
    let (builder, clock) = with_clock();
    let config = builder.stale_while_revalidate(WINDOW).build().unwrap();
    let (runs, gate) = (Runs::new(), Gate::shut());
    let door = gate.clone();
    let server = serve(1, &config, &runs, move |run, req| {
        let gate = door.clone();
        async move {
            if run > 1 {
                gate.pass().await;
                // What is stored is for everybody: no condition, no range of one client reaches the handler.
                assert_eq!(req.headers().get("if-none-match").unwrap(), "\"one\"");
                assert!(!req.headers().contains_key("range"));
            }
            HttpResponse::Ok().insert_header(("etag", "\"one\"")).body("0123456789")
        }
    });
    server.get("/a/x", &[]).await;
    clock.advance(LIFETIME);
    let (part, other) = (("range", "bytes=2-4"), ("if-none-match", "\"other\""));
    for (field, status, text) in
        [(part, 206, "234"), (("if-none-match", "\"one\""), 304, ""), (other, 200, "0123456789")]
    {
        let stale = server.get("/a/x", &[field]).await;
        assert_eq!(
            (stale.status, stale.cache(), stale.text()),
            (status, "HIT".into(), text.into()),
            "{field:?}"
        );
    }
    gate.open();
    is_refreshed(&config).await;
    let fresh = server.get("/a/x", &[]).await;
    assert_eq!((fresh.field("age").as_deref(), runs.count()), (Some("0"), 2));
}

// R4 and RFC 9111 section 4.4
#[tokio::test]
async fn a_write_during_a_refresh_is_not_undone_by_it() {
    let (builder, clock) = with_clock();
    let config = builder.stale_while_revalidate(WINDOW).build().unwrap();
    let (runs, gate) = (Runs::new(), Gate::shut());
    let (door, written) = (gate.clone(), Arc::new(AtomicUsize::new(1)));
    let server = serve(2, &config, &runs, move |run, req| {
        let (gate, written) = (door.clone(), Arc::clone(&written));
        async move {
            if req.method() == "PUT" {
                written.fetch_add(1, SeqCst);
                return HttpResponse::NoContent().finish();
            }
            let read = written.load(SeqCst);
            if run == 2 {
                gate.pass().await;
            }
            HttpResponse::Ok().body(format!("v{read}"))
        }
    });
    server.get("/a/x", &[]).await;
    clock.advance(LIFETIME);
    assert_eq!(server.get("/a/x", &[]).await.text(), "v1");
    until("the refresh has read", || runs.count() == 2).await;
    assert_eq!(server.send("PUT", "/a/x", &[], b"v2").await.status, 204);
    gate.open();
    for _ in 0..2 {
        assert_eq!(server.get("/a/x", &[]).await.text(), "v2");
        is_refreshed(&config).await;
    }
}
