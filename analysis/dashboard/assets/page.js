// The page: its tabs, what its address says, and how it keeps up with a study that is being trained.
"use strict";
(() => {
  const { el, ask, show, view, said, shown } = odyssey;
  const NAMES = { overview: "Overview", compare: "Compare", importance: "Importance", curves: "Curves", trials: "Trials", cells: "Cells" };
  const OWN = { compare: 1, curves: 1, importance: 1 }; // tabs of one task
  const EVERY = 3000, SPARING = 200; // ms between looks; a view is made again after this many times what it took to make
  const root = document.getElementById("page");
  const main = el("main", { id: "main", tabindex: -1 }), nav = el("nav", { "aria-label": "Views" }), state = el("p", { class: "state", role: "status" });
  const trouble = el("p", { class: "bad", role: "alert", hidden: true });
  let boot, version, turn = 0, stored = null, table = null, cost = 0, made = 0, stale = 0, counted = 0, grown = false;

  // All trials by column, brought up to date row by row.
  function storeOf(answer) {
    const { columns, kinds, settings } = answer, names = Object.keys(columns), index = new Map();
    const store = {
      n: answer.n, names, settings, version: answer.version,
      has: (name) => name in columns,
      kind: (name) => kinds[name],
      get: (name, i) => { const c = columns[name]; return "all" in c ? c.all : c.each[i]; },
      find: (...key) => index.get(key.join("\n")),
      update(rows) {
        for (const row of rows) {
          const key = ["study", "task", "variant", "trial"].map((n) => row[n]).join("\n");
          if (!index.has(key) || Object.keys(row).some((n) => !(n in columns))) return false;
          const i = index.get(key);
          for (const name of names) {
            const value = row[name] ?? null;
            if ("all" in columns[name]) {
              if (columns[name].all === value) continue;
              columns[name] = { each: Array(store.n).fill(columns[name].all) };
            }
            columns[name].each[i] = value;
          }
        }
        return true;
      },
    };
    for (let i = 0; i < store.n; i++) index.set(["study", "task", "variant", "trial"].map((n) => store.get(n, i)).join("\n"), i);
    return store;
  }

  const page = {
    get boot() { return boot; },
    async store() {
      if (!stored) stored = ask("trials").then(storeOf, (error) => { stored = null; throw error; });
      return stored;
    },
    open(tab, more = {}) {
      show({ tab, study: null, task: null, variant: null, trial: null, ...more }, true);
      render();
    },
    openTrial(study, task, variant, trial) { page.open("trial", { study, task, variant, trial }); },
    tell(part, variant, trial) {
      const made = el("div", {}, el("strong", {}, said(`${variant} ${trial}`)));
      page.store().then((store) => {
        const i = store.find(part.study, part.task, variant, trial);
        if (i === undefined) return;
        const rows = ["status", "valid_score", "test_score", ...store.settings, "train_seconds"].filter((n) => store.has(n) && store.get(n, i) !== null);
        made.append(el("dl", {}, rows.map((n) => [el("dt", {}, n), el("dd", {}, said(shown(store.get(n, i))))])));
      });
      return made;
    },
    render: () => render(),
  };

  const partOf = () => boot.parts.find((p) => p.key === view().get("part")) ?? boot.parts[0];

  async function render() {
    const mine = ++turn, began = performance.now();
    grown = false;
    const tab = view().get("tab") in odyssey.tabs.views ? view().get("tab") : "overview";
    for (const link of nav.children) link.setAttribute("aria-current", link.dataset.tab === (tab === "trial" ? "trials" : tab) ? "page" : "false");
    main.setAttribute("aria-busy", "true");
    let content;
    try {
      const part = partOf();
      const note = OWN[tab] && part.note ? el("p", { class: "note" }, said(part.note)) : null;
      content = [OWN[tab] && boot.parts.length > 1 ? choice(part) : null, note, ...(await odyssey.tabs.views[tab](page, part))];
    } catch (error) {
      content = [el("p", { class: "bad", role: "alert" }, said(error.message))];
    }
    if (mine !== turn) return;
    const focus = document.activeElement?.closest("[data-control]")?.dataset.control, at = main.dataset.tab === tab ? scrollY : 0;
    if (main.dataset.tab === tab) main.style.minHeight = `${main.offsetHeight}px`; // so that the page does not jump
    main.dataset.tab = tab;
    main.replaceChildren(el("h1", { class: "unseen" }, NAMES[tab] ?? "Trial"), ...content.flat(3).filter(Boolean));
    odyssey.figures.forget();
    scrollTo(0, at);
    await odyssey.figures.paint(main, () => mine === turn, () => { main.dataset.seen = mine; });
    if (mine !== turn) return;
    main.style.minHeight = "";
    scrollTo(0, at);
    if (focus) main.querySelector(`[data-control="${focus}"] select`)?.focus();
    main.setAttribute("aria-busy", "false");
    document.title = `${boot.title} · ${NAMES[tab] ?? "Trial"} · Odyssey`;
    [cost, made, stale] = [performance.now() - began, performance.now(), 0];
    say();
    if (boot.live && version === boot.version) ahead(tab, mine);
  }

  // Asks for what the controls may ask for next, so that the server has it at hand; not of a study that goes on.
  async function ahead(tab, mine) {
    const next = await odyssey.tabs.beside(page, partOf(), tab).catch(() => []);
    for (const [name, params] of next) {
      if (mine !== turn) return;
      await ask(name, params).catch(() => null); // whoever moves the control is told
    }
  }

  function choice(part) {
    const made = el("select", { on: { change: (e) => { show({ part: e.target.value, baseline: null, of: null, where: null }); render(); } } }, boot.parts.map((p) => el("option", { value: p.key }, p.title)));
    made.value = part.key;
    return el("div", { class: "bar" }, el("label", { "data-control": "part" }, boot.parts.length > 1 ? "Task" : "", made));
  }

  function say() {
    const again = stale ? el("button", { type: "button", on: { click: render } }, `${stale} newer, show`) : null;
    const text = boot.live ? "live" : `as of ${boot.made}`;
    state.replaceChildren(el("span", { class: boot.live ? "live" : "" }, text), ...(again ? [" ", again] : []));
  }

  // What is new, and only that; views that take long to make are made again so seldom that training does not feel it.
  async function keepUp() {
    if (!document.hidden) {
      try {
        const news = await ask("news", { since: version, ...(stored ? { rows: "1" } : {}) });
        trouble.hidden = !news.trouble;
        trouble.replaceChildren("The storage cannot be read now; what is shown is older. ", said(news.trouble));
        const tab = main.dataset.tab;
        if (news.edition !== boot.edition) {
          boot = await ask("boot"); // there are more variants, studies or generations to choose from
          grown = true;
        }
        if (grown && tab === "cells" && !main.contains(document.activeElement)) {
          grown = false;
          render();
        }
        if (news.rows) {
          const ended = news.rows.reduce((n, r) => n + r.finished + r.diverged + r.failed, 0);
          stale += Math.max(0, ended - counted);
          counted = ended;
          if (stored && !(await stored).update(news.changed ?? [])) stored = null;
          if (tab === "trials") main.querySelector(":scope > div")?.renew?.();
        }
        if (tab === "overview") {
          const place = main.querySelector(".overview");
          if (news.rows) stale = 0;
          if (place?.renew && news.rows) place.renew(news);
        } else if (tab === "trials") stale = 0;
        else if (stale && (tab === "compare" || tab === "curves") && performance.now() - made > SPARING * cost && !main.contains(document.activeElement)) render();
        version = news.version;
        say();
      } catch (error) {
        trouble.hidden = false;
        trouble.replaceChildren(said(error.message));
      }
    }
    setTimeout(keepUp, EVERY);
  }

  async function start() {
    try {
      await odyssey.open();
      boot = await ask("boot");
    } catch (error) {
      root.append(el("p", { class: "bad", role: "alert" }, said(error.message)));
      return;
    }
    version = boot.version;
    counted = boot.ended;
    odyssey.figures.dark = boot.dark;
    nav.append(...Object.entries(NAMES).map(([tab, name]) => el("a", { href: `#tab=${tab}`, "data-tab": tab, on: { click: (e) => { e.preventDefault(); page.open(tab); } } }, name)));
    root.append(el("a", { class: "skip", href: "#main", on: { click: (e) => { e.preventDefault(); main.focus(); } } }, "Skip to the content"),
      el("header", {}, el("div", { class: "title" }, el("strong", {}, said(boot.title)), state), nav), trouble, main);
    addEventListener("popstate", render);
    addEventListener("hashchange", render);
    addEventListener("keydown", (e) => {
      const place = Object.keys(NAMES)[Number(e.key) - 1];
      if (place && e.altKey && !e.ctrlKey && !e.metaKey) { e.preventDefault(); page.open(place); }
    });
    await render();
    if (boot.live) setTimeout(keepUp, EVERY);
    document.documentElement.dataset.ready = "true";
  }
  start();
})();
