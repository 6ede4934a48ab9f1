//! What is stale is asked for by its validators, and the client's own conditions are answered from what comes of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)] // it is test code

#[path = "../examples/reverse_proxy/forward.rs"]
mod forward;
mod support;

use std::fs::File;
use std::future::{Ready, ready};
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use actix_fast_cache::{CacheConfig, CacheConfigBuilder, FastCache, ManualClock, MemoryStorage};
use actix_files::NamedFile;
use actix_web::dev::{Service, ServiceRequest};
use actix_web::web::{self, Data};
use actix_web::{App, Error, HttpRequest, HttpResponse};
use forward::{Origin, forward, settle};
use futures_util::future::join_all;
use support::{Gate, Reply, Runs, Server, until};

const LIFETIME: Duration = Duration::from_secs(60);

/// A cache of its own: the builder, its storage and its clock.
fn cache() -> (CacheConfigBuilder, MemoryStorage, ManualClock) {
    let (storage, clock) = (MemoryStorage::new(), ManualClock::new());
    (CacheConfig::builder(storage.clone()).clock(clock.clone()), storage, clock)
}

/// What each run of a handler was asked: its method, and the fields that validate, cut out, or select.
#[derive(Clone, Default)]
struct Asked(Arc<Mutex<Vec<String>>>);

impl Asked {
    /// Notes one more; tells which it is, from 1.
    fn note(&self, req: &HttpRequest) -> usize {
        let line = |name: &str| {
            let lines = req.headers().get_all(name).map(|line| line.to_str().unwrap());
            lines.map(|line| format!(" {name}={line}")).collect::<String>()
        };
        let names = [
            "if-none-match",
            "if-modified-since",
            "if-match",
            "if-unmodified-since",
            "range",
            "if-range",
            "accept-language",
        ];
        let mut asked = self.0.lock().unwrap();
        asked.push(format!("{}{}", req.method(), names.map(line).concat()));
        asked.len()
    }

    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    fn last(&self) -> String {
        self.0.lock().unwrap().last().unwrap().clone()
    }
}

fn cache_and_text(reply: &Reply) -> (u16, String, String) {
    (reply.status, reply.cache(), reply.text())
}

fn told(status: u16, cache: &str, text: &str) -> (u16, String, String) {
    (status, cache.to_owned(), text.to_owned())
}

// ---- Files

const OLD: &str = "0123456789";
const NEW: &str = "abcdefghij";

/// A file under the cache, already stored, and changed by nobody but the test.
struct Shelf {
    server: Server,
    asked: Asked,
    storage: MemoryStorage,
    config: CacheConfig,
    clock: ManualClock,
    path: PathBuf,
    etag: String,
    modified: String,
}

impl Shelf {
    async fn with(name: &str, set: impl Fn(CacheConfigBuilder) -> CacheConfigBuilder) -> Self {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("validation-{name}.txt"));
        let (builder, storage, clock) = cache();
        let (config, asked) = (set(builder).build().unwrap(), Asked::default());
        let shared = (path.clone(), config.clone(), asked.clone());
        write(&path, OLD, 1_600_000_000);
        let server = Server::start(2, move || {
            let (path, config, asked) = shared.clone();
            let open = move |req: HttpRequest| {
                asked.note(&req);
                ready(NamedFile::open(&path))
            };
            App::new().service(web::scope("/a").wrap(FastCache::new(config)).default_service(web::to(open)))
        });
        let first = server.get("/a/x", &[]).await;
        assert_eq!(cache_and_text(&first), told(200, "MISS", OLD));
        let (etag, modified) = (first.field("etag").unwrap(), first.field("last-modified").unwrap());
        Self { server, asked, storage, config, clock, path, etag, modified }
    }

    async fn get(&self, fields: &[(&str, &str)]) -> Reply {
        self.server.get("/a/x", fields).await
    }

    fn change(&self) {
        write(&self.path, NEW, 1_700_000_000);
    }

    /// What the handler is asked when the stored file is validated.
    fn question(&self) -> String {
        format!("GET if-none-match={} if-modified-since={}", self.etag, self.modified)
    }
}

