//! Response bodies: passed on, replayed, or passed on while a bounded copy is kept.

use std::error::Error as StdError;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::rt;
use actix_web::web::{Bytes, BytesMut};
use pin_project_lite::pin_project;
use tokio::sync::mpsc;

use crate::fill::Admission;
use crate::status::NotStoredReason;

type BodyError = Box<dyn StdError>;

pin_project! {
    /// The body of a response that went through the cache.
    ///
    /// It implements [`MessageBody`] for every body a handler may have, so that the cache composes with layers
    /// outside it.
    pub struct CacheBody<B> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = KindProjection]
    enum Kind<B> {
        Pass { #[pin] body: B },
        Whole { bytes: Bytes },
        None,
        Piped { size: u64, pipe: mpsc::UnboundedReceiver<Result<Bytes, BodyError>> },
        Teed { tee: Box<Tee> },
        Boxed { body: BoxBody },
    }
}

/// A chunk is copied whole into the connection's write buffer: larger ones would cost memory and the first byte time.
const SLICE: usize = 1 << 20;

impl<B> CacheBody<B> {
    pub(crate) fn pass(body: B) -> Self {
        Self { kind: Kind::Pass { body } }
    }

    pub(crate) fn whole(bytes: Bytes) -> Self {
        Self { kind: Kind::Whole { bytes } }
    }

    /// No body at all: 204 and 304 must not even announce one.
    pub(crate) fn none() -> Self {
        Self { kind: Kind::None }
    }

    pub(crate) fn boxed_error(body: BoxBody) -> Self {
        Self { kind: Kind::Boxed { body } }
    }
}

impl<B: MessageBody + 'static> CacheBody<B> {
    /// Passes a body on and stores it when it has come to a clean end.
    ///
    /// A body of known length is read at its own pace, for it fits the limit: a slow client holds nobody up. One of
    /// unknown length is read at the client's pace, and nobody waits for it.
    pub(crate) fn captured(body: B, limit: usize, admission: Admission) -> Self {
        let size = body.size();
        let capture = Capture { chunks: Vec::new(), len: 0, size, limit, admission: Some(admission) };
        let body = body.boxed();
        match size {
            BodySize::Sized(size) => {
                let (sender, pipe) = mpsc::unbounded_channel();
                rt::spawn(pump(body, capture, sender));
                Self { kind: Kind::Piped { size, pipe } }
            }
            _ => {
                // Nobody knows when it ends, or whether it does.
                if let Some(admission) = &capture.admission {
                    admission.release();
                }
                Self { kind: Kind::Teed { tee: Box::new(Tee { body: Some(body), capture }) } }
            }
        }
    }
}

impl<B: MessageBody + 'static> MessageBody for CacheBody<B> {
    type Error = BodyError;

    fn size(&self) -> BodySize {
        match &self.kind {
            Kind::Pass { body } => body.size(),
            Kind::Whole { bytes } => BodySize::Sized(bytes.len() as u64),
            Kind::None => BodySize::None,
            Kind::Piped { size, .. } => BodySize::Sized(*size),
            Kind::Teed { tee } => tee.capture.size,
            Kind::Boxed { body } => body.size(),
        }
    }

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        match self.project().kind.project() {
            KindProjection::Pass { body } => body.poll_next(cx).map_err(Into::into),
            KindProjection::Whole { bytes } => {
                let chunk = bytes.split_to(bytes.len().min(SLICE));
                Poll::Ready((!chunk.is_empty()).then_some(Ok(chunk)))
            }
            KindProjection::None => Poll::Ready(None),
            KindProjection::Piped { pipe, .. } => pipe.poll_recv(cx),
            KindProjection::Teed { tee } => tee.poll_next(cx),
            KindProjection::Boxed { body } => Pin::new(body).poll_next(cx).map_err(Into::into),
        }
    }

    fn try_into_bytes(self) -> Result<Bytes, Self> {
        match self.kind {
            Kind::Pass { body } => body.try_into_bytes().map_err(Self::pass),
            // A longer one stays a body, so that it is sent in slices.
            Kind::Whole { bytes } if bytes.len() <= SLICE => Ok(bytes),
            Kind::Boxed { body } => body.try_into_bytes().map_err(Self::boxed_error),
            kind => Err(Self { kind }),
        }
    }

    fn boxed(self) -> BoxBody {
        match self.kind {
            Kind::Pass { body } => body.boxed(),
            Kind::Boxed { body } => body,
            kind => BoxBody::new(Self { kind }),
        }
    }
}

