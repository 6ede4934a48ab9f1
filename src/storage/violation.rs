//! What the conformance suite finds: which clause of the contract a storage broke, and how.

use std::error::Error;
use std::fmt;

use crate::storage::error::StorageError;

/// A clause of the contract of [`Storage`](crate::Storage).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Clause {
    /// A storage may forget, but of several small entries it keeps some.
    Keeps,
    /// What is given back is what was put last, whole.
    Whole,
    /// No key is given the entry of another, not even of one with the same hash.
    OwnKey,
    /// After a raise nobody is given what it names and was read before; what comes after is kept again.
    Fences,
    /// What is put after a raise, with a stamp from before it, is not served.
    LatePut,
    /// A raise leaves alone what it does not name.
    OtherNames,
    /// `is_current` says of a stamp what `get` does with an entry that carries it.
    IsCurrent,
    /// A fill that began earlier does not replace one that began later: by stamp, then by `began`.
    OlderFill,
    /// What was removed is gone, and the answer says whether there was something.
    Remove,
    /// `get_now` answers as `get` does, if it answers.
    GetNow,
    /// Stamps of one handle never go back.
    Stamps,
    /// However many fences are raised, nothing old comes back.
    ManyFences,
    /// Fences that are folded drop more within their namespace, and nothing beyond it.
    FoldsWithin,
    /// Of several holders that claim a key one has it, until it is released or its time is over; if the storage leases.
    Leases,
    /// All of it holds with many tasks on several handles.
    Concurrency,
    /// A call that was cancelled leaves the storage in order.
    Cancellation,
}

impl Clause {
    /// All clauses, in the order they are checked.
    pub const EVERY: &[Clause] = &[
        Clause::Keeps,
        Clause::Whole,
        Clause::OwnKey,
        Clause::Fences,
        Clause::LatePut,
        Clause::OtherNames,
        Clause::IsCurrent,
        Clause::OlderFill,
        Clause::Remove,
        Clause::GetNow,
        Clause::Stamps,
        Clause::ManyFences,
        Clause::FoldsWithin,
        Clause::Leases,
        Clause::Concurrency,
        Clause::Cancellation,
    ];

    fn words(self) -> &'static str {
        match self {
            Self::Keeps => "it keeps some of what is put",
            Self::Whole => "it gives back what was put last, whole",
            Self::OwnKey => "it never gives one key's entry for another",
            Self::Fences => "it drops what a raised fence names, and only what was read before",
            Self::LatePut => "it does not serve what is put after its fence",
            Self::OtherNames => "it leaves alone what no raised fence names",
            Self::IsCurrent => "is_current agrees with get",
            Self::OlderFill => "the older fill does not win",
            Self::Remove => "it forgets what is removed",
            Self::GetNow => "get_now agrees with get",
            Self::Stamps => "stamps only grow",
            Self::ManyFences => "nothing old comes back, however many fences are raised",
            Self::FoldsWithin => "folded fences drop nothing beyond their namespace",
            Self::Leases => "it keeps fills apart",
            Self::Concurrency => "it holds with many tasks on several handles",
            Self::Cancellation => "a cancelled call leaves it in order",
        }
    }
}

impl fmt::Display for Clause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

/// A clause that a storage broke, and how.
#[derive(Debug)]
pub struct Violation {
    clause: Clause,
    how: String,
    source: Option<StorageError>,
}

impl Violation {
    pub(crate) fn new(clause: Clause, how: impl Into<String>) -> Self {
        Self { clause, how: how.into(), source: None }
    }

    pub(crate) fn failed(clause: Clause, call: &str, error: StorageError) -> Self {
        Self { clause, how: format!("{call} failed"), source: Some(error) }
    }

    /// The clause that does not hold.
    #[must_use]
    pub fn clause(&self) -> Clause {
        self.clause
    }

    /// The same finding as a breach of another clause, with what led to it.
    pub(crate) fn under(self, clause: Clause, what: &str) -> Self {
        Self { clause, how: format!("{what}: {}", self.how), source: self.source }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the storage breaks its contract, \"{}\": {}", self.clause, self.how)
    }
}

impl Error for Violation {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}
