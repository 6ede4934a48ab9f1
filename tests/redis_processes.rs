//! Two processes on one Redis: what was computed before an invalidation is served by neither after it.
//!
//! The processes are real: this executable starts itself again. The test holds the data that their handlers read, and
//! says when each handler may answer, over a socket of its own: so nothing here waits for a time to pass.
//!
//! Of two processes only one runs the handler of a page, and the other one waits for its answer. That keeps most races
//! from happening at all: so half of the worlds have it, and half are without coalescing.
//!
//! With `FULL_SIZE=1` in the environment there are as many random schedules as the promise has: best with `--release`.
//! `SEED=n` runs one of them.
#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)] // it is test code

mod support;

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix_fast_cache::{CacheConfig, CacheControl, CacheHandle, FastCache, ManualClock, RedisStorage};
use actix_web::http::{KeepAlive, StatusCode};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, rt, web};
use support::redis::RedisServer;
use support::{Reply, request};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

/// Caches that know nothing of each other: what drops everything in one leaves the others alone.
const WORLDS: usize = 16;

/// Whether equal requests in a world wait for one run, within a process and across the two.
fn coalesces(world: usize) -> bool {
    world.is_multiple_of(2)
}

/// One world that coalesces, and one that does not.
const BOTH: [usize; 2] = [0, 1];

/// Long enough for any machine; nothing waits so long unless something is wrong.
const TOO_LONG: Duration = Duration::from_secs(10);

// ---- The process that is started.

/// Where a started process finds its Redis and its truth, and which of the two it is.
const ROLE: &str = "AFC_TEST_PROCESS";

/// Not a test: a process that the tests start.
#[test]
#[ignore = "the entry of the processes that the tests start"]
fn a_process() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let [number, redis, truth] = role.split(' ').collect::<Vec<_>>()[..] else { panic!("{role}") };
    let (number, truth) = (number.parse().unwrap(), truth.parse().unwrap());
    let worlds: Vec<World> = (0..WORLDS).map(|world| World::new(redis, world)).collect();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    println!("\nport={}", listener.local_addr().unwrap().port());
    // The test holds the other end; whatever becomes of it, this process ends too.
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    rt::System::new().block_on(async move {
        HttpServer::new(move || {
            let mut app = App::new()
                .app_data(web::Data::new(Questions::new(number, truth)))
                .route("/none", web::get().to(HttpResponse::Ok));
            for (number, world) in worlds.iter().enumerate() {
                let scope = web::scope(&format!("/w{number}"))
                    .wrap(FastCache::new(world.config.clone()))
                    .route("/{kind}/{id}", web::get().to(show))
                    .route("/{kind}/{id}", web::to(write));
                let control = web::resource(format!("/control{number}/{{what}}/{{id}}"))
                    .app_data(web::Data::new(world.clone()))
                    .to(control);
                app = app.service(scope).service(control);
            }
            app
        })
        .workers(2)
        .backlog(1_024)
        // The test's connections are kept, however long it leaves one alone.
        .keep_alive(KeepAlive::Timeout(Duration::from_secs(3_600)))
        .disable_signals()
        .listen(listener)
        .unwrap()
        .run()
        .await
        .unwrap();
    });
}

#[derive(Clone)]
struct World {
    config: CacheConfig,
    clock: ManualClock,
}

impl World {
    fn new(redis: &str, number: usize) -> Self {
        let clock = ManualClock::new();
        let builder = CacheConfig::builder(RedisStorage::open(redis, &format!("w{number}")).unwrap())
            .namespace("n")
            .clock(clock.clone())
            .storage_deadline(TOO_LONG)
            .stale_while_revalidate(Duration::from_secs(1_000_000));
        // Nobody runs on their own for having waited long: that is to be seen as what it is.
        let builder = if coalesces(number) { builder.wait(2 * TOO_LONG) } else { builder.no_coalescing() };
        Self { config: builder.build().unwrap(), clock }
    }
}

/// Reads the data, waits until it may go on, and names its key and tag only then, if it has any.
async fn show(
    req: HttpRequest,
    path: web::Path<(String, String)>,
    questions: web::Data<Questions>,
    cache: CacheControl,
) -> String {
    let (kind, id) = path.into_inner();
    let path = req.path().to_owned();
    let read = questions.ask(&format!("READ {path}")).await;
    let (version, run) = read.split_once(' ').unwrap();
    questions.ask(&format!("GO {path} {run}")).await;
    if kind == "named" {
        cache.set_key(format!("name {id}"));
    }
    if kind != "bare" {
        cache.tag(format!("tag {id}"));
    }
    format!("{path} v{version}")
}

