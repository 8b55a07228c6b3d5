// Numbers and places in words, and elements without HTML strings.

/** An element: tag, properties (class, text, aria-…, on…), children. */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "text") made.textContent = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

/** Degrees in words: "7.10° E"; 0 has no side. */
export function degrees(value, digits, positive, negative) {
  const said = Math.abs(value).toFixed(digits);
  return Number(said) === 0 ? `${said}°` : `${said}° ${value < 0 ? negative : positive}`;
}

/** The middle of a geometry, [lon, lat], or null; of parts on both sides of the date line, of the larger one. */
export function middle(geometry) {
  if (!geometry) return null;
  if (geometry.type === "Point") return geometry.coordinates;
  const rings = geometry.type === "Polygon" ? [geometry.coordinates[0]] : geometry.coordinates.map((part) => part[0]);
  let best = null;
  let widest = -1;
  for (const ring of rings) {
    const lons = ring.map((corner) => corner[0]);
    const lats = ring.map((corner) => corner[1]);
    const [west, east] = [Math.min(...lons), Math.max(...lons)];
    if (east - west > widest) {
      widest = east - west;
      best = [(west + east) / 2, (Math.min(...lats) + Math.max(...lats)) / 2];
    }
  }
  return best;
}

export function place(geometry, digits = 3) {
  const found = middle(geometry);
  return found ? `${degrees(found[1], digits, "N", "S")}, ${degrees(found[0], digits, "E", "W")}` : "no place on the map";
}

export const cosine = (value) => (value === undefined || value === null ? "" : value.toFixed(3));

/** How rare a score is among so many tiles: "top 0.2 %". */
export function share(percentile, tiles) {
  if (percentile === undefined || percentile === null) return "";
  const top = Math.min(100, 100 - percentile + 100 / Math.max(tiles, 1));
  return `top ${top < 0.01 ? "0.01" : top < 1 ? top.toFixed(2) : top.toFixed(0)} %`;
}

export const day = (date) => (date ? date.slice(0, 10) : "");

export const count = (number, one, many = `${one}s`) => `${number.toLocaleString("en")} ${number === 1 ? one : many}`;

/** The rows and columns of the scene that a tile shows: [r0, r1, c0, c1]. */
export const windowOf = (said) => [said.row_start, said.row_stop, said.col_start, said.col_stop];
