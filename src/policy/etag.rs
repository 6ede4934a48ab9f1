//! Entity tags and the conditions made of them (RFC 9110 §8.8.3, §13.1).

use std::iter;

use super::date;
use super::fields::trim_ows;

/// Whether the value is an entity tag, weak or strong (RFC 9110 §8.8.3).
fn is_entity_tag(value: &[u8]) -> bool {
    let quoted = opaque_tag(value);
    matches!(quoted, [b'"', content @ .., b'"'] if content.iter().all(|byte| is_etagc(*byte)))
}

/// Whether If-None-Match is true: the current representation is none of those listed.
///
/// The current representation exists, so it is always one of `*` (RFC 9110 §13.1.2).
pub(crate) fn none_match<'a>(mut lines: impl Iterator<Item = &'a [u8]>, current: Option<&[u8]>) -> bool {
    !lines.any(|line| {
        trim_ows(line) == b"*"
            || current.is_some_and(|current| entity_tags(line).any(|tag| weak_eq(tag, current)))
    })
}

/// Whether a line is the current tag as it was given, and nothing else: what nearly all clients send, told at once.
#[inline]
pub(crate) fn is_returned(line: &[u8], current: Option<&[u8]>) -> bool {
    current == Some(line) && is_entity_tag(line)
}

/// Whether If-Range is true, so that the Range beside it holds (RFC 9110 §13.1.5).
///
/// A date has to be Last-Modified itself, not a later one; the caller gives that only where it is a strong validator
/// (RFC 9110 §8.8.2.2).
pub(crate) fn if_range_matches(
    value: &[u8],
    etag: Option<&[u8]>,
    last_modified: Option<i64>,
    now: i64,
) -> bool {
    let value = trim_ows(value);
    if is_entity_tag(value) {
        etag.is_some_and(|etag| strong_eq(value, etag))
    } else {
        last_modified.is_some_and(|modified| date::parse(value, now) == Some(modified))
    }
}

/// Whether a value is a strong entity tag (RFC 9110 §8.8.3).
pub(crate) fn is_strong(value: &[u8]) -> bool {
    value.starts_with(b"\"") && is_entity_tag(value)
}

/// Whether two entity tags are the same and both strong (RFC 9110 §8.8.3.2).
fn strong_eq(a: &[u8], b: &[u8]) -> bool {
    a == b && is_strong(a)
}

/// Whether two entity tags are the same, weak or strong (RFC 9110 §8.8.3.2).
pub(crate) fn weak_eq(a: &[u8], b: &[u8]) -> bool {
    opaque_tag(a) == opaque_tag(b)
}

