//! What the syntaxes of several fields share: lists, tokens, quoted strings, numbers.

use std::borrow::Cow;

use actix_web::http::header::HeaderName;

/// The greatest delta-seconds; every longer one means this one (RFC 9111 §1.2.2).
pub(crate) const DELTA_MAX: u32 = 1 << 31;

/// The value without the optional whitespace around it (RFC 9110 §5.6.3).
pub(crate) fn trim_ows(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// The members of a comma-separated list, without the empty ones (RFC 9110 §5.6.1.2).
///
/// A comma inside a quoted-string is part of its member (RFC 9110 §5.6.4); a quote that is never
/// closed runs to the end, so nothing inside it is mistaken for a member.
pub(crate) fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    value
        .split(move |&byte| {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = quoted,
                b'"' => quoted = !quoted,
                _ => {}
            }
            byte == b',' && !quoted
        })
        .map(trim_ows)
        .filter(|member| !member.is_empty())
}

/// The names of fields in such a list, without those that are none.
pub(crate) fn names(value: &[u8]) -> impl Iterator<Item = HeaderName> {
    members(value).filter_map(|member| HeaderName::from_bytes(member).ok())
}

/// Whether a byte may stand in a token (RFC 9110 §5.6.2).
pub(crate) fn is_tchar(byte: u8) -> bool {
    matches!(byte,
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
}

/// The content of a quoted-string, each quoted-pair replaced by its second byte (RFC 9110 §5.6.4).
pub(crate) fn unquote(value: &[u8]) -> Option<Cow<'_, [u8]>> {
    let content = value.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if !content.iter().any(|byte| matches!(byte, b'"' | b'\\')) {
        return Some(Cow::Borrowed(content));
    }
    let mut plain = Vec::with_capacity(content.len());
    let mut bytes = content.iter().copied();
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'"' => return None,
            b'\\' => bytes.next()?,
            _ => byte,
        });
    }
    Some(Cow::Owned(plain))
}

/// A number written in digits and nothing else; one too great for `u64` saturates.
pub(crate) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(
        digits
            .iter()
            .fold(0, |number: u64, digit| number.saturating_mul(10).saturating_add(u64::from(digit - b'0'))),
    )
}

/// A number of seconds; too great a one saturates to [`DELTA_MAX`] (RFC 9111 §1.2.2).
pub(crate) fn delta_seconds(arg: &[u8]) -> Option<u32> {
    decimal(arg).map(|seconds| u32::try_from(seconds).map_or(DELTA_MAX, |s| s.min(DELTA_MAX)))
}

