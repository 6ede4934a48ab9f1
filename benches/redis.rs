//! What a hit costs through Redis, beside a bare handler that does one GET with the same client, where all ask for one
//! page and where they ask for 64 in turn; and what a hit costs in memory in front of Redis, beside one in memory alone.
//!
//! `cargo bench --features redis --bench redis` prints two tables. The first one is measured over the loopback: one
//! worker a server, one thread with 32 clients, slices of half a second that take turns. Where a hit on the one page has
//! less than nine tenths of the bare handler's throughput, by the median of the turns, the program fails. The second
//! table counts instructions under valgrind (callgrind), user space only, the client of Redis included, Redis itself not; valgrind
//! knows no instructions for SHA-256, so it counts more there than processors do that have them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, missing_docs)] // it is a bench
#![allow(clippy::disallowed_methods)] // it measures

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use actix_fast_cache::{CacheConfig, FastCache, MemoryStorage, RedisStorage, TieredStorage};
use actix_http::Request;
use actix_service::Service;
use actix_web::body::MessageBody;
use actix_web::dev::ServiceResponse;
use actix_web::http::header::{self, HeaderValue};
use actix_web::rt::{System, SystemRunner};
use actix_web::test::{TestRequest, init_service};
use actix_web::web::{self, Bytes, Data};
use actix_web::{App, Error, HttpRequest, HttpResponse, HttpServer};
use futures_util::future::join_all;
use redis::aio::MultiplexedConnection;

#[path = "../tests/support/redis.rs"]
mod support;

use support::{RedisServer, wait_until};

/// A server to measure, and how many pages it is asked for in turn.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    what: &'static str,
    kind: Kind,
    pages: usize,
}

#[derive(Clone, Copy)]
enum Kind {
    Bare,
    Redis,
    Memory,
    Tiered,
}

const fn case(name: &'static str, what: &'static str, kind: Kind, pages: usize) -> Case {
    Case { name, what, kind, pages }
}

const CASES: [Case; 6] = [
    case("a", "handler, one GET from Redis", Kind::Bare, 1),
    case("b", "hit in Redis", Kind::Redis, 1),
    case("A", "handler, one GET of 64 in turn", Kind::Bare, 64),
    case("B", "hit in Redis, 64 in turn", Kind::Redis, 64),
    case("c", "hit in memory", Kind::Memory, 1),
    case("d", "hit in memory in front of Redis", Kind::Tiered, 1),
];

/// Each beside the other.
const PAIRS: [(usize, usize); 3] = [(1, 0), (3, 2), (5, 4)];

/// Of the first of them, what the one has of the other's throughput at the least.
const LEAST: f64 = 0.9;

const BODY: usize = 10 * 1024;
const BODY_AT: &str = "bench-body-";
const CLIENTS: usize = 32;
const SLICE: Duration = Duration::from_millis(500);
const ROUNDS: usize = 12;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let value = |name: &str| args.iter().position(|arg| arg == name).and_then(|at| args.get(at + 1));
    let system = System::new();
    if let (Some(name), Some(url)) = (value("--case"), value("--redis")) {
        let case = CASES.into_iter().find(|case| case.name == name).expect("a case");
        return answer_in_process(&system, case, url);
    }
    let redis = system.block_on(async {
        let redis = RedisServer::start().await;
        let mut connection = connect(&redis.url()).await;
        for page in 0..CASES.map(|case| case.pages).into_iter().max().unwrap() {
            let (name, body) = (format!("{BODY_AT}{page}"), "x".repeat(BODY));
            redis::cmd("SET").arg(name).arg(body).exec_async(&mut connection).await.unwrap();
        }
        redis
    });
    let is_enough = throughput(&system, &redis.url());
    instructions(&redis.url());
    // Its end is not to be skipped.
    drop(redis);
    if !is_enough {
        std::process::exit(1);
    }
}

// ---- The cases.

/// No part of a path, whose pattern the bare handler alone would pay for.
fn path(page: usize) -> String {
    format!("/page?a=1&b={page}")
}

async fn connect(url: &str) -> MultiplexedConnection {
    redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap()
}

async fn bare(request: HttpRequest, connection: Data<MultiplexedConnection>) -> HttpResponse {
    let mut connection = connection.get_ref().clone();
    let (_, page) = request.query_string().rsplit_once('=').unwrap();
    let mut get = redis::cmd("GET");
    get.arg([BODY_AT, page].concat());
    let body = get.query_async::<Vec<u8>>(&mut connection).await.unwrap();
    answer(body.into())
}

async fn from_handler() -> HttpResponse {
    answer(Bytes::from(vec![b'x'; BODY]))
}

fn answer(body: Bytes) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")))
        .insert_header((header::CACHE_CONTROL, HeaderValue::from_static("max-age=600")))
        .insert_header((header::ETAG, HeaderValue::from_static("\"one\"")))
        .insert_header((header::CONTENT_LANGUAGE, HeaderValue::from_static("en")))
        .body(body)
}

