// What all of the page shares: asking for answers, the address, elements. Nothing that comes from a study becomes markup.
"use strict";
const odyssey = (() => {
  let rest = null; // the answers of a page at rest
  const kept = new Map();
  const memory = { hash: "" }; // of a page without an address of its own, as in a notebook

  const key = (name, params) => [name, ...Object.keys(params).sort().map((k) => `${k}=${params[k]}`)].join("\n");

  // A page at rest has what answers have in common in `chunks`, by number.
  function whole(value) {
    if (Array.isArray(value)) return value.map(whole);
    if (value === null || typeof value !== "object") return value;
    if (typeof value.$ === "number") {
      if (!kept.has(value.$)) kept.set(value.$, whole(rest.chunks[value.$]));
      return kept.get(value.$);
    }
    return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, whole(v)]));
  }

  async function open() {
    const packed = document.getElementById("data");
    if (!packed) return;
    const bytes = Uint8Array.from(atob(packed.textContent), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    rest = await new Response(stream).json();
  }

  // The answer to a request; of a page at rest undefined where it was not prepared. Fails with what is wrong, as text.
  async function ask(name, params = {}) {
    if (rest) return whole(rest.answers[key(name, params)]);
    let response;
    try {
      response = await fetch(`api/${name}?${new URLSearchParams(params)}`, { credentials: "same-origin" });
    } catch {
      throw new Error("The server of this page has gone; the same odyssey dashboard starts it again.");
    }
    if (!response.headers.get("content-type")?.includes("json")) throw new Error(await response.text());
    const answer = await response.json();
    if (!response.ok) throw new Error(answer.error);
    return answer;
  }

  const own = () => location.protocol !== "about:";
  const view = () => new URLSearchParams((own() ? location.hash : memory.hash).replace(/^#/, ""));

  // Changes the view that the address holds; null removes. A new tab is a step that the browser can take back.
  function show(changes, step = false) {
    const next = view();
    for (const [name, value] of Object.entries(changes)) {
      if (value === null || value === "") next.delete(name);
      else next.set(name, value);
    }
    if (!own()) memory.hash = `#${next}`;
    else if (step) history.pushState(null, "", `#${next}`);
    else history.replaceState(null, "", `#${next}`);
  }

  // An element: attributes as given, `on` as listeners, children as elements or text.
  function el(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name === "on") for (const [event, act] of Object.entries(value)) made.addEventListener(event, act);
      else if (value === true) made.setAttribute(name, "");
      else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
    }
    made.append(...children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false).map((c) => (c instanceof Node ? c : String(c))));
    return made;
  }

  // A text of a study's, which may run from right to left and then must not turn its neighbours.
  const said = (text) => el("bdi", {}, text);

  const shown = (value, digits = 4) => {
    if (value === null || value === undefined) return "–";
    if (typeof value !== "number") return String(value);
    if (Number.isInteger(value)) return value.toLocaleString("en");
    const text = Math.abs(value) < 1e-3 ? value.toExponential(2) : value.toPrecision(digits);
    return text.replace("-", "−");
  };

  function duration(seconds) {
    if (seconds === null || seconds === undefined) return "–";
    for (const [unit, size] of [["days", 86400], ["h", 3600], ["min", 60]]) if (seconds >= 2 * size) return `${(seconds / size).toFixed(1)} ${unit}`;
    return `${Math.round(seconds)} s`;
  }

  function download(name, content, type) {
    const href = typeof content === "string" && content.startsWith("data:") ? content : URL.createObjectURL(new Blob([content], { type }));
    el("a", { href, download: name }).click();
    if (href.startsWith("blob:")) setTimeout(() => URL.revokeObjectURL(href), 10000);
  }

  const cell = (value) => {
    const text = value === null || value === undefined ? "" : String(value);
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const csv = (names, rows) => [names, ...rows].map((row) => row.map(cell).join(",")).join("\n") + "\n";

  return { open, ask, view, show, el, said, shown, duration, download, csv, get atRest() { return rest !== null; } };
})();
