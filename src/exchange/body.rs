//! Response bodies: passed on, replayed, or passed on while a bounded copy is kept.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::rt;
use actix_web::web::{Bytes, BytesMut};
use futures_util::future::{Either, select};
use pin_project_lite::pin_project;
use tokio::sync::mpsc;

use crate::exchange::behind;
use crate::exchange::fill::{Admission, Kept};
use crate::exchange::pieces::{BodyError, Pieces, SLICE};
use crate::status::NotStoredReason;

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
        Pieces { pieces: Box<Pieces> },
        Piped { size: BodySize, pipe: mpsc::UnboundedReceiver<Piece> },
        Teed { tee: Box<Tee> },
        Boxed { body: BoxBody },
    }
}

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

    /// Several pieces, one after the other.
    pub(crate) fn pieces(pieces: Vec<Bytes>) -> Self {
        Self { kind: Kind::Pieces { pieces: Box::new(Pieces::new(pieces)) } }
    }

    pub(crate) fn boxed_body(body: BoxBody) -> Self {
        Self { kind: Kind::Boxed { body } }
    }
}

impl<B: MessageBody + 'static> CacheBody<B> {
    /// Passes a body on and stores it when it has come to a clean end.
    ///
    /// One that others wait for is read ahead of its client while it may be stored: a slow client holds nobody up.
    /// Any other is read at the client's pace.
    pub(crate) fn captured(body: BoxBody, limit: usize, admission: Admission) -> Self {
        let size = body.size();
        let ahead = admission.leads();
        let capture = Capture::new(size, limit, admission);
        let tee = Box::new(Tee { body: Some(body), capture, drains: false });
        if ahead {
            let (sender, pipe) = mpsc::unbounded_channel();
            rt::spawn(pump(tee, sender));
            Self { kind: Kind::Piped { size, pipe } }
        } else {
            Self { kind: Kind::Teed { tee } }
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
            Kind::Pieces { pieces } => pieces.size(),
            Kind::Piped { size, .. } => *size,
            Kind::Teed { tee } => tee.capture.size,
            Kind::Boxed { body } => body.size(),
        }
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        let piece = match self.as_mut().project().kind.project() {
            KindProjection::Pass { body } => return body.poll_next(cx).map_err(Into::into),
            KindProjection::Whole { bytes } => {
                let chunk = if bytes.len() > SLICE { bytes.split_to(SLICE) } else { std::mem::take(bytes) };
                return Poll::Ready((!chunk.is_empty()).then_some(Ok(chunk)));
            }
            KindProjection::None => return Poll::Ready(None),
            KindProjection::Pieces { pieces } => return Poll::Ready(pieces.next().map(Ok)),
            KindProjection::Teed { tee } => return tee.poll_next(cx),
            KindProjection::Boxed { body } => return Pin::new(body).poll_next(cx).map_err(Into::into),
            KindProjection::Piped { pipe, .. } => ready!(pipe.poll_recv(cx)),
        };
        match piece {
            Some(Piece::Chunk(chunk)) => Poll::Ready(Some(Ok(chunk))),
            Some(Piece::End) => {
                self.project().kind.set(Kind::None);
                Poll::Ready(None)
            }
            Some(Piece::Rest(tee)) => {
                self.as_mut().project().kind.set(Kind::Teed { tee });
                self.poll_next(cx)
            }
            Some(Piece::Failed(error)) => Poll::Ready(Some(Err(error))),
            // Its reader is gone without a word: it panicked.
            None => Poll::Ready(Some(Err("a response body broke off".into()))),
        }
    }

    fn try_into_bytes(self) -> Result<Bytes, Self> {
        match self.kind {
            Kind::Pass { body } => body.try_into_bytes().map_err(Self::pass),
            // A longer one stays a body, so that it is sent in slices.
            Kind::Whole { bytes } if bytes.len() <= SLICE => Ok(bytes),
            Kind::Boxed { body } => body.try_into_bytes().map_err(Self::boxed_body),
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

/// What comes out of a body that is read ahead of its client.
enum Piece {
    Chunk(Bytes),
    /// The clean end: without it, the body is broken.
    End,
    Failed(BodyError),
    /// The rest is read at the client's pace.
    Rest(Box<Tee>),
}

/// A bounded copy of a body under way, and the duty to store it.
struct Capture {
    chunks: Vec<Bytes>,
    /// Small chunks, put together: each on its own would cost more than it holds.
    tail: BytesMut,
    len: usize,
    size: BodySize,
    limit: usize,
    /// Taken when the copy is stored or given up.
    admission: Option<Admission>,
}

/// Chunks below this size are copied as they come; larger ones are shared with the answer under way.
const SMALL: usize = 4096;

impl Capture {
    fn new(size: BodySize, limit: usize, admission: Admission) -> Self {
        Self { chunks: Vec::new(), tail: BytesMut::new(), len: 0, size, limit, admission: Some(admission) }
    }

    /// Moves it out; what is left behind has no duty.
    fn take(&mut self) -> Self {
        let (chunks, tail) = (std::mem::take(&mut self.chunks), std::mem::take(&mut self.tail));
        let (len, size, limit) = (self.len, self.size, self.limit);
        Self { chunks, tail, len, size, limit, admission: self.admission.take() }
    }

    fn is_wanted(&self) -> bool {
        self.admission.is_some()
    }

    fn push(&mut self, chunk: &Bytes) {
        if !self.is_wanted() {
            return;
        }
        self.len += chunk.len();
        if matches!(self.size, BodySize::Sized(size) if self.len as u64 > size) {
            return self.give_up();
        }
        if self.len > self.limit {
            if let Some(admission) = self.admission.take() {
                admission.refuse(NotStoredReason::BodyTooLarge);
            }
            return self.give_up();
        }
        if chunk.len() < SMALL {
            self.tail.extend_from_slice(chunk);
        }
        if chunk.len() >= SMALL || self.tail.len() >= SMALL {
            self.settle();
        }
        if chunk.len() >= SMALL {
            self.chunks.push(chunk.clone());
        }
    }

    fn settle(&mut self) {
        if !self.tail.is_empty() {
            self.chunks.push(Bytes::copy_from_slice(&self.tail));
            self.tail.clear();
        }
    }

    /// The body has ended cleanly. One that is shorter or longer than it said is dropped: it is broken.
    fn finish(&mut self) {
        let whole = match self.size {
            BodySize::Sized(size) => size == self.len as u64,
            BodySize::None | BodySize::Stream => true,
        };
        if let Some(admission) = self.admission.take().filter(|_| whole) {
            self.settle();
            admission.complete(Kept::Copied(&self.chunks));
        }
        self.give_up();
    }

    /// Nobody waits any more; it is stored all the same, should it end.
    fn dismiss(&mut self) {
        if let Some(admission) = &mut self.admission {
            admission.dismiss();
        }
    }

    fn give_up(&mut self) {
        self.admission = None;
        self.chunks = Vec::new();
        self.tail = BytesMut::new();
    }
}

/// A client that leaves half-way must not cost the others their entry; nor may it leave work behind without end.
const FINISH_WITHIN: Duration = Duration::from_secs(30);

/// Reads a body that others wait for, whatever its client does.
async fn pump(tee: Box<Tee>, pipe: mpsc::UnboundedSender<Piece>) {
    let reading = pin!(read_ahead(tee, &pipe));
    if let Either::Right((_, reading)) = select(reading, pin!(pipe.closed())).await {
        let _ = tokio::time::timeout(FINISH_WITHIN, reading).await;
    }
}

/// So much is read in one go; then it is the turn of those who send it.
const STRIDE: usize = 32 << 10;
/// So many chunks are read ahead: many small ones cost more than they hold.
const MOST_AHEAD: usize = 16_384;

/// A body of unknown length may never end: so long others wait for it, and for a while nobody does after that.
const UNKNOWN_WAITED_FOR: Duration = Duration::from_millis(500);

async fn read_ahead(mut tee: Box<Tee>, pipe: &mpsc::UnboundedSender<Piece>) {
    let (mut stride, mut ahead) = (0, 0);
    let is_known = matches!(tee.capture.size, BodySize::Sized(_));
    let mut waited_until = (!is_known).then(|| tokio::time::sleep(UNKNOWN_WAITED_FOR).deadline());
    loop {
        let reading = poll_fn(|cx| tee.poll_next(cx));
        let next = match waited_until {
            None => reading.await,
            Some(until) => match tokio::time::timeout_at(until, reading).await {
                Ok(next) => next,
                Err(_) => {
                    waited_until = None;
                    tee.capture.dismiss();
                    continue;
                }
            },
        };
        let Some(next) = next else { break };
        match next {
            Ok(chunk) => {
                stride += chunk.len();
                ahead += 1;
                // The client may be gone; the cache still wants the rest.
                let _ = pipe.send(Piece::Chunk(chunk));
            }
            Err(error) => {
                let _ = pipe.send(Piece::Failed(error));
                return;
            }
        }
        if !tee.capture.is_wanted() || ahead >= MOST_AHEAD {
            // Where there is no client any more, it drains itself as long as it is wanted.
            tee.drains = true;
            let _ = pipe.send(Piece::Rest(tee));
            return;
        }
        if stride >= STRIDE || ahead % 64 == 0 {
            stride = 0;
            tokio::task::yield_now().await;
        }
    }
    let _ = pipe.send(Piece::End);
}

/// Reads a body to its end for nobody, so that what captures it comes to an end too.
pub(crate) async fn exhaust(body: impl MessageBody + 'static) {
    let mut body = body.boxed();
    while let Some(Ok(_)) = poll_fn(|cx| Pin::new(&mut body).poll_next(cx)).await {}
}

/// A body passed on while it is copied.
struct Tee {
    body: Option<BoxBody>,
    capture: Capture,
    /// Whether dropping it lets it go on alone: a leader's body that was read ahead, once. Of those that run side by
    /// side nobody waits for one.
    drains: bool,
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

impl Drop for Tee {
    fn drop(&mut self) {
        if !self.drains || !self.capture.is_wanted() {
            return;
        }
        let capture = self.capture.take();
        let rest = Tee { body: self.body.take(), capture, drains: false };
        behind::go_on(async {
            let _ = tokio::time::timeout(FINISH_WITHIN, drain(rest)).await;
        });
    }
}

/// Reads a body to its end, or until its copy is given up.
async fn drain(mut tee: Tee) {
    while tee.capture.is_wanted() {
        match poll_fn(|cx| tee.poll_next(cx)).await {
            Some(Ok(_)) => tokio::task::yield_now().await,
            Some(Err(_)) | None => return,
        }
    }
}
