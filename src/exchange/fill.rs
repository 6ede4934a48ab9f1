//! A fill, from the decision to run the handler until its answer is stored or is not.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::web::Bytes;

use crate::clock::{Now, Timestamp};
use crate::engine::Engine;
use crate::exchange::duty::Duty;
use crate::fence::{FenceId, Stamp};
use crate::fields::{add_etag, dated, merged_vary, storable};
use crate::flight::{Landed, Landing};
use crate::found::{selected, spoken_in};
use crate::key::{CacheKey, MAX_KEY_BYTES};
use crate::policy::rules::Rules;
use crate::policy::selecting;
use crate::policy::storable::Verdict;
use crate::request::Asked;
use crate::scope::Scope;
use crate::status::NotStoredReason;
use crate::stored::entry::{Content, Entry, EntryFences, Selector, Varies};
use crate::stored::lines::Lines;
use crate::stored::pattern::Line;
use crate::stored::response::StoredResponse;

/// The duty to tell what became of a handler run. Dropped, it tells the followers that the leader is gone.
pub(crate) struct Fill {
    pub(crate) scope: Arc<Scope>,
    /// What the request asked for, under its own key.
    pub(crate) asked: Asked,
    /// The key the flight is known by.
    pub(crate) flight: CacheKey,
    /// The fence of the request's URL, where that is not the target of its key.
    pub(crate) url: Option<FenceId>,
    pub(crate) stamp: Stamp,
    pub(crate) began: Timestamp,
    /// The range that the handler is asked for.
    pub(crate) range: Option<HeaderValue>,
    pub(crate) duty: Option<Duty>,
    /// The request was a POST, and its answer may be stored for GET.
    pub(crate) posted: bool,
    /// The fields of the request as they were looked up with: layers inside may take some away.
    pub(crate) fields: Vec<Line>,
    /// The fences of the entry that the answer is made of in part: whatever dropped that drops this too.
    pub(crate) inherited: Vec<FenceId>,
}

impl Fill {
    /// The answer is not stored: everybody else runs now, and for a while nobody queues for this key.
    pub(crate) fn refuse(mut self: Box<Self>, reason: NotStoredReason) -> NotStoredReason {
        if !self.posted {
            self.scope.say_not_stored(reason);
        }
        self.dismiss();
        reason
    }

    /// Everybody else runs now, and for a while nobody queues for this key.
    fn dismiss(&mut self) {
        // A verdict on one client's cookies, on a HEAD, a range or a POST is no verdict on the key.
        if !self.asked.is_for_one() && self.range.is_none() && !self.posted {
            let engine = &self.scope.engine;
            let span = self.scope.settings.coalescing.uncacheable_for;
            engine.uncacheable.remember(&self.flight, engine.clock.at(), span);
            if let Some(duty) = &mut self.duty {
                duty.refuse(span);
            }
        }
        self.release();
    }

    /// Everybody else runs on their own; the next ones queue again.
    pub(crate) fn release(&self) {
        if let Some(duty) = &self.duty {
            duty.land(Landing::Alone);
        }
    }

    pub(crate) fn leads(&self) -> bool {
        self.duty.is_some()
    }

    /// The answer may be stored, once its body is whole.
    pub(crate) fn admit(
        self: Box<Self>,
        mut verdict: Verdict,
        status: StatusCode,
        lines: Vec<Line>,
        alias: Option<&str>,
        known: Option<&Entry>,
        now: Now,
    ) -> Result<Admission, NotStoredReason> {
        let settings = &self.scope.settings;
        let own = &self.asked.key;
        let named =
            alias.map(|name| own.renamed(settings.namespace.prefix(), name)).filter(|named| named != own);
        let base = named.as_ref().unwrap_or(own);
        let told = merged_vary(&lines, settings.vary.iter().chain(&verdict.vary));
        let names = united(std::mem::take(&mut verdict.vary), known.filter(|known| known.key() == base));
        let by = Selector { names, normalised: settings.normalised };
        let mut request = HeaderMap::new();
        if !by.names.is_empty() {
            for (name, value) in &self.fields {
                request.append(name.clone(), value.clone());
            }
        }
        let at = if by.names.is_empty() { base.clone() } else { selected(base, &by, &request) };
        let in_language = if by.normalised {
            let languages = lines.iter().filter(|(name, _)| *name == header::CONTENT_LANGUAGE);
            selecting::spoken(languages.map(|(_, value)| value.as_bytes()))
                .and_then(|language| spoken_in(&language, base, &by, &request))
        } else {
            None
        };
        // A part has a key of its own beside the whole; the last one is found without its range.
        let range = self.range.as_ref().filter(|_| status == StatusCode::PARTIAL_CONTENT);
        let (at, aliases) = match range {
            Some(range) => (at.ranged(Some(range.as_bytes())), vec![at.ranged(None)]),
            None => (at, in_language.into_iter().collect()),
        };
        if at.as_bytes().len() > MAX_KEY_BYTES {
            return Err(self.refuse(NotStoredReason::VaryTooMuch));
        }
        let mut targets: Vec<FenceId> = self.url.into_iter().collect();
        if let Some(named) = &named {
            targets.extend([own.target_fence(), named.target_fence()]);
        }
        let mut tags: Vec<_> = verdict.tags.iter().map(|tag| settings.namespace.tag_fence(tag)).collect();
        if !self.inherited.is_empty() {
            let of_key = at.fences();
            for fence in &self.inherited {
                if !of_key.contains(fence) && !targets.contains(fence) && !tags.contains(fence) {
                    tags.push(*fence);
                }
            }
        }
        let mut freshness = verdict.freshness;
        freshness.received = now.at;
        let remaining = freshness.lifetime.saturating_sub(freshness.initial_age);
        freshness.lifetime -= spread(remaining, settings.jitter, &at, freshness.received);
        // One without a date gets the time of its receipt (RFC 9110 section 6.6.1).
        let date = if verdict.is_dated { None } else { dated(now.unix) };
        let added = [date, told];
        let mut fields = storable(lines, &verdict, settings);
        fields.extend(added.iter().flatten().cloned());
        let response = StoredResponse {
            status,
            headers: fields.into(),
            body: Bytes::new(),
            freshness: freshness.into(),
        };
        Ok(Admission { fill: self, response, added, named, at, by, aliases, targets, tags })
    }
}

