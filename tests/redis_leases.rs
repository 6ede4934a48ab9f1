//! Of many processes one runs the handler, and the others wait for what it stores.
#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)] // it is test code

mod support;

use std::sync::Arc;
use std::time::Duration;

use actix_fast_cache::{CacheConfig, CacheControl, CacheHandle, FastCache, ManualClock, RedisStorage};
use actix_web::http::header::CACHE_CONTROL;
use actix_web::{App, HttpResponse, web};
use futures_util::future::join_all;
use support::redis::{RedisServer, wait_until};
use support::{Reply, Runs, Server, request};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// Three processes of an application on one Redis, whose handler waits at a gate.
struct Fleet {
    redis: RedisServer,
    processes: Vec<(Server, CacheHandle)>,
    runs: Runs,
    gate: Arc<Semaphore>,
    clock: ManualClock,
}

impl Fleet {
    async fn start() -> Self {
        let redis = RedisServer::start().await;
        let (runs, gate, clock) = (Runs::new(), Arc::new(Semaphore::new(0)), ManualClock::new());
        let process = || {
            let storage = RedisStorage::open(&redis.url(), "afc").unwrap();
            let builder = CacheConfig::builder(storage).namespace("shop").clock(clock.clone());
            let builder = builder.host(actix_fast_cache::HostPolicy::Ignore);
            let config = builder.storage_deadline(Duration::from_secs(5)).build().unwrap();
            let (cache, runs, gate) = (config.handle(), runs.clone(), Arc::clone(&gate));
            let server = Server::start(2, move || {
                let (runs, gate) = (runs.clone(), Arc::clone(&gate));
                let page = move |kind: web::Path<String>, cache: CacheControl| {
                    let (run, gate) = (runs.add(), Arc::clone(&gate));
                    cache.tag("pages");
                    async move {
                        gate.acquire().await.unwrap().forget();
                        let mut response = HttpResponse::Ok();
                        match kind.as_str() {
                            "private" => drop(response.insert_header((CACHE_CONTROL, "private"))),
                            "panics" if run == 1 => panic!("as told"),
                            "stale" => {
                                let value = "max-age=1, stale-while-revalidate=100";
                                response.insert_header((CACHE_CONTROL, value));
                            }
                            _ => {}
                        }
                        response.body(format!("run {run}"))
                    }
                };
                App::new().service(web::resource("/{kind}").wrap(FastCache::new(config.clone())).to(page))
            });
            (server, cache)
        };
        let processes = (0..3).map(|_| process()).collect();
        Self { redis, processes, runs, gate, clock }
    }

    /// So many requests to each process at once; the gate opens when the processes have all asked for the lease.
    async fn ask_all(&self, path: &str, each: usize, claims: usize, permits: usize) -> Vec<String> {
        let asked = self.claims().await + claims;
        let requests = self.processes.iter().flat_map(|(server, _)| {
            (0..each).map(async move |_| {
                let reply = server.get(path, &[]).await;
                assert_eq!(reply.status, 200);
                reply.text()
            })
        });
        let open = async {
            wait_until(async || self.claims().await >= asked && self.runs.count() > 0).await;
            self.gate.add_permits(permits);
        };
        futures_util::future::join(join_all(requests), open).await.0
    }

    /// How many scripts Redis has run.
    async fn claims(&self) -> usize {
        self.redis.calls(|command| command == "evalsha").await
    }

    /// How many calls to Redis have failed.
    fn calls(&self) -> u64 {
        let troubles = self.processes.iter().map(|(_, cache)| cache.storage_trouble());
        troubles.map(|trouble| trouble.failed + trouble.left_alone).sum()
    }

    async fn lease(&self) -> Option<String> {
        self.redis.keys("afc:*:lease:*").await.pop()
    }
}

// S1
#[tokio::test]
async fn of_many_processes_one_runs_and_the_others_read_its_answer() {
    let fleet = Fleet::start().await;
    for round in 1..6 {
        let replies = fleet.ask_all("/page", 30, 3, 1).await;
        assert_eq!(replies, vec![format!("run {round}"); 90]);
        assert_eq!(fleet.runs.count(), round);
        fleet.processes[0].1.invalidate_tag("pages").await.unwrap();
    }
    wait_until(async || fleet.lease().await.is_none()).await;
}

// S5
#[tokio::test]
async fn what_is_not_to_be_shared_releases_all_processes_at_once() {
    let fleet = Fleet::start().await;
    // Were it one after the other, the gate would not let them through: it opens once.
    let replies = fleet.ask_all("/private", 10, 3, 1_000).await;
    assert_eq!((replies.len(), fleet.runs.count()), (30, 30));
    // For a while nobody waits for it.
    let lease = fleet.lease().await.unwrap();
    assert!(fleet.redis.send(&format!("GET {lease}")).await.contains("refused"));
    let left = fleet.redis.send(&format!("TTL {lease}")).await;
    assert!((1..=10).contains(&left.trim_start_matches(':').trim().parse::<i64>().unwrap()), "{left}");
    assert_eq!(fleet.ask_all("/private", 10, 0, 1_000).await.len(), 30);
}

