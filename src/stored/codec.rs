//! The bytes of an entry outside this process: `AFCE`, version, length, checksum, then MessagePack.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::web::Bytes;
use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use std::fmt;
use std::sync::Arc;

use crate::clock::Timestamp;
use crate::fence::{FenceId, Stamp};
use crate::key::{CacheKey, Cuts};
use crate::storage::error::StorageError;
use crate::stored::entry::{Content, Entry, EntryFences, Selector, Varies};
use crate::stored::response::{Freshness, StoredResponse};

const MAGIC: &[u8; 4] = b"AFCE";
/// Raised with every change of [`Frame`], of [`Freshness`] or of the layout of keys; older layouts are read by frozen
/// structs of their own.
const VERSION: u8 = 2;
const CHECKSUM: usize = 16;

/// Version 2 of an entry's layout; version 1 was never released.
#[derive(Serialize, Deserialize)]
struct Frame<'a> {
    #[serde(borrow)]
    key: Key<'a>,
    stamp: u64,
    began: Timestamp,
    fences: Vec<[u8; 16]>,
    keep_until: Timestamp,
    #[serde(borrow)]
    content: Kind<'a>,
}

#[derive(Serialize, Deserialize)]
struct Key<'a> {
    #[serde(borrow)]
    bytes: Blob<'a>,
    cuts: Cuts,
}

#[derive(Serialize, Deserialize)]
enum Kind<'a> {
    Response {
        status: u16,
        #[serde(borrow)]
        headers: Vec<(Blob<'a>, Blob<'a>)>,
        #[serde(borrow)]
        body: Blob<'a>,
        freshness: Freshness,
    },
    Varies {
        #[serde(borrow)]
        names: Vec<Blob<'a>>,
        normalised: bool,
        #[serde(borrow)]
        variants: Vec<Key<'a>>,
    },
    Alias(#[serde(borrow)] Key<'a>),
}

impl Entry {
    /// The entry as bytes, for storages outside this process: a frame with magic, version, length and checksum.
    ///
    /// # Errors
    /// If the entry cannot be serialised.
    pub fn to_bytes(&self) -> Result<Vec<u8>, StorageError> {
        encode(self)
    }

    /// The entry these bytes hold; `None` if they are damaged, cut, longer than they say, or of an unknown version.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        decode(bytes, Bytes::copy_from_slice)
    }

    /// As [`from_bytes`](Self::from_bytes); the entry keeps these bytes, and copies neither its body nor its fields.
    #[cfg(feature = "redis")]
    pub(crate) fn from_shared(bytes: &Bytes) -> Option<Self> {
        // Parts are borrowed from these bytes and no others: `slice_ref` would panic on those.
        decode(bytes, |part| bytes.slice_ref(part))
    }
}

fn encode(entry: &Entry) -> Result<Vec<u8>, StorageError> {
    let payload = rmp_serde::to_vec(&Frame::from(entry))
        .map_err(|error| StorageError::with_source("an entry could not be serialised", error))?;
    let mut bytes = Vec::with_capacity(payload.len() + MAGIC.len() + 1 + 8 + CHECKSUM);
    bytes.extend_from_slice(MAGIC);
    bytes.push(VERSION);
    bytes.extend_from_slice(&(payload.len() as u64).to_be_bytes());
    bytes.extend_from_slice(&checksum(&payload));
    bytes.extend_from_slice(&payload);
    Ok(bytes)
}

/// `keep` makes of a part of the bytes what an entry can own.
fn decode(bytes: &[u8], keep: impl Fn(&[u8]) -> Bytes) -> Option<Entry> {
    let rest = bytes.strip_prefix(MAGIC)?.strip_prefix(&[VERSION])?;
    let (len, rest) = rest.split_first_chunk::<8>()?;
    let (sum, payload) = rest.split_first_chunk::<CHECKSUM>()?;
    if u64::from_be_bytes(*len) != payload.len() as u64 || *sum != checksum(payload) {
        return None;
    }
    read(rmp_serde::from_slice(payload).ok()?, keep)
}

fn checksum(payload: &[u8]) -> [u8; CHECKSUM] {
    let mut sum = [0; CHECKSUM];
    for (to, from) in sum.iter_mut().zip(Sha256::digest(payload)) {
        *to = from;
    }
    sum
}

impl<'a> From<&'a Entry> for Frame<'a> {
    fn from(entry: &'a Entry) -> Self {
        Frame {
            key: Key::from(&entry.key),
            stamp: entry.stamp.0,
            began: entry.began,
            fences: entry.fences().iter().map(|fence| fence.0).collect(),
            keep_until: entry.keep_until,
            content: match &entry.content {
                Content::Response(response) => Kind::from(&**response),
                Content::Varies(varies) => Kind::Varies {
                    names: varies.by.names.iter().map(|name| Blob(name.as_str().as_bytes())).collect(),
                    normalised: varies.by.normalised,
                    variants: varies.variants.iter().map(|key| Key::from(&**key)).collect(),
                },
                Content::Alias(key) => Kind::Alias(Key::from(&**key)),
            },
        }
    }
}

