//! Fences: the marks that invalidations leave.

use sha2::{Digest, Sha256};

/// The name of a thing that can be invalidated: a target, a tag, a namespace, or everything.
///
/// The first 128 bits of a SHA-256 over its kind and text, the same in every process. Two names that met by
/// accident would only drop more than was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FenceId(pub(crate) [u8; 16]);

impl FenceId {
    /// The fence that names every entry of a storage.
    pub const ALL: FenceId = FenceId([0; 16]);

    pub(crate) fn of(kind: &[u8], text: &[u8]) -> Self {
        let mut hasher = Sha256::new();
        hasher.update([u8::try_from(kind.len()).unwrap_or(u8::MAX)]);
        hasher.update(kind);
        hasher.update(text);
        let mut id = [0; 16];
        for (to, from) in id.iter_mut().zip(hasher.finalize()) {
            *to = from;
        }
        Self(id)
    }

    /// The name as bytes, for storages outside this process.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// One invalidation: what is dropped, and the wider fence it may be folded into.
///
/// A storage keeps a bounded number of fences. Past its bound it may forget a narrow one by raising the wider one
/// in its place: more is dropped than was asked, never less.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fence {
    /// What is invalidated.
    pub id: FenceId,
    /// The namespace's fence around it.
    pub within: FenceId,
}

/// A reading of a storage's fence clock.
///
/// A fill that read stamp `s` before its handler began is valid exactly if no fence that names it was raised after
/// `s` was read. Stamps of one storage only grow; stamps of two storages have nothing in common.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp(pub u64);
