//! Random schedules of everything at once, held against a model of what any answer may be.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)] // it is test code

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use actix_fast_cache::storage::{Fence, FenceId, Stamp};
use actix_fast_cache::{
    CacheConfig, CacheControl, CacheKey, Entry, FastCache, Lookup, ManualClock, MemoryStorage, Storage,
    StorageError,
};
use actix_service::Service;
use actix_web::body::to_bytes;
use actix_web::test::{TestRequest, init_service};
use actix_web::web::{self, Bytes};
use actix_web::{App, HttpRequest, HttpResponse};

/// Dice that fall the same for the same seed.
#[derive(Clone)]
struct Rng(Rc<Cell<u64>>);
impl Rng {
    fn next(&self) -> u64 {
        let mut x = self.0.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.0.set(x);
        x >> 11
    }
    fn below(&self, n: u64) -> u64 {
        self.next() % n
    }
    fn pick<T: Clone>(&self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize].clone()
    }
}

const URLS: [&str; 5] = ["/plain", "/vary", "/n1", "/n2", "/nvary"];
const LANGS: [&str; 8] =
    ["de", "en", "en, de", "de, en", "de;q=0.5, en", "en;q=0.5, de;q=0.6", "fr, de;q=0.1", "DE"];
const LEN: usize = 40;

fn content(url: &str) -> usize {
    match url {
        "/plain" => 0,
        "/vary" => 1,
        "/n1" | "/n2" => 2,
        _ => 3,
    }
}
fn varies(url: &str) -> bool {
    url == "/vary" || url == "/nvary"
}

fn language(list: &str) -> &'static str {
    let mut best: Vec<(i32, String)> = list
        .split(',')
        .map(|m| {
            let mut p = m.trim().split(";q=");
            let l = p.next().unwrap().to_lowercase();
            let q = p.next().map_or(1.0, |q| q.parse::<f64>().unwrap());
            (-(q * 1000.0) as i32, l)
        })
        .collect();
    best.sort();
    match best[0].1.as_str() {
        "de" => "de",
        "en" => "en",
        "fr" => "fr",
        _ => panic!(),
    }
}

fn body(url: &str, version: usize, lang: &str, tenant: &str) -> String {
    let head = if varies(url) {
        format!("{}|{version}|{lang}|{tenant}|", content(url))
    } else {
        format!("{}|{version}|", content(url))
    };
    let mut text = head.clone();
    while text.len() < LEN {
        text.push((b'a' + ((text.len() * 7 + version) % 26) as u8) as char);
    }
    text
}

/// A storage that lets others go first around every call.
#[derive(Clone)]
struct Slow(MemoryStorage, std::sync::Arc<std::sync::atomic::AtomicU64>);
impl Slow {
    async fn pause(&self) {
        let n = self.1.fetch_add(0x9E37_79B9_7F4A_7C15, std::sync::atomic::Ordering::SeqCst);
        for _ in 0..(n >> 40) % 4 {
            tokio::task::yield_now().await;
        }
    }
}
impl Storage for Slow {
    async fn get(&self, key: &CacheKey) -> Result<Lookup, StorageError> {
        self.pause().await;
        let r = self.0.get(key).await;
        self.pause().await;
        r
    }
    async fn put(&self, entry: std::sync::Arc<Entry>) -> Result<(), StorageError> {
        self.pause().await;
        let r = self.0.put(entry).await;
        self.pause().await;
        r
    }
    async fn remove(&self, key: &CacheKey) -> Result<bool, StorageError> {
        self.pause().await;
        let r = self.0.remove(key).await;
        self.pause().await;
        r
    }
    async fn raise(&self, fences: &[Fence]) -> Result<(), StorageError> {
        self.pause().await;
        let r = self.0.raise(fences).await;
        self.pause().await;
        r
    }
    async fn is_current(&self, stamp: Stamp, fences: &[FenceId]) -> Result<bool, StorageError> {
        self.pause().await;
        let r = self.0.is_current(stamp, fences).await;
        self.pause().await;
        r
    }
}

struct World {
    version: [Cell<usize>; 4],
    /// When each version was replaced, by content.
    replaced: RefCell<Vec<Vec<u64>>>,
    now: Cell<u64>,
    floor: RefCell<[usize; 5]>,
    runs: Cell<usize>,
    flags: u64,
    clock: ManualClock,
}