/// The seconds an `Age` field states, none if it is absent or invalid.
///
/// `Age` is no list, but where it comes as one its first member counts, and an invalid one is
/// ignored, not taken as stale (RFC 9111 §5.1).
pub(crate) fn age<'a>(lines: impl Iterator<Item = &'a [u8]>) -> u32 {
    lines.flat_map(members).next().and_then(delta_seconds).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};

    fn split(value: &str) -> Vec<&str> {
        members(value.as_bytes()).map(|member| std::str::from_utf8(member).unwrap()).collect()
    }

    fn age_of(lines: &[&str]) -> u32 {
        age(lines.iter().map(|line| line.as_bytes()))
    }

    #[test]
    fn optional_whitespace_is_space_and_tab_only() {
        assert_eq!(trim_ows(b" \t a b\t "), b"a b");
        assert_eq!(trim_ows(b"\n\x0ba\r"), b"\n\x0ba\r");
        assert_eq!(trim_ows(b" \t "), b"");
    }

    #[test]
    fn members_are_trimmed_and_empty_ones_dropped() {
        assert_eq!(split(" a ,\tb,, ,c d,"), ["a", "b", "c d"]);
        assert_eq!(split(""), [""; 0]);
        assert_eq!(split(" , ,,"), [""; 0]);
    }

    #[test]
    fn a_quoted_comma_does_not_split() {
        assert_eq!(split(r#"a="1, 2", b"#), [r#"a="1, 2""#, "b"]);
        assert_eq!(split(r#"a="\",", b"#), [r#"a="\",""#, "b"]);
        assert_eq!(split(r#"a="\\", b"#), [r#"a="\\""#, "b"]);
    }

    #[test]
    fn a_backslash_outside_quotes_is_a_plain_byte() {
        assert_eq!(split(r#"a\, b"#), [r"a\", "b"]);
        assert_eq!(split(r#"a\"b, c", d"#), [r#"a\"b, c""#, "d"]);
    }

    #[test]
    fn an_unterminated_quote_runs_to_the_end() {
        assert_eq!(split(r#"a, b="c, d"#), ["a", r#"b="c, d"#]);
        assert_eq!(split(r#"a="b\"#), [r#"a="b\"#]);
    }

    #[test]
    fn a_quoted_string_loses_its_quotes_and_escapes() {
        assert_eq!(unquote(br#""60""#).as_deref(), Some(&b"60"[..]));
        assert_eq!(unquote(br#""a\"b\\""#).as_deref(), Some(&br#"a"b\"#[..]));
        assert_eq!(unquote(br#""""#).as_deref(), Some(&b""[..]));
        for bad in [r#"""#, r#""a"#, r#"a""#, r#""a"b""#, r#""a\""#, "a", ""] {
            assert_eq!(unquote(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn delta_seconds_are_digits_only() {
        assert_eq!(delta_seconds(b"0"), Some(0));
        assert_eq!(delta_seconds(b"003600"), Some(3600));
        for bad in ["", "-1", "+1", "1.5", "1e3", " 1", "1 ", "'1'", "\"1\"", "0x1"] {
            assert_eq!(delta_seconds(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn delta_seconds_saturate() {
        assert_eq!(delta_seconds(b"2147483647"), Some(DELTA_MAX - 1));
        for great in ["2147483648", "2147483649", "4294967296", "18446744073709551617"] {
            assert_eq!(delta_seconds(great.as_bytes()), Some(DELTA_MAX), "{great}");
        }
        assert_eq!(delta_seconds(&[b'9'; 100_000]), Some(DELTA_MAX));
    }

    #[test]
    fn the_first_age_counts() {
        assert_eq!(age_of(&["7200, 0"]), 7200);
        assert_eq!(age_of(&["0, 7200"]), 0);
        assert_eq!(age_of(&["7200", "0"]), 7200);
        assert_eq!(age_of(&["", "7200"]), 7200);
        assert_eq!(age_of(&["99999999999"]), DELTA_MAX);
    }

    #[test]
    fn an_invalid_age_is_ignored() {
        for bad in ["abc", "-7200", "7200.0", "7200;a=b", "\"7200\"", "abc, 7200", ""] {
            assert_eq!(age_of(&[bad]), 0, "{bad:?}");
        }
        assert_eq!(age_of(&[]), 0);
    }

    #[test]
    fn a_long_value_is_read_once() {
        for unit in ["a,", "\"", "\\", "\"\\\"", " ", ",", "\","] {
            let value = unit.repeat(100_000 / unit.len());
            assert!(members(value.as_bytes()).count() <= 50_000);
            unquote(value.as_bytes());
        }
    }

    proptest! {
        #[test]
        fn members_cover_every_byte_that_is_not_a_separator(value: Vec<u8>) {
            let kept: usize = members(&value).map(<[u8]>::len).sum();
            let separators = value.iter().filter(|byte| b" \t,".contains(byte)).count();
            prop_assert!(kept <= value.len() && kept + separators >= value.len());
            prop_assert!(members(&value).all(|member| trim_ows(member) == member));
        }

        #[test]
        fn a_joined_list_splits_into_its_tokens(tokens in vec("[a-z0-9=]{1,9}", 0..20)) {
            let list = tokens.join(" , ");
            prop_assert_eq!(split(&list), tokens);
        }

        #[test]
        fn a_quoted_string_survives_the_round_trip(content: Vec<u8>) {
            let mut quoted = vec![b'"'];
            for &byte in &content {
                quoted.extend([b'\\', byte]);
            }
            quoted.push(b'"');
            prop_assert_eq!(unquote(&quoted).map(Cow::into_owned), Some(content));
            prop_assert_eq!(members(&quoted).count(), 1);
        }

        #[test]
        fn every_number_is_read_back(number: u64) {
            prop_assert_eq!(decimal(number.to_string().as_bytes()), Some(number));
        }

        #[test]
        fn no_bytes_cause_a_panic(value: Vec<u8>) {
            unquote(&value);
            prop_assert!(delta_seconds(&value).unwrap_or(0) <= DELTA_MAX);
            age([&value[..], &value[..]].into_iter());
        }
    }
}
