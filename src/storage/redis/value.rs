//! What stands under an entry's name: what two entries of one key are compared by, then the entry in its frame.

use std::time::Duration;

use actix_web::web::Bytes;

use crate::storage::error::StorageError;
use crate::storage::redis::names::hex;
use crate::stored::entry::Entry;

/// The length of what stands in front of the frame.
pub(crate) const ORDER: usize = 32;

pub(crate) fn write(entry: &Entry) -> Result<Vec<u8>, StorageError> {
    Ok([order(entry).as_bytes(), &entry.to_bytes()?].concat())
}

/// The entry that these bytes say, which keeps them; none if they are not whole, or not as they were written.
pub(crate) fn read(bytes: &Bytes) -> Option<Entry> {
    let (told, frame) = bytes.split_at_checked(ORDER)?;
    Entry::from_shared(&bytes.slice_ref(frame)).filter(|entry| order(entry).as_bytes() == told)
}

/// As text that compares alike: Lua's numbers would lose digits.
fn order(entry: &Entry) -> String {
    let began = millis(entry.began().since(Default::default()));
    hex(&[entry.stamp().0, began].map(u64::to_be_bytes).concat())
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