/// A bounded copy of a body under way, and the duty to store it.
struct Capture {
    chunks: Vec<Bytes>,
    len: usize,
    size: BodySize,
    limit: usize,
    /// Taken when the copy is stored or given up.
    admission: Option<Admission>,
}

impl Capture {
    fn none() -> Self {
        Self { chunks: Vec::new(), len: 0, size: BodySize::None, limit: 0, admission: None }
    }

    fn push(&mut self, chunk: &Bytes) {
        if self.admission.is_none() {
            return;
        }
        self.len += chunk.len();
        if self.len <= self.limit {
            self.chunks.push(chunk.clone());
            return;
        }
        self.chunks = Vec::new();
        if let Some(admission) = self.admission.take() {
            admission.refuse(NotStoredReason::BodyTooLarge);
        }
    }

    /// The body has ended cleanly. One that is shorter or longer than it said is dropped: it is broken.
    fn finish(&mut self) {
        let whole = match self.size {
            BodySize::Sized(size) => size == self.len as u64,
            BodySize::None | BodySize::Stream => true,
        };
        if let Some(admission) = self.admission.take().filter(|_| whole) {
            let mut bytes = BytesMut::with_capacity(self.len);
            for chunk in &self.chunks {
                bytes.extend_from_slice(chunk);
            }
            admission.complete(bytes.freeze());
        }
    }

    fn give_up(&mut self) {
        self.admission = None;
        self.chunks = Vec::new();
    }
}

/// Reads a body of known length to its end, whatever its reader does.
async fn pump(
    mut body: BoxBody,
    mut capture: Capture,
    pipe: mpsc::UnboundedSender<Result<Bytes, BodyError>>,
) {
    loop {
        match next_chunk(&mut body).await {
            Some(Ok(chunk)) if chunk.is_empty() => {}
            Some(Ok(chunk)) => {
                capture.push(&chunk);
                // The client may be gone; the cache still wants the rest.
                let _ = pipe.send(Ok(chunk));
            }
            Some(Err(error)) => {
                let _ = pipe.send(Err(error));
                return;
            }
            None => return capture.finish(),
        }
    }
}

async fn next_chunk(body: &mut BoxBody) -> Option<Result<Bytes, BodyError>> {
    poll_fn(|cx| Pin::new(&mut *body).poll_next(cx)).await
}

/// Reads a body to its end for nobody, so that what captures it comes to an end too.
pub(crate) async fn exhaust(body: impl MessageBody + 'static) {
    let mut body = body.boxed();
    while let Some(Ok(_)) = next_chunk(&mut body).await {}
}

/// A body passed on at the client's pace.
struct Tee {
    body: Option<BoxBody>,
    capture: Capture,
}

impl Tee {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        loop {
            match ready!(Pin::new(&mut *body).poll_next(cx)) {
                // An empty chunk would end a chunked answer.
                Some(Ok(chunk)) if chunk.is_empty() => {}
                Some(Ok(chunk)) => {
                    self.capture.push(&chunk);
                    return Poll::Ready(Some(Ok(chunk)));
                }
                Some(Err(error)) => {
                    self.capture.give_up();
                    self.body = None;
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    self.capture.finish();
                    self.body = None;
                    return Poll::Ready(None);
                }
            }
        }
    }
}

/// A client that leaves half-way must not cost the others their entry; nor may it leave work behind without end.
const FINISH_WITHIN: Duration = Duration::from_secs(30);

impl Drop for Tee {
    fn drop(&mut self) {
        let Some(body) = self.body.take() else { return };
        // Of those that run side by side nobody waits for one; a leader's body is finished.
        let wanted = self.capture.admission.as_ref().is_some_and(Admission::leads);
        if !wanted || std::thread::panicking() || rt::System::try_current().is_none() {
            return;
        }
        let capture = std::mem::replace(&mut self.capture, Capture::none());
        rt::spawn(tokio::time::timeout(FINISH_WITHIN, drain(body, capture)));
    }
}

/// Reads a body to its end, or until its copy is given up.
async fn drain(mut body: BoxBody, mut capture: Capture) {
    while capture.admission.is_some() {
        match next_chunk(&mut body).await {
            Some(Ok(chunk)) => capture.push(&chunk),
            Some(Err(_)) => return,
            None => return capture.finish(),
        }
    }
}
