//! How hits scale with workers, beside the bare handler.
//!
//! `cargo bench --bench scaling` answers requests in the app, without sockets, on one thread and on two. Each has an app
//! of its own, as actix's workers do; all share one configuration, and so one storage. The handler shares nothing:
//! its ratio is what the machine allows, and a hit's ratio is to be compared with that.
//!
//! Requests are made before, in batches that both threads begin together; only answers are timed, and the batch in the
//! middle counts, so that one in which a thread lost its processor does not. Threads are not pinned: two processors
//! are needed that have little else to do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, missing_docs)] // it is a bench
#![allow(clippy::disallowed_methods)] // it measures

use std::hint::{black_box, spin_loop};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Instant;

use actix_fast_cache::{CacheConfig, FastCache, MemoryStorage};
use actix_http::Request;
use actix_service::Service;
use actix_web::body::MessageBody;
use actix_web::dev::ServiceResponse;
use actix_web::http::header::{self, HeaderValue};
use actix_web::rt::System;
use actix_web::test::{TestRequest, init_service};
use actix_web::web::{self, Bytes};
use actix_web::{App, Error, HttpResponse};
use futures_util::FutureExt;

const KEYS: usize = 10_000;
const BATCH: usize = 256;
const BATCHES: usize = 400;
const WARM_UP: usize = 100;
const ROUNDS: usize = 5;

#[derive(Debug, Clone, Copy)]
enum Popularity {
    OneKey,
    /// The k-th most popular key is asked for 1/k times as often as the first.
    Zipf,
}

fn main() {
    println!(
        "{:<28} {:>13} {:>13} {:>7} {:>14}",
        "hits/s", "1 worker", "2 workers", "ratio", "handler, ratio"
    );
    for (popularity, what) in [(Popularity::OneKey, "one hot key"), (Popularity::Zipf, "10,000 keys, Zipf")] {
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            let config = CacheConfig::builder(MemoryStorage::new()).build().unwrap();
            let bare = [1, 2].map(|workers| rate(workers, None, popularity));
            let hits = [1, 2].map(|workers| rate(workers, Some(&config), popularity));
            rounds.push((hits[0], hits[1], hits[1] / hits[0], bare[1] / bare[0]));
        }
        println!(
            "{what:<28} {:>13.0} {:>13.0} {:>7.2} {:>14.2}",
            median(rounds.iter().map(|round| round.0)),
            median(rounds.iter().map(|round| round.1)),
            median(rounds.iter().map(|round| round.2)),
            median(rounds.iter().map(|round| round.3)),
        );
    }
}

fn median(numbers: impl Iterator<Item = f64>) -> f64 {
    let mut numbers: Vec<f64> = numbers.collect();
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

/// Answers a second, of all workers together.
fn rate(workers: usize, config: Option<&CacheConfig>, popularity: Popularity) -> f64 {
    let meeting = Meeting { workers, arrived: AtomicUsize::new(0) };
    thread::scope(|scope| {
        let spawn = |worker| {
            let (config, meeting, draw) = (config.cloned(), &meeting, Draw::new(popularity, worker as u64));
            scope.spawn(move || worker_rate(config, draw, meeting))
        };
        let threads: Vec<_> = (0..workers).map(spawn).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    })
}

fn worker_rate(config: Option<CacheConfig>, draw: Draw, meeting: &Meeting) -> f64 {
    let app = App::new().route("/page/{number}", web::get().to(page));
    System::new().block_on(async {
        match config {
            Some(config) => {
                answers_a_second(init_service(app.wrap(FastCache::new(config))).await, draw, meeting)
            }
            None => answers_a_second(init_service(app).await, draw, meeting),
        }
    })
}

async fn page() -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")))
        .insert_header((header::CACHE_CONTROL, HeaderValue::from_static("max-age=600")))
        .insert_header((header::ETAG, HeaderValue::from_static("\"one\"")))
        .insert_header((header::CONTENT_LANGUAGE, HeaderValue::from_static("en")))
        .body(Bytes::from_static(&[b'x'; 1024]))
}

fn answers_a_second<S, B>(app: S, mut draw: Draw, meeting: &Meeting) -> f64
where
    S: Service<Request, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
{
    answer(&app, (0..draw.keys()).map(request).collect());
    let mut took = Vec::new();
    for batch in 0..WARM_UP + BATCHES {
        let requests = (0..BATCH).map(|_| request(draw.next())).collect();
        meeting.wait(batch);
        let begin = Instant::now();
        answer(&app, requests);
        if batch >= WARM_UP {
            took.push(begin.elapsed().as_secs_f64());
        }
    }
    BATCH as f64 / median(took.into_iter())
}

fn request(key: usize) -> Request {
    TestRequest::get().uri(&format!("/page/{key}")).insert_header(("host", "bench.example")).to_request()
}

fn answer<S, B>(app: &S, requests: Vec<Request>)
where
    S: Service<Request, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
{
    for request in requests {
        drop(black_box(app.call(request).now_or_never().expect("an answer at once").unwrap()));
    }
}

/// Where workers wait for each other before each batch.
struct Meeting {
    workers: usize,
    arrived: AtomicUsize,
}

impl Meeting {
    fn wait(&self, batch: usize) {
        self.arrived.fetch_add(1, SeqCst);
        for turn in 1_u32.. {
            if self.arrived.load(SeqCst) >= self.workers * (batch + 1) {
                break;
            }
            spin_loop();
            // The other one may need this processor to come.
            if turn.is_multiple_of(100_000) {
                thread::yield_now();
            }
        }
    }
}

/// Draws keys; each worker draws its own.
struct Draw {
    /// Ends of the keys' shares of all requests, the last one at 1.
    shares: Vec<f64>,
    state: u64,
}

impl Draw {
    fn new(popularity: Popularity, seed: u64) -> Self {
        let weights: Vec<f64> = match popularity {
            Popularity::OneKey => vec![1.0],
            Popularity::Zipf => (1..=KEYS).map(|rank| 1.0 / rank as f64).collect(),
        };
        let sum: f64 = weights.iter().sum();
        let mut end = 0.0;
        let shares = weights.into_iter().map(|weight| {
            end += weight / sum;
            end
        });
        Self { shares: shares.collect(), state: seed + 1 }
    }

    fn keys(&self) -> usize {
        self.shares.len()
    }

    /// By splitmix64.
    fn next(&mut self) -> usize {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let random = ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64;
        self.shares.partition_point(|end| *end <= random).min(self.keys() - 1)
    }
}
