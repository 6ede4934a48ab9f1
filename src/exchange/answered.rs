//! What a run answered: made whole, judged by its head, stored while it passes, or passed on.

use std::sync::Arc;
use std::time::Duration;

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::ServiceResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap};
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse};

use crate::exchange::body::CacheBody;
use crate::exchange::fill::{Admission, Fill, Kept};
use crate::exchange::freshen::{confirms, freshened};
use crate::exchange::parts::{self, Completion, Unjoinable};
use crate::exchange::respond;
use crate::exchange::telling::{Forward, Forwarded, Outcome, Told, tell_passed, tell_stored};
use crate::fields::lines;
use crate::policy::conditional::Answer;
use crate::policy::facts::ResponseFacts;
use crate::policy::rules::Wishes;
use crate::policy::storable::{self, Circumstances, Verdict};
use crate::scope::Scope;
use crate::status::NotStoredReason;
use crate::stored::entry::Entry;
use crate::stored::pattern::Line;
use crate::stored::response::StoredResponse;

/// What a run brought, made whole by what is stored.
pub(crate) struct Answered<B> {
    req: HttpRequest,
    head: HttpResponse<()>,
    received: Received<B>,
    /// The handler failed.
    failed: bool,
    /// The answer is about a stored body, and has none of its own.
    validates: bool,
    /// It says that the stored answer holds, and names another one.
    contradicts: bool,
    forwarded: Forwarded,
}

impl<B: MessageBody + 'static> Answered<B> {
    /// Whether a part came that does not join what is stored.
    pub(crate) fn is_unjoinable(&self) -> bool {
        matches!(self.received, Received::Nothing)
    }

    /// The answer of a run; `validated` is the stored response that it confirms, `completing` a part that it was to
    /// complete.
    pub(crate) fn of(
        response: ServiceResponse<B>,
        validated: Option<&StoredResponse>,
        completing: Option<Completion>,
        why: Forward,
    ) -> Self {
        let forwarded = Forwarded { why, status: response.status() };
        let failed = response.response().error().is_some();
        let (req, response) = response.into_parts();
        let contradicts = validated.is_some_and(|stored| !confirms(stored, response.headers()));
        let (head, received) = match (validated, completing) {
            // What it says of the other one is nobody's.
            (Some(stored), _) if contradicts => {
                (freshened(stored, &HeaderMap::new()), Received::Stored(stored.body.clone()))
            }
            (Some(stored), _) => {
                (freshened(stored, response.headers()), Received::Stored(stored.body.clone()))
            }
            // Nobody has asked for a part, or for one out of bounds.
            (None, Some(part)) if matches!(forwarded.status.as_u16(), 206 | 416) => joined(response, part),
            (None, _) => {
                let (head, body) = response.into_parts();
                (head, Received::Body(body))
            }
        };
        let failed = failed || matches!(received, Received::Nothing);
        Self { req, head, received, failed, validates: validated.is_some(), contradicts, forwarded }
    }
}

/// The whole, of a stored part and the rest of it.
fn joined<B: MessageBody + 'static>(
    response: HttpResponse<B>,
    part: Completion,
) -> (HttpResponse<()>, Received<B>) {
    let (head, body) = response.into_parts();
    match part.join(head.headers(), body.boxed()) {
        Ok((part, body)) => (freshened(&part, head.headers()), Received::Joined(body)),
        Err(Unjoinable) => {
            tracing::debug!("a handler answered If-Range with a part of something else");
            (HttpResponse::with_body(StatusCode::BAD_GATEWAY, ()), Received::Nothing)
        }
    }
}

/// Answers with what a run brought, and stores it if it may be.
pub(crate) fn judged_answer<B: MessageBody + 'static>(
    fill: Box<Fill>,
    answered: Answered<B>,
    mut wishes: Wishes,
    varies: Option<&Entry>,
    conditions: Option<&HeaderMap>,
) -> ServiceResponse<CacheBody<B>> {
    let scope = Arc::clone(&fill.scope);
    let Answered { req, mut head, received, failed, validates, contradicts, forwarded } = answered;
    let now = scope.engine.clock.now();
    let about = Circumstances {
        status: head.status(),
        failed,
        head: fill.asked.head && !validates,
        posted: fill.posted,
        part: fill.range.is_some() && parts::is_part(head.status(), head.headers()),
        personal: fill.asked.personal,
        keyed: &scope.settings.vary,
        delay: now.at.since(fill.began),
        now: now.unix,
    };
    let key = scope.shows_key().then(|| fill.asked.key.clone());
    let lines = lines(head.headers());
    let admitted = match judge(&scope, &head, &lines, &mut wishes, about) {
        Ok(_) if contradicts => Err(fill.refuse(NotStoredReason::OtherValidator)),
        Ok(_) if received.is_longer_than(scope.settings.rules.body_limit) => {
            Err(fill.refuse(NotStoredReason::BodyTooLarge))
        }
        Ok(verdict) => {
            let alias = wishes.key.as_deref();
            fill.admit(verdict, head.status(), lines, alias, varies, now)
        }
        Err(reason) => Err(fill.refuse(reason)),
    };
    match admitted {
        Ok(admission) => {
            let told = Told { outcome: Outcome::Stored(forwarded), key: key.as_ref() };
            stored_answer(&scope, req, head, received, conditions, admission, told)
        }
        Err(reason) => {
            tell_passed(&scope, head.headers_mut(), key.as_ref(), forwarded.why, reason.name());
            ServiceResponse::new(req, head.set_body(received.passed()))
        }
    }
}

