//! The field lines of a stored response: as they were given, or packed.

use std::fmt;
use std::slice;

use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::web::Bytes;

use crate::stored::pattern::{self, Fit, Line};
use crate::stored::weight::allocated;

/// Field lines in the order they are sent, repeats included.
#[derive(Clone)]
pub(crate) struct Lines(Kind);

#[derive(Clone)]
enum Kind {
    Given(Vec<Line>),
    /// Those of a pattern, but for the values that differ from it.
    Packed {
        fit: Fit,
        own: Box<[HeaderValue]>,
    },
}

impl Lines {
    /// Packs lines together with a body: what they do not share with other answers goes behind it, into one buffer.
    ///
    /// A value that came off a connection is a slice of all that was read with it; and values with buffers of their own
    /// are dearer to clone and to drop, which every hit does.
    pub(crate) fn pack(lines: Vec<Line>, body: &[Bytes]) -> (Self, Bytes) {
        let fit = pattern::of(&lines);
        let is_own = |at: usize| fit.is_none_or(|fit| fit.differs >> at & 1 == 1);
        let own = || lines.iter().enumerate().filter(|(at, _)| is_own(*at)).map(|(_, (_, value))| value);
        let of_body: usize = body.iter().map(Bytes::len).sum();
        let of_own: usize = own().map(HeaderValue::len).sum();
        // Not a byte more: what is spare here would be spare for as long as the entry lives.
        let mut bytes = Vec::with_capacity(of_body.saturating_add(of_own));
        for piece in body {
            bytes.extend_from_slice(piece);
        }
        for value in own() {
            bytes.extend_from_slice(value.as_bytes());
        }
        let mut behind = Bytes::from(bytes);
        let body = behind.split_to(of_body);
        let mut packed = |value: &HeaderValue| {
            let bytes = behind.split_to(value.len());
            let mut packed = HeaderValue::from_maybe_shared(bytes).unwrap_or_else(|_| value.clone());
            packed.set_sensitive(value.is_sensitive());
            packed
        };
        let kind = match fit {
            Some(fit) => {
                let mut values = Vec::with_capacity(fit.differs.count_ones() as usize);
                values.extend(own().map(packed));
                Kind::Packed { fit, own: values.into() }
            }
            None => {
                let mut lines = lines;
                for (_, value) in &mut lines {
                    *value = packed(value);
                }
                lines.shrink_to_fit();
                Kind::Given(lines)
            }
        };
        (Self(kind), body)
    }

    #[inline]
    pub(crate) fn iter(&self) -> Iter<'_> {
        match &self.0 {
            Kind::Given(lines) => Iter { lines: lines.iter(), differs: 0, own: [].iter() },
            Kind::Packed { fit, own } => {
                Iter { lines: fit.pattern.lines().iter(), differs: fit.differs, own: own.iter() }
            }
        }
    }

    /// The lines to be changed; as they are given from then on.
    pub(crate) fn edit(&mut self) -> &mut Vec<Line> {
        if let Kind::Packed { .. } = self.0 {
            self.0 = Kind::Given(self.iter().map(|(name, value)| (name.clone(), value.clone())).collect());
        }
        match &mut self.0 {
            Kind::Given(lines) => lines,
            Kind::Packed { .. } => unreachable!(), // made given above
        }
    }

    /// Bytes of the lines beside their values.
    pub(crate) fn weight(&self) -> usize {
        match &self.0 {
            Kind::Given(lines) => allocated(lines.capacity() * size_of::<Line>()),
            Kind::Packed { fit, own } => fit.made as usize + allocated(size_of_val(&**own)),
        }
    }

    /// Bytes of the values that are not shared with other answers.
    pub(crate) fn own_len(&self) -> usize {
        match &self.0 {
            Kind::Given(lines) => lines.iter().map(|(_, value)| value.len()).sum(),
            Kind::Packed { own, .. } => own.iter().map(HeaderValue::len).sum(),
        }
    }
}

impl From<Vec<Line>> for Lines {
    fn from(lines: Vec<Line>) -> Self {
        Self(Kind::Given(lines))
    }
}

impl<'a> IntoIterator for &'a Lines {
    type Item = (&'a HeaderName, &'a HeaderValue);
    type IntoIter = Iter<'a>;

    #[inline]
    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl PartialEq for Lines {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other)
    }
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self).finish()
    }
}

/// The lines one by one.
pub(crate) struct Iter<'a> {
    lines: slice::Iter<'a, Line>,
    /// Bit by bit, which of the lines left have a value of their own.
    differs: u32,
    own: slice::Iter<'a, HeaderValue>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a HeaderName, &'a HeaderValue);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (name, shared) = self.lines.next()?;
        let differs = self.differs & 1 == 1;
        self.differs >>= 1;
        Some((name, if differs { self.own.next()? } else { shared }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &'static str, value: &str) -> Line {
        (HeaderName::from_static(name), HeaderValue::from_str(value).expect("a value"))
    }

    #[test]
    fn packed_lines_are_the_lines_that_were_given() {
        for nth in 0..20 {
            let mut secret = line("x-lines-secret", "always the same");
            secret.1.set_sensitive(true);
            let given = vec![
                line("content-type", "text/html"),
                line("x-lines-own", &format!("of its own: {nth}")),
                line("x-lines-twice", "one"),
                line("x-lines-twice", &format!("{}", nth / 7)),
                line("x-lines-empty", ""),
                secret,
            ];
            let (packed, body) =
                Lines::pack(given.clone(), &[Bytes::from_static(b"bo"), Bytes::from_static(b"dy")]);
            assert_eq!(body, "body");
            assert_eq!(packed, Lines::from(given.clone()));
            assert_eq!(packed.iter().last().map(|(_, value)| value.is_sensitive()), Some(true));
            assert!(nth == 0 || packed.weight() <= allocated(3 * size_of::<HeaderValue>()), "after {nth}");
            let mut edited = packed.clone();
            edited.edit().push(line("x-more", "more"));
            assert_eq!(edited.iter().count(), given.len() + 1);
        }
    }

    #[test]
    fn many_lines_and_none_are_packed_too() {
        for many in [0_usize, 1, 31, 32, 33, 200] {
            for _ in 0..3 {
                let given: Vec<Line> = (0..many).map(|nth| line("x-many", &nth.to_string())).collect();
                let (packed, body) = Lines::pack(given.clone(), &[]);
                assert!(body.is_empty());
                assert_eq!(packed, Lines::from(given));
            }
        }
    }
}
