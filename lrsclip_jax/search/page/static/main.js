// The page: one search, kept in the address; every change of it asks again.

import { json } from "/static/asking.js";
import { boxOf, makeDrawing } from "/static/drawing.js";
import { takeImages } from "/static/drop.js";
import { makeFilters } from "/static/filters.js";
import { makeMap } from "/static/map.js";
import { showParts } from "/static/parts.js";
import { makeResults, verdict } from "/static/results.js";
import { asks, read, same, write } from "/static/state.js";
import { makeViewer } from "/static/viewer.js";
import { count } from "/static/words.js";

const byId = (id) => document.getElementById(id);
const say = (sentence) => (byId("said").textContent = sentence);

let state = read();
let about = null;
let features = [];
let sample = null;
let running = new AbortController();

const results = makeResults(byId("hits"), { open, point, more: (id) => refine("like", id), less: (id) => refine("unlike", id) });
const map = makeMap(byId("map"), { open, point: (id) => point(id, true) });
const viewer = makeViewer({ close: () => go({ tile: "" }), more: (id) => refine("like", id), less: (id) => refine("unlike", id), step });
const filters = makeFilters(() => state, change);
const drawing = makeDrawing(map.map, {
  done: (area) => change({ bbox: "", within: "", ...area }),
  hint: (sentence) => {
    byId("hint").textContent = sentence;
    byId("hint").hidden = !sentence;
  },
  state: (kind) => {
    for (const id of ["rectangle", "polygon"]) byId(id).setAttribute("aria-pressed", String(id === kind));
  },
});
takeImages((key) => change({ image: [...state.image.filter((one) => one !== key), key] }), say);

/** Changes the search, with the text as it stands in its field. */
function change(changes) {
  const typed = byId("text").value.trim();
  go({ text: typed ? [typed, ...state.text.slice(1)] : state.text.slice(1), ...changes });
}

/** Changes the address: a new entry of the browser's history, new hits where they differ. */
function go(changes) {
  const before = state;
  state = { ...state, ...changes };
  const query = write(state, { tile: true });
  history.pushState(null, "", query ? `?${query}` : location.pathname);
  show(before);
}

/** Shows the search; asks where it differs from the one before. */
async function show(before) {
  showParts(byId("parts"), state, change);
  filters.show(state);
  map.setArea(state.bbox, state.within);
  if (before === null || before.text[0] !== state.text[0]) byId("text").value = state.text[0] ?? "";
  grow();
  if (before === null || !same(state, before)) await ask(before === null);
  showTile();
}

async function ask(first) {
  running.abort();
  running = new AbortController();
  const { signal } = running;
  const query = write(state);
  const begun = performance.now();
  byId("exports").hidden = true;
  byId("list").setAttribute("aria-busy", "true");
  const telling = setInterval(() => tell(begun), 400);
  say(asks(state) ? "Searching …" : "");
  try {
    if (asks(state)) {
      const found = await json(`/api/search?${query}`, signal);
      features = found.features;
      results.show(features, { tiles: about.tiles });
      say(verdict(found));
      offer(query);
    } else {
      sample ??= (await json("/api/sample?top=48", signal)).features;
      features = sample;
      results.show(features, { scored: false });
      const status = await json("/api/status", signal);
      say(status.state === "failed" ? status.sentence : opening());
    }
    const chosen = state.bbox || state.within; // the map stays where its area was drawn
    map.setHits(asks(state) ? features : [], asks(state) && (first || !chosen));
  } catch (error) {
    if (error.name === "AbortError") return;
    features = [];
    results.show([]);
    map.setHits([], false);
    say(error.message);
  } finally {
    clearInterval(telling);
    if (!signal.aborted) byId("list").setAttribute("aria-busy", "false");
  }
}

/** What takes so long: the model, while it loads. */
async function tell(begun) {
  const status = await json("/api/status").catch(() => null);
  if (byId("list").getAttribute("aria-busy") !== "true" || !asks(state)) return;
  const seconds = ((performance.now() - begun) / 1000).toFixed(0);
  if (status?.state === "loading") say(`${status.sentence} (${status.seconds.toFixed(0)} s so far). The search follows.`);
  else if (seconds > 1) say(`Searching … ${seconds} s`);
}

