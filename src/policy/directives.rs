//! Cache-Control as typed directives (RFC 9111 §5.2).

use std::borrow::Cow;

use actix_web::http::header::HeaderName;

use super::fields::{delta_seconds, is_tchar, members, unquote};

/// What a directive is about that may name fields (RFC 9111 §5.2.2.4, §5.2.2.7).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Reach {
    #[default]
    Nothing,
    /// These fields, and no more.
    Fields(Vec<HeaderName>),
    /// The response.
    Whole,
}

impl Reach {
    /// Many caches take the form with field names for the one without; so does everybody who has to be careful.
    pub(crate) fn is_said(&self) -> bool {
        *self != Self::Nothing
    }

    /// Adds what another directive of this name says.
    fn add(&mut self, argument: &Argument<'_>) {
        let named = match argument {
            Argument::Given(argument) => field_names(argument),
            Argument::Absent | Argument::Malformed => None,
        };
        match (&mut *self, named) {
            (Self::Fields(known), Some(names)) => known.extend(names),
            (Self::Nothing, Some(names)) => *self = Self::Fields(names),
            _ => *self = Self::Whole,
        }
    }
}

/// The names in an argument such as `"set-cookie, x-user"`; none where it is not quoted, or names nothing.
fn field_names(argument: &[u8]) -> Option<Vec<HeaderName>> {
    let names: Option<Vec<_>> =
        members(&unquote(argument)?).map(|name| HeaderName::from_bytes(name).ok()).collect();
    names.filter(|names| !names.is_empty())
}

/// What a response allows and forbids (RFC 9111 §5.2.2).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ResponseDirectives {
    /// Is not to be stored (RFC 9111 §5.2.2.5).
    pub(crate) no_store: bool,
    /// Is not to be stored by a shared cache (RFC 9111 §5.2.2.7).
    pub(crate) private: Reach,
    /// May be stored where it otherwise might not (RFC 9111 §5.2.2.9).
    pub(crate) public: bool,
    /// Is to be validated on every use (RFC 9111 §5.2.2.4).
    pub(crate) no_cache: Reach,
    /// Is not to be used stale (RFC 9111 §5.2.2.2).
    pub(crate) must_revalidate: bool,
    /// Is not to be used stale by a shared cache (RFC 9111 §5.2.2.8).
    pub(crate) proxy_revalidate: bool,
    /// Is to be stored if the status code is understood, and only then (RFC 9111 §5.2.2.3).
    pub(crate) must_understand: bool,
    /// Is to keep its content as it is (RFC 9111 §5.2.2.6).
    pub(crate) no_transform: bool,
    /// Will not change while it is fresh (RFC 8246 §2).
    pub(crate) immutable: bool,
    /// The lifetime (RFC 9111 §5.2.2.1).
    pub(crate) max_age: Option<u32>,
    /// The lifetime in a shared cache (RFC 9111 §5.2.2.10).
    pub(crate) s_maxage: Option<u32>,
    /// How long past its lifetime it may be used while it is validated (RFC 5861 §3).
    pub(crate) stale_while_revalidate: Option<u32>,
    /// How long past its lifetime it may be used in place of an error (RFC 5861 §4).
    pub(crate) stale_if_error: Option<u32>,
}

impl ResponseDirectives {
    /// Reads a line of a Cache-Control field, after those before it; what is unknown means nothing (RFC 9111 §5.2.3).
    pub(crate) fn read_line(&mut self, line: &[u8]) {
        for directive in members(line).map(Directive::read) {
            match &*directive.name {
                b"no-store" => self.no_store = true,
                b"private" => self.private.add(&directive.argument),
                b"public" => self.public |= directive.is_well_formed(),
                b"no-cache" => self.no_cache.add(&directive.argument),
                b"must-revalidate" => self.must_revalidate = true,
                b"proxy-revalidate" => self.proxy_revalidate = true,
                b"must-understand" => self.must_understand |= directive.is_well_formed(),
                b"no-transform" => self.no_transform = true,
                b"immutable" => self.immutable = true,
                b"max-age" => first(&mut self.max_age, directive.lifetime()),
                b"s-maxage" => first(&mut self.s_maxage, directive.lifetime()),
                b"stale-while-revalidate" => {
                    first(&mut self.stale_while_revalidate, directive.seconds());
                }
                b"stale-if-error" => first(&mut self.stale_if_error, directive.seconds()),
                _ => {}
            }
        }
    }
}

