// The words: where they are, which one is being said, and moving among them by keyboard.

const words = []; // { node, start, end, text, sure, who, speakerSure, flags, block }

const transcript = {
  current: null, // the word that is being said
  focused: null, // the only word that Tab reaches
  scrolled: 0, // when the reader last scrolled by hand

  start() {
    const main = byId("transcript"), page = document.createDocumentFragment();
    data.blocks.forEach((block, n) => page.append(this.article(block, n)));
    main.replaceChildren(page); // what was there is the same text, for readers without scripts
    if (!words.length) main.append(make("p", "quiet", "Nobody says anything in this recording."));
    else this.reach(words[0]);
    this.byTime = [...words].sort((a, b) => a.start - b.start);
    main.addEventListener("click", (event) => this.click(event));
    main.addEventListener("keydown", (event) => this.key(event));
    main.addEventListener("focusin", (event) => event.target.word && detail(event.target.word));
    main.addEventListener("pointerover", (event) => event.target.word && detail(event.target.word));
    for (const kind of ["wheel", "touchmove"]) {
      window.addEventListener(kind, () => (this.scrolled = performance.now()), { passive: true });
    }
    player.watchers.push((time, sought) => this.follow(time, sought));
  },
  article(block, n) {
    const made = make("article");
    const head = make("header"), name = make("div", "name"), start = block.words[0][1], at = make("a", "at", clock(start));
    name.append(make("span", "dot"), make("span", "who"));
    at.href = `#t=${Number(start.toFixed(2))}`;
    at.dataset.time = start;
    head.append(name, at);
    if (data.languages.length > 1 && block.language) head.append(make("span", "tongue", block.language));
    const text = make("p");
    if (block.language) text.lang = block.language;
    for (const [word, from, to, sure, speakerSure, flags] of block.words) {
      if (text.hasChildNodes() && !(flags & GLUED)) text.append(" ");
      const node = make("span", `w ${shade(sure)}${flags & OVERLAPPED ? " over" : ""}`, word);
      node.word = { node, start: from, end: to, text: word, sure, who: block.speaker, speakerSure, flags, block: n, index: words.length };
      words.push(node.word);
      text.append(node);
    }
    made.append(head, text);
    return made;
  },
  /** Write every block's name, once all are there and whenever somebody is renamed. */
  rename() {
    const articles = byId("transcript").querySelectorAll("article");
    data.blocks.forEach((block, n) => {
      const article = articles[n], who = people.of(block.speaker), name = people.name(block.speaker);
      const before = n ? people.of(data.blocks[n - 1].speaker) : null;
      article.className = who < 0 ? "nobody" : `s${who % 8}`;
      article.classList.toggle("same", !data.speakers.length || before === who);
      article.dataset.speaker = who;
      article.querySelector(".who").textContent = name;
      article.querySelector(".at").setAttribute("aria-label", `${data.speakers.length ? `${name}, ` : ""}play from ${spoken(block.words[0][1])}`);
    });
    for (const word of words) if (word.flags & OVERLAPPED) word.node.classList.toggle("over", this.talkedOver(word));
  },
  /** Whether somebody else still talks during a word; two speakers may have become one. */
  talkedOver({ who, start, end }) {
    const merged = people.all().length < data.speakers.length;
    return !merged || data.turns.some(([from, to, other]) => from < end && to > start && people.of(other) !== people.of(who));
  },
  click(event) {
    const { target } = event;
    if (target.word) {
      this.focus(target.word);
      this.play(target.word.start);
    } else if (target.dataset.time) this.play(Number(target.dataset.time));
  },
  play(time) {
    player.seek(time);
    player.play();
  },
  /** Make a word the one that Tab reaches; it alone is a button, so that the rest reads as plain text. */
  reach(word) {
    const old = this.focused?.node;
    if (old) for (const name of ["tabindex", "role", "aria-label"]) old.removeAttribute(name);
    word.node.tabIndex = 0;
    word.node.setAttribute("role", "button");
    word.node.setAttribute("aria-label", `${word.text}: play from ${spoken(word.start)}; ${describe(word)}`);
    this.focused = word;
  },
  focus(word) {
    this.reach(word);
    word.node.focus({ preventScroll: true });
    word.node.scrollIntoView({ block: "nearest" });
  },
  key(event) {
    const { word } = event.target;
    if (!word || event.ctrlKey || event.metaKey || event.altKey) return;
    const first = (block) => words.find((each) => each.block === block);
    const at = {
      ArrowRight: () => words[word.index + 1],
      ArrowLeft: () => words[word.index - 1],
      ArrowDown: () => first(word.block + 1),
      ArrowUp: () => first(word.block - 1),
      Home: () => first(word.block),
      End: () => words.findLast((each) => each.block === word.block),
    }[event.key];
    const plays = event.key === "Enter" || (event.key === " " && !player.playing);
    if (!at && !plays) return;
    event.preventDefault();
    event.stopPropagation();
    if (plays) this.play(word.start);
    else if (at()) this.focus(at());
  },
  /** Mark the word that is said at this time, and show it: while it plays, or where somebody went. */
  follow(time, sought) {
    const near = this.before(time) ?? this.byTime[0], found = near && time >= near.start - 0.001 && time < Math.max(near.end, near.start + 0.1) ? near : null;
    if (sought && near) this.show(near.node);
    if (found === this.current) return;
    this.current?.node.classList.remove("now");
    this.current = found;
    if (!found) return;
    found.node.classList.add("now");
    if (player.playing || sought) detail(found);
    if (player.playing && !sought && performance.now() - this.scrolled > 4000) this.bringIntoSight(found.node);
  },
  /** The last word that has begun, if any has. */
  before(time) {
    let low = 0, high = this.byTime.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.byTime[middle].start <= time + 0.001) low = middle + 1;
      else high = middle;
    }
    return this.byTime[low - 1];
  },
  inSight(node) {
    const box = node.getBoundingClientRect(), top = document.querySelector(".top:not(.tall)")?.offsetHeight ?? 0;
    return box.top > top + 8 && box.bottom < window.innerHeight - 40;
  },
  /** At once, however far away; blocks that were never drawn only have their true height afterwards. */
  show(node) {
    if (this.inSight(node)) return;
    node.scrollIntoView({ block: "center" });
    requestAnimationFrame(() => this.inSight(node) || node.scrollIntoView({ block: "center" }));
  },
  bringIntoSight(node) {
    if (this.inSight(node)) return;
    const box = node.getBoundingClientRect(), top = document.querySelector(".top:not(.tall)")?.offsetHeight ?? 0;
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    window.scrollBy({ top: box.top - top - (window.innerHeight - top) / 4, behavior: calm ? "auto" : "smooth" });
  },
};

/** The less sure, the darker; see the legend. */
function shade(sure) {
  if (sure === null || sure >= 0.9) return "";
  return sure >= 0.75 ? "q1" : sure >= 0.5 ? "q2" : sure >= 0.3 ? "q3" : "q4";
}

function describe(word) {
  const percent = (p) => `${Math.round(100 * p)} % sure`;
  const facts = [];
  if (word.sure !== null) facts.push(percent(word.sure));
  if (data.speakers.length) facts.push(people.name(word.who) + (word.speakerSure === null ? "" : ` (${percent(word.speakerSure)})`));
  if (word.node.classList.contains("over")) facts.push("someone else talks too");
  return facts.join(", ");
}

function detail(word) {
  byId("detail").textContent = `${word.text.slice(0, 60)} · ${word.start.toFixed(2)} to ${word.end.toFixed(2)} s · ${describe(word)}`;
}
