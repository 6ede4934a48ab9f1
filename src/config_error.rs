//! A setting that cannot be.

use std::error::Error as StdError;
use std::fmt;

/// A setting that cannot be: which setter, which value, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    pub(crate) setter: &'static str,
    pub(crate) value: String,
    pub(crate) cure: &'static str,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CacheConfigBuilder::{} cannot take {:?}: {}", self.setter, self.value, self.cure)
    }
}

impl StdError for ConfigError {}

impl From<ConfigError> for std::io::Error {
    fn from(error: ConfigError) -> Self {
        Self::new(std::io::ErrorKind::InvalidInput, error)
    }
}
