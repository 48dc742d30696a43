// A figure: drawn by Vega-Lite in the colours of the theme, with its files, and what its points tell.
"use strict";
odyssey.figures = (() => {
  const { el, ask, shown, said } = odyssey;
  const theme = matchMedia("(prefers-color-scheme: dark)");
  const drawn = new Set();
  let dark = {}, tip = null, pending = 0;

  const rows = (columns) => {
    const names = Object.keys(columns);
    return (columns[names[0]] ?? []).map((_, i) => Object.fromEntries(names.map((n) => [n, columns[n][i]])));
  };

  function coloured(spec) {
    let text = JSON.stringify(spec);
    if (theme.matches) text = text.replace(/#[0-9a-f]{6}/g, (colour) => dark[colour] ?? colour);
    return JSON.parse(text);
  }

  const equal = (a, b) => JSON.stringify(a) === JSON.stringify(b);

  function label(one) {
    const { title, caption } = one.payload;
    one.title.replaceChildren(said(title));
    one.caption.replaceChildren(said(caption));
    const graphic = one.place.querySelector("canvas");
    graphic?.setAttribute("role", "img");
    graphic?.setAttribute("aria-label", `${title}. ${caption}`);
  }

  async function draw(one) {
    one.view?.finalize();
    const datasets = Object.fromEntries(Object.entries(one.payload.data).map(([name, columns]) => [name, rows(columns)]));
    // Expressions are interpreted, for the page's policy forbids to make code from text.
    const options = { actions: false, ast: true, defaultStyle: false, renderer: "canvas", tooltip: false, mode: "vega-lite", logLevel: 1 };
    one.place.replaceChildren();
    const { view } = await vegaEmbed(one.place, { ...coloured(one.payload.spec), datasets }, options);
    one.view = view;
    await view.runAsync();
    label(one);
    one.place.removeAttribute("role");
    for (const name of Object.keys(one.listens ?? {})) if (view.getState().signals[name] !== undefined) view.addSignalListener(name, (_, value) => one.listens[name](value));
    view.addEventListener("mousemove", (event, item) => point(one, event, item?.datum));
    view.addEventListener("mouseout", () => point(one, null, null));
    view.addEventListener("click", (event, item) => {
      const about = aboutOf(one, item?.datum);
      if (about) one.open(...about);
    });
  }

  // What a mark is about, by the fields of its datum that say it; null of one that is about nothing that can be opened.
  function aboutOf(one, datum) {
    const about = (one.about ?? []).map((field) => datum?.[field]);
    return about.length && about.every((value) => value !== undefined) ? about : null;
  }

  // The trial or cell under the pointer: what is known of it at once, and its curve as soon as it is there.
  function point(one, event, datum) {
    const about = aboutOf(one, datum), key = about && about.join("\n");
    one.place.style.cursor = key ? "pointer" : "";
    if (!key) {
      tip?.remove();
      tip = null;
      return;
    }
    if (tip?.dataset.key !== key) {
      tip?.remove();
      tip = el("div", { class: "tip", role: "status" }, one.tell(...about));
      tip.dataset.key = key;
      document.body.append(tip);
      const mine = tip;
      clearTimeout(pending);
      if (one.curve) pending = setTimeout(async () => {
        const answer = await one.curve(...about).catch(() => null);
        const curve = answer?.figures?.[0]?.data.curve;
        if (curve && mine === tip) mine.append(spark(curve));
      }, 120);
    }
    const left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 6);
    const below = event.clientY + 14 + tip.offsetHeight < innerHeight;
    tip.style.left = `${Math.max(4, left)}px`;
    tip.style.top = `${below ? event.clientY + 14 : Math.max(4, event.clientY - tip.offsetHeight - 10)}px`;
  }

  function spark(curve) {
    const points = curve.epoch.map((x, i) => [x, curve.y[i]]).filter(([, y], i) => curve.what[i] === "valid_score" && y !== null);
    const [xs, ys] = [points.map((p) => p[0]), points.map((p) => p[1])];
    const scale = (v, all, size) => ((v - Math.min(...all)) / (Math.max(...all) - Math.min(...all) || 1)) * size;
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
    line.setAttribute("points", points.map(([x, y]) => `${scale(x, xs, 200) + 2},${44 - scale(y, ys, 40)}`).join(" "));
    svg.setAttribute("viewBox", "0 0 204 48");
    svg.setAttribute("aria-label", "validation score by epoch");
    svg.append(line);
    return svg;
  }

  async function save(one, kind) {
    const name = one.payload.name.replace(/[^\w.+-]+/g, "_");
    if (kind === "png") odyssey.download(`${name}.png`, await one.view.toImageURL("png", 2));
    else if (kind === "svg") odyssey.download(`${name}.svg`, await one.view.toSVG(), "image/svg+xml");
    else {
      const frames = Object.entries(one.payload.data);
      const names = [...new Set(frames.flatMap(([, columns]) => Object.keys(columns)))];
      const all = frames.flatMap(([frame, columns]) => rows(columns).map((row) => [frame, ...names.map((n) => row[n])]));
      odyssey.download(`${name}.csv`, odyssey.csv(["data", ...names], all), "text/csv");
    }
  }

  // A figure that stands there, with other data and values of its parameters. Only what differs is drawn again.
  async function renew(one, payload) {
    const differs = Object.keys(payload.data).filter((name) => !equal(one.payload.data[name], payload.data[name]));
    one.payload = payload;
    label(one);
    for (const { name, value } of settable(payload.spec)) one.view.signal(name, value);
    for (const name of differs) one.view.change(name, vega.changeset().remove(() => true).insert(rows(payload.data[name])));
    await one.view.runAsync();
  }

  const settable = (spec) => (spec.params ?? []).filter((each) => "value" in each);
  const form = (spec) => ({ ...spec, params: spec.params?.map((each) => ("value" in each ? each.name : each)) });

  // The element of a figure: one that stands there, if all but its data and values of parameters are the same. `of`:
  // listens; where marks can be opened, the fields that say what each is `about`, with open, tell and curve, which are
  // given the values of these; and a key of what all of it is of.
  function figure(payload, of = {}) {
    for (const one of drawn) {
      if (one.key !== of.key || one.payload.name !== payload.name || !one.view || !one.made.isConnected) continue;
      if (!equal(form(one.payload.spec), form(payload.spec))) continue;
      Object.assign(one, of);
      one.made.paint = () => renew(one, payload);
      return one.made;
    }
    const one = { payload, ...of, place: el("div", { class: "chart" }), title: el("h3"), caption: el("figcaption") };
    const files = ["png", "svg", "csv"].map((kind) =>
      el("button", { type: "button", "aria-label": `${payload.title}: download ${kind.toUpperCase()}`, on: { click: () => save(one, kind) } }, kind.toUpperCase()));
    const made = el("figure", { "data-figure": payload.name },
      el("div", { class: "head" }, one.title, el("div", { class: "files" }, files)), one.place, one.caption);
    one.made = made;
    label(one);
    drawn.add(one);
    made.paint = () => draw(one).catch((error) => one.place.append(el("p", { class: "bad" }, error.message)));
    made.one = one;
    return made;
  }

  // Draws the figures of an element: first those in sight, of which `seen` is told, then the others. Stops where `stays`
  // says so; what of them stands there is renewed later then.
  async function paint(place, stays = () => true, seen = () => {}) {
    const left = [...place.querySelectorAll("figure")].filter((made) => made.paint);
    const inSight = (made) => { const { top, bottom } = made.getBoundingClientRect(); return top < innerHeight && bottom > 0; };
    while (left.length && stays()) {
      const first = left.findIndex(inSight);
      if (first < 0) { seen(); break; }
      await painted(left.splice(first, 1)[0]);
    }
    if (!left.length) seen();
    for (const made of left) {
      await shownSoFar(); // and for what the user does meanwhile
      if (!stays()) return;
      await painted(made);
    }
  }

  // Until what is drawn is on the screen, or would be if the page were.
  const shownSoFar = () => new Promise((done) => {
    requestAnimationFrame(() => setTimeout(done));
    setTimeout(done, 100);
  });

  async function painted(made) {
    const { paint: act } = made;
    made.paint = null; // what two ask for is done once
    await act?.();
  }

  function forget() {
    for (const one of drawn) if (!one.made.isConnected) { one.view?.finalize(); drawn.delete(one); }
    tip?.remove();
    tip = null;
  }

  theme.addEventListener("change", () => { for (const one of drawn) if (one.made.isConnected) draw(one); });
  return { figure, forget, paint, rows, set dark(colours) { dark = colours; } };
})();
