//! A real server on a free port, a plain client, and ears for the log: what the tests have in common.
#![allow(dead_code, unreachable_pub)] // each test file uses a part of it
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)] // it is test code

/// Calls of a `Storage` that the one in a field answers, as they are: `answered_by!(memory: get, remove);`
#[allow(unused_macros)] // each test file uses a part of this
macro_rules! answered_by {
    ($field:tt: $($call:ident),+) => { $($crate::support::answered_by!(@$call $field);)+ };
    (@get $field:tt) => {
        async fn get(&self, key: &::actix_fast_cache::CacheKey) -> Result<::actix_fast_cache::Lookup, ::actix_fast_cache::StorageError> {
            self.$field.get(key).await
        }
    };
    (@put $field:tt) => {
        async fn put(&self, entry: ::std::sync::Arc<::actix_fast_cache::Entry>) -> Result<(), ::actix_fast_cache::StorageError> {
            self.$field.put(entry).await
        }
    };
    (@remove $field:tt) => {
        async fn remove(&self, key: &::actix_fast_cache::CacheKey) -> Result<bool, ::actix_fast_cache::StorageError> {
            self.$field.remove(key).await
        }
    };
    (@raise $field:tt) => {
        async fn raise(&self, fences: &[::actix_fast_cache::storage::Fence]) -> Result<(), ::actix_fast_cache::StorageError> {
            self.$field.raise(fences).await
        }
    };
    (@is_current $field:tt) => {
        async fn is_current(
            &self,
            stamp: ::actix_fast_cache::storage::Stamp,
            fences: &[::actix_fast_cache::storage::FenceId],
        ) -> Result<bool, ::actix_fast_cache::StorageError> {
            self.$field.is_current(stamp, fences).await
        }
    };
}
#[allow(unused_imports)]
pub(crate) use answered_by;

#[cfg(feature = "redis")]
pub mod faults;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(feature = "redis")]
pub mod told;

use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, LazyLock, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use actix_http::{Request, Response};
use actix_service::{IntoServiceFactory, ServiceFactory};
use actix_web::body::MessageBody;
use actix_web::dev::{AppConfig, ServerHandle};
use actix_web::{Error, HttpServer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// An actix server on a free port of the loopback; stopped when dropped.
pub struct Server {
    pub addr: SocketAddr,
    handle: ServerHandle,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts an app on so many workers.
    pub fn start<F, I, S, B>(workers: usize, factory: F) -> Self
    where
        F: Fn() -> I + Send + Clone + 'static,
        I: IntoServiceFactory<S, Request>,
        S: ServiceFactory<Request, Config = AppConfig> + 'static,
        S::Error: Into<Error>,
        S::InitError: Debug,
        S::Response: Into<Response<B>>,
        B: MessageBody + 'static,
    {
        let (started, running) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let server = HttpServer::new(factory)
                    .workers(workers)
                    .backlog(16_384)
                    // On a machine too busy to notice requests, idle connections would be closed in front of them.
                    .keep_alive(Duration::from_secs(60))
                    .disable_signals()
                    .shutdown_timeout(1)
                    // Bound here: a listener from elsewhere has a queue of 128, and what is dropped from it comes seconds late.
                    .bind(("127.0.0.1", 0))
                    .unwrap();
                let addr = server.addrs()[0];
                let server = server.run();
                started.send((addr, server.handle())).unwrap();
                server.await.unwrap();
            });
        });
        let (addr, handle) = running.recv().unwrap();
        Self { addr, handle, thread: Some(thread) }
    }

    /// A GET with these fields, on a connection of its own.
    pub async fn get(&self, target: &str, fields: &[(&str, &str)]) -> Reply {
        self.send("GET", target, fields, b"").await
    }

    /// Any request, on a connection of its own. `Host` is `test.example` unless given.
    pub async fn send(&self, method: &str, target: &str, fields: &[(&str, &str)], body: &[u8]) -> Reply {
        self.raw(method, &request(method, target, fields, body)).await
    }

    /// Bytes as they are; the answer is read until it ends or the server closes.
    pub async fn raw(&self, method: &str, bytes: &[u8]) -> Reply {
        let mut stream = TcpStream::connect(self.addr).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        Reply::read(&mut stream, method == "HEAD").await.expect("an answer")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.handle.stop(false));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A request as bytes.
pub fn request(method: &str, target: &str, fields: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut text = format!("{method} {target} HTTP/1.1\r\n");
    if !fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        text.push_str("Host: test.example\r\n");
    }
    for (name, value) in fields {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    text.push_str("\r\n");
    [text.as_bytes(), body].concat()
}

/// An answer as it came.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub fields: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
}

