//! What passes between a handler and the caches around it.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use actix_web::{HttpMessage, HttpRequest};

use crate::handle::CacheHandle;
use crate::invalidation::Invalidation;
use crate::policy::rules::Wishes;
use crate::scope::Scope;
use crate::status::FillReason;

/// What passes between a handler and the layer around it.
pub(crate) struct Slot {
    pub(crate) handle: CacheHandle,
    pub(crate) reason: FillReason,
    pub(crate) wishes: RefCell<Wishes>,
    pub(crate) queued: RefCell<Vec<Invalidation>>,
    /// That of the next layer around this one.
    outer: Option<Rc<Slot>>,
}

/// The slot of the innermost layer around a handler.
#[derive(Clone)]
struct Innermost(Rc<Slot>);

impl Slot {
    /// One with no layer around it.
    pub(crate) fn new(handle: CacheHandle, reason: FillReason) -> Slot {
        Self { handle, reason, wishes: RefCell::default(), queued: RefCell::default(), outer: None }
    }

    /// The slot of the innermost layer around a handler.
    pub(crate) fn innermost(req: &HttpRequest) -> Option<Rc<Slot>> {
        req.extensions().get::<Innermost>().map(|innermost| Rc::clone(&innermost.0))
    }

    /// The slots of all layers around a handler, the innermost first.
    fn all(req: &HttpRequest) -> impl Iterator<Item = Rc<Slot>> {
        std::iter::successors(Self::innermost(req), |slot| slot.outer.clone())
    }

    /// Opens a slot for the handler of this request.
    pub(crate) fn open(req: &HttpRequest, scope: &Arc<Scope>, reason: FillReason) -> Rc<Slot> {
        let mut slot = Self::new(CacheHandle { scope: Arc::clone(scope) }, reason);
        let mut extensions = req.extensions_mut();
        let innermost = extensions.get_mut::<Innermost>();
        slot.outer = innermost.as_ref().map(|outer| Rc::clone(&outer.0));
        let slot = Rc::new(slot);
        match innermost {
            Some(innermost) => innermost.0 = Rc::clone(&slot),
            None => {
                extensions.insert(Innermost(Rc::clone(&slot)));
            }
        }
        slot
    }

    /// Whether an outer layer of the same cache is at work on this request.
    ///
    /// Under whatever namespace: an answer that two layers kept would outlive an invalidation that names one of them.
    pub(crate) fn is_nested(req: &HttpRequest, scope: &Arc<Scope>) -> bool {
        Self::all(req).any(|slot| Arc::ptr_eq(&slot.handle.scope.engine, &scope.engine))
    }

    /// Closes it, and what was left open inside; what the handler said is read from here on.
    pub(crate) fn close(&self, req: &HttpRequest) {
        let mut extensions = req.extensions_mut();
        match (&self.outer, extensions.get_mut::<Innermost>()) {
            (Some(outer), Some(innermost)) => innermost.0 = Rc::clone(outer),
            (None, Some(_)) => drop(extensions.remove::<Innermost>()),
            (_, None) => {}
        }
    }

    /// Repeats what a handler said to the next layer around this one, which keeps an answer of its own; names are of
    /// this one's namespace.
    pub(crate) fn repeat(wishes: &Wishes, req: &HttpRequest) {
        if let Some(outer) = Self::innermost(req) {
            outer.wishes.borrow_mut().take_over(wishes);
        }
    }

    /// Tells all layers around this one that its store answers: what the handler said of the answer is known to this
    /// layer alone, so they must not keep it.
    pub(crate) fn answers(req: &HttpRequest) {
        for outer in Self::all(req) {
            outer.wishes.borrow_mut().reused = true;
        }
    }

    /// Gives a request's stand-in the layers that it has to answer to.
    pub(crate) fn hand_over(req: &HttpRequest, likeness: &HttpRequest) {
        if let Some(innermost) = Self::innermost(req) {
            likeness.extensions_mut().insert(Innermost(innermost));
        }
    }

    pub(crate) fn take_wishes(&self) -> Wishes {
        self.wishes.take()
    }

    pub(crate) fn take_queued(&self) -> Vec<Invalidation> {
        self.queued.take()
    }
}
