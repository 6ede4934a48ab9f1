//! Parts of what a key stands for: found, cut, asked for and completed (RFC 9111 sections 3.3 and 3.4).

use std::sync::Arc;

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::ServiceRequest;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};

use crate::engine::Engine;
use crate::exchange::pieces::Joined;
use crate::fence::FenceId;
use crate::found::Found;
use crate::key::CacheKey;
use crate::policy::conditional::range_applies;
use crate::policy::etag;
use crate::policy::partial::{Missing, Part};
use crate::policy::range;
use crate::policy::rules::Rules;
use crate::request::Asked;
use crate::scope::Scope;
use crate::stored::entry::{Content, Entry};
use crate::stored::response::StoredResponse;

/// The one range that a request asks for, where the scope deals in parts.
pub(crate) fn wanted(rules: &Rules, asked: &Asked, req: &ServiceRequest) -> Option<HeaderValue> {
    if !rules.partial || !asked.fields.conditional || *req.method() != Method::GET {
        return None;
    }
    let mut lines = req.headers().get_all(header::RANGE);
    let range = lines.next().filter(|range| range::is_single(range.as_bytes()))?;
    lines.next().is_none().then(|| range.clone())
}

/// A fresh answer to a range, as it was once given or cut out of the part that was stored last.
pub(crate) async fn find(
    scope: &Scope,
    found: &Found,
    asked: &Asked,
    range: &HeaderValue,
    fields: &HeaderMap,
) -> Option<Arc<StoredResponse>> {
    let (engine, key, name) = (&scope.engine, found.key(&asked.key), found.name.as_deref());
    let now = engine.clock.now();
    let serves = |part: &StoredResponse| {
        asked.judge(part, &scope.settings.rules, now.at).is_fresh() && range_applies(fields, part, now.unix)
    };
    if let Some(same) = reached(engine, &key.ranged(Some(range.as_bytes())), name).await
        && let Some(same) = same.response().filter(|part| serves(part))
    {
        return Some(Arc::clone(same));
    }
    let last = last(engine, key, name).await?;
    let part = last.response().filter(|part| serves(part))?;
    let (described, held) = (described(part)?, part.body.len());
    // Of one that is shorter than it says nobody knows what its bytes are, if they are encoded.
    if !described.is_whole(held) && part.field(&header::CONTENT_ENCODING).is_some() {
        return None;
    }
    let (bytes, content_range) = described.slice(range.as_bytes(), held)?;
    let content_range = HeaderValue::try_from(content_range).ok()?;
    let mut cut = StoredResponse::clone(part);
    cut.body = part.body.slice(bytes);
    let lines = cut.headers.edit();
    lines.retain(|(name, _)| *name != header::CONTENT_RANGE);
    lines.push((header::CONTENT_RANGE, content_range));
    Some(Arc::new(cut))
}

/// The part that was stored last under a key, which the request may have found by a name.
async fn last(engine: &Engine, key: &CacheKey, name: Option<&Entry>) -> Option<Arc<Entry>> {
    let Content::Alias(at) = &engine.get(&key.ranged(None)).await.entry?.content else { return None };
    reached(engine, at, name).await
}

async fn reached(engine: &Engine, key: &CacheKey, name: Option<&Entry>) -> Option<Arc<Entry>> {
    let entry = engine.get(key).await.entry?;
    engine.is_reached(&entry, name).await.then_some(entry)
}

fn described(part: &StoredResponse) -> Option<Part> {
    Part::parse(part.field(&header::CONTENT_RANGE)?.as_bytes())
}

/// Whether an answer is one part, and says which.
pub(crate) fn is_part(status: StatusCode, headers: &HeaderMap) -> bool {
    let described = headers.get(header::CONTENT_RANGE).and_then(|value| Part::parse(value.as_bytes()));
    status == StatusCode::PARTIAL_CONTENT && described.is_some()
}

/// A stored part, and what it lacks.
pub(crate) struct Completion {
    part: Arc<StoredResponse>,
    described: Part,
    missing: Missing,
    etag: HeaderValue,
    fences: Box<[FenceId]>,
}

impl Completion {
    /// Of the part that was stored last, if it is fresh and has a strong validator: by nothing less can two parts be
    /// known to be of one representation.
    pub(crate) async fn find(
        scope: &Scope,
        key: &CacheKey,
        name: Option<&Entry>,
        asked: &Asked,
    ) -> Option<Self> {
        let engine = &scope.engine;
        let last = last(engine, key, name).await?;
        let part = Arc::clone(last.response()?);
        let is_fresh = asked.judge(&part, &scope.settings.rules, engine.clock.at()).is_fresh();
        let described = described(&part)?;
        let missing = described.missing(part.body.len())?;
        let etag = part.field(&header::ETAG).filter(|etag| etag::is_strong(etag.as_bytes()))?.clone();
        is_fresh.then(|| Self { part, described, missing, etag, fences: last.fences().into() })
    }

    /// The fences of the part.
    pub(crate) fn fences(&self) -> &[FenceId] {
        &self.fences
    }

    /// Asks for the rest, if the representation is still the same (RFC 9110 section 13.1.5).
    pub(crate) fn ask(&self, headers: &mut HeaderMap) {
        if let Ok(range) = HeaderValue::try_from(self.missing.range()) {
            headers.insert(header::RANGE, range);
            headers.insert(header::IF_RANGE, self.etag.clone());
        }
    }

    /// The stored fields, whose news are those of the answer, and the whole body; none if the answer is not the rest.
    pub(crate) fn join(
        self,
        answer: &HeaderMap,
        body: BoxBody,
    ) -> Result<(Arc<StoredResponse>, BoxBody), Unjoinable> {
        let value = |name: HeaderName| answer.get(name).map(HeaderValue::as_bytes);
        let rest = value(header::CONTENT_RANGE).and_then(Part::parse).ok_or(Unjoinable)?;
        let is_of_one = value(header::ETAG) == Some(self.etag.as_bytes());
        let is_sized = match body.size() {
            BodySize::Sized(len) => {
                len.checked_add(self.part.body.len() as u64) == Some(self.described.complete())
            }
            // Its end shows it: a body that is not as long as it says is not stored.
            BodySize::Stream | BodySize::None => true,
        };
        if !is_of_one || !is_sized || !self.described.is_completed_by(rest) {
            return Err(Unjoinable);
        }
        let is_before = matches!(self.missing, Missing::From(_));
        let joined = Joined::new(self.part.body.clone(), is_before, body, self.described.complete());
        Ok((self.part, joined.boxed()))
    }
}

/// An answer to a request for the rest that is not the rest.
pub(crate) struct Unjoinable;
