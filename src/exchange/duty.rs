//! The duty to fill a key: towards those who wait in this process, and towards other processes.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::engine::Engine;
use crate::flight::{Landing, Lead};
use crate::key::CacheKey;
use crate::storage::interface::{Claimed, Holder};

/// A process that is lost with a lease holds up the others for so long at most.
const LEASE: Duration = Duration::from_secs(2);
/// Who has a lease says so this often.
const RENEW_EVERY: Duration = Duration::from_millis(600);

/// The duty of a leader. Dropped, it ends the flight, and gives the lease back.
pub(crate) struct Duty {
    lead: Lead,
    /// Apart, for few storages have any, and a duty is handed on often.
    lease: Option<Box<Lease>>,
}

impl Duty {
    pub(crate) fn new(lead: Lead, lease: Option<Lease>) -> Self {
        Self { lead, lease: lease.map(Box::new) }
    }

    /// Tells the followers.
    pub(crate) fn land(&self, landing: Landing) {
        self.lead.land(landing);
    }

    /// Tells other processes that for so long there is nothing to wait for.
    pub(crate) fn refuse(&mut self, span: Duration) {
        if let Some(lease) = &mut self.lease {
            lease.refused = Some(span);
        }
    }
}

/// A key that this process fills, and no other one. It is renewed as long as it is held, and given back when dropped.
pub(crate) struct Lease {
    engine: Arc<Engine>,
    key: CacheKey,
    holder: Holder,
    /// Whether there is something to give back.
    is_claimed: bool,
    refused: Option<Duration>,
    renewing: Option<AbortHandle>,
}

impl Lease {
    /// A lease to be claimed; none for storages that only this process fills.
    pub(crate) fn wanted(engine: &Arc<Engine>, key: &CacheKey) -> Option<Self> {
        engine.leases().then(|| Self {
            engine: Arc::clone(engine),
            key: key.clone(),
            holder: next_holder(),
            is_claimed: false,
            refused: None,
            renewing: None,
        })
    }

    /// Claims the key once; a storage in trouble keeps nobody apart.
    pub(crate) async fn claim(&mut self) -> Option<Claimed> {
        // Cancelled, it may have been granted.
        self.is_claimed = true;
        let claimed = self.engine.claim(&self.key, self.holder, LEASE).await.ok();
        // Nothing is given back to a storage in trouble: it would take that, and seem well. A lease ends by itself.
        self.is_claimed = claimed == Some(Claimed::Granted);
        claimed
    }

    /// Keeps it while the run takes its time, but no longer than a leader may.
    pub(crate) fn keep(&mut self, at_most: Duration) {
        let (engine, key, holder) = (Arc::clone(&self.engine), self.key.clone(), self.holder);
        let turns = at_most.as_millis() / RENEW_EVERY.as_millis();
        let renewing = tokio::spawn(async move {
            for _ in 0..turns {
                tokio::time::sleep(RENEW_EVERY).await;
                // One that was lost is not taken from whoever has it now.
                let _ = engine.claim(&key, holder, LEASE).await;
            }
        });
        self.renewing = Some(renewing.abort_handle());
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(renewing) = &self.renewing {
            renewing.abort();
        }
        // Where a worker ends there is nothing to send it with; it ends by itself then.
        if self.is_claimed && Handle::try_current().is_ok() {
            let (engine, key, holder) = (Arc::clone(&self.engine), self.key.clone(), self.holder);
            let refused = self.refused;
            self.engine.write_behind(async move { engine.release(&key, holder, refused).await });
        }
    }
}

/// A name that no other claim has, in this process or in another one.
fn next_holder() -> Holder {
    static PROCESS: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(std::process::id()));
    static CLAIMS: AtomicU64 = AtomicU64::new(0);
    Holder(PROCESS.wrapping_add(CLAIMS.fetch_add(1, Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}
