//! What an answer costs inside the app, in instructions and allocations, beside the bare handler.
//!
//! `cargo bench --bench instructions` prints the table. Instructions are counted by valgrind (callgrind), user space
//! only, around the call of the app's service and the drop of its answer; requests are made before, a few at a time. They repeat to
//! about 0.1 %, whatever else the machine does. It fails where an answer costs more than [`RECORDED`] says, by more
//! than [`SLACK`]; `cargo bench --bench instructions -- --record` records what it costs now.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)] // it is a bench

use std::alloc::{GlobalAlloc, Layout, System};
use std::future::{Ready, ready};
use std::hint::black_box;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use actix_fast_cache::{CacheConfig, FastCache, MemoryStorage};
use actix_http::Request;
use actix_service::{Service, Transform};
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::test::{TestRequest, init_service};
use actix_web::web::Bytes;
use actix_web::{App, Error, HttpResponse, web};
use futures_util::FutureExt;

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const CASES: [(&str, &str); 8] = [
    ("at-once", "outermost layer answers at once, no fields"),
    ("bare", "b: handler, 10 KiB, four fields"),
    ("hit-app", "hit, cache around the app"),
    ("hit-scope", "hit, cache around a scope"),
    ("hit-resource", "hit, cache around a resource"),
    ("not-modified", "304 from the cache, around the app"),
    ("bare-1k", "handler, 1 KiB, four fields"),
    ("miss-1k", "miss, 1 KiB, around the app"),
];

fn main() {
    let args: Vec<String> = std::env::args().collect();
    match args.iter().position(|arg| arg == "--case").and_then(|at| args.get(at + 1)) {
        Some(case) => actix_web::rt::System::new().block_on(run(case)),
        None => table(args.iter().any(|arg| arg == "--record")),
    }
}

/// What answers have cost, one line for each: case, times the bare handler, allocations.
const RECORDED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.txt");
/// An answer that costs more than it did by this part is a regression; less than that is the compiler's weather.
const SLACK: f64 = 0.03;

fn table(records: bool) {
    let base = instructions("bare");
    let recorded = std::fs::read_to_string(RECORDED).unwrap_or_default();
    let (mut told, mut dearer) = (String::new(), Vec::new());
    println!("{:<48} {:>12} {:>6} {:>11}", "case", "instructions", "x b", "allocations");
    for (case, what) in CASES {
        let (count, allocations) = (instructions(case), allocations(case));
        let times = count / base;
        println!("{what:<48} {count:>12.0} {times:>6.3} {allocations:>11.1}");
        told.push_str(&format!("{case} {times:.3} {allocations:.1}\n"));
        let line = recorded.lines().find_map(|line| line.strip_prefix(case)?.strip_prefix(' '));
        let mut numbers =
            line.unwrap_or_default().split_whitespace().map(|number| number.parse::<f64>().unwrap());
        let (Some(then), Some(allocated)) = (numbers.next(), numbers.next()) else {
            dearer.push(format!("{case} has no record"));
            continue;
        };
        if times > then * (1.0 + SLACK) || allocations > allocated * (1.0 + SLACK) {
            dearer.push(format!(
                "{case} costs {times:.3} times the handler and {allocations:.1} allocations; it was {then} and {allocated}"
            ));
        }
    }
    if records {
        return std::fs::write(RECORDED, told).unwrap();
    }
    assert!(
        dearer.is_empty(),
        "{}\nIf it is worth that, record it: cargo bench --bench instructions -- --record",
        dearer.join("\n")
    );
}

const ANSWERS: usize = BATCHES * BATCH;
const BATCHES: usize = 32;
/// Requests are made so many at a time: they are taken out of a pool and go back there, as those of a server do.
const BATCH: usize = 64;

/// Instructions an answer, the least of several runs: tables of field names are seeded by addresses, which the size of
/// the environment moves, and where names collide an answer costs up to 400 more.
fn instructions(case: &str) -> f64 {
    [0, 100, 1_000]
        .map(|padding| counting(case, padding))
        .into_iter()
        .map(counted)
        .fold(f64::INFINITY, f64::min)
}

/// This program under callgrind.
fn counting(case: &str, padding: usize) -> Child {
    Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--collect-atstart=no"])
        .arg("--toggle-collect=*measured_answers*")
        .arg(std::env::current_exe().unwrap())
        .args(["--case", case])
        // callgrind counts each turn of a `rep movsb`; the processor does not take them one by one.
        .env("GLIBC_TUNABLES", "glibc.cpu.x86_rep_movsb_threshold=2000000000")
        .env("PADDING", "x".repeat(padding))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("valgrind is needed: apt-get install valgrind")
}

