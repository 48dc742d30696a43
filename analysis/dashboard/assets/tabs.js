// What each tab shows: every function returns its elements, from answers that are asked for.
"use strict";
odyssey.tabs = (() => {
  const { el, ask, show, view, said, shown, duration } = odyssey;
  const { figure, paint } = odyssey.figures;
  const { table, trials: trialTable } = odyssey.tables;
  const STATES = ["finished", "diverged", "failed", "running", "waiting"];

  const paragraphs = (sentences) => (sentences ?? []).map((text) => el("p", { class: "said" }, said(text)));
  const absent = () => el("p", { class: "said" }, "This was not prepared for the page at rest; odyssey dashboard computes it.");

  function pick(label, name, options, value, act) {
    const made = el("select", { on: { change: (e) => act(e.target.value) } }, options.map(([v, text]) => el("option", { value: v }, text)));
    made.value = value;
    return el("label", { "data-control": name }, label, made);
  }

  // The figures whose points are trials, of a part.
  const of = (page, part, listens) => ({
    key: part.key,
    listens,
    about: ["variant", "trial"],
    tell: (variant, trial) => page.tell(part, variant, trial),
    curve: (variant, trial) => ask("trial", { study: part.study, task: part.task, variant, trial }),
    open: (variant, trial) => page.openTrial(part.study, part.task, variant, trial),
  });
  const grid = (page, part, payloads, kind = "") => el("div", { class: `grid ${kind}` }, payloads.map((payload) => figure(payload, of(page, part))));

  async function overview(page) {
    const answer = await ask("overview");
    const place = el("div", { class: "overview" });
    const fill = (now) => {
      const several = new Set(now.rows.map((r) => `${r.study}/${r.task}`)).size > 1;
      const sum = (name) => now.rows.reduce((total, row) => total + row[name], 0);
      const ended = sum("finished") + sum("diverged") + sum("failed");
      const head = ["variant", ...STATES, "planned", "best validation", "best 10 %, test [95 %]"];
      place.replaceChildren(...[
        odyssey.atRest ? null : paragraphs(now.said),
        el("p", { class: page.boot.live ? "lead" : "said" }, page.boot.live ? `${ended} of ${sum("planned")} planned trials have ended.` : said(`${page.boot.done} ${page.boot.when}`)),
        now.rows.length ? el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Progress" }, el("table", { class: "progress" },
          el("thead", {}, el("tr", {}, [...(several ? ["study", "task"] : []), ...head].map((text) => el("th", { scope: "col" }, text)), el("th", { scope: "col" }, "progress"))),
          el("tbody", {}, now.rows.map((row) => el("tr", {},
            several ? [el("td", { class: "word" }, said(row.study)), el("td", { class: "word" }, said(row.task))] : null,
            el("th", { scope: "row" }, said(row.variant)), STATES.map((s) => el("td", { class: row[s] && s === "failed" ? "bad" : null }, shown(row[s]))), el("td", {}, shown(row.planned)),
            el("td", {}, shown(row.best_valid)),
            el("td", {}, row.mean === null ? "–" : `${shown(row.mean)}${row.low === null ? ` (n = ${row.n_best})` : ` [${shown(row.low)}, ${shown(row.high)}]`}`),
            el("td", {}, meter(row))))))) : null,
        el("p", { class: "note" }, "Best 10 %: the mean test score of the best 10 % of the trials that ended, by validation score, with its interval; fewer than five have none. Lower is better."),
        now.work.filter((work) => work.workers.length || work.ended < work.planned || now.work.length === 1).map((work) => el("section", {}, el("h3", {}, `At work on ${work.study}`),
          el("p", { class: "said" }, work.workers.length ? `${work.per_hour ? `${Math.round(work.per_hour)} trials/h lately` : "The pace is not known yet"}${work.seconds_left ? `, ${duration(work.seconds_left)} left` : ""}.` : work.ended < work.planned ? `Nobody is at work; the same ${work.by} goes on where it was interrupted.` : "All planned trials have ended."),
          work.workers.length ? el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Workers" }, el("table", {},
            el("thead", {}, el("tr", {}, ["worker", "holds", "ended", "sign of life", "joined", "engine"].map((text) => el("th", { scope: "col" }, text)))),
            el("tbody", {}, work.workers.map((w) => el("tr", {}, el("th", { scope: "row" }, said(w.worker)), el("td", {}, w.running), el("td", {}, w.ended), el("td", {}, `${duration(w.seen)} ago`), el("td", {}, `${duration(w.joined)} ago`), el("td", { class: "word" }, said(w.device))))))) : null)),
        now.failures.length ? el("section", {}, el("h3", {}, "Failed trials"), el("ul", { class: "failures" }, now.failures.map(([study, task, variant, trial, error]) =>
          el("li", {}, el("a", { href: "#", on: { click: (e) => { e.preventDefault(); page.openTrial(study, task, variant, trial); } } }, said(`${variant} ${trial}`)), " ", said(error))))) : null,
        ran(page.boot)].flat().filter(Boolean));
    };
    fill(answer);
    place.renew = fill;
    return odyssey.atRest ? [...paragraphs(answer.said), ...(await outcome(page)), place] : [place];
  }

  // What came of it, with which the page at rest opens.
  async function outcome(page) {
    const { share, select, adjust } = page.boot.usual;
    const parts = page.boot.parts.map(async (part, i) => {
      const [compared, judged] = await Promise.all([
        ask("compare", { part: part.key, share, select, adjust, baseline: part.reference }), ask("findings", { part: part.key })]);
      const figures = (compared?.figures ?? []).filter((f) => f.name === "boxes_best" || f.name === "differences");
      const note = part.note && part.note !== page.boot.parts[i - 1]?.note ? el("p", { class: "note" }, said(part.note)) : null;
      return [note, ...paragraphs(compared?.sentences.slice(0, 1)), ...paragraphs(judged?.sentences?.slice(0, 1)), figures.length ? grid(page, part, figures) : null];
    });
    return (await Promise.all(parts)).flat();
  }

  const meter = (row) => {
    const parts = ["finished", "diverged", "failed", "running"].map((s) => { const bar = el("span", { class: s }); bar.style.width = `${(100 * row[s]) / Math.max(1, row.planned)}%`; return bar; });
    return el("div", { class: "meter", role: "img", "aria-label": `${row.finished + row.diverged + row.failed} of ${row.planned} ended` }, parts);
  };

  const ran = (boot) => el("details", {}, el("summary", {}, "What it ran with, and the commands"),
    el("p", { class: "note" }, said(`Draws are ${boot.draws.join("; ")}.`)),
    el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "What it ran with" }, el("table", {}, el("tbody", {}, Object.entries(boot.provenance).map(([name, values]) => el("tr", {}, el("th", { scope: "row" }, name), el("td", { class: "word" }, said(values.map(([v, n]) => (values.length > 1 ? `${v} (${n} trials)` : v)).join(", ")))))))),
    boot.commands.map((command) => el("pre", {}, said(command))),
    boot.plans.map(([name, text]) => el("details", {}, el("summary", {}, said(name)), el("pre", {}, said(text)))));

  const controlsOf = (page, part) => {
    const now = view(), own = page.boot.controls;
    const chosen = (name, options, usual) => (options.some(([v]) => v === now.get(name)) ? now.get(name) : usual);
    return {
      share: chosen("share", own.share, page.boot.usual.share),
      select: chosen("select", own.select, page.boot.usual.select),
      adjust: chosen("adjust", own.adjust, page.boot.usual.adjust),
      baseline: part.variants.includes(now.get("baseline")) ? now.get("baseline") : part.reference,
    };
  };
  const change = (page, name, said = (value) => value) => (value) => { show({ [name]: said(value) }); page.render(); };

  async function compare(page, part) {
    const chosen = controlsOf(page, part), own = page.boot.controls;
    const answer = await ask("compare", { part: part.key, ...chosen });
    const bar = el("div", { class: "bar" },
      pick("Share of best", "share", own.share, chosen.share, change(page, "share")),
      pick("picked by", "select", own.select, chosen.select, change(page, "select")),
      pick("Baseline", "baseline", part.variants.map((v) => [v, v]), chosen.baseline, change(page, "baseline")),
      pick("p adjusted after", "adjust", own.adjust, chosen.adjust, change(page, "adjust")));
    if (!answer) return [bar, absent()];
    const found = el("div", {}, el("p", { class: "note" }, "Findings are being judged …"));
    findings(part, found);
    return [bar, ...paragraphs(answer.sentences), grid(page, part, answer.figures), answer.tables.map(table), el("h2", {}, "Published findings"), found];
  }

  async function findings(part, place) {
    const answer = await ask("findings", { part: part.key }).catch((error) => ({ error: error.message }));
    if (!answer) place.replaceChildren(absent());
    else if (answer.error) place.replaceChildren(el("p", { class: "bad" }, said(answer.error)));
    else if (answer.pending) {
      place.replaceChildren(el("p", { class: "note" }, answer.pending));
      setTimeout(() => place.isConnected && findings(part, place), 2000);
    } else place.replaceChildren(...paragraphs(answer.sentences), ...answer.tables.map(table));
  }

  const ALL = "all";
  const weighedBy = (page, part) => {
    const now = view(), score = now.get("score"), variant = now.get("of");
    return {
      score: page.boot.controls.score.some(([v]) => v === score) ? score : "test_score",
      variant: variant === ALL || part.variants.includes(variant) ? variant : part.reference,
    };
  };
  const weighed = (part, score, variant) => ["importance", { part: part.key, show: "shares", score, variant: variant === ALL ? "" : variant }];

  async function importance(page, part) {
    const now = view(), own = page.boot.controls, { score, variant } = weighedBy(page, part);
    const base = { part: part.key };
    const [rest, shares] = await Promise.all([ask("importance", { ...base, show: "tables" }), ask(...weighed(part, score, variant))]);
    if (!rest) return [absent()];
    const pending = rest.pending ?? shares.pending; // either may have been asked before it was there
    if (pending) {
      setTimeout(() => view().get("tab") === "importance" && page.render(), 2000);
      return [el("p", { class: "said", role: "status" }, pending)];
    }
    const { pair: pairs, to: paths } = rest.choices;
    const usual = pairs.find((p) => p.split(",").sort().join() === "hidden_size,lr") ?? pairs[0];
    const pair = pairs.includes(now.get("pair")) ? now.get("pair") : usual;
    const to = paths.includes(now.get("to")) ? now.get("to") : paths[0];
    const [surfaces, path] = await Promise.all([
      pair && ask("importance", { ...base, show: "pair", pair }),
      to && ask("importance", { ...base, show: "path", to })]);
    const again = rest.newer && !odyssey.atRest ? el("button", { type: "button", on: { click: async () => { await ask("importance", { ...base, renew: "1" }); page.render(); } } }, "compute again") : null;
    const brushed = el("section", { class: "brushed", "aria-live": "polite" });
    const ranges = JSON.parse(now.get("where") ?? "{}");
    const brush = (name) => ({ brush: (value) => { if (value?.x) ranges[name] = value.x; else delete ranges[name]; clearTimeout(brush.timer); brush.timer = setTimeout(() => within(page, part, ranges, brushed), 200); } });
    const marginals = shares.figures.filter((f) => f.name.startsWith("marginal_"));
    const others = shares.figures.filter((f) => !f.name.startsWith("marginal_"));
    if (Object.keys(ranges).length) within(page, part, ranges, brushed);
    return [
      el("div", { class: "bar" },
        pick("Importance for", "score", own.score, score, change(page, "score")),
        pick("of", "of", [[ALL, "all variants, over architecture"], ...part.variants.map((v) => [v, v])], variant, change(page, "of")), again),
      ...paragraphs(shares.sentences),
      grid(page, part, others),
      marginals.length ? el("p", { class: "note" }, "Drag over a panel to see only the trials in a range of that setting, below; click beside the range to see all again. Without a mouse, the filter of the Trials tab does it: lr>0.001.") : null,
      el("div", { class: "grid small" }, marginals.map((payload) => figure(payload, of(page, part, brush(payload.name.slice("marginal_".length)))))),
      brushed,
      pair ? el("div", { class: "bar" }, pick("Pair", "pair", pairs.map((p) => [p, p.replace(",", " × ")]), pair, change(page, "pair"))) : null,
      surfaces ? grid(page, part, surfaces.figures) : null,
      to ? el("div", { class: "bar" }, pick("Ablation to", "to", paths.map((v) => [v, v]), to, change(page, "to"))) : null,
      path ? grid(page, part, path.figures) : null,
      ...paragraphs(rest.sentences), rest.tables.map(table)];
  }

  // The boxes and curves of the trials in ranges of settings, as the axes show these.
  async function within(page, part, ranges, place) {
    const where = Object.keys(ranges).length ? JSON.stringify(ranges) : "";
    show({ where });
    if (!where) { place.replaceChildren(); return; }
    if (odyssey.atRest) { place.replaceChildren(...(await atRest(page, part, ranges))); await paint(place); return; }
    const answer = await ask("filtered", { part: part.key, ...controlsOf(page, part), where }).catch((error) => ({ sentences: [error.message], figures: [] }));
    place.replaceChildren(el("h2", {}, "In the range"), ...paragraphs(answer.sentences),
      grid(page, part, answer.figures.filter((f) => f.name === "boxes_all")), grid(page, part, answer.figures.filter((f) => f.name !== "boxes_all"), "small"));
    await paint(place);
  }

  // A page at rest computes nothing: it shows which of its points and curves are in the range.
  async function atRest(page, part, ranges) {
    const store = await page.store();
    const inside = (variant, trial) => {
      const i = store.find(part.study, part.task, variant, trial);
      return i !== undefined && Object.entries(ranges).every(([name, ends]) => {
        const value = store.get(name, i), [low, high] = ends, at = part.complement.includes(name) ? 1 - value : value;
        if (typeof low === "string") return ends.some((end) => end.toLowerCase() === String(value).toLowerCase()); // True and true
        return value !== null && at >= low && at <= high;
      });
    };
    const only = (payload, names) => {
      const data = { ...payload.data };
      for (const name of Object.keys(data)) {
        const columns = data[name], kept = columns.variant && names.includes(name) ? columns.variant.map((v, i) => [inside(v, columns.trial[i]), i]).filter(([yes]) => yes).map(([, i]) => i) : [];
        data[name] = Object.fromEntries(Object.entries(columns).map(([n, values]) => [n, kept.map((i) => values[i])]));
      }
      return { ...payload, data };
    };
    const chosen = controlsOf(page, part);
    const [boxes, curves] = await Promise.all([ask("compare", { part: part.key, ...chosen }), ask("curves", { part: part.key, select: chosen.select, share: chosen.share, state: "best", baseline: part.reference })]);
    const points = boxes.figures.filter((f) => f.name === "boxes_all").map((f) => only(f, ["points"]));
    const n = points[0]?.data.points.variant.length ?? 0;
    const text = `${n} finished trials in the range. Points are those trials; their boxes, which are computed for a range, need odyssey dashboard.`;
    return [el("h2", {}, "In the range"), ...paragraphs([text]), grid(page, part, points), grid(page, part, (curves?.figures ?? []).map((f) => only(f, ["curves", "best", "dot"])), "small")];
  }

  async function curves(page, part) {
    const chosen = controlsOf(page, part), own = page.boot.controls, now = view();
    const state = own.state.some(([v]) => v === now.get("state")) ? now.get("state") : "best";
    const only = part.variants.includes(now.get("only")) ? now.get("only") : "";
    const share = state === "best" ? chosen.share : own.share[1][0], asked = { part: part.key, select: chosen.select, baseline: part.reference };
    const answer = await ask("curves", { ...asked, share, state });
    const bar = el("div", { class: "bar" },
      pick("Trials", "state", own.state, state, change(page, "state")),
      pick("Share of best", "share", own.share, chosen.share, change(page, "share")),
      pick("picked by", "select", own.select, chosen.select, change(page, "select")),
      pick("Variant", "only", [["", "all"], ...part.variants.map((v) => [v, v])], only, change(page, "only")));
    const search = el("div", {}, el("p", { class: "note", role: "status" }, "Reading the curves of all trials …"));
    ask("learning", asked).then((found) => {
      search.replaceChildren(...(found ? [...paragraphs(found.sentences), grid(page, part, found.figures)] : [absent()]));
      return paint(search);
    }).catch((error) => search.replaceChildren(el("p", { class: "bad" }, said(error.message))));
    const shownFigures = (answer?.figures ?? []).filter((f) => !only || f.name === `curves_${only}`);
    return [bar, answer ? paragraphs(answer.sentences) : absent(), grid(page, part, shownFigures, "small"), el("h2", {}, "The search"), search];
  }

  // What a control that is moved next would ask for, one control at a time.
  async function beside(page, part, tab) {
    if (tab === "importance") {
      const { score, variant } = weighedBy(page, part), { choices } = await ask("importance", { part: part.key, show: "tables" });
      return [...[ALL, ...part.variants].map((v) => weighed(part, score, v)), ...page.boot.controls.score.map(([s]) => weighed(part, s, variant)),
        ...(choices?.pair ?? []).map((pair) => ["importance", { part: part.key, show: "pair", pair }]),
        ...(choices?.to ?? []).map((to) => ["importance", { part: part.key, show: "path", to }])];
    }
    const chosen = controlsOf(page, part), own = page.boot.controls, base = { part: part.key };
    const others = (name) => (name === "baseline" ? part.variants : own[name].map(([value]) => value)).filter((value) => value !== chosen[name]);
    const moved = (...names) => names.flatMap((name) => others(name).map((value) => ({ ...chosen, [name]: value })));
    if (tab === "compare") return moved("share", "select", "adjust", "baseline").map((params) => [tab, { ...base, ...params }]);
    if (tab !== "curves") return [];
    const usual = { ...base, baseline: part.reference };
    return [...moved("share", "select").map(({ share, select }) => [tab, { ...usual, select, share, state: "best" }]),
      ...own.state.slice(1).map(([state]) => [tab, { ...usual, select: chosen.select, share: own.share[1][0], state }])];
  }

  async function trials(page) {
    const store = await page.store(), now = view();
    const several = page.boot.parts.length > 1;
    const names = [...(several ? ["study", "task"] : []), "variant", "trial", "status", "valid_score", "test_score", ...store.settings, "n_parameters", "best_epoch", "epochs", "train_seconds", "finished", "error"].filter((n) => store.has(n));
    const open = (i) => page.openTrial(...["study", "task", "variant", "trial"].map((n) => store.get(n, i)));
    return [trialTable(store, names, { filter: now.get("filter"), sort: now.get("sort") }, show, open)];
  }

  async function trial(page) {
    const now = view(), store = await page.store();
    const key = ["study", "task", "variant", "trial"].map((n) => now.get(n) ?? "");
    const i = store.find(...key);
    const back = el("p", {}, el("a", { href: "#tab=trials", on: { click: (e) => { e.preventDefault(); page.open("trials"); } } }, "all trials"));
    if (i === undefined) return [back, el("p", { class: "said" }, said(`There is no trial ${key.join(" ")} in this study.`))];
    const answer = await ask("trial", Object.fromEntries(["study", "task", "variant", "trial"].map((n, k) => [n, key[k]])));
    const rows = store.names.filter((n) => store.get(n, i) !== null);
    const part = page.boot.parts.find((p) => p.study === key[0] && p.task === key[1]);
    const copy = el("button", { type: "button", on: { click: () => navigator.clipboard?.writeText(answer.command).then(() => { copy.textContent = "copied"; }) } }, "copy");
    return [back, el("h2", {}, said(`${key[2]} ${key[3]}`)),
      answer.command ? el("section", {}, el("h3", {}, "The command that repeats it"), el("pre", {}, said(answer.command)), copy) : el("p", { class: "said" }, "It has no settings yet, or they are for code of the study's own: there is no command that repeats it."),
      answer.trouble ? el("p", { class: "bad" }, said(answer.trouble)) : null,
      answer.figures.length ? grid(page, part, answer.figures) : el("p", { class: "said" }, "It has no learning curve."),
      el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Settings and results" }, el("table", { class: "pairs" }, el("tbody", {}, rows.map((n) => el("tr", {}, el("th", { scope: "row" }, n), el("td", { class: "word" }, said(n === "seed" ? store.get(n, i) : shown(store.get(n, i), 6)))))))),
      answer.traceback ? el("section", {}, el("h3", {}, "Traceback"), el("pre", {}, said(answer.traceback))) : null,
      answer.card ? cellCard(answer.card, answer.card.variant) : null];
  }

  const cellCard = (card, title, ...above) => el("section", { class: "card" }, el("h3", {}, said(title)), above,
    el("p", { class: "note" }, said(card.definition.join(", "))),
    card.equations.length ? el("pre", {}, card.equations.join("\n")) : null,
    card.parameters.length ? el("p", { class: "note" }, `Weights: ${card.parameters.join(", ")}. ${card.rule}`) : null,
    card.note ? el("p", { class: "said" }, said(card.note)) : null);

  async function cells(page) {
    const answer = await ask("cells");
    return [...answer.trees.map((tree) => familyTree(page, tree)),
      answer.trees.some((tree) => tree.cells.length) && answer.cards.length ? el("h2", {}, "Not in the tree") : null,
      answer.cards.length ? el("div", { class: "grid small" }, answer.cards.map((card) => cellCard(card, card.variant))) : null];
  }

  // An evolution: its tree, and beside it the cell that was chosen there or from the list.
  function familyTree(page, tree) {
    if (!tree.cells.length) return el("section", {}, paragraphs(tree.sentences));
    const find = (name) => tree.cells.find((c) => c.name === name);
    const key = (name) => `${tree.name}/${name}`;
    const wanted = view().get("cell") ?? "", named = tree.cells.find((c) => key(c.name) === wanted), chosen = named ?? find(tree.best);
    const gone = !named && wanted.startsWith(key("")) ? el("p", { class: "note", role: "status" }, said(`${wanted.slice(key("").length)} is not in the tree, or no longer.`)) : null;
    const choose = async (name) => {
      show({ cell: key(name) });
      await page.render();
      document.querySelector(`[data-tree="${CSS.escape(tree.name)}"] .chosen`)?.scrollIntoView({ block: "nearest" });
    };
    const link = (name) => (find(name) ? el("a", { href: `#tab=cells&cell=${encodeURIComponent(key(name))}`, on: { click: (e) => { e.preventDefault(); choose(name); } } }, said(name)) : said(name));
    const scores = (cell) => el("dl", {}, cell.scores.map(([task, score]) => [el("dt", {}, said(task)), el("dd", {}, shown(score))]));
    const [payload] = tree.figures;
    const marked = { ...payload, spec: { ...payload.spec, params: payload.spec.params.map((p) => ({ ...p, value: chosen.name })) } };
    const tell = (name) => { const cell = find(name); return el("div", {}, el("strong", {}, said(cell.title)), el("p", {}, said(cell.born)), scores(cell), el("pre", {}, cell.card.equations.join("\n") || cell.card.note)); };
    const made = figure(marked, { key: tree.name, about: ["cell"], open: choose, tell });
    return el("section", { "data-tree": tree.name }, paragraphs(tree.sentences),
      el("div", { class: "beside" }, made, el("div", { class: "chosen" },
        pick("Cell", "cell", tree.cells.map((c) => [c.name, c.title]), chosen.name, change(page, "cell", key)), gone,
        cellCard(chosen.card, chosen.title,
          el("p", { class: "note" }, said(chosen.born), "."),
          chosen.line.length ? el("p", { class: "note" }, "Descends from ", chosen.line.map((name, i) => [i ? ", " : "", link(name)]), ".") : null,
          scores(chosen), el("p", { class: "note" }, said(tree.relative))))),
      tree.tables.map(table));
  }

  return { views: { overview, compare, importance, curves, trials, cells, trial }, beside };
})();
