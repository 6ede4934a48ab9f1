//! Which part of the query is in the key.

use std::fmt;
use std::sync::Arc;

use actix_web::web::Query;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::key::{KeyWriter, Part};

/// Which query parameters tell entries apart. The default is [`all`](Self::all).
///
/// Parameters are the runs between `&`, as sent: nothing is decoded before it is keyed, and `;` separates nothing.
/// Different names may come in any order, where none is encoded; repeats of one name keep theirs. A request without
/// `?` and one with an empty query are different.
///
/// ```
/// use actix_fast_cache::{CacheConfig, MemoryStorage, QueryKey};
///
/// let config = CacheConfig::builder(MemoryStorage::new())
///     .query(QueryKey::except(["session_id", "debug_*"]))
///     .build()?;
/// # drop(config);
/// # Ok::<(), actix_fast_cache::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct QueryKey(Rule);

#[derive(Clone)]
enum Rule {
    All,
    None,
    Only(Arc<[String]>),
    Except(Arc<[String]>),
    Typed(Typed),
}

type Typed = Arc<dyn Fn(&str) -> Option<Vec<u8>> + Send + Sync>;

/// Parameters that follow a visitor from page to page, and that no page is made of.
const TRACKING: &[&str] = &[
    "utm_*",
    "gclid",
    "gclsrc",
    "dclid",
    "gbraid",
    "wbraid",
    "fbclid",
    "msclkid",
    "twclid",
    "ttclid",
    "yclid",
    "igshid",
    "li_fat_id",
    "mc_cid",
    "mc_eid",
    "mkt_tok",
    "_ga",
    "_gl",
    "_hsenc",
    "_hsmi",
];

impl QueryKey {
    /// Every parameter counts; the default.
    #[must_use]
    pub fn all() -> Self {
        Self(Rule::All)
    }

    /// No parameter counts. Only for handlers that do not look at the query.
    #[must_use]
    pub fn none() -> Self {
        Self(Rule::None)
    }

    /// Only the named parameters count. Only for handlers that look at no others.
    ///
    /// Names are compared decoded, as a handler sees them: `%61=1` counts where `a` does.
    #[must_use]
    pub fn only<N: Into<String>>(names: impl IntoIterator<Item = N>) -> Self {
        Self(Rule::Only(names.into_iter().map(Into::into).collect()))
    }

    /// All but the named parameters count; a name that ends in `*` stands for all that begin so.
    ///
    /// A parameter with a `;` in it always counts: some applications would see two.
    #[must_use]
    pub fn except<N: Into<String>>(names: impl IntoIterator<Item = N>) -> Self {
        Self(Rule::Except(names.into_iter().map(Into::into).collect()))
    }

    /// All but the parameters of advertisers and newsletters count (`utm_*`, `gclid`, `fbclid` and their like).
    #[must_use]
    pub fn without_tracking() -> Self {
        Self::except(TRACKING.iter().copied())
    }

    /// The query as a type sees it: `?a=a` and `?a=a&b=b` are one where `b` defaults to `b`.
    ///
    /// A query that does not parse bypasses the cache, and the handler answers it.
    ///
    /// ```
    /// use actix_fast_cache::QueryKey;
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Deserialize, Serialize)]
    /// struct Page {
    ///     #[serde(default)]
    ///     number: u32,
    /// }
    ///
    /// let query = QueryKey::typed::<Page>();
    /// # drop(query);
    /// ```
    #[must_use]
    pub fn typed<T: DeserializeOwned + Serialize + 'static>() -> Self {
        Self(Rule::Typed(Arc::new(|query| {
            let Query(value) = Query::<T>::from_query(query).ok()?;
            rmp_serde::to_vec_named(&value).ok()
        })))
    }

    /// Writes the query's part of a key; false if the query is refused.
    #[inline(always)] // as `KeyWriter::finish_lent`
    pub(crate) fn write(&self, query: Option<&str>, key: &mut KeyWriter) -> bool {
        match (&self.0, query) {
            (Rule::None, _) | (Rule::All, None) => key.part(Part::NoQuery, b""),
            (Rule::All, Some(query)) if is_sorted(query.as_bytes()) => {
                key.part(Part::Query, query.as_bytes())
            }
            (Rule::All, Some(query)) => write_sorted(query, |_| true, key),
            (Rule::Only(names), query) => {
                write_sorted(query.unwrap_or_default(), |pair| is_only(pair, names), key)
            }
            (Rule::Except(names), query) => match query {
                None => key.part(Part::NoQuery, b""),
                Some(query) => write_sorted(query, |pair| !is_except(pair, names), key),
            },
            (Rule::Typed(read), query) => match read(query.unwrap_or_default()) {
                Some(value) => key.part(Part::Query, &value),
                None => return false,
            },
        }
        true
    }
}

impl Default for QueryKey {
    fn default() -> Self {
        Self::all()
    }
}

impl fmt::Debug for QueryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Rule::All => f.write_str("all"),
            Rule::None => f.write_str("none"),
            Rule::Only(names) => write!(f, "only {names:?}"),
            Rule::Except(names) => write!(f, "except {names:?}"),
            Rule::Typed(_) => f.write_str("typed"),
        }
    }
}

fn name(pair: &str) -> &str {
    pair.split_once('=').map_or(pair, |(name, _)| name)
}

