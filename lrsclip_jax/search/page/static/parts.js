// What a search is made of, as chips that can be taken away: texts, images, examples, filters.

import { thumbnail } from "/static/asking.js";
import { element } from "/static/words.js";

/** Shows the parts of a search; `change(changes)` is called with the search without one. */
export function showParts(list, state, change) {
  const without = (name, value) => ({ [name]: state[name].filter((one) => one !== value) });
  const chips = [];
  const chip = (kind, said, changes, picture) => {
    const label = [kind, said].filter(Boolean).join(" ");
    chips.push(
      element(
        "li",
        {},
        ...(picture ? [element("img", { src: picture, alt: "", width: 28, height: 28 })] : []),
        element("span", { class: "kind", text: kind }),
        ...(said ? [element("span", { class: "value", text: said, title: said })] : []),
        element("button", { type: "button", text: "×", title: "Take away", "aria-label": `Take away: ${label}`, onclick: () => change(changes) }),
      ),
    );
  };
  for (const text of state.text.slice(1)) chip("and", text, without("text", text));
  for (const text of state.not) chip("not", text, without("not", text));
  for (const key of state.image) chip("image", "", without("image", key), `/api/images/${encodeURIComponent(key)}`);
  for (const id of state.like) chip("more like", "", without("like", id), thumbnail(id));
  for (const id of state.unlike) chip("less like", "", without("unlike", id), thumbnail(id));
  for (const name of state.scene) chip("scene", name, without("scene", name));
  if (state.since) chip("from", state.since, { since: "" });
  if (state.until) chip("to", state.until, { until: "" });
  if (state.bbox) chip("in a rectangle", "", { bbox: "" });
  if (state.within) chip("in a polygon", "", { within: "" });
  list.replaceChildren(...chips);
  list.hidden = !chips.length;
}
