//! The fences of a storage in memory.

use std::collections::HashMap;

use crate::fence::FenceId;

/// Fences that were raised, each at the time of its last raise.
#[derive(Default)]
pub(crate) struct Fences {
    pub(crate) raised: HashMap<FenceId, Raised>,
}

#[derive(Clone, Copy)]
pub(crate) struct Raised {
    pub(crate) at: u64,
    pub(crate) within: FenceId,
}

impl Fences {
    const MOST: usize = 65_536;

    /// Keeps the table bounded: the older half of the narrow fences becomes one fence around them.
    ///
    /// The wider fence stands at the time of the latest one folded into it, so nothing escapes; entries of the
    /// same namespace that are as old are dropped with them.
    pub(crate) fn fold(&mut self) {
        if self.raised.len() > Self::MOST {
            self.fold_older_half(|fence| fence.within != FenceId::ALL);
        }
        if self.raised.len() > Self::MOST {
            self.fold_older_half(|_| true);
        }
    }

    fn fold_older_half(&mut self, foldable: impl Fn(&Raised) -> bool) {
        let mut times: Vec<u64> =
            self.raised.values().filter(|raised| foldable(raised)).map(|raised| raised.at).collect();
        times.sort_unstable();
        let Some(median) = times.get(times.len() / 2).copied() else {
            return;
        };
        let mut wider: HashMap<FenceId, u64> = HashMap::new();
        self.raised.retain(|id, raised| {
            let folds = *id != FenceId::ALL && raised.at <= median && foldable(raised);
            if folds {
                let at = wider.entry(raised.within).or_default();
                *at = raised.at.max(*at);
            }
            !folds
        });
        for (id, at) in wider {
            let kept = self.raised.entry(id).or_insert(Raised { at, within: FenceId::ALL });
            kept.at = at.max(kept.at);
        }
    }
}
