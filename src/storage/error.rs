//! What a storage may fail with.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// A storage could not do what it was asked.
///
/// To a request it is a miss and a line in the log; only the manual calls (`get`, `set`, `invalidate*`) hand it to
/// the user. As the error of a handler it answers 503.
#[derive(Debug, Clone)]
pub struct StorageError {
    message: String,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl StorageError {
    /// An error told in words.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), source: None }
    }

    /// An error with the one that caused it.
    pub fn with_source(message: impl Into<String>, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { message: message.into(), source: Some(Arc::from(source.into())) }
    }
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for StorageError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl actix_web::ResponseError for StorageError {
    fn status_code(&self) -> actix_web::http::StatusCode {
        actix_web::http::StatusCode::SERVICE_UNAVAILABLE
    }

    /// The client learns that it may try again; the words are for the log.
    fn error_response(&self) -> actix_web::HttpResponse {
        tracing::error!(error = %self, "a cache storage failed a handler");
        actix_web::HttpResponse::ServiceUnavailable().body("cache unavailable")
    }
}
