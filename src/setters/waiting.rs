//! Setters: how requests wait for each other.

use std::time::Duration;

use crate::builder::CacheConfigBuilder;

/// How requests wait for each other.
impl CacheConfigBuilder {
    /// How long a request waits for another one's run of the same handler, before it runs on its own.
    /// Default: 5 seconds.
    pub fn wait(mut self, at_most: Duration) -> Self {
        self.settings.coalescing.wait = Some(at_most);
        self
    }

    /// Runs the handler for every request that finds nothing. Default: off, equal requests wait for one run.
    pub fn no_coalescing(mut self) -> Self {
        self.settings.coalescing.wait = None;
        self
    }

    /// How many requests wait for one run; more run on their own. Default: 16,384.
    pub fn max_waiters(mut self, most: usize) -> Self {
        self.settings.coalescing.limits.followers = most;
        self
    }

    /// After how long a run is given up as hung, and the next request starts a new one; a run that has no client any
    /// more, and a refresh, end then. Default: 30 seconds.
    pub fn leader_age(mut self, most: Duration) -> Self {
        self.settings.coalescing.limits.leader = most;
        self
    }

    /// How long it is remembered that an answer could not be stored; meanwhile nobody waits for its key.
    /// Default: 10 seconds.
    pub fn uncacheable_for(mut self, span: Duration) -> Self {
        self.settings.coalescing.uncacheable_for = span;
        self
    }
}
