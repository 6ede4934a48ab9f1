//! The part of a representation that Range asks for (RFC 9110 §14.1, §14.2).

use super::fields::{decimal, members, trim_ows};

/// What to answer a range request with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RangeAnswer {
    /// The whole representation, as if Range were absent.
    Whole,
    /// The bytes from the first to the last one, both included.
    Part { first: u64, last: u64 },
    /// Several such parts, apart from each other, in the order they are asked for.
    Parts(Vec<(u64, u64)>),
    /// Nothing: no byte that is asked for exists.
    Unsatisfiable,
}

/// Selects what a Range field asks of a representation of this length.
///
/// Any Range may be ignored; one in another unit or malformed has to be (RFC 9110 §14.2).
pub(crate) fn select(value: &[u8], length: u64) -> RangeAnswer {
    ranges_specifier(trim_ows(value), length).unwrap_or(RangeAnswer::Whole)
}

/// `bytes=0-499, 1000-, -500`, the unit in any letter case (RFC 9110 §14.1).
fn ranges_specifier(value: &[u8], length: u64) -> Option<RangeAnswer> {
    let (unit, range_set) = value.split_at_checked(b"bytes=".len())?;
    if !unit.eq_ignore_ascii_case(b"bytes=") {
        return None;
    }
    let (mut parts, mut several, mut any) = (Vec::new(), true, false);
    for spec in members(range_set) {
        any = true;
        match range_spec(spec, length)? {
            RangeAnswer::Unsatisfiable => {}
            RangeAnswer::Part { first, last } if several => {
                // Ranges that overlap, or are many, are rather an attack (RFC 9110 §14.2); looking at a few of them for
                // each keeps the time linear.
                several =
                    parts.len() < MOST_PARTS && parts.iter().all(|&(from, to)| last < from || to < first);
                parts.push((first, last));
            }
            // Read on all the same: what is malformed makes the whole field so.
            _ => several = false,
        }
    }
    match *parts.as_slice() {
        _ if !any => None,
        _ if !several => Some(RangeAnswer::Whole),
        // One satisfiable range makes the set satisfiable (RFC 9110 §14.1.2).
        [] => Some(RangeAnswer::Unsatisfiable),
        [(first, last)] => Some(RangeAnswer::Part { first, last }),
        _ => Some(RangeAnswer::Parts(parts)),
    }
}

/// More parts than these are answered with the whole.
const MOST_PARTS: usize = 8;

/// Whether a Range field asks for one range of bytes, wherever it may lie.
pub(crate) fn is_single(value: &[u8]) -> bool {
    let (unit, range_set) = trim_ows(value).split_at_checked(b"bytes=".len()).unwrap_or_default();
    let mut specs = members(range_set);
    unit.eq_ignore_ascii_case(b"bytes=")
        && specs.next().is_some_and(|spec| range_spec(spec, u64::MAX).is_some())
        && specs.next().is_none()
}

/// `first-last`, `first-` or `-suffix` (RFC 9110 §14.1.1), none if it is malformed.
fn range_spec(spec: &[u8], length: u64) -> Option<RangeAnswer> {
    let mut ends = spec.splitn(2, |&byte| byte == b'-');
    match (ends.next()?, ends.next()?) {
        (b"", suffix) => decimal(suffix).map(|suffix| suffix_range(suffix, length)),
        (first, b"") => decimal(first).map(|first| int_range(first, u64::MAX, length)),
        (first, last) => {
            let (first, last) = (decimal(first)?, decimal(last)?);
            // A range that ends before it starts is invalid (RFC 9110 §14.1.1).
            (first <= last).then(|| int_range(first, last, length))
        }
    }
}

/// A last position past the end means the end (RFC 9110 §14.1.2).
fn int_range(first: u64, last: u64, length: u64) -> RangeAnswer {
    if first < length {
        RangeAnswer::Part { first, last: last.min(length - 1) }
    } else {
        RangeAnswer::Unsatisfiable
    }
}

/// A suffix longer than the representation means all of it (RFC 9110 §14.1.2).
fn suffix_range(suffix: u64, length: u64) -> RangeAnswer {
    match (suffix, length) {
        (0, _) => RangeAnswer::Unsatisfiable,
        // Satisfiable (RFC 9110 §14.1.2), but Content-Range has no word for no bytes.
        (_, 0) => RangeAnswer::Whole,
        _ => RangeAnswer::Part { first: length.saturating_sub(suffix), last: length - 1 },
    }
}

#[cfg(test)]
mod tests {
    use super::RangeAnswer::{Part, Parts, Unsatisfiable, Whole};
    use super::*;
    use proptest::prelude::*;

    fn of_ten(value: &str) -> RangeAnswer {
        select(value.as_bytes(), 10)
    }

    #[test]
    fn one_range_selects_a_part() {
        for (value, first, last) in [
            ("bytes=0-1", 0, 1),
            ("bytes=0-0", 0, 0),
            ("bytes=9-9", 9, 9),
            ("bytes=5-100", 5, 9),
            ("bytes=1-", 1, 9),
            ("bytes=0-", 0, 9),
            ("bytes=-1", 9, 9),
            ("bytes=-10", 0, 9),
            ("bytes=-11", 0, 9),
            ("bytes=002-0003", 2, 3),
            ("BYTES=0-1", 0, 1),
            (" bytes=,0-1 ,, ", 0, 1),
        ] {
            assert_eq!(of_ten(value), Part { first, last }, "{value}");
        }
    }

