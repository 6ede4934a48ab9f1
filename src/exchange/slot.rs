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
}

/// The layers around a handler, the innermost last.
#[derive(Clone)]
struct Layers(Vec<Rc<Slot>>);

impl Slot {
    pub(crate) fn new(handle: CacheHandle, reason: FillReason) -> Rc<Slot> {
        Rc::new(Self { handle, reason, wishes: RefCell::default(), queued: RefCell::default() })
    }

    /// The slot of the innermost layer around a handler.
    pub(crate) fn innermost(req: &HttpRequest) -> Option<Rc<Slot>> {
        req.extensions().get::<Layers>().and_then(|layers| layers.0.last().cloned())
    }

    /// Opens a slot for the handler of this request.
    pub(crate) fn open(req: &HttpRequest, scope: &Arc<Scope>, reason: FillReason) -> Rc<Slot> {
        let slot = Self::new(CacheHandle { scope: Arc::clone(scope) }, reason);
        let mut extensions = req.extensions_mut();
        match extensions.get_mut::<Layers>() {
            Some(layers) => layers.0.push(Rc::clone(&slot)),
            None => {
                extensions.insert(Layers(vec![Rc::clone(&slot)]));
            }
        }
        slot
    }

    /// Whether an outer layer of the same cache is at work on this request.
    ///
    /// Under whatever namespace: an answer that two layers kept would outlive an invalidation that names one of them.
    pub(crate) fn is_nested(req: &HttpRequest, scope: &Arc<Scope>) -> bool {
        let extensions = req.extensions();
        let mut outer = extensions.get::<Layers>().into_iter().flat_map(|layers| &layers.0);
        outer.any(|slot| Arc::ptr_eq(&slot.handle.scope.engine, &scope.engine))
    }

    /// Closes it; what the handler said is read from here on.
    pub(crate) fn close(self: &Rc<Self>, req: &HttpRequest) {
        if let Some(layers) = req.extensions_mut().get_mut::<Layers>() {
            layers.0.retain(|slot| !Rc::ptr_eq(slot, self));
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
        if let Some(layers) = req.extensions().get::<Layers>() {
            for outer in &layers.0 {
                outer.wishes.borrow_mut().reused = true;
            }
        }
    }

    /// Gives a request's stand-in the layers that it has to answer to.
    pub(crate) fn hand_over(req: &HttpRequest, likeness: &HttpRequest) {
        if let Some(layers) = req.extensions().get::<Layers>() {
            likeness.extensions_mut().insert(layers.clone());
        }
    }

    pub(crate) fn take_wishes(&self) -> Wishes {
        self.wishes.take()
    }

    pub(crate) fn take_queued(&self) -> Vec<Invalidation> {
        self.queued.take()
    }
}
