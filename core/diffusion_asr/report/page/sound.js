"use strict";
// The data, and the clock that everything follows.

const byId = (id) => document.getElementById(id);
const data = JSON.parse(byId("data").textContent);
const peaks = bytes(data.peaks);
const OVERLAPPED = 1, GLUED = 2;

/** Bytes of a base64 text. */
function bytes(text) {
  const binary = atob(text);
  const out = new Uint8Array(binary.length);
  for (let n = 0; n < out.length; n++) out[n] = binary.charCodeAt(n);
  return out;
}

/** Seconds as 1:02:03, or 2:03 for less than an hour. */
function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const two = (n) => String(n).padStart(2, "0");
  const hours = Math.floor(whole / 3600), minutes = Math.floor(whole / 60) % 60;
  return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}

/** Seconds for a screen reader. */
function spoken(seconds) {
  const whole = Math.round(seconds), minutes = Math.floor(whole / 60);
  return minutes ? `${minutes} minutes ${whole % 60} seconds` : `${whole} seconds`;
}

/** An element with a class and a text. */
function make(tag, name, text) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text !== undefined) made.textContent = text;
  return made;
}

const player = {
  audio: null,
  time: 0,
  watchers: [], // called with the time whenever it has changed, and whether somebody went there

  start() {
    if (!data.sound) return;
    this.audio = new Audio();
    this.audio.preload = "auto";
    this.audio.src = data.sound.link ?? URL.createObjectURL(new Blob([bytes(byId("sound").textContent)], { type: data.sound.type }));
    byId("sound").textContent = ""; // the browser holds it decoded now
    this.audio.addEventListener("error", () => this.fail());
    for (const name of ["play", "pause", "ended"]) this.audio.addEventListener(name, () => this.show());
    this.audio.addEventListener("seeked", () => this.tick(false));
    byId("play").hidden = byId("rate").hidden = false;
    byId("play").addEventListener("click", () => this.toggle());
    byId("rate").addEventListener("click", () => this.faster());
  },
  get playing() {
    return this.audio !== null && !this.audio.paused;
  },
  toggle() {
    if (this.playing) this.audio.pause();
    else this.play();
  },
  play() {
    if (!this.audio) return;
    if (this.time >= data.duration - 0.05) this.seek(0);
    // An abort is a pause that came first; not allowed is a browser that waits for the reader's own click.
    this.audio.play().catch((error) => ["AbortError", "NotAllowedError"].includes(error.name) || this.fail());
  },
  seek(seconds) {
    this.time = Math.min(Math.max(0, seconds), data.duration);
    if (this.audio) this.audio.currentTime = this.time;
    this.tell(true);
  },
  faster() {
    const rates = [1, 1.25, 1.5, 2, 0.75], now = this.audio.playbackRate;
    const next = rates[(rates.indexOf(now) + 1) % rates.length];
    this.audio.playbackRate = next;
    byId("rate").textContent = `${next}×`;
    byId("rate").setAttribute("aria-label", `Speed ${next} times`);
  },
  show() {
    document.body.classList.toggle("playing", this.playing);
    byId("play").setAttribute("aria-label", this.playing ? "Pause" : "Play");
    this.tick();
  },
  tick(again = true) {
    if (!this.audio) return;
    if (!this.audio.seeking) this.time = Math.min(this.audio.currentTime, data.duration);
    this.tell();
    if (again && this.playing) requestAnimationFrame(() => this.tick());
  },
  tell(sought = false) {
    byId("clock").textContent = clock(this.time);
    for (const watcher of this.watchers) watcher(this.time, sought);
  },
  fail() {
    const text = data.sound.link
      ? `The recording cannot be played: this page looks for ${data.sound.name} at ${decodeURI(data.sound.link)}.`
      : "This browser cannot play the recording (MP3).";
    byId("trouble").textContent = text;
    byId("trouble").hidden = false;
  },
};
