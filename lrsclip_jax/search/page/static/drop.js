// Images to search with: chosen, pasted, or dropped anywhere on the page.

import { bring } from "/static/asking.js";

/** `found(key)` gets the key of an image that the server took, `said(sentence)` what happens. */
export function takeImages(found, said) {
  const zone = document.getElementById("drop");
  const field = document.getElementById("file");
  let inside = 0;

  async function take(files) {
    const file = [...files].find((one) => one.type.startsWith("image/") || /\.(tiff?|jp2)$/i.test(one.name));
    if (!file) {
      said("That is no image: drop a JPEG, PNG, WebP, BMP, TIFF or JPEG 2000 file.");
      return;
    }
    said(`Reading ${file.name || "the image"} …`);
    try {
      found(await bring(file));
    } catch (error) {
      said(error.message);
    }
  }

  const holdsFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  document.addEventListener("dragenter", (event) => {
    if (holdsFiles(event)) zone.hidden = !(inside += 1);
  });
  document.addEventListener("dragleave", (event) => {
    if (holdsFiles(event)) zone.hidden = (inside = Math.max(0, inside - 1)) === 0;
  });
  document.addEventListener("dragover", (event) => {
    if (holdsFiles(event)) event.preventDefault();
  });
  document.addEventListener("drop", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    inside = 0;
    zone.hidden = true;
    take(event.dataTransfer.files);
  });
  document.addEventListener("paste", (event) => {
    if (event.clipboardData?.files.length) {
      event.preventDefault();
      take(event.clipboardData.files);
    }
  });
  field.addEventListener("change", () => {
    if (field.files.length) take(field.files);
    field.value = "";
  });
}
