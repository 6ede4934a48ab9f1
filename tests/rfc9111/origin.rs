//! An origin that answers as it was told, behind a cache whose clock is turned by hand; all in memory.

use std::cell::RefCell;
use std::future::ready;
use std::rc::Rc;
use std::time::{Duration, UNIX_EPOCH};

pub use actix_fast_cache::CacheConfigBuilder;
use actix_fast_cache::{CacheConfig, FastCache, ManualClock, MemoryStorage};
use actix_http::Request;
use actix_service::Service;
use actix_web::body::{BoxBody, to_bytes};
use actix_web::error::InternalError;
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue, HttpDate};
use actix_web::http::{Method, StatusCode};
use actix_web::test::{TestRequest, init_service};
use actix_web::web::{self, Bytes};
use actix_web::{App, HttpRequest, HttpResponse};
use futures_util::future::LocalBoxFuture;

/// When the clock of a site starts: 2026-01-01 00:00:00 GMT, a Thursday.
const START: u64 = 1_767_225_600;

/// An HTTP-date so many seconds after the clock's start.
pub fn at(seconds: i64) -> String {
    let unix = START.checked_add_signed(seconds).unwrap();
    HttpDate::from(UNIX_EPOCH + Duration::from_secs(unix)).to_string()
}

/// What an origin says.
#[derive(Clone, Debug)]
pub struct Answer {
    status: StatusCode,
    fields: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
    /// How many seconds pass before it comes.
    delay: u64,
    /// The handler fails with this status.
    fails: bool,
}

/// A handler that has no answer: what it asks cannot be reached.
pub fn unreachable() -> Answer {
    Answer { fails: true, ..answer(502, &[], "") }
}

pub fn answer(status: u16, fields: &[(&str, &str)], body: &str) -> Answer {
    let status = StatusCode::from_u16(status).unwrap();
    let body = Bytes::copy_from_slice(body.as_bytes());
    let bare = Answer { status, fields: Vec::new(), body, delay: 0, fails: false };
    fields.iter().fold(bare, |answer, (name, value)| answer.with(name, value))
}

/// A 200 with these fields and some body.
pub fn ok(fields: &[(&str, &str)]) -> Answer {
    answer(200, fields, "body")
}

impl Answer {
    /// Adds a line, whatever bytes it has.
    pub fn with(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let value = HeaderValue::from_bytes(value.as_ref()).unwrap();
        self.fields.push((HeaderName::try_from(name).unwrap(), value));
        self
    }

    /// Lets so many seconds pass before it comes.
    pub fn after(mut self, seconds: u64) -> Self {
        self.delay = seconds;
        self
    }

    fn send(&self, clock: &ManualClock) -> HttpResponse {
        clock.advance(Duration::from_secs(self.delay));
        if self.fails {
            return HttpResponse::from_error(InternalError::new("unreachable", self.status));
        }
        let mut response = HttpResponse::with_body(self.status, BoxBody::new(self.body.clone()));
        for (name, value) in &self.fields {
            response.headers_mut().append(name.clone(), value.clone());
        }
        response
    }
}

/// A request as the origin saw it, or a reply as the client got it.
#[derive(Clone, Debug)]
pub struct Message {
    /// Of a request.
    pub method: Method,
    /// Of a reply.
    pub status: u16,
    pub fields: HeaderMap,
    pub body: Bytes,
}

impl Message {
    /// The lines of a field, in order.
    pub fn lines(&self, name: &str) -> Vec<String> {
        self.fields.get_all(name).map(|line| String::from_utf8_lossy(line.as_bytes()).into_owned()).collect()
    }

