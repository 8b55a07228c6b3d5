// Drawing an area on the map with a pointer: a rectangle by dragging, a polygon corner by corner.

const STYLE = { color: "#35c2ff", weight: 2, dashArray: "6 5", fillOpacity: 0.08, interactive: false };
const NEAR = 12; // pixels from the first corner that close a polygon
const rounded = (value) => Number(value.toFixed(5));

/** Drawing on a map. `on`: {done({bbox} or {within}), hint(sentence or ""), state(kind or "")}. */
export function makeDrawing(map, on) {
  const L = window.L;
  const holder = map.getContainer();
  let kind = "";
  let corners = [];
  let shape = null;
  let pressed = false;

  const at = (event) => map.mouseEventToLatLng(event);
  const pixels = (place) => map.latLngToContainerPoint(place);

  function begin(what) {
    const again = kind === what;
    stop();
    if (again) return;
    kind = what;
    map.dragging.disable();
    map.doubleClickZoom.disable();
    map.boxZoom.disable();
    holder.classList.add("drawing");
    on.state(kind);
    on.hint(
      kind === "rectangle"
        ? "Drag a rectangle over the map. Esc cancels."
        : "Click the corners; click the first one again, or press Enter, to close it. Esc cancels.",
    );
  }

  function stop() {
    if (shape) shape.remove();
    [kind, corners, shape, pressed] = ["", [], null, false];
    map.dragging.enable();
    map.doubleClickZoom.enable();
    map.boxZoom.enable();
    holder.classList.remove("drawing");
    on.state("");
    on.hint("");
  }

  function draw(places) {
    if (shape) shape.remove();
    shape = kind === "rectangle" ? L.rectangle(L.latLngBounds(places), STYLE) : L.polygon(places, STYLE);
    shape.addTo(map);
  }

  function finishRectangle(end) {
    const [a, b] = [pixels(corners[0]), pixels(end)];
    if (Math.abs(a.x - b.x) < 4 || Math.abs(a.y - b.y) < 4) {
      corners = [];
      if (shape) shape.remove();
      return;
    }
    const bbox = boxOf(L.latLngBounds([corners[0], end]));
    stop();
    on.done({ bbox });
  }

  function finishPolygon() {
    if (corners.length < 3) {
      on.hint("A polygon needs three corners. Esc cancels.");
      return;
    }
    const within = corners.map((corner) => `${rounded(corner.lng)},${rounded(corner.lat)}`).join(";");
    stop();
    on.done({ within });
  }

  holder.addEventListener("pointerdown", (event) => {
    if (!kind || event.button) return;
    event.preventDefault();
    pressed = true;
    if (kind === "rectangle") {
      corners = [at(event)];
      holder.setPointerCapture(event.pointerId);
    }
  });
  holder.addEventListener("pointermove", (event) => {
    if (kind === "rectangle" && corners.length) draw([corners[0], at(event)]);
    if (kind === "polygon" && corners.length) draw([...corners, at(event)]);
  });
  holder.addEventListener("pointerup", (event) => {
    if (!kind || !pressed) return;
    pressed = false;
    if (kind === "rectangle") {
      if (corners.length) finishRectangle(at(event));
      return;
    }
    const point = pixels(at(event));
    if (corners.length > 2 && point.distanceTo(pixels(corners[0])) < NEAR) {
      finishPolygon();
      return;
    }
    if (corners.length && point.distanceTo(pixels(corners.at(-1))) < 3) return; // the second click of a double one
    corners.push(at(event));
    draw(corners);
  });
  holder.addEventListener("dblclick", () => {
    if (kind === "polygon") finishPolygon();
  });
  document.addEventListener("keydown", (event) => {
    if (!kind) return;
    if (event.key === "Escape") stop();
    else if (event.key === "Enter" && kind === "polygon") finishPolygon();
    else if (event.key === "Backspace" && kind === "polygon") {
      corners.pop();
      draw(corners);
    } else return;
    event.preventDefault();
    event.stopPropagation();
  });

  return { begin, stop, active: () => kind !== "" };
}

/** Leaflet's bounds as "west,south,east,north"; west above east across the date line. */
export function boxOf(bounds) {
  if (bounds.getEast() - bounds.getWest() >= 360) return `-180,${south(bounds)},180,${north(bounds)}`;
  const turn = (lon) => ((((lon + 180) % 360) + 360) % 360) - 180;
  return [turn(bounds.getWest()), south(bounds), turn(bounds.getEast()), north(bounds)].map(rounded).join(",");
}
const south = (bounds) => Math.max(-90, bounds.getSouth());
const north = (bounds) => Math.min(90, bounds.getNorth());
