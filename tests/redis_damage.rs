//! Entries in Redis that were damaged, or that another version wrote: misses, never wrong answers.
//!
//! With `FULL_SIZE=1` in the environment every bit of a thousand entries is flipped: best with `--release`.
#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)] // it is test code

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use actix_fast_cache::storage::FenceId;
use actix_fast_cache::{CacheConfig, CacheControl, Entry, FastCache, ManualClock, RedisStorage, Storage};
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::{App, HttpResponse, web};
use futures_util::StreamExt;
use futures_util::stream::iter;
use sha2::{Digest, Sha256};
use support::Server;
use support::redis::RedisServer;
use support::told::Told;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

// ---- An allocator that remembers the largest piece that was asked of it.

struct Watching;

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

fn note(size: usize) {
    // A thread that ends has no such cell any more.
    let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(size)));
}

// SAFETY: every call is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Watching = Watching;

/// The largest piece of memory that this thread asks for meanwhile.
struct Watch;

impl Watch {
    fn begin() -> Self {
        LARGEST.set(0);
        Self
    }

    fn end(self) {
        let largest = LARGEST.get();
        assert!(largest > 0, "nothing was watched");
        assert!(largest <= 1 << 20, "{largest} bytes at once");
    }
}

#[test]
#[should_panic(expected = "bytes at once")]
fn a_large_piece_would_be_seen() {
    let watch = Watch::begin();
    drop(std::hint::black_box(vec![0_u8; (1 << 20) + 1]));
    watch.end();
}

fn is_full_size() -> bool {
    std::env::var_os("FULL_SIZE").is_some()
}

// ---- Redis without the library.

/// A connection that says and hears bytes as they are.
struct Raw(TcpStream);

impl Raw {
    async fn to(redis: &RedisServer) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", redis.port)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self(stream)
    }

    /// Some commands at once; the answer to each: the bytes of a string or a number, nothing for nil.
    async fn call(&mut self, commands: &[&[&[u8]]]) -> Vec<Option<Vec<u8>>> {
        let mut bytes = Vec::new();
        for command in commands {
            bytes.extend(format!("*{}\r\n", command.len()).into_bytes());
            for word in *command {
                bytes.extend(format!("${}\r\n", word.len()).into_bytes());
                bytes.extend_from_slice(word);
                bytes.extend_from_slice(b"\r\n");
            }
        }
        self.0.write_all(&bytes).await.unwrap();
        let mut answers = Vec::new();
        for _ in commands {
            let line = self.line().await;
            answers.push(match line.split_at(1) {
                ("$", "-1") => None,
                ("$", len) => {
                    let mut bytes = vec![0; len.parse::<usize>().unwrap() + 2];
                    self.0.read_exact(&mut bytes).await.unwrap();
                    bytes.truncate(bytes.len() - 2);
                    Some(bytes)
                }
                ("+" | ":", rest) => Some(rest.as_bytes().to_vec()),
                _ => panic!("{line}"),
            });
        }
        answers
    }

    async fn line(&mut self) -> String {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.push(self.0.read_u8().await.unwrap());
        }
        String::from_utf8(line).unwrap().trim_end().to_owned()
    }

    async fn get(&mut self, name: &str) -> Option<Vec<u8>> {
        self.call(&[&[b"GET", name.as_bytes()]]).await.remove(0)
    }

    async fn set(&mut self, name: &str, value: &[u8]) {
        self.call(&[&[b"SET", name.as_bytes(), value, b"PX", b"600000"]]).await;
    }

    async fn exists(&mut self, name: &str) -> bool {
        self.call(&[&[b"EXISTS", name.as_bytes()]]).await[0].as_deref() == Some(b"1")
    }
}

// ---- A thousand entries of all shapes.

/// Bytes of a value in front of the entry's own.
const ORDER: usize = 32;

/// Where an entry's version is, and where its payload begins.
const VERSION: usize = ORDER + 4;
const PAYLOAD: usize = VERSION + 1 + 8 + 16;

