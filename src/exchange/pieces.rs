//! Bodies made of stored pieces.

use std::collections::VecDeque;
use std::error::Error as StdError;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::web::Bytes;

pub(crate) type BodyError = Box<dyn StdError>;

/// A chunk is copied whole into the connection's write buffer: larger ones would cost memory and the first byte time.
pub(crate) const SLICE: usize = 1 << 20;

/// Stored bytes, one piece after the other.
#[derive(Default)]
pub(crate) struct Pieces {
    left: VecDeque<Bytes>,
    len: u64,
}

impl Pieces {
    pub(crate) fn new(pieces: Vec<Bytes>) -> Self {
        let len = pieces.iter().map(|piece| piece.len() as u64).sum();
        Self { left: pieces.into(), len }
    }

    /// Of all of them, sent or not.
    pub(crate) fn size(&self) -> BodySize {
        BodySize::Sized(self.len)
    }

    /// The next bytes; never none of them, which would end a chunked answer.
    pub(crate) fn next(&mut self) -> Option<Bytes> {
        loop {
            let piece = self.left.front_mut()?;
            let chunk = piece.split_to(piece.len().min(SLICE));
            if piece.is_empty() {
                self.left.pop_front();
            }
            if !chunk.is_empty() {
                return Some(chunk);
            }
        }
    }
}

/// A part that is stored, and what comes to complete it.
pub(crate) struct Joined {
    before: Pieces,
    body: BoxBody,
    after: Pieces,
    len: u64,
    /// What the body still owes.
    owed: u64,
    ended: bool,
}

impl Joined {
    /// The stored part stands before or after the body; both have `len` bytes.
    pub(crate) fn new(part: Bytes, is_before: bool, body: BoxBody, len: u64) -> Self {
        let owed = len.saturating_sub(part.len() as u64);
        let (part, none) = (Pieces::new(vec![part]), Pieces::default());
        let (before, after) = if is_before { (part, none) } else { (none, part) };
        Self { before, body, after, len, owed, ended: false }
    }
}

impl MessageBody for Joined {
    type Error = BodyError;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.len)
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if let Some(chunk) = self.before.next() {
            return Poll::Ready(Some(Ok(chunk)));
        }
        if self.ended {
            return Poll::Ready(self.after.next().map(Ok));
        }
        match ready!(Pin::new(&mut self.body).poll_next(cx)) {
            Some(Ok(chunk)) => match self.owed.checked_sub(chunk.len() as u64) {
                Some(owed) => {
                    self.owed = owed;
                    Poll::Ready(Some(Ok(chunk)))
                }
                None => Poll::Ready(Some(Err("the rest of a part is longer than it says".into()))),
            },
            Some(error) => Poll::Ready(Some(error)),
            None if self.owed > 0 => {
                Poll::Ready(Some(Err("the rest of a part is shorter than it says".into())))
            }
            None => {
                self.ended = true;
                Poll::Ready(self.after.next().map(Ok))
            }
        }
    }
}
