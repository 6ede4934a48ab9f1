//! What an answer's fields say, parsed once.

use actix_web::http::header::{self, HeaderName};

use crate::policy::directives::{Reach, ResponseDirectives};
use crate::policy::{date, fields, targeted, vary};

/// The facts of a response head that caching rests on.
#[derive(Debug, Clone, Default)]
pub(crate) struct ResponseFacts {
    /// `Cache-Control`.
    pub(crate) cache: ResponseDirectives,
    /// The first field that speaks to caches like this one, if it can be read.
    pub(crate) targeted: Option<ResponseDirectives>,
    pub(crate) age: u32,
    pub(crate) date: Option<i64>,
    /// There is a `Date`, if one that cannot be read.
    pub(crate) is_dated: bool,
    /// `Expires`: absent, or a date; a bad date is the past (RFC 9111 section 5.3).
    pub(crate) expires: Option<i64>,
    pub(crate) last_modified: Option<i64>,
    pub(crate) has_etag: bool,
    pub(crate) vary: vary::Names,
    pub(crate) sets_cookie: bool,
    pub(crate) event_stream: bool,
    pub(crate) nonce: bool,
    pub(crate) groups: Vec<Vec<u8>>,
    /// The fields that `Connection` names (RFC 9110 section 7.6.1).
    pub(crate) of_connection: Vec<HeaderName>,
    pub(crate) lines: usize,
    pub(crate) bytes: usize,
}

impl ResponseFacts {
    /// Reads the field lines of an answer.
    pub(crate) fn read<'a>(
        lines: impl Iterator<Item = (&'a HeaderName, &'a [u8])>,
        targets: &[HeaderName],
        now: i64,
    ) -> Self {
        let mut facts = Self::default();
        let (mut age, mut expires) = (Vec::new(), Vec::new());
        let mut spoken: Vec<(usize, &[u8])> = Vec::new();
        let mut encoded = false;
        for (name, value) in lines {
            facts.lines += 1;
            facts.bytes += name.as_str().len() + value.len();
            // Names that everyone knows are compared by their numbers, and only the others by text.
            match *name {
                header::CACHE_CONTROL => facts.cache.read_line(value),
                header::AGE => age.push(value),
                header::EXPIRES => expires.push(value),
                header::DATE => {
                    facts.is_dated = true;
                    facts.date = date::parse(value, now);
                }
                header::LAST_MODIFIED => facts.last_modified = date::parse(value, now),
                header::ETAG => facts.has_etag = true,
                header::VARY => facts.vary.add_field(value),
                header::SET_COOKIE => facts.sets_cookie = true,
                header::CONTENT_TYPE => facts.event_stream = starts_with(value, b"text/event-stream"),
                header::CONTENT_ENCODING => encoded = !value.eq_ignore_ascii_case(b"identity"),
                header::CONNECTION => facts.of_connection.extend(fields::names(value)),
                // Some layers answer for the asking origin and forget to say so.
                header::ACCESS_CONTROL_ALLOW_ORIGIN if value != b"*" => facts.vary.add("origin"),
                header::CONTENT_SECURITY_POLICY | header::CONTENT_SECURITY_POLICY_REPORT_ONLY => {
                    facts.nonce |= value.windows(7).any(|part| part.eq_ignore_ascii_case(b"'nonce-"));
                }
                _ if name.as_str() == "cache-groups" => facts.groups.push(value.to_vec()),
                _ => {
                    if let Some(rank) = targets.iter().position(|target| target == name) {
                        spoken.push((rank, value));
                    }
                }
            }
        }
        if encoded {
            facts.vary.add("accept-encoding");
        }
        if !spoken.is_empty() {
            facts.targeted = (0..targets.len()).find_map(|rank| {
                targeted::parse(spoken.iter().filter(|(of, _)| *of == rank).map(|(_, value)| *value))
            });
        }
        facts.age = fields::age(age.into_iter());
        facts.expires = match expires.as_slice() {
            [] => None,
            [one] => Some(date::parse(one, now).unwrap_or(i64::MIN)),
            _ => Some(i64::MIN),
        };
        facts
    }

    /// Takes what is said by its letter; gives the fields that are not to be stored.
    ///
    /// A targeted field is all that counts (RFC 9213 section 2.2); `must-understand` of a status that is understood
    /// lifts `no-store` (RFC 9111 section 5.2.2.3); `private` and `no-cache` with names are about these fields
    /// (sections 5.2.2.4 and 5.2.2.7). A field that is not reused without validation is not stored either: nothing
    /// would tell a hit that it may not have it.
    pub(crate) fn read_to_the_letter(&mut self, understood: bool) -> Vec<HeaderName> {
        if let Some(targeted) = self.targeted.take() {
            self.cache = targeted;
            self.expires = None;
        }
        let said = &mut self.cache;
        said.no_store &= !(said.must_understand && understood);
        let mut withheld = Vec::new();
        for reach in [&mut said.private, &mut said.no_cache] {
            if let Reach::Fields(names) = reach {
                withheld.append(names);
                *reach = Reach::Nothing;
            }
        }
        withheld
    }

    /// What is said to this cache: by a targeted field, in place of `Cache-Control` (RFC 9213 section 2.2).
    pub(crate) fn said(&self) -> &ResponseDirectives {
        self.targeted.as_ref().unwrap_or(&self.cache)
    }

    /// Both of what is said to all caches and to this one, where either forbids.
    pub(crate) fn either(&self, forbids: impl Fn(&ResponseDirectives) -> bool) -> bool {
        forbids(&self.cache) || self.targeted.as_ref().is_some_and(forbids)
    }
}

fn starts_with(value: &[u8], start: &[u8]) -> bool {
    value.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_for_one_origin_or_encoding_varies_whatever_it_says() {
        let read = |lines: &[(&'static str, &'static str)]| {
            let lines: Vec<_> =
                lines.iter().map(|(name, value)| (HeaderName::from_static(name), value.as_bytes())).collect();
            ResponseFacts::read(lines.iter().map(|(name, value)| (name, *value)), &[], 0)
        };
        let names = |facts: ResponseFacts| match facts.vary {
            vary::Names::Some(names) => names.iter().map(|name| name.as_str().to_owned()).collect(),
            vary::Names::Many | vary::Names::Any => vec!["*".to_owned()],
        };
        assert_eq!(names(read(&[("access-control-allow-origin", "https://a.example")])), ["origin"]);
        assert_eq!(names(read(&[("access-control-allow-origin", "*")])), [""; 0]);
        assert_eq!(names(read(&[("content-encoding", "gzip")])), ["accept-encoding"]);
        assert!(read(&[("content-security-policy", "script-src 'nonce-abc'")]).nonce);
        assert_eq!(read(&[("expires", "0")]).expires, Some(i64::MIN));
    }
}
