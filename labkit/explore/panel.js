// The frame of the explorer: groups of choices that arrow keys walk through, cards, and what goes to the kernel and back.

// A group of buttons of which one is chosen: one stop of the tab key, arrows inside.
class Group {
  constructor(label, role, pick, name) {
    this.role = role === "tablist" ? "tab" : "radio";
    this.node = h("div", { class: "lk-row", role, "aria-label": label, "data-group": name });
    this.pick = pick; this.said = ""; this.buttons = []; this.items = [];
    this.node.addEventListener("keydown", event => this.key(event));
  }
  // items: [{value, words, facts, before}]
  update(items, chosen, dress = () => {}) {
    const said = JSON.stringify(items.map(item => [item.value, item.words]));
    const inside = this.node.contains(document.activeElement) && this.node.ownerDocument.activeElement !== this.node;
    if (said !== this.said) {
      this.said = said;
      this.buttons = items.map(item => h("button", { type: "button", role: this.role, ...item.facts,
        onclick: () => this.choose(item.value) }, ...[item.words].flat().map(part => part)));
      this.node.replaceChildren(...this.arrange(items));
    }
    this.items = items; this.chosen = chosen;
    this.mark();
    this.buttons.forEach((button, i) => dress(button, items[i], i));
    const focused = this.buttons.find(button => button.tabIndex === 0);
    if (inside && focused && !this.node.contains(document.activeElement)) focused.focus({ preventScroll: true });
  }
  arrange() { return this.buttons; }
  mark() {
    const known = this.items.some(item => item.value === this.chosen);
    this.buttons.forEach((button, i) => {
      const on = this.items[i].value === this.chosen;
      button.setAttribute(this.role === "tab" ? "aria-selected" : "aria-checked", String(on));
      button.tabIndex = on || (!known && i === 0) ? 0 : -1;
    });
  }
  choose(value) {
    this.chosen = value;
    this.mark();  // at once; the kernel's answer follows
    this.buttons.find(button => button.tabIndex === 0)?.focus({ preventScroll: true });
    this.pick(value);
  }
  key(event) {
    const at = this.buttons.indexOf(event.target), last = this.items.length - 1;
    const to = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: last }[event.key];
    if (at < 0 || to === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    if (to < 0 || to > last) this.beyond?.(to); else this.choose(this.items[to].value);
  }
}

class Layers extends Group {  // a block ends with its attention layer
  arrange() {
    const blocks = [[]];
    this.buttons.forEach((button, i) => {
      blocks.at(-1).push(button);
      if (button.classList.contains("attention") && i < this.buttons.length - 1) blocks.push([]);
    });
    return blocks.map(block => h("span", { class: "lk-block" }, ...block));
  }
}