/// What a request asks of the caches on its way (RFC 9111 §5.2.1).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RequestDirectives {
    /// No stored response without validation (RFC 9111 §5.2.1.4).
    pub(crate) no_cache: bool,
    /// Nothing of this exchange is to be stored (RFC 9111 §5.2.1.5).
    pub(crate) no_store: bool,
    /// Nothing but a stored response (RFC 9111 §5.2.1.7).
    pub(crate) only_if_cached: bool,
    /// No response older than this (RFC 9111 §5.2.1.1).
    pub(crate) max_age: Option<u32>,
    /// No response that is fresh for less than this (RFC 9111 §5.2.1.3).
    pub(crate) min_fresh: Option<u32>,
    /// A stale response is welcome (RFC 9111 §5.2.1.2).
    pub(crate) max_stale: Option<MaxStale>,
    /// How long past its lifetime a response may be used in place of an error (RFC 5861 §4).
    pub(crate) stale_if_error: Option<u32>,
}

/// How stale a response a request takes (RFC 9111 §5.2.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MaxStale {
    /// Stale by any time.
    Any,
    /// Stale by no more than these seconds.
    For(u32),
}

impl RequestDirectives {
    /// Reads the lines of a Cache-Control field; what is unknown means nothing (RFC 9111 §5.2.3).
    pub(crate) fn parse<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut found = Self::default();
        for directive in lines.flat_map(members).map(Directive::read) {
            match &*directive.name {
                b"no-cache" => found.no_cache = true,
                b"no-store" => found.no_store = true,
                b"only-if-cached" => found.only_if_cached = true,
                b"max-age" => first(&mut found.max_age, directive.lifetime()),
                b"min-fresh" => first(&mut found.min_fresh, directive.seconds()),
                b"max-stale" => first(&mut found.max_stale, directive.max_stale()),
                b"stale-if-error" => first(&mut found.stale_if_error, directive.seconds()),
                _ => {}
            }
        }
        found
    }
}

/// Of a directive given twice, the first occurrence counts (RFC 9111 §4.2.1).
fn first<T>(slot: &mut Option<T>, value: Option<T>) {
    if slot.is_none() {
        *slot = value;
    }
}

/// One member of the field: its name in lower case, and what follows it.
struct Directive<'a> {
    name: Cow<'a, [u8]>,
    argument: Argument<'a>,
}

enum Argument<'a> {
    Absent,
    Given(&'a [u8]),
    Malformed,
}

impl<'a> Directive<'a> {
    /// Splits `token [ "=" argument ]` (RFC 9111 §5.2), with no space around the `=`.
    ///
    /// Junk behind a name does not hide the name: `no-store; x` still forbids to store.
    fn read(member: &'a [u8]) -> Self {
        let length = member.iter().take_while(|&&byte| is_tchar(byte)).count();
        let (name, rest) = member.split_at(length);
        Self {
            name: if name.iter().any(u8::is_ascii_uppercase) {
                Cow::Owned(name.to_ascii_lowercase())
            } else {
                Cow::Borrowed(name)
            },
            argument: match rest {
                [] => Argument::Absent,
                [b'=', argument @ ..] => Argument::Given(argument),
                _ => Argument::Malformed,
            },
        }
    }

    /// Asked of flags that permit: unlike those that forbid, they need to be beyond doubt.
    fn is_well_formed(&self) -> bool {
        !matches!(self.argument, Argument::Malformed)
    }

    /// The argument in seconds, as a token or a quoted-string (RFC 9111 §5.2).
    fn seconds(&self) -> Option<u32> {
        match self.argument {
            Argument::Given(argument) => delta_seconds(unquote(argument).as_deref().unwrap_or(argument)),
            Argument::Absent | Argument::Malformed => None,
        }
    }

    /// The argument in seconds; a bad one counts as stale at once (RFC 9111 §4.2.1).
    fn lifetime(&self) -> Option<u32> {
        self.seconds().or(Some(0))
    }

