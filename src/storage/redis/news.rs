//! What processes tell each other: fences that were raised, and entries that took another one's place.

use crate::fence::{Fence, FenceId, Stamp};
use crate::storage::error::StorageError;
use crate::stored::entry::{Content, Entry, EntryFences};

/// One message.
pub(crate) enum News {
    /// Fences, and the time of the fence clock.
    Raised(Vec<Fence>, Stamp),
    /// An entry of this key, stamp and begin was put, by whom its one fence names.
    Replaced(Entry),
}

/// What to tell of an entry that takes another one's place: itself without its content, in the frame that entries have.
pub(crate) fn replaced(entry: &Entry, writer: FenceId) -> Result<Vec<u8>, StorageError> {
    let content = Content::Alias(Box::new(entry.key().clone()));
    let told = Entry {
        key: entry.key().clone(),
        stamp: entry.stamp(),
        began: entry.began(),
        fences: EntryFences::exactly(vec![writer]),
        keep_until: entry.keep_until(),
        content,
    };
    told.to_bytes()
}

/// Reads a message; none if it is not one of ours.
pub(crate) fn read(message: &[u8]) -> Option<News> {
    if let Some(entry) = Entry::from_bytes(message) {
        return Some(News::Replaced(entry));
    }
    let mut words = str::from_utf8(message).ok()?.split_ascii_whitespace();
    let at = Stamp(words.next()?.parse().ok()?);
    let mut fences = Vec::new();
    while let Some(id) = words.next() {
        fences.push(Fence { id: parse(id)?, within: parse(words.next()?)? });
    }
    Some(News::Raised(fences, at))
}

fn parse(hex: &str) -> Option<FenceId> {
    let mut id = [0; 16];
    if hex.len() != 2 * id.len() {
        return None;
    }
    for (byte, at) in id.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(hex.get(at..at + 2)?, 16).ok()?;
    }
    Some(FenceId(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raised_fences_come_through_and_anything_else_is_no_news() {
        let (id, within) = (FenceId([0x0f; 16]), FenceId([0xf0; 16]));
        let told = format!("1700 {} {}", "0f".repeat(16), "f0".repeat(16));
        let Some(News::Raised(fences, at)) = read(told.as_bytes()) else { panic!("no news") };
        assert_eq!((fences, at), (vec![Fence { id, within }], Stamp(1700)));
        for odd in ["", "x", "1 0f", "1 0f 0f", &told[..told.len() - 1], &format!("{told} é")] {
            assert!(read(odd.as_bytes()).is_none(), "{odd}");
        }
        assert!(read(&[0xff; 40]).is_none());
    }
}
