//! One scope: its settings, the engine it shares, and the fences it can raise.

use std::sync::Arc;

use actix_web::dev::ServiceRequest;
use actix_web::http::Uri;

use crate::engine::Engine;
use crate::fence::{Fence, FenceId};
use crate::key::{CacheKey, KeyWriter, Part};
use crate::request::{GET_CLASS, sent_authority, write_target};
use crate::settings::{HostPolicy, KeyRule, Settings};
use crate::status::{BypassReason, NotStoredReason, Said};
use crate::storage::error::StorageError;
use crate::stored::entry::{Content, Entry};

pub(crate) struct Scope {
    pub(crate) settings: Settings,
    pub(crate) engine: Arc<Engine>,
    said: Said,
}

impl Scope {
    pub(crate) fn new(settings: Settings, engine: Arc<Engine>) -> Self {
        Self { settings, engine, said: Said::default() }
    }

    /// Whether answers tell the keys of their requests.
    pub(crate) fn shows_key(&self) -> bool {
        self.settings.cache_status.as_ref().is_some_and(|status| status.shows_key)
    }

    pub(crate) fn say_bypass(&self, reason: BypassReason) {
        self.said.bypass(reason, self.settings.namespace.parts());
    }

    pub(crate) fn say_not_stored(&self, reason: NotStoredReason) {
        self.said.not_stored(reason, self.settings.namespace.parts());
    }

    /// The entry that a manual call names.
    pub(crate) fn named_key(&self, name: &str) -> CacheKey {
        let mut key = KeyWriter::new(self.settings.namespace.prefix());
        key.name(name);
        key.part(Part::Method, GET_CLASS);
        key.finish()
    }

    /// The entry of a plain GET for a URL, over one scheme.
    fn url_key(&self, authority: &[u8], path: &str, query: Option<&str>, scheme: &str) -> CacheKey {
        let mut key = KeyWriter::new(self.settings.namespace.prefix());
        write_target(&self.settings, authority, path, query, &mut key);
        if self.settings.host == HostPolicy::AsSent {
            key.part(Part::Scheme, scheme.as_bytes());
        }
        key.end_origin();
        key.part(Part::Method, GET_CLASS);
        key.finish()
    }

    /// The fence of the URL a request names, where that is not the target of its key.
    pub(crate) fn own_url_fence(&self, req: &ServiceRequest) -> Option<FenceId> {
        (!matches!(self.settings.key, KeyRule::Url)).then(|| self.url_fence(req))
    }

    /// The fence of the URL a request names, whatever its entry is called.
    pub(crate) fn url_fence(&self, req: &ServiceRequest) -> FenceId {
        let uri = req.uri();
        self.target_fence(&sent_authority(req.request()).unwrap_or_default(), uri.path(), uri.query())
    }

    /// The fence of a URL under an authority as it was sent.
    pub(crate) fn target_fence(&self, authority: &[u8], path: &str, query: Option<&str>) -> FenceId {
        self.url_key(self.authority(Some(authority)), path, query, "").target_fence()
    }

    /// The authority that keys have for one that was sent.
    fn authority<'a>(&'a self, sent: Option<&'a [u8]>) -> &'a [u8] {
        match &self.settings.host {
            HostPolicy::AsSent => sent.unwrap_or_default(),
            HostPolicy::Fixed(host) => host.as_bytes(),
            HostPolicy::Ignore => b"",
        }
    }

    /// A fence inside this scope's namespace.
    pub(crate) fn fence(&self, id: FenceId) -> Fence {
        Fence { id, within: self.settings.namespace.fence() }
    }

    /// Drops all that is stored under a name; tells how many entries that were.
    pub(crate) async fn invalidate_name(&self, name: &str) -> Result<u64, StorageError> {
        let key = self.named_key(name);
        let dropped = self.count(&key).await;
        self.engine.raise(&[self.fence(key.target_fence())]).await?;
        Ok(dropped)
    }

    /// Drops all that is stored for a URL; `authority` where the URL names none itself.
    pub(crate) async fn invalidate_url(
        &self,
        url: &str,
        authority: Option<&[u8]>,
    ) -> Result<u64, StorageError> {
        let uri: Uri =
            url.parse().map_err(|error| StorageError::with_source("not a URL to invalidate", error))?;
        let own = uri.authority().map(|authority| authority.as_str().as_bytes());
        let sent = own.or(authority);
        if sent.is_none() && self.settings.host == HostPolicy::AsSent {
            return Err(StorageError::new(
                "a URL to invalidate outside a request needs its host, as in http://shop.example/path",
            ));
        }
        let authority = self.authority(sent);
        let key = |scheme| self.url_key(authority, uri.path(), uri.query(), scheme);
        let (plain, secure) = (key("http"), key("https"));
        let mut dropped = self.count(&plain).await;
        if secure != plain {
            dropped += self.count(&secure).await;
        }
        self.engine.raise(&[self.fence(plain.target_fence())]).await?;
        Ok(dropped)
    }

    /// The fence of a tag, which all scopes of the root share.
    pub(crate) fn tag_fence(&self, tag: &str) -> Fence {
        let namespace = &self.settings.namespace;
        Fence { id: namespace.tag_fence(tag), within: namespace.root_fence() }
    }

    pub(crate) async fn invalidate_tags(&self, tags: &[String]) -> Result<(), StorageError> {
        let fences: Vec<Fence> = tags.iter().map(|tag| self.tag_fence(tag)).collect();
        self.engine.raise(&fences).await
    }

    pub(crate) async fn invalidate_namespace(&self) -> Result<(), StorageError> {
        self.engine.raise(&[Fence { id: self.settings.namespace.fence(), within: FenceId::ALL }]).await
    }

    pub(crate) async fn clear(&self) -> Result<(), StorageError> {
        self.engine.raise(&[Fence { id: FenceId::ALL, within: FenceId::ALL }]).await
    }

    /// The live responses under a key: one, its variants, or those it stands for.
    async fn count(&self, key: &CacheKey) -> u64 {
        let Some(entry) = self.engine.get(key).await.entry else {
            return 0;
        };
        match &entry.content {
            Content::Response(_) => 1,
            Content::Varies(varies) => {
                let mut live = 0;
                for variant in &varies.variants {
                    live += u64::from(self.engine.get(variant).await.entry.is_some());
                }
                live
            }
            Content::Alias(target) => {
                let target: Option<Arc<Entry>> = self.engine.get(target).await.entry;
                u64::from(target.is_some())
            }
        }
    }
}