/// A page of a shape of its own: its size, status, fields, tags, name, and what it varies by.
async fn page(id: web::Path<usize>, cache: CacheControl) -> HttpResponse {
    let id = id.into_inner();
    let mut answer = match id % 17 {
        3 => HttpResponse::NotFound(),
        5 => HttpResponse::MovedPermanently(),
        _ => HttpResponse::Ok(),
    };
    answer.append_header(("cache-control", "max-age=600"));
    for n in 0..id % 5 * (id % 7) {
        let value = [b"\x80\xff\t".as_slice(), "x".repeat(n).as_bytes()].concat();
        let name = HeaderName::try_from(format!("x-odd-{}", n / 2)).unwrap();
        answer.append_header((name, HeaderValue::from_bytes(&value).unwrap()));
    }
    for n in 0..id % 4 {
        cache.tag(format!("tag {id} {n}"));
    }
    if id.is_multiple_of(3) {
        cache.set_key(format!("name {id}"));
    }
    if id.is_multiple_of(2) {
        answer.append_header(("vary", "accept-language, x-other"));
    }
    answer.body(right(id))
}

fn right(id: usize) -> String {
    format!("right {id} {}", "y".repeat(id * 37 % 1_300))
}

/// An application over a Redis, and what it stores there.
struct Site {
    redis: RedisServer,
    told: Told,
    config: CacheConfig,
    server: Server,
}

impl Site {
    async fn start() -> Self {
        let redis = RedisServer::start().await;
        let storage = RedisStorage::open(&redis.url(), "afc").unwrap();
        let told = Told { storage, stored: Arc::default() };
        let builder = CacheConfig::builder(told.clone()).namespace("n");
        let config = builder.storage_deadline(Duration::from_secs(60)).any_status().build().unwrap();
        let shared = config.clone();
        let server = Server::start(2, move || {
            App::new().service(
                web::scope("/p").wrap(FastCache::new(shared.clone())).route("/{id}", web::get().to(page)),
            )
        });
        Self { redis, told, config, server }
    }

    /// Asks for a page, which is right; whether it came out of the cache.
    async fn ask(&self, id: usize) -> bool {
        let reply = self.server.get(&format!("/p/{id}"), &[("accept-language", "de")]).await;
        assert!(reply.status < 500 && reply.text() == right(id), "{id}: {reply:?}");
        reply.cache() == "HIT"
    }

    async fn settle(&self) {
        self.config.handle().flush().await;
    }

    /// So many entries, each with the page it was stored for.
    async fn entries(&self, count: usize) -> Vec<(usize, Arc<Entry>)> {
        let mut entries = Vec::new();
        for id in 0.. {
            if entries.len() >= count {
                break;
            }
            assert!(!self.ask(id).await);
            self.settle().await;
            entries.extend(self.told.stored.lock().unwrap().drain(..).map(|entry| (id, entry)));
        }
        entries.truncate(count);
        entries
    }
}

