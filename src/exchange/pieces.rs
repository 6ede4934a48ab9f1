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

/// The next bytes of a list of pieces, none of them empty.
pub(crate) fn next_slice(pieces: &mut VecDeque<Bytes>) -> Option<Bytes> {
    loop {
        let piece = pieces.front_mut()?;
        let chunk = piece.split_to(piece.len().min(SLICE));
        if piece.is_empty() {
            pieces.pop_front();
        }
        if !chunk.is_empty() {
            return Some(chunk);
        }
    }
}

/// A part that is stored, and what comes to complete it.
pub(crate) struct Joined {
    before: VecDeque<Bytes>,
    body: BoxBody,
    after: VecDeque<Bytes>,
    len: u64,
}

impl Joined {
    /// The stored part stands before or after the body; both have `len` bytes.
    pub(crate) fn new(part: Bytes, is_before: bool, body: BoxBody, len: u64) -> Self {
        let (part, none) = (VecDeque::from([part]), VecDeque::new());
        let (before, after) = if is_before { (part, none) } else { (none, part) };
        Self { before, body, after, len }
    }
}

impl MessageBody for Joined {
    type Error = BodyError;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.len)
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if let Some(chunk) = next_slice(&mut self.before) {
            return Poll::Ready(Some(Ok(chunk)));
        }
        match ready!(Pin::new(&mut self.body).poll_next(cx)) {
            Some(chunk) => Poll::Ready(Some(chunk)),
            None => Poll::Ready(next_slice(&mut self.after).map(Ok)),
        }
    }
}