impl Drop for Shelf {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn write(path: &PathBuf, text: &str, modified: u64) {
    let mut file = File::create(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(modified)).unwrap();
}

// RFC 9111 sections 4.3.1, 4.3.3 and 4.3.4
#[tokio::test]
async fn a_stale_file_is_asked_for_by_its_validators_and_freshened_if_it_is_the_same() {
    let shelf = Shelf::with("same", |builder| builder).await;
    shelf.clock.advance(LIFETIME - Duration::from_secs(1));
    let first = shelf.get(&[]).await;
    assert_eq!((cache_and_text(&first), shelf.asked.count()), (told(200, "HIT", OLD), 1));
    for round in 2..=4 {
        shelf.clock.advance(LIFETIME);
        let validated = shelf.get(&[]).await;
        assert_eq!(
            (cache_and_text(&validated), shelf.asked.last()),
            (told(200, "MISS", OLD), shelf.question())
        );
        let hit = shelf.get(&[]).await;
        assert_eq!(cache_and_text(&hit), told(200, "HIT", OLD));
        assert_eq!((validated.field("age"), hit.field("age")), (None, Some("0".to_owned())));
        for name in [
            "content-type",
            "content-disposition",
            "content-length",
            "etag",
            "last-modified",
            "accept-ranges",
        ] {
            assert_eq!(validated.lines(name), first.lines(name), "{name}");
            assert_eq!(hit.lines(name), first.lines(name), "{name}");
        }
        assert_eq!((shelf.asked.count(), shelf.storage.stats().entries), (round, 1));
    }
}

// RFC 9111 section 4.3.3
#[tokio::test]
async fn a_stale_file_that_has_changed_is_replaced() {
    let shelf = Shelf::with("changed", |builder| builder).await;
    shelf.change();
    assert_eq!(cache_and_text(&shelf.get(&[]).await), told(200, "HIT", OLD));
    shelf.clock.advance(LIFETIME);
    let replaced = shelf.get(&[]).await;
    assert_eq!((cache_and_text(&replaced), shelf.asked.last()), (told(200, "MISS", NEW), shelf.question()));
    let hit = shelf.get(&[]).await;
    assert_eq!(cache_and_text(&hit), told(200, "HIT", NEW));
    assert_ne!(hit.field("etag"), Some(shelf.etag.clone()));
    assert_eq!((shelf.asked.count(), shelf.storage.stats().entries), (2, 1));
}

// RFC 9111 section 4.3.2 and RFC 9110 section 13.2.2
#[tokio::test]
async fn a_clients_conditions_and_ranges_are_answered_after_the_cache_has_asked_by_its_own() {
    for changed in [false, true] {
        let now = if changed { NEW } else { OLD };
        // Status and body where the file is the same, and where it has changed. A range of what comes anew may be
        // left out of account (RFC 9110 section 14.2).
        let (etag, modified) = ("ETAG", "MODIFIED");
        for (fields, same, other) in [
            (vec![("if-none-match", etag)], (304, ""), (200, NEW)),
            (vec![("if-none-match", "\"other\"")], (200, OLD), (200, NEW)),
            (vec![("if-none-match", "*")], (304, ""), (304, "")),
            (vec![("if-modified-since", modified)], (304, ""), (200, NEW)),
            (vec![("if-modified-since", "Sat, 01 Jan 2000 00:00:00 GMT")], (200, OLD), (200, NEW)),
            (vec![("range", "bytes=2-4")], (206, "234"), (200, NEW)),
            (vec![("range", "bytes=2-4"), ("if-range", etag)], (206, "234"), (200, NEW)),
            (vec![("range", "bytes=2-4"), ("if-range", modified)], (206, "234"), (200, NEW)),
            (vec![("range", "bytes=2-4"), ("if-range", "\"other\"")], (200, OLD), (200, NEW)),
            (vec![("range", "bytes=2-4"), ("if-none-match", etag)], (304, ""), (200, NEW)),
            (vec![("range", "bytes=10-")], (416, ""), (200, NEW)),
        ] {
            let shelf = Shelf::with(if changed { "asked-changed" } else { "asked" }, |builder| builder).await;
            let fields: Vec<_> = fields
                .into_iter()
                .map(|(name, value)| match value {
                    "ETAG" => (name, shelf.etag.as_str()),
                    "MODIFIED" => (name, shelf.modified.as_str()),
                    _ => (name, value),
                })
                .collect();
            let (status, text) = if changed { other } else { same };
            if changed {
                shelf.change();
            }
            shelf.clock.advance(LIFETIME);
            let about = format!("{fields:?}, changed: {changed}");
            let answer = shelf.get(&fields).await;
            assert_eq!(cache_and_text(&answer), told(status, "MISS", text), "{about}");
            assert_eq!((shelf.asked.count(), shelf.asked.last()), (2, shelf.question()), "{about}");
            // Whatever this client wanted, the whole is there for everybody.
            until("it is stored", || shelf.config.handle().fills_under_way() == 0).await;
            let hit = shelf.get(&[]).await;
            assert_eq!(cache_and_text(&hit), told(200, "HIT", now), "{about}");
            assert_eq!((shelf.asked.count(), shelf.storage.stats().entries), (2, 1), "{about}");
        }
    }
}

// RFC 9111 section 4.3.5
#[tokio::test]
async fn head_of_a_stale_file_is_validated_and_answered_with_what_is_stored() {
    let shelf = Shelf::with("head", |builder| builder).await;
    shelf.clock.advance(LIFETIME);
    let head = shelf.server.send("HEAD", "/a/x", &[], b"").await;
    assert_eq!((head.status, head.field("content-length").as_deref()), (200, Some("10")));
    assert_eq!(head.field("etag"), Some(shelf.etag.clone()));
    assert_eq!(shelf.asked.last(), shelf.question().replace("GET", "HEAD"));
    assert_eq!(shelf.get(&[]).await.text(), OLD);
}

// RFC 5861 section 3 and RFC 9111 section 4.3.4
#[tokio::test]
async fn a_refresh_behind_a_stale_file_validates_it() {
    let shelf = Shelf::with("behind", |builder| builder.stale_while_revalidate(LIFETIME)).await;
    for (round, text) in [(2, OLD), (3, NEW)] {
        if text == NEW {
            shelf.change();
        }
        shelf.clock.advance(LIFETIME);
        // The client's own condition is answered from what is stored, and is not the refresh's.
        let stale = shelf.get(&[("if-none-match", "\"other\""), ("range", "bytes=0-0")]).await;
        assert_eq!(cache_and_text(&stale), told(206, "HIT", "0"));
        until("the refresh", || shelf.asked.count() == round && shelf.config.handle().fills_under_way() == 0)
            .await;
        assert_eq!(shelf.asked.last(), shelf.question());
        let hit = shelf.get(&[]).await;
        assert_eq!(cache_and_text(&hit), told(200, "HIT", text));
        assert_eq!(hit.field("age").as_deref(), Some("0"));
        assert_eq!((shelf.asked.count(), shelf.storage.stats().entries), (round, 1));
    }
}

// ---- An origin behind the handler

/// A handler that answers by a function of the request and the number of the run.
fn handler<F>(asked: &Asked, answer: F) -> impl Fn(HttpRequest) -> Ready<HttpResponse> + Clone + Send + use<F>
where
    F: Fn(&HttpRequest, usize) -> HttpResponse + Clone + Send,
{
    let asked = asked.clone();
    move |req| ready(answer(&req, asked.note(&req)))
}

/// An origin, and the example's handler before it under the preset for proxies.
struct Proxied {
    origin: Option<Server>,
    server: Server,
    asked: Asked,
    storage: MemoryStorage,
    clock: ManualClock,
}

impl Proxied {
    fn start(answer: impl Fn(&HttpRequest, usize) -> HttpResponse + Clone + Send + 'static) -> Self {
        let (asked, (builder, storage, clock)) = (Asked::default(), cache());
        let (config, handler) = (builder.rfc9111().build().unwrap(), handler(&asked, answer));
        let origin = Server::start(1, move || App::new().default_service(web::to(handler.clone())));
        let authority: http::uri::Authority = origin.addr.to_string().parse().unwrap();
        let server = Server::start(2, move || {
            App::new()
                .app_data(Data::new(Origin::new(authority.clone())))
                .wrap(FastCache::new(config.clone()))
                .wrap_fn(|mut req, next| {
                    settle(req.head_mut());
                    next.call(req)
                })
                .default_service(web::to(forward))
        });
        Self { origin: Some(origin), server, asked, storage, clock }
    }

