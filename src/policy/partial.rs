//! Parts of a representation that are stored, sliced and completed (RFC 9111 sections 3.3 and 3.4).

use std::ops::Range;

use crate::policy::fields::{decimal, trim_ows};
use crate::policy::range::{self, RangeAnswer};

/// `Content-Range` of one part (RFC 9110 section 14.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    first: u64,
    last: u64,
    /// The length of the whole representation.
    complete: u64,
}

/// What a whole representation lacks beside a part, as a `Range` asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// All that comes before this position.
    Before(u64),
    /// All from this position on.
    From(u64),
}

impl Part {
    /// `bytes 4-9/10`; a part of a representation of unknown length is of no use later.
    pub(crate) fn parse(value: &[u8]) -> Option<Self> {
        let (unit, range) = trim_ows(value).split_at_checked(b"bytes ".len())?;
        let mut ends = range.splitn(2, |byte| *byte == b'/');
        let mut positions = ends.next()?.splitn(2, |byte| *byte == b'-');
        let (first, last) = (decimal(positions.next()?)?, decimal(positions.next()?)?);
        let complete = decimal(ends.next()?)?;
        let is_sound = unit.eq_ignore_ascii_case(b"bytes ") && first <= last && last < complete;
        is_sound.then_some(Self { first, last, complete })
    }

    /// Which of the bytes at hand answer a `Range`, and their `Content-Range`; none where the origin was not asked for
    /// all of these.
    ///
    /// What the origin named in `Content-Range` is what it answered, even if it sent less: no more is to be had.
    pub(crate) fn slice(self, asked: &[u8], held: usize) -> Option<(Range<usize>, String)> {
        let RangeAnswer::Part { first, last } = range::select(asked, self.complete) else { return None };
        if first < self.first || last > self.last {
            return None;
        }
        let start = usize::try_from(first - self.first).ok()?;
        let end = usize::try_from(last - self.first).ok()?.saturating_add(1).min(held);
        let sent = end.checked_sub(start).filter(|len| *len > 0)?;
        let last = first + u64::try_from(sent).ok()? - 1;
        Some((start..end, format!("bytes {first}-{last}/{}", self.complete)))
    }

    /// Whether so many bytes are all that it says it is.
    pub(crate) fn is_whole(self, held: usize) -> bool {
        u64::try_from(held).is_ok_and(|held| held == self.last - self.first + 1)
    }

    /// What is missing, where it is one piece and all of this part is at hand.
    pub(crate) fn missing(self, held: usize) -> Option<Missing> {
        let is_whole = self.is_whole(held);
        match (self.first == 0, self.last + 1 == self.complete) {
            (true, false) if is_whole => Some(Missing::From(self.last + 1)),
            (false, true) if is_whole => Some(Missing::Before(self.first)),
            _ => None,
        }
    }

    /// Whether another part is just what this one lacks.
    pub(crate) fn is_completed_by(self, other: Self) -> bool {
        let joins = match self.first {
            0 => other.first == self.last + 1 && other.last + 1 == other.complete,
            first => other.first == 0 && other.last + 1 == first,
        };
        joins && self.complete == other.complete
    }

    /// The length of the whole representation.
    pub(crate) fn complete(self) -> u64 {
        self.complete
    }
}

impl Missing {
    /// As the value of `Range`.
    pub(crate) fn range(self) -> String {
        match self {
            Self::Before(first) => format!("bytes=0-{}", first - 1),
            Self::From(first) => format!("bytes={first}-"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn part(value: &str) -> Part {
        Part::parse(value.as_bytes()).expect("a part")
    }

    #[test]
    fn a_content_range_is_read_whole_or_not_at_all() {
        assert_eq!(part("bytes 4-9/10"), Part { first: 4, last: 9, complete: 10 });
        assert_eq!(part(" BYTES 0-0/1 "), Part { first: 0, last: 0, complete: 1 });
        for bad in [
            "",
            "bytes",
            "bytes ",
            "bytes 4-9",
            "bytes 4-9/*",
            "bytes */10",
            "bytes 9-4/10",
            "bytes 4-10/10",
            "bytes=4-9/10",
            "items 4-9/10",
            "bytes 4-9/10, bytes 0-1/10",
            "bytes -4-9/10",
            "bytes 4-9/10x",
            "bytes 4 - 9/10",
        ] {
            assert_eq!(Part::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn what_lies_within_a_part_is_cut_out_of_it() {
        let part = part("bytes 4-9/10");
        for (asked, expected) in [
            ("bytes=4-9", Some((0..6, "bytes 4-9/10"))),
            ("bytes=6-8", Some((2..5, "bytes 6-8/10"))),
            ("bytes=6-", Some((2..6, "bytes 6-9/10"))),
            ("bytes=-1", Some((5..6, "bytes 9-9/10"))),
            ("bytes=6-100", Some((2..6, "bytes 6-9/10"))),
            ("bytes=3-5", None),
            ("bytes=0-0", None),
            ("bytes=-7", None),
            ("bytes=10-", None),
            ("bytes=4-5,7-8", None),
            ("items=4-5", None),
        ] {
            let expected = expected.map(|(range, told)| (range, told.to_owned()));
            assert_eq!(part.slice(asked.as_bytes(), 6), expected, "{asked}");
        }
    }

    #[test]
    fn a_part_that_is_shorter_than_it_says_gives_what_it_has_and_is_not_completed() {
        let part = part("bytes 4-9/10");
        assert_eq!(part.slice(b"bytes=6-", 5), Some((2..5, "bytes 6-8/10".to_owned())));
        assert_eq!(part.slice(b"bytes=-1", 5), None);
        assert_eq!(part.missing(5), None);
    }

    #[test]
    fn what_is_missing_is_one_piece() {
        assert_eq!(part("bytes 0-4/10").missing(5), Some(Missing::From(5)));
        assert_eq!(part("bytes 4-9/10").missing(6), Some(Missing::Before(4)));
        assert_eq!(part("bytes 4-8/10").missing(5), None);
        assert_eq!(part("bytes 0-9/10").missing(10), None);
        assert_eq!(
            (Missing::From(5).range(), Missing::Before(4).range()),
            ("bytes=5-".into(), "bytes=0-3".into())
        );
        assert!(part("bytes 0-4/10").is_completed_by(part("bytes 5-9/10")));
        assert!(part("bytes 4-9/10").is_completed_by(part("bytes 0-3/10")));
        for other in ["bytes 5-8/10", "bytes 6-9/10", "bytes 4-9/10", "bytes 5-10/11"] {
            assert!(!part("bytes 0-4/10").is_completed_by(part(other)), "{other}");
        }
    }

    proptest! {
        #[test]
        fn a_slice_is_what_was_asked_for(first in 0_u64..50, len in 1_u64..50, more in 0_u64..50, asked in "bytes=([0-9]{1,2}-[0-9]{0,2}|-[0-9]{1,2})") {
            let part = Part { first, last: first + len - 1, complete: first + len + more };
            if let Some((slice, told)) = part.slice(asked.as_bytes(), usize::try_from(len).expect("small")) {
                let whole = range::select(asked.as_bytes(), part.complete);
                let start = first + slice.start as u64;
                prop_assert_eq!(whole, RangeAnswer::Part { first: start, last: first + slice.end as u64 - 1 });
                prop_assert_eq!(Part::parse(told.as_bytes()).map(|part| part.first), Some(start));
            }
        }

        #[test]
        fn no_bytes_cause_a_panic(value: Vec<u8>, held: usize) {
            if let Some(part) = Part::parse(&value) {
                part.slice(&value, held);
                part.missing(held);
            }
        }
    }
}
