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
    const lines = [];
    for (const part of this.segments()) lines.push(`${this.marked(part.who, (name) => `[${name.replace(/\[/g, "(").replace(/\]/g, ")")}]: `)}${part.text}\n`);
    return lines.join("");
  },
  srt() {
    const point = (seconds) => {
      const all = Math.round(1000 * seconds), two = (n) => String(n).padStart(2, "0");
      const whole = Math.floor(all / 1000), rest = String(all % 1000).padStart(3, "0");
      return `${two(Math.floor(whole / 3600))}:${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)},${rest}`;
    };
    const cue = ([start, end, who, text], n) =>
      `${n + 1}\n${point(start)} --> ${point(end)}\n${this.marked(who, (name) => `${name.replace(/: /g, " - ")}: `)}${text.replace(/--+>/g, "->")}\n`;
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
  /** What stands before a text to say whose it is: everywhere, or nowhere if nobody is known at all. */
  marked(who, mark) {
    return data.speakers.length ? mark(this.person(who) ?? "unknown") : "";
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
