// The waveform, coloured by who talks, a lane for each speaker, and a map when only a part is shown.

const WAVE = 52, GAP = 8, LEAST = 5; // pixels, pixels, seconds

/** For each peak, who talks there: the first, and the second where two talk at once; -1 is nobody. */
const floor = [new Int16Array(peaks.length).fill(-1), new Int16Array(peaks.length).fill(-1)];
for (const [start, end, who] of data.turns) {
  const last = Math.min(peaks.length, Math.ceil(end * data.peakRate));
  for (let n = Math.floor(start * data.peakRate); n < last; n++) {
    if (floor[0][n] < 0) floor[0][n] = who;
    else if (floor[0][n] !== who) floor[1][n] = who;
  }
}

const timeline = {
  from: 0,
  to: data.duration,
  colours: [],
  rows: new Map(), // the lane of each person
  lane: 16, // pixels

  start() {
    this.track = byId("track");
    this.track.setAttribute("aria-valuemax", String(Math.round(data.duration)));
    if (data.duration > 300) this.to = 120;
    byId("zoom").hidden = data.duration < 20;
    byId("in").addEventListener("click", () => this.zoom(0.5));
    byId("out").addEventListener("click", () => this.zoom(2));
    drag(this.track, (share) => player.seek(this.from + share * (this.to - this.from)));
    drag(byId("map"), (share) => player.seek(share * data.duration));
    this.track.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.draw()).observe(this.track);
    player.watchers.push((time) => this.follow(time));
  },
  rename() {
    const all = people.all();
    this.rows = new Map(all.map((n, row) => [n, row]));
    byId("lanes").replaceChildren(...all.map((n) => make("span", "", people.name(n))));
    for (const label of byId("lanes").children) label.title = label.textContent; // where it is cut off
    byId("lanes").hidden = !all.length;
    this.draw();
  },
  key(event) {
    const jump = { ArrowRight: 5, ArrowUp: 5, ArrowLeft: -5, ArrowDown: -5, PageUp: 30, PageDown: -30, Home: -Infinity, End: Infinity };
    if (!(event.key in jump)) return;
    event.preventDefault();
    event.stopPropagation();
    player.seek(player.time + jump[event.key]);
  },
  zoom(by) {
    const length = Math.min(Math.max((this.to - this.from) * by, LEAST), data.duration);
    this.show(player.time - length / 2, length);
  },
  show(from, length) {
    this.from = Math.max(0, Math.min(from, data.duration - length));
    this.to = this.from + length;
    this.draw();
  },
  /** Keep the playhead in sight: turn the page when it leaves. */
  follow(time) {
    const length = this.to - this.from;
    if (time < this.from || time > this.to - 0.02 * length) {
      if (length < data.duration && !(time > this.from && this.to >= data.duration)) this.show(time - 0.08 * length, length);
    }
    this.place(time);
  },
  place(time) {
    const x = ((time - this.from) / (this.to - this.from || 1)) * this.track.clientWidth;
    byId("head").style.transform = `translateX(${Math.min(Math.max(x, 0), this.track.clientWidth)}px)`;
    this.track.setAttribute("aria-valuenow", String(Math.round(time)));
    this.track.setAttribute("aria-valuetext", `${spoken(time)} of ${spoken(data.duration)}`);
  },
  draw() {
    const style = getComputedStyle(document.documentElement);
    this.colours = Array.from({ length: 8 }, (_, n) => style.getPropertyValue(`--s${n}`));
    this.faint = style.getPropertyValue("--faint");
    this.line = style.getPropertyValue("--line");
    this.quiet = style.getPropertyValue("--quiet");
    this.lane = parseInt(style.getPropertyValue("--lane"), 10);
    const wave = byId("wave"), height = Math.max(24, (peaks.length ? WAVE + GAP : 0) + this.rows.size * this.lane);
    byId("lanes").style.paddingTop = peaks.length ? `${WAVE + GAP}px` : "0";
    const pen = sized(wave, this.track.clientWidth, height);
    if (peaks.length) this.drawWave(pen, this.track.clientWidth);
    this.drawLanes(pen, this.track.clientWidth, peaks.length ? WAVE + GAP : 0);
    const part = this.to - this.from < data.duration - 0.01;
    byId("map").hidden = !part;
    if (part) this.drawMap();
    byId("in").disabled = this.to - this.from <= LEAST;
    byId("out").disabled = !part;
    this.place(player.time);
  },
  colour(who) {
    return who < 0 ? this.faint : this.colours[who % 8];
  },
  /** Bars of two pixels; where two talk, the upper half has one's colour, the lower half the other's. */
  drawWave(pen, width) {
    const perPixel = ((this.to - this.from) * data.peakRate) / width, first = this.from * data.peakRate;
    for (let x = 0; x < width; x += 3) {
      const a = Math.floor(first + x * perPixel), b = Math.max(a + 1, Math.floor(first + (x + 3) * perPixel));
      let loud = 0, who = -1, other = -1;
      for (let n = a; n < Math.min(b, peaks.length); n++) {
        loud = Math.max(loud, peaks[n]);
        if (floor[0][n] >= 0) who = people.of(floor[0][n]);
        if (floor[1][n] >= 0) other = people.of(floor[1][n]);
      }
      const half = Math.max(0.75, (Math.sqrt(loud / 255) * WAVE) / 2);
      pen.fillStyle = this.colour(who);
      pen.fillRect(x, WAVE / 2 - half, 2, half);
      pen.fillStyle = this.colour(other < 0 ? who : other);
      pen.fillRect(x, WAVE / 2, 2, half);
    }
  },
  drawLanes(pen, width, top) {
    const scale = width / (this.to - this.from || 1), middle = this.lane - 8; // a name may stand above
    pen.fillStyle = this.line;
    for (let n = 0; n < this.rows.size; n++) pen.fillRect(0, top + n * this.lane + middle, width, 1);
    if (!this.rows.size && peaks.length) return;
    for (const [start, end, who] of data.turns) {
      if (end < this.from || start > this.to) continue;
      pen.fillStyle = this.colour(people.of(who));
      const row = this.rows.get(people.of(who)) ?? 0;
      pen.fillRect((start - this.from) * scale, top + row * this.lane + middle - 3, Math.max(1, (end - start) * scale), 7);
    }
  },
  drawMap() {
    const map = byId("map"), width = this.track.clientWidth, scale = width / data.duration;
    const pen = sized(map, width, 24);
    pen.fillStyle = this.line;
    pen.fillRect(0, 11, width, 2);
    for (const [start, end, who] of data.turns) {
      pen.fillStyle = this.colour(people.of(who));
      pen.fillRect(start * scale, 9, Math.max(0.5, (end - start) * scale), 6);
    }
    pen.strokeStyle = this.quiet;
    pen.strokeRect(this.from * scale + 0.5, 5.5, Math.max(3, (this.to - this.from) * scale - 1), 13);
  },
};

/** A canvas at the screen's own resolution; draws in CSS pixels. */
function sized(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.height = `${height}px`;
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  return pen;
}

/** Tells where in an element the pointer is pressed or dragged, as a share of its width. */
function drag(element, tell) {
  const share = (event) => {
    const box = element.getBoundingClientRect();
    tell(Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1));
  };
  element.addEventListener("pointerdown", (event) => {
    element.setPointerCapture(event.pointerId);
    share(event);
  });
  element.addEventListener("pointermove", (event) => element.hasPointerCapture(event.pointerId) && share(event));
}
