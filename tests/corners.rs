//! Corners where two features meet: parts and files, names and writes, validations and tags.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)] // it is test code

#[allow(dead_code, unreachable_pub)] // a part of it is used
#[path = "rfc9111/origin.rs"]
mod origin;

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use actix_fast_cache::{CacheConfig, CacheControl, FastCache, ManualClock, MemoryStorage};
use actix_service::Service;
use actix_web::body::to_bytes;
use actix_web::http::StatusCode;
use actix_web::test::{TestRequest, call_service, init_service};
use actix_web::web::{self, Bytes};
use actix_web::{App, HttpRequest, HttpResponse};
use origin::{answer, defaults, ok, rfc, site, site_under};

// actix-files does not know If-Range.
#[actix_web::test]
async fn a_changed_file_of_actix_files_is_served_after_a_range_was_asked_for() {
    let dir = std::env::temp_dir().join(format!("afc-corners-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("f.txt");
    let write = |text: &str, days: u64| {
        std::fs::write(&path, text).unwrap();
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        #[allow(clippy::disallowed_methods)] // of a file
        file.set_modified(SystemTime::now() - Duration::from_secs(days * 86_400)).unwrap();
    };
    write("0123456789", 100);
    let config = CacheConfig::builder(MemoryStorage::new()).rfc9111().build().unwrap();
    let app =
        init_service(App::new().wrap(FastCache::new(config)).service(actix_files::Files::new("/", &dir)))
            .await;
    let get = |range: Option<&str>| {
        let mut request = TestRequest::with_uri("/f.txt").insert_header(("host", "site.example"));
        if let Some(range) = range {
            request = request.insert_header(("range", range));
        }
        request.to_request()
    };
    let first = call_service(&app, get(Some("bytes=0-4"))).await;
    assert_eq!(first.status(), 206);
    to_bytes(first.into_body()).await.map_err(|_| ()).unwrap();
    write("abcdefghij", 50);
    let mut seen = Vec::new();
    for _ in 0..3 {
        let reply = call_service(&app, get(None)).await;
        let status = reply.status().as_u16();
        seen.push((status, to_bytes(reply.into_body()).await.map_err(|_| ()).unwrap()));
    }
    std::fs::remove_dir_all(&dir).unwrap();
    assert_eq!(seen.last().unwrap(), &(200, Bytes::from_static(b"abcdefghij")), "{seen:?}");
}

// The 502 of the cache itself is stored.
#[actix_web::test]
async fn the_502_for_a_part_that_does_not_join_is_not_stored() {
    let config = CacheConfig::builder(MemoryStorage::new()).rfc9111().build().unwrap();
    let run = Rc::new(Cell::new(0));
    let handler = move |req: HttpRequest, cache: CacheControl| {
        run.set(run.get() + 1);
        cache.ttl(Duration::from_secs(60));
        let (run, ranged) = (run.get(), req.headers().contains_key("range"));
        async move {
            if ranged {
                let (range, body) =
                    if run == 1 { ("bytes 0-4/10", "01234") } else { ("bytes 5-9/10", "fghij") };
                HttpResponse::PartialContent()
                    .insert_header(("content-range", range))
                    .insert_header(("etag", if run == 1 { "\"a\"" } else { "\"b\"" }))
                    .body(body)
            } else {
                HttpResponse::Ok().insert_header(("etag", "\"b\"")).body("abcdefghij")
            }
        }
    };
    let app = init_service(App::new().wrap(FastCache::new(config)).default_service(web::to(handler))).await;
    let get = || TestRequest::with_uri("/x").insert_header(("host", "a"));
    call_service(&app, get().insert_header(("range", "bytes=0-4")).to_request()).await;
    let first = call_service(&app, get().to_request()).await;
    assert_eq!(first.status(), 502);
    let second = call_service(&app, get().to_request()).await;
    let hit = second.headers().get("x-cache").cloned();
    assert!(hit.is_none_or(|hit| hit != "HIT"), "an empty 502 is served from the cache: {}", second.status());
}

// HEAD
#[actix_web::test]
async fn a_head_that_is_200_does_not_freshen_a_404() {
    let fields = [("cache-control", "max-age=10")];
    let site =
        site(&[answer(404, &fields, "none"), answer(200, &fields, ""), answer(200, &fields, "here")]).await;
    site.get("/x", &[]).await;
    site.wait(20);
    let head = site.send("HEAD", "/x", &[]).await.status;
    let get = site.get("/x", &[]).await;
    assert_eq!((head, get.status, get.text().as_str()), (200, 200, "here"));
}

#[actix_web::test]
async fn a_head_whose_body_has_another_length_does_not_freshen() {
    // One handler for GET and HEAD: the server strips the body and writes its length.
    let fields = [("cache-control", "max-age=10")];
    let site = site(&[answer(200, &fields, "one"), answer(200, &fields, "number two")]).await;
    site.get("/x", &[]).await;
    site.wait(20);
    site.send("HEAD", "/x", &[]).await;
    assert_eq!(site.get("/x", &[]).await.text(), "number two");
}

/// How many runs two plain GETs at once need after this request, which is answered like that.
async fn runs_of_two_after(method: &str, range: Option<&str>, answered: fn() -> HttpResponse) -> usize {
    let config = rfc().build().unwrap();
    let runs = Rc::new(Cell::new(0));
    let count = Rc::clone(&runs);
    let handler = move |req: HttpRequest| {
        let plain = *req.method() == "GET" && !req.headers().contains_key("range");
        let count = Rc::clone(&count);
        async move {
            if !plain {
                return answered();
            }
            count.set(count.get() + 1);
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            HttpResponse::Ok().insert_header(("cache-control", "max-age=60")).body("whole")
        }
    };
    let app = init_service(App::new().wrap(FastCache::new(config)).default_service(web::to(handler))).await;
    let get = || TestRequest::with_uri("/x").insert_header(("host", "site.example"));
    let mut first = get().method(method.parse().unwrap());
    if let Some(range) = range {
        first = first.insert_header(("range", range));
    }
    call_service(&app, first.to_request()).await;
    let both = futures_util::future::join(app.call(get().to_request()), app.call(get().to_request())).await;
    assert!(both.0.is_ok() && both.1.is_ok());
    runs.get()
}

#[actix_web::test]
async fn a_range_that_is_refused_says_nothing_of_the_whole() {
    let beyond =
        || HttpResponse::RangeNotSatisfiable().insert_header(("content-range", "bytes */10")).finish();
    assert_eq!(runs_of_two_after("GET", Some("bytes=99-"), beyond).await, 1);
}

#[actix_web::test]
async fn a_post_whose_answer_is_not_stored_says_nothing_of_the_get() {
    let posted = || HttpResponse::Ok().insert_header(("content-location", "/x")).body("posted");
    assert_eq!(runs_of_two_after("POST", None, posted).await, 1);
}

#[actix_web::test]
async fn what_is_skipped_is_not_stored_by_way_of_a_post() {
    let posted = answer(200, &[("cache-control", "max-age=60"), ("content-location", "/x")], "preview");
    let builder = rfc().skip(|req| req.headers().contains_key("x-preview"));
    let site = site_under(builder, &[posted, ok(&[])]).await;
    site.send_body("POST", "/x", &[("x-preview", "1")], "data").await;
    assert_eq!(site.get("/x", &[]).await.text(), "body");
}

#[actix_web::test]
async fn a_skipped_post_of_a_keyed_method_is_not_stored_on_a_guess() {
    let posted =
        answer(200, &[("last-modified", &origin::at(-86_400)), ("content-location", "/x")], "preview");
    let builder =
        rfc().methods([actix_web::http::Method::POST]).skip(|req| req.headers().contains_key("x-preview"));
    let site = site_under(builder, &[posted, ok(&[])]).await;
    site.send_body("POST", "/x", &[("x-preview", "1")], "data").await;
    assert_eq!(site.get("/x", &[]).await.text(), "body");
}

#[actix_web::test]
async fn cookies_are_compared_as_they_are() {
    let page = |body: &str| answer(200, &[("cache-control", "max-age=60"), ("vary", "cookie")], body);
    let site = site(&[page("of a"), page("of b")]).await;
    assert_eq!(site.get("/x", &[("cookie", "user=\"a,,b\"")]).await.text(), "of a");
    assert_eq!(site.get("/x", &[("cookie", "user=a,b")]).await.text(), "of b");
    let site = origin::site(&[page("of a"), page("of b")]).await;
    assert_eq!(site.get("/x", &[("cookie", "id=a,b")]).await.text(), "of a");
    assert_eq!(site.get("/x", &[("cookie", "id=a,,b")]).await.text(), "of b");
}

// A principal of one's own.
#[actix_web::test]
async fn authorization_that_is_keyed_by_vary_is_compared_as_it_is() {
    let page =
        |body: &str| answer(200, &[("cache-control", "max-age=60, public"), ("vary", "authorization")], body);
    let builder = rfc().principal(|_| None::<String>);
    let site = site_under(builder, &[page("of a"), page("of b")]).await;
    assert_eq!(site.get("/x", &[("authorization", "Token a,b")]).await.text(), "of a");
    assert_eq!(site.get("/x", &[("authorization", "Token a, b")]).await.text(), "of b");
}

// Tags and names of the handler after a 304.
async fn after_a_304(builder: actix_fast_cache::CacheConfigBuilder, named: bool) -> String {
    let clock = ManualClock::new();
    let config = builder.clock(clock.clone()).build().unwrap();
    let handle = config.handle();
    let run = Rc::new(Cell::new(0));
    let handler = move |req: HttpRequest, cache: CacheControl| {
        run.set(run.get() + 1);
        let run = run.get();
        let fresh = req.headers().contains_key("if-none-match") && run < 3;
        async move {
            if fresh {
                return HttpResponse::NotModified().insert_header(("cache-control", "max-age=60")).finish();
            }
            if named {
                cache.set_key("page")
            } else {
                cache.tag("page")
            }
            HttpResponse::Ok()
                .insert_header(("cache-control", "max-age=60"))
                .insert_header(("etag", "\"a\""))
                .body(format!("run {run}"))
        }
    };
    let app = init_service(App::new().wrap(FastCache::new(config)).default_service(web::to(handler))).await;
    let get = || TestRequest::with_uri("/x").insert_header(("host", "a")).to_request();
    call_service(&app, get()).await;
    clock.advance(Duration::from_secs(61));
    call_service(&app, get()).await;
    if named {
        handle.invalidate("page").await.unwrap();
    } else {
        handle.invalidate_tag("page").await.unwrap();
    }
    let reply = call_service(&app, get()).await;
    String::from_utf8(to_bytes(reply.into_body()).await.map_err(|_| ()).unwrap().to_vec()).unwrap()
}

#[actix_web::test]
async fn a_tag_outlives_a_validation() {
    assert_eq!(after_a_304(defaults(), false).await, "run 3");
}

#[actix_web::test]
async fn a_name_outlives_a_validation() {
    assert_eq!(after_a_304(defaults(), true).await, "run 3");
}

// And after a completion.
#[actix_web::test]
async fn a_tag_of_a_part_outlives_its_completion() {
    let config = rfc().build().unwrap();
    let handle = config.handle();
    let run = Rc::new(Cell::new(0));
    let handler = move |req: HttpRequest, cache: CacheControl| {
        run.set(run.get() + 1);
        let run = run.get();
        async move {
            let part = |range: &'static str, body: &'static str| {
                HttpResponse::PartialContent()
                    .insert_header(("cache-control", "max-age=60"))
                    .insert_header(("etag", "\"a\""))
                    .insert_header(("content-range", range))
                    .body(body)
            };
            match run {
                1 => {
                    cache.tag("page");
                    part("bytes 0-4/10", "01234")
                }
                2 if req.headers().contains_key("range") => part("bytes 5-9/10", "56789"),
                _ => HttpResponse::Ok().body("new"),
            }
        }
    };
    let app = init_service(App::new().wrap(FastCache::new(config)).default_service(web::to(handler))).await;
    let get = || TestRequest::with_uri("/x").insert_header(("host", "a"));
    call_service(&app, get().insert_header(("range", "bytes=0-4")).to_request()).await;
    call_service(&app, get().to_request()).await;
    handle.invalidate_tag("page").await.unwrap();
    let reply = call_service(&app, get().to_request()).await;
    assert_eq!(to_bytes(reply.into_body()).await.map_err(|_| ()).unwrap(), "new");
}

// A rest of unknown length that is not what it says.
#[actix_web::test]
async fn a_rest_that_is_longer_or_shorter_than_it_says_breaks_the_body_off() {
    for rest in ["012X3", "012", "0123X"] {
        let config = rfc().build().unwrap();
        let run = Rc::new(Cell::new(0));
        let handler = move |_: HttpRequest| {
            run.set(run.get() + 1);
            let run = run.get();
            async move {
                let mut answer = HttpResponse::PartialContent();
                answer.insert_header(("cache-control", "max-age=60")).insert_header(("etag", "\"a\""));
                if run == 1 {
                    return answer.insert_header(("content-range", "bytes 4-9/10")).body("456789");
                }
                let stream = futures_util::stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(
                    rest.as_bytes(),
                ))]);
                answer.insert_header(("content-range", "bytes 0-3/10")).streaming(stream)
            }
        };
        let app =
            init_service(App::new().wrap(FastCache::new(config)).default_service(web::to(handler))).await;
        let get = || TestRequest::with_uri("/x").insert_header(("host", "a"));
        call_service(&app, get().insert_header(("range", "bytes=4-")).to_request()).await;
        let reply = call_service(&app, get().to_request()).await;
        let body = to_bytes(reply.into_body()).await;
        assert!(body.is_err(), "{rest}: {:?}", body.map_err(|_| ()));
    }
}

