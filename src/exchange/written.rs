//! What a successful write makes invalid (RFC 9111 section 4.4, RFC 9875 section 3), and the answer to a POST that
//! stands for its URL (RFC 9110 section 9.3.3).

use std::sync::Arc;

use actix_web::dev::ServiceRequest;
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use url::Url;

use crate::clock::Timestamp;
use crate::engine::Engine;
use crate::exchange::behind;
use crate::exchange::fill::Fill;
use crate::fence::{Fence, FenceId, Stamp};
use crate::fields::lines;
use crate::handle::tell_failure;
use crate::head::RequestFields;
use crate::policy::rules::Wishes;
use crate::policy::tags;
use crate::request::{self, Asked};
use crate::scope::Scope;
use crate::status::BypassReason;
use crate::stored::pattern::Line;

/// A request that may change its target.
pub(crate) struct Write {
    url: FenceId,
    authority: Vec<u8>,
    /// The target, to resolve what the answer names against.
    base: Option<Url>,
    posted: Option<Posted>,
}

/// What is needed to store the answer to a POST for GET.
struct Posted {
    asked: Asked,
    stamp: Stamp,
    began: Timestamp,
    fields: Vec<Line>,
}

impl Write {
    /// Before it runs.
    pub(crate) async fn begin(scope: &Scope, req: &ServiceRequest, reason: BypassReason) -> Self {
        let authority = request::sent_authority(req.request()).unwrap_or_default();
        let target = req.uri().path_and_query().map_or("/", |target| target.as_str());
        let base = Url::parse(&format!("http://{}{target}", String::from_utf8_lossy(&authority))).ok();
        let may_be_stored = scope.settings.rules.to_the_letter
            && *req.method() == Method::POST
            && reason == BypassReason::Method
            && !scope.settings.skip.as_ref().is_some_and(|skip| skip(req));
        let posted = if may_be_stored { Posted::begin(scope, req).await } else { None };
        Self { url: scope.url_fence(req), authority, base, posted }
    }

    /// After it has succeeded: what was stored of its target, of the groups and of the URLs that its answer names is
    /// gone when this returns. Gives the fill by which the answer is stored for its target, where it may be.
    pub(crate) async fn end(
        self,
        scope: &Arc<Scope>,
        answer: &HeaderMap,
        wishes: &Wishes,
    ) -> Option<Box<Fill>> {
        let lines = answer.get_all("cache-group-invalidation").map(HeaderValue::as_bytes);
        let groups = lines.flat_map(tags::strings).map(|group| scope.tag_fence(&group));
        let named = [header::LOCATION, header::CONTENT_LOCATION].into_iter().filter_map(|name| {
            let url = self.named(answer, &name)?;
            let fence = |path: &str, query| scope.fence(scope.target_fence(&self.authority, path, query));
            let as_written = answer.get(&name)?.to_str().ok().and_then(target_as_written);
            let as_written = as_written.map(|(path, query)| fence(path, query));
            Some([fence(url.path(), url.query())].into_iter().chain(as_written))
        });
        let fences: Vec<Fence> =
            [scope.fence(self.url)].into_iter().chain(groups).chain(named.flatten()).collect();

        let stands_for_target =
            self.base.is_some() && self.named(answer, &header::CONTENT_LOCATION) == self.base;
        let posted = self.posted.filter(|_| stands_for_target && wishes.key.is_none());
        let posted = posted.and_then(|posted| posted.named(scope, self.url, answer, wishes));
        let engine = Arc::clone(&scope.engine);
        let (posted, stamp) = behind::to_the_end(async move {
            let settled = match posted {
                Some((posted, names)) => posted.settle(&engine, &names).await,
                None => None,
            };
            let raised = engine.raise(&fences).await;
            // The clock may have been moved on by somebody else's.
            let settled = settled.filter(|_| raised.is_ok());
            tell_failure(raised);
            settled?.after_its_raise(&engine).await
        })
        .await??;
        let Posted { asked, began, fields, .. } = posted;
        Some(Box::new(Fill {
            scope: Arc::clone(scope),
            flight: asked.key.clone(),
            asked,
            url: Some(self.url),
            stamp,
            began,
            range: None,
            duty: None,
            posted: true,
            fields,
            inherited: Vec::new(),
        }))
    }

    /// The URL that a field of the answer names, if it is of the same origin.
    ///
    /// The scheme is left out: whoever ends TLS before the application makes it look like another one.
    fn named(&self, answer: &HeaderMap, name: &HeaderName) -> Option<Url> {
        let base = self.base.as_ref()?;
        let mut url = base.join(answer.get(name)?.to_str().ok()?).ok()?;
        url.set_fragment(None);
        let is_web = matches!(url.scheme(), "http" | "https");
        (is_web && url.host() == base.host() && url.port() == base.port()).then_some(url)
    }
}

/// Path and query of an absolute reference as they are written: keys are made of what is sent, and the parser of URLs
/// writes some of it otherwise.
fn target_as_written(reference: &str) -> Option<(&str, Option<&str>)> {
    let reference = reference.split('#').next()?.trim();
    let behind_authority = reference.split_once("://").map(|(_, rest)| rest);
    let target = match behind_authority.or_else(|| reference.strip_prefix("//")) {
        Some(rest) => rest.get(rest.find('/')?..)?,
        None => reference.starts_with('/').then_some(reference)?,
    };
    Some(match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    })
}

impl Posted {
    async fn begin(scope: &Scope, req: &ServiceRequest) -> Option<Self> {
        let (fields, host) = RequestFields::read(req.headers());
        if fields.upgrade || fields.overrides {
            return None;
        }
        let asked = request::ask(&scope.settings, req, &Method::GET, (fields, host), None).ok()?;
        let stamp = scope.engine.get(&asked.key).await.stamp;
        Some(Self { asked, stamp, began: scope.engine.clock.at(), fields: lines(req.headers()) })
    }

    /// With the fences that name its answer; none if it may not be stored for its tags.
    fn named(
        self,
        scope: &Scope,
        url: FenceId,
        answer: &HeaderMap,
        wishes: &Wishes,
    ) -> Option<(Self, Vec<FenceId>)> {
        let groups: Vec<_> =
            answer.get_all("cache-groups").map(|groups| groups.as_bytes().to_vec()).collect();
        let tags = tags::collect(wishes.tags.clone(), &groups).ok()?;
        let namespace = &scope.settings.namespace;
        let mut fences = namespace.fences().to_vec();
        fences.extend([url, self.asked.key.target_fence()]);
        fences.extend(tags.iter().map(|tag| namespace.tag_fence(tag)));
        Some((self, fences))
    }

    /// If nothing that names its answer was invalidated while it ran.
    async fn settle(self, engine: &Engine, names: &[FenceId]) -> Option<Settled> {
        // Read first: the check covers all that was raised before this.
        let before = engine.get(&self.asked.key).await.stamp;
        let is_current = engine.is_current(self.stamp, names).await.unwrap_or(false);
        is_current.then_some(Settled { posted: self, before })
    }
}

/// An answer to a POST that nothing has overtaken so far.
struct Settled {
    posted: Posted,
    before: Stamp,
}

impl Settled {
    /// The stamp that it is stored with, after the raise of the write itself: the answer is older than that and carries
    /// a younger stamp, so it must have been the only one. Each raise moves the clock on.
    async fn after_its_raise(self, engine: &Engine) -> Option<(Posted, Stamp)> {
        let stamp = engine.get(&self.posted.asked.key).await.stamp;
        (stamp.0 == self.before.0 + 1).then_some((self.posted, stamp))
    }
}
