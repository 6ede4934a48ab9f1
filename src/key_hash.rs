//! Hashes of keys: one that nobody can choose collisions of, and a quick one.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::LazyLock;

/// Seeded once a process: whoever chooses URLs cannot choose collisions.
static SEED: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// The keyed hash of some bytes; never zero.
pub(crate) fn keyed(bytes: &[u8]) -> u64 {
    // Not by `hash_one`: that hashes the length of the bytes too, which tells no two keys apart.
    let mut hasher = SEED.build_hasher();
    hasher.write(bytes);
    hasher.finish().max(1)
}

/// A hash in a third of the time, without a secret: only for tables where those who collide, on purpose even, go a
/// longer way and lose nothing else.
#[inline]
pub(crate) fn glance(bytes: &[u8]) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |hash: u64, word: &[u8; 8]| (hash.rotate_left(5) ^ u64::from_le_bytes(*word)).wrapping_mul(ODD);
    let (words, _) = bytes.as_chunks::<8>();
    let hash = words.iter().fold(bytes.len() as u64, mix);
    // What is left, with some of what was taken; shorter keys than that there are none but in tests.
    let hash = bytes.last_chunk::<8>().map_or(hash, |last| mix(hash, last));
    // Keys differ in their last bytes mostly, which so far have reached the highest bits alone.
    let folded = (hash ^ hash >> 32).wrapping_mul(ODD);
    folded ^ folded >> 32
}

/// For tables by what is a hash already.
#[derive(Default)]
pub(crate) struct IsHash(u64);

impl Hasher for IsHash {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}
