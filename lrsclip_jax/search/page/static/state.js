// A search as the address has it, by the names of the API: the address can be sent to someone.

const LISTS = ["text", "not", "image", "like", "unlike", "scene"];
const SINGLES = ["bbox", "within", "since", "until", "top", "tile"];

/** The search in an address, {text: […], …, top: "50", …}; names that it lacks are [] or "". */
export function read(query = location.search) {
  const given = new URLSearchParams(query);
  const state = {};
  for (const name of LISTS) state[name] = given.getAll(name).filter((value) => value.trim());
  for (const name of SINGLES) state[name] = given.get(name) ?? "";
  return state;
}

/** The search as the query of an address, without "tile" for the API. */
export function write(state, { tile = false } = {}) {
  const query = new URLSearchParams();
  for (const name of LISTS) for (const value of state[name]) query.append(name, value);
  for (const name of SINGLES) {
    if (state[name] && (tile || name !== "tile")) query.set(name, state[name]);
  }
  return query.toString();
}

/** Whether a search says what to look for. */
export const asks = (state) => state.text.length + state.image.length + state.like.length > 0;

/** Whether two searches have the same hits. */
export const same = (a, b) => write(a) === write(b);
