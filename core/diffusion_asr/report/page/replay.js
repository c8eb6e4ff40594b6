// A segment's way from noise to text: what already is as it will be stands out from what is still noise.

const replay = {
  segment: -1,
  timer: 0,

  start() {
    byId("replay").hidden = !data.replays.length;
    if (!data.replays.length) return;
    // Decoding that began with the model's own first guess has an empty canvas at step 0, no noise.
    if (!data.replays.some(({ steps }) => steps[0])) byId("replay-title").textContent = "From draft to text";
    byId("step").addEventListener("input", () => {
      this.stop();
      this.draw();
    });
    byId("replay-play").addEventListener("click", () => (this.timer ? this.stop() : this.run()));
    byId("earlier").addEventListener("click", () => this.open(this.segment - 1));
    byId("later").addEventListener("click", () => this.open(this.segment + 1));
    player.watchers.push((time) => this.follow(time));
    this.open(0);
  },
  /** Show the segment of this time, unless someone looks at how it came about. */
  follow(time) {
    const { start, end } = data.replays[this.segment];
    if ((time >= start && time < end) || this.timer) return;
    const found = data.replays.findIndex((each) => time >= each.start && time < each.end);
    if (found >= 0) this.open(found);
  },
  open(n) {
    if (n < 0 || n >= data.replays.length) return;
    this.stop();
    this.segment = n;
    const last = data.replays[n].steps.length - 1;
    this.tokens = data.replays[n].steps.map(pieces);
    byId("step").max = String(last);
    byId("step").value = String(last);
    byId("earlier").disabled = n === 0;
    byId("later").disabled = n === data.replays.length - 1;
    this.draw();
  },
  run() {
    const slider = byId("step");
    const step = () => {
      this.draw();
      if (slider.value === slider.max) return this.stop();
      slider.value = String(Number(slider.value) + 1);
      this.timer = setTimeout(step, Math.max(90, 3000 / (Number(slider.max) + 1)));
    };
    slider.value = "0";
    byId("replay-play").textContent = "Stop";
    step();
  },
  stop() {
    clearTimeout(this.timer);
    this.timer = 0;
    byId("replay-play").textContent = "Replay";
  },
  draw() {
    const { start, end, numbers } = data.replays[this.segment];
    const n = Number(byId("step").value), now = this.tokens[n], kept = common(now, this.tokens.at(-1));
    const box = document.createDocumentFragment();
    for (let a = 0, b = 0; a < now.length; a = b) {
      while (b < now.length && kept[b] === kept[a]) b++;
      box.append(make(kept[a] ? "b" : "span", "", now.slice(a, b).join("")));
    }
    byId("canvas").replaceChildren(box);
    if (!now.length) byId("canvas").textContent = "(nothing yet)";
    const label = `Step ${numbers[n]} of ${numbers.at(-1)}`;
    byId("step-label").textContent = label;
    byId("span").textContent = `${clock(start)}–${clock(end)}`;
    byId("step").setAttribute("aria-valuetext", label);
  },
};

/** Words with the spaces after them; a Chinese character is a word. */
function pieces(text) {
  return text.match(/\p{Script=Han}\s*|[^\s\p{Script=Han}]+\s*/gu) ?? [];
}

/** Which of `now` are in a longest common subsequence with `last`. */
function common(now, last) {
  const width = last.length + 1, same = (i, j) => now[i].trim() === last[j].trim();
  const best = new Uint16Array((now.length + 1) * width);
  for (let i = now.length - 1; i >= 0; i--) {
    for (let j = last.length - 1; j >= 0; j--) {
      best[i * width + j] = same(i, j) ? 1 + best[(i + 1) * width + j + 1] : Math.max(best[(i + 1) * width + j], best[i * width + j + 1]);
    }
  }
  const kept = new Array(now.length).fill(false);
  for (let i = 0, j = 0; i < now.length && j < last.length; ) {
    if (same(i, j)) {
      kept[i++] = true;
      j++;
    } else if (best[(i + 1) * width + j] >= best[i * width + j + 1]) i++;
    else j++;
  }
  return kept;
}
