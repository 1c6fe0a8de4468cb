//! The cache partition.
