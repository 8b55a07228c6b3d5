// The results as pictures with scores and places.

import { thumbnail } from "/static/asking.js";
import { cosine, count, day, element, place, share } from "/static/words.js";

/** The list of hits in an element. `on`: {open(id), point(id or null), more(id), less(id)}. */
export function makeResults(list, on) {
  let cards = new Map();

  function show(features, { scored = true, tiles = 0 } = {}) {
    cards = new Map(features.map((feature, number) => [feature.id, card(feature, number, scored, tiles)]));
    list.replaceChildren(...cards.values());
  }

  function card(feature, number, scored, tiles) {
    const { id, properties: said } = feature;
    const where = place(feature.geometry);
    const words = [`${number + 1}`, said.scene, where, day(said.date), scored && `cosine ${cosine(said.cosine)}`];
    const open = element(
      "button",
      { class: "open", type: "button", "aria-label": words.filter(Boolean).join(", "), onclick: () => on.open(id) },
      element("img", { src: thumbnail(id), alt: "", loading: number < 24 ? "eager" : "lazy", width: 128, height: 128, decoding: "async" }),
    );
    const scores = scored
      ? [element("span", { class: "score", text: cosine(said.cosine), title: "cosine with the search" }), element("span", { class: "share", text: share(said.percentile, tiles), title: "how rare such a score is in this archive" })]
      : [];
    const acts = element(
      "span",
      { class: "refine" },
      act("+", "More like this", () => on.more(id)),
      act("−", "Less like this", () => on.less(id)),
    );
    return element(
      "li",
      { "data-id": id, onmouseenter: () => on.point(id), onmouseleave: () => on.point(null), onfocusin: () => on.point(id) },
      open,
      acts,
      element("p", { class: "scores" }, ...scores),
      element("p", { class: "where", text: where, title: said.scene }),
      element("p", { class: "from", text: [day(said.date), said.scene].filter(Boolean).join(" · "), title: said.scene }),
    );
  }

  const act = (sign, words, onclick) => element("button", { type: "button", title: words, "aria-label": words, text: sign, onclick });

  /** Marks the card of a hit, or none, and shows it where `reveal`. */
  function light(id, reveal = false) {
    for (const [one, card] of cards) card.classList.toggle("lit", one === id);
    if (reveal && cards.has(id)) cards.get(id).scrollIntoView({ block: "nearest" });
  }

  // Arrow keys move between pictures; Enter opens, m and l refine.
  list.addEventListener("keydown", (event) => {
    const current = event.target.closest("li");
    if (!current || event.ctrlKey || event.metaKey || event.altKey) return;
    const all = [...list.children];
    const columns = all.filter((one) => one.offsetTop === all[0].offsetTop).length;
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns };
    if (event.key in steps) {
      const target = all[all.indexOf(current) + steps[event.key]];
      if (target) target.querySelector(".open").focus();
    } else if (event.key === "m") on.more(current.dataset.id);
    else if (event.key === "l") on.less(current.dataset.id);
    else return;
    event.preventDefault();
  });

  const focus = (id) => cards.get(id)?.querySelector(".open").focus();

  return { show, light, focus };
}

/** What hits amount to, in a sentence or two. */
export function verdict(found) {
  if (!found.features.length) return found.verdict;
  const notes = found.notes.map((note) => `${note[0].toUpperCase()}${note.slice(1)}.`);
  return [`${count(found.features.length, "tile")}, best first.`, found.verdict, ...notes].join(" ");
}
