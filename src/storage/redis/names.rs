//! How keys are called in Redis: for the eyes of an operator.

use crate::fence::FenceId;
use crate::key::CacheKey;

/// The layout of what is under these names; part of each, so that layouts never meet.
const LAYOUT: &str = "v1";

/// The names under one prefix.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    prefix: String,
    pub(crate) fences: String,
    pub(crate) within: String,
    /// The channel on which is told what was raised, and what was replaced.
    pub(crate) news: String,
}

impl Names {
    pub(crate) fn new(prefix: &str) -> Self {
        // In a cluster the braces keep both on one node.
        let fences = format!("{prefix}:{{fences}}");
        let (within, news) = (format!("{fences}:within"), format!("{fences}:news"));
        Self { prefix: prefix.to_owned(), within, news, fences }
    }

    /// `prefix:namespace:v1:digest`
    pub(crate) fn entry(&self, key: &CacheKey) -> String {
        self.name(key, LAYOUT)
    }

    /// `prefix:namespace:lease:digest`
    pub(crate) fn lease(&self, key: &CacheKey) -> String {
        self.name(key, "lease")
    }

    fn name(&self, key: &CacheKey, kind: &str) -> String {
        let mut name = String::with_capacity(self.prefix.len() + 128);
        name.push_str(&self.prefix);
        name.push(':');
        for (at, part) in key.namespace().into_iter().enumerate() {
            if at > 0 {
                name.push('/');
            }
            // What would be read as something else is shown by its code.
            for char in String::from_utf8_lossy(part).chars() {
                match char {
                    ':' | '/' | '%' | '{' | '}' => name.push_str(&format!("%{:02X}", char as u32)),
                    char if char.is_control() || char.is_whitespace() => {
                        name.push_str(&format!("%{:02X}", char as u32));
                    }
                    char => name.push(char),
                }
            }
        }
        name.push(':');
        name.push_str(kind);
        name.push(':');
        push_hex(&mut name, &key.digest());
        name
    }
}

/// A fence as a member of the set.
pub(crate) fn fence(id: FenceId) -> [u8; 32] {
    let mut digits = [0; 32];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(id.as_bytes()) {
        pair.copy_from_slice(&digits_of(*byte));
    }
    digits
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut digits = String::with_capacity(2 * bytes.len());
    push_hex(&mut digits, bytes);
    digits
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    text.extend(bytes.iter().flat_map(|byte| digits_of(*byte)).map(char::from));
}

/// By hand: each lookup writes over a hundred, and the formatter would take longer for them than Redis for its answer.
fn digits_of(byte: u8) -> [u8; 2] {
    [byte >> 4, byte & 15].map(|digit| if digit < 10 { b'0' + digit } else { b'a' + digit - 10 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{KeyWriter, Part, namespace};

    #[test]
    fn an_operator_reads_prefix_namespace_and_layout() {
        let name = |parts: &[&str]| {
            let parts: Vec<String> = parts.iter().map(|part| (*part).to_owned()).collect();
            let mut writer = KeyWriter::new(&namespace(&parts));
            writer.part(Part::Name, b"token=secret");
            let name = Names::new("afc").entry(&writer.finish());
            let (readable, digest) = name.rsplit_once(':').expect("a digest");
            assert!(digest.len() == 64 && !name.contains("secret"));
            readable.to_owned()
        };
        assert_eq!(name(&["shop", "products"]), "afc:shop/products:v1");
        assert_eq!(name(&[]), "afc::v1");
        assert_eq!(name(&["a:b/c", "d {e}\n"]), "afc:a%3Ab%2Fc/d%20%7Be%7D%0A:v1");
    }
}