fn parse_range(value: &str) -> Option<(usize, usize)> {
    let spec = value.strip_prefix("bytes=")?;
    let (a, b) = spec.split_once('-')?;
    if a.is_empty() {
        let n: usize = b.parse().ok()?;
        return Some((LEN.saturating_sub(n), LEN - 1));
    }
    let a: usize = a.parse().ok()?;
    let b: usize = if b.is_empty() { LEN - 1 } else { b.parse().ok()? };
    (a < LEN).then_some((a, b.min(LEN - 1)))
}

async fn serve(req: HttpRequest, cache: CacheControl, world: Rc<World>, rng: Rng) -> HttpResponse {
    world.runs.set(world.runs.get() + 1);
    let url = req.path().to_owned();
    let c = content(&url);
    let header = |name: &str| req.headers().get(name).map(|v| v.to_str().unwrap().to_owned());
    cache.tag(format!("c{c}"));
    if content(&url) >= 2 {
        cache.set_key(format!("name{c}"));
    }
    for _ in 0..rng.below(4) {
        tokio::task::yield_now().await;
    }
    let method = req.method().as_str();
    if method == "POST" && rng.below(4) == 0 {
        return HttpResponse::InternalServerError().body("x");
    }
    if method == "POST" || method == "PUT" {
        world.replaced.borrow_mut()[c].push(world.now.get());
        world.version[c].set(world.version[c].get() + 1);
    }
    let version = world.version[c].get();
    if world.flags.is_multiple_of(2) && rng.below(4) == 0 {
        let s = rng.below(3);
        world.clock.advance(Duration::from_secs(s));
        world.now.set(world.now.get() + s);
    }
    if method == "GET" && rng.below(8) == 0 {
        let status = actix_web::http::StatusCode::from_u16(rng.pick(&[500, 503])).unwrap();
        if rng.below(2) == 0 {
            return HttpResponse::from_error(actix_web::error::InternalError::new("x", status));
        }
        return HttpResponse::build(status).finish();
    }
    for _ in 0..rng.below(6) {
        tokio::task::yield_now().await;
    }
    if method == "PUT" {
        return HttpResponse::NoContent().finish();
    }
    let lang = language(&header("accept-language").unwrap());
    let tenant = header("x-tenant").unwrap();
    let text = body(&url, version, lang, &tenant);
    let etag = if varies(&url) {
        format!("\"{c}-{version}-{lang}-{tenant}\"")
    } else {
        format!("\"{c}-{version}\"")
    };
    let mut answer = HttpResponse::Ok();
    answer.insert_header(("cache-control", "max-age=60")).insert_header(("etag", etag.as_str()));
    if varies(&url) {
        answer.insert_header(("vary", "accept-language, x-tenant")).insert_header(("content-language", lang));
    }
    if method == "POST" {
        answer.insert_header(("content-location", url.as_str()));
        return answer.body(text);
    }
    if header("if-none-match").is_some_and(|t| t == etag) {
        answer.status(actix_web::http::StatusCode::NOT_MODIFIED);
        return answer.finish();
    }
    if let Some(range) = header("range")
        && header("if-range").is_none_or(|t| t == etag)
        && let Some((a, b)) = parse_range(&range)
    {
        answer.status(actix_web::http::StatusCode::PARTIAL_CONTENT);
        answer.insert_header(("content-range", format!("bytes {a}-{b}/{LEN}")));
        return answer.body(text[a..=b].to_owned());
    }
    if rng.below(3) == 0 {
        let (a, b) = text.split_at(11);
        let chunks = [Bytes::from(a.to_owned()), Bytes::from(b.to_owned())].map(Ok::<_, std::io::Error>);
        return answer.streaming(futures_util::stream::iter(chunks));
    }
    answer.body(text)
}