    async fn get(&self, target: &str, fields: &[(&str, &str)]) -> Reply {
        self.server.get(target, fields).await
    }
}

/// Whether a request asks if this is still what there is.
fn asks_for(req: &HttpRequest, etag: &str) -> bool {
    req.headers().get("if-none-match").is_some_and(|tags| tags == etag)
}

// RFC 9111 sections 4.1, 4.3.1, 4.3.3 and 4.3.4
#[tokio::test]
async fn an_origin_is_asked_by_what_it_gave_and_by_the_fields_that_select_it() {
    let proxied = Proxied::start(|req, run| {
        let language = req.headers().get("accept-language").unwrap().to_str().unwrap();
        let etag = format!("\"{language} 1\"");
        let mut answer = match asks_for(req, &etag) {
            // It confirms twice, the first time for longer; then there is another.
            true if run < 5 => HttpResponse::NotModified(),
            _ => HttpResponse::Ok(),
        };
        let (lifetime, version) = if run < 3 { (10, 1) } else { (20, if run < 5 { 1 } else { 2 }) };
        answer
            .insert_header(("etag", format!("\"{language} {version}\"")))
            .insert_header(("last-modified", "Sat, 01 Jan 2022 00:00:00 GMT"))
            .insert_header(("cache-control", format!("max-age={lifetime}")))
            .insert_header(("vary", "accept-language"))
            .insert_header(("x-run", run.to_string()));
        if asks_for(req, &etag) && run < 5 {
            answer.finish()
        } else {
            answer.body(format!("{language} {version}"))
        }
    });
    let get = async |language: &str, fields: &[(&'static str, &'static str)]| {
        let answer = proxied.get("/x", &[fields, &[("accept-language", language)]].concat()).await;
        let run = answer.field("x-run").unwrap_or_default();
        (answer.status, answer.cache(), answer.text(), run, proxied.asked.count())
    };
    let told =
        |cache: &str, text: &str, run: &str, runs: usize| (200, cache.into(), text.into(), run.into(), runs);
    let asked = |language: &str| {
        let (etag, modified) = (format!("\"{language} 1\""), "Sat, 01 Jan 2022 00:00:00 GMT");
        format!("GET if-none-match={etag} if-modified-since={modified} accept-language={language}")
    };
    assert_eq!(get("en", &[]).await, told("MISS", "en 1", "1", 1));
    assert_eq!(get("de", &[]).await, told("MISS", "de 1", "2", 2));
    proxied.clock.advance(Duration::from_secs(10));
    // Each variant by its own validators, and not by what the client has.
    for (language, run) in [("de", 3), ("en", 4)] {
        let text = format!("{language} 1");
        let others = [("if-none-match", "\"other\""), ("if-modified-since", "Sat, 01 Jan 2000 00:00:00 GMT")];
        assert_eq!(get(language, &others).await, told("MISS", &text, &run.to_string(), run));
        assert_eq!(proxied.asked.last(), asked(language));
        // Its fields are the new ones.
        assert_eq!(get(language, &[]).await, told("HIT", &text, &run.to_string(), run));
    }
    proxied.clock.advance(Duration::from_secs(19));
    assert_eq!(get("de", &[]).await, told("HIT", "de 1", "3", 4));
    proxied.clock.advance(Duration::from_secs(1));
    assert_eq!(get("de", &[]).await, told("MISS", "de 2", "5", 5));
    assert_eq!(proxied.asked.last(), asked("de"));
    assert_eq!(get("de", &[]).await, told("HIT", "de 2", "5", 5));
    // Two variants, and what says that there are.
    assert_eq!(proxied.storage.stats().entries, 3);
}

// RFC 9111 section 4.2.4
#[tokio::test]
async fn without_its_origin_the_preset_serves_stale_for_a_day_and_504_where_that_is_forbidden() {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let mut proxied = Proxied::start(|req, _| {
        let forbids = if req.path() == "/never" { ", must-revalidate" } else { "" };
        HttpResponse::Ok()
            .insert_header(("etag", "\"one\""))
            .insert_header(("cache-control", format!("max-age=10{forbids}")))
            .body("page")
    });
    for path in ["/x", "/never"] {
        assert_eq!(proxied.get(path, &[]).await.cache(), "MISS");
    }
    proxied.origin = None;
    proxied.clock.advance(Duration::from_secs(10));
    assert_eq!(cache_and_text(&proxied.get("/x", &[]).await), told(200, "HIT", "page"));
    // The client's own conditions hold for it.
    let known = proxied.get("/x", &[("if-none-match", "\"one\"")]).await;
    assert_eq!(cache_and_text(&known), told(304, "HIT", ""));
    assert_eq!(proxied.get("/never", &[]).await.status, 504);
    assert_eq!(proxied.get("/other", &[]).await.status, 502);
    proxied.clock.advance(DAY - Duration::from_millis(1));
    assert_eq!(cache_and_text(&proxied.get("/x", &[]).await), told(200, "HIT", "page"));
    proxied.clock.advance(Duration::from_millis(1));
    assert_eq!(proxied.get("/x", &[]).await.status, 502);
}

// ---- What is validated on every use

const NO_CACHE: (&str, &str) = ("cache-control", "no-cache");
const ETAG: (&str, &str) = ("etag", "\"one\"");
const MODIFIED: (&str, &str) = ("last-modified", "Sat, 01 Jan 2022 00:00:00 GMT");

/// A server under the preset, whose handler answers with these fields, or 304 where it is asked by one of them; with
/// what it was asked, what is stored, and how many requests have come in.
fn preset(fields: &[(&'static str, &'static str)], gate: &Gate) -> (Server, Asked, MemoryStorage, Runs) {
    let (asked, arrived, (builder, storage, _)) = (Asked::default(), Runs::new(), cache());
    let come = arrived.clone();
    let builder = builder.rfc9111().guard(move |_: &mut ServiceRequest| {
        come.add();
        ready(Ok::<_, Error>(()))
    });
    let config = builder.build().unwrap();
    let shared = (asked.clone(), fields.to_vec(), gate.clone());
    let server = Server::start(2, move || {
        let (asked, fields, gate) = shared.clone();
        let handler = move |req: HttpRequest| {
            let (run, fields, gate) = (asked.note(&req), fields.clone(), gate.clone());
            async move {
                gate.pass().await;
                let since = req.headers().get("if-modified-since").is_some_and(|since| since == MODIFIED.1);
                let is_known = asks_for(&req, ETAG.1) || since;
                let mut answer = if is_known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
                for field in fields {
                    answer.insert_header(field);
                }
                if is_known { answer.finish() } else { answer.body(format!("run {run}")) }
            }
        };
        App::new().wrap(FastCache::new(config.clone())).default_service(web::to(handler))
    });
    (server, asked, storage, arrived)
}

// RFC 9111 sections 4.2.4, 4.3.1 and 5.2.2.4
#[tokio::test]
async fn by_the_preset_what_may_not_be_reused_without_validation_is_stored_and_validated_on_every_use() {
    let (both, etag, modified) = (
        "GET if-none-match=\"one\" if-modified-since=Sat, 01 Jan 2022 00:00:00 GMT",
        "GET if-none-match=\"one\"",
        "GET if-modified-since=Sat, 01 Jan 2022 00:00:00 GMT",
    );
    for (fields, question) in [
        (&[NO_CACHE, ETAG][..], etag),
        (&[NO_CACHE, MODIFIED], modified),
        (&[NO_CACHE, ETAG, MODIFIED], both),
        (&[("cache-control", "no-cache, max-age=60"), ETAG], etag),
        (&[("cache-control", "max-age=0"), ETAG], etag),
        (&[("expires", "0"), MODIFIED], modified),
        // No lifetime at all, and no date to guess one by.
        (&[ETAG], etag),
        (&[("cache-control", "public"), ETAG], etag),
    ] {
        let (server, asked, storage, _) = preset(fields, &Gate::opened());
        assert_eq!(cache_and_text(&server.get("/x", &[]).await), told(200, "MISS", "run 1"), "{fields:?}");
        for run in 2..=4 {
            let validated = server.get("/x", &[]).await;
            assert_eq!(cache_and_text(&validated), told(200, "MISS", "run 1"), "{fields:?}");
            assert_eq!((asked.count(), asked.last().as_str()), (run, question), "{fields:?}");
        }
        // A client's condition is answered after the validation too.
        let known = server.get("/x", &[("if-none-match", "\"other\", \"one\"")]).await;
        let status = if fields.contains(&ETAG) { 304 } else { 200 };
        assert_eq!((known.status, asked.last().as_str()), (status, question), "{fields:?}");
        assert_eq!((asked.count(), storage.stats().entries), (5, 1), "{fields:?}");
    }
}

// RFC 9111 section 3
#[tokio::test]
async fn by_the_preset_what_cannot_be_validated_or_is_forbidden_is_not_stored() {
    for fields in [
        &[NO_CACHE][..],
        &[],
        &[("cache-control", "max-age=0")],
        &[("expires", "0")],
        &[("cache-control", "no-store"), ETAG],
        &[("cache-control", "no-cache, no-store"), ETAG, MODIFIED],
        &[("cache-control", "private"), ETAG],
    ] {
        let (server, asked, storage, _) = preset(fields, &Gate::opened());
        for run in 1..=3 {
            let answer = server.get("/x", &[]).await;
            assert_eq!(cache_and_text(&answer), told(200, "-", &format!("run {run}")), "{fields:?}");
            assert_eq!((asked.count(), asked.last().as_str()), (run, "GET"), "{fields:?}");
        }
        assert_eq!(storage.stats().entries, 0, "{fields:?}");
    }
}

// RFC 9111 section 5.2.2.4: not used for any other request without its own validation
#[tokio::test]
async fn by_the_preset_what_is_validated_on_every_use_is_not_handed_to_those_who_wait() {
    for fields in [&[NO_CACHE, ETAG][..], &[("cache-control", "max-age=0"), ETAG]] {
        let gate = Gate::opened();
        let (server, asked, _, arrived) = preset(fields, &gate);
        server.get("/x", &[]).await;
        gate.close();
        let crowd = join_all((0..3).map(|_| Box::pin(server.get("/x", &[]))));
        let (answers, ()) = tokio::join!(crowd, async {
            until("all have come, and one asks", || (arrived.count(), asked.count() >= 2) == (4, true)).await;
            gate.open();
        });
        assert!(answers.iter().all(|answer| (answer.status, answer.text()) == (200, "run 1".into())));
        assert_eq!(asked.count(), 4, "{fields:?}");
    }
}
