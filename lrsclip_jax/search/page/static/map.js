// The map: the archive's own scenes as tiles, the footprints of the hits, and the area that a search is held to.

import { addGraticule } from "/static/graticule.js";
import { middle } from "/static/words.js";

const HIT = { color: "#ffd23f", weight: 2, opacity: 0.95, fillColor: "#ffd23f", fillOpacity: 0.08 };
const LIT = { color: "#ff2d6f", weight: 3, opacity: 1, fillOpacity: 0.16 };
const AREA = { color: "#35c2ff", weight: 2, dashArray: "6 5", fill: false, interactive: false };
const SMALL = 14; // pixels of the screen below which a footprint gets a dot

/** The map in an element. `on` is told of a hit that is opened or pointed at: {open(id), point(id or null)}. */
export function makeMap(holder, on) {
  const L = window.L;
  const map = L.map(holder, {
    zoomControl: false,
    attributionControl: false,
    worldCopyJump: true,
    maxZoom: 22,
    minZoom: 1,
    zoomSnap: 0.5,
    keyboardPanDelta: 120,
  });
  addGraticule(map);
  map.setView([20, 0], 2);
  const footprints = L.featureGroup().addTo(map);
  const dots = L.featureGroup().addTo(map);
  const area = L.featureGroup().addTo(map);
  let shapes = new Map();
  let archive = null;

  /** Shows the archive, which `/api/archive` describes. */
  function setArchive(about) {
    if (about.background) {
      L.tileLayer(about.background, { maxNativeZoom: 19, maxZoom: 22, className: "background" }).addTo(map);
    }
    const size = devicePixelRatio > 1 ? 512 : 256;
    L.tileLayer(`/api/tiles/{z}/{x}/{y}.png?size=${size}`, { maxZoom: 22, zIndex: 2 }).addTo(map);
    archive = about.bounds && boundsOf(about.bounds);
    fit();
  }

  /** Shows hits, GeoJSON features, and moves there where `move`. */
  function setHits(features, move) {
    footprints.clearLayers();
    dots.clearLayers();
    shapes = new Map();
    for (const feature of [...features].reverse()) {
      if (!feature.geometry) continue;
      const id = feature.id;
      const shape = L.geoJSON(unwrapped(feature.geometry), {
        style: HIT,
        pointToLayer: (_, at) => L.circleMarker(at, { ...HIT, radius: 7 }),
      });
      const [lon, lat] = middle(feature.geometry);
      const dot = L.circleMarker([lat, lon], { ...HIT, radius: 5, fillOpacity: 0.9, color: "#00000090", weight: 1.5 });
      for (const layer of [shape, dot]) {
        layer.on("click", () => on.open(id));
        layer.on("mouseover", () => on.point(id));
        layer.on("mouseout", () => on.point(null));
      }
      footprints.addLayer(shape);
      shapes.set(id, { shape, dot, point: feature.geometry.type === "Point" });
    }
    if (move) fit();
    showDots();
  }

  /** Footprints that are too small on the screen to be seen get a dot. */
  function showDots() {
    dots.clearLayers();
    for (const { shape, dot, point } of shapes.values()) {
      const bounds = shape.getBounds();
      const [a, b] = [map.latLngToLayerPoint(bounds.getNorthWest()), map.latLngToLayerPoint(bounds.getSouthEast())];
      if (!point && Math.max(b.x - a.x, b.y - a.y) < SMALL) dots.addLayer(dot);
    }
  }
  map.on("zoomend", showDots);

  /** Marks a hit, or none. */
  function light(id) {
    for (const [one, { shape, dot }] of shapes) {
      const style = one === id ? LIT : HIT;
      shape.setStyle(style);
      dot.setStyle({ fillColor: one === id ? LIT.color : HIT.fillColor });
      if (one === id) {
        shape.bringToFront();
        dot.bringToFront();
      }
    }
  }

  /** Draws the area of a search: "west,south,east,north", or corners "lon,lat;…". */
  function setArea(bbox, within) {
    area.clearLayers();
    if (bbox) {
      const [west, south, east, north] = bbox.split(",").map(Number);
      if ([west, south, east, north].every(Number.isFinite)) area.addLayer(L.rectangle(boundsOf([west, south, east < west ? east + 360 : east, north]), AREA));
    }
    if (within) {
      const corners = within.split(";").map((corner) => corner.split(",").map(Number).reverse());
      if (corners.every((corner) => corner.length === 2 && corner.every(Number.isFinite))) area.addLayer(L.polygon(corners, AREA));
    }
  }

  /** Shows all hits, else the area, else the archive. */
  function fit() {
    for (const bounds of [shapes.size && footprints.getBounds(), area.getLayers().length && area.getBounds(), archive]) {
      if (bounds && bounds.isValid()) {
        map.fitBounds(bounds, { padding: [28, 28], maxZoom: 17, animate: false });
        return;
      }
    }
  }

  const boundsOf = ([west, south, east, north]) => L.latLngBounds([south, west], [north, east]);

  return { map, setArchive, setHits, setArea, light, fit, resize: () => map.invalidateSize() };
}

/** A geometry whose western parts follow the eastern ones across the date line. */
function unwrapped(geometry) {
  if (geometry.type !== "MultiPolygon") return geometry;
  const lons = geometry.coordinates.flatMap((part) => part[0].map((corner) => corner[0]));
  if (Math.max(...lons) - Math.min(...lons) < 180) return geometry;
  const turned = geometry.coordinates.map((part) => part.map((ring) => ring.map(([lon, lat]) => [lon < 0 ? lon + 360 : lon, lat])));
  return { type: "MultiPolygon", coordinates: turned };
}