/// Answers with what a run brought, while it is stored.
fn stored_answer<B: MessageBody + 'static>(
    scope: &Scope,
    req: HttpRequest,
    mut head: HttpResponse<()>,
    received: Received<B>,
    conditions: Option<&HeaderMap>,
    mut admission: Admission,
    told: Told<'_>,
) -> ServiceResponse<CacheBody<B>> {
    for (name, value) in admission.take_added() {
        head.headers_mut().append(name, value);
    }
    let status = head.status();
    let is_ours = matches!(received, Received::Stored(_));
    match received.whole() {
        Ok(bytes) => {
            // A few bytes may be a slice of a large buffer: kept, they would keep it all.
            let pieces = std::slice::from_ref(&bytes);
            let kept = if is_ours { Kept::Shared(bytes.clone()) } else { Kept::Copied(pieces) };
            let stored = admission.complete(kept);
            let answer = respond::answer(scope, req.method(), conditions, &stored);
            if answer != Answer::Whole {
                return respond::from_stored(scope, req, &stored, Duration::ZERO, answer, told);
            }
            if !head.headers().contains_key(header::ETAG)
                && let Some(etag) = stored.field(&header::ETAG)
            {
                head.headers_mut().insert(header::ETAG, etag.clone());
            }
            tell_stored(scope, status, head.headers_mut(), told);
            let body = if bodiless(status) { CacheBody::none() } else { CacheBody::whole(bytes) };
            ServiceResponse::new(req, head.set_body(body))
        }
        Err(body) => {
            let announced = admission.response().clone();
            let body = CacheBody::captured(body, scope.settings.rules.body_limit, admission);
            let answer = respond::answer(scope, req.method(), conditions, &announced);
            if answer == Answer::NotModified {
                // The copy is still made: behind the answer, as when a client leaves.
                drop(body);
                return respond::from_stored(scope, req, &announced, Duration::ZERO, answer, told);
            }
            tell_stored(scope, status, head.headers_mut(), told);
            ServiceResponse::new(req, head.set_body(body))
        }
    }
}

fn bodiless(status: StatusCode) -> bool {
    matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// A body as it came: from the handler, from the storage after a validation, or from both.
enum Received<B> {
    Body(B),
    Stored(Bytes),
    Joined(BoxBody),
    /// A part that came and does not join.
    Nothing,
}

impl<B: MessageBody + 'static> Received<B> {
    fn is_longer_than(&self, limit: usize) -> bool {
        let size = match self {
            Self::Body(body) => body.size(),
            Self::Joined(body) => body.size(),
            Self::Stored(_) | Self::Nothing => return false,
        };
        matches!(size, BodySize::Sized(size) if size > limit as u64)
    }

    fn whole(self) -> Result<Bytes, BoxBody> {
        match self {
            Self::Body(body) => body.try_into_bytes().map_err(MessageBody::boxed),
            Self::Joined(body) => Err(body),
            Self::Stored(bytes) => Ok(bytes),
            Self::Nothing => Ok(Bytes::new()),
        }
    }

    fn passed(self) -> CacheBody<B> {
        match self {
            Self::Body(body) => CacheBody::pass(body),
            Self::Joined(body) => CacheBody::boxed_body(body),
            Self::Stored(bytes) => CacheBody::whole(bytes),
            Self::Nothing => CacheBody::whole(Bytes::new()),
        }
    }
}

/// Judges an answer by its head.
fn judge(
    scope: &Scope,
    head: &HttpResponse<()>,
    lines: &[Line],
    wishes: &mut Wishes,
    about: Circumstances<'_>,
) -> Result<Verdict, NotStoredReason> {
    let lines = lines.iter().map(|(name, value)| (name, value.as_bytes()));
    let facts = ResponseFacts::read(lines, &scope.settings.rules.targets, about.now);
    let verdict = storable::judge(facts, wishes, &scope.settings.rules, about)?;
    match &scope.settings.store_if {
        Some(store_if) if !store_if(head.head()) => Err(NotStoredReason::StorePredicate),
        _ => Ok(verdict),
    }
}
