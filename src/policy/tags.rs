//! Tags: names that many entries share, from the handler and from `Cache-Groups` (RFC 9875).

use sfv::{BareItem, ListEntry, Parser};

use crate::status::NotStoredReason;

const MOST_TAGS: usize = 128;
const LONGEST_TAG: usize = 256;

/// All tags of an answer, checked; one bad tag refuses them all, for an entry that lost a tag would outlive its purge.
pub(crate) fn collect(wished: Vec<String>, groups: &[Vec<u8>]) -> Result<Vec<String>, NotStoredReason> {
    let mut tags = wished;
    for line in groups {
        // A field that does not parse is as if absent (RFC 9651 section 4.2).
        tags.extend(strings(line));
    }
    tags.sort_unstable();
    tags.dedup();
    if tags.len() > MOST_TAGS || !tags.iter().all(|tag| is_tag(tag)) {
        return Err(NotStoredReason::BadTags);
    }
    Ok(tags)
}

/// Whether this text can be a tag: 1 to 256 bytes, no control characters.
pub(crate) fn is_tag(tag: &str) -> bool {
    (1..=LONGEST_TAG).contains(&tag.len()) && !tag.chars().any(char::is_control)
}

/// The strings of a structured field list (RFC 9651 section 3.1); none if it is not one.
pub(crate) fn strings(line: &[u8]) -> Vec<String> {
    let parsed: Result<sfv::List, _> = Parser::new(line).parse();
    parsed
        .unwrap_or_default()
        .into_iter()
        .filter_map(|entry| match entry {
            ListEntry::Item(item) => match item.bare_item {
                BareItem::String(text) => Some(String::from(text)),
                _ => None,
            },
            ListEntry::InnerList(_) => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_strings_of_a_list_and_what_does_not_parse_is_absent() {
        let collect = |line: &[u8]| collect(Vec::new(), &[line.to_vec()]).expect("good tags");
        assert_eq!(collect(b"\"b\", \"a\";x=1, token, (\"inner\"), \"a\""), ["a", "b"]);
        assert_eq!(collect(b"\"a\", \"b"), [""; 0]);
    }

    #[test]
    fn tags_are_refused_whole() {
        assert!(collect(vec!["good".into(), "x".repeat(257)], &[]).is_err());
        assert!(collect(vec![String::new()], &[]).is_err());
        assert!(collect(vec!["a\nb".into()], &[]).is_err());
        assert!(collect((0..129).map(|n| n.to_string()).collect(), &[]).is_err());
        assert_eq!(collect(vec!["é ok".into()], &[]), Ok(vec!["é ok".to_owned()]));
    }
}
