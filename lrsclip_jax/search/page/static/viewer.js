// One hit at full resolution: the scene around the tile, and the heat map of the search over it.

import { heat, json } from "/static/asking.js";
import { cosine, day, element, place, share, windowOf } from "/static/words.js";

const TILE = { color: "#ffd23f", weight: 2, fill: false, interactive: false };
const REGION = { color: "#ffffff", weight: 1, opacity: 0.5, dashArray: "2 5", fill: false, interactive: false };
const SIDE = 256; // pixels of a piece
const byId = (id) => document.getElementById(id);

/** The dialog of a hit. `on`: {close(), more(id), less(id), step(by)}. */
export function makeViewer(on) {
  const L = window.L;
  const dialog = byId("viewer");
  let map = null;
  let layers = [];
  let shown = null; // id of the hit
  let overlay = null;
  let asked = new AbortController();

  async function show(feature, query, number, total, tiles) {
    if (!dialog.open) dialog.showModal();
    if (shown === feature.id) return;
    shown = feature.id;
    asked.abort();
    asked = new AbortController();
    const { signal } = asked;
    facts(feature, number, total, tiles);
    clear();
    map ??= makeSceneMap();
    map.invalidateSize();
    try {
      const scene = await json(`/api/scene?scene=${encodeURIComponent(feature.properties.scene)}`, signal);
      lay(scene, windowOf(feature.properties));
      await lost(scene, windowOf(feature.properties), signal);
      if (query) await warm(query, feature.id, signal);
    } catch (error) {
      if (error.name !== "AbortError") byId("viewer-said").textContent = error.message;
    }
  }

  function makeSceneMap() {
    const made = L.map("scene-map", {
      crs: L.CRS.Simple,
      zoomControl: false,
      attributionControl: false,
      minZoom: -12,
      maxZoom: 3,
      zoomSnap: 0.25,
      maxBoundsViscosity: 0.7,
    });
    return made;
  }

  function lay(scene, [r0, r1, c0, c1]) {
    const bounds = L.latLngBounds([-scene.height, 0], [0, scene.width]);
    const halvings = Math.max(0, Math.ceil(Math.log2(Math.max(scene.height, scene.width) / SIDE)));
    const Pieces = L.TileLayer.extend({
      getTileUrl: ({ x, y, z }) =>
        `/api/scene/piece?scene=${encodeURIComponent(scene.scene)}&halvings=${-z}&row=${y}&column=${x}`,
      // A pixel wider than they are: at zooms between whole ones seams would be seen.
      _initTile(piece) {
        L.TileLayer.prototype._initTile.call(this, piece);
        piece.style.width = piece.style.height = `${this.getTileSize().x + 1}px`;
      },
    });
    const pieces = new Pieces("", {
      bounds,
      noWrap: true,
      minZoom: -12,
      maxZoom: 3,
      minNativeZoom: -Math.min(halvings, 12),
      maxNativeZoom: 0,
      className: "pieces",
    });
    const tile = L.rectangle([[-r1, c0], [-r0, c1]], TILE);
    layers = [pieces, tile].map((layer) => layer.addTo(map));
    map.setMaxBounds(bounds.pad(0.5));
    const [height, width] = [r1 - r0, c1 - c0]; // as much again on each side, where the scene has it
    const [top, left] = [Math.max(0, r0 - height), Math.max(0, c0 - width)];
    const [bottom, right] = [Math.min(scene.height, r1 + height), Math.min(scene.width, c1 + width)];
    map.fitBounds([[-bottom, left], [-top, right]], { animate: false });
  }

  /** Throws the server's sentence where the scene can't be read: a picture that fails says nothing itself. */
  async function lost(scene, [r0, , c0], signal) {
    const [row, column] = [r0, c0].map((edge) => Math.floor(edge / SIDE));
    const address = `/api/scene/piece?scene=${encodeURIComponent(scene.scene)}&halvings=0&row=${row}&column=${column}`;
    const response = await fetch(address, { signal });
    if (!response.ok) throw new Error((await response.json()).error);
  }

  async function warm(query, id, signal) {
    const begun = performance.now();
    const said = byId("heat-said");
    const tick = setInterval(() => {
      said.textContent = `Computing the heat map … ${((performance.now() - begun) / 1000).toFixed(0)} s`;
    }, 200);
    try {
      const found = await heat(query, id, signal);
      const [r0, r1, c0, c1] = found.window;
      const bounds = [[-r1, c0], [-r0, c1]];
      overlay = L.imageOverlay(found.url, bounds, { opacity: strength(), className: "heat", alt: "Heat map" }).addTo(map);
      layers.push(L.rectangle(bounds, REGION).addTo(map));
      said.textContent = found.hottest < 0.5 ? "Nothing here looks more like the search than usual." : "";
    } catch (error) {
      said.textContent = error.name === "AbortError" ? "" : error.message;
    } finally {
      clearInterval(tick);
    }
  }

  function facts({ geometry, properties: said }, number, total, tiles) {
    byId("viewer-name").textContent = said.scene;
    const [r0, r1, c0, c1] = windowOf(said);
    const rows = [
      ["Cosine", said.cosine === undefined ? "" : `${cosine(said.cosine)}, ${share(said.percentile, tiles)}`],
      ["Place", place(geometry, 5)],
      ["Date", day(said.date)],
      ["Pixels", `rows ${r0}–${r1}, columns ${c0}–${c1}`],
      ["Ground", said.gsd ? `${Number(said.gsd.toPrecision(3))} m a pixel` : ""],
      ["Result", number === null ? "" : `${number + 1} of ${total}`],
    ];
    byId("viewer-facts").replaceChildren(
      ...rows.filter(([, value]) => value).flatMap(([name, value]) => [element("dt", { text: name }), element("dd", { text: value })]),
    );
    byId("viewer-said").textContent = byId("heat-said").textContent = "";
    byId("previous").disabled = !number;
    byId("next").disabled = number === null || number + 1 >= total;
  }

  function clear() {
    for (const layer of layers) layer.remove();
    layers = [];
    if (overlay) {
      URL.revokeObjectURL(overlay._url);
      overlay.remove();
      overlay = null;
    }
  }

  function close() {
    if (!dialog.open) return;
    asked.abort();
    shown = null;
    dialog.close();
  }

  const strength = () => (byId("heat").checked ? Number(byId("strength").value) : 0);
  for (const id of ["heat", "strength"]) byId(id).addEventListener("input", () => overlay?.setOpacity(strength()));
  byId("close").addEventListener("click", () => on.close());
  byId("more").addEventListener("click", () => on.more(shown));
  byId("less").addEventListener("click", () => on.less(shown));
  byId("previous").addEventListener("click", () => on.step(-1));
  byId("next").addEventListener("click", () => on.step(1));
  dialog.addEventListener("cancel", (event) => {
    event.preventDefault();
    on.close();
  });
  dialog.addEventListener("keydown", (event) => {
    if (event.target.matches("input, #scene-map") && event.key.startsWith("Arrow")) return;
    if (event.key === "ArrowLeft" && !byId("previous").disabled) on.step(-1);
    else if (event.key === "ArrowRight" && !byId("next").disabled) on.step(1);
    else if (event.key === "h") byId("heat").click();
    else return;
    event.preventDefault();
  });

  return { show, close, withHeat: (yes) => (byId("heat-panel").hidden = !yes) };
}
