//! Targeted cache control (RFC 9213): fields that speak to some caches only, as `CDN-Cache-Control` does.

use sfv::{BareItem, Dictionary, ListEntry, Parser};

use crate::policy::directives::{Reach, ResponseDirectives};
use crate::policy::fields::DELTA_MAX;

/// Reads the lines of a targeted field; one that is empty, does not parse, or gives a directive a value of the wrong
/// type is as if absent (RFC 9213 section 2.1).
pub(crate) fn parse<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Option<ResponseDirectives> {
    let joined = lines.collect::<Vec<_>>().join(&b", "[..]);
    let members: Dictionary = Parser::new(&joined).parse().ok()?;
    let mut found = ResponseDirectives::default();
    for (name, member) in &members {
        match name.as_str() {
            "no-store" => found.no_store = flag(member)?,
            "private" => found.private = reach(member)?,
            "public" => found.public = flag(member)?,
            "no-cache" => found.no_cache = reach(member)?,
            "must-revalidate" => found.must_revalidate = flag(member)?,
            "must-understand" => found.must_understand = flag(member)?,
            "proxy-revalidate" => found.proxy_revalidate = flag(member)?,
            "max-age" => found.max_age = Some(seconds(member)?),
            "s-maxage" => found.s_maxage = Some(seconds(member)?),
            "stale-while-revalidate" => found.stale_while_revalidate = Some(seconds(member)?),
            "stale-if-error" => found.stale_if_error = Some(seconds(member)?),
            _ => {}
        }
    }
    (!members.is_empty()).then_some(found)
}

/// What no list of its own is.
fn bare(member: &ListEntry) -> Option<&BareItem> {
    match member {
        ListEntry::Item(item) => Some(&item.bare_item),
        ListEntry::InnerList(_) => None,
    }
}

fn flag(member: &ListEntry) -> Option<bool> {
    match bare(member)? {
        BareItem::Boolean(flag) => Some(*flag),
        _ => None,
    }
}

/// `no-cache` and `private` are flags here too: no form of a dictionary names fields.
fn reach(member: &ListEntry) -> Option<Reach> {
    flag(member).map(|said| if said { Reach::Whole } else { Reach::Nothing })
}

/// Delta-seconds saturate (RFC 9111 section 1.2.2); negative ones are none.
fn seconds(member: &ListEntry) -> Option<u32> {
    match bare(member)? {
        BareItem::Integer(seconds) => {
            let seconds = u64::try_from(i64::from(*seconds)).ok()?;
            Some(u32::try_from(seconds).unwrap_or(DELTA_MAX).min(DELTA_MAX))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Option<ResponseDirectives> {
        parse([line.as_bytes()].into_iter())
    }

    #[test]
    fn directives_are_members_of_a_dictionary() {
        let found = read("max-age=600, must-revalidate, no-store=?0, ext=\"x\"").expect("a dictionary");
        assert_eq!((found.max_age, found.must_revalidate, found.no_store), (Some(600), true, false));
        assert_eq!(read("max-age=999999999999999").and_then(|found| found.max_age), Some(DELTA_MAX));
        let lines = parse([&b"max-age=1"[..], b"private"].into_iter()).expect("two lines are one dictionary");
        assert_eq!(lines.private, Reach::Whole);
    }

    #[test]
    fn what_is_no_dictionary_or_of_a_wrong_type_is_absent() {
        for line in [
            "",
            "max-age=",
            "max-age=60;",
            "max-age=\"60\"",
            "max-age=1.5",
            "max-age=-1",
            "no-store=1",
            "Max-Age=1",
            "max-age=(1 2)",
            "max-age=60 private",
        ] {
            assert_eq!(read(line), None, "{line}");
        }
    }
}
