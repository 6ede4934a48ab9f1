//! Checks before the lookup: extractors and closures that may refuse a request.

use std::marker::PhantomData;

use actix_web::dev::ServiceRequest;
use actix_web::{Error, FromRequest};
use futures_util::future::LocalBoxFuture;

/// Something every request of a scope has to pass, hits included.
pub(crate) trait Check: Send + Sync {
    fn run<'a>(&'a self, req: &'a mut ServiceRequest) -> LocalBoxFuture<'a, Result<(), Error>>;
}

/// The request has what an extractor asks for.
pub(crate) struct Required<E>(PhantomData<fn() -> E>);

impl<E> Required<E> {
    pub(crate) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<E: FromRequest + 'static> Check for Required<E> {
    fn run<'a>(&'a self, req: &'a mut ServiceRequest) -> LocalBoxFuture<'a, Result<(), Error>> {
        let extracted = req.extract::<E>();
        Box::pin(async move { extracted.await.map(drop).map_err(Into::into) })
    }
}

/// A closure says that the request may pass.
pub(crate) struct Guard<F>(pub(crate) F);

impl<F, E> Check for Guard<F>
where
    F: AsyncFn(&mut ServiceRequest) -> Result<(), E> + Send + Sync,
    E: Into<Error>,
{
    fn run<'a>(&'a self, req: &'a mut ServiceRequest) -> LocalBoxFuture<'a, Result<(), Error>> {
        Box::pin(async move { (self.0)(req).await.map_err(Into::into) })
    }
}
