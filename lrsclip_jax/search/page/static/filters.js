// The fields of the filters: each change asks again.

const byId = (id) => document.getElementById(id);

/** Wires the fields; `change(changes)` gets the new values, `state()` returns the search. */
export function makeFilters(state, change) {
  const panel = byId("filters");
  const button = byId("narrow");

  function open(yes) {
    panel.hidden = !yes;
    button.setAttribute("aria-expanded", String(yes));
  }
  button.addEventListener("click", () => {
    open(panel.hidden);
    if (!panel.hidden) byId("also").focus();
  });

  /** A field whose text is added to a list at Enter. */
  function adds(id, name) {
    const field = byId(id);
    field.addEventListener("change", () => {
      const value = field.value.trim();
      field.value = "";
      if (value && !state()[name].includes(value)) change({ [name]: [...state()[name], value] });
    });
  }
  adds("also", "text");
  adds("without", "not");
  adds("scene", "scene");
  for (const name of ["since", "until", "top"]) {
    byId(name).addEventListener("change", (event) => {
      if (event.target.validity.valid) change({ [name]: event.target.value === "50" && name === "top" ? "" : event.target.value });
    });
  }
  byId("box").addEventListener("change", (event) => change({ bbox: event.target.value.replaceAll(" ", ""), within: "" }));

  /** Shows the values of a search. */
  function show({ since, until, bbox, top }) {
    byId("since").value = since;
    byId("until").value = until;
    byId("box").value = bbox;
    byId("top").value = top || 50;
  }

  /** Tells the fields of the archive, which `/api/archive` describes. */
  function setArchive(about) {
    byId("scenes").replaceChildren(...about.names.map((name) => Object.assign(document.createElement("option"), { value: name })));
    for (const id of ["since", "until"]) {
      byId(id).min = about.first ?? "";
      byId(id).max = about.last ?? "";
      byId(id).disabled = !about.first;
      byId(id).title = about.first ? `The scenes are of ${about.first} to ${about.last}.` : "No scene of this archive has a date.";
    }
  }

  return { show, setArchive };
}
