//! Empty on purpose: glommio depends on `lockfree` by name only.
