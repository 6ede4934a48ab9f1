//! When two values of a selecting field are the same (RFC 9111 section 4.1).

use actix_web::http::header::{self, HeaderName};

use crate::policy::fields::{decimal, is_tchar, members, trim_ows};

/// The form in which the value of a field is compared; its lines are joined already.
///
/// As a list, without the whitespace around its members; languages by what they ask for.
pub(crate) fn form(name: &HeaderName, value: &[u8]) -> Vec<u8> {
    let wanted = if *name == header::ACCEPT_LANGUAGE { languages(value) } else { None };
    wanted.map_or_else(|| without_whitespace(value), |wanted| written(&wanted))
}

fn without_whitespace(value: &[u8]) -> Vec<u8> {
    members(value).collect::<Vec<_>>().join(&b","[..])
}

/// A language range in lower case, and its weight in thousandths.
type Wanted = (u16, Vec<u8>);

/// The ranges of `Accept-Language`, the most wanted first; their order says nothing (RFC 9110 section 12.5.4).
fn languages(value: &[u8]) -> Option<Vec<Wanted>> {
    // Nobody reads so many; to sort them would cost every hit.
    if members(value).nth(MOST_LANGUAGES).is_some() {
        return None;
    }
    let mut wanted: Vec<Wanted> = members(value).map(language).collect::<Option<_>>()?;
    wanted.sort_unstable_by(|(a, one), (b, other)| b.cmp(a).then_with(|| one.cmp(other)));
    wanted.dedup();
    Some(wanted)
}

/// More than these are compared as any list.
const MOST_LANGUAGES: usize = 32;

/// `de-AT;q=0.5`
fn language(member: &[u8]) -> Option<Wanted> {
    let mut parts = member.splitn(2, |byte| *byte == b';');
    let range = trim_ows(parts.next()?);
    let is_range = !range.is_empty() && range.iter().all(|byte| is_tchar(*byte));
    let weight = match parts.next() {
        None => 1000,
        Some(parameter) => weight(trim_ows(parameter))?,
    };
    is_range.then(|| (weight, range.to_ascii_lowercase()))
}

/// `q=0.5`, in thousandths (RFC 9110 section 12.4.2).
fn weight(parameter: &[u8]) -> Option<u16> {
    let ([b'q' | b'Q', b'='], value) = parameter.split_at_checked(2)? else { return None };
    let mut parts = value.splitn(2, |byte| *byte == b'.');
    let (whole, fraction) = (decimal(parts.next()?)?, parts.next().unwrap_or_default());
    if fraction.len() > 3 || !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let thousandths =
        (0..3).fold(0, |sum, at| sum * 10 + fraction.get(at).map_or(0, |digit| u64::from(digit - b'0')));
    let weight = whole.checked_mul(1000)?.checked_add(thousandths)?;
    u16::try_from(weight).ok().filter(|weight| *weight <= 1000)
}

fn written(wanted: &[Wanted]) -> Vec<u8> {
    let each = |(weight, range): &Wanted| {
        let suffix = if *weight == 1000 { String::new() } else { format!(";q={weight}") };
        [range.as_slice(), suffix.as_bytes()].concat()
    };
    wanted.iter().map(each).collect::<Vec<_>>().join(&b","[..])
}

/// The one language that an `Accept-Language` wants most; none where it names several, or any.
pub(crate) fn preferred(accept_language: &[u8]) -> Option<Vec<u8>> {
    let mut wanted = languages(accept_language)?.into_iter();
    let (weight, first) = wanted.next()?;
    let alone = wanted.next().is_none_or(|(next, _)| next < weight);
    (alone && weight > 0 && first != b"*").then_some(first)
}

/// The one language that a `Content-Language` names.
pub(crate) fn spoken<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Option<Vec<u8>> {
    let mut tags = lines.flat_map(members);
    let tag = tags.next()?;
    let is_one = tags.next().is_none() && tag.iter().all(|byte| is_tchar(*byte));
    is_one.then(|| tag.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn form(name: &'static str, value: &str) -> String {
        let form = super::form(&HeaderName::from_static(name), value.as_bytes());
        String::from_utf8(form).expect("text")
    }

    #[test]
    fn whitespace_around_members_does_not_tell_values_apart() {
        for same in ["1,2", " 1, 2 ", "1 ,\t2", ",1,,2,"] {
            assert_eq!(form("foo", same), "1,2", "{same}");
        }
        for other in ["12", "1 2", "2,1", "1,2,3", "\"1, 2\""] {
            assert_ne!(form("foo", other), "1,2", "{other}");
        }
        assert_eq!(form("foo", "\"a, b\""), "\"a, b\"");
    }

    #[test]
    fn languages_are_compared_by_what_they_ask_for() {
        for same in ["en, de", "de,en", "EN, dE", " en ,   de", "de;q=1.0, en;q=1", "en,en,de;Q=1.000"] {
            assert_eq!(form("accept-language", same), "de,en", "{same}");
        }
        assert_eq!(form("accept-language", "en;q=0.5, de;q=0.50"), "de;q=500,en;q=500");
        for other in ["en", "en, fr", "en, de;q=0.9", "en, de, *", "en-GB, de"] {
            assert_ne!(form("accept-language", other), "de,en", "{other}");
        }
    }

    #[test]
    fn what_is_no_list_of_languages_is_compared_as_any_list() {
        for odd in ["en;q=2, de", "en;q=, de", "en;x=1,de", "en;q=0.1234", "e n", "en;q=-1", "en;q=0.x"] {
            assert_eq!(form("accept-language", odd), odd.replace(", ", ","), "{odd}");
        }
    }

    #[test]
    fn the_language_wanted_most_is_one() {
        for (field, expected) in [
            ("fr;q=0.5, de;q=1.0", Some("de")),
            ("DE", Some("de")),
            ("de-AT, de;q=0.9, *;q=0.1", Some("de-at")),
            ("en, de", None),
            ("*", None),
            ("de;q=0", None),
            ("", None),
            ("de;q=x", None),
        ] {
            let found = preferred(field.as_bytes());
            assert_eq!(found.as_deref(), expected.map(str::as_bytes), "{field}");
        }
        let spoken = |lines: &[&str]| spoken(lines.iter().map(|line| line.as_bytes()));
        assert_eq!(spoken(&["De"]).as_deref(), Some(&b"de"[..]));
        for none in [&["de, en"][..], &["de", "en"], &[], &["d e"]] {
            assert_eq!(spoken(none), None);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_cause_a_panic_and_the_form_is_its_own_form(value: Vec<u8>) {
            let once = super::form(&HeaderName::from_static("foo"), &value);
            prop_assert_eq!(super::form(&HeaderName::from_static("foo"), &once), once);
            super::form(&header::ACCEPT_LANGUAGE, &value);
            preferred(&value);
            spoken([value.as_slice()].into_iter());
        }

        #[test]
        fn the_order_of_languages_says_nothing(mut languages in proptest::collection::vec("[a-z]{2}(;q=0\\.[0-9])?", 1..6)) {
            let one = form("accept-language", &languages.join(", "));
            languages.reverse();
            prop_assert_eq!(form("accept-language", &languages.join(",")), one);
        }
    }
}
