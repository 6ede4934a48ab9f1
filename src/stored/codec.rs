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
use crate::stored::entry::{Content, Entry, Selector, Varies};
use crate::stored::response::{Freshness, StoredResponse};

const MAGIC: &[u8; 4] = b"AFCE";
/// Raised with every change of [`Frame`], of [`Freshness`] or of the layout of keys; older layouts are read by frozen
/// structs of their own.
const VERSION: u8 = 2;
const CHECKSUM: usize = 16;

/// Version 2 of an entry's layout; version 1 was never released.
#[derive(Serialize, Deserialize)]
struct Frame {
    key: Key,
    stamp: u64,
    began: Timestamp,
    fences: Vec<[u8; 16]>,
    keep_until: Timestamp,
    content: Kind,
}

#[derive(Serialize, Deserialize)]
struct Key {
    bytes: Blob,
    cuts: Cuts,
}

#[derive(Serialize, Deserialize)]
enum Kind {
    Response { status: u16, headers: Vec<(Blob, Blob)>, body: Blob, freshness: Freshness },
    Varies { names: Vec<Blob>, normalised: bool, variants: Vec<Key> },
    Alias(Key),
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
        decode(bytes)
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

fn decode(bytes: &[u8]) -> Option<Entry> {
    let rest = bytes.strip_prefix(MAGIC)?.strip_prefix(&[VERSION])?;
    let (len, rest) = rest.split_first_chunk::<8>()?;
    let (sum, payload) = rest.split_first_chunk::<CHECKSUM>()?;
    if u64::from_be_bytes(*len) != payload.len() as u64 || *sum != checksum(payload) {
        return None;
    }
    Entry::try_from(rmp_serde::from_slice::<Frame>(payload).ok()?).ok()
}

fn checksum(payload: &[u8]) -> [u8; CHECKSUM] {
    let mut sum = [0; CHECKSUM];
    for (to, from) in sum.iter_mut().zip(Sha256::digest(payload)) {
        *to = from;
    }
    sum
}

impl From<&Entry> for Frame {
    fn from(entry: &Entry) -> Self {
        Frame {
            key: Key::from(&entry.key),
            stamp: entry.stamp.0,
            began: entry.began,
            fences: entry.fences.iter().map(|fence| fence.0).collect(),
            keep_until: entry.keep_until,
            content: match &entry.content {
                Content::Response(response) => Kind::from(&**response),
                Content::Varies(varies) => Kind::Varies {
                    names: varies.by.names.iter().map(|name| Blob::from(name.as_str().as_bytes())).collect(),
                    normalised: varies.by.normalised,
                    variants: varies.variants.iter().map(|key| Key::from(&**key)).collect(),
                },
                Content::Alias(key) => Kind::Alias(Key::from(key)),
            },
        }
    }
}

impl From<&StoredResponse> for Kind {
    fn from(response: &StoredResponse) -> Self {
        Kind::Response {
            status: response.status.as_u16(),
            headers: response
                .headers()
                .map(|(name, value)| (Blob::from(name.as_str().as_bytes()), Blob::from(value.as_bytes())))
                .collect(),
            body: Blob(response.body.clone()),
            freshness: response.freshness,
        }
    }
}

/// Bytes that passed the checksum and still do not say an entry.
struct Malformed;

impl TryFrom<Frame> for Entry {
    type Error = Malformed;

    fn try_from(frame: Frame) -> Result<Self, Malformed> {
        let content = match frame.content {
            Kind::Response { status, headers, body, freshness } => {
                Content::Response(Arc::new(StoredResponse {
                    status: StatusCode::from_u16(status).map_err(|_| Malformed)?,
                    headers: headers
                        .into_iter()
                        .map(|(name, value)| {
                            let value = HeaderValue::from_maybe_shared(value.0).map_err(|_| Malformed)?;
                            Ok((header_name(&name)?, value))
                        })
                        .collect::<Result<_, Malformed>>()?,
                    body: body.0,
                    freshness,
                }))
            }
            Kind::Varies { names, normalised, variants } => Content::Varies(Varies {
                by: Selector { names: names.iter().map(header_name).collect::<Result<_, _>>()?, normalised },
                variants: variants.into_iter().map(|key| Ok(Arc::new(key.try_into()?))).collect::<Result<
                    _,
                    Malformed,
                >>(
                )?,
            }),
            Kind::Alias(key) => Content::Alias(key.try_into()?),
        };
        Ok(Entry {
            key: frame.key.try_into()?,
            stamp: Stamp(frame.stamp),
            began: frame.began,
            fences: frame.fences.into_iter().map(FenceId).collect(),
            keep_until: frame.keep_until,
            content,
        })
    }
}

fn header_name(name: &Blob) -> Result<HeaderName, Malformed> {
    HeaderName::from_bytes(&name.0).map_err(|_| Malformed)
}

impl From<&CacheKey> for Key {
    fn from(key: &CacheKey) -> Self {
        Key { bytes: Blob::from(key.as_bytes()), cuts: key.cuts() }
    }
}

impl TryFrom<Key> for CacheKey {
    type Error = Malformed;

    fn try_from(key: Key) -> Result<Self, Malformed> {
        CacheKey::from_stored(key.bytes.0.to_vec(), key.cuts).ok_or(Malformed)
    }
}

/// Bytes that MessagePack writes as one run, not as a list of numbers.
struct Blob(Bytes);

impl From<&[u8]> for Blob {
    fn from(bytes: &[u8]) -> Self {
        Blob(Bytes::copy_from_slice(bytes))
    }
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Run;
        impl Visitor<'_> for Run {
            type Value = Blob;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a run of bytes")
            }

            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Blob, E> {
                Ok(Blob::from(bytes))
            }

            fn visit_byte_buf<E: serde::de::Error>(self, bytes: Vec<u8>) -> Result<Blob, E> {
                Ok(Blob(bytes.into()))
            }
        }
        deserializer.deserialize_byte_buf(Run)
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
            fences: [FenceId::of(b"tag", b"t")].into(),
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
            entry(Content::Varies(Varies {
                by: Selector { names: vec![HeaderName::from_static("accept")], normalised: true },
                variants: vec![Arc::new(key("v"))],
            })),
            entry(Content::Alias(key("a"))),
        ]
    }

    #[test]
    fn what_is_written_is_read_back() {
        for entry in entries() {
            assert_eq!(decode(&encode(&entry).expect("bytes")), Some(entry));
        }
    }

    #[test]
    fn any_flipped_bit_any_cut_and_any_addition_is_a_miss() {
        for entry in entries() {
            let bytes = encode(&entry).expect("bytes");
            for bit in 0..bytes.len() * 8 {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(decode(&flipped), None, "bit {bit}");
            }
            for cut in 0..bytes.len() {
                assert_eq!(decode(&bytes[..cut]), None, "cut at {cut}");
            }
            let mut longer = bytes.clone();
            longer.push(0);
            assert_eq!(decode(&longer), None);
        }
    }

    #[test]
    fn an_unknown_version_is_a_miss() {
        let mut bytes = encode(&entries()[0]).expect("bytes");
        bytes[4] = VERSION + 1;
        assert_eq!(decode(&bytes), None);
    }
}
