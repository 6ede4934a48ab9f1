//! What all servers answer: the same bodies under the same four fields.

use std::convert::Infallible;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, stream};

pub const FIELDS: [(&str, &str); 4] = [
    ("content-type", "text/html; charset=utf-8"),
    ("cache-control", "max-age=600"),
    ("etag", "\"one\""),
    ("content-language", "en"),
];
pub const LIFETIME: Duration = Duration::from_secs(600);

/// 100 bytes.
pub const SMALL: &str = "/small";
/// [`LARGE_BYTES`].
pub const LARGE: &str = "/large";
/// How often the handlers of a server ran; no cache stores it.
pub const RUNS: &str = "/runs";

pub const ENTRY_BYTES: usize = 1024;
pub const LARGE_BYTES: usize = 64 << 20;
pub const CHUNKS: u32 = 16;
pub const CHUNK_BYTES: usize = 64 << 10;
/// Between two chunks; the first one comes at once.
pub const CHUNK_GAP: Duration = Duration::from_millis(5);
pub const SLOW: Duration = Duration::from_millis(100);

/// One of many pages of 1 KiB. All numbers are equally long, so that no URL is the beginning of another.
pub fn entry_path(number: usize) -> String {
    format!("/entry/{number:09}")
}

/// One of many pages of 1 MiB that come bit by bit.
pub fn stream_path(number: usize) -> String {
    format!("/stream/{number:09}")
}

/// One of many pages of 1 KiB whose handler takes [`SLOW`].
pub fn slow_path(number: usize) -> String {
    format!("/slow/{number:09}")
}

static HANDLER_RUNS: AtomicU64 = AtomicU64::new(0);

fn count() {
    HANDLER_RUNS.fetch_add(1, Relaxed);
}

pub fn runs() -> String {
    HANDLER_RUNS.load(Relaxed).to_string()
}

pub fn small() -> Bytes {
    count();
    Bytes::from_static(&[b'x'; 100])
}

pub fn entry() -> Bytes {
    count();
    Bytes::from(vec![b'x'; ENTRY_BYTES])
}

pub fn large() -> Bytes {
    static BODY: LazyLock<Bytes> = LazyLock::new(|| Bytes::from(vec![b'x'; LARGE_BYTES]));
    count();
    BODY.clone()
}

pub async fn slow() -> Bytes {
    tokio::time::sleep(SLOW).await;
    entry()
}

pub fn streamed() -> impl Stream<Item = Result<Bytes, Infallible>> + Send + 'static {
    count();
    stream::unfold(0, async |sent| {
        if sent == CHUNKS {
            return None;
        }
        if sent > 0 {
            tokio::time::sleep(CHUNK_GAP).await;
        }
        Some((Ok(Bytes::from(vec![b'x'; CHUNK_BYTES])), sent + 1))
    })
}
