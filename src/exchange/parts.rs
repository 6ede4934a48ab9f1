//! Parts of what a key stands for: found, cut, asked for and completed (RFC 9111 sections 3.3 and 3.4).

use std::sync::Arc;

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::ServiceRequest;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};

use crate::engine::Engine;
use crate::exchange::pieces::Joined;
use crate::key::CacheKey;
use crate::policy::conditional::range_applies;
use crate::policy::etag;
use crate::policy::partial::{Missing, Part};
use crate::policy::range;
use crate::policy::rules::Rules;
use crate::request::Asked;
use crate::stored::entry::Content;
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
    engine: &Engine,
    rules: &Rules,
    key: &CacheKey,
    asked: &Asked,
    range: &HeaderValue,
    fields: &HeaderMap,
) -> Option<Arc<StoredResponse>> {
    let now = engine.clock.now();
    let serves = |part: &Arc<StoredResponse>| {
        asked.judge(part, rules, now.at).is_fresh() && range_applies(fields, part, now.unix)
    };
    let same = engine.get(&key.ranged(Some(range.as_bytes()))).await.entry;
    if let Some(same) = same.as_deref().and_then(|entry| entry.response()).filter(|part| serves(part)) {
        return Some(Arc::clone(same));
    }
    let part = last(engine, key).await.filter(serves)?;
    let (bytes, content_range) = described(&part)?.slice(range.as_bytes(), part.body.len())?;
    let content_range = HeaderValue::try_from(content_range).ok()?;
    let mut cut = StoredResponse::clone(&part);
    cut.body = part.body.slice(bytes);
    cut.headers.retain(|(name, _)| *name != header::CONTENT_RANGE);
    cut.headers.push((header::CONTENT_RANGE, content_range));
    Some(Arc::new(cut))
}

/// The part that was stored last.
async fn last(engine: &Engine, key: &CacheKey) -> Option<Arc<StoredResponse>> {
    let Content::Alias(at) = &engine.get(&key.ranged(None)).await.entry?.content else { return None };
    engine.get(at).await.entry?.response().cloned()
}

fn described(part: &StoredResponse) -> Option<Part> {
    Part::parse(part.header(header::CONTENT_RANGE.as_str())?.as_bytes())
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
}

impl Completion {
    /// Of the part that was stored last, if it is fresh and has a strong validator: by nothing less can two parts be
    /// known to be of one representation.
    pub(crate) async fn find(engine: &Engine, rules: &Rules, key: &CacheKey, asked: &Asked) -> Option<Self> {
        let part = last(engine, key).await?;
        let is_fresh = asked.judge(&part, rules, engine.clock.at()).is_fresh();
        let described = described(&part)?;
        let missing = described.missing(part.body.len())?;
        let etag =
            part.header(header::ETAG.as_str()).filter(|etag| etag::is_strong(etag.as_bytes()))?.clone();
        is_fresh.then_some(Self { part, described, missing, etag })
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
            BodySize::Sized(len) => len + self.part.body.len() as u64 == self.described.complete(),
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