    /// The argument in seconds, or no limit if there is none (RFC 9111 §5.2.1.2).
    fn max_stale(&self) -> Option<MaxStale> {
        match self.argument {
            Argument::Absent => Some(MaxStale::Any),
            _ => self.seconds().map(MaxStale::For),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fields::DELTA_MAX;
    use super::*;
    use proptest::{collection::vec, prelude::*};

    fn response(lines: &[&str]) -> ResponseDirectives {
        let mut found = ResponseDirectives::default();
        lines.iter().for_each(|line| found.read_line(line.as_bytes()));
        found
    }

    fn request(lines: &[&str]) -> RequestDirectives {
        RequestDirectives::parse(lines.iter().map(|line| line.as_bytes()))
    }

    fn max_age(line: &str) -> Option<u32> {
        response(&[line]).max_age
    }

    #[test]
    fn every_response_directive_has_its_place() {
        let all = "no-store, private, public, no-cache, must-revalidate, proxy-revalidate, \
                   must-understand, no-transform, immutable, max-age=1, s-maxage=2, \
                   stale-while-revalidate=3, stale-if-error=4";
        let expected = ResponseDirectives {
            no_store: true,
            private: Reach::Whole,
            public: true,
            no_cache: Reach::Whole,
            must_revalidate: true,
            proxy_revalidate: true,
            must_understand: true,
            no_transform: true,
            immutable: true,
            max_age: Some(1),
            s_maxage: Some(2),
            stale_while_revalidate: Some(3),
            stale_if_error: Some(4),
        };
        assert_eq!(response(&[all]), expected);
        assert_eq!(response(&[&all.to_uppercase()]), expected);
        assert_eq!(response(&all.split(", ").collect::<Vec<_>>()), expected);
        assert_eq!(response(&[&all.replace(", ", "\t,, \t")]), expected);
    }

    #[test]
    fn each_response_flag_sets_itself_alone() {
        for (name, flag) in [
            ("no-store", (|d| &mut d.no_store) as fn(&mut ResponseDirectives) -> &mut bool),
            ("public", |d| &mut d.public),
            ("must-revalidate", |d| &mut d.must_revalidate),
            ("proxy-revalidate", |d| &mut d.proxy_revalidate),
            ("must-understand", |d| &mut d.must_understand),
            ("no-transform", |d| &mut d.no_transform),
            ("immutable", |d| &mut d.immutable),
        ] {
            let mut expected = ResponseDirectives::default();
            *flag(&mut expected) = true;
            for line in [name.to_owned(), format!("{name}=1"), format!("{name}=")] {
                assert_eq!(response(&[&line]), expected, "{line}");
            }
        }
    }

    #[test]
    fn every_request_directive_has_its_place() {
        let all = "No-Cache, no-store, only-if-cached, max-age=1, min-fresh=2, max-stale=3, \
                   stale-if-error=4";
        let expected = RequestDirectives {
            no_cache: true,
            no_store: true,
            only_if_cached: true,
            max_age: Some(1),
            min_fresh: Some(2),
            max_stale: Some(MaxStale::For(3)),
            stale_if_error: Some(4),
        };
        assert_eq!(request(&[all]), expected);
    }

    #[test]
    fn the_unknown_means_nothing() {
        for line in ["", " , ,", "foo", "foo=bar", "max-ages=1", "=1", "\"no-store\"", "x-no-store"] {
            assert_eq!(response(&[line]), ResponseDirectives::default(), "{line}");
            assert_eq!(request(&[line]), RequestDirectives::default(), "{line}");
        }
    }

    #[test]
    fn a_directive_in_a_quoted_string_is_none() {
        assert_eq!(max_age(r#"extension="max-age=3600", max-age=1"#), Some(1));
        assert_eq!(max_age(r#"max-age=1, extension="max-age=3600""#), Some(1));
        assert_eq!(max_age(r#"extension="a, max-age=3600, b", max-age=1"#), Some(1));
        assert_eq!(max_age(r#"extension="\", max-age=3600", max-age=1"#), Some(1));
        assert!(!response(&[r#"extension="a, no-store""#]).no_store);
    }

    #[test]
    fn qualified_forms_name_fields() {
        let fields = |names: &[&'static str]| {
            Reach::Fields(names.iter().copied().map(HeaderName::from_static).collect())
        };
        let found = response(&[r#"private="Set-Cookie, a", no-cache="b, c", max-age=1"#]);
        assert_eq!((found.private, found.no_cache), (fields(&["set-cookie", "a"]), fields(&["b", "c"])));
        assert_eq!(found.max_age, Some(1));
        assert_eq!(response(&[r#"no-cache="a""#, r#"no-cache="b""#]).no_cache, fields(&["a", "b"]));
    }

    #[test]
    fn what_names_no_fields_is_about_the_whole_response() {
        for form in ["", "=", "=1", "=a", "=\"\"", "=\" , \"", "=\"a b\"", "=\"unterminated", " =\"a\"", ";x"]
        {
            let found = response(&[&format!("private{form}"), &format!("no-cache{form}")]);
            assert_eq!((found.private, found.no_cache), (Reach::Whole, Reach::Whole), "{form}");
        }
        for lines in [[r#"no-cache="a""#, "no-cache"], ["no-cache", r#"no-cache="a""#]] {
            assert_eq!(response(&lines).no_cache, Reach::Whole);
        }
    }

    #[test]
    fn lifetimes_are_read_as_token_or_quoted_string() {
        assert_eq!(max_age("max-age=3600"), Some(3600));
        assert_eq!(max_age("max-age=003600"), Some(3600));
        assert_eq!(max_age(r#"max-age="3600""#), Some(3600));
        assert_eq!(max_age(r#"max-age="36\00""#), Some(3600));
        assert_eq!(max_age("max-age=2147483649"), Some(DELTA_MAX));
        assert_eq!(max_age("max-age=99999999999999999999999"), Some(DELTA_MAX));
        assert_eq!(max_age("public"), None);
    }

    #[test]
    fn a_bad_lifetime_counts_as_stale() {
        for bad in [
            "max-age",
            "max-age=",
            "max-age=-1",
            "max-age=+1",
            "max-age=1.5",
            "max-age=1e3",
            "max-age=60;x",
            "max-age =60",
            "max-age= 60",
            "max-age='60'",
            "max-age=60a",
            "max-age=a60",
            "max-age=\"60",
            "max-age=60\"",
            "max-age=\"\"",
            "max-age=\" 60\"",
            "max-age=60 private",
            "max-age:60",
            "max-age;60",
            "max-age==60",
        ] {
            assert_eq!(max_age(bad), Some(0), "{bad}");
            assert_eq!(request(&[bad]).max_age, Some(0), "{bad}");
            assert_eq!(response(&[&bad.replace("max-age", "s-maxage")]).s_maxage, Some(0), "{bad}");
        }
    }

    #[test]
    fn other_bad_arguments_are_as_if_absent() {
        for argument in ["=", "=a", "=-1", "=1.5", "='1'", " =1", "= 1", ";1"] {
            let line = ["stale-while-revalidate", "stale-if-error", "min-fresh", "max-stale"]
                .map(|name| format!("{name}{argument}"))
                .join(", ");
            assert_eq!(response(&[&line]), ResponseDirectives::default(), "{line}");
            assert_eq!(request(&[&line]), RequestDirectives::default(), "{line}");
        }
    }

    #[test]
    fn max_stale_needs_no_argument() {
        assert_eq!(request(&["max-stale"]).max_stale, Some(MaxStale::Any));
        assert_eq!(request(&["max-stale=0"]).max_stale, Some(MaxStale::For(0)));
        assert_eq!(request(&["max-stale=\"9\""]).max_stale, Some(MaxStale::For(9)));
    }

    #[test]
    fn the_first_occurrence_counts() {
        assert_eq!(max_age("max-age=1800, max-age=1"), Some(1800));
        assert_eq!(max_age("max-age=1, max-age=1800"), Some(1));
        assert_eq!(max_age("max-age=x, max-age=1800"), Some(0));
        assert_eq!(response(&["max-age=1800", "max-age=1"]).max_age, Some(1800));
        assert_eq!(request(&["max-stale=5, max-stale"]).max_stale, Some(MaxStale::For(5)));
    }

    #[test]
    fn junk_behind_a_name_hides_no_prohibition_and_grants_no_permission() {
        for junk in ["; max-age=60", " max-age=60", " =x", "\"x\"", "/x"] {
            let found = response(&[&format!("private{junk}"), &format!("no-store{junk}")]);
            assert!(found.private.is_said() && found.no_store, "{junk}");
            let found = response(&[&format!("public{junk}"), &format!("must-understand{junk}")]);
            assert!(!found.public && !found.must_understand, "{junk}");
        }
    }

    #[test]
    fn a_quote_left_open_ends_with_its_line() {
        let found = response(&["a=\"b, max-age=60", "no-store"]);
        assert!(found.no_store);
        assert_eq!(found.max_age, None);
    }

    #[test]
    fn a_long_value_is_read_once() {
        for unit in ["NO-STORE,", "max-age=\"", "x", "max-age=1,", "\\\"", "private=\"\\,"] {
            let line = unit.repeat(100_000 / unit.len());
            response(&[&line]);
            request(&[&line]);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_cause_a_panic(lines: Vec<Vec<u8>>) {
            lines.iter().for_each(|line| ResponseDirectives::default().read_line(line));
            RequestDirectives::parse(lines.iter().map(Vec::as_slice));
        }

        #[test]
        fn lines_and_members_are_the_same_list(
            members in vec("(max-age|s-maxage|private|no-store|x)(=[0-9]{1,12}|=\"[0-9,]*\")?", 0..9),
        ) {
            let lines: Vec<_> = members.iter().map(String::as_str).collect();
            prop_assert_eq!(response(&lines), response(&[&members.join(",")]));
        }

        #[test]
        fn every_lifetime_is_read_back(seconds: u32) {
            let expected = Some(seconds.min(DELTA_MAX));
            prop_assert_eq!(max_age(&format!("max-age={seconds}")), expected);
            prop_assert_eq!(max_age(&format!("max-age=\"{seconds}\"")), expected);
        }
    }
}
