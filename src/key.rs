//! What names an entry: the full identity of a request, and a quick hash of it.

use std::cell::Cell;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::fence::FenceId;
use crate::key_hash;

/// The name of one entry: its namespace, its target, and every part of the request that may tell answers apart.
///
/// Two keys are equal only if all their bytes are; the hash is a way to find an entry, never a proof that it is
/// the right one. The bytes may hold a query or a header of the request: they are never printed.
pub struct CacheKey {
    /// Zero until somebody asks: most hits are found without it.
    hash: AtomicU64,
    bytes: Bytes,
    cuts: Cuts,
}

/// The bytes of a key that is only looked up are in a buffer which the next one takes over; those of one that stays are
/// shared, and no longer than they have to be.
enum Bytes {
    Lent(Vec<u8>),
    Shared(Arc<[u8]>),
}

/// Where the parts of a key end: first the target (namespace, and URL or chosen name), then what tells one URL's
/// origins apart (scheme, host, forwarded host), then what tells answers apart (method, fields, principal, body).
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cuts {
    target: usize,
    origin: usize,
}

impl CacheKey {
    /// A 64-bit hash of the key, keyed by a secret of this process; not for storage outside it.
    #[must_use]
    pub fn hash64(&self) -> u64 {
        match self.hash.load(Relaxed) {
            0 => {
                let hash = key_hash::keyed(self.as_bytes());
                self.hash.store(hash, Relaxed);
                hash
            }
            hash => hash,
        }
    }

    /// A quick hash without a secret: see [`key_hash::glance`].
    #[inline]
    pub(crate) fn glance(&self) -> u64 {
        key_hash::glance(self.as_bytes())
    }

    /// The whole identity, length-prefixed part by part.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Lent(bytes) => bytes,
            Bytes::Shared(bytes) => bytes,
        }
    }

    /// SHA-256 of the identity, the same in every process; a name for storages outside this one.
    ///
    /// Storages keep the full key inside the entry and compare it: see [`Storage::get`](crate::Storage::get).
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.as_bytes()).into()
    }

    /// The first half of the digest, in hexadecimal digits: tells keys apart, and nothing of the request.
    pub(crate) fn short_name(&self) -> String {
        self.digest().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }

    /// The parts of its namespace, the outermost first: for names that an operator can read.
    #[must_use]
    pub fn namespace(&self) -> Vec<&[u8]> {
        let mut parts = Vec::new();
        let mut rest = self.as_bytes().get(2..).unwrap_or_default();
        for _ in 0..self.namespace_len() {
            let Some((part, behind)) = read_part(rest) else { break };
            parts.push(part);
            rest = behind;
        }
        parts
    }

    pub(crate) fn namespace_len(&self) -> usize {
        self.as_bytes().get(1).copied().unwrap_or(0).into()
    }

    /// The fences that name every entry of this key, known before any is looked up: those of its namespaces and of its
    /// target. An entry has all of these, and may have more: its tags, and names that its handler chose.
    #[must_use]
    pub fn fences(&self) -> Vec<FenceId> {
        let parts: Vec<String> =
            self.namespace().into_iter().map(|part| String::from_utf8_lossy(part).into_owned()).collect();
        let of_namespace =
            |width| FenceId::of(b"namespace", &namespace(parts.get(..width).unwrap_or_default()));
        (0..=parts.len()).map(of_namespace).chain([self.target_fence()]).collect()
    }

    /// The fence that drops every entry of this key's target, in all methods and variants.
    pub(crate) fn target_fence(&self) -> FenceId {
        FenceId::of(b"target", self.as_bytes().get(..self.cuts.target).unwrap_or(self.as_bytes()))
    }

    /// This key with the values of the varying fields added: the second level of RFC 9111 section 4.1.
    pub(crate) fn variant<'a>(&self, fields: impl Iterator<Item = (&'a str, Option<Vec<u8>>)>) -> CacheKey {
        let mut writer = KeyWriter::after(self);
        for (name, value) in fields {
            writer.field(name, value.as_deref());
        }
        writer.finish()
    }

    /// The key of the part that a `Range` asked for; without one, of the part that was stored last.
    pub(crate) fn ranged(&self, range: Option<&[u8]>) -> CacheKey {
        let mut writer = KeyWriter::after(self);
        writer.part(Part::Range, range.unwrap_or_default());
        writer.finish()
    }

    /// The key of the same request under a name of the handler's choice: everything that tells answers apart stays.
    pub(crate) fn renamed(&self, namespace: &[u8], name: &str) -> CacheKey {
        let mut writer = KeyWriter::new(namespace);
        writer.name(name);
        writer.bytes.extend_from_slice(self.as_bytes().get(self.cuts.origin..).unwrap_or_default());
        writer.finish()
    }

    /// Another key with the same hash, as no luck would bring one about: what the conformance suite asks storages with.
    pub(crate) fn with_same_hash(&self) -> CacheKey {
        let bytes = [self.as_bytes(), b"twin"].concat();
        CacheKey { hash: self.hash64().into(), bytes: Bytes::Shared(bytes.into()), cuts: self.cuts }
    }

    pub(crate) fn cuts(&self) -> Cuts {
        self.cuts
    }

    /// A key read back from a stored frame, unless its parts do not fit.
    pub(crate) fn from_stored(bytes: Vec<u8>, cuts: Cuts) -> Option<CacheKey> {
        let fits = cuts.target <= cuts.origin && cuts.origin <= bytes.len();
        fits.then(|| KeyWriter { bytes, cuts }.finish())
    }

    /// Makes it one that stays: its clones cost no copy, and have its hash.
    pub(crate) fn share(&mut self) {
        let _ = self.hash64();
        if let Bytes::Lent(bytes) = &mut self.bytes {
            let lent = std::mem::take(bytes);
            self.bytes = Bytes::Shared(lent.as_slice().into());
            SPARE.with(|spare| spare.set(lent));
        }
    }

    /// Lets the next key of this thread be built without an allocation.
    pub(crate) fn recycle(self) {
        if let Bytes::Lent(bytes) = self.bytes {
            SPARE.with(|spare| spare.set(bytes));
        }
    }
}

