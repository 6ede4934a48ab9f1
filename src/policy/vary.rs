//! Which request fields an answer depends on (RFC 9111 section 4.1, RFC 9110 section 12.5.5).

use actix_web::http::header::HeaderName;

use crate::policy::fields;
use crate::policy::rules::Rules;
use crate::status::NotStoredReason;

/// The fields named by `Vary`, without repeats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Names {
    Some(Vec<HeaderName>),
    /// More than anybody can key.
    Many,
    /// `*`, or something that is not a field name: the answer fits no other request.
    Any,
}

impl Default for Names {
    fn default() -> Self {
        Self::Some(Vec::new())
    }
}

/// More selecting fields than these, and variants would hardly ever meet.
const MOST_NAMES: usize = 8;
/// So many are compared with each other; those that are keyed anyway are among them.
const MOST_READ: usize = 64;

impl Names {
    pub(crate) fn add_field(&mut self, value: &[u8]) {
        for member in fields::members(value) {
            match HeaderName::from_bytes(member) {
                Ok(name) if name.as_str() != "*" && member.iter().all(|byte| fields::is_tchar(*byte)) => {
                    self.add_name(name);
                }
                // A member * anywhere never matches.
                _ => *self = Self::Any,
            }
        }
    }

    pub(crate) fn add(&mut self, name: &str) {
        self.add_field(name.as_bytes());
    }

    fn add_name(&mut self, name: HeaderName) {
        if let Self::Some(names) = self
            && !names.contains(&name)
        {
            if names.len() < MOST_READ {
                names.push(name);
            } else {
                *self = Self::Many;
            }
        }
    }

    /// The names a key has to add, or why the answer cannot be stored.
    ///
    /// `keyed` are the fields that are part of every key of the scope already.
    pub(crate) fn selecting(
        self,
        keyed: &[HeaderName],
        rules: &Rules,
    ) -> Result<Vec<HeaderName>, NotStoredReason> {
        let mut names = match self {
            Self::Some(names) => names,
            Self::Many => return Err(NotStoredReason::VaryTooMuch),
            Self::Any => return Err(NotStoredReason::VaryAny),
        };
        names.retain(|name| !keyed.contains(name));
        let personal = |name: &HeaderName| match name.as_str() {
            "cookie" => !rules.vary_on_cookie,
            "authorization" => !rules.vary_on_authorization,
            _ => false,
        };
        if names.iter().any(personal) {
            return Err(NotStoredReason::VaryPersonal);
        }
        if names.len() > MOST_NAMES {
            return Err(NotStoredReason::VaryTooMuch);
        }
        Ok(names)
    }
}