fn is_only(pair: &str, names: &[String]) -> bool {
    let raw = name(pair);
    if !raw.contains(['%', '+']) {
        return names.iter().any(|known| known == raw);
    }
    // As the handler's own extractor would read it.
    let decoded = Query::<Vec<(String, String)>>::from_query(pair);
    decoded.is_ok_and(|pairs| pairs.iter().any(|(name, _)| names.contains(name)))
}

fn is_except(pair: &str, names: &[String]) -> bool {
    let raw = name(pair);
    !pair.contains(';')
        && names.iter().any(|known| match known.strip_suffix('*') {
            Some(start) => raw.starts_with(start),
            None => known == raw,
        })
}

/// Whether a query stands as [`write_sorted`] would write it, as most do.
fn is_sorted(query: &[u8]) -> bool {
    let (mut last, mut rest): (&[u8], _) = (b"", query);
    loop {
        let end = rest.iter().position(|byte| matches!(byte, b'=' | b'&')).unwrap_or(rest.len());
        let (name, behind) = rest.split_at(end);
        if name < last {
            return false;
        }
        let Some(next) = behind.iter().position(|byte| *byte == b'&') else { return true };
        (last, rest) = (name, behind.get(next + 1..).unwrap_or_default());
    }
}

/// Most queries are shorter than this, and are sorted on the stack.
const ON_STACK: usize = 16;

fn write_sorted(query: &str, counts: impl Fn(&str) -> bool, key: &mut KeyWriter) {
    let mut stack = [""; ON_STACK];
    let mut heap = Vec::new();
    let mut used = 0;
    for pair in query.split('&').filter(|pair| counts(pair)) {
        match stack.get_mut(used) {
            Some(place) => *place = pair,
            None => {
                if heap.is_empty() {
                    heap.extend_from_slice(&stack);
                }
                heap.push(pair);
            }
        }
        used += 1;
    }
    let pairs = if heap.is_empty() { stack.get_mut(..used).unwrap_or_default() } else { heap.as_mut_slice() };
    // Stable: repeats of one name keep their order. Pieces cannot hold an `&`, so the joint is unambiguous.
    // A name that has yet to be decoded may repeat another one: then all keep their order.
    let is_plain = |pair: &&str| !name(pair).contains(['%', '+']);
    if !pairs.is_sorted_by_key(|pair| name(pair)) && pairs.iter().all(is_plain) {
        pairs.sort_by(|a, b| name(a).cmp(name(b)));
    }
    key.part_of(Part::Query, pairs, "&");
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    fn key(rule: &QueryKey, query: Option<&str>) -> Option<Vec<u8>> {
        let mut writer = KeyWriter::new(b"");
        rule.write(query, &mut writer).then(|| writer.finish().as_bytes().to_vec())
    }

    #[track_caller]
    fn same(rule: &QueryKey, a: &str, b: &str) {
        assert_eq!(key(rule, Some(a)), key(rule, Some(b)), "{a} and {b}");
    }

    #[track_caller]
    fn differ(rule: &QueryKey, a: &str, b: &str) {
        assert_ne!(key(rule, Some(a)), key(rule, Some(b)), "{a} and {b}");
    }

    #[test]
    fn order_matters_between_repeats_only() {
        let all = QueryKey::all();
        same(&all, "a=1&b=2", "b=2&a=1");
        same(&all, "a=1&b=2&a=3", "b=2&a=1&a=3");
        differ(&all, "a=1&a=2", "a=2&a=1");
        differ(&all, "a=1&a=2", "a=1");
        let many: Vec<String> = (10..60).map(|n| format!("p{n}=x")).collect();
        let reversed: Vec<String> = many.iter().rev().cloned().collect();
        same(&all, &many.join("&"), &reversed.join("&"));
    }

    #[test]
    fn absent_empty_and_bare_differ() {
        let all = QueryKey::all();
        assert_ne!(key(&all, None), key(&all, Some("")));
        differ(&all, "", "q");
        differ(&all, "q", "q=");
        differ(&all, "q=", "q=x");
    }

    #[test]
    fn nothing_is_decoded_and_semicolons_separate_nothing() {
        let all = QueryKey::all();
        differ(&all, "%61=1", "a=1");
        differ(&all, "a=1&%61=2", "%61=2&a=1");
        let except = QueryKey::except(["utm_*"]);
        same(&except, "q=ok&utm_content=x", "q=ok");
        differ(&except, "q=ok&utm_content=x;q=bad", "q=ok");
    }

    #[test]
    fn an_allow_list_sees_names_as_a_handler_does() {
        let only = QueryKey::only(["q"]);
        same(&only, "q=1&x=2", "q=1");
        differ(&only, "%71=1", "q=2");
        differ(&only, "%71=1", "");
    }

    #[test]
    fn a_typed_query_counts_defaults_as_given() {
        #[derive(Deserialize, Serialize)]
        struct Page {
            a: String,
            #[serde(default = "b")]
            b: String,
        }
        fn b() -> String {
            "b".to_owned()
        }
        let typed = QueryKey::typed::<Page>();
        same(&typed, "a=a", "b=b&a=a");
        differ(&typed, "a=a", "a=a&b=c");
        assert_eq!(key(&typed, Some("b=c")), None);
    }

    #[test]
    fn trackers_are_left_out() {
        same(&QueryKey::without_tracking(), "p=1&utm_source=x&gclid=7", "p=1");
    }
}