function opening() {
  if (!about.tiles) return "This archive is empty: lrsclip index adds scenes to it.";
  const missing = state.not.length || state.unlike.length ? "Say what to look for, too. " : "";
  return `${missing}Some of the archive's tiles. Type what to look for, drop an image, or open one of these for more like it.`;
}

function offer(query) {
  byId("exports").hidden = !features.length;
  for (const form of ["geojson", "gpkg", "csv"]) byId(form).href = `/api/export/${form}?${query}`;
}

function open(id) {
  go({ tile: id });
}

function point(id, reveal = false) {
  results.light(id, reveal);
  map.light(id);
}

function refine(name, id) {
  const other = name === "like" ? "unlike" : "like";
  if (name === "unlike" && !asks(state)) {
    say("Say what to look for first; then press − on what does not belong.");
    go({ tile: "" });
    return;
  }
  change({ [name]: [...state[name].filter((one) => one !== id), id], [other]: state[other].filter((one) => one !== id), tile: "" });
  scrollTo({ top: 0 });
}

function showTile() {
  if (!state.tile) {
    viewer.close();
    return;
  }
  const number = features.findIndex((feature) => feature.id === state.tile);
  if (number < 0) {
    if (features.length) say(`${byId("said").textContent} The tile of this address is not among them.`);
    return;
  }
  viewer.withHeat(asks(state));
  viewer.show(features[number], asks(state) ? write(state) : "", number, features.length, about.tiles);
  point(state.tile, true);
}

function step(by) {
  const number = features.findIndex((feature) => feature.id === state.tile) + by;
  if (features[number]) go({ tile: features[number].id });
}

function grow() {
  const field = byId("text");
  field.style.height = "auto";
  field.style.height = `${Math.min(field.scrollHeight, 160)}px`;
}

function view(name) {
  document.body.dataset.view = name;
  byId("to-list").setAttribute("aria-pressed", String(name === "list"));
  byId("to-map").setAttribute("aria-pressed", String(name === "map"));
  if (name === "map") {
    map.resize();
    map.fit();
  }
}

function wire() {
  byId("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    change({});
    view("list");
  });
  byId("text").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      byId("ask").requestSubmit();
    }
  });
  byId("text").addEventListener("input", grow);
  byId("nearer").addEventListener("click", () => map.map.zoomIn());
  byId("farther").addEventListener("click", () => map.map.zoomOut());
  byId("fit").addEventListener("click", map.fit);
  for (const kind of ["rectangle", "polygon"]) byId(kind).addEventListener("click", () => drawing.begin(kind));
  byId("view").addEventListener("click", () => change({ bbox: boxOf(map.map.getBounds()), within: "" }));
  byId("copy").addEventListener("click", async () => {
    await navigator.clipboard?.writeText(location.href).catch(() => null);
    byId("copy").textContent = navigator.clipboard ? "Copied" : "Copy it from the address bar";
    setTimeout(() => (byId("copy").textContent = "Copy link"), 2000);
  });
  byId("to-list").addEventListener("click", () => view("list"));
  byId("to-map").addEventListener("click", () => view("map"));
  addEventListener("popstate", () => {
    const before = state;
    state = read();
    show(before);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !event.target.matches("input, textarea") && !byId("viewer").open) {
      event.preventDefault();
      byId("text").focus();
    }
  });
}

async function begin() {
  view("list");
  wire();
  try {
    about = await json("/api/archive");
  } catch (error) {
    say(error.message);
    return;
  }
  byId("name").textContent = about.name;
  document.title = `${about.name}: search`;
  byId("facts").textContent = `${count(about.tiles, "tile")} of ${count(about.scenes, "scene")}`;
  filters.setArchive(about);
  map.setArchive(about);
  if (about.placed < about.tiles) {
    byId("unplaced").hidden = false;
    byId("unplaced").textContent = about.placed
      ? `${count(about.tiles - about.placed, "tile")} of the archive have no place on this map.`
      : "No scene of this archive has a place on this map.";
  }
  if (about.background) {
    byId("credit").hidden = false;
    byId("credit").textContent = `Background map: ${about.background.split("/")[2].replace("{s}.", "")}`;
  }
  await show(null);
  if (!state.tile && matchMedia("(pointer: fine)").matches) byId("text").focus();
}

begin();
