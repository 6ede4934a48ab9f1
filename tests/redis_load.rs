//! Load on an application whose Redis is in trouble: what each request gets, and how soon.
//!
//! With `FULL_SIZE` set each trouble lasts a minute, and the bounds are those that are promised; `--nocapture` shows a
//! table. Without it each lasts three seconds, and a busy machine is given some allowance.
#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)] // it is test code

mod support;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use actix_fast_cache::{CacheConfig, FastCache, RedisStorage};
use actix_web::{App, HttpResponse, web};
use support::faults::{Fault, FaultProxy};
use support::redis::RedisServer;
use support::{Reply, Runs, Server, request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{interval, sleep};

const PAGES: usize = 50;
const DEADLINE: Duration = Duration::from_millis(50);
/// The first requests may wait for a deadline, and this long for all else.
const MOST_ADDED_AT_FIRST: Duration = DEADLINE.saturating_add(Duration::from_millis(50));
/// Once the storage is left alone, requests hardly notice.
const MOST_ADDED_THEN: Duration = Duration::from_millis(5);
/// As soon there are hits again.
const BACK_WITHIN: Duration = Duration::from_secs(2);

/// How long, and how strict.
struct Size {
    /// Requests in a second, whatever becomes of those before. Two of them try a storage that is frozen: that has to be far
    /// less than one in a hundred.
    rate: u32,
    healthy: Duration,
    trouble: Duration,
    /// Added to each bound on the time of requests. Without a breaker each of them takes a deadline or two, which is more.
    allowance: Duration,
    /// A machine that was busy elsewhere for a moment gets another try; a breaker that does not work fails them all. What
    /// is wrong in other ways is never tried again.
    tries: usize,
    /// On a machine that others use as well, requests take as long as those do that no cache is asked for.
    is_shared: bool,
}

fn size() -> Size {
    let is_full = std::env::var_os("FULL_SIZE").is_some();
    let seconds = |full, small| Duration::from_secs(if is_full { full } else { small });
    Size {
        rate: if is_full { 1_000 } else { 400 },
        healthy: seconds(10, 1),
        trouble: seconds(60, 3),
        allowance: if is_full { Duration::ZERO } else { Duration::from_millis(40) },
        tries: if is_full { 1 } else { 3 },
        is_shared: !is_full,
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Trouble {
    Killed,
    Frozen,
    /// Writes are refused, for its memory is full.
    Full,
    /// It is another one's copy, and writes are refused.
    ReadOnly,
    /// It has been started anew, and refuses all until it has read its file.
    Loading,
    /// Its connections break in the middle of an answer.
    Cut,
    /// What is at its port is a web server.
    Http,
}

impl Trouble {
    /// What is stored is served all the while.
    fn leaves_reads(self) -> bool {
        matches!(self, Self::Full | Self::ReadOnly)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_befalls_redis_under_load_requests_are_answered_right_and_in_time() {
    let size = size();
    println!("{:9}{}", "", Measured::HEAD);
    let mut broken = Vec::new();
    for trouble in [
        Trouble::Killed,
        Trouble::Frozen,
        Trouble::Full,
        Trouble::ReadOnly,
        Trouble::Loading,
        Trouble::Cut,
        Trouble::Http,
    ] {
        for tried in 1..=size.tries {
            let measured = measure(trouble, &size).await;
            let (line, late) = (measured.line(), measured.late(trouble, &size));
            println!("{:9}{line}", format!("{trouble:?}"));
            if late.is_empty() {
                break;
            }
            if tried == size.tries {
                broken.push(format!("{trouble:?}: {late:?}: {line}"));
            }
        }
    }
    assert!(broken.is_empty(), "{}\n{broken:#?}", Measured::HEAD);
}

/// A Redis that gets into trouble, and out of it.
struct Patient {
    redis: RedisServer,
    proxy: FaultProxy,
    directory: PathBuf,
}

impl Patient {
    async fn healthy(trouble: Trouble) -> Self {
        let directory = std::env::temp_dir().join(format!("afc-load-{}-{trouble:?}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let redis = RedisServer::start_with(&["--dir", directory.to_str().unwrap()]).await;
        if trouble == Trouble::Loading {
            // As much as it reads for longer than a minute, at four milliseconds for each.
            let fill = "for i = 1, 20000 do redis.call('SET', 'other:' .. i, string.rep('x', 1000)) end";
            redis.send(&format!("EVAL \"{fill}\" 0")).await;
            assert!(redis.send("CONFIG SET rdbcompression no").await.starts_with("+OK"));
            assert!(redis.send("SAVE").await.starts_with("+OK"));
        }
        Self { proxy: FaultProxy::before(redis.port).await, redis, directory }
    }

    /// Where the application finds it.
    fn port(&self, trouble: Trouble) -> u16 {
        match trouble {
            Trouble::Cut | Trouble::Http => self.proxy.port,
            _ => self.redis.port,
        }
    }

    async fn falls_ill(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::Killed => self.redis.kill(),
            Trouble::Frozen => self.redis.signal("STOP"),
            Trouble::Full => self.tell("CONFIG SET maxmemory 1").await,
            Trouble::ReadOnly => self.tell("REPLICAOF 127.0.0.1 1").await,
            Trouble::Loading => {
                self.redis.kill();
                let slowly = ["--key-load-delay", "4000", "--loading-process-events-interval-bytes", "1024"];
                self.redis.spawn(&slowly);
                self.redis.answers(|answer| answer.starts_with("-LOADING")).await;
            }
            Trouble::Cut => self.proxy.set(Fault::CutAfter(2_000)),
            Trouble::Http => self.proxy.set(Fault::Garbage(b"HTTP/1.1 400 Bad Request\r\n\r\n")),
        }
    }

    /// It is well when this returns.
    async fn recovers(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::Killed => self.redis.start_again().await,
            Trouble::Frozen => self.redis.signal("CONT"),
            Trouble::Full => self.tell("CONFIG SET maxmemory 0").await,
            Trouble::ReadOnly => self.tell("REPLICAOF NO ONE").await,
            Trouble::Loading => {
                let answer = self.redis.send("PING").await;
                assert!(answer.starts_with("-LOADING"), "it was to load until now: {answer}");
                self.tell("CONFIG SET key-load-delay 0").await;
                self.redis.answers(|answer| answer.starts_with("+PONG")).await;
            }
            Trouble::Cut | Trouble::Http => self.proxy.set(Fault::None),
        }
    }

    async fn tell(&self, command: &str) {
        let answer = self.redis.send(command).await;
        assert!(answer.starts_with("+OK"), "{command}: {answer}");
    }
}

impl Drop for Patient {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Pages that say which they are, and which run made them.
fn serve(port: u16) -> (Server, Runs) {
    let storage = RedisStorage::open(&format!("redis://127.0.0.1:{port}"), "afc").unwrap();
    let config =
        CacheConfig::builder(storage).storage_deadline(DEADLINE).cache_status("load").build().unwrap();
    let runs = Runs::new();
    let counted = runs.clone();
    let server = Server::start(2, move || {
        let runs = counted.clone();
        let show = move |page: web::Path<usize>| {
            let body = body(*page, runs.add());
            // Half of them are filled again and again, in trouble too.
            let lives = if is_lasting(*page) { "max-age=3600" } else { "max-age=1" };
            async move { HttpResponse::Ok().insert_header(("Cache-Control", lives)).body(body) }
        };
        App::new()
            .service(web::resource("/plain/{page}").to(show.clone()))
            .service(web::resource("/{page}").wrap(FastCache::new(config.clone())).to(show))
    });
    (server, runs)
}

fn is_lasting(page: usize) -> bool {
    page.is_multiple_of(2)
}

/// Each page has a length of its own.
fn body(page: usize, run: usize) -> String {
    format!("{page:03} {run:010} {}", char::from(b'A' + page as u8).to_string().repeat(3_000 + page * 100))
}

/// The run that made this page, if it is the page and all of it.
fn run_of(page: usize, text: &str) -> Option<usize> {
    let run = text.get(4..14)?.parse().ok()?;
    (text == body(page, run)).then_some(run)
}

/// What became of a request.
#[derive(Clone)]
struct Seen {
    sent: Duration,
    took: Duration,
    page: usize,
    run: usize,
    /// No cache was asked.
    is_plain: bool,
    /// Out of the storage, and not out of another request's run.
    is_hit: bool,
}

/// A client that sends so many requests in a second, over connections that it keeps.
struct Load {
    addr: SocketAddr,
    began: Instant,
    idle: Mutex<VecDeque<TcpStream>>,
    seen: Mutex<Vec<Seen>>,
    wrong: Mutex<Vec<String>>,
    ended: AtomicBool,
    /// Places for the requests under way.
    places: Arc<Semaphore>,
}

/// In health and in trouble there are fewer, at a thousand in a second. Both ends of each connection are files of this
/// process, which may hardly have more than a thousand.
const MOST_UNDER_WAY: u32 = 300;

/// Of 256 requests so many go past the cache.
const PLAIN: u32 = 26;

impl Load {
    fn on(server: &Server) -> Arc<Self> {
        #[allow(clippy::disallowed_methods)] // what a client feels is measured on the real clock
        let began = Instant::now();
        Arc::new(Self {
            addr: server.addr,
            began,
            idle: Mutex::default(),
            seen: Mutex::default(),
            wrong: Mutex::default(),
            ended: AtomicBool::new(false),
            places: Arc::new(Semaphore::new(MOST_UNDER_WAY as usize)),
        })
    }

    /// Sends until it is ended, and waits for the last answers.
    async fn run(self: Arc<Self>, rate: u32) {
        // Ticks that come late come at once.
        let mut ticks = interval(Duration::from_secs(1) / rate);
        let mut dice = 1_u32;
        while !self.ended.load(SeqCst) {
            ticks.tick().await;
            dice = dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let page = (dice >> 16) as usize % PAGES;
            let place = Arc::clone(&self.places).acquire_owned().await.unwrap();
            let is_plain = dice >> 24 < PLAIN;
            tokio::spawn(Arc::clone(&self).ask(page, is_plain, place));
        }
        drop(self.places.acquire_many(MOST_UNDER_WAY).await.unwrap());
    }

    async fn ask(self: Arc<Self>, page: usize, is_plain: bool, _place: OwnedSemaphorePermit) {
        let sent = self.began.elapsed();
        let reply = self.reply(&if is_plain { format!("/plain/{page}") } else { format!("/{page}") }).await;
        let took = self.began.elapsed() - sent;
        let why = match reply {
            Ok(reply) => match run_of(page, &reply.text()).filter(|_| reply.status == 200) {
                Some(run) => {
                    let status = reply.field("cache-status").unwrap_or_default();
                    let is_hit = reply.cache() == "HIT" && status.starts_with("load; hit");
                    return self.seen.lock().unwrap().push(Seen { sent, took, page, run, is_plain, is_hit });
                }
                None => format!("{} with {} bytes: {:.60}", reply.status, reply.body.len(), reply.text()),
            },
            Err(error) => error,
        };
        self.wrong.lock().unwrap().push(format!("page {page} at {sent:?}, after {took:?}: {why}"));
    }

    async fn reply(&self, target: &str) -> Result<Reply, String> {
        let kept = self.kept();
        let is_kept = kept.is_some();
        let mut stream = match kept {
            Some(stream) => stream,
            None => TcpStream::connect(self.addr).await.map_err(|error| format!("connecting: {error}"))?,
        };
        let sent = stream.write_all(&request("GET", target, &[], b"")).await;
        sent.map_err(|error| format!("writing: {error}"))?;
        let Some(reply) = Reply::read(&mut stream, false).await else {
            let then = stream.read(&mut [0]).await;
            return Err(format!("cut off; on a used connection: {is_kept}; then {then:?}"));
        };
        self.idle.lock().unwrap().push_back(stream);
        Ok(reply)
    }

    /// The connection that was idle longest, so that none is for so long that the server ends it.
    fn kept(&self) -> Option<TcpStream> {
        self.idle.lock().unwrap().pop_front()
    }

    fn is_stored(&self, page: usize) -> bool {
        self.seen.lock().unwrap().iter().any(|seen| seen.is_hit && seen.page == page)
    }

    /// Waits longer than is promised of a machine at rest: how long it was is judged afterwards.
    async fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let began = self.began.elapsed();
        while !holds() {
            assert!(self.began.elapsed() - began < Duration::from_secs(60), "not within a minute: {what}");
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// The first hit on what was made past this run.
    fn hit_past(&self, run: usize) -> Option<Seen> {
        self.seen.lock().unwrap().iter().find(|seen| seen.is_hit && seen.run > run).cloned()
    }
}

async fn measure(trouble: Trouble, size: &Size) -> Measured {
    let mut patient = Patient::healthy(trouble).await;
    let (server, runs) = serve(patient.port(trouble));
    let load = Load::on(&server);
    let running = tokio::spawn(Arc::clone(&load).run(size.rate));
    load.until("a hit on each page", || (0..PAGES).all(|page| load.is_stored(page))).await;
    let healthy = load.began.elapsed();
    sleep(size.healthy).await;

    let ill = load.began.elapsed();
    patient.falls_ill(trouble).await;
    sleep(size.trouble.saturating_sub(load.began.elapsed() - ill)).await;
    patient.recovers(trouble).await;
    let well = load.began.elapsed();

    let last = runs.count();
    load.until("hits again", || load.hit_past(last).is_some()).await;
    load.ended.store(true, SeqCst);
    running.await.unwrap();
    let wrong = load.wrong.lock().unwrap().clone();
    assert!(
        wrong.is_empty(),
        "{trouble:?}: {} wrong answers: {:?}",
        wrong.len(),
        &wrong[..wrong.len().min(5)]
    );
    let again = load.hit_past(last).unwrap();
    let seen = load.seen.lock().unwrap().clone();
    let all = |from, to| seen.iter().filter(move |seen| (from..to).contains(&seen.sent));
    let between = |from, to| all(from, to).filter(|seen| !seen.is_plain);
    let plain = |from, to| percentile(99, all(from, to).filter(|seen| seen.is_plain).map(|seen| seen.took));
    let p = |percent, from, to| percentile(percent, between(from, to).map(|seen| seen.took));
    let first = ill + Duration::from_secs(1);
    let lasting = || between(first, well).filter(|seen| is_lasting(seen.page));
    Measured {
        requests: all(ill, well).count(),
        rate: all(ill, well).count() as f64 / (well - ill).as_secs_f64(),
        p50: p(50, ill, well),
        healthy: p(99, healthy, ill),
        first: p(99, ill, first),
        then: p(99, first, well),
        plain_first: plain(ill, first),
        plain_then: plain(first, well),
        hits: lasting().filter(|seen| seen.is_hit).count() as f64 / lasting().count() as f64,
        again: (again.sent + again.took).saturating_sub(well),
    }
}

struct Measured {
    requests: usize,
    rate: f64,
    p50: Duration,
    healthy: Duration,
    first: Duration,
    then: Duration,
    /// The same of the requests that no cache was asked for.
    plain_first: Duration,
    plain_then: Duration,
    /// The part of the requests for pages that last that were hits, past the first second.
    hits: f64,
    again: Duration,
}

impl Measured {
    const HEAD: &str = "requests  rate/s  p50 ms  p99 healthy  p99 first second  p99 then  p99 uncached  hits then  hits again after ms";

    fn line(&self) -> String {
        let ms = |time: Duration| time.as_secs_f64() * 1_000.0;
        format!(
            "{:8}{:8.0}{:8.1}{:13.1}{:18.1}{:10.1}{:14.1}{:10.0}%{:21.0}",
            self.requests,
            self.rate,
            ms(self.p50),
            ms(self.healthy),
            ms(self.first),
            ms(self.then),
            ms(self.plain_then),
            self.hits * 100.0,
            ms(self.again)
        )
    }

    /// What was not as is promised.
    fn late(&self, trouble: Trouble, size: &Size) -> Vec<&'static str> {
        let most = |bound: Duration, plain: Duration| {
            let machine = if size.is_shared { self.healthy.max(plain) } else { self.healthy };
            machine + bound + size.allowance
        };
        let bounds = [
            (self.first <= most(MOST_ADDED_AT_FIRST, self.plain_first), "the first second"),
            (self.then <= most(MOST_ADDED_THEN, self.plain_then), "past the first second"),
            (!trouble.leaves_reads() || self.hits > 0.9, "hits go on"),
            (self.again <= BACK_WITHIN, "hits again"),
            (size.is_shared || self.rate >= 0.9 * f64::from(size.rate), "the load itself"),
        ];
        bounds.into_iter().filter(|(is_kept, _)| !is_kept).map(|(_, what)| what).collect()
    }
}

fn percentile(percent: usize, times: impl Iterator<Item = Duration>) -> Duration {
    let mut times: Vec<_> = times.collect();
    times.sort_unstable();
    times[(times.len() * percent / 100).min(times.len() - 1)]
}
