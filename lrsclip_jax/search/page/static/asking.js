// Requests to the server. An error is the server's one sentence.

async function failure(response) {
  try {
    return new Error((await response.json()).error ?? response.statusText);
  } catch {
    return new Error(`The server answered with status ${response.status}.`);
  }
}

async function fetched(address, options) {
  let response;
  try {
    response = await fetch(address, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server can't be reached: is it still running?");
  }
  if (!response.ok) throw await failure(response);
  return response;
}

export const json = async (address, signal) => (await fetched(address, { signal })).json();

/** The key of an image that is sent to the server. */
export async function bring(file) {
  const response = await fetched("/api/images", { method: "POST", body: file });
  return (await response.json()).image;
}

/** A heat map: {url, window: [r0, r1, c0, c1], hottest}; the caller revokes the URL. */
export async function heat(query, id, signal) {
  const response = await fetched(`/api/heat?${query}&id=${encodeURIComponent(id)}`, { signal });
  return {
    url: URL.createObjectURL(await response.blob()),
    window: response.headers.get("X-Window").split(",").map(Number),
    hottest: Number(response.headers.get("X-Hottest")),
  };
}

export const thumbnail = (id) => `/api/thumbnail?id=${encodeURIComponent(id)}`;
