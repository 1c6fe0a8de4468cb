//! What the tests have in common.

pub(crate) mod browser;
pub(crate) mod data;
pub(crate) mod oidc;
pub(crate) mod town;

/// Runs a story on a runtime of its own, as the control thread has one.
pub(crate) fn run(story: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(story);
}