/// The cache of a case, and none for the bare handler; each has a prefix of its own, for they would share entries.
fn cache(case: Case, url: &str) -> Option<CacheConfig> {
    let redis = RedisStorage::open(url, &format!("{}-{}", case.name, std::process::id())).unwrap();
    let builder = match case.kind {
        Kind::Bare => return None,
        Kind::Redis => CacheConfig::builder(redis),
        Kind::Memory => CacheConfig::builder(MemoryStorage::new()),
        Kind::Tiered => CacheConfig::builder(TieredStorage::new(MemoryStorage::new(), redis)),
    };
    // Time goes slowly under valgrind.
    Some(builder.storage_deadline(Duration::from_secs(60)).build().unwrap())
}

// ---- Requests a second.

/// Measures; tells whether it is enough.
fn throughput(system: &SystemRunner, url: &str) -> bool {
    let mut sites = CASES.map(|case| Site::start(system, case, url));
    let mut rounds: Vec<[Slice; CASES.len()]> = Vec::new();
    // The first round is for warming up.
    for _ in 0..=ROUNDS {
        rounds.push(sites.each_mut().map(Site::slice));
    }
    rounds.remove(0);
    println!("{:<36} {:>18} {:>13} {:>16}", "case", "requests/s, median", "quartiles", "us CPU a request");
    for (n, case) in CASES.iter().enumerate() {
        let of = |what: fn(&Slice) -> f64| quartiles(rounds.iter().map(|round| what(&round[n])));
        let ([low, rate, high], [_, cpu, _]) = (of(|slice| slice.rate), of(|slice| slice.cpu_us));
        println!("{:<36} {rate:>18.0} {:>13} {cpu:>16.2}", case.title(), format!("{low:.0}-{high:.0}"));
    }
    let mut is_enough = true;
    for (n, (one, other)) in PAIRS.into_iter().enumerate() {
        let of = |what: fn(&Slice) -> f64| {
            quartiles(rounds.iter().map(|round| what(&round[one]) / what(&round[other])))
        };
        let ([low, rate, high], [_, cpu, _]) = (of(|slice| slice.rate), of(|slice| slice.cpu_us));
        let pair = format!("{}/{}", CASES[one].name, CASES[other].name);
        println!("{pair}: requests/s {rate:.3} (quartiles {low:.3}-{high:.3}), CPU a request {cpu:.3}");
        if n == 0 && rate < LEAST {
            println!("{pair}: {rate:.3} of the throughput, and {LEAST} was to be reached");
            is_enough = false;
        }
    }
    is_enough
}

struct Slice {
    rate: f64,
    cpu_us: f64,
}

fn quartiles(numbers: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut numbers: Vec<f64> = numbers.collect();
    numbers.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| numbers[(numbers.len() - 1) * quarter / 4])
}

impl Case {
    fn title(&self) -> String {
        format!("{}: {}", self.name, self.what)
    }
}

/// A server with one worker, and its clients.
struct Site {
    /// Where the kernel tells what the worker's thread used.
    worker: PathBuf,
    clients: Vec<Client>,
    pages: usize,
    next: usize,
    is_cached: bool,
}

impl Site {
    fn start(system: &SystemRunner, case: Case, url: &str) -> Self {
        let (config, url) = (cache(case, url), url.to_owned());
        let is_cached = config.is_some();
        let (tell_address, address) = mpsc::channel();
        let (tell_worker, worker) = mpsc::channel();
        std::thread::spawn(move || {
            let here = move || tell_worker.send(fs::read_link("/proc/thread-self").unwrap()).unwrap();
            macro_rules! serve {
                ($app:expr) => {{
                    let server = HttpServer::new($app).workers(1).bind("127.0.0.1:0").unwrap();
                    tell_address.send(server.addrs()[0]).unwrap();
                    System::new().block_on(server.run()).unwrap();
                }};
            }
            match config {
                Some(config) => serve!(move || {
                    here();
                    let cache = FastCache::new(config.clone());
                    App::new().wrap(cache).route("/page", web::get().to(from_handler))
                }),
                None => serve!(move || {
                    here();
                    let url = url.clone();
                    App::new()
                        .data_factory(move || {
                            let url = url.clone();
                            async move { Ok::<_, ()>(connect(&url).await) }
                        })
                        .route("/page", web::get().to(bare))
                }),
            }
        });
        let address = address.recv().unwrap();
        let worker = Path::new("/proc").join(worker.recv().unwrap());
        let mut clients: Vec<Client> = (0..CLIENTS).map(|_| Client::connect(address)).collect();
        if is_cached {
            for page in 0..case.pages {
                system.block_on(wait_until(async || clients[0].ask(page).is_hit));
            }
        }
        Self { worker, clients, pages: case.pages, next: 0, is_cached }
    }