/// The name that an entry has in Redis.
fn name(entry: &Entry) -> String {
    format!("afc:n:v1:{}", hex(&entry.key().digest()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Every `step`th of a range, from another one each time, so that a share is not always the same.
fn share(of: Range<usize>, step: usize, turn: usize) -> impl Iterator<Item = usize> {
    let first = of.start + turn * 31 % step;
    (first..of.end).step_by(step)
}

// F10
#[tokio::test]
async fn no_flipped_bit_no_cut_and_no_addition_is_read_as_an_entry() {
    let step = if is_full_size() { 1 } else { 157 };
    let entries = Site::start().await.entries(1_000).await;
    let (mut flips, mut cuts, mut bytes_of_all) = (0_u64, 0_u64, 0);
    for (turn, (_, entry)) in entries.iter().enumerate() {
        let mut bytes = entry.to_bytes().unwrap();
        assert_eq!(Entry::from_bytes(&bytes).as_ref(), Some(&**entry));
        bytes_of_all += bytes.len();
        let watch = Watch::begin();
        for bit in share(0..bytes.len() * 8, step, turn) {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Entry::from_bytes(&bytes), None, "entry {turn}, bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
            flips += 1;
        }
        for cut in share(0..bytes.len(), step, turn) {
            assert_eq!(Entry::from_bytes(&bytes[..cut]), None, "entry {turn}, cut at {cut}");
            cuts += 1;
        }
        for more in 0..=255 {
            bytes.push(more);
            assert_eq!(Entry::from_bytes(&bytes), None, "entry {turn}, with {more} behind it");
            bytes.pop();
            if !is_full_size() {
                break;
            }
        }
        watch.end();
    }
    println!("{} entries, {bytes_of_all} bytes, {flips} flips, {cuts} cuts", entries.len());
    assert!((200_000..2_000_000).contains(&bytes_of_all), "{bytes_of_all}");
}

/// A way to damage a value.
#[derive(Debug, Clone, Copy)]
enum Damage {
    Flip(usize),
    Cut(usize),
    Append(u8),
}

// F10
#[tokio::test]
async fn a_damaged_value_is_a_miss_and_gone() {
    let site = Site::start().await;
    let entries = site.entries(1_000).await;
    let (storage, done) = (&site.told.storage, &AtomicUsize::new(0));
    let watch = Watch::begin();
    iter(entries.iter().enumerate())
        .for_each_concurrent(16, async |(turn, (_, entry))| {
            let (mut raw, name) = (Raw::to(&site.redis).await, name(entry));
            let value = raw.get(&name).await.expect("it is stored");
            assert_eq!(value[ORDER..], entry.to_bytes().unwrap());
            // What stands in front has no checksum: there every bit counts; behind it, all bits of some entries.
            let (front, behind) = match (is_full_size(), turn % 50) {
                (true, 0) => (1, 1),
                (true, _) => (1, 997),
                (false, _) => (97, 2_999),
            };
            let flips =
                share(0..ORDER * 8, front, turn).chain(share(ORDER * 8..value.len() * 8, behind, turn));
            let cuts = share(0..ORDER + 1, front, turn).chain(share(ORDER + 1..value.len(), behind, turn));
            let damages =
                flips.map(Damage::Flip).chain(cuts.map(Damage::Cut)).chain([Damage::Append(turn as u8)]);
            for damage in damages {
                let key = name.as_bytes();
                match damage {
                    Damage::Flip(bit) => {
                        let (at, byte) = (bit / 8, value[bit / 8] ^ (1 << (bit % 8)));
                        let set: &[&[u8]] = &[b"SET", key, &value];
                        raw.call(&[set, &[b"SETRANGE", key, at.to_string().as_bytes(), &[byte]]]).await;
                    }
                    Damage::Cut(at) => raw.set(&name, &value[..at]).await,
                    Damage::Append(byte) => raw.set(&name, &[&value[..], &[byte]].concat()).await,
                }
                let found = storage.get(entry.key()).await.unwrap();
                assert!(found.entry.is_none(), "entry {turn}, {damage:?}");
                assert!(!raw.exists(&name).await, "entry {turn}, {damage:?}");
                done.fetch_add(1, SeqCst);
            }
            // It was for the damage that it was none.
            raw.set(&name, &value).await;
            assert_eq!(storage.get(entry.key()).await.unwrap().entry.as_deref(), Some(&**entry));
        })
        .await;
    watch.end();
    println!("{} damaged values", done.load(SeqCst));
}

// F10, F11
#[tokio::test]
async fn a_page_whose_entry_was_damaged_or_swapped_is_made_anew() {
    let site = Site::start().await;
    let entries = site.entries(150).await;
    let mut raw = Raw::to(&site.redis).await;
    for (turn, (id, entry)) in entries.iter().enumerate() {
        let name = name(entry);
        let value = raw.get(&name).await.expect("it is stored");
        let mut flipped = value.clone();
        flipped[turn * 7 % value.len()] ^= 1 << (turn % 8);
        let other = raw.get(&self::name(&entries[(turn + 1) % entries.len()].1)).await.unwrap();
        for damaged in [&flipped[..], &value[..turn % value.len()], &other, b""] {
            raw.set(&name, damaged).await;
            assert!(!site.ask(*id).await, "entry {turn} of {id}");
            site.settle().await;
            assert!(site.ask(*id).await, "entry {turn} of {id}");
        }
    }
}

// ---- Values that no damage makes: their checksums are right.

/// A value with another version and payload.
fn framed(order: &[u8], version: u8, payload: &[u8]) -> Vec<u8> {
    let sum = Sha256::digest(payload);
    let len = (payload.len() as u64).to_be_bytes();
    [order, b"AFCE", &[version], &len, &sum[..16], payload].concat()
}

// F13
#[tokio::test]
async fn lengths_that_lie_under_a_right_checksum_allocate_nothing() {
    let step = if is_full_size() { 1 } else { 41 };
    let entries = Site::start().await.entries(100).await;
    let lies: [&[u8]; 9] = [
        b"\xdd\xff\xff\xff\xff",
        b"\xdd\x00\x0f\x42\x40",
        b"\xdc\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xc6\x7f\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\x01",
        b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
    ];
    let (mut none, mut some) = (0_u64, 0_u64);
    for (turn, (_, entry)) in entries.iter().enumerate() {
        let frame = entry.to_bytes().unwrap();
        let payload = &frame[PAYLOAD - ORDER..];
        let version = frame[VERSION - ORDER];
        let watch = Watch::begin();
        for at in share(0..payload.len(), step, turn) {
            for lie in lies {
                // In place of what is there, and before it.
                for end in [payload.len().min(at + lie.len()), payload.len().min(at + 1), at] {
                    let lying = framed(b"", version, &[&payload[..at], lie, &payload[end..]].concat());
                    let read = Entry::from_bytes(&lying);
                    *(if read.is_some() { &mut some } else { &mut none }) += 1;
                }
            }
        }
        for nested in [b"\x91", b"\x81", b"\xc7"] {
            assert_eq!(Entry::from_bytes(&framed(b"", version, &nested.repeat(100_000))), None);
        }
        watch.end();
    }
    // Some are only other bytes of a body.
    println!("{none} are none, {some} are entries with other contents");
    assert!(none > some && some > 0);
}

/// How long the value at the start of these bytes is.
fn skip(bytes: &[u8]) -> usize {
    let number = |len: usize| bytes[1..=len].iter().fold(0, |number, byte| number << 8 | usize::from(*byte));
    let (mut at, inner) = match bytes[0] {
        0x00..=0x7f | 0xc0..=0xc3 | 0xe0..=0xff => (1, 0),
        0x80..=0x8f => (1, 2 * usize::from(bytes[0] & 15)),
        0x90..=0x9f => (1, usize::from(bytes[0] & 15)),
        0xa0..=0xbf => (1 + usize::from(bytes[0] & 31), 0),
        0xc4 | 0xd9 => (2 + number(1), 0),
        0xc5 | 0xda => (3 + number(2), 0),
        0xc6 | 0xdb => (5 + number(4), 0),
        0xcc | 0xd0 => (2, 0),
        0xcd | 0xd1 => (3, 0),
        0xca | 0xce | 0xd2 => (5, 0),
        0xcb | 0xcf | 0xd3 => (9, 0),
        0xdc => (3, number(2)),
        0xde => (3, 2 * number(2)),
        other => panic!("{other:x} is in no entry"),
    };
    for _ in 0..inner {
        at += skip(&bytes[at..]);
    }
    at
}

/// The fields of a payload: key, stamp, begin, fences, end, content.
fn fields(payload: &[u8]) -> Vec<&[u8]> {
    assert_eq!(payload[0], 0x96, "six fields");
    let (mut fields, mut rest) = (Vec::new(), &payload[1..]);
    while !rest.is_empty() {
        let (field, behind) = rest.split_at(skip(rest));
        fields.push(field);
        rest = behind;
    }
    assert_eq!(fields.len(), 6);
    fields
}

fn list(fields: &[&[u8]]) -> Vec<u8> {
    [&[0x90 | fields.len() as u8][..], &fields.concat()].concat()
}

/// What other versions would have stored in place of a value; served, each would be seen to be wrong.
fn of_other_versions(value: &[u8]) -> Vec<Vec<u8>> {
    let version = value[VERSION];
    let mut payload = value[PAYLOAD..].to_vec();
    for at in 0..payload.len().saturating_sub(6) {
        if payload[at..].starts_with(b"right ") {
            payload[at..at + 5].copy_from_slice(b"wrong");
        }
    }
    let fields = fields(&payload);
    let [key, stamp, began, fences, until, content] = fields[..] else { panic!() };
    let layouts = [
        payload.clone(),
        // Older: without fences, without an end.
        list(&[key, stamp, began, until, content]),
        list(&[key, stamp, content]),
        // Newer: a field more, at either end, and fields with names.
        list(&[key, stamp, began, fences, until, content, b"\xa4more"]),
        list(&[b"\x07", key, stamp, began, fences, until, content]),
        [&b"\x82\xa3key"[..], key, b"\xa7content", content].concat(),
        // Reordered, so that what has one type takes each other's place.
        list(&[key, began, stamp, fences, until, content]),
        list(&[key, stamp, until, fences, began, content]),
        list(&[content, until, fences, began, stamp, key]),
        Vec::new(),
    ];
    let mut values = Vec::new();
    let later = [b'f'; ORDER];
    for (n, layout) in layouts.iter().enumerate() {
        for order in [&value[..ORDER], &later] {
            for other in [0, 1, version - 1, version + 1, 255] {
                values.push(framed(order, other, layout));
            }
            // Even under this version's number, but for the payload that is its own.
            if n > 0 {
                values.push(framed(order, version, layout));
            }
        }
        // Before there was anything in front of entries.
        values.push(framed(b"", version - 1, layout));
    }
    values
}

// F12
#[tokio::test]
async fn two_versions_on_one_redis_get_right_answers_or_misses() {
    let rounds = if is_full_size() { 20_000 } else { 500 };
    let site = Site::start().await;
    let pages = 24;
    for id in 0..pages {
        site.ask(id).await;
    }
    site.settle().await;
    let names = site.redis.keys("afc:n:v1:*").await;
    assert!(names.len() > pages, "with those that lead on to others: {}", names.len());
    let mut raw = Raw::to(&site.redis).await;
    let mut others = Vec::new();
    for name in &names {
        let value = raw.get(name).await.unwrap();
        others.push((name, of_other_versions(&value)));
    }

    let (hits, misses, left) = (&AtomicUsize::new(0), &AtomicUsize::new(0), &AtomicUsize::new(4));
    let reading = iter(0..4).for_each_concurrent(4, async |reader| {
        for round in 0..rounds {
            let is_hit = site.ask((round + reader * 5) % pages).await;
            (if is_hit { hits } else { misses }).fetch_add(1, SeqCst);
        }
        left.fetch_sub(1, SeqCst);
    });
    // The other version writes over what this one wrote, again and again.
    let writing = async {
        let mut turn = 0;
        while left.load(SeqCst) > 0 {
            let (name, values) = &others[turn * 7 % others.len()];
            raw.set(name, &values[turn % values.len()]).await;
            turn += 1;
            if turn % 3 == 0 {
                // This one has time to write too.
                site.ask(turn % pages).await;
            }
        }
        turn
    };
    let ((), written) = tokio::join!(reading, writing);
    let (hits, misses) = (hits.load(SeqCst), misses.load(SeqCst));
    println!("{hits} hits, {misses} misses, {written} values of the other version");
    assert!(hits > rounds / 10 && misses > rounds / 10, "{hits} hits, {misses} misses");

    site.settle().await;
    // Each of them, at rest: it makes way for this version's own.
    let most = others.iter().map(|(_, values)| values.len()).max().unwrap();
    for which in share(0..most, if is_full_size() { 1 } else { 9 }, 0) {
        for (name, values) in &others {
            raw.set(name, &values[which]).await;
        }
        for id in 0..pages {
            let mut misses = 0;
            while !site.ask(id).await {
                site.settle().await;
                misses += 1;
            }
            // A value that seems to be younger goes when it is looked up, and behind a name that is the second time.
            assert!((1..=3).contains(&misses), "value {which}, page {id}: {misses}");
        }
        for name in &names {
            assert!(raw.get(name).await.is_some_and(|value| Entry::from_bytes(&value[ORDER..]).is_some()));
        }
    }
    let trouble = site.config.handle().storage_trouble();
    assert_eq!((trouble.failed, trouble.late, trouble.left_alone), (0, 0, 0));
}

// F12
#[tokio::test]
async fn what_has_another_layout_in_its_name_is_not_touched() {
    let site = Site::start().await;
    let entries = site.entries(60).await;
    let mut raw = Raw::to(&site.redis).await;
    let mut others = Vec::new();
    for (_, entry) in &entries {
        let value = raw.get(&name(entry)).await.unwrap();
        for layout in [":v0:", ":v2:", ":v10:", ":", ":V1:"] {
            for contents in [&value[..], b"of another layout", b""] {
                let other = format!("{}{}", name(entry).replace(":v1:", layout), contents.len());
                others.push((other, contents.to_vec()));
            }
            others.push((name(entry).replace(":v1:", layout), b"of another layout".to_vec()));
        }
    }
    for (other, contents) in &others {
        raw.set(other, contents).await;
    }
    let cache = site.config.handle();
    for round in 0..4 {
        for (id, entry) in &entries {
            // They lead nobody astray, whether there is something of this layout or not.
            site.ask(*id).await;
            site.settle().await;
            assert!(site.ask(*id).await);
            raw.set(&name(entry), b"damaged").await;
            assert!(!site.ask(*id).await);
            site.settle().await;
            cache.invalidate_tag(format!("tag {id} 0")).await.unwrap();
            cache.invalidate(&format!("name {id}")).await.unwrap();
        }
        match round {
            0 => cache.invalidate_namespace().await.unwrap(),
            1 => cache.clear().await.unwrap(),
            _ => {}
        }
    }
    for (other, contents) in &others {
        assert_eq!(raw.get(other).await.as_ref(), Some(contents), "{other}");
    }
}

// ---- The present layout.

/// What one page leaves in Redis: its answer, where the page varies, and under which name it is found. Each with its
/// name, with what stands in front of it, and with its bytes.
const FROZEN: [[&str; 3]; 3] = [
    [
        "afc:n:v1:54c6ad6d22cd96d341ceb5d5ff9ac9531f65b24f3f2171637802479c037313b8",
        "000000000012d6870000019b76daa800",
        "414643450200000000000001aa686f40ee4e5fec1da5114bc81debda0f9692c427010101016e020661206e616d6506034745\
         540a0f6163636570742d6c616e67756167650a026465920d0dce0012d687cf0000019b76daa80095dc00104eccab66cce00b\
         ccd056ccc369ccdaccd16f3eccfe79ccd3dc001049ccd5590dcc9448ccce733d6c0b04ccabcc88ccbacc87dc0010ccf4cc95\
         cc88ccb633cce7cc81ccd7cccacc9725cce5ccfd4f7ecc92dc0010281445ccceccd54d79ccb073ccbecca0ccc0ccabccc4cc\
         fecc9edc0010cca4ccbb7a1e2f117e2acce2cc87346c4b3d7551cf0000019b7712752881a8526573706f6e736594ccc89692\
         c405782d6f6464c40280ff92c40d63616368652d636f6e74726f6cc4127075626c69632c206d61782d6167653d363092c404\
         65746167c40322652292c40476617279c40f6163636570742d6c616e677561676592c40d6c6173742d6d6f646966696564c4\
         1d5765642c2033312044656320323032352032333a30303a303020474d5492c40464617465c41d5468752c203031204a616e\
         20323032362030303a30303a303020474d54c404706167659acf0000019b76daa800920300923c00920700920800c2c3c300\
         ce6955aaf0",
    ],
    [
        "afc:n:v1:2870eac539b90283fef9bb09a5a8a46b726054515b7b6458f1740b3bb9b9c496",
        "000000000012d6870000019b76daa800",
        "414643450200000000000000ecbcbe6ecf7238ce78551ef4db642f4dd89692c412010101016e020661206e616d6506034745\
         54920d0dce0012d687cf0000019b76daa80094dc00104eccab66cce00bccd056ccc369ccdaccd16f3eccfe79ccd3dc001049\
         ccd5590dcc9448ccce733d6c0b04ccabcc88ccbacc87dc0010ccf4cc95cc88ccb633cce7cc81ccd7cccacc9725cce5ccfd4f\
         7ecc92dc0010281445ccceccd54d79ccb073ccbecca0ccc0ccabccc4ccfecc9ecf0000019b7712752881a656617269657393\
         91c40f6163636570742d6c616e6775616765c29192c427010101016e020661206e616d6506034745540a0f6163636570742d\
         6c616e67756167650a026465920d0d",
    ],
    [
        "afc:n:v1:995c540d5eafc4a7286d63a9e809ef78819acb33854c76ab0fe6d0fa9586e70d",
        "000000000012d6870000019b76daa800",
        "414643450200000000000000d84121f22277deb3e6f3b473cc6210257e9692c429010101016e030c746573742e6578616d70\
         6c6504042f612f780503713d310704687474700603474554921e24ce0012d687cf0000019b76daa80094dc00104eccab66cc\
         e00bccd056ccc369ccdaccd16f3eccfe79ccd3dc001049ccd5590dcc9448ccce733d6c0b04ccabcc88ccbacc87dc0010ccf4\
         cc95cc88ccb633cce7cc81ccd7cccacc9725cce5ccfd4f7ecc92dc0010281445ccceccd54d79ccb073ccbecca0ccc0ccabcc\
         c4ccfecc9ecf0000019b7712752881a5416c69617392c412010101016e020661206e616d650603474554920d0d",
    ],
];

/// What these bytes say, field by field.
const SAID: [&str; 3] = [
    "Entry { key: key, stamp: Stamp(1234567), began: Timestamp(1767225600000), fences: [fence, fence, \
     fence, fence, fence], keep_until: Timestamp(1767229257000), content: Response(StoredResponse { \
     status: 200, headers: [(\"x-odd\", \"\\x80\\xff\"), (\"cache-control\", \"public, max-age=60\"), \
     (\"etag\", \"\\\"e\\\"\"), (\"vary\", \"accept-language\"), (\"last-modified\", \"Wed, 31 Dec 2025 \
     23:00:00 GMT\"), (\"date\", \"Thu, 01 Jan 2026 00:00:00 GMT\")], body: b\"page\", freshness: \
     Freshness { received: Timestamp(1767225600000), initial_age: 3s, lifetime: 60s, while_revalidate: \
     7s, if_error: 8s, must_revalidate: false, for_authorized: true, for_cookies: true, took_ms: 0, \
     last_modified: Some(1767222000) } }) }",
    "Entry { key: key, stamp: Stamp(1234567), began: Timestamp(1767225600000), fences: [fence, fence, \
     fence, fence], keep_until: Timestamp(1767229257000), content: Varies(Varies { by: Selector { names: \
     [\"accept-language\"], normalised: false }, variants: [key] }) }",
    "Entry { key: key, stamp: Stamp(1234567), began: Timestamp(1767225600000), fences: [fence, fence, \
     fence, fence], keep_until: Timestamp(1767229257000), content: Alias(key) }",
];

/// What can be told of an entry but for its keys, which say nothing.
fn said(entry: &Entry) -> String {
    let mut said = format!("{entry:?}");
    while let Some(at) = said.find("CacheKey(") {
        said.replace_range(at..at + 26, "key");
    }
    // Their bytes are no numbers that say anything.
    while let Some(at) = said.find("FenceId([") {
        let end = at + said[at..].find("])").unwrap() + 2;
        said.replace_range(at..end, "fence");
    }
    said
}

/// A change of the bytes in Redis without a new version would be read wrong by the processes that have not changed.
///
/// If this fails, raise the version in `src/stored/codec.rs`, or the layout in `src/storage/redis/names.rs`, and only
/// then put the new bytes here.
#[tokio::test]
async fn the_bytes_in_redis_are_those_of_this_version() {
    let redis = RedisServer::start().await;
    let mut raw = Raw::to(&redis).await;
    let storage = RedisStorage::open(&redis.url(), "afc").unwrap();
    let config =
        CacheConfig::builder(storage.clone()).namespace("n").clock(ManualClock::new()).build().unwrap();
    let shared = config.clone();
    let server = Server::start(1, move || {
        let page = async |cache: CacheControl| {
            cache.set_key("a name");
            cache.tag("a tag");
            cache.stale_while_revalidate(Duration::from_secs(7));
            cache.stale_if_error(Duration::from_secs(8));
            HttpResponse::Ok()
                .append_header(("cache-control", "public, max-age=60"))
                .append_header(("last-modified", "Wed, 31 Dec 2025 23:00:00 GMT"))
                .append_header(("etag", "\"e\""))
                .append_header(("age", "3"))
                .append_header(("vary", "accept-language"))
                .append_header(("x-odd", HeaderValue::from_bytes(b"\x80\xff").unwrap()))
                .body("page")
        };
        App::new()
            .service(web::scope("/a").wrap(FastCache::new(shared.clone())).route("/x", web::get().to(page)))
    });
    // A fence clock that stands still, so that the stamps are known.
    let everything = hex(FenceId::ALL.as_bytes());
    let fences: &[&[u8]] = &[b"ZADD", b"afc:{fences}", b"1234567", b"clock", b"1", everything.as_bytes()];
    raw.call(&[fences]).await;
    let get = async || {
        let reply = server.get("/a/x?q=1", &[("accept-language", "de")]).await;
        assert_eq!(reply.text(), "page");
        config.handle().flush().await;
        reply
    };

    // Filled now, the page leaves these bytes: only the order of its fields is another one each time.
    assert_eq!(get().await.cache(), "MISS");
    assert_eq!(redis.keys("afc:*:v1:*").await.len(), FROZEN.len());
    for [name, order, frame] in FROZEN {
        let (value, frozen) = (raw.get(name).await.expect(name), bytes(order, frame));
        assert_eq!(value.len(), frozen.len(), "{name}");
        assert_eq!(value[..PAYLOAD - 16], frozen[..PAYLOAD - 16], "{name}");
        let (now, then) = (fields(&value[PAYLOAD..]), fields(&frozen[PAYLOAD..]));
        assert_eq!(now[..5], then[..5], "{name}");
        assert!(value == frozen || now[5].starts_with(b"\x81\xa8Response"), "{name}: {}", hex(&value));
        raw.call(&[&[b"DEL", name.as_bytes()]]).await;
    }

    // These bytes are read as that page, and written again as they are.
    for ([name, order, frame], told) in FROZEN.into_iter().zip(SAID) {
        let frozen = bytes(order, frame);
        let entry = Entry::from_bytes(&frozen[ORDER..]).expect(name);
        assert_eq!((self::name(&entry).as_str(), said(&entry).as_str()), (name, told));
        storage.put(Arc::new(entry)).await.unwrap();
        assert_eq!(raw.get(name).await.map(|value| hex(&value)), Some(hex(&frozen)), "{name}");
    }
    let hit = get().await;
    assert_eq!((hit.cache().as_str(), hit.field("age").as_deref()), ("HIT", Some("3")));
    assert_eq!(hit.lines("etag"), ["\"e\""]);
}

fn bytes(order: &str, frame: &str) -> Vec<u8> {
    let mut bytes = order.as_bytes().to_vec();
    bytes.extend((0..frame.len()).step_by(2).map(|at| u8::from_str_radix(&frame[at..at + 2], 16).unwrap()));
    bytes
}