/// Past these the names of earlier answers are forgotten, and so are their variants.
const MOST_UNITED: usize = 16;

/// The fields that select an answer: its own, and those of earlier ones for its key. Less is shared than could be,
/// and nothing is mixed up.
fn united(own: Vec<HeaderName>, known: Option<&Entry>) -> Vec<HeaderName> {
    let sorted = |mut names: Vec<HeaderName>| {
        names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        names.dedup();
        names
    };
    let Some(Entry { content: Content::Varies(known), .. }) = known else {
        return sorted(own);
    };
    let all = sorted(own.iter().chain(&known.by.names).cloned().collect());
    if all.len() > MOST_UNITED { sorted(own) } else { all }
}

/// A body to be stored.
pub(crate) enum Kept<'a> {
    /// Piece by piece, as it came.
    Copied(&'a [Bytes]),
    /// That of a stored answer.
    Shared(Bytes),
}

impl Kept<'_> {
    fn pieces(&self) -> &[Bytes] {
        match self {
            Self::Copied(pieces) => pieces,
            Self::Shared(bytes) => std::slice::from_ref(bytes),
        }
    }
}

/// An answer that will be stored as soon as its body has come to a clean end. Dropped, it is not.
pub(crate) struct Admission {
    fill: Box<Fill>,
    response: StoredResponse,
    /// What the answer itself forgot: its date, and a line of `Vary`.
    added: [Option<Line>; 2],
    /// Its key under the name that its handler chose.
    named: Option<CacheKey>,
    at: CacheKey,
    by: Selector,
    /// Where others find it: requests that want its language most, or a range within this part.
    aliases: Vec<CacheKey>,
    /// The targets that lead to it beside that of its key.
    targets: Vec<FenceId>,
    tags: Vec<FenceId>,
}

impl Admission {
    pub(crate) fn refuse(self, reason: NotStoredReason) {
        self.fill.refuse(reason);
    }

    pub(crate) fn leads(&self) -> bool {
        self.fill.leads()
    }

    /// Nobody waits for this answer any more, nor for the next ones of its key for a while; it is stored all the same.
    pub(crate) fn dismiss(&mut self) {
        self.fill.dismiss();
    }

    /// The answer without its body.
    pub(crate) fn response(&self) -> &StoredResponse {
        &self.response
    }

    /// Lines to be sent that are stored and that the answer has not: a date, or the server would write one of its own,
    /// and its hits another one; and the line of `Vary` with what selects it and is not in its own, for whoever stores it
    /// downstream has to know.
    pub(crate) fn take_added(&mut self) -> impl Iterator<Item = Line> {
        std::mem::take(&mut self.added).into_iter().flatten()
    }

