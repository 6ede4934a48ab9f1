//! Namespaces: whose entries these are.

use crate::fence::FenceId;
use crate::key;

/// What [`CacheConfig::scoped`](crate::CacheConfig::scoped) does with the name it is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NamespacePolicy {
    /// It is added: `scoped("users")` of `api` is the pair (api, users). The default.
    #[default]
    Concat,
    /// It takes the place of all there was: `scoped("users")` of `api` is users.
    Replace,
}

/// A list of names; neither can be forged by another (`ab`, `c` is never `a`, `bc`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Namespace {
    parts: Vec<String>,
    /// How many of the parts are the root's: tags are shared by all who have these in common.
    root: usize,
    /// The start of every key in it.
    prefix: Vec<u8>,
    /// The fences of this namespace and of all around it, the widest first.
    fences: Vec<FenceId>,
}

impl Namespace {
    /// A namespace that scopes share tags in.
    pub(crate) fn root(parts: Vec<String>) -> Self {
        let root = parts.len();
        Self::new(parts, root)
    }

    fn new(parts: Vec<String>, root: usize) -> Self {
        let prefix = key::namespace(&parts);
        let fences = (0..=parts.len())
            .map(|width| FenceId::of(b"namespace", &key::namespace(parts.get(..width).unwrap_or_default())))
            .collect();
        Self { parts, root, prefix, fences }
    }

    pub(crate) fn child(&self, name: String, policy: NamespacePolicy) -> Self {
        match policy {
            NamespacePolicy::Replace => Self::root(vec![name]),
            NamespacePolicy::Concat => {
                let mut parts = self.parts.clone();
                parts.push(name);
                Self::new(parts, self.root)
            }
        }
    }

    pub(crate) fn prefix(&self) -> &[u8] {
        &self.prefix
    }

    pub(crate) fn parts(&self) -> &[String] {
        &self.parts
    }

    pub(crate) fn fences(&self) -> &[FenceId] {
        &self.fences
    }

    /// The fence of this namespace alone.
    pub(crate) fn fence(&self) -> FenceId {
        self.fences.last().copied().unwrap_or(FenceId::ALL)
    }

    /// The fence of a tag: tags belong to the root, so that one scope can purge another's pages.
    pub(crate) fn tag_fence(&self, tag: &str) -> FenceId {
        let root = key::namespace(self.parts.get(..self.root).unwrap_or_default());
        FenceId::of(b"tag", &[root.as_slice(), tag.as_bytes()].concat())
    }

    /// The fence around the tags.
    pub(crate) fn root_fence(&self) -> FenceId {
        self.fences.get(self.root).copied().unwrap_or(FenceId::ALL)
    }
}