#[tokio::test]
async fn a_run_that_fails_does_not_keep_the_others_waiting() {
    let fleet = Fleet::start().await;
    fleet.gate.add_permits(1_000);
    let mut stream = TcpStream::connect(fleet.processes[0].0.addr).await.unwrap();
    stream.write_all(&request("GET", "/panics", &[], b"")).await.unwrap();
    assert!(Reply::read(&mut stream, false).await.is_none(), "a panic has no answer");
    wait_until(async || fleet.lease().await.is_none()).await;
    let reply = fleet.processes[1].0.get("/panics", &[]).await;
    assert_eq!(reply.text(), "run 2");
}

#[tokio::test]
async fn a_holder_that_is_lost_costs_the_time_of_its_lease_at_most() {
    let fleet = Fleet::start().await;
    fleet.gate.add_permits(1_000);
    let (server, cache) = &fleet.processes[0];
    server.get("/page", &[]).await;
    cache.flush().await;
    let key = fleet.redis.keys("afc:shop:v1:*").await.pop().unwrap();
    cache.invalidate_tag("pages").await.unwrap();
    fleet.redis.send(&format!("SET {} somebody PX 2000", key.replace(":v1:", ":lease:"))).await;
    #[allow(clippy::disallowed_methods)] // what a client waits is measured on the real clock
    let began = std::time::Instant::now();
    assert_eq!(server.get("/page", &[]).await.text(), "run 2");
    let waited = began.elapsed();
    assert!((1_500..3_000).contains(&waited.as_millis()), "{waited:?}");
}

#[tokio::test]
async fn a_lease_is_kept_for_as_long_as_the_run_takes() {
    let fleet = Fleet::start().await;
    let (server, other) = (&fleet.processes[0].0, &fleet.processes[1].0);
    let hold = async {
        wait_until(async || fleet.runs.count() == 1).await;
        let lease = fleet.lease().await.unwrap();
        let holder = fleet.redis.send(&format!("GET {lease}")).await;
        // Each rise is a renewal; a lease would be over before the fifth.
        let (mut last, mut renewed) = (u64::MAX, 0);
        wait_until(async || {
            let left = fleet.redis.send(&format!("PTTL {lease}")).await;
            let left = left.trim_start_matches(':').trim().parse().expect("it is held all the time");
            renewed += u64::from(left > last);
            last = left;
            renewed == 5
        })
        .await;
        assert_eq!(fleet.redis.send(&format!("GET {lease}")).await, holder);
        fleet.gate.add_permits(1);
    };
    let (one, another, ()) =
        futures_util::future::join3(server.get("/page", &[]), other.get("/page", &[]), hold).await;
    assert_eq!((one.text().as_str(), another.text().as_str()), ("run 1", "run 1"));
}

#[tokio::test]
async fn without_redis_each_process_is_for_itself() {
    let mut fleet = Fleet::start().await;
    fleet.redis.kill();
    let requests = fleet
        .processes
        .iter()
        .flat_map(|(server, _)| (0..20).map(async move |_| server.get("/page", &[]).await.status));
    let open = async {
        wait_until(async || fleet.runs.count() == 3).await;
        wait_until(async || fleet.calls() >= 3 * 20).await;
        fleet.gate.add_permits(3);
        // All but the leaders ask whether its answer is valid, and most look again: then nobody asks any more.
        let mut last = 0;
        while last < fleet.calls() {
            last = fleet.calls();
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        fleet.gate.add_permits(1_000);
    };
    let (statuses, ()) = futures_util::future::join(join_all(requests), open).await;
    assert!(statuses.iter().all(|status| *status == 200));
    // Whether the answer that was waited for has been invalidated nobody can tell: one who waited runs for the others.
    assert!((3..=9).contains(&fleet.runs.count()), "{}", fleet.runs.count());
}

// S11
#[tokio::test]
async fn a_stale_answer_is_refreshed_by_one_process() {
    let fleet = Fleet::start().await;
    fleet.gate.add_permits(1);
    let (server, cache) = &fleet.processes[0];
    assert_eq!(server.get("/stale", &[]).await.text(), "run 1");
    cache.flush().await;
    fleet.clock.advance(Duration::from_secs(2));
    for (server, _) in &fleet.processes {
        for _ in 0..20 {
            assert_eq!(server.get("/stale", &[]).await.text(), "run 1");
        }
    }
    wait_until(async || fleet.runs.count() == 2).await;
    fleet.gate.add_permits(1);
    wait_until(async || server.get("/stale", &[]).await.text() == "run 2").await;
}
