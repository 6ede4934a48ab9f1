//! Lookups on their way: from a request's own key, over a name, varying fields and languages, to a response.

use std::sync::Arc;

use actix_web::http::header::{self, HeaderMap};

use crate::fence::Stamp;
use crate::head;
use crate::key::CacheKey;
use crate::policy::selecting;
use crate::storage::interface::Lookup;
use crate::stored::entry::{Content, Entry, Selector};
use crate::stored::response::StoredResponse;

/// What a lookup found after it followed aliases and varying fields.
#[derive(Clone, Default)]
pub(crate) struct Found {
    /// The entry of the stored response that this request selects.
    pub(crate) entry: Option<Arc<Entry>>,
    /// The entry on the way that says which fields the answers vary on.
    pub(crate) varies: Option<Arc<Entry>>,
    /// Where it is, or would be, if not at the request's own key.
    pub(crate) at: Option<CacheKey>,
    /// The entry that leads from the request's own key to a name that its handler chose.
    pub(crate) name: Option<Arc<Entry>>,
    /// The fence clock before the lookup.
    pub(crate) stamp: Stamp,
    /// The storage was in trouble: it says nothing of what there is.
    pub(crate) is_blind: bool,
}

/// A request's key leads to a response through at most an alias, one level of varying fields, and the alias of a
/// language.
pub(crate) const MOST_STEPS: usize = 5;

impl Found {
    /// The stored response that this request selects.
    pub(crate) fn stored(&self) -> Option<&Arc<StoredResponse>> {
        self.entry.as_deref()?.response()
    }

    /// The key a fill of this request is known by.
    pub(crate) fn key<'a>(&'a self, own: &'a CacheKey) -> &'a CacheKey {
        self.at.as_ref().unwrap_or(own)
    }
}

/// A lookup on its way from a request's own key to the response.
pub(crate) struct Walk<'a> {
    request: &'a HeaderMap,
    pub(crate) found: Found,
    /// The request's own variant, and the one in its language: a second place to look.
    in_language: Option<(CacheKey, CacheKey)>,
    /// Where nothing was.
    own_variant: Option<CacheKey>,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(stamp: Stamp, request: &'a HeaderMap) -> Self {
        let found = Found { stamp, ..Found::default() };
        Self { request, found, in_language: None, own_variant: None }
    }

    /// Takes a lookup in; says where to look next.
    pub(crate) fn follow(&mut self, lookup: Lookup) -> Option<CacheKey> {
        let Some(entry) = lookup.entry else {
            let (own, in_language) = self.in_language.take()?;
            self.own_variant = Some(own);
            return Some(in_language);
        };
        match &entry.content {
            Content::Response(_) => {
                self.found.entry = Some(entry);
                None
            }
            Content::Alias(key) => {
                let next = CacheKey::clone(key);
                if self.found.varies.is_none() {
                    self.found.name = Some(entry);
                }
                Some(next)
            }
            Content::Varies(varies) => {
                let next = selected(entry.key(), &varies.by, self.request);
                let in_language = in_preferred_language(entry.key(), &varies.by, self.request);
                self.in_language = in_language.map(|key| (next.clone(), key));
                self.found.varies = Some(entry);
                Some(next)
            }
        }
    }

    /// A request that found nothing has its place where its own variant would be.
    pub(crate) fn end(self) -> Found {
        let mut found = self.found;
        if found.entry.is_none()
            && let Some(own) = self.own_variant
        {
            found.at = Some(own);
        }
        found
    }
}

/// The key of the variant that a request selects (RFC 9111 section 4.1).
pub(crate) fn selected(base: &CacheKey, by: &Selector, request: &HeaderMap) -> CacheKey {
    base.variant(by.names.iter().map(|name| (name.as_str(), head::selecting(request, name, by.normalised))))
}

/// The key of the variant in a language, whatever the list was that selected it: the other fields are the request's.
pub(crate) fn spoken_in(
    language: &[u8],
    base: &CacheKey,
    by: &Selector,
    request: &HeaderMap,
) -> Option<CacheKey> {
    let tells_languages_apart = by.normalised && by.names.contains(&header::ACCEPT_LANGUAGE);
    tells_languages_apart.then(|| {
        base.variant(by.names.iter().map(|name| match *name {
            header::ACCEPT_LANGUAGE => (header::CONTENT_LANGUAGE.as_str(), Some(language.to_vec())),
            _ => (name.as_str(), head::selecting(request, name, true)),
        }))
    })
}

/// The key of the variant in the language that a request wants most (RFC 9110 section 12.5.4).
fn in_preferred_language(base: &CacheKey, by: &Selector, request: &HeaderMap) -> Option<CacheKey> {
    if !by.normalised {
        return None;
    }
    let wanted = selecting::preferred(&head::combined(request, &header::ACCEPT_LANGUAGE)?)?;
    spoken_in(&wanted, base, by, request)
}