impl Reply {
    /// Reads one answer off a connection; `None` if it breaks off before its end.
    pub async fn read(stream: &mut TcpStream, head: bool) -> Option<Self> {
        let mut read = Vec::new();
        let end = loop {
            if let Some(at) = read.windows(4).position(|four| four == b"\r\n\r\n") {
                break at;
            }
            let mut chunk = [0; 4096];
            match stream.read(&mut chunk).await.ok()? {
                0 => return None,
                n => read.extend_from_slice(&chunk[..n]),
            }
        };
        let mut rest = read.split_off(end + 4);
        let mut lines = read[..end].split(|byte| *byte == b'\n').map(|line| line.trim_ascii_end());
        let status = String::from_utf8_lossy(lines.next()?).split(' ').nth(1)?.parse().ok()?;
        let fields: Vec<_> = lines
            .filter_map(|line| {
                let colon = line.iter().position(|byte| *byte == b':')?;
                let name = String::from_utf8_lossy(&line[..colon]).to_ascii_lowercase();
                Some((name, line[colon + 1..].trim_ascii().to_vec()))
            })
            .collect();
        let mut reply = Self { status, fields, body: Vec::new() };
        if head || status == 204 || status == 304 {
            return Some(reply);
        }
        if reply.field("transfer-encoding").is_some_and(|value| value.contains("chunked")) {
            reply.body = read_chunked(stream, rest).await?;
        } else if let Some(len) = reply.field("content-length").and_then(|len| len.parse().ok()) {
            while rest.len() < len {
                let mut chunk = vec![0; 65_536];
                match stream.read(&mut chunk).await.ok()? {
                    0 => return None,
                    n => rest.extend_from_slice(&chunk[..n]),
                }
            }
            rest.truncate(len);
            reply.body = rest;
        } else {
            stream.read_to_end(&mut rest).await.ok()?;
            reply.body = rest;
        }
        Some(reply)
    }

    /// The first line of a field, as text.
    pub fn field(&self, name: &str) -> Option<String> {
        let (_, value) = self.fields.iter().find(|(known, _)| known == name)?;
        Some(String::from_utf8_lossy(value).into_owned())
    }

    /// All lines of a field, in order.
    pub fn lines(&self, name: &str) -> Vec<String> {
        let lines = self.fields.iter().filter(|(known, _)| known == name);
        lines.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).collect()
    }

    /// `X-Cache`, or `-`.
    pub fn cache(&self) -> String {
        self.field("x-cache").unwrap_or_else(|| "-".to_owned())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

async fn read_chunked(stream: &mut TcpStream, mut read: Vec<u8>) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        while let Some(at) = read.windows(2).position(|two| two == b"\r\n") {
            let len = usize::from_str_radix(std::str::from_utf8(&read[..at]).ok()?, 16).ok()?;
            if read.len() < at + 2 + len + 2 {
                break;
            }
            body.extend_from_slice(&read[at + 2..at + 2 + len]);
            read.drain(..at + 2 + len + 2);
            if len == 0 {
                return Some(body);
            }
        }
        let mut chunk = vec![0; 65_536];
        match stream.read(&mut chunk).await.ok()? {
            0 => return None,
            n => read.extend_from_slice(&chunk[..n]),
        }
    }
}

/// Breaks a connection off with a reset.
pub fn reset(stream: TcpStream) {
    stream.set_zero_linger().unwrap();
    drop(stream);
}

/// Counts handler runs, over all workers.
#[derive(Clone, Default)]
pub struct Runs(Arc<AtomicUsize>);

impl Runs {
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts one more; tells which it is, from 1.
    pub fn add(&self) -> usize {
        self.0.fetch_add(1, SeqCst) + 1
    }

    pub fn count(&self) -> usize {
        self.0.load(SeqCst)
    }
}

/// A door that a handler waits at.
#[derive(Clone)]
pub struct Gate(Arc<Semaphore>);

impl Gate {
    pub fn shut() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    pub fn opened() -> Self {
        let gate = Self::shut();
        gate.open();
        gate
    }

    pub fn open(&self) {
        self.0.add_permits(1 << 24);
    }

    /// Shuts it again, for those who come from now on.
    pub fn close(&self) {
        self.0.forget_permits(usize::MAX);
    }

    pub async fn pass(&self) {
        self.0.acquire().await.unwrap().forget();
    }
}

/// A condition that another thread will bring about; asked again until it holds, and a failure after ten seconds.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..2_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("not within ten seconds: {what}");
}

/// What was logged since the start of the process.
pub fn log_lines() -> Vec<String> {
    LOG.0.lock().unwrap().clone()
}

/// Starts listening to the log.
pub fn listen() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        log::set_logger(&*LOG).unwrap();
        log::set_max_level(log::LevelFilter::Trace);
    });
}

static LOG: LazyLock<Lines> = LazyLock::new(Lines::default);

#[derive(Default)]
struct Lines(Mutex<Vec<String>>);

impl log::Log for Lines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = format!("{} {}: {}", record.level(), record.target(), record.args());
        self.0.lock().unwrap().push(line);
    }

    fn flush(&self) {}
}
