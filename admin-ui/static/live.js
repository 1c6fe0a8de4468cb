// Keeps the numbers of a page fresh. Everything is complete without it.
//
// The server sends what has changed as JSON: `set` has text by key, `stale` says that more
// than text has changed. Text goes into the page as text, paths of charts into one attribute.
"use strict";
(() => {
  const url = document.body.dataset.liveUrl;
  const note = document.getElementById("live");
  const button = document.getElementById("live-switch");
  if (!url || !note || !button || !("EventSource" in window)) return;

  const places = new Map();
  for (const name of ["live", "liveD"]) {
    const attribute = name === "live" ? "data-live" : "data-live-d";
    for (const element of document.querySelectorAll(`[${attribute}]`)) {
      const row = element.closest("[data-row]");
      const key = (row ? row.dataset.row + " " : "") + element.dataset[name];
      places.set(key, element);
    }
  }

  const show = (element, text) => {
    if (element.dataset.liveD !== undefined) {
      element.setAttribute("d", text);
      return;
    }
    // A number and its unit are apart so that columns align.
    const unit = element.querySelector("i");
    const cut = text.lastIndexOf(" ");
    if (unit && cut > 0 && element.firstChild.nodeType === Node.TEXT_NODE) {
      element.firstChild.data = text.slice(0, cut + 1);
      unit.textContent = text.slice(cut + 1);
    } else {
      element.textContent = text;
    }
  };

  let source = null;
  let stale = false;
  const say = (text) => {
    note.hidden = false;
    note.classList.toggle("on", text === "Live");
    if (note.textContent !== text) note.textContent = text;
  };
  const stop = (text, next) => {
    if (source) source.close();
    source = null;
    button.textContent = next;
    say(text);
  };
  const start = () => {
    button.textContent = "Pause";
    source = new EventSource(url);
    source.onopen = () => say("Live");
    source.onerror = () => say("Not connected");
    source.onmessage = (event) => {
      const news = JSON.parse(event.data);
      for (const [key, text] of Object.entries(news.set)) {
        const element = places.get(key);
        if (element) show(element, text);
      }
      if (!news.stale) return;
      stale = true;
      stop("There is more to see", "Reload");
    };
  };
  button.hidden = false;
  button.addEventListener("click", () => {
    if (stale) location.reload();
    else if (source) stop("Paused", "Resume");
    else start();
  });
  start();
})();
