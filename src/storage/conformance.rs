//! A suite that checks the contract of [`Storage`] on any storage.
