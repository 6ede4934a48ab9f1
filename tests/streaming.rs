//! Streamed answers: passed on as they come, stored only when they are whole.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)] // it is test code

mod support;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix_fast_cache::{CacheConfig, FastCache, MemoryStorage};
use actix_web::body::{BodyStream, SizedStream};
use actix_web::error::ErrorInternalServerError;
use actix_web::web::Bytes;
use actix_web::{App, Error, HttpResponse, web};
use futures_util::stream;
use support::{Reply, Runs, Server, request, reset, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// What a handler's body does next.
enum Step {
    Chunk(&'static [u8]),
    Fail,
    Panic,
}

/// A server whose first runs stream what the test feeds them, and whose later runs answer with their number.
struct Stage {
    server: Server,
    config: CacheConfig,
    runs: Runs,
}

type Feeds = Arc<Mutex<VecDeque<UnboundedReceiver<Step>>>>;

impl Stage {
    /// `size` is what the streamed answers announce.
    fn new(size: Option<u64>, limit: usize, feeds: usize) -> (Self, Vec<UnboundedSender<Step>>) {
        let runs = Runs::new();
        let config = CacheConfig::builder(MemoryStorage::new())
            .body_limit(limit)
            .wait(Duration::from_secs(600))
            .build()
            .unwrap();
        let (ends, feeds): (Vec<_>, VecDeque<_>) = (0..feeds).map(|_| unbounded_channel()).unzip();
        let feeds: Feeds = Arc::new(Mutex::new(feeds));
        let (shared, counted) = (config.clone(), runs.clone());
        let server = Server::start(2, move || {
            let (runs, feeds) = (counted.clone(), Arc::clone(&feeds));
            let handler = move || {
                let (run, feed) = (runs.add(), feeds.lock().unwrap().pop_front());
                async move {
                    let Some(feed) = feed else {
                        return HttpResponse::Ok().body(format!("run {run}"));
                    };
                    let steps = stream::unfold(feed, |mut feed| async move {
                        match feed.recv().await? {
                            Step::Chunk(chunk) => Some((Ok(Bytes::from_static(chunk)), feed)),
                            Step::Fail => Some((Err::<_, Error>(ErrorInternalServerError("broken")), feed)),
                            Step::Panic => panic!("a body panics"),
                        }
                    });
                    match size {
                        Some(size) => HttpResponse::Ok().body(SizedStream::new(size, steps)),
                        None => HttpResponse::Ok().body(BodyStream::new(steps)),
                    }
                }
            };
            App::new().service(
                web::scope("/a").wrap(FastCache::new(shared.clone())).default_service(web::to(handler)),
            )
        });
        (Self { server, config, runs }, ends)
    }

    async fn ask(&self) -> TcpStream {
        let mut stream = TcpStream::connect(self.server.addr).await.unwrap();
        stream.write_all(&request("GET", "/a/x", &[], b"")).await.unwrap();
        stream
    }

    async fn at_rest(&self) {
        until("no fill is left", || self.config.handle().fills_under_way() == 0).await;
    }
}

/// Reads until these bytes have come.
async fn read_until(stream: &mut TcpStream, wanted: &[u8]) {
    let mut read = Vec::new();
    while !read.windows(wanted.len()).any(|part| part == wanted) {
        let mut chunk = [0; 4096];
        let reading = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut chunk));
        let len = reading.await.expect("what the handler sent arrives").unwrap();
        assert_ne!(len, 0, "the connection ended");
        read.extend_from_slice(&chunk[..len]);
    }
}

#[tokio::test]
async fn each_chunk_of_a_miss_reaches_the_client_before_the_next_is_made() {
    for size in [Some(9), None] {
        for limit in [1 << 20, 4] {
            let (stage, feeds) = Stage::new(size, limit, 1);
            let mut client = stage.ask().await;
            for chunk in [&b"one"[..], b"two", b"six"] {
                feeds[0].send(Step::Chunk(chunk)).unwrap();
                read_until(&mut client, chunk).await;
            }
        }
    }
}

#[tokio::test]
async fn a_streamed_answer_is_stored_whole_and_its_hits_are_sized() {
    for size in [Some(6), None] {
        let (stage, mut feeds) = Stage::new(size, 6, 1);
        for chunk in [&b""[..], b"ab", b"", b"c", b"def", b""] {
            feeds[0].send(Step::Chunk(chunk)).unwrap();
        }
        feeds.clear();
        let miss = stage.server.get("/a/x", &[]).await;
        assert_eq!((miss.cache().as_str(), miss.text().as_str()), ("MISS", "abcdef"));
        stage.at_rest().await;
        let hit = stage.server.get("/a/x", &[]).await;
        assert_eq!((hit.cache().as_str(), hit.text().as_str()), ("HIT", "abcdef"));
        assert_eq!(hit.field("content-length").as_deref(), Some("6"));
        let old = stage.server.raw("GET", b"GET /a/x HTTP/1.0\r\nHost: test.example\r\n\r\n").await;
        assert_eq!((old.cache().as_str(), old.text().as_str()), ("HIT", "abcdef"));
        assert_eq!(
            (old.field("content-length").as_deref(), old.field("transfer-encoding")),
            (Some("6"), None)
        );
        assert_eq!(stage.runs.count(), 1);
    }
}