// Promises of the preset.
#[actix_web::test]
async fn statuses_after_the_preset_take_the_place_of_those_before() {
    let site =
        site_under(rfc().statuses([200]), &[answer(404, &[("cache-control", "max-age=60")], "none")]).await;
    for runs in 1..3 {
        site.get("/x", &[]).await;
        assert_eq!(site.runs(), runs);
    }
}

// Location with a character that the url crate encodes.
#[actix_web::test]
async fn a_location_is_invalidated_as_it_is_asked_for() {
    for path in ["/x?q=a", "/a/%2e%2e/x", "/x?q='a'"] {
        let site =
            site(&[ok(&[("cache-control", "max-age=60")]), answer(201, &[("location", path)], ""), ok(&[])])
                .await;
        site.get(path, &[]).await;
        site.send("POST", "/y", &[]).await;
        site.get(path, &[]).await;
        assert_eq!(site.runs(), 3, "{path}");
    }
}

// Aliases of handlers, with variants and with parts: what a URL's invalidation covered is reached again.
async fn after_a_write_to_one_of_two_urls(
    builder: actix_fast_cache::CacheConfigBuilder,
    by: &'static str,
) -> String {
    let config = builder.build().unwrap();
    let version = Rc::new(Cell::new(1));
    let handler = move |req: HttpRequest, cache: CacheControl| {
        if *req.method() == "PUT" {
            version.set(version.get() + 1);
        }
        let text = format!("v{} 3456789", version.get());
        async move {
            cache.set_key("page");
            let mut answer = HttpResponse::Ok();
            answer.insert_header(("cache-control", "max-age=60")).insert_header(("vary", "x"));
            match req.headers().get("range").map(|range| range.to_str().unwrap()) {
                Some("bytes=0-4") => {
                    answer
                        .status(StatusCode::PARTIAL_CONTENT)
                        .insert_header(("content-range", "bytes 0-4/10"));
                    answer.body(text[..5].to_owned())
                }
                Some("bytes=5-9") => {
                    answer
                        .status(StatusCode::PARTIAL_CONTENT)
                        .insert_header(("content-range", "bytes 5-9/10"));
                    answer.body(text[5..].to_owned())
                }
                _ => answer.body(text),
            }
        }
    };
    let app = init_service(App::new().wrap(FastCache::new(config)).default_service(web::to(handler))).await;
    let send = async |method: &str, path: &str, which: usize| {
        let value = match by {
            "range" => ["bytes=0-4", "bytes=5-9"][which],
            _ => ["1", "2"][which],
        };
        let request =
            TestRequest::with_uri(path).method(method.parse().unwrap()).insert_header(("host", "a"));
        let reply = call_service(&app, request.insert_header((by, value)).to_request()).await;
        String::from_utf8(to_bytes(reply.into_body()).await.map_err(|_| ()).unwrap().to_vec()).unwrap()
    };
    send("GET", "/one", 0).await;
    send("GET", "/two", 0).await;
    assert_eq!(&send("GET", "/one", 0).await[..2], "v1");
    send("PUT", "/one", 0).await;
    // What was written is seen, and brings the way back.
    send("GET", "/one", 1).await;
    send("GET", "/one", 0).await[..2].to_owned()
}

#[actix_web::test]
async fn a_write_to_one_of_two_urls_with_one_name_drops_its_variants() {
    assert_eq!(after_a_write_to_one_of_two_urls(defaults(), "x").await, "v2");
}

#[actix_web::test]
async fn a_write_to_one_of_two_urls_with_one_name_drops_its_parts() {
    assert_eq!(after_a_write_to_one_of_two_urls(defaults().store_partial(), "range").await, "v2");
}