/// Plays one schedule; how often the handler ran, and how often it was not needed.
async fn round(seed: u64) -> (usize, usize) {
    let rng = Rng(Rc::new(Cell::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)));
    for _ in 0..5 {
        rng.next();
    }
    let clock = ManualClock::new();
    let slow = Slow(MemoryStorage::new(), std::sync::Arc::new(std::sync::atomic::AtomicU64::new(seed)));
    let base = CacheConfig::builder(slow).storage_deadline(Duration::from_secs(60));
    let base = if seed % 4 == 3 { base.store_partial() } else { base.rfc9111() };
    let mut builder = base.stale_if_unreachable(Duration::ZERO).clock(clock.clone());
    let mut limit = 60;
    if seed.is_multiple_of(2) {
        builder = builder.early_refresh(50.0);
    }
    if seed.is_multiple_of(3) {
        builder = builder.stale_while_revalidate(Duration::from_secs(20));
        limit = limit.max(80);
    }
    if seed.is_multiple_of(5) {
        builder = builder.stale_if_error(Duration::from_secs(30));
        limit = limit.max(90);
    }
    if seed.is_multiple_of(7) {
        builder = builder.foreground_refresh();
    }
    if seed.is_multiple_of(11) {
        builder = builder.stale_if_unreachable(Duration::from_secs(30));
        limit = limit.max(90);
    }
    let config = builder.build().unwrap();
    let handle = config.handle();
    let world = Rc::new(World {
        version: Default::default(),
        replaced: RefCell::new(vec![Vec::new(); 4]),
        now: Cell::new(0),
        floor: RefCell::default(),
        runs: Cell::new(0),
        flags: seed,
        clock: clock.clone(),
    });
    let (w, r) = (Rc::clone(&world), rng.clone());
    let handler = move |req: HttpRequest, cache: CacheControl| serve(req, cache, Rc::clone(&w), r.clone());
    let app = Rc::new(
        init_service(App::new().wrap(FastCache::new(config)).default_service(web::to(handler))).await,
    );
    let log = Rc::new(RefCell::new(Vec::<String>::new()));
    for _ in 0..60 {
        let n = 1 + rng.below(4);
        let mut tasks = Vec::new();
        for _ in 0..n {
            let (app, world, rng, handle, log, clock) = (
                Rc::clone(&app),
                Rc::clone(&world),
                rng.clone(),
                handle.clone(),
                Rc::clone(&log),
                clock.clone(),
            );
            tasks.push(tokio::task::spawn_local(async move {
                for _ in 0..rng.below(5) {
                    tokio::task::yield_now().await;
                }
                let u = rng.below(5) as usize;
                let url = URLS[u];
                let c = content(url);
                let raise = |urls: &[usize], version: usize, world: &World| {
                    let mut floor = world.floor.borrow_mut();
                    for u in urls {
                        floor[*u] = floor[*u].max(version);
                    }
                };
                let all_of: Vec<usize> = (0..5).filter(|i| content(URLS[*i]) == c).collect();
                let version = world.version[c].get();
                match rng.below(20) {
                    0 => {
                        handle.invalidate_tag(format!("c{c}")).await.unwrap();
                        raise(&all_of, version, &world);
                        log.borrow_mut().push(format!("tag c{c} floor {version}"));
                    }
                    1 if c >= 2 => {
                        handle.invalidate(&format!("name{c}")).await.unwrap();
                        raise(&all_of, version, &world);
                        log.borrow_mut().push(format!("name{c} floor {version}"));
                    }
                    2 => {
                        handle.invalidate_url(&format!("http://a{url}")).await.unwrap();
                        raise(&[u], version, &world);
                        log.borrow_mut().push(format!("url {url} floor {version}"));
                    }
                    3 => {
                        let seconds = rng.below(50);
                        clock.advance(Duration::from_secs(seconds));
                        world.now.set(world.now.get() + seconds);
                        log.borrow_mut().push(format!("+{seconds}"));
                    }
                    op => {
                        let method = match op {
                            4 => "PUT",
                            5 => "POST",
                            6 => "HEAD",
                            _ => "GET",
                        };
                        let (lang, tenant) = (rng.pick(&LANGS), rng.pick(&["1", "2"]));
                        let mut request = TestRequest::with_uri(url)
                            .method(method.parse().unwrap())
                            .insert_header(("host", "a"))
                            .insert_header(("accept-language", lang))
                            .insert_header(("x-tenant", tenant));
                        let mut range = None;
                        if method == "GET" && rng.below(2) == 0 {
                            let (a, b) = (rng.below(40), rng.below(40));
                            let value = match rng.below(5) {
                                0 => format!("bytes={}-", a),
                                1 => format!("bytes=-{}", 1 + b),
                                2 => format!("bytes=0-{b}"),
                                3 => "bytes=0-19".to_owned(),
                                _ => format!("bytes={}-{}", a.min(b), a.max(b)),
                            };
                            request = request.insert_header(("range", value.clone()));
                            range = Some(value);
                        }
                        let mut inm = None;
                        if rng.below(4) == 0 && method != "POST" && method != "PUT" {
                            let v = world.version[c].get().saturating_sub(rng.below(2) as usize);
                            let l = language(lang);
                            let t = if varies(url) {
                                format!("\"{c}-{v}-{l}-{tenant}\"")
                            } else {
                                format!("\"{c}-{v}\"")
                            };
                            request =
                                request.insert_header((rng.pick(&["if-none-match", "if-range"]), t.clone()));
                            inm = Some(t);
                        }
                        let floor = world.floor.borrow()[u];
                        let began = world.now.get();
                        let what = format!("{method} {url} {lang} {tenant} {range:?} {inm:?} floor {floor}");
                        let call = app.call(request.to_request());
                        let response = if rng.below(10) == 0 && method != "PUT" && method != "POST" {
                            let mut call = Box::pin(call);
                            let mut done = None;
                            for _ in 0..rng.below(12) {
                                if let std::task::Poll::Ready(r) = std::future::poll_fn(|cx| {
                                    std::task::Poll::Ready(std::future::Future::poll(call.as_mut(), cx))
                                })
                                .await
                                {
                                    done = Some(r.unwrap());
                                    break;
                                }
                                tokio::task::yield_now().await;
                            }
                            match done {
                                Some(r) => r,
                                None => {
                                    log.borrow_mut().push(format!("{what} cancelled"));
                                    return;
                                }
                            }
                        } else {
                            call.await.unwrap()
                        };
                        let status = response.status().as_u16();
                        let fields = response.headers().clone();
                        if rng.below(12) == 0 {
                            log.borrow_mut().push(format!("{what} -> {status} left"));
                            return;
                        }
                        let bytes = to_bytes(response.into_body())
                            .await
                            .unwrap_or_else(|e| panic!("{seed} {what}: {e}\n{}", log.borrow().join("\n")));
                        let text = String::from_utf8(bytes.to_vec()).unwrap();
                        log.borrow_mut().push(format!(
                            "{what} -> {status} {text:?} {:?} {:?} {:?}",
                            fields.get("x-cache"),
                            fields.get("age"),
                            fields.get("etag")
                        ));
                        let bad = |why: &str| {
                            panic!(
                                "seed {seed}: {why}: {what} -> {status} {text}\n{fields:?}\n{}",
                                log.borrow().join("\n")
                            )
                        };
                        if (method == "POST" || method == "PUT") && status < 400 {
                            raise(&[u], version, &world);
                        }
                        if method == "PUT" || method == "POST" {
                            return;
                        }
                        if status >= 500 {
                            return;
                        }
                        let l = language(lang);
                        let etag = fields.get("etag").map(|v| v.to_str().unwrap().to_owned());
                        let Some(etag) = etag else { return bad("no etag") };
                        let v: usize = etag.trim_matches('"').split('-').nth(1).unwrap().parse().unwrap();
                        let expected_tag = if varies(url) {
                            format!("\"{c}-{v}-{l}-{tenant}\"")
                        } else {
                            format!("\"{c}-{v}\"")
                        };
                        if etag != expected_tag {
                            bad("wrong variant");
                        }
                        if v < floor {
                            bad("older than an invalidation");
                        }
                        if let Some(end) = world.replaced.borrow()[c].get(v)
                            && began >= end + limit
                        {
                            bad("stale");
                        }
                        let whole = body(url, v, l, tenant);
                        match (status, method) {
                            (304, _) => {
                                if inm.as_deref() != Some(&etag) {
                                    bad("304");
                                }
                            }
                            (200, "HEAD") => {}
                            (200, _) => {
                                if text != whole {
                                    bad("bytes");
                                }
                            }
                            (206, _) => {
                                let told = fields.get("content-range").unwrap().to_str().unwrap();
                                let (a, b) = parse_range(range.as_deref().unwrap()).unwrap();
                                if told != format!("bytes {a}-{b}/40") || text != whole[a..=b] {
                                    bad("part");
                                }
                            }
                            _ => bad("status"),
                        }
                    }
                }
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
    }
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
    assert_eq!(handle.fills_under_way(), 0, "seed {seed}");
    let hits = log.borrow().iter().filter(|line| line.contains("HIT")).count();
    (world.runs.get(), hits)
}

// Every answer is one that its own variant had, since the last invalidation that its client could know of, and no
// longer ago than it may live; every part and every 304 is of it; nobody is left waiting.
#[actix_web::test]
async fn random_schedules_of_requests_writes_invalidations_and_failures_agree_with_the_model() {
    let seeds = if std::env::var_os("FULL_SIZE").is_some() { 2_000 } else { 120 };
    let first: u64 = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let (mut runs, mut hits) = (0, 0);
    for seed in first..first + seeds {
        let (run, hit) = round(seed).await;
        (runs, hits) = (runs + run, hits + hit);
    }
    assert!(runs > 0 && hits * 10 > runs, "{hits} hits of {runs} runs: hardly anything was tried");
    println!("{seeds} schedules from seed {first}: {runs} runs, {hits} hits");
}
