// Who is who: names that the reader gives, and speakers who are one person after all.

const people = {
  names: data.speakers.map((speaker) => speaker.name),
  same: data.speakers.map((_, n) => n), // whom each speaker is taken for
  watchers: [], // called when names or persons have changed
  place: `diffusion-asr ${location.pathname}`, // where a browser keeps them

  start() {
    byId("people").hidden = !data.speakers.length;
    byId("forget").addEventListener("click", () => this.forget());
    this.recall();
    this.tell();
  },
  /** The person of a speaker, as the first speaker who is that person; -1 is nobody known. */
  of(n) {
    return this.same[n] ?? n;
  },
  name(n) {
    return n < 0 ? "Unknown" : this.names[this.of(n)];
  },
  all() {
    return this.same.filter((one, n) => one === n);
  },
  rename(n, name) {
    const wanted = name.replace(/\s+/g, " ").trim() || data.speakers[n].name;
    const other = this.all().find((each) => each !== n && this.names[each] === wanted);
    if (other !== undefined) return this.merge(n, other);
    this.names[n] = wanted;
    this.tell();
  },
  /** Take two persons for one, who keeps the name of `other`. */
  merge(n, other) {
    const kept = Math.min(n, other);
    this.names[kept] = this.names[other];
    this.same = this.same.map((one) => (one === n || one === other ? kept : one));
    this.tell();
  },
  forget() {
    this.names = data.speakers.map((speaker) => speaker.name);
    this.same = data.speakers.map((_, n) => n);
    this.tell();
  },
  tell() {
    this.list();
    this.keep();
    for (const watcher of this.watchers) watcher();
  },

  // --- kept in the browser, if it lets a page keep anything

  keep() {
    const found = data.speakers.map((speaker) => speaker.name);
    const changed = this.names.some((name, n) => name !== found[n]) || this.same.some((one, n) => one !== n);
    byId("forget").hidden = !changed;
    try {
      if (changed) localStorage.setItem(this.place, JSON.stringify({ found, names: this.names, same: this.same }));
      else localStorage.removeItem(this.place);
    } catch {
      // private windows and sandboxes
    }
  },
  recall() {
    try {
      const { found, names, same } = JSON.parse(localStorage.getItem(this.place));
      const count = data.speakers.length, fits = (list) => Array.isArray(list) && list.length === count;
      if (!fits(found) || found.some((name, n) => name !== data.speakers[n].name)) return; // of another meeting
      if (!fits(names) || !names.every((name) => typeof name === "string" && name)) return;
      if (!fits(same) || !same.every((one) => Number.isInteger(one) && same[one] === one)) return;
      Object.assign(this, { names, same });
    } catch {
      // nothing kept, or not by us
    }
  },

  // --- the list

  list() {
    if (!data.speakers.length) return;
    const shares = this.shares();
    byId("speakers").replaceChildren(...this.all().map((n) => this.row(n, shares.get(n))));
  },
  /** Seconds and words of each person; what one says twice at a time counts once. */
  shares() {
    const found = new Map(this.all().map((n) => [n, { seconds: 0, words: 0, until: 0 }]));
    for (const [start, end, who] of data.turns) {
      const one = found.get(this.of(who));
      one.seconds += Math.max(0, end - Math.max(start, one.until));
      one.until = Math.max(one.until, end);
    }
    data.speakers.forEach((speaker, n) => (found.get(this.of(n)).words += speaker.words));
    const total = [...found.values()].reduce((sum, one) => sum + one.seconds, 0) || 1;
    for (const one of found.values()) one.share = one.seconds / total;
    return found;
  },
  row(n, { seconds, share, words: count }) {
    const item = make("li", `s${n % 8}`), only = make("button", "only"), bar = make("span", "bar"), fill = make("i");
    const edit = make("button", "plain edit", "Edit");
    only.type = edit.type = "button";
    only.dataset.speaker = n;
    only.setAttribute("aria-pressed", "false");
    only.title = `${clock(seconds)} of talk, ${count} words; press to see only this speaker`;
    fill.style.width = `${100 * share}%`;
    bar.append(fill);
    only.append(make("span", "dot"), make("span", "who", this.names[n]), make("span", "share", `${Math.round(100 * share)} % · ${clock(seconds)}`), bar);
    only.addEventListener("click", () => this.only(only));
    edit.setAttribute("aria-label", `Rename ${this.names[n]}, or say who it is`);
    edit.addEventListener("click", () => item.replaceChildren(this.form(n)));
    item.append(only, edit);
    return item;
  },
  form(n) {
    const form = make("form"), name = make("input"), save = make("button", "plain", "Save"), leave = make("button", "plain", "Cancel");
    const others = this.all().filter((each) => each !== n), choice = make("select");
    name.value = this.names[n];
    name.setAttribute("aria-label", "Name");
    name.autocomplete = "off";
    leave.type = "button";
    choice.setAttribute("aria-label", "The same person as");
    choice.append(new Option("Same person as …", ""), ...others.map((each) => new Option(this.names[each], String(each))));
    choice.hidden = !others.length;
    form.append(name, choice, save, leave);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const renamed = name.value !== this.names[n];
      if (choice.value) this.merge(n, Number(choice.value));
      if (renamed || !choice.value) this.rename(this.of(n), name.value);
      byId("speakers").querySelector(`[data-speaker="${this.of(n)}"]`).focus();
    });
    leave.addEventListener("click", () => this.list());
    form.addEventListener("keydown", (event) => event.key === "Escape" && this.list());
    requestAnimationFrame(() => name.select());
    return form;
  },
  only(button) {
    const chosen = button.getAttribute("aria-pressed") !== "true", n = button.dataset.speaker;
    for (const each of byId("speakers").querySelectorAll(".only")) each.setAttribute("aria-pressed", String(chosen && each === button));
    for (const each of document.querySelectorAll("article")) each.classList.toggle("dim", chosen && each.dataset.speaker !== n);
  },
};
