//! The dashboard's pages: typed view models in, HTML out.
//!
//! Templates, style sheet and script are in the binary. This crate asks nobody for data,
//! has no clock, reads no file and speaks no protocol: whoever serves the pages fills the
//! models of [`model`] and sends what [`Ui::render`] gives back, with the headers of
//! [`assets`]. How pages look and why is in `admin-ui/README.md`.
//!
//! Start reading at [`Ui`], then [`model`]; a page is a struct there and a file in
//! `templates/`.
#![forbid(unsafe_code)]

pub mod assets;
pub mod chart;
pub mod escape;
mod filters;
pub mod format;
pub mod links;
pub mod live;
pub mod model;

use minijinja::{AutoEscape, Environment, UndefinedBehavior, context};

use crate::model::{Page, Shell};

/// Templates by name.
const TEMPLATES: [(&str, &str); 30] = [
    ("about.html", include_str!("../templates/about.html")),
    ("access.html", include_str!("../templates/access.html")),
    ("audit.html", include_str!("../templates/audit.html")),
    ("cache.html", include_str!("../templates/cache.html")),
    ("caches.html", include_str!("../templates/caches.html")),
    ("confirm.html", include_str!("../templates/confirm.html")),
    (
        "dead_letters.html",
        include_str!("../templates/dead_letters.html"),
    ),
    ("deletion.html", include_str!("../templates/deletion.html")),
    ("error.html", include_str!("../templates/error.html")),
    ("shell.html", include_str!("../templates/shell.html")),
    (
        "in_flight.html",
        include_str!("../templates/in_flight.html"),
    ),
    ("keys.html", include_str!("../templates/keys.html")),
    ("latency.html", include_str!("../templates/latency.html")),
    ("login.html", include_str!("../templates/login.html")),
    ("welcome.html", include_str!("../templates/welcome.html")),
    ("metrics.html", include_str!("../templates/metrics.html")),
    (
        "namespaces.html",
        include_str!("../templates/namespaces.html"),
    ),
    ("overview.html", include_str!("../templates/overview.html")),
    ("parts.html", include_str!("../templates/parts.html")),
    (
        "placement.html",
        include_str!("../templates/placement.html"),
    ),
    (
        "providers.html",
        include_str!("../templates/providers.html"),
    ),
    ("queue.html", include_str!("../templates/queue.html")),
    ("queues.html", include_str!("../templates/queues.html")),
    ("raft.html", include_str!("../templates/raft.html")),
    ("sessions.html", include_str!("../templates/sessions.html")),
    ("storage.html", include_str!("../templates/storage.html")),
    ("stream.html", include_str!("../templates/stream.html")),
    ("streams.html", include_str!("../templates/streams.html")),
    ("tenants.html", include_str!("../templates/tenants.html")),
    ("nav.html", include_str!("../templates/nav.html")),
];

/// A template of ours is wrong. Nothing that a model holds causes it.
#[derive(Debug, thiserror::Error)]
#[error("the template does not render: {0}")]
pub struct RenderError(#[from] minijinja::Error);

/// The pages, ready to be filled. Made once; `render` may be called from any thread.
pub struct Ui {
    env: Environment<'static>,
}

impl Ui {
    /// Compiles the templates.
    ///
    /// # Errors
    ///
    /// When one of them is not a template; the tests render each.
    pub fn new() -> Result<Self, RenderError> {
        let mut env = Environment::new();
        // A name that a model does not have is an error, not an empty place.
        env.set_undefined_behavior(UndefinedBehavior::Strict);
        env.set_auto_escape_callback(|_| AutoEscape::Html);
        env.set_formatter(|out, _state, value| {
            if value.is_none() || value.is_undefined() {
                return Err(minijinja::Error::new(
                    minijinja::ErrorKind::UndefinedError,
                    "nothing where a value belongs",
                ));
            }
            let written = match value.as_str() {
                Some(text) if value.is_safe() => out.write_str(text),
                Some(text) => escape::write_escaped(out, text),
                None => escape::write_escaped(out, &value.to_string()),
            };
            written.map_err(minijinja::Error::from)
        });
        env.set_trim_blocks(true);
        env.set_lstrip_blocks(true);
        filters::register(&mut env);
        for (name, source) in TEMPLATES {
            env.add_template(name, source)?;
        }
        Ok(Self { env })
    }

    /// A whole page as UTF-8 HTML.
    ///
    /// # Errors
    ///
    /// When its template names what the model does not have.
    pub fn render<P: Page>(&self, shell: &Shell, page: &P) -> Result<String, RenderError> {
        let template = self.env.get_template(P::TEMPLATE)?;
        let html = template.render(context! {
            shell => shell,
            page => page,
            title => page.title(),
            nav => P::NAV,
            live => P::LIVE,
        })?;
        Ok(html)
    }
}

impl std::fmt::Debug for Ui {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ui").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_set_of_pages_serves_all_threads() {
        fn shared<T: Send + Sync>() {}
        shared::<Ui>();
    }

    #[test]
    fn every_template_compiles() {
        assert!(Ui::new().is_ok());
    }
}