    /// The one line of a field; `-` where there is none.
    pub fn field(&self, name: &str) -> String {
        let mut lines = self.lines(name);
        assert!(lines.len() < 2, "{name} has several lines: {lines:?}");
        lines.pop().unwrap_or_else(|| "-".to_owned())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

type Send = dyn Fn(Request) -> LocalBoxFuture<'static, Message>;

/// A cache in front of an origin.
pub struct Site {
    pub clock: ManualClock,
    send: Box<Send>,
    seen: Rc<RefCell<Vec<Message>>>,
}

impl Site {
    pub async fn get(&self, path: &str, fields: &[(&str, &str)]) -> Message {
        self.send("GET", path, fields).await
    }

    pub async fn send(&self, method: &str, path: &str, fields: &[(&str, &str)]) -> Message {
        let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        self.send_bytes(method, path, &fields).await
    }

    /// A request with field values of any bytes.
    pub async fn send_bytes(&self, method: &str, path: &str, fields: &[(&str, &[u8])]) -> Message {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = TestRequest::with_uri(path).method(method).insert_header(("host", "site.example"));
        for (name, value) in fields {
            let value = HeaderValue::from_bytes(value).unwrap();
            request = request.append_header((HeaderName::try_from(*name).unwrap(), value));
        }
        (self.send)(request.to_request()).await
    }

    /// How often the handler ran.
    pub fn runs(&self) -> usize {
        self.seen.borrow().len()
    }

    /// A request with a body.
    pub async fn send_body(&self, method: &str, path: &str, fields: &[(&str, &str)], body: &str) -> Message {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = TestRequest::with_uri(path).method(method).insert_header(("host", "site.example"));
        for field in fields {
            request = request.append_header(*field);
        }
        (self.send)(request.set_payload(body.to_owned()).to_request()).await
    }

    /// The request of the handler's last run.
    pub fn last(&self) -> Message {
        self.seen.borrow().last().expect("a run").clone()
    }

    /// Lets what goes on behind an answer come to its end.
    pub async fn settle(&self) {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }

    /// Lets so many seconds pass.
    pub fn wait(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }
}

/// The preset.
pub fn rfc() -> CacheConfigBuilder {
    defaults().rfc9111()
}

/// A cache with no options set.
pub fn defaults() -> CacheConfigBuilder {
    CacheConfig::builder(MemoryStorage::new())
}

/// A site under the preset, whose origin gives these answers one after the other, and the last one for ever.
pub async fn site(answers: &[Answer]) -> Site {
    site_under(rfc(), answers).await
}

/// The same under other settings.
pub async fn site_under(builder: CacheConfigBuilder, answers: &[Answer]) -> Site {
    let clock = ManualClock::new();
    let config = builder.clock(clock.clone()).build().unwrap();
    let (answers, seen) = (answers.to_vec(), Rc::<RefCell<Vec<Message>>>::default());
    let (runs, hands) = (Rc::clone(&seen), clock.clone());
    let handler = move |req: HttpRequest| {
        let run = runs.borrow().len();
        let (method, fields) = (req.method().clone(), req.headers().clone());
        runs.borrow_mut().push(Message { method, status: 0, fields, body: Bytes::new() });
        ready(answers[run.min(answers.len() - 1)].send(&hands))
    };
    let app = App::new().wrap(FastCache::new(config)).default_service(web::to(handler));
    let app = Rc::new(init_service(app).await);
    let send = Box::new(move |request: Request| {
        let app = Rc::clone(&app);
        let sending = async move {
            let method = request.method().clone();
            let (response, body) = app.call(request).await.expect("an answer").into_parts().1.into_parts();
            let (status, fields) = (response.status().as_u16(), response.headers().clone());
            let body = to_bytes(body).await.unwrap_or_else(|_| panic!("a body broke off"));
            Message { method, status, fields, body }
        };
        Box::pin(sending) as LocalBoxFuture<'static, Message>
    });
    Site { clock, send, seen }
}

/// After how many seconds an answer is not reused any more without asking the origin; zero if it never is.
pub async fn lifetime(answer: &Answer) -> u64 {
    lifetime_under(rfc, answer).await
}

/// The same under other settings.
pub async fn lifetime_under(profile: impl Fn() -> CacheConfigBuilder, answer: &Answer) -> u64 {
    let is_reused = async |after: u64| {
        let site = site_under(profile(), std::slice::from_ref(answer)).await;
        site.get("/x", &[]).await;
        site.wait(after);
        site.get("/x", &[]).await;
        site.runs() == 1
    };
    if !is_reused(0).await {
        return 0;
    }
    let (mut fresh, mut stale) = (0, 1);
    while is_reused(stale).await {
        assert!(stale < 1 << 40, "it is fresh for ever: {answer:?}");
        (fresh, stale) = (stale, stale * 2);
    }
    while stale - fresh > 1 {
        let middle = fresh + (stale - fresh) / 2;
        if is_reused(middle).await {
            fresh = middle;
        } else {
            stale = middle;
        }
    }
    stale
}
