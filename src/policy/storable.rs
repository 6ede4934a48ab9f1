//! Whether an answer may be stored (RFC 9111 section 3), and with what.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::HeaderName;

use crate::policy::facts::ResponseFacts;
use crate::policy::rules::{Personal, Rules, SetCookiePolicy, Wishes};
use crate::policy::{freshness, tags};
use crate::status::NotStoredReason;
use crate::stored::response::Freshness;

/// An answer that may be stored.
#[derive(Debug)]
pub(crate) struct Verdict {
    /// All but the time of receipt.
    pub(crate) freshness: Freshness,
    /// The request fields that select it.
    pub(crate) vary: Vec<HeaderName>,
    pub(crate) tags: Vec<String>,
    /// The fields that are not stored: what the answer itself keeps out, and what `Connection` names.
    pub(crate) withheld: Vec<HeaderName>,
    pub(crate) is_dated: bool,
}

/// The circumstances of an answer that its own fields do not tell.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Circumstances<'a> {
    pub(crate) status: StatusCode,
    /// The answer comes from an `Err`.
    pub(crate) failed: bool,
    /// It answers `HEAD`.
    pub(crate) head: bool,
    /// It answers a `POST`, and may be stored for `GET` if it gives a lifetime (RFC 9110 section 9.3.3).
    pub(crate) posted: bool,
    /// It is the part that was asked for, and says which it is (RFC 9111 section 3.3).
    pub(crate) part: bool,
    pub(crate) personal: Personal,
    /// Request fields that are in every key of the scope.
    pub(crate) keyed: &'a [HeaderName],
    /// From the request to the answer.
    pub(crate) delay: Duration,
    pub(crate) now: i64,
}

/// More fields than these are not worth keeping, or an attempt on the memory.
const MOST_LINES: usize = 128;
const MOST_HEADER_BYTES: usize = 32 * 1024;

/// Judges an answer by its head: the handler's own word first, then RFC 9111 section 3.
pub(crate) fn judge(
    mut facts: ResponseFacts,
    wishes: &mut Wishes,
    rules: &Rules,
    about: Circumstances<'_>,
) -> Result<Verdict, NotStoredReason> {
    if about.failed {
        return Err(NotStoredReason::HandlerError);
    }
    if wishes.no_store {
        return Err(NotStoredReason::HandlerRefused);
    }
    if wishes.reused {
        return Err(NotStoredReason::Reused);
    }
    if about.head {
        return Err(NotStoredReason::Head);
    }
    if !(accepts(rules, about.status) || about.part) {
        return Err(NotStoredReason::Status);
    }
    if facts.event_stream {
        return Err(NotStoredReason::EventStream);
    }
    if facts.nonce {
        return Err(NotStoredReason::Nonce);
    }
    if facts.lines > MOST_LINES || facts.bytes > MOST_HEADER_BYTES {
        return Err(NotStoredReason::HeadersTooLarge);
    }
    if facts.sets_cookie && rules.set_cookie == SetCookiePolicy::Refuse {
        return Err(NotStoredReason::SetCookie);
    }

    let understood = about.status.canonical_reason().is_some();
    let mut withheld = std::mem::take(&mut facts.of_connection);
    if rules.to_the_letter {
        withheld.append(&mut facts.read_to_the_letter(understood));
    }
    // RFC 9111 section 5.2.2.3.
    if facts.either(|said| said.must_understand) && !understood {
        return Err(NotStoredReason::Status);
    }

    // An application in the same process dates its answers when they are done.
    let delay = if rules.to_the_letter { about.delay } else { Duration::ZERO };
    let initial_age = freshness::initial_age(&facts, delay, about.now);
    let lifetime = freshness::lifetime(&facts, about.status, wishes, rules, initial_age, about.now)?;
    if about.posted && !freshness::is_explicit(&facts, about.now) {
        return Err(NotStoredReason::NoLifetime);
    }

    // RFC 9111 section 3.5: what makes an answer to an authorized request everybody's.
    let mut names = std::mem::take(&mut facts.vary);
    let said = facts.said();
    let for_authorized = said.public || said.s_maxage.is_some() || said.must_revalidate;
    let for_cookies = said.public || said.s_maxage.is_some();
    if about.personal.authorization && !for_authorized {
        return Err(NotStoredReason::Authorization);
    }
    if about.personal.cookie && !for_cookies {
        return Err(NotStoredReason::Cookie);
    }

    // RFC 9111 sections 5.2.2.2, 5.2.2.4, 5.2.2.8, 5.2.2.10: each forbids to serve it stale.
    let must_revalidate = facts.either(|said| {
        said.must_revalidate || said.proxy_revalidate || said.s_maxage.is_some() || said.no_cache.is_said()
    });

    for name in &wishes.vary {
        names.add(name);
    }
    let vary = names.selecting(about.keyed, rules)?;
    let tags = tags::collect(std::mem::take(&mut wishes.tags), &facts.groups)?;

    let window = |wished: Option<Duration>, said: Option<u32>, configured: Duration| {
        wished.or(said.map(|seconds| Duration::from_secs(u64::from(seconds)))).unwrap_or(configured)
    };
    Ok(Verdict {
        freshness: Freshness {
            received: Default::default(),
            initial_age,
            lifetime,
            while_revalidate: window(
                wishes.while_revalidate,
                said.stale_while_revalidate,
                rules.while_revalidate,
            ),
            if_error: window(wishes.if_error, said.stale_if_error, rules.if_error),
            must_revalidate,
            for_authorized,
            for_cookies,
            took_ms: u32::try_from(about.delay.as_millis()).unwrap_or(u32::MAX),
            last_modified: facts.last_modified,
        },
        vary,
        tags,
        withheld,
        is_dated: facts.is_dated,
    })
}

/// Answers to the conditions and ranges of one request, whatever they say (RFC 9110 sections 15.3.7, 15.4.5, 15.5.13,
/// 15.5.17).
const FOR_ONE_REQUEST: [u16; 4] = [206, 304, 412, 416];

fn accepts(rules: &Rules, status: StatusCode) -> bool {
    let is_named = rules.statuses.iter().any(|(known, _)| *known == status);
    is_named || rules.any_status && !status.is_informational() && !FOR_ONE_REQUEST.contains(&status.as_u16())
}
