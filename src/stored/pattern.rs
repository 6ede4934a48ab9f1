//! Names and values that the field lines of many answers have in common, kept once for the process.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, RandomState};
use std::sync::{LazyLock, Mutex, PoisonError};

use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::web::Bytes;

use crate::key_hash::IsHash;

/// A field line.
pub(crate) type Line = (HeaderName, HeaderValue);

/// Lines that answers are like, name by name. It lives as long as the process, and its names and values count no
/// references: to clone them costs next to nothing, on however many cores.
pub(crate) struct Pattern(Vec<Line>);

/// The patterns of the process: few, for they stay.
#[derive(Default)]
struct Patterns {
    families: HashMap<u64, Family, BuildHasherDefault<IsHash>>,
    seed: RandomState,
    bytes: usize,
}

/// Those that have the same names, or names that look the same at a glance.
#[derive(Default)]
struct Family {
    patterns: Vec<&'static Pattern>,
    /// Hashes of the values of the last answer that was not much like any of them.
    last: Vec<u64>,
}

static PATTERNS: LazyLock<Mutex<Patterns>> = LazyLock::new(Mutex::default);

/// All patterns together are smaller than this.
const MOST_BYTES: usize = 128 << 10;
const MOST_FAMILIES: usize = 256;
const MOST_OF_A_FAMILY: usize = 8;
/// As many lines as there are bits to tell which differ.
const MOST_LINES: usize = u32::BITS as usize;
/// Longer values are not shared, nor are longer names.
const LONGEST: usize = 256;
/// An answer that differs from a pattern in no more lines than these is enough like it: tags and dates always do.
const FEW: u32 = 3;

/// What an answer has in common with others.
#[derive(Clone, Copy)]
pub(crate) struct Fit {
    /// What it is most like.
    pub(crate) pattern: &'static Pattern,
    /// Bit by bit, the lines whose values differ from the pattern's.
    pub(crate) differs: u32,
    /// Bytes of the pattern, if it was made of this answer.
    pub(crate) made: u32,
}

/// Finds the pattern that an answer is most like.
///
/// The first answer with its names becomes a pattern; after that, what two answers in a row have in common, if there is
/// none that is as like them.
pub(crate) fn of(lines: &[Line]) -> Option<Fit> {
    if lines.is_empty() || lines.len() > MOST_LINES {
        return None;
    }
    let mut patterns = PATTERNS.lock().unwrap_or_else(PoisonError::into_inner);
    let patterns = &mut *patterns;
    let names = family_of(lines);
    if patterns.families.len() >= MOST_FAMILIES && !patterns.families.contains_key(&names) {
        return None;
    }
    let family = patterns.families.entry(names).or_default();
    let likest = family.likest(lines);
    if likest.is_some_and(|fit| fit.differs.count_ones() <= FEW) {
        return likest;
    }
    let hash = |(_, value): &Line| patterns.seed.hash_one(value.as_bytes());
    let values: Vec<u64> = lines.iter().map(hash).collect();
    let last = std::mem::replace(&mut family.last, values);
    let is_first = family.patterns.is_empty();
    let is_common =
        |at: usize| is_first || last.get(at).is_some_and(|last| family.last.get(at) == Some(last));
    let common = (0..lines.len()).filter(|at| is_common(*at)).count();
    let shared = likest.map_or(0, |fit| lines.len() - fit.differs.count_ones() as usize);
    let bytes: usize =
        lines.iter().map(|line| size_of::<Line>() + line.0.as_str().len() + line.1.len()).sum();
    if common > shared
        && family.patterns.len() < MOST_OF_A_FAMILY
        && patterns.bytes + bytes <= MOST_BYTES
        && let Some(pattern) = Pattern::new(lines, is_common)
    {
        patterns.bytes += bytes;
        family.patterns.push(Box::leak(Box::new(pattern)));
        return family.likest(lines).map(|fit| Fit { made: u32::try_from(bytes).unwrap_or(u32::MAX), ..fit });
    }
    likest
}

/// A glance at the names. It need not tell all of them apart: [`Pattern::differs`] does.
fn family_of(lines: &[Line]) -> u64 {
    lines.iter().fold(0, |sum: u64, (name, _)| {
        let name = name.as_str().as_bytes();
        let ends = [name.first(), name.last()].map(|byte| byte.map_or(0, |byte| u64::from(*byte)));
        let glance = ends.into_iter().fold(name.len() as u64, |sum, byte| sum << 8 | byte);
        (sum.rotate_left(5) ^ glance).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    })
}

impl Family {
    fn likest(&self, lines: &[Line]) -> Option<Fit> {
        let alike = self
            .patterns
            .iter()
            .filter_map(|pattern| Some(Fit { pattern, differs: pattern.differs(lines)?, made: 0 }));
        alike.min_by_key(|fit| fit.differs.count_ones())
    }
}

impl Pattern {
    /// Takes over the names, and the values that are common; none if there is a name that cannot stay.
    fn new(lines: &[Line], is_common: impl Fn(usize) -> bool) -> Option<Self> {
        let lines = lines.iter().enumerate().map(|(at, (name, value))| {
            // What is meant for one is not to stay.
            let is_personal = value.is_sensitive() || *name == header::SET_COOKIE;
            let is_shared = is_common(at) && !is_personal && value.len() <= LONGEST;
            let value: &'static [u8] = if is_shared { Box::leak(value.as_bytes().into()) } else { b"" };
            Some((lasting(name)?, HeaderValue::from_maybe_shared(Bytes::from_static(value)).ok()?))
        });
        Some(Self(lines.collect::<Option<_>>()?))
    }

    pub(crate) fn lines(&self) -> &[Line] {
        &self.0
    }

    /// Bit by bit, the lines whose values are others; none if the names are.
    fn differs(&self, lines: &[Line]) -> Option<u32> {
        if self.0.len() != lines.len() {
            return None;
        }
        let mut differs = 0;
        for (at, ((name, value), (shared_name, shared))) in lines.iter().zip(&self.0).enumerate() {
            if name != shared_name {
                return None;
            }
            differs |= u32::from(value != shared || value.is_sensitive()) << at;
        }
        Some(differs)
    }
}

/// A name that counts no references.
fn lasting(name: &HeaderName) -> Option<HeaderName> {
    // `from_static` panics where a name is none, and asks for less than `HeaderName` does in general.
    let is_token =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let name = name.as_str();
    let is_plain = (1..=LONGEST).contains(&name.len()) && name.bytes().all(is_token);
    is_plain.then(|| HeaderName::from_static(Box::leak(name.into())))
}
