//! An entry: what a storage keeps under a key.

use std::fmt;
use std::sync::{Arc, OnceLock};

use actix_web::http::header::HeaderName;

use crate::clock::Timestamp;
use crate::fence::{FenceId, Stamp};
use crate::key::CacheKey;
use crate::stored::response::StoredResponse;
use crate::stored::weight::{COUNTERS, allocated};

/// What a storage keeps under a key: a stored response, or where to look for one.
///
/// A storage needs to know four things of it: its [`key`](Self::key), the [`stamp`](Self::stamp) and
/// [`fences`](Self::fences) that decide whether it was invalidated, and how long it is worth keeping.
#[derive(Debug, Clone)]
pub struct Entry {
    pub(crate) key: CacheKey,
    pub(crate) stamp: Stamp,
    pub(crate) began: Timestamp,
    pub(crate) fences: EntryFences,
    pub(crate) keep_until: Timestamp,
    pub(crate) content: Content,
}

/// The fences that name an entry: those of its key, and what it has beyond these.
#[derive(Clone, Default)]
pub(crate) struct EntryFences {
    beyond: Box<[FenceId]>,
    /// Made when they are first asked for: each is a SHA-256, and most entries are gone before anything is raised.
    all: OnceLock<Box<[FenceId]>>,
}

impl EntryFences {
    /// Those of the key, which need not be named, and these.
    pub(crate) fn beyond(fences: Vec<FenceId>) -> Self {
        Self { beyond: fences.into(), all: OnceLock::new() }
    }

    /// These and no others.
    pub(crate) fn exactly(fences: Vec<FenceId>) -> Self {
        Self { beyond: Box::default(), all: OnceLock::from(Box::from(fences)) }
    }

    fn of(&self, key: &CacheKey) -> &[FenceId] {
        self.all.get_or_init(|| {
            let mut all = key.fences();
            // Among several targets the key's own is where it was put.
            if all.last().is_some_and(|target| self.beyond.contains(target)) {
                all.pop();
            }
            all.extend_from_slice(&self.beyond);
            all.into()
        })
    }
}

impl fmt::Debug for EntryFences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.all.get().unwrap_or(&self.beyond)).finish()
    }
}

/// The three things an entry can be.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Content {
    Response(Arc<StoredResponse>),
    /// The answers for this key differ by these request fields (RFC 9111 section 4.1); each has a key of its own.
    Varies(Box<Varies>),
    /// The handler chose another name for this key's answers.
    Alias(Box<CacheKey>),
}

/// The request fields that tell the answers for a key apart, and how their values are compared.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Selector {
    pub(crate) names: Vec<HeaderName>,
    /// In their normal form, where that is known to mean the same; else byte by byte.
    pub(crate) normalised: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Varies {
    pub(crate) by: Selector,
    /// The variants stored so far, oldest first.
    pub(crate) variants: Vec<Arc<CacheKey>>,
}

impl Entry {
    /// The full key; a lookup under any other key must not return this entry.
    #[must_use]
    pub fn key(&self) -> &CacheKey {
        &self.key
    }

    /// The fence clock when the fill of this entry began.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// When the fill began; of two entries for one key the later one stays.
    #[must_use]
    pub fn began(&self) -> Timestamp {
        self.began
    }

    /// Every fence that names this entry: its target, its tags, its namespaces. [`FenceId::ALL`] names it too.
    #[must_use]
    pub fn fences(&self) -> &[FenceId] {
        self.fences.of(&self.key)
    }

    /// After this time nobody will ask for the entry.
    #[must_use]
    pub fn keep_until(&self) -> Timestamp {
        self.keep_until
    }

    /// Bytes this entry occupies in memory, with its share of the allocator's own.
    #[must_use]
    pub fn weight(&self) -> usize {
        let bytes_of = |key: &CacheKey| allocated(COUNTERS + key.as_bytes().len());
        let content = match &self.content {
            Content::Response(response) => response.weight(),
            Content::Varies(varies) => {
                let key = allocated(COUNTERS + size_of::<CacheKey>()) + size_of::<Arc<CacheKey>>();
                let keys: usize = varies.variants.iter().map(|variant| key + bytes_of(variant)).sum();
                let name = |name: &HeaderName| size_of::<HeaderName>() + name.as_str().len();
                allocated(size_of::<Varies>()) + keys + varies.by.names.iter().map(name).sum::<usize>()
            }
            Content::Alias(key) => allocated(size_of::<CacheKey>()) + bytes_of(key),
        };
        // As if all its fences were made, for they may be at any time.
        let all = (self.key.namespace_len() + 2) * size_of::<FenceId>() + size_of_val(&*self.fences.beyond);
        let fences = allocated(size_of_val(&*self.fences.beyond)) + allocated(all);
        allocated(COUNTERS + size_of::<Self>()) + bytes_of(&self.key) + fences + content
    }

    /// A response with nothing shared that is counted, if its body is not larger than that.
    pub(crate) fn copy(&self, largest: usize) -> Option<Self> {
        let response = self.response().filter(|response| response.body().len() <= largest)?;
        Some(Self { content: Content::Response(Arc::new(response.copy())), ..self.clone() })
    }

    pub(crate) fn response(&self) -> Option<&Arc<StoredResponse>> {
        match &self.content {
            Content::Response(response) => Some(response),
            Content::Varies(_) | Content::Alias(_) => None,
        }
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        let whole = |entry: &Self| (entry.stamp, entry.began, entry.keep_until);
        self.key == other.key
            && whole(self) == whole(other)
            && self.content == other.content
            && self.fences() == other.fences()
    }
}