fn counted(counting: Child) -> f64 {
    let output = counting.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    let collected = told.lines().find_map(|line| line.split("Collected : ").nth(1));
    let count: f64 = collected.unwrap_or_else(|| panic!("{told}")).trim().parse().unwrap();
    count / ANSWERS as f64
}

fn allocations(case: &str) -> f64 {
    let output = Command::new(std::env::current_exe().unwrap()).args(["--case", case]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim().parse().unwrap()
}

async fn run(case: &str) {
    let long = Bytes::from(vec![b'x'; 10 * 1024]);
    let short = Bytes::from(vec![b'x'; 1024]);
    let cache = FastCache::new(CacheConfig::builder(MemoryStorage::new()).build().unwrap());
    let plain = || TestRequest::get().uri("/page?a=1&b=2").insert_header(("host", "bench.example"));
    let answer = |body: Bytes| move || ready(page(body.clone()));
    let conditional = || plain().insert_header(("if-none-match", "\"one\""));
    match case {
        "at-once" => measure(init_service(App::new().wrap(AtOnce)).await, |_| plain()),
        "bare" => {
            measure(init_service(App::new().route("/page", web::get().to(answer(long)))).await, |_| plain())
        }
        "bare-1k" => {
            measure(init_service(App::new().route("/page", web::get().to(answer(short)))).await, |_| plain())
        }
        "hit-app" => measure(
            init_service(App::new().wrap(cache).route("/page", web::get().to(answer(long)))).await,
            |_| plain(),
        ),
        "hit-scope" => measure(
            init_service(
                App::new().service(web::scope("").wrap(cache).route("/page", web::get().to(answer(long)))),
            )
            .await,
            |_| plain(),
        ),
        "hit-resource" => measure(
            init_service(
                App::new().service(web::resource("/page").wrap(cache).route(web::get().to(answer(long)))),
            )
            .await,
            |_| plain(),
        ),
        "not-modified" => measure(
            init_service(App::new().wrap(cache).route("/page", web::get().to(answer(long)))).await,
            |_| conditional(),
        ),
        "miss-1k" => measure(
            init_service(App::new().wrap(cache).route("/page", web::get().to(answer(short)))).await,
            |number| {
                if number == ANSWERS {
                    // Nearly always the date is not that of the first answers.
                    #[allow(clippy::disallowed_methods)] // nobody else is at work
                    std::thread::sleep(Duration::from_millis(1_100));
                }
                TestRequest::get().uri(&format!("/page?n={number}")).insert_header(("host", "bench.example"))
            },
        ),
        _ => panic!("no such case: {case}"),
    }
}

fn page(body: Bytes) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")))
        .insert_header((header::CACHE_CONTROL, HeaderValue::from_static("max-age=600")))
        .insert_header((header::ETAG, HeaderValue::from_static("\"one\"")))
        .insert_header((header::CONTENT_LANGUAGE, HeaderValue::from_static("en")))
        .body(body)
}

/// Answers requests, after a warm-up, and prints the allocations an answer.
fn measure<S, B>(app: S, request: impl Fn(usize) -> TestRequest)
where
    S: Service<Request, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
{
    let requests = |batch: usize| (0..BATCH).map(|n| request(batch * BATCH + n).to_request()).collect();
    for batch in 0..BATCHES {
        answer_all(&app, requests(batch));
    }
    let mut allocations = 0;
    for batch in BATCHES..2 * BATCHES {
        let prepared = requests(batch);
        let before = ALLOCATIONS.load(Relaxed);
        measured_answers(&app, prepared);
        allocations += ALLOCATIONS.load(Relaxed) - before;
    }
    println!("{}", allocations as f64 / ANSWERS as f64);
}

#[inline(never)]
fn measured_answers<S, B>(app: &S, requests: Vec<Request>)
where
    S: Service<Request, Response = ServiceResponse<B>, Error = Error>,
{
    answer_all(app, requests);
}

#[inline(always)]
fn answer_all<S, B>(app: &S, requests: Vec<Request>)
where
    S: Service<Request, Response = ServiceResponse<B>, Error = Error>,
{
    for request in requests {
        let answer = app.call(request).now_or_never().expect("an answer at once");
        drop(black_box(answer.unwrap()));
    }
}

/// The least an outermost layer can do.
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
        ready(Ok(req.into_response(HttpResponse::with_body(StatusCode::OK, Bytes::new()))))
    }
}
