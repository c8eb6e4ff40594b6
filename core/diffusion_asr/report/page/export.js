// The transcript as files, with the names that the reader gave; what is in them is read by diffusion-asr again.

const files = {
  start() {
    byId("export").hidden = !words.length;
    for (const kind of ["txt", "srt", "json"]) byId(`save-${kind}`).addEventListener("click", () => this.save(kind));
  },
  save(kind) {
    const type = kind === "json" ? "application/json" : "text/plain;charset=utf-8";
    const link = make("a"), address = URL.createObjectURL(new Blob([this[kind]()], { type }));
    link.href = address;
    link.download = `${data.name}.${kind}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(address), 60000);
  },
  txt() {
    const segments = [...this.segments()], marks = this.marks(segments.map(({ who, text }) => [who, text]));
    return segments.map(({ text }, n) => `${marks[n]}${text}\n`).join("");
  },
  srt() {
    const point = (seconds) => {
      const all = Math.round(1000 * seconds), two = (n) => String(n).padStart(2, "0");
      const whole = Math.floor(all / 1000), rest = String(all % 1000).padStart(3, "0");
      return `${two(Math.floor(whole / 3600))}:${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)},${rest}`;
    };
    const marks = this.marks(data.cues.map(([, , who, text]) => [who, text]));
    const cue = ([start, end, , text], n) =>
      `${n + 1}\n${point(start)} --> ${point(end)}\n${marks[n]}${text.replace(/--+>/g, "->")}\n`;
    return data.cues.map(cue).join("\n");
  },
  json() {
    const segments = [...this.segments()].map(({ start, end, text, language, who, words: said, timed }) => ({
      start,
      end,
      text,
      language,
      speaker: this.person(who),
      words: timed ? said.map((word) => this.word(word, who)) : [],
    }));
    const transcript = { source: data.source, duration: data.duration, metadata: {}, segments };
    return `${JSON.stringify({ schema_version: 1, transcripts: [transcript] }, null, 1)}\n`;
  },
  word({ node, text, start, end, sure, speakerSure }, who) {
    const made = { text, start, end, confidence: sure, speaker: this.person(who) };
    if (speakerSure !== null) made.speaker_confidence = speakerSure;
    if (node.classList.contains("over")) made.overlapped = true;
    return made;
  },
  person(who) {
    return who < 0 ? null : people.name(who);
  },
  /** What stands before each text to say whose it is: for all of them, or for none; see formats/marks.py. */
  marks(texts) {
    const needless = texts.every(([who]) => who < 0) && !texts.every(([, text]) => /^\[[^[\]]+\]: +\S/.test(text));
    const name = (who) => (this.person(who) ?? "unknown").replace(/\[/g, "(").replace(/\]/g, ")");
    return texts.map(([who]) => (needless ? "" : `[${name(who)}]: `));
  },
  /** The segments as they were found; a block on the page holds several. */
  *segments() {
    let n = 0;
    for (const block of data.blocks) {
      for (const [start, end, count, timed] of block.parts) {
        const said = words.slice(n, n + count);
        const text = said.map((word, k) => (k && !(word.flags & GLUED) ? ` ${word.text}` : word.text)).join("");
        n += count;
        yield { start, end, text: text.replace(/\s+/g, " ").trim(), language: block.language, who: block.speaker, words: said, timed };
      }
    }
  },
};
