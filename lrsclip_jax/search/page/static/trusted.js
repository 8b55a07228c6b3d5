// The page makes no HTML from text. Leaflet tries SVG by one string when it loads: that one passes, any other is refused.
if (window.trustedTypes) {
  window.trustedTypes.createPolicy("default", { createHTML: (html) => (html === "<svg/>" ? html : null) });
}
