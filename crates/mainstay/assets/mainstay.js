// Makes the pages live: takes the parts that have changed from the server and puts them in place without a reload.
// Everything can be read and done without this script; it adds only comfort.
"use strict";

(() => {
  const note = document.getElementById("live");
  const address = document.body.dataset.live;
  // The server gives a sign of life every 5 s.
  const SILENCE_MAX = 15000;
  const RETRY = 2000;
  let source = null;
  let lastSign = 0;
  let retry = 0;

  function say(live) {
    const text = live ? "live" : "not live: reconnecting";
    if (note.textContent === text) return;
    note.textContent = text;
    note.className = live ? "on" : "off";
  }

  function sign() {
    lastSign = Date.now();
    say(true);
  }

  function connect() {
    clearTimeout(retry);
    if (source) source.close();
    lastSign = Date.now();
    source = new EventSource("/events?page=" + encodeURIComponent(address));
    source.addEventListener("changes", (event) => {
      sign();
      const changes = JSON.parse(event.data);
      document.title = changes.title;
      for (const { id, html } of changes.parts) replace(id, html);
    });
    source.addEventListener("alive", sign);
    source.addEventListener("gone", () => location.reload());
    source.onerror = () => {
      say(false);
      source.close();
      retry = setTimeout(connect, RETRY);
    };
  }

  // The parts are brought to their new state in place, so that focus, selection, scrolling and hover survive.
  function replace(id, html) {
    const part = document.getElementById(id);
    if (!part) return location.reload();
    const next = document.createElement("template");
    next.innerHTML = html;
    morph(part, next.content);
    localTimes(part);
    for (const chart of part.querySelectorAll("[data-chart]")) readOut(chart);
  }

  function morph(from, to) {
    const have = [...from.childNodes];
    const want = [...to.childNodes];
    want.forEach((next, i) => {
      const old = have[i];
      if (!old) return from.append(next);
      if (old.nodeType !== next.nodeType || old.nodeName !== next.nodeName) return old.replaceWith(next);
      if (next.nodeType !== Node.ELEMENT_NODE) {
        if (old.nodeValue !== next.nodeValue) old.nodeValue = next.nodeValue;
        return;
      }
      if (old.isEqualNode(next)) return;
      attributes(old, next);
      // What somebody has typed or opened stays; what a chart reads out is the script's own.
      if (old.nodeName !== "INPUT" && old.nodeName !== "OUTPUT") morph(old, next);
    });
    have.slice(want.length).forEach((old) => old.remove());
  }

  function attributes(old, next) {
    const keep = (name) => name === "open" || name === "value" && old.nodeName === "INPUT";
    for (const { name } of [...old.attributes]) if (!next.hasAttribute(name) && !keep(name)) old.removeAttribute(name);
    for (const { name, value } of next.attributes) if (old.getAttribute(name) !== value && !keep(name)) old.setAttribute(name, value);
  }

  // The hover text of a time tells the reader's own clock beside UTC.
  function localTimes(root) {
    for (const time of root.querySelectorAll("time[datetime]")) {
      const at = new Date(time.dateTime);
      if (Number.isNaN(at.getTime()) || time.title.includes("\n")) continue;
      time.title += "\n" + at.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" }) + " here";
    }
  }

  // The values of a chart's column under the pointer, or under the arrow keys.
  function readOut(chart) {
    const drawing = chart.querySelector("svg");
    const output = chart.querySelector("output");
    if (chart.dataset.ready) return;
    chart.dataset.ready = "yes";
    const columns = () => [...drawing.querySelectorAll(".hit")];
    let at = -1;
    const show = (index) => {
      const all = columns();
      all.forEach((column, i) => column.classList.toggle("on", i === index));
      at = index;
      output.textContent = index < 0 ? "" : all[index].textContent;
    };
    drawing.addEventListener("pointermove", (event) => {
      const box = drawing.getBoundingClientRect();
      const count = columns().length;
      show(Math.max(0, Math.min(count - 1, Math.floor((event.clientX - box.left) / box.width * count))));
    });
    drawing.addEventListener("pointerleave", () => show(-1));
    drawing.addEventListener("blur", () => show(-1));
    drawing.addEventListener("keydown", (event) => {
      const count = columns().length;
      const to = { ArrowLeft: at < 0 ? count - 1 : at - 1, ArrowRight: at + 1, Home: 0, End: count - 1 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      show(Math.max(0, Math.min(count - 1, to)));
    });
  }

  // A confirmation is asked in place instead of on a page of its own.
  async function ask(link) {
    const answer = await fetch(link.href, { headers: { accept: "text/html" } });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const form = page.querySelector("form.confirm");
    if (!answer.ok || !form) return location.assign(link.href);
    const dialog = document.createElement("dialog");
    dialog.append(document.adoptNode(form));
    dialog.setAttribute("aria-label", form.querySelector("h1").textContent);
    dialog.addEventListener("close", () => { dialog.remove(); link.focus(); });
    dialog.addEventListener("click", (event) => {
      if (!event.target.closest("[data-close]") && event.target !== dialog) return;
      event.preventDefault();
      dialog.close();
    });
    document.body.append(dialog);
    dialog.showModal();
  }

  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-confirm]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    ask(link).catch(() => location.assign(link.href));
  });

  localTimes(document);
  for (const chart of document.querySelectorAll("[data-chart]")) readOut(chart);
  if (!address) return;
  connect();
  setInterval(() => {
    if (Date.now() - lastSign < SILENCE_MAX) return;
    say(false);
    connect();
  }, 1000);
  // A page that was asleep asks anew at once.
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && Date.now() - lastSign > SILENCE_MAX) connect();
  });
  addEventListener("pagehide", () => source && source.close());
  addEventListener("pageshow", (event) => event.persisted && connect());
})();