/// Answers with the status it is asked for.
async fn write(req: HttpRequest) -> HttpResponse {
    let status = req.headers().get("x-status").unwrap().to_str().unwrap();
    HttpResponse::build(StatusCode::from_bytes(status.as_bytes()).unwrap()).finish()
}

async fn control(path: web::Path<(String, String)>, req: HttpRequest, world: web::Data<World>) -> String {
    let (what, id) = path.into_inner();
    let cache: CacheHandle = world.config.handle();
    match what.as_str() {
        "key" => drop(cache.invalidate(&format!("name {id}")).await.unwrap()),
        "url" => {
            let path = req.query_string();
            cache.invalidate_url(&format!("http://test.example{path}")).await.unwrap();
        }
        "tag" => cache.invalidate_tag(format!("tag {id}")).await.unwrap(),
        "namespace" => cache.invalidate_namespace().await.unwrap(),
        "clear" => cache.clear().await.unwrap(),
        "flush" => {
            // A refresh that just ended may have its answer still in hand.
            while cache.fills_under_way() > 0 {
                tokio::task::yield_now().await;
            }
            cache.flush().await;
        }
        "advance" => world.clock.advance(Duration::from_millis(id.parse().unwrap())),
        "trouble" => {
            let trouble = cache.storage_trouble();
            return (trouble.failed + trouble.late + trouble.left_alone).to_string();
        }
        _ => panic!("{what}"),
    }
    what
}

/// A worker's connection to the truth: questions are numbered lines, and so are the answers.
struct Questions {
    process: usize,
    truth: u16,
    line: RefCell<Option<mpsc::UnboundedSender<String>>>,
    asked: Rc<RefCell<Vec<Option<oneshot::Sender<String>>>>>,
}

impl Questions {
    fn new(process: usize, truth: u16) -> Self {
        Self { process, truth, line: RefCell::default(), asked: Rc::default() }
    }

    async fn ask(&self, question: &str) -> String {
        let line = self.line.borrow_mut().get_or_insert_with(|| self.connect()).clone();
        let (answer, answered) = oneshot::channel();
        let number = {
            let mut asked = self.asked.borrow_mut();
            asked.push(Some(answer));
            asked.len() - 1
        };
        let _ = line.send(format!("{number} {} {question}\n", self.process));
        match answered.await {
            Ok(answer) => answer,
            // The test is over, and this process ends at any moment.
            Err(_) => std::future::pending().await,
        }
    }

    fn connect(&self) -> mpsc::UnboundedSender<String> {
        let (line, mut questions) = mpsc::unbounded_channel::<String>();
        let (truth, asked) = (self.truth, Rc::clone(&self.asked));
        rt::spawn(async move {
            let (answers, mut to_truth) = connect(truth).await.into_split();
            rt::spawn(async move {
                let mut answers = tokio::io::BufReader::new(answers).lines();
                while let Ok(Some(answer)) = answers.next_line().await {
                    let (number, answer) = answer.split_once(' ').unwrap();
                    let waiting = asked.borrow_mut()[number.parse::<usize>().unwrap()].take();
                    // Whoever was cancelled does not wait any more.
                    let _ = waiting.unwrap().send(answer.to_owned());
                }
            });
            while let Some(question) = questions.recv().await {
                if to_truth.write_all(question.as_bytes()).await.is_err() {
                    return;
                }
            }
        });
        line
    }
}

async fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

// ---- The truth that the test holds.

/// The data behind the pages, by their paths, and the fills that read it.
#[derive(Default)]
struct Truth {
    data: Mutex<HashMap<String, Datum>>,
    runs: AtomicU64,
}

struct Datum {
    version: u64,
    /// How often each process read it.
    reads: [usize; 2],
    /// Whether the next fill of a process is held.
    hold: [bool; 2],
    held: Vec<Held>,
    changed: Arc<Notify>,
}

/// A fill that has read and may not answer yet.
struct Held {
    process: usize,
    run: u64,
    version: u64,
    asking: Option<Answer>,
}

/// Where an answer goes, and the number of its question.
struct Answer {
    line: mpsc::UnboundedSender<String>,
    number: String,
}

impl Answer {
    fn send(self, answer: &str) {
        // A process that is gone does not ask any more.
        let _ = self.line.send(format!("{} {answer}\n", self.number));
    }
}

