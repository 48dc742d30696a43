// Tables: short ones as they are, and the trials, of which only the rows in sight are elements.
"use strict";
odyssey.tables = (() => {
  const { el, said, shown } = odyssey;
  const ROW = 30, MORE = 12; // pixels, and rows beyond what is in sight

  const head = (text, sorted, act, word) => {
    const attributes = { scope: "col", "aria-sort": sorted, class: word ? "word" : null };
    return el("th", attributes, el("button", { type: "button", on: { click: act } }, said(text)));
  };

  // A table of texts: groups over headings, rows that can be sorted, a note.
  function table(data) {
    const body = el("tbody");
    let by = null, down = false;
    const order = data.rows.map((_, i) => i);
    const value = (i) => data.numbers[i][by] ?? data.rows[i][by];
    const headings = el("tr");
    function fill() {
      if (by !== null) order.sort((a, b) => {
        const [x, y] = [value(a), value(b)];
        const [p, q] = [typeof x === "number", typeof y === "number"];
        return p !== q ? (p ? -1 : 1) : (down ? -1 : 1) * (p ? x - y : String(x).localeCompare(String(y)));
      });
      headings.replaceChildren(...data.headings.map(([, text], i) => head(text, by === i ? (down ? "descending" : "ascending") : null, () => { down = by === i && !down; by = i; fill(); }, data.rows.length > 0 && data.numbers.every((row) => row[i] === null))));
      body.replaceChildren(...order.map((i) => el("tr", { class: data.marked.includes(i) ? "marked" : null },
        data.rows[i].map((text, j) => el(j ? "td" : "th", { scope: j ? null : "row", class: text.length > 60 ? "long" : data.numbers[i][j] === null && j ? "word" : null }, said(text))))));
    }
    fill();
    const groups = data.groups.some(([group]) => group) ? el("tr", { class: "groups" }, data.groups.map(([group, span]) => el("th", { colspan: span, scope: "colgroup" }, group))) : null;
    const save = () => odyssey.download(`${data.name}.csv`, odyssey.csv(data.headings.map(([g, h]) => (g ? `${g}: ${h}` : h)), data.rows), "text/csv");
    return el("section", { class: "table" },
      el("div", { class: "head" }, el("h3", {}, said(data.title)), el("div", { class: "files" }, el("button", { type: "button", "aria-label": `${data.title}: download CSV`, on: { click: save } }, "CSV"))),
      el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": data.title }, el("table", {}, el("thead", {}, groups, headings), body)),
      data.note ? el("p", { class: "note" }, said(data.note)) : null);
  }

  // All trials. `store` has n, columns and get(name, row); `change` is told what of the view has changed.
  function trials(store, names, view, change, open) {
    let order = [];
    const chosen = new Set();
    const texts = new Map();
    const count = el("span", { class: "count", role: "status" });
    const box = el("input", { type: "search", placeholder: "filter: words, lr<0.001", "aria-label": "Filter trials", value: view.filter ?? "" });
    const body = el("tbody"), headings = el("tr");
    const above = el("tr", { "aria-hidden": "true" }, el("td")), below = el("tr", { "aria-hidden": "true" }, el("td"));
    const pane = el("div", { class: "scroll tall", tabindex: 0, role: "region", "aria-label": "Trials" },
      el("table", { class: "trials" }, el("thead", {}, headings), body));
    const standing = new Map(); // rows that are elements, by their place in the order
    let sort = view.sort ?? "", timer = 0;

    const text = (i) => {
      if (!texts.has(i)) texts.set(i, names.map((n) => store.get(n, i) ?? "").join(" ").toLowerCase());
      return texts.get(i);
    };
    function test(word) { // a word, or a column compared with a number
      const found = word.match(/^(.+?)(<=|>=|<|>|=)(.+)$/);
      if (!found || !store.has(found[1])) return (i) => text(i).includes(word.toLowerCase());
      const [, name, sign, right] = found, number = Number(right);
      if (sign === "=") return (i) => String(store.get(name, i) ?? "") === right;
      return (i) => {
        const left = store.get(name, i);
        if (left === null) return false;
        return sign === "<" ? left < number : sign === ">" ? left > number : sign === "<=" ? left <= number : left >= number;
      };
    }
    function arrange() {
      const tests = box.value.split(/\s+/).filter(Boolean).map(test);
      order = [];
      for (let i = 0; i < store.n; i++) if (tests.every((passes) => passes(i))) order.push(i);
      const name = sort.replace(/^-/, ""), way = sort.startsWith("-") ? -1 : 1;
      if (name && store.has(name)) {
        const values = order.map((i) => store.get(name, i));
        const number = store.kind(name) === "number";
        const places = order.map((_, k) => k).sort((a, b) => {
          const [x, y] = [values[a], values[b]];
          if (x === null || y === null) return (x === null) - (y === null); // what is missing comes last either way
          return way * (number ? x - y : String(x) < String(y) ? -1 : String(x) > String(y) ? 1 : 0);
        });
        order = places.map((k) => order[k]);
      }
      headings.replaceChildren(el("th", { scope: "col" }, el("input", { type: "checkbox", "aria-label": "Select all shown", on: { change: (e) => { for (const i of order) e.target.checked ? chosen.add(i) : chosen.delete(i); fill(); } } })),
        ...names.map((n) => head(n, n === name ? (way < 0 ? "descending" : "ascending") : null, () => { sort = sort === n ? `-${n}` : n; change({ sort }); arrange(); }, n !== "trial" && store.kind(n) !== "number")));
      pane.scrollTop = 0;
      fill();
    }
    function row(k) {
      const i = order[k];
      const mark = el("input", { type: "checkbox", "aria-label": `Select ${store.get("variant", i)} ${store.get("trial", i)}`, on: { change: (e) => { e.target.checked ? chosen.add(i) : chosen.delete(i); fill(); } } });
      mark.checked = chosen.has(i);
      return el("tr", { "aria-rowindex": k + 2, class: chosen.has(i) ? "marked" : null }, el("td", {}, mark), names.map((n) => {
        const value = store.get(n, i);
        if (n === "trial") return el("td", {}, el("a", { href: "#", on: { click: (e) => { e.preventDefault(); open(i); } } }, shown(value)));
        const word = store.kind(n) !== "number";
        return el("td", { class: word ? "word" : null }, word ? said(value ?? "–") : shown(value));
      }));
    }
    function fill() {
      count.textContent = `${order.length.toLocaleString("en")} of ${store.n.toLocaleString("en")} trials` + (chosen.size ? `, ${chosen.size} selected` : "");
      pane.firstChild.setAttribute("aria-rowcount", order.length + 1);
      standing.clear();
      body.replaceChildren(above, below);
      place();
    }
    // Makes the rows in sight and some beyond, of those that do not stand yet.
    function place() {
      const top = Math.floor(pane.scrollTop / ROW), bottom = Math.min(order.length, top + Math.ceil((pane.clientHeight || 600) / ROW));
      if (standing.size && standing.has(top) && standing.has(bottom - 1)) return;
      const first = Math.max(0, top - MORE), last = Math.min(order.length, bottom + MORE);
      for (const [k, made] of standing) if (k < first || k >= last) { standing.delete(k); made.remove(); }
      let next = below; // what stands is not touched
      for (let k = last - 1; k >= first; k--) {
        if (!standing.has(k)) {
          standing.set(k, row(k));
          body.insertBefore(standing.get(k), next);
        }
        next = standing.get(k);
      }
      above.firstChild.style.height = `${first * ROW}px`;
      below.firstChild.style.height = `${(order.length - last) * ROW}px`;
    }
    let asked = false;
    pane.addEventListener("scroll", () => {
      if (!asked) requestAnimationFrame(() => { asked = false; place(); });
      asked = true;
    }, { passive: true });
    box.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(() => { change({ filter: box.value }); arrange(); }, 120); });
    const save = () => {
      const rows = chosen.size ? order.filter((i) => chosen.has(i)) : order;
      odyssey.download("trials.csv", odyssey.csv(store.names, rows.map((i) => store.names.map((n) => store.get(n, i)))), "text/csv");
    };
    const made = el("div", {}, el("div", { class: "bar" }, box, count, el("button", { type: "button", on: { click: save } }, "CSV")), pane);
    requestAnimationFrame(arrange);
    made.renew = () => { texts.clear(); const at = pane.scrollTop; arrange(); pane.scrollTop = at; fill(); };
    return made;
  }

  return { table, trials };
})();
