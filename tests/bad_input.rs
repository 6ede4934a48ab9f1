//! Bad input: whatever bytes come, no panic, no mixed-up entry, and each request is keyed exactly or bypasses.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)] // it is test code

mod support;

use std::future::ready;
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use actix_fast_cache::{CacheConfig, CacheControl, FastCache, MemoryStorage};
use actix_web::middleware::Condition;
use actix_web::{App, HttpRequest, HttpResponse, web};
use support::{Reply, Server};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

static PANICS: AtomicUsize = AtomicUsize::new(0);
static HEARD: AtomicUsize = AtomicUsize::new(0);

/// Counts the panics of servers; those of tests have threads named for them.
fn listen_for_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if panic.payload().downcast_ref::<&str>() == Some(&"for the ear") {
                HEARD.fetch_add(1, SeqCst);
                return;
            }
            if std::thread::current().name().is_none_or(|name| name.starts_with("actix")) {
                PANICS.fetch_add(1, SeqCst);
            }
            usual(panic);
        }));
    });
}

/// All of a request that is keyed by default, or makes it bypass, as a handler sees it.
fn echo(req: &HttpRequest, body: &web::Bytes) -> String {
    let connection = req.connection_info();
    let own = req.app_config().host();
    let host = if connection.host() == own { "(own)" } else { connection.host() };
    let lines = |name: &str| -> Vec<String> {
        req.headers().get_all(name).map(|line| line.as_bytes().escape_ascii().to_string()).collect()
    };
    let mut query: Vec<(String, String)> =
        web::Query::<Vec<(String, String)>>::from_query(req.query_string()).unwrap().into_inner();
    query.sort_by(|a, b| a.0.cmp(&b.0));
    let query = req.uri().query().map(|_| query);
    let personal =
        ["cookie", "authorization", "x-original-url", "x-http-method-override", "x-odd"].map(lines);
    format!(
        "{} {} {query:?} {:?} {} {host} {personal:?} {}",
        req.method(),
        req.path(),
        lines("host"),
        connection.scheme(),
        body.escape_ascii(),
    )
}

/// A server whose pages repeat the request, in a cache or without one.
fn echoing(cached: bool) -> Server {
    let config = CacheConfig::builder(MemoryStorage::new()).build().unwrap();
    Server::start(1, move || {
        let handler = |req: HttpRequest, body: web::Bytes, cache: CacheControl| {
            assert!(req.path() != "/ear", "for the ear");
            let mut answer = HttpResponse::Ok();
            answer.insert_header(("X-Reason", format!("{:?}", cache.reason())));
            answer.insert_header(("Vary", "X-Odd"));
            ready(answer.body(echo(&req, &body)))
        };
        App::new()
            .app_data(config.clone())
            .wrap(Condition::new(cached, FastCache::new(config.clone())))
            .default_service(web::to(handler))
    })
}

/// All answers to these bytes, until the server has closed.
async fn answers(server: &Server, bytes: &[u8]) -> Vec<Reply> {
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    // It may answer and close before all is written.
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let mut replies = Vec::new();
    let read = async {
        while let Some(reply) = Reply::read(&mut stream, false).await {
            replies.push(reply);
        }
    };
    tokio::time::timeout(Duration::from_secs(30), read).await.expect("the server closes");
    replies
}

fn gist(replies: &[Reply]) -> Vec<(u16, String)> {
    replies.iter().map(|reply| (reply.status, reply.text())).collect()
}

/// The cached site answers as the bare one does: at first, and again.
async fn same(cached: &Server, bare: &Server, bytes: &[u8]) -> Vec<Reply> {
    let told = bytes.escape_ascii().to_string();
    let expected = gist(&answers(bare, bytes).await);
    let first = answers(cached, bytes).await;
    assert_eq!(gist(&first), expected, "{told:.500}");
    let second = answers(cached, bytes).await;
    assert_eq!(gist(&second), expected, "{told:.500}");
    for reply in second.iter().filter(|reply| reply.status == 200) {
        let bypassed = reply.field("x-reason").unwrap().starts_with("Bypass");
        let personal = !reply.text().contains("[[], []");
        assert!(bypassed || personal || reply.cache() == "HIT", "{told:.500}: {reply:?}");
    }
    second
}

fn get(target: &[u8], host: &[u8], more: &[u8]) -> Vec<u8> {
    [b"GET ", target, b" HTTP/1.1\r\nHost: ", host, b"\r\n", more, b"\r\n"].concat()
}

#[tokio::test]
async fn odd_hosts_paths_and_queries_are_keyed_exactly() {
    listen_for_panics();
    let (cached, bare) = (echoing(true), echoing(false));
    let hosts: [&[u8]; 22] = [
        b"a", b"A", b"a:80", b"a:", b":80", b"", b" ", b"a b", b"a/x", b"a?b", b"a#b", b"a@b", b"[::1]",
        b"[::1", b"a\\b", b"a,b", b"a\xff", b"\xe9", b"a%00", b"..", b"a\tb", b"-",
    ];
    let targets: [&[u8]; 34] = [
        b"/",
        b"/a",
        b"/a/",
        b"//a",
        b"/a//",
        b"/a?",
        b"/a??",
        b"/a?b",
        b"/a?b=",
        b"/a?=b",
        b"/a?&",
        b"/a?b&b",
        b"/%",
        b"/%0",
        b"/%zz",
        b"/%00",
        b"/%ff",
        b"/\xff",
        b"/\xc3\xa9",
        b"/a?\xff",
        b"/a?%ff=%fe",
        b"/a?a=%00",
        b"/a;b",
        b"/a?a;b",
        b"/../a",
        b"*",
        b"a",
        b"http://",
        b"http://b/a",
        b"http://b:x/a",
        b"?b",
        b"/a#b",
        b"/\"<>|{}^`\\",
        b"/a?b=1&%62=2&b=3",
    ];
    let mut answered = 0;
    for host in hosts {
        for target in targets {
            answered += same(&cached, &bare, &get(target, host, b"")).await.len();
        }
    }
    assert!(answered > 500, "{answered}");
    // All together disturbed nothing.
    for host in hosts {
        for target in [&b"/a"[..], b"/a?b=1&%62=2&b=3"] {
            same(&cached, &bare, &get(target, host, b"")).await;
        }
    }
    assert_eq!(PANICS.load(SeqCst), 0);
}