    /// Stores the answer and hands it to the followers.
    pub(crate) fn complete(self, body: Kept<'_>) -> Arc<StoredResponse> {
        let Admission { mut fill, mut response, named, at, by, aliases, targets, tags, .. } = self;
        add_etag(&mut response, body.pieces(), fill.scope.settings.etag);
        let lines = std::mem::take(response.headers.edit());
        (response.headers, response.body) = match body {
            Kept::Copied(pieces) => Lines::pack(lines, pieces),
            Kept::Shared(body) => (Lines::pack(lines, &[]).0, body),
        };
        let keep_until = keep_until(&response, &fill.scope.settings.rules);
        let entry = |key: CacheKey, beyond: Vec<FenceId>, content: Content| {
            let fences = EntryFences::beyond(beyond);
            Arc::new(Entry { key, stamp: fill.stamp, began: fill.began, fences, keep_until, content })
        };
        let response = Arc::new(response);
        let mut pointers = Vec::new();
        let mut point = |key: CacheKey, to: &CacheKey| {
            pointers.push(entry(key, targets.clone(), Content::Alias(Box::new(to.clone()))));
        };
        for key in aliases {
            point(key, &at);
        }
        if let Some(named) = &named {
            point(fill.asked.key.clone(), named);
        }
        let beyond = if targets.is_empty() { tags } else { [targets.as_slice(), &tags].concat() };
        let stored = entry(at, beyond, Content::Response(Arc::clone(&response)));
        let base = named.as_ref().unwrap_or(&fill.asked.key);
        let varies = (!by.names.is_empty()).then(|| {
            // Parts are not counted: many of one variant would push the others out.
            let is_part = fill.range.is_some() && response.status == StatusCode::PARTIAL_CONTENT;
            let variants = if is_part { Vec::new() } else { vec![Arc::new(stored.key.clone())] };
            let varies = Varies { by: by.clone(), variants };
            entry(base.clone(), targets.clone(), Content::Varies(Box::new(varies)))
        });

        let engine = Arc::clone(&fill.scope.engine);
        let known = response.freshness.get();
        // A part says nothing of the whole.
        if fill.range.is_none() {
            engine.forget_failures(&fill.flight);
        }
        if known.lifetime <= known.initial_age {
            // It has to be validated for everybody anew (RFC 9111 section 4).
            fill.dismiss();
        } else if let Some(duty) = &fill.duty {
            let selector = (!by.names.is_empty()).then(|| (base.clone(), by));
            let (entry, response) = (Arc::clone(&stored), Arc::clone(&response));
            duty.land(Landing::Stored(Landed { entry, response, own: fill.asked.key.clone(), selector }));
        }
        if varies.is_none() && pointers.is_empty() && engine.put_now(&stored) {
            // Until here the flight can be joined, so that nobody slips between the news and the storage.
            drop(fill);
            return response;
        }
        let writer = Arc::clone(&engine);
        engine.write_behind(async move {
            // The response before what points to it: a reader never follows a pointer into the void.
            let _ = writer.put(stored).await;
            if let Some(varies) = varies {
                put_varies(&writer, varies).await;
            }
            for pointer in pointers {
                let _ = writer.put(pointer).await;
            }
            drop(fill);
        });
        response
    }
}

/// The most variants that are kept of one key; past it the oldest goes.
const MOST_VARIANTS: usize = 64;

/// Adds a variant to those that are known.
async fn put_varies(engine: &Engine, mut entry: Arc<Entry>) {
    let known = engine.get(entry.key()).await.entry;
    let mut dropped = Vec::new();
    if let Some(known) = known.as_deref()
        && let Content::Varies(list) = &known.content
    {
        let entry = Arc::make_mut(&mut entry);
        if let Content::Varies(varies) = &mut entry.content
            && varies.by == list.by
        {
            let added = std::mem::take(&mut varies.variants);
            varies.variants = list.variants.iter().filter(|key| !added.contains(key)).cloned().collect();
            varies.variants.extend(added);
            let surplus = varies.variants.len().saturating_sub(MOST_VARIANTS);
            dropped = varies.variants.drain(..surplus).collect();
            // Fills end in any order: a list with one variant more is not the older one. What it names has stamps of
            // its own.
            entry.stamp = entry.stamp.max(known.stamp);
            entry.began = entry.began.max(known.began);
            entry.keep_until = entry.keep_until.max(known.keep_until);
        }
    }
    let _ = engine.put(entry).await;
    for variant in dropped {
        engine.remove(&variant).await;
    }
}

/// What can be validated is kept this long at least: it may have no lifetime of its own at all.
const VALIDATED_FOR: Duration = Duration::from_secs(3600);

/// How long a stored response is of use: while fresh, while stale and allowed, or while it can be validated.
fn keep_until(response: &StoredResponse, rules: &Rules) -> Timestamp {
    let known = response.freshness.get();
    let fresh = known.lifetime.saturating_sub(known.initial_age);
    let has_validator = known.last_modified.is_some() || response.etag().is_some();
    let stale = if known.must_revalidate {
        Duration::ZERO
    } else {
        known.while_revalidate.max(known.if_error).max(rules.if_unreachable)
    };
    let validated = if has_validator { fresh.max(VALIDATED_FOR) } else { Duration::ZERO };
    known.received.plus(fresh.saturating_add(stale.max(validated)))
}

/// The part of a lifetime that jitter takes off: entries stored together do not go stale together.
fn spread(lifetime: Duration, jitter: f64, key: &CacheKey, now: Timestamp) -> Duration {
    if jitter <= 0.0 {
        return Duration::ZERO;
    }
    let mut hasher = DefaultHasher::new();
    (key.hash64(), now).hash(&mut hasher);
    #[allow(clippy::cast_precision_loss)] // a fraction, not a number
    let fraction = hasher.finish() as f64 / u64::MAX as f64;
    lifetime.mul_f64((jitter * fraction).clamp(0.0, 1.0))
}