#[tokio::test]
async fn a_client_that_leaves_half_way_leaves_the_whole_answer_behind() {
    for size in [Some(6), None] {
        let (stage, mut feeds) = Stage::new(size, 1 << 20, 1);
        let mut client = stage.ask().await;
        feeds[0].send(Step::Chunk(b"abc")).unwrap();
        read_until(&mut client, b"abc").await;
        reset(client);
        // Time enough for the server to notice: other connections are served meanwhile.
        for _ in 0..8 {
            stage.server.get("/none", &[]).await;
        }
        feeds[0].send(Step::Chunk(b"def")).unwrap();
        feeds.clear();
        stage.at_rest().await;
        let hit = stage.server.get("/a/x", &[]).await;
        assert_eq!((hit.cache().as_str(), hit.text().as_str()), ("HIT", "abcdef"));
    }
}

#[tokio::test]
async fn a_body_that_breaks_after_its_client_left_is_not_stored() {
    for size in [Some(6), None] {
        for step in [Step::Fail, Step::Panic] {
            let (stage, feeds) = Stage::new(size, 1 << 20, 1);
            let mut client = stage.ask().await;
            feeds[0].send(Step::Chunk(b"abc")).unwrap();
            read_until(&mut client, b"abc").await;
            reset(client);
            for _ in 0..8 {
                stage.server.get("/none", &[]).await;
            }
            feeds[0].send(step).unwrap();
            stage.at_rest().await;
            let after = stage.server.get("/a/x", &[]).await;
            assert_eq!((after.cache().as_str(), after.text().as_str()), ("MISS", "run 2"));
        }
    }
}

#[tokio::test]
async fn a_broken_body_breaks_the_connection_off_and_is_not_stored() {
    // Failing, panicking, ending short.
    for size in [Some(6), None] {
        for step in [Some(Step::Fail), Some(Step::Panic), None] {
            if size.is_none() && step.is_none() {
                continue; // an unsized body cannot end short
            }
            let (stage, mut feeds) = Stage::new(size, 1 << 20, 1);
            let mut client = stage.ask().await;
            feeds[0].send(Step::Chunk(b"abc")).unwrap();
            if let Some(step) = step {
                feeds[0].send(step).unwrap();
            }
            feeds.clear();
            let reading = tokio::time::timeout(Duration::from_secs(10), Reply::read(&mut client, false));
            let reply = reading.await.expect("the connection ends");
            assert!(reply.is_none(), "{size:?}: {reply:?}");
            stage.at_rest().await;
            let after = stage.server.get("/a/x", &[]).await;
            assert_eq!((after.cache().as_str(), after.text().as_str()), ("MISS", "run 2"));
        }
    }
}

#[tokio::test]
async fn followers_of_a_broken_body_get_a_run_of_their_own() {
    for size in [Some(6), None] {
        let (stage, feeds) = Stage::new(size, 1 << 20, 1);
        let mut client = stage.ask().await;
        feeds[0].send(Step::Chunk(b"abc")).unwrap();
        read_until(&mut client, b"abc").await;
        let mut follower = stage.ask().await;
        for _ in 0..8 {
            stage.server.get("/none", &[]).await;
        }
        assert_eq!(stage.runs.count(), 1);
        feeds[0].send(Step::Fail).unwrap();
        let reply = Reply::read(&mut follower, false).await.unwrap();
        assert_eq!((reply.status, reply.text().as_str()), (200, "run 2"));
    }
}

#[tokio::test]
async fn a_body_longer_than_it_said_is_not_stored() {
    let (stage, mut feeds) = Stage::new(Some(3), 1 << 20, 1);
    feeds[0].send(Step::Chunk(b"abc")).unwrap();
    feeds[0].send(Step::Chunk(b"def")).unwrap();
    feeds.clear();
    assert_eq!(stage.server.get("/a/x", &[]).await.text(), "abc");
    stage.at_rest().await;
    assert_eq!(stage.server.get("/a/x", &[]).await.text(), "run 2");
}

// F14
#[tokio::test]
async fn a_body_over_the_limit_is_passed_on_whole_and_not_stored() {
    for size in [Some(6), None] {
        let (stage, mut feeds) = Stage::new(size, 5, 1);
        for chunk in [&b"ab"[..], b"", b"cd", b"ef"] {
            feeds[0].send(Step::Chunk(chunk)).unwrap();
        }
        feeds.clear();
        let first = stage.server.get("/a/x", &[]).await;
        assert_eq!((first.status, first.text().as_str()), (200, "abcdef"));
        stage.at_rest().await;
        assert_eq!(stage.server.get("/a/x", &[]).await.text(), "run 2");
    }
}

// S5, X4
#[tokio::test]
async fn a_stream_releases_its_followers_when_it_passes_the_limit() {
    let (stage, feeds) = Stage::new(None, 5, 1);
    let mut client = stage.ask().await;
    feeds[0].send(Step::Chunk(b"abc")).unwrap();
    read_until(&mut client, b"abc").await;
    let mut follower = stage.ask().await;
    for _ in 0..8 {
        stage.server.get("/none", &[]).await;
    }
    assert_eq!(stage.runs.count(), 1);
    feeds[0].send(Step::Chunk(b"def")).unwrap();
    // The stream goes on for ever; the follower does not wait for that.
    let reply = tokio::time::timeout(Duration::from_secs(10), Reply::read(&mut follower, false)).await;
    assert_eq!(reply.unwrap().unwrap().text(), "run 2");
    read_until(&mut client, b"def").await;
}