class Page {
  constructor(model, home) {
    this.model = model; this.number = 0; this.waiting = null; this.since = 0; this.next = null; this.open = {};
    const id = `lk${Math.random().toString(36).slice(2, 9)}`;
    this.root = h("section", { class: "lk-explore", "aria-label": "labkit explorer" });
    this.prompt = h("textarea", { id, rows: "2", spellcheck: "false", onkeydown: event => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { this.run(); event.preventDefault(); }
    } });
    this.button = h("button", { type: "button", class: "lk-run", title: "Ctrl+Enter", onclick: () => this.run() }, "Run");
    this.label = h("label", { for: id, class: "lk-hidden" }, "prompt");
    this.bar = h("div", { class: "lk-bar", role: "progressbar", "aria-label": "layers read", "aria-valuemin": "0" }, h("i"));
    this.told = h("div", { class: "lk-told", role: "status" });
    this.problem = h("div", { class: "lk-problem", role: "alert" });
    this.layers = new Layers("layer", "radiogroup", layer => this.pick({ layer }), "layers");
    this.tokens = new Group("token", "radiogroup", token => this.pick({ token }), "tokens");
    this.tokens.node.className = "lk-tokens";
    this.tokens.beyond = to => {
      const { first, count } = this.shown.ribbon, token = to < 0 ? first - 1 : first + this.tokens.items.length;
      if (token >= 0 && token < count) this.pick({ token });
    };
    this.earlier = h("button", { type: "button", onclick: () => this.page(-1) }, "◀ earlier");
    this.later = h("button", { type: "button", onclick: () => this.page(1) }, "later ▶");
    this.where = h("span", { class: "lk-name" });
    this.shows = new Group("with the edits, show", "radiogroup", show => this.pick({ show }), "shows");
    this.key = h("span", { class: "lk-key" });
    this.body = h("div", {}, h("div", { class: "lk-row" }, h("span", { class: "lk-name" }, "layer"), this.layers.node, this.key),
      h("div", { class: "lk-row" }, this.where, this.earlier, this.later), this.tokens.node);
    this.cards = Object.fromEntries(["deltanet", "attention", "stream"].map(name => [name, this.card(name)]));
    this.edits = h("section", { class: "lk-card", "data-card": "edits" });
    this.tops = h("div", { class: "lk-two" });
    this.toggles = h("div", { class: "lk-edits" });
    this.on = h("div", { class: "lk-row", role: "group", "aria-label": "edits that are on" });
    this.tail = this.coded("next");
    this.edits.append(h("h4", {}, "Next token, and edits"), this.tops, ...this.tail.nodes, this.toggles);
    this.grid = h("div", { class: "lk-cards" }, ...Object.values(this.cards).map(card => card.node), this.edits);
    this.body.append(this.on, this.grid);
    this.root.append(h("div", { class: "lk-ask" }, this.label, this.prompt, this.button), this.bar, this.told, this.problem, this.body);
    home.append(this.root);
    this.acts = { pick: changes => this.pick(changes), token: () => this.shown.choice.token, answer: () => this.shown.answer,
      text: (view, i) => view.pick === "token" ? ` “${this.shown.ribbon.texts[view.first + i - this.shown.ribbon.first] ?? ""}”` : "" };
  }
  card(name) {
    const card = { name, title: h("h4"), told: h("div", { class: "lk-told" }), picture: h("div", { class: "lk-picture" }) };
    card.heads = new Group("head", "radiogroup", head => this.pick({ [name === "deltanet" ? "head" : "query_head"]: head }), `${name}-heads`);
    card.tabs = new Group("view", "tablist", view => this.pick({ [name]: view }), `${name}-views`);
    card.problem = h("div", { class: "lk-problem" });
    card.code = this.coded(name);
    card.node = h("section", { class: "lk-card", "data-card": name }, card.title, ...(name === "stream" ? [] : [card.heads.node]),
      card.tabs.node, card.told, card.problem, card.picture, ...card.code.nodes);
    return card;
  }
  coded(name) {
    const text = h("pre", { tabindex: "0", "aria-label": "code of this view" }), made = { text, code: "" };
    made.write = () => { if (!box.hidden) text.textContent = made.code.replaceAll("\uf8ff", () => this.model.get("prompt").code); };
    const copy = h("button", { type: "button", onclick: async () => {
      try { await navigator.clipboard.writeText(text.textContent); copy.textContent = "copied"; }
      catch { getSelection().selectAllChildren(text); copy.textContent = "selected, press Ctrl+C"; }
      setTimeout(() => { copy.textContent = "copy"; }, 1500);
    } }, "copy");
    const box = h("div", { class: "lk-code", hidden: true }, text, copy);
    const button = h("button", { type: "button", "aria-expanded": "false", onclick: () => {
      box.hidden = !box.hidden;
      button.setAttribute("aria-expanded", String(!box.hidden));
      made.write();
    } }, "show me the code");
    made.nodes = [button, box];
    return made;
  }

  // to the kernel: one request at a time; what is picked meanwhile goes together in the next
  send(content) {
    this.number += 1;
    this.waiting = this.number; this.since = Date.now();
    this.root.setAttribute("aria-busy", "true");
    this.model.send({ number: this.number, ...content });
  }
  pick(changes) {
    if (this.waiting !== null && Date.now() - this.since < 20000) this.next = { ...this.next, ...changes };
    else this.send({ do: "pick", changes });
  }
  run() { this.next = null; this.send({ do: "run", prompt: this.prompt.value }); }
  page(step) {
    const { first, count } = this.shown.ribbon, wide = this.tokens.items.length;
    const at = Math.min(Math.max(first + step * wide, 0), Math.max(count - wide, 0));
    this.pick({ first: at, token: Math.min(Math.max(this.shown.choice.token, at), at + wide - 1) });
  }

  progress() {
    const { done, of } = this.model.get("progress");
    this.bar.firstChild.style.width = of ? `${100 * done / of}%` : "0";
    this.bar.setAttribute("aria-valuemax", of ?? 0);
    this.bar.setAttribute("aria-valuenow", done ?? 0);
    if (of) this.told.textContent = `reading: layer ${done} of ${of}; the kernel's interrupt button stops it`;
  }
  draw() {
    const shown = this.shown = this.model.get("shown"), { choice, colours } = shown;
    if (shown.number === this.waiting || shown.number == null) { this.waiting = null; this.root.removeAttribute("aria-busy"); }
    const { text } = this.model.get("prompt");
    if (text !== this.was) this.prompt.value = this.was = text;
    this.label.textContent = shown.ids ? "token ids of the prompt" : "prompt";
    this.prompt.placeholder = shown.ids ? "token ids, for example 5 17 3" : "type a prompt, then Run (Ctrl+Enter)";
    this.problem.textContent = shown.problem;
    this.told.textContent = shown.note || (shown.ran ? "" : `${shown.model}: type a prompt and run it.`);
    this.body.hidden = !shown.cards;
    if (shown.cards) this.drawAll(shown, choice, colours);
    this.root.dataset.number = shown.number ?? "";
    if (this.waiting === null && this.next) { const changes = this.next; this.next = null; this.send({ do: "pick", changes }); }
  }
  drawAll(shown, choice, colours) {
    const beside = Object.values(shown.pair).filter(layer => layer !== null && layer !== choice.layer);
    this.layers.update(shown.kinds.map((kind, layer) => ({ value: layer, words: [h("b", {}, kind === "attention" ? "A" : "D"), h("small", {}, String(layer))],
      facts: { class: `lk-layer ${kind}`, "aria-label": `layer ${layer}, ${shown.spoken[kind]}` } })), choice.layer, (button, item) => {
      button.classList.toggle("beside", beside.includes(item.value));
      button.classList.toggle("touched", shown.touched.includes(item.value));
    });
    this.key.replaceChildren(...Object.entries(shown.spoken).filter(([kind]) => shown.kinds.includes(kind))
      .flatMap(([kind, words]) => [h("i", { style: `background:${colours[kind]}` }), words]));
    const { texts, first, count } = shown.ribbon, weights = shown.ribbon.weights && numbers(shown.ribbon.weights);
    this.where.textContent = count > texts.length ? `tokens ${first} to ${first + texts.length - 1} of ${count}` : `${count} tokens`;
    this.earlier.hidden = this.later.hidden = count <= texts.length;
    this.earlier.disabled = first === 0;
    this.later.disabled = first + texts.length >= count;
    this.tokens.update(texts.map((text, i) => ({ value: first + i, words: text, facts: { class: "lk-token", title: `token ${first + i}: ${text}` } })),
      choice.token, (button, item, i) => {
        const weight = weights && !Number.isNaN(weights[i]) ? weights[i] : 0;
        button.style.setProperty("--size", Math.abs(weight));
        button.style.setProperty("--tone", weight === 0 ? "transparent" : shown.ribbon.kind === "attention" ? colours.attention : weight < 0 ? SIGNED.down : SIGNED.up);
      });
    const home = this.tokens.node, on = this.tokens.buttons.find(button => button.tabIndex === 0);
    if (on && (on.offsetTop < home.scrollTop || on.offsetTop + on.offsetHeight > home.scrollTop + home.clientHeight)) {
      home.scrollTop = on.offsetTop - home.clientHeight / 2;  // the list alone: the page stays where it is
    }
    for (const card of Object.values(this.cards)) this.drawCard(card, shown, choice, colours);
    this.tops.replaceChildren(...shown.next.map(view => {
      const home = h("div");
      if (view.form) DRAWN[view.form](home, view, this.acts); else home.append(h("div", { class: "lk-problem" }, view.error));
      return home;
    }));
    this.tail.code = shown.next.at(-1).code;
    this.tail.write();
    this.drawEdits(shown);
    this.shows.update(shown.shows.map(value => ({ value, words: value })), choice.show);
  }
  drawEdits(shown) {
    const said = JSON.stringify(shown.edits.map(edit => [edit.toggle, edit.on]));
    if (said === this.offered) return;
    this.offered = said;
    const at = document.activeElement?.dataset?.toggle, inside = at && this.body.contains(document.activeElement);
    const button = (edit, words, facts) => h("button", { type: "button", "data-toggle": JSON.stringify(edit.toggle), ...facts,
      onclick: () => this.send({ do: "toggle", toggle: edit.toggle }) }, words);
    const group = layer => h("div", { role: "group", "aria-label": `edits of layer ${layer}` },
      h("span", { class: "lk-name" }, `layer ${layer}: switch`), ...shown.edits.filter(edit => edit.toggle[1] === layer)
        .map(edit => button(edit, edit.words, { "aria-pressed": String(edit.on) })));
    const layers = [...new Set(shown.edits.map(edit => edit.toggle[1]))], on = shown.edits.filter(edit => edit.on);
    this.toggles.replaceChildren(...layers.map(group));
    this.on.hidden = !on.length;
    this.on.replaceChildren(h("span", { class: "lk-name" }, "edits on"),
      ...on.map(edit => button(edit, `layer ${edit.toggle[1]}: ${edit.words} ✕`, { title: "switch off" })),
      h("span", { class: "lk-name" }, "show"), this.shows.node);
    if (inside) ([...this.body.querySelectorAll("[data-toggle]")].find(each => each.dataset.toggle === at) ?? this.prompt).focus({ preventScroll: true });
  }
  drawCard(card, shown, choice, colours) {
    const view = shown.cards[card.name], kind = card.name, layer = shown.pair[kind], [button, box] = card.code.nodes;
    card.tabs.node.hidden = card.heads.node.hidden = card.picture.hidden = !view;
    button.hidden = !view?.code;
    box.hidden = button.hidden || button.getAttribute("aria-expanded") === "false";
    if (!view) {  // no layer of the kind is on the screen
      card.title.textContent = `No layer: ${shown.spoken[kind]}`;
      card.told.textContent = shown.absent[kind];
      card.problem.textContent = card.said = "";
      return;
    }
    if (kind !== "stream") {
      card.node.style.setProperty("--tone", colours[kind]);
      card.title.textContent = `Layer ${layer}: ${shown.spoken[kind]}`;
      const heads = [...Array(shown.heads[kind]).keys()];
      card.heads.update(heads.map(head => ({ value: head, words: String(head), facts: { class: "lk-head", "aria-label": `head ${head}` } })),
        kind === "deltanet" ? choice.head : choice.query_head);
    } else card.title.textContent = "The stream, through all layers";
    card.tabs.update(shown.tabs[kind].map(tab => ({ value: tab.name, words: tab.title })), view.name);
    card.told.textContent = view.missing || view.told;
    card.problem.textContent = view.error ?? "";
    card.code.code = view.code;
    card.code.write();
    card.view = view;
    this.picture(card);
  }
  picture(card) {
    const { view } = card, focused = card.picture.contains(document.activeElement);
    const said = JSON.stringify(view) + this.shown.choice.token + this.shown.ribbon.first + card.picture.clientWidth;
    if (said === card.said) return;
    card.said = said;
    card.picture.replaceChildren();
    if (view.form) DRAWN[view.form](card.picture, view, { ...this.acts, tone: () => this.shown.colours[card.name] });
    if (focused) card.picture.querySelector("canvas[tabindex], button")?.focus({ preventScroll: true });
  }

  theme() {
    const style = getComputedStyle(document.body), jupyter = style.getPropertyValue("--jp-layout-color1").trim() !== "";
    const { classList } = this.root, code = document.body.classList;
    classList.toggle("bare", !jupyter);
    const named = code.contains("vscode-dark") || code.contains("vscode-high-contrast");
    const light = code.contains("vscode-light") || code.contains("vscode-high-contrast-light");
    const ground = getComputedStyle(this.root).backgroundColor.match(/[\d.]+/g)?.slice(0, 3).map(Number) ?? [255, 255, 255];
    const dark = jupyter ? ground.reduce((a, b) => a + b) < 384 : named || (!light && matchMedia("(prefers-color-scheme: dark)").matches);
    classList.toggle("dark", dark);
  }
}

function render({ model, el }) {
  const page = new Page(model, el), draw = () => page.draw(), progress = () => page.progress(), theme = () => page.theme();
  model.on("change:shown", draw);
  model.on("change:progress", progress);
  const media = matchMedia("(prefers-color-scheme: dark)"), seen = new MutationObserver(theme);
  media.addEventListener("change", theme);
  seen.observe(document.body, { attributes: true });
  const sized = new ResizeObserver(() => {
    theme();
    if (page.shown?.cards) Object.values(page.cards).forEach(card => card.picture.hidden || page.picture(card));
  });
  sized.observe(page.root);
  draw();
  page.send({ do: "ready" });
  return () => {
    model.off("change:shown", draw);
    model.off("change:progress", progress);
    media.removeEventListener("change", theme);
    seen.disconnect();
    sized.disconnect();
  };
}

export default { render };
