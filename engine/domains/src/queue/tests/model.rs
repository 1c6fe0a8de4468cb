//! Random histories. Filled in below.