impl Default for Datum {
    fn default() -> Self {
        Self { version: 1, reads: [0; 2], hold: [false; 2], held: Vec::new(), changed: Arc::default() }
    }
}

impl Truth {
    /// Starts to answer; on which port.
    async fn serve(self: &Arc<Self>) -> u16 {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let truth = Arc::clone(self);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                let (questions, to_process) = stream.into_split();
                let (line, answers) = mpsc::unbounded_channel();
                tokio::spawn(write_lines(answers, to_process));
                let truth = Arc::clone(&truth);
                tokio::spawn(async move {
                    let mut questions = tokio::io::BufReader::new(questions).lines();
                    while let Ok(Some(question)) = questions.next_line().await {
                        truth.hear(&question, line.clone());
                    }
                });
            }
        });
        port
    }

    fn hear(&self, question: &str, line: mpsc::UnboundedSender<String>) {
        let words: Vec<&str> = question.split(' ').collect();
        let (process, answer) =
            (words[1].parse::<usize>().unwrap(), Answer { line, number: words[0].to_owned() });
        self.with(words[3], |datum| match words[2] {
            "READ" => {
                let run = self.runs.fetch_add(1, SeqCst);
                datum.reads[process] += 1;
                if std::mem::take(&mut datum.hold[process]) {
                    datum.held.push(Held { process, run, version: datum.version, asking: None });
                }
                answer.send(&format!("{} {run}", datum.version));
                datum.changed.notify_waiters();
            }
            _ => {
                let run: u64 = words[4].parse().unwrap();
                match datum.held.iter_mut().find(|held| held.run == run) {
                    Some(held) => held.asking = Some(answer),
                    None => answer.send("go"),
                }
            }
        });
    }

    fn with<T>(&self, path: &str, what: impl FnOnce(&mut Datum) -> T) -> T {
        let mut data = self.data.lock().unwrap();
        what(data.entry(path.to_owned()).or_default())
    }

    /// The next fill of a process is held, or not.
    fn hold(&self, path: &str, process: usize, hold: bool) {
        self.with(path, |datum| datum.hold[process] = hold);
    }

    fn write(&self, path: &str) -> u64 {
        self.with(path, |datum| {
            datum.version += 1;
            datum.version
        })
    }

    /// Lets one of the held fills go on: which it was.
    fn release(&self, path: &str, which: usize) -> Option<Held> {
        let mut held =
            self.with(path, |datum| (which < datum.held.len()).then(|| datum.held.swap_remove(which)))?;
        if let Some(asking) = held.asking.take() {
            asking.send("go");
        }
        Some(held)
    }

    /// Lets all go on, those to come too.
    fn release_all(&self, path: &str) {
        self.with(path, |datum| datum.hold = [false; 2]);
        while self.release(path, 0).is_some() {}
    }

    /// Waits until a process has read so often.
    async fn until_read(&self, path: &str, process: usize, times: usize) {
        let waiting = async {
            loop {
                let changed = self.with(path, |datum| Arc::clone(&datum.changed));
                let notified = changed.notified();
                if self.with(path, |datum| datum.reads[process]) >= times {
                    return;
                }
                notified.await;
            }
        };
        timeout(TOO_LONG, waiting).await.unwrap_or_else(|_| panic!("process {process} does not read {path}"));
    }
}

async fn write_lines(mut lines: mpsc::UnboundedReceiver<String>, mut to: OwnedWriteHalf) {
    while let Some(line) = lines.recv().await {
        if to.write_all(line.as_bytes()).await.is_err() {
            return;
        }
    }
}

// ---- The processes as the test sees them.

struct Process {
    child: Child,
    /// Kept open: a process that may not print any more dies of it.
    _printed: BufReader<ChildStdout>,
    addr: SocketAddr,
    connections: Mutex<Vec<TcpStream>>,
}

