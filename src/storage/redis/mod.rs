//! Entries in Redis or Valkey, shared by all processes that name the same server and prefix.
//!
//! What is where, for a prefix `afc`:
//!
//! | key | holds | lives |
//! |---|---|---|
//! | `afc:shop/products:v1:<digest>` | one entry of the namespace (shop, products), as [`Entry::to_bytes`](crate::Entry::to_bytes) writes it behind the stamp and the begin of its fill | as long as the entry is of use, a week at most |
//! | `afc:shop/products:lease:<digest>` | who fills that key just now, or `refused` | two seconds past the last word of its holder; `refused` as long as the cache remembers that an answer could not be stored |
//! | `afc:{fences}` | a sorted set: each fence at the time of its last raise, and `clock`, the time of the last raise of all | eight days past the last raise or write |
//! | `afc:{fences}:within` | a hash: the wider fence around each | as long |
//!
//! On the channel `afc:{fences}:news` processes tell each other what they raise and put.
//!
//! Fences are one key, so that they are lost together or not at all: where `clock` is missing, evicted or flushed, all
//! entries that were stored before are dropped with it.

pub(crate) mod calls;
pub(crate) mod connection;
pub(crate) mod door;
pub(crate) mod gathering;
pub(crate) mod known;
pub(crate) mod lookups;
pub(crate) mod names;
pub(crate) mod news;
pub(crate) mod servers;
pub(crate) mod store;
pub(crate) mod tiered;
pub(crate) mod times;
pub(crate) mod value;
