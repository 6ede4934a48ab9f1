//! A suite that checks the contract of [`Storage`](crate::Storage) on any storage.