impl Process {
    fn start(number: usize, redis: &str, truth: u16) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_process", "--ignored", "--nocapture"])
            .env(ROLE, format!("{number} {redis} {truth}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut printed = BufReader::new(child.stdout.take().unwrap());
        let lines = printed.by_ref().lines();
        let port = lines.map_while(Result::ok).find_map(|line| line.strip_prefix("port=")?.parse().ok());
        let addr = SocketAddr::from(([127, 0, 0, 1], port.expect("the process tells its port")));
        Self { child, _printed: printed, addr, connections: Mutex::default() }
    }

    async fn send(&self, method: &str, target: &str, fields: &[(&str, &str)]) -> Reply {
        let kept = self.connections.lock().unwrap().pop();
        let mut stream = match kept {
            Some(stream) => stream,
            None => connect(self.addr.port()).await,
        };
        stream.write_all(&request(method, target, fields, b"")).await.unwrap();
        let reading = Box::pin(Reply::read(&mut stream, method == "HEAD"));
        let reply =
            timeout(TOO_LONG, reading).await.unwrap_or_else(|_| panic!("no answer: {method} {target}"));
        self.connections.lock().unwrap().push(stream);
        reply.unwrap_or_else(|| panic!("broken off: {method} {target}"))
    }

    /// A page, and whether it came out of the cache.
    async fn get(&self, path: &str) -> (u64, bool) {
        let reply = self.send("GET", path, &[]).await;
        let text = reply.text();
        let version = text.strip_prefix(path).and_then(|rest| rest.strip_prefix(" v"));
        match version.and_then(|version| version.parse().ok()) {
            Some(version) if reply.status == 200 => (version, reply.cache() == "HIT"),
            _ => panic!("{path}: {reply:?}"),
        }
    }

    async fn control(&self, path: &str, what: &str) -> String {
        let parts: Vec<&str> = path.split('/').collect();
        let reply =
            self.send("GET", &format!("/control{}/{what}/{}?{path}", &parts[1][1..], parts[3]), &[]).await;
        assert_eq!(reply.status, 200, "{what}: {}", reply.text());
        reply.text()
    }

    /// Drops a page, in one of the ways; then it returned.
    async fn drop_by(&self, way: &str, path: &str) {
        if way == "post" {
            assert_eq!(self.send("POST", path, &[("x-status", "200")]).await.status, 200);
        } else {
            self.control(path, way).await;
        }
    }

    async fn advance(&self, path: &str, millis: u64) {
        let world = path.split('/').nth(1).unwrap();
        self.control(&format!("/{world}/any/{millis}"), "advance").await;
    }

    /// Some requests that need nothing: meanwhile the ones before them get as far as they can.
    async fn round_trips(&self, times: usize) {
        for _ in 0..times {
            self.send("GET", "/none", &[]).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Pair {
    truth: Arc<Truth>,
    processes: [Process; 2],
    _redis: RedisServer,
}

impl Pair {
    async fn start() -> Arc<Self> {
        let (redis, truth) = (RedisServer::start().await, Arc::new(Truth::default()));
        let port = truth.serve().await;
        let processes = [0, 1].map(|number| Process::start(number, &redis.url(), port));
        Arc::new(Self { truth, processes, _redis: redis })
    }

    fn get(self: &Arc<Self>, process: usize, path: &str) -> JoinHandle<(u64, bool)> {
        let (pair, path) = (Arc::clone(self), path.to_owned());
        tokio::spawn(async move { pair.processes[process].get(&path).await })
    }

    /// What was computed is stored, or given up.
    async fn settle(&self, path: &str) {
        for process in &self.processes {
            process.control(path, "flush").await;
        }
    }

    /// Reads that begin now, on both, while a fill is held; then that goes on. They may `wait` for it, on the other
    /// process too.
    async fn late_reads(self: &Arc<Self>, path: &str, wait: bool, case: &str) {
        let late = [self.get(0, path), self.get(1, path)];
        for process in &self.processes {
            process.round_trips(8).await;
        }
        if wait {
            assert!(late.iter().all(|late| !late.is_finished()), "they wait, {case}");
        }
        self.truth.release_all(path);
        for late in late {
            assert_eq!(late.await.unwrap().0, 2, "late, {case}");
        }
    }

    /// Both give this version, out of the cache.
    async fn both_hit(&self, path: &str, version: u64, case: &str) {
        self.settle(path).await;
        for (number, process) in self.processes.iter().enumerate() {
            assert_eq!(process.get(path).await, (version, true), "process {number}, {case}");
        }
    }

    /// No answer was right only because the storage could not be asked.
    async fn without_trouble(&self) {
        for process in &self.processes {
            for world in 0..WORLDS {
                assert_eq!(process.control(&format!("/w{world}/any/any"), "trouble").await, "0");
            }
        }
    }
}

fn world_of(path: &str) -> usize {
    path.strip_prefix("/w").and_then(|path| path.split('/').next()).unwrap().parse().unwrap()
}

/// Pages whose handler names their key and tags them, tags them only, or does neither.
const KINDS: [&str; 3] = ["named", "plain", "bare"];

/// The ways to drop what is stored for a page.
const WAYS: [&str; 6] = ["key", "tag", "url", "post", "namespace", "clear"];

/// Those that there are for a page of this kind; the last two drop others too.
fn ways(kind: &str) -> &'static [&'static str] {
    &WAYS[KINDS.iter().position(|known| *known == kind).unwrap()..]
}

/// Every way for both kinds of pages and of worlds, with each process in each role.
fn cases() -> Vec<(String, &'static str, usize, usize)> {
    let mut cases = Vec::new();
    for world in BOTH {
        for kind in KINDS {
            for way in ways(kind) {
                for (one, other) in [(0, 1), (1, 0), (0, 0), (1, 1)] {
                    cases.push((format!("/w{world}/{kind}/{}", cases.len()), *way, one, other));
                }
            }
        }
    }
    cases
}

// R1, R2, R3
#[tokio::test]
async fn what_a_handler_read_before_an_invalidation_is_served_by_no_process_after_it() {
    let pair = Pair::start().await;
    for (path, way, one, other) in cases() {
        for with_late_reads in [false, true] {
            let path = format!("{path}-{with_late_reads}");
            let case = format!("{path} on {one}, by {way} on {other}");
            pair.truth.hold(&path, one, true);
            let first = pair.get(one, &path);
            pair.truth.until_read(&path, one, 1).await;
            assert_eq!(pair.truth.write(&path), 2);
            pair.processes[other].drop_by(way, &path).await;
            if with_late_reads {
                pair.late_reads(&path, coalesces(world_of(&path)), &case).await;
            }
            pair.truth.release_all(&path);
            assert_eq!(first.await.unwrap().0, 1, "{case}");
            pair.settle(&path).await;
            for process in [one, 1 - one] {
                assert_eq!(pair.processes[process].get(&path).await.0, 2, "process {process}, {case}");
                pair.settle(&path).await;
            }
            pair.both_hit(&path, 2, &case).await;
        }
    }
    pair.without_trouble().await;
}

// R4
#[tokio::test]
async fn a_refresh_under_way_revives_on_no_process_what_another_one_dropped() {
    let pair = Pair::start().await;
    for (path, way, one, other) in cases() {
        let case = format!("{path} refreshed on {one}, by {way} on {other}");
        assert_eq!(pair.processes[other].get(&path).await, (1, false), "{case}");
        pair.both_hit(&path, 1, &case).await;
        for process in &pair.processes {
            process.advance(&path, 61_000).await;
        }
        let before = pair.truth.with(&path, |datum| datum.reads[one]);
        pair.truth.hold(&path, one, true);
        assert_eq!(pair.processes[one].get(&path).await, (1, true), "stale, {case}");
        pair.truth.until_read(&path, one, before + 1).await;
        assert_eq!(pair.truth.write(&path), 2);
        pair.processes[other].drop_by(way, &path).await;
        // The refresh of a named page is known by the name, and the name may have been forgotten.
        let wait = coalesces(world_of(&path)) && !path.contains("/named/");
        pair.late_reads(&path, wait, &case).await;
        pair.both_hit(&path, 2, &case).await;
    }
    pair.without_trouble().await;
}

// R5
#[tokio::test]
async fn an_older_fill_of_one_process_does_not_replace_the_newer_one_of_another() {
    let pair = Pair::start().await;
    let mut world = 0;
    for (one, other) in [(0, 1), (1, 0)] {
        for kind in ["named", "plain"] {
            for with_invalidation in [false, true] {
                for _ in BOTH {
                    // Each in a world whose clocks nobody has touched.
                    let path = format!("/w{world}/{kind}/x");
                    let case = format!("older on {one}, {path}, with invalidation: {with_invalidation}");
                    if with_invalidation {
                        // Then the clocks of the two say nothing: that of the older one is ahead.
                        pair.processes[one].advance(&path, 30_000).await;
                    }
                    pair.truth.hold(&path, one, true);
                    let older = pair.get(one, &path);
                    pair.truth.until_read(&path, one, 1).await;
                    assert_eq!(pair.truth.write(&path), 2);
                    if with_invalidation {
                        pair.processes[other].drop_by("tag", &path).await;
                    } else {
                        for process in &pair.processes {
                            process.advance(&path, 1).await;
                        }
                    }
                    let mut newer = pair.get(other, &path);
                    if coalesces(world) {
                        pair.processes[other].round_trips(8).await;
                        assert!(!newer.is_finished(), "it waits, {case}");
                    } else {
                        assert_eq!((&mut newer).await.unwrap(), (2, false), "{case}");
                        pair.processes[other].control(&path, "flush").await;
                        assert_eq!(pair.processes[other].get(&path).await, (2, true), "{case}");
                    }
                    pair.truth.release_all(&path);
                    assert_eq!(older.await.unwrap().0, 1, "{case}");
                    let kept = match (coalesces(world), with_invalidation) {
                        (false, _) => 2,
                        // Who waited has made a new one, or has the older one where that is still good.
                        (true, true) => {
                            assert_eq!(newer.await.unwrap(), (2, false), "{case}");
                            2
                        }
                        (true, false) => {
                            assert_eq!(newer.await.unwrap(), (1, true), "{case}");
                            1
                        }
                    };
                    pair.both_hit(&path, kept, &case).await;
                    world += 1;
                }
            }
        }
    }
    pair.without_trouble().await;
}

// R6
#[tokio::test]
async fn a_write_that_succeeds_drops_its_url_for_both_processes_and_one_that_fails_does_not() {
    let pair = Pair::start().await;
    let mut pages = 0;
    for method in ["POST", "PUT", "DELETE"] {
        for status in ["200", "201", "204", "303", "400", "404", "409", "500", "503"] {
            for (kind, (one, other)) in KINDS.iter().flat_map(|kind| [(kind, (0, 1)), (kind, (1, 0))]) {
                let path = format!("/w{}/{kind}/{pages}", BOTH[pages / 2 % 2]);
                pages += 1;
                let case = format!("{method} {status} on {one}, {path}");
                assert_eq!(pair.processes[other].get(&path).await, (1, false), "{case}");
                pair.both_hit(&path, 1, &case).await;
                pair.truth.write(&path);
                let reply = pair.processes[one].send(method, &path, &[("x-status", status)]).await;
                assert_eq!(reply.status.to_string(), status);
                let succeeded = status < "400";
                if succeeded {
                    assert_eq!(pair.processes[other].get(&path).await, (2, false), "{case}");
                }
                pair.both_hit(&path, if succeeded { 2 } else { 1 }, &case).await;
            }
        }
    }
    pair.without_trouble().await;
}

// ---- Random schedules.

/// Dice that fall the same for the same seed.
struct Dice(u64);

impl Dice {
    fn of(seed: u64) -> Self {
        Self((seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from((self.0 >> 11) % bound as u64).unwrap()
    }

    fn is(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

/// How many schedules are under way in a world.
const LANES: usize = 3;

/// What the schedules brought about, so that nobody takes schedules without races for a proof.
#[derive(Default, Debug)]
struct Tally {
    reads: AtomicUsize,
    hits: AtomicUsize,
    held: AtomicUsize,
    /// Fills that were held beside another one of their page.
    together: AtomicUsize,
    /// Fills that went on after what they read was dropped.
    outdated: AtomicUsize,
    /// Reads that waited for such a fill of the other process.
    behind: AtomicUsize,
    /// Of each of the ways.
    dropped: [AtomicUsize; WAYS.len()],
}

/// A read under way.
struct Reading {
    step: usize,
    /// The version of the last invalidation that had returned when it began.
    floor: u64,
    answer: JoinHandle<(u64, bool)>,
}

/// One page's schedule.
struct Schedule {
    pair: Arc<Pair>,
    path: String,
    kind: &'static str,
    coalesces: bool,
    dice: Dice,
    tally: Arc<Tally>,
    floor: Arc<AtomicU64>,
    steps: Vec<String>,
    reading: Vec<Reading>,
    dropping: Vec<JoinHandle<()>>,
}

impl Schedule {
    fn new(pair: &Arc<Pair>, world: usize, seed: u64, tally: &Arc<Tally>) -> Self {
        let mut dice = Dice::of(seed);
        let kind = KINDS[dice.below(3)];
        Self {
            pair: Arc::clone(pair),
            path: format!("/w{world}/{kind}/{seed}"),
            kind,
            coalesces: coalesces(world),
            dice,
            tally: Arc::clone(tally),
            floor: Arc::default(),
            steps: Vec::new(),
            reading: Vec::new(),
            dropping: Vec::new(),
        }
    }

    /// What was wrong, within a bounded time.
    async fn run_in_time(mut self) -> Result<(), String> {
        // A little less than what it waits for itself may take: only this knows the steps.
        match timeout(TOO_LONG - Duration::from_secs(1), self.run()).await {
            Ok(ran) => ran,
            Err(_) => Err(format!("it does not end: {:#?}", self.steps)),
        }
    }

    async fn run(&mut self) -> Result<(), String> {
        for _ in 0..5 + self.dice.below(6) {
            match self.dice.below(100) {
                0..45 => self.read().await,
                45..65 => self.release(),
                65..92 => self.write_and_drop().await,
                _ => self.let_time_pass().await,
            }
        }
        self.end().await
    }

    /// Begins to read, and waits until that is answered, or its fill has read and is held.
    async fn read(&mut self) {
        let (process, hold) = (self.dice.below(2), self.dice.is(if self.coalesces { 75 } else { 55 }));
        let coalesces = self.coalesces;
        let (reads, is_held) = self.pair.truth.with(&self.path, |datum| {
            datum.hold[process] = hold;
            if coalesces {
                // One that waited until now may run there, and nobody is to wait for that without knowing.
                datum.hold[1 - process] = false;
            }
            (datum.reads[process], coalesces && !datum.held.is_empty())
        });
        let mut reading = self.begin(process, if hold { ", held" } else { "" });
        if is_held {
            // It may wait for the fill that is held, on whichever process, and nobody can see that from here.
            self.pair.processes[process].round_trips(1).await;
            self.note_waiting(process, &reading);
        } else if hold {
            tokio::select! {
                () = self.pair.truth.until_read(&self.path, process, reads + 1) => {}
                answer = &mut reading.answer => reading.answer = tokio::spawn(async { answer.unwrap() }),
            }
        } else {
            let answer = (&mut reading.answer).await;
            reading.answer = tokio::spawn(async { answer.unwrap() });
        }
        self.reading.push(reading);
    }

    /// Counts a read that waits for a fill of the other process, when what that has read was dropped before.
    fn note_waiting(&self, process: usize, reading: &Reading) {
        let is_outdated = |held: &Held| held.process != process && held.version < reading.floor;
        let is_behind = self.pair.truth.with(&self.path, |datum| datum.held.iter().any(is_outdated));
        if is_behind && !reading.answer.is_finished() {
            self.tally.behind.fetch_add(1, SeqCst);
        }
    }

    fn begin(&mut self, process: usize, how: &str) -> Reading {
        let floor = self.floor.load(SeqCst);
        self.steps.push(format!("read on {process}{how}, at least v{floor}"));
        let answer = self.pair.get(process, &self.path);
        Reading { step: self.steps.len() - 1, floor, answer }
    }

    /// Lets a held fill go on, whichever.
    fn release(&mut self) {
        let count = self.pair.truth.with(&self.path, |datum| datum.held.len());
        if count > 0 {
            let which = self.dice.below(count);
            self.release_this(which);
        }
    }

    fn release_this(&mut self, which: usize) -> bool {
        let together = self.pair.truth.with(&self.path, |datum| datum.held.len() > 1);
        let Some(held) = self.pair.truth.release(&self.path, which) else { return false };
        self.steps.push(format!("the fill on {} that read v{} goes on", held.process, held.version));
        self.tally.held.fetch_add(1, SeqCst);
        self.tally.together.fetch_add(usize::from(together), SeqCst);
        let is_outdated = held.version < self.floor.load(SeqCst);
        self.tally.outdated.fetch_add(usize::from(is_outdated), SeqCst);
        true
    }

    /// Changes the data, then drops the page; others may go on meanwhile.
    async fn write_and_drop(&mut self) {
        // What drops more than the page is rarer, for it takes the neighbours along.
        let (process, way) = match self.dice.below(20) {
            0 => (self.dice.below(2), "clear"),
            1 => (self.dice.below(2), "namespace"),
            _ => {
                let (narrow, _) = ways(self.kind).split_last_chunk::<2>().unwrap();
                (self.dice.below(2), narrow[self.dice.below(narrow.len())])
            }
        };
        let waits = self.dice.is(75);
        let version = self.pair.truth.write(&self.path);
        self.steps.push(format!("v{version}, {way} on {process}{}", if waits { "" } else { ", meanwhile" }));
        self.tally.dropped[WAYS.iter().position(|known| *known == way).unwrap()].fetch_add(1, SeqCst);
        let (pair, path, floor) = (Arc::clone(&self.pair), self.path.clone(), Arc::clone(&self.floor));
        let dropping = tokio::spawn(async move {
            pair.processes[process].drop_by(way, &path).await;
            floor.fetch_max(version, SeqCst);
        });
        if waits {
            dropping.await.unwrap();
        } else {
            self.dropping.push(dropping);
        }
    }

    /// All that is stored becomes stale, on one process or both.
    async fn let_time_pass(&mut self) {
        let whose = [&[0][..], &[1], &[0, 1], &[0, 1]][self.dice.below(4)];
        self.steps.push(format!("a minute passes on {whose:?}"));
        for process in whose {
            self.pair.processes[*process].advance(&self.path, 61_000).await;
        }
    }

    /// All goes on and ends; then both processes are asked once more.
    async fn end(&mut self) -> Result<(), String> {
        self.pair.truth.with(&self.path, |datum| datum.hold = [false; 2]);
        while let count @ 1.. = self.pair.truth.with(&self.path, |datum| datum.held.len()) {
            let which = self.dice.below(count);
            self.release_this(which);
        }
        for dropping in std::mem::take(&mut self.dropping) {
            dropping.await.unwrap();
        }
        // Every write was followed by an invalidation, and all of them returned.
        for process in [0, 1] {
            let last = self.begin(process, ", at the end");
            self.reading.push(last);
        }
        let mut wrong = Vec::new();
        for reading in std::mem::take(&mut self.reading) {
            let (version, is_hit) = reading.answer.await.map_err(|error| format!("no answer: {error}"))?;
            self.tally.reads.fetch_add(1, SeqCst);
            self.tally.hits.fetch_add(usize::from(is_hit), SeqCst);
            self.steps[reading.step]
                .push_str(&format!(": v{version}{}", if is_hit { ", a hit" } else { "" }));
            if version < reading.floor {
                wrong.push(reading.step);
            }
        }
        self.pair.truth.data.lock().unwrap().remove(&self.path);
        if wrong.is_empty() { Ok(()) } else { Err(format!("steps {wrong:?} of {:#?}", self.steps)) }
    }
}

/// Says which schedule it was, if that panics.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("SEED={}", self.0);
        }
    }
}

#[tokio::test]
async fn after_an_invalidation_on_any_process_no_process_serves_what_was_computed_before() {
    let chosen: Option<u64> = std::env::var("SEED").ok().map(|seed| seed.parse().unwrap());
    let schedules = if std::env::var_os("FULL_SIZE").is_some() { 100_000 } else { 2_000 };
    let (from, to) = chosen.map_or((0, schedules), |seed| (seed, seed + 1));
    let pair = Pair::start().await;
    // Even seeds in worlds that coalesce, odd ones in the others.
    let kinds =
        BOTH.map(|odd| (Arc::new(AtomicU64::new(from + (from + odd as u64) % 2)), Arc::<Tally>::default()));
    let mut lanes = JoinSet::new();
    // Several in each world, so that they drop each other's pages too.
    for lane in 0..LANES * WORLDS {
        let world = lane % WORLDS;
        let (next, tally) = kinds[world % 2].clone();
        let pair = Arc::clone(&pair);
        lanes.spawn(async move {
            loop {
                let seed = next.fetch_add(2, SeqCst);
                if seed >= to {
                    return Ok(());
                }
                let _named = Named(seed);
                let ran = Schedule::new(&pair, world, seed, &tally).run_in_time().await;
                ran.map_err(|wrong| format!("SEED={seed}: {wrong}"))?;
            }
        });
    }
    while let Some(ended) = lanes.join_next().await {
        let wrong = match ended {
            Ok(Ok(())) => continue,
            Ok(Err(wrong)) => wrong,
            Err(error) => error.to_string(),
        };
        // The first one ends it all.
        lanes.shutdown().await;
        panic!("{wrong}");
    }
    pair.without_trouble().await;
    for (world, (_, tally)) in BOTH.iter().zip(&kinds) {
        println!("coalescing: {}, of {} schedules: {tally:?}", coalesces(*world), to - from);
        if chosen.is_none() {
            let (count, each) = (|of: &AtomicUsize| of.load(SeqCst) as u64, schedules / 2);
            assert!(count(&tally.hits) > each && count(&tally.outdated) > each / 4, "{tally:?}");
            assert!(tally.dropped.iter().all(|way| count(way) > each / 50), "{tally:?}");
            let of_this_kind = if coalesces(*world) { &tally.behind } else { &tally.together };
            assert!(count(of_this_kind) > each / 10, "{tally:?}");
        }
    }
}