#[tokio::test]
async fn odd_bytes_in_fields_are_keyed_exactly() {
    listen_for_panics();
    let (cached, bare) = (echoing(true), echoing(false));
    for round in 0..2 {
        for byte in (0x20..=0x7e).chain(0x80..=0xff).chain([0x09]) {
            for name in
                ["X-Odd", "Forwarded", "X-Forwarded-Host", "X-Forwarded-Proto", "Cookie", "Authorization"]
            {
                if round == 1 && name != "X-Odd" {
                    continue;
                }
                let line = [name.as_bytes(), b": host=", &[byte], b"x\r\n"].concat();
                same(&cached, &bare, &get(b"/f", b"a", &line)).await;
            }
        }
    }
    let clean = same(&cached, &bare, &get(b"/f", b"a", b"")).await;
    assert!(clean[0].text().ends_with("http a [[], [], [], [], []] "), "{}", clean[0].text());
    assert_eq!(PANICS.load(SeqCst), 0);
}

#[tokio::test]
async fn a_query_of_60_kilobytes_bypasses() {
    listen_for_panics();
    let (cached, bare) = (echoing(true), echoing(false));
    let long = |last: &str| format!("/long?{}{last}", "q=1&".repeat(15_000));
    for last in ["", "a", "b"] {
        let replies = same(&cached, &bare, &get(long(last).as_bytes(), b"a", b"")).await;
        assert_eq!(replies[0].field("x-reason").as_deref(), Some("Bypass(KeyTooLong)"));
    }
    // Just below the bound it is keyed: to the last byte.
    for last in ["a", "b"] {
        let target = format!("/long?{}{last}", "q".repeat(16_000));
        let replies = same(&cached, &bare, &get(target.as_bytes(), b"a", b"")).await;
        assert_eq!(replies[0].cache(), "HIT");
    }
    let field = format!("X-Odd: {}\r\n", "x".repeat(20_000));
    let replies = answers(&cached, &get(b"/field", b"a", field.as_bytes())).await;
    assert_eq!((replies[0].status, replies[0].cache().as_str()), (200, "-"));
    assert_eq!(PANICS.load(SeqCst), 0);
}

/// A small generator, so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }
}

#[tokio::test]
async fn requests_with_random_faults_are_keyed_exactly_or_bypass() {
    listen_for_panics();
    let (cached, bare) = (echoing(true), echoing(false));
    let seeds: [&[u8]; 8] = [
        b"GET /p HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /p?b=1&a=2&b=3 HTTP/1.1\r\nHost: a\r\nX-Odd: 1\r\n\r\n",
        b"GET http://a/p HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /p HTTP/1.1\r\nHost: a\r\nX-Forwarded-Host: a\r\nX-Forwarded-Proto: https\r\n\r\n",
        b"GET /p HTTP/1.1\r\nHost: a\r\nForwarded: for=b;host=a;proto=http\r\nCookie: a=1\r\n\r\n",
        b"GET /p HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
        b"GET /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        b"GET /p HTTP/1.0\r\nHost: a\r\nAuthorization: Basic a\r\nX-Original-URL: /q\r\n\r\n",
    ];
    let odd = b"\0\t\n\r !\"#%&'+,/0:;=?@A[\\]a{|}~\x7f\x80\xc3\xff";
    let mut random = Random(0x5eed_cafe_f00d_0001);
    let (mut answered, mut refused) = (0, 0);
    for _ in 0..2_500 {
        let mut bytes = seeds[random.below(seeds.len())].to_vec();
        for _ in 0..=random.below(3) {
            let at = random.below(bytes.len());
            let byte = odd[random.below(odd.len())];
            match random.below(5) {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                2 => drop(bytes.remove(at)),
                3 => bytes[at] ^= 1 << random.below(8),
                _ => {
                    let end = (at + random.below(12)).min(bytes.len());
                    let piece = bytes[at..end].to_vec();
                    let to = random.below(bytes.len());
                    bytes.splice(to..to, piece);
                }
            }
        }
        for reply in same(&cached, &bare, &bytes).await {
            *(if reply.status == 200 { &mut answered } else { &mut refused }) += 1;
        }
    }
    assert!(answered > 500 && refused > 100, "{answered} answered, {refused} refused");
    for seed in seeds {
        same(&cached, &bare, seed).await;
    }
    assert_eq!(PANICS.load(SeqCst), 0);
}

/// The counter of panics counts.
#[tokio::test]
async fn a_panic_would_be_heard() {
    listen_for_panics();
    assert_eq!(answers(&echoing(true), &get(b"/ear", b"a", b"")).await.len(), 0);
    assert_eq!(HEARD.load(SeqCst), 1);
}
