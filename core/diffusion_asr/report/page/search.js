// Finding words, also several in a row, without regard to case and accents.

const search = {
  hits: [], // each a list of words
  chosen: -1,

  start() {
    const fold = (text) => text.normalize("NFKD").replace(/\p{Mn}/gu, "").toLowerCase();
    this.fold = fold;
    // One long text, and for each of its letters the word that it belongs to.
    let text = "";
    const starts = [];
    for (const word of words) {
      if (text && !(word.flags & GLUED)) text += " ";
      starts.push(text.length);
      text += fold(word.text);
    }
    Object.assign(this, { text, starts });
    const query = byId("query");
    let waiting = 0;
    query.addEventListener("input", () => {
      clearTimeout(waiting);
      waiting = setTimeout(() => this.find(query.value), 80);
    });
    query.addEventListener("keydown", (event) => {
      if (event.key === "Enter") {
        event.preventDefault();
        if (this.hits.length) this.choose(this.chosen + (event.shiftKey ? -1 : 1));
      } else if (event.key === "Escape") {
        query.value = "";
        this.find("");
        query.blur();
      }
    });
  },
  find(query) {
    for (const hit of this.hits) for (const word of hit) word.node.classList.remove("hit", "chosen");
    this.hits = [];
    this.chosen = -1;
    const wanted = this.fold(query).replace(/\s+/g, " ").trim();
    for (let at = this.text.indexOf(wanted); wanted && at >= 0; at = this.text.indexOf(wanted, at + wanted.length)) {
      this.hits.push(words.slice(this.word(at), this.word(at + wanted.length - 1) + 1));
    }
    for (const hit of this.hits) for (const word of hit) word.node.classList.add("hit");
    byId("found").textContent = !wanted ? "" : this.hits.length ? "" : "Not found";
    if (this.hits.length) this.choose(0);
  },
  word(letter) {
    let low = 0, high = this.starts.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.starts[middle] <= letter) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  },
  choose(n) {
    for (const word of this.hits[this.chosen] ?? []) word.node.classList.remove("chosen");
    this.chosen = (n + this.hits.length) % this.hits.length;
    const hit = this.hits[this.chosen];
    for (const word of hit) word.node.classList.add("chosen");
    transcript.reach(hit[0]);
    hit[0].node.scrollIntoView({ block: "center" });
    byId("found").textContent = `${this.chosen + 1} of ${this.hits.length}`;
  },
};
