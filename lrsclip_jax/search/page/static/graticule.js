// Lines of longitude and latitude: they say where the map is when there is no background.

import { degrees } from "/static/words.js";

const STEPS = [30, 20, 10, 5, 2, 1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 0.0005, 0.0002, 0.0001];
const APART = 150; // pixels of the screen, at least

/** Draws the lines below everything else, for what the map shows. */
export function addGraticule(map) {
  const L = window.L;
  map.createPane("graticule").style.zIndex = 150;
  const lines = L.layerGroup().addTo(map);

  function label(at, said, side) {
    const words = document.createElement("span");
    words.textContent = said;
    return L.marker(at, {
      pane: "graticule",
      interactive: false,
      keyboard: false,
      icon: L.divIcon({ html: words, className: `degrees ${side}`, iconSize: null }),
    });
  }

  function draw() {
    lines.clearLayers();
    const bounds = map.getBounds();
    const [west, east] = [bounds.getWest(), bounds.getEast()];
    const [south, north] = [Math.max(-85, bounds.getSouth()), Math.min(85, bounds.getNorth())];
    const step = STEPS.findLast((one) => (one / (east - west)) * map.getSize().x >= APART) ?? STEPS[0];
    const digits = Math.max(0, Math.ceil(-Math.log10(step)));
    const style = { pane: "graticule", className: "graticule", interactive: false, weight: 1 };
    for (let lon = Math.ceil(west / step) * step; lon <= east; lon += step) {
      const turned = ((((lon + 180) % 360) + 360) % 360) - 180;
      lines.addLayer(L.polyline([[south, lon], [north, lon]], style));
      lines.addLayer(label([south, lon], degrees(turned, digits, "E", "W"), "below"));
    }
    for (let lat = Math.ceil(south / step) * step; lat <= north; lat += step) {
      lines.addLayer(L.polyline([[lat, west], [lat, east]], style));
      lines.addLayer(label([lat, west], degrees(lat, digits, "N", "S"), "left"));
    }
  }
  map.on("moveend resize", draw);
}