    #[test]
    fn numbers_saturate() {
        let great = "9".repeat(40);
        assert_eq!(of_ten(&format!("bytes=3-{great}")), Part { first: 3, last: 9 });
        assert_eq!(of_ten(&format!("bytes=-{great}")), Part { first: 0, last: 9 });
        assert_eq!(of_ten(&format!("bytes={great}-")), Unsatisfiable);
        assert_eq!(of_ten(&format!("bytes={great}-{great}")), Unsatisfiable);
        assert_eq!(select(b"bytes=0-", u64::MAX), Part { first: 0, last: u64::MAX - 1 });
        assert_eq!(select(format!("bytes={great}-").as_bytes(), u64::MAX), Unsatisfiable);
    }

    #[test]
    fn what_lies_outside_is_unsatisfiable() {
        for value in ["bytes=10-", "bytes=10-20", "bytes=-0", "bytes=10-,-0, 99-100"] {
            assert_eq!(of_ten(value), Unsatisfiable, "{value}");
        }
    }

    #[test]
    fn an_empty_representation_has_no_parts() {
        assert_eq!(select(b"bytes=0-", 0), Unsatisfiable);
        assert_eq!(select(b"bytes=0-0", 0), Unsatisfiable);
        assert_eq!(select(b"bytes=-0", 0), Unsatisfiable);
        assert_eq!(select(b"bytes=-1", 0), Whole);
    }

    #[test]
    fn several_ranges_are_several_parts() {
        for (value, expected) in [
            ("bytes=0-1,3-4", Parts(vec![(0, 1), (3, 4)])),
            ("bytes=-2, 0-0", Parts(vec![(8, 9), (0, 0)])),
            ("bytes=0-1, 99-, 2-3", Parts(vec![(0, 1), (2, 3)])),
            ("bytes=99-, 0-1", Part { first: 0, last: 1 }),
            ("bytes=99-,98-,-1", Part { first: 9, last: 9 }),
        ] {
            assert_eq!(of_ten(value), expected, "{value}");
        }
    }

    #[test]
    fn ranges_that_overlap_or_are_many_are_answered_with_the_whole() {
        for value in ["bytes=0-,0-", "bytes=0-4,4-5", "bytes=5-6,0-9", "bytes=0-0,0-0", "bytes=-3,8-"] {
            assert_eq!(of_ten(value), Whole, "{value}");
        }
        let many = |count: u64| {
            let specs: Vec<_> = (0..count).map(|n| format!("{0}-{0}", 2 * n)).collect();
            select(format!("bytes={}", specs.join(",")).as_bytes(), 1_000)
        };
        assert!(matches!(many(8), Parts(parts) if parts.len() == 8));
        assert_eq!(many(9), Whole);
    }

    #[test]
    fn one_range_is_told_from_others_without_a_length() {
        for value in ["bytes=0-", "bytes=5-6", "BYTES=-1", " bytes=,1-2, "] {
            assert!(is_single(value.as_bytes()), "{value}");
        }
        for value in ["bytes=0-1,2-3", "bytes=", "bytes=x", "bytes=2-1", "items=0-1", "", "bytes=0-1,x"] {
            assert!(!is_single(value.as_bytes()), "{value}");
        }
    }

    #[test]
    fn the_malformed_is_ignored() {
        for value in [
            "",
            "bytes",
            "bytes=",
            "bytes= ,",
            "bytes=-",
            "bytes=1",
            "bytes=a-b",
            "bytes=1-a",
            "bytes=-a",
            "bytes=2-1",
            "bytes=+1-2",
            "bytes=1--2",
            "bytes=1-2-3",
            "bytes=1 -2",
            "bytes=0x1-2",
            "bytes =0-1",
            "bytes:0-1",
            "bytes=\"0-1\"",
            "bytes=0-1;2-3",
            "lines=0-1",
            "0-1",
            "bytes=99-,x",
            "bytes=x,99-",
            "bytes=99-,2-1",
            "bytes=0-1=",
        ] {
            assert_eq!(of_ten(value), Whole, "{value}");
        }
    }

    #[test]
    fn a_long_set_is_read_once() {
        for unit in ["0-1,", "99-,", "-", ",", "9", "\"", "1-2,x,"] {
            of_ten(&format!("bytes={}", unit.repeat(100_000 / unit.len())));
        }
        assert_eq!(of_ten(&format!("bytes={}", "99-,".repeat(1000))), Unsatisfiable);
        assert_eq!(of_ten(&format!("bytes={}", "0-1,".repeat(1000))), Whole);
    }

    proptest! {
        #[test]
        fn a_part_lies_inside(first: u64, last: u64, length: u64) {
            for value in [format!("bytes={first}-{last}"), format!("bytes={first}-"), format!("bytes=-{last}")] {
                if let Part { first, last } = select(value.as_bytes(), length) {
                    prop_assert!(first <= last && last < length);
                }
            }
        }

        #[test]
        fn no_bytes_cause_a_panic(value: Vec<u8>, length: u64) {
            select(&value, length);
            select(&[b"bytes=", &value[..]].concat(), length);
        }

        #[test]
        fn what_looks_like_a_range_causes_no_panic(value in "bytes=[0-9,-]{0,60}", length: u64) {
            if let Part { first, last } = select(value.as_bytes(), length) {
                prop_assert!(first <= last && last < length);
            }
        }
    }
}