impl Clone for CacheKey {
    fn clone(&self) -> Self {
        let bytes = match &self.bytes {
            Bytes::Lent(bytes) => bytes.as_slice().into(),
            Bytes::Shared(bytes) => Arc::clone(bytes),
        };
        Self { hash: self.hash64().into(), bytes: Bytes::Shared(bytes), cuts: self.cuts }
    }
}

impl PartialEq for CacheKey {
    fn eq(&self, other: &Self) -> bool {
        // Of two that differ nearly all differ by their hashes, where both are known.
        let (one, two) = (self.hash.load(Relaxed), other.hash.load(Relaxed));
        (one == two || one == 0 || two == 0) && self.as_bytes() == other.as_bytes()
    }
}

impl Eq for CacheKey {}

impl Hash for CacheKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash64());
    }
}

impl fmt::Debug for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CacheKey({:016x})", self.hash64())
    }
}

thread_local! {
    /// The buffer of the last key that was only looked up.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// What a part of a key is; the number is in stored keys and is never given another meaning.
#[derive(Clone, Copy)]
#[repr(u8)]
pub(crate) enum Part {
    Namespace = 1,
    Name = 2,
    Authority = 3,
    Path = 4,
    Query = 5,
    Method = 6,
    Scheme = 7,
    Host = 8,
    Forwarded = 9,
    Vary = 10,
    VaryAbsent = 11,
    Cookie = 12,
    Principal = 13,
    Extra = 14,
    Body = 15,
    NoQuery = 16,
    Range = 17,
}

/// The layout of keys; part of each key, so that layouts never meet.
const LAYOUT: u8 = 1;

/// Writes a key part by part, each with its kind and length, so that no two lists of parts read the same.
pub(crate) struct KeyWriter {
    bytes: Vec<u8>,
    cuts: Cuts,
}

impl KeyWriter {
    /// Starts a key in a namespace, given as the bytes [`namespace`] made of it.
    #[inline(always)] // as `finish_lent`
    pub(crate) fn new(namespace: &[u8]) -> Self {
        let mut bytes = SPARE.with(Cell::take);
        bytes.clear();
        // Room for most keys at once, where the last one was kept; else this is one comparison.
        bytes.reserve(USUAL_KEY_BYTES);
        bytes.extend_from_slice(namespace);
        Self { bytes, cuts: Cuts::default() }
    }

    /// Goes on where another key ends.
    fn after(key: &CacheKey) -> Self {
        let mut bytes = SPARE.with(Cell::take);
        bytes.clear();
        bytes.extend_from_slice(key.as_bytes());
        Self { bytes, cuts: key.cuts }
    }

    #[inline(always)] // as `finish_lent`
    pub(crate) fn part(&mut self, kind: Part, value: &[u8]) {
        // Nearly all lengths are one byte, and then kind and length are one write.
        match u8::try_from(value.len()) {
            Ok(len @ 0..128) => self.bytes.extend_from_slice(&[kind as u8, len]),
            _ => {
                self.bytes.push(kind as u8);
                write_len(&mut self.bytes, value.len());
            }
        }
        self.bytes.extend_from_slice(value);
    }

    /// A part that is known as it is written: at once, where [`part`](Self::part) takes two steps.
    #[inline(always)] // as `finish_lent`
    pub(crate) fn written(&mut self, part: &'static [u8]) {
        self.bytes.extend_from_slice(part);
    }

    /// A part made of pieces that cannot hold the separator.
    pub(crate) fn part_of(&mut self, kind: Part, pieces: &[&str], separator: &str) {
        let len = pieces.iter().map(|piece| piece.len()).sum::<usize>()
            + separator.len() * pieces.len().saturating_sub(1);
        self.bytes.push(kind as u8);
        write_len(&mut self.bytes, len);
        for (at, piece) in pieces.iter().enumerate() {
            if at > 0 {
                self.bytes.extend_from_slice(separator.as_bytes());
            }
            self.bytes.extend_from_slice(piece.as_bytes());
        }
    }

    /// A request field: absent differs from empty.
    pub(crate) fn field(&mut self, name: &str, value: Option<&[u8]>) {
        match value {
            Some(value) => {
                self.part(Part::Vary, name.as_bytes());
                self.part(Part::Vary, value);
            }
            None => self.part(Part::VaryAbsent, name.as_bytes()),
        }
    }

    /// Names the target by a text instead of its URL.
    pub(crate) fn name(&mut self, name: &str) {
        self.part(Part::Name, name.as_bytes());
        self.end_target();
        self.end_origin();
    }

    /// What was written so far names the target.
    pub(crate) fn end_target(&mut self) {
        self.cuts.target = self.bytes.len();
    }

    /// What was written since the target tells its origins apart.
    pub(crate) fn end_origin(&mut self) {
        self.cuts.origin = self.bytes.len();
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// A key that stays.
    pub(crate) fn finish(self) -> CacheKey {
        let mut key = self.finish_lent();
        key.share();
        key
    }

    /// A key that is looked up, and perhaps no more than that.
    #[inline(always)] // every hit makes one key, and out of line that costs it more
    pub(crate) fn finish_lent(self) -> CacheKey {
        CacheKey { hash: AtomicU64::new(0), bytes: Bytes::Lent(self.bytes), cuts: self.cuts }
    }
}

/// Most keys are shorter than this.
const USUAL_KEY_BYTES: usize = 192;

/// Keys longer than this are not used: the request bypasses the cache.
pub(crate) const MAX_KEY_BYTES: usize = 16 * 1024;

/// The start of every key in a namespace.
pub(crate) fn namespace(parts: &[String]) -> Vec<u8> {
    let mut writer = KeyWriter { bytes: vec![LAYOUT], cuts: Cuts::default() };
    writer.bytes.push(u8::try_from(parts.len()).unwrap_or(u8::MAX));
    for part in parts {
        writer.part(Part::Namespace, part.as_bytes());
    }
    writer.bytes
}

/// A length in as few bytes as it needs, seven bits in each (LEB128): most parts are short, and every byte is hashed.
fn write_len(bytes: &mut Vec<u8>, len: usize) {
    let mut rest = len;
    loop {
        let low = (rest & 127) as u8;
        rest >>= 7;
        if rest == 0 {
            return bytes.push(low);
        }
        bytes.push(low | 128);
    }
}

/// A part that was written at the start of these bytes, and what is behind it.
fn read_part(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (_, mut rest) = bytes.split_first()?;
    let mut len = 0_usize;
    for shift in (0..usize::BITS).step_by(7) {
        let (byte, behind) = rest.split_first()?;
        len |= usize::from(byte & 127).checked_shl(shift)?;
        rest = behind;
        if byte & 128 == 0 {
            return rest.split_at_checked(len);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(parts: &[&str]) -> CacheKey {
        let mut writer = KeyWriter::new(&namespace(&["n".to_owned()]));
        for part in parts {
            writer.part(Part::Name, part.as_bytes());
        }
        writer.finish()
    }

    #[test]
    fn parts_cannot_forge_each_other() {
        assert_ne!(key(&["ab", "c"]), key(&["a", "bc"]));
        assert_ne!(key(&["a", ""]), key(&["a"]));
        let forged = format!("a{}{}", '\u{2}', "\u{1}\0\0\0b");
        assert_ne!(key(&["a", "b"]), key(&[&forged]));
    }

    #[test]
    fn namespaces_are_pairs_not_strings() {
        let pair = |a: &str, b: &str| namespace(&[a.to_owned(), b.to_owned()]);
        assert_ne!(pair("ab", "c"), pair("a", "bc"));
        assert_ne!(namespace(&["a".to_owned()]), pair("a", ""));
    }

    #[test]
    fn absent_differs_from_empty() {
        let base = key(&["x"]);
        let absent = base.variant([("accept", None)].into_iter());
        let empty = base.variant([("accept", Some(Vec::new()))].into_iter());
        assert_ne!(absent, empty);
    }

    #[test]
    fn glances_at_keys_that_hardly_differ_are_spread() {
        let keys: [fn(&str) -> CacheKey; 3] = [
            |number| key(&["/product/list", number]),
            |number| key(&[number, "en", "GET"]),
            |number| key(&["/product", &format!("page={number}&per=20&sort=name"), "https", "GET"]),
        ];
        for key in keys {
            let place = |number: usize| key(&number.to_string()).glance() % 1_024;
            let places: std::collections::HashSet<u64> = (0..1_000).map(place).collect();
            // By chance there would be 639.
            assert!((600..700).contains(&places.len()), "{}", places.len());
        }
    }

    #[test]
    fn debug_shows_nothing_of_the_request() {
        assert!(!format!("{:?}", key(&["token=secret"])).contains("secret"));
    }
}