    /// As many requests as are answered in a slice of time, one after the other on each connection.
    fn slice(&mut self) -> Slice {
        let (begin, cpu) = (Instant::now(), self.cpu());
        let (mut answers, mut hits) = (0_u32, 0);
        let mut next = || {
            self.next = (self.next + 1) % self.pages;
            self.next
        };
        for client in &mut self.clients {
            client.send(next());
        }
        while begin.elapsed() < SLICE {
            for client in &mut self.clients {
                hits += u32::from(client.receive().is_hit);
                answers += 1;
                client.send(next());
            }
        }
        for client in &mut self.clients {
            hits += u32::from(client.receive().is_hit);
            answers += 1;
        }
        assert_eq!(hits, if self.is_cached { answers } else { 0 });
        let took = begin.elapsed().as_secs_f64();
        let cpu = (self.cpu() - cpu).as_secs_f64();
        Slice { rate: f64::from(answers) / took, cpu_us: cpu * 1e6 / f64::from(answers) }
    }

    /// What the worker has used so far.
    fn cpu(&self) -> Duration {
        let told = fs::read_to_string(self.worker.join("schedstat")).unwrap();
        Duration::from_nanos(told.split(' ').next().unwrap().parse().unwrap())
    }
}

struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

struct Answer {
    is_hit: bool,
}

impl Client {
    fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: vec![0; 2 * BODY] }
    }

    fn ask(&mut self, page: usize) -> Answer {
        self.send(page);
        self.receive()
    }

    fn send(&mut self, page: usize) {
        let request = format!("GET {} HTTP/1.1\r\nhost: bench.example\r\n\r\n", path(page));
        self.stream.write_all(request.as_bytes()).unwrap();
    }

    fn receive(&mut self) -> Answer {
        let mut len = 0;
        loop {
            let read = self.stream.read(&mut self.buffer[len..]).unwrap();
            assert!(read > 0, "the server hung up");
            len += read;
            let answer = &self.buffer[..len];
            // Some hundred bytes, and the rest is body.
            let Some(head) = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { continue };
            if len == head + 4 + BODY {
                let head = str::from_utf8(&answer[..head]).unwrap();
                assert!(head.starts_with("HTTP/1.1 200"), "{head}");
                return Answer { is_hit: head.contains("x-cache: HIT") };
            }
        }
    }
}

// ---- Instructions.

fn instructions(url: &str) {
    println!("{:<36} {:>12}", "case", "instructions");
    let counts = CASES.map(|case| {
        let count = instructions_of(case, url);
        println!("{:<36} {count:>12.0}", case.title());
        count
    });
    let pairs = PAIRS.map(|(one, other)| {
        format!("{}/{} {:.3}", CASES[one].name, CASES[other].name, counts[one] / counts[other])
    });
    println!("{}", pairs.join(", "));
}

const BATCHES: usize = 50;

/// Instructions an answer, by running this program under callgrind.
fn instructions_of(case: Case, url: &str) -> f64 {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--collect-atstart=no"])
        .arg("--toggle-collect=*measured_answers*")
        .arg(std::env::current_exe().unwrap())
        .args(["--case", case.name, "--redis", url])
        // callgrind counts each turn of a `rep movsb`; the processor does not take them one by one.
        .env("GLIBC_TUNABLES", "glibc.cpu.x86_rep_movsb_threshold=2000000000")
        .output()
        .expect("valgrind is needed: apt-get install valgrind");
    let told = String::from_utf8_lossy(&output.stderr);
    let collected = told.lines().find_map(|line| line.split("Collected : ").nth(1));
    let count: f64 = collected.unwrap_or_else(|| panic!("{told}")).trim().parse().unwrap();
    count / (BATCHES * CLIENTS) as f64
}

fn answer_in_process(system: &SystemRunner, case: Case, url: &str) {
    match cache(case, url) {
        Some(config) => {
            let app = App::new().wrap(FastCache::new(config)).route("/page", web::get().to(from_handler));
            measure(system, &system.block_on(init_service(app)), case.pages);
        }
        None => {
            let connection = system.block_on(connect(url));
            let app = App::new().app_data(Data::new(connection)).route("/page", web::get().to(bare));
            measure(system, &system.block_on(init_service(app)), case.pages);
        }
    }
}

fn measure<S, B>(system: &SystemRunner, app: &S, pages: usize)
where
    S: Service<Request, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
{
    let request = |page: usize| {
        TestRequest::get().uri(&path(page)).insert_header(("host", "bench.example")).to_request()
    };
    let batch = |n: usize| (0..CLIENTS).map(|client| request((n * CLIENTS + client) % pages)).collect();
    let batches = |count: usize| -> Vec<Vec<Request>> { (0..count).map(batch).collect() };
    // Until memory in front of Redis is in use: what it does not know yet it may not answer.
    system.block_on(async {
        for batch in batches(5) {
            answer_all(app, vec![batch]).await;
            actix_web::rt::time::sleep(Duration::from_millis(500)).await;
        }
    });
    measured_answers(system, app, batches(BATCHES));
}

#[inline(never)]
fn measured_answers<S, B>(system: &SystemRunner, app: &S, batches: Vec<Vec<Request>>)
where
    S: Service<Request, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
{
    system.block_on(answer_all(app, batches));
}

async fn answer_all<S, B>(app: &S, batches: Vec<Vec<Request>>)
where
    S: Service<Request, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
{
    for batch in batches {
        for answer in join_all(batch.into_iter().map(|request| app.call(request))).await {
            drop(answer.unwrap());
        }
    }
}