fn opaque_tag(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

/// The entity tags of a list; what is none is skipped up to the next comma.
///
/// A list of tags is not one of quoted-strings: a backslash escapes nothing (RFC 9110 §8.8.3).
fn entity_tags(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut list = trim_ows(list);
    iter::from_fn(move || {
        while !list.is_empty() {
            if let Some((tag, rest)) = split_entity_tag(list)
                && let [] | [b',', ..] = trim_ows(rest)
            {
                list = next_member(rest);
                return Some(tag);
            }
            list = next_member(list);
        }
        None
    })
}

fn next_member(list: &[u8]) -> &[u8] {
    let behind_comma = list.splitn(2, |&byte| byte == b',').nth(1);
    trim_ows(behind_comma.unwrap_or_default())
}

/// Splits off the entity tag the value starts with (RFC 9110 §8.8.3).
fn split_entity_tag(value: &[u8]) -> Option<(&[u8], &[u8])> {
    let content = opaque_tag(value).strip_prefix(b"\"")?;
    let length = content.iter().take_while(|&&byte| is_etagc(byte)).count();
    let rest = content.get(length..)?.strip_prefix(b"\"")?;
    value.split_at_checked(value.len() - rest.len())
}

fn is_etagc(byte: u8) -> bool {
    matches!(byte, 0x21 | 0x23..=0x7e | 0x80..)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};

    const NOW: i64 = 1_767_225_600;
    const TAG: Option<&[u8]> = Some(b"\"abc\"");

    fn none_of(lines: &[&str], current: &str) -> bool {
        none_match(lines.iter().map(|line| line.as_bytes()), Some(current.as_bytes()))
    }

    fn tags(list: &str) -> Vec<&str> {
        entity_tags(list.as_bytes()).map(|tag| std::str::from_utf8(tag).unwrap()).collect()
    }

    #[test]
    fn an_entity_tag_is_quoted_and_perhaps_weak() {
        for good in [r#""a""#, r#""""#, r#"W/"a""#, r#""a,b\""#, r#"W/"""#, "\"\u{fc}\""] {
            assert!(is_entity_tag(good.as_bytes()), "{good}");
        }
        for bad in [
            "",
            "a",
            "W/",
            "W/a",
            r#"""#,
            r#""a"#,
            r#"a""#,
            r#"w/"a""#,
            r#"W"a""#,
            r#"W\"a""#,
            r#"W/W/"a""#,
            r#"W/ "a""#,
            r#""a b""#,
            r#""a"b""#,
            r#""a" "#,
            "\"a\t\"",
            "\"\x7f\"",
            "'a'",
            "*",
        ] {
            assert!(!is_entity_tag(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn any_member_may_match() {
        let list = r#""abc", "1", W/"2",,"3" , "a,b\" "#;
        for listed in [r#""abc""#, r#""1""#, r#""2""#, r#"W/"3""#, r#""a,b\""#] {
            assert!(!none_of(&[list], listed), "{listed}");
            assert!(!none_of(&["", r#""x""#, list], listed), "{listed}");
        }
        for other in [r#""""#, r#""ABC""#, r#""b\""#, "1", "abc"] {
            assert!(none_of(&[list], other), "{other}");
        }
    }

    #[test]
    fn if_none_match_compares_weakly() {
        for listed in [r#""a""#, r#"W/"a""#] {
            for current in [r#""a""#, r#"W/"a""#] {
                assert!(!none_of(&[listed], current), "{listed} {current}");
            }
        }
    }

    #[test]
    fn a_star_is_any_representation() {
        assert!(!none_match([&b" * "[..]].into_iter(), None));
        assert!(!none_match([&b"*"[..]].into_iter(), TAG));
        assert!(none_of(&["\"*\""], "\"a\""));
    }

    #[test]
    fn nothing_matches_nothing() {
        assert!(none_match([&b"\"a\""[..]].into_iter(), None));
        assert!(none_match([].into_iter(), TAG));
        assert!(none_of(&["", " ,, "], "\"a\""));
        assert!(none_of(&[""], ""));
    }

    #[test]
    fn a_tag_that_is_returned_matches() {
        for tag in [r#""abc""#, r#"W/"abc""#, r#""""#] {
            assert!(is_returned(tag.as_bytes(), Some(tag.as_bytes())) && !none_of(&[tag], tag), "{tag}");
            assert!(!is_returned(tag.as_bytes(), Some(b"\"another\"")));
        }
    }

    #[test]
    fn malformed_tags_never_match() {
        for bad in ["abc", r#"w/"abc""#, r#"W\"abc""#, r#"W"abc""#, "'abc'", r#""abc"#] {
            assert!(none_of(&[bad], bad) && !is_returned(bad.as_bytes(), Some(bad.as_bytes())), "{bad}");
            assert!(none_of(&[bad], r#""abc""#), "{bad}");
            assert!(none_of(&[r#""abc""#], bad), "{bad}");
        }
    }

    #[test]
    fn a_malformed_member_ends_at_the_next_comma() {
        assert_eq!(tags(r#"a, "b""#), [r#""b""#]);
        assert_eq!(tags(r#""a, "b""#), [r#""b""#]);
        assert_eq!(tags(r#""a"x, "b""#), [r#""b""#]);
        assert_eq!(tags(r#""a" "x", W/"b""#), [r#"W/"b""#]);
        assert_eq!(tags(r#"w/"a", "b" , "#), [r#""b""#]);
        assert_eq!(tags(r#""a\", "b""#), [r#""a\""#, r#""b""#]);
        assert_eq!(tags(r#""a,b","c""#), [r#""a,b""#, r#""c""#]);
    }

    #[test]
    fn strong_comparison_takes_strong_tags_only() {
        assert!(strong_eq(b"\"a\"", b"\"a\""));
        for (a, b) in [
            (r#"W/"a""#, r#"W/"a""#),
            (r#"W/"a""#, r#""a""#),
            (r#""a""#, r#"W/"a""#),
            (r#""a""#, r#""b""#),
            ("a", "a"),
            ("", ""),
        ] {
            assert!(!strong_eq(a.as_bytes(), b.as_bytes()), "{a} {b}");
        }
    }

    #[test]
    fn if_range_takes_the_same_strong_tag() {
        assert!(if_range_matches(b" \"abc\" ", TAG, None, NOW));
        assert!(!if_range_matches(b"W/\"abc\"", TAG, None, NOW));
        assert!(!if_range_matches(b"W/\"abc\"", Some(b"W/\"abc\""), None, NOW));
        assert!(!if_range_matches(b"\"abcd\"", TAG, Some(0), NOW));
        assert!(!if_range_matches(b"\"abc\"", None, Some(0), NOW));
        assert!(!if_range_matches(b"abc", Some(b"abc"), Some(0), NOW));
        assert!(!if_range_matches(b"\"abc\", \"d\"", TAG, Some(0), NOW));
        assert!(!if_range_matches(b"*", TAG, Some(0), NOW));
        assert!(!if_range_matches(b"", TAG, Some(0), NOW));
    }

    #[test]
    fn if_range_takes_the_same_date() {
        let date = b"Sun, 06 Nov 1994 08:49:37 GMT";
        let modified = 784_111_777;
        assert!(if_range_matches(date, TAG, Some(modified), NOW));
        assert!(if_range_matches(b"Sun Nov  6 08:49:37 1994", None, Some(modified), NOW));
        assert!(!if_range_matches(date, TAG, Some(modified - 1), NOW));
        assert!(!if_range_matches(date, TAG, Some(modified + 1), NOW));
        assert!(!if_range_matches(date, TAG, None, NOW));
        assert!(!if_range_matches(b"Sun, 06 Nov 1994", TAG, Some(modified), NOW));
    }

    #[test]
    fn a_long_list_is_read_once() {
        for unit in ["\"a\",", "\"", "\",", ",", " ", "a,", "W/\"", "\"a\" ", "\"a, ", "\" ,"] {
            let list = unit.repeat(100_000 / unit.len());
            assert!(none_of(&[&list], "\"b\""), "{unit}");
            assert!(none_of(&[&format!("\"{list}")], "\"b\""), "{unit}");
        }
    }

    proptest! {
        #[test]
        fn what_is_listed_is_found(contents in vec("[!#-~]{0,9}", 0..9), weak: bool) {
            let prefix = if weak { "W/" } else { "" };
            let listed: Vec<_> = contents.iter().map(|content| format!("{prefix}\"{content}\"")).collect();
            let list = listed.join(" , ");
            prop_assert_eq!(tags(&list), listed);
        }

        #[test]
        fn whatever_is_found_is_an_entity_tag(list in "[\"W/, \t\\\\a]{0,60}") {
            prop_assert!(entity_tags(list.as_bytes()).all(is_entity_tag));
        }

        #[test]
        fn no_bytes_cause_a_panic(value: Vec<u8>, current: Vec<u8>, now: i64) {
            none_match([&value[..]].into_iter(), Some(&current));
            if_range_matches(&value, Some(&current), Some(now), now);
        }
    }
}