impl<'a> From<&'a StoredResponse> for Kind<'a> {
    fn from(response: &'a StoredResponse) -> Self {
        Kind::Response {
            status: response.status.as_u16(),
            headers: response
                .headers()
                .map(|(name, value)| (Blob(name.as_str().as_bytes()), Blob(value.as_bytes())))
                .collect(),
            body: Blob(&response.body),
            freshness: response.freshness.get(),
        }
    }
}

/// The entry of a frame; none if its bytes passed the checksum and still do not say one.
fn read(frame: Frame<'_>, keep: impl Fn(&[u8]) -> Bytes) -> Option<Entry> {
    let content = match frame.content {
        Kind::Response { status, headers, body, freshness } => Content::Response(Arc::new(StoredResponse {
            status: StatusCode::from_u16(status).ok()?,
            headers: headers
                .iter()
                .map(|(name, value)| {
                    Some((header_name(name)?, HeaderValue::from_maybe_shared(keep(value.0)).ok()?))
                })
                .collect::<Option<Vec<_>>>()?
                .into(),
            body: keep(body.0),
            freshness: freshness.into(),
        })),
        Kind::Varies { names, normalised, variants } => Content::Varies(Box::new(Varies {
            by: Selector { names: names.iter().map(header_name).collect::<Option<_>>()?, normalised },
            variants: variants.iter().map(|key| key.read().map(Arc::new)).collect::<Option<_>>()?,
        })),
        Kind::Alias(key) => Content::Alias(Box::new(key.read()?)),
    };
    Some(Entry {
        key: frame.key.read()?,
        stamp: Stamp(frame.stamp),
        began: frame.began,
        fences: EntryFences::exactly(frame.fences.into_iter().map(FenceId).collect()),
        keep_until: frame.keep_until,
        content,
    })
}

fn header_name(name: &Blob<'_>) -> Option<HeaderName> {
    HeaderName::from_bytes(name.0).ok()
}

impl<'a> From<&'a CacheKey> for Key<'a> {
    fn from(key: &'a CacheKey) -> Self {
        Key { bytes: Blob(key.as_bytes()), cuts: key.cuts() }
    }
}

impl Key<'_> {
    fn read(&self) -> Option<CacheKey> {
        CacheKey::from_stored(self.bytes.0.to_vec(), self.cuts)
    }
}

/// Bytes that MessagePack writes as one run, not as a list of numbers.
struct Blob<'a>(&'a [u8]);

impl Serialize for Blob<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Blob<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Run;
        impl<'de> Visitor<'de> for Run {
            type Value = Blob<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a run of bytes")
            }

            fn visit_borrowed_bytes<E: serde::de::Error>(self, bytes: &'de [u8]) -> Result<Blob<'de>, E> {
                Ok(Blob(bytes))
            }
        }
        deserializer.deserialize_bytes(Run)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let since_epoch = self.since(Timestamp::default());
        serializer.serialize_u64(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let millis = u64::deserialize(deserializer).map_err(D::Error::custom)?;
        Ok(Timestamp::default().plus(Duration::from_millis(millis)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{KeyWriter, Part, namespace};

    fn key(name: &str) -> CacheKey {
        let mut writer = KeyWriter::new(&namespace(&[]));
        writer.part(Part::Name, name.as_bytes());
        writer.finish()
    }

    fn entry(content: Content) -> Entry {
        Entry {
            key: key("k"),
            stamp: Stamp(7),
            began: Timestamp::default().plus(Duration::from_secs(3)),
            fences: EntryFences::exactly(vec![FenceId::of(b"tag", b"t")]),
            keep_until: Timestamp::default().plus(Duration::from_secs(9)),
            content,
        }
    }

    fn entries() -> Vec<Entry> {
        let response = StoredResponse::new(StatusCode::OK, vec![0_u8, 255, 7])
            .with_header(
                HeaderName::from_static("x-odd"),
                HeaderValue::from_bytes(b"\x80\xff").expect("obs-text"),
            )
            .with_header(HeaderName::from_static("x-odd"), HeaderValue::from_static("2"));
        vec![
            entry(Content::Response(Arc::new(response))),
            entry(Content::Varies(Box::new(Varies {
                by: Selector { names: vec![HeaderName::from_static("accept")], normalised: true },
                variants: vec![Arc::new(key("v"))],
            }))),
            entry(Content::Alias(Box::new(key("a")))),
        ]
    }

    #[test]
    fn what_is_written_is_read_back() {
        for entry in entries() {
            assert_eq!(Entry::from_bytes(&encode(&entry).expect("bytes")), Some(entry));
        }
    }

    #[test]
    fn any_flipped_bit_any_cut_and_any_addition_is_a_miss() {
        for entry in entries() {
            let bytes = encode(&entry).expect("bytes");
            for bit in 0..bytes.len() * 8 {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(Entry::from_bytes(&flipped), None, "bit {bit}");
            }
            for cut in 0..bytes.len() {
                assert_eq!(Entry::from_bytes(&bytes[..cut]), None, "cut at {cut}");
            }
            let mut longer = bytes.clone();
            longer.push(0);
            assert_eq!(Entry::from_bytes(&longer), None);
        }
    }

    #[test]
    fn an_unknown_version_is_a_miss() {
        let mut bytes = encode(&entries()[0]).expect("bytes");
        bytes[4] = VERSION + 1;
        assert_eq!(Entry::from_bytes(&bytes), None);
    }
}
