// Speakers, theme and keys of the whole page; starts everything.

function facts() {
  const count = data.speakers.length, names = new Intl.DisplayNames(["en"], { type: "language" });
  const parts = [clock(data.duration)];
  if (count) parts.push(count === 1 ? "1 speaker" : `${count} speakers`);
  if (data.languages.length) parts.push(data.languages.map((code) => nameOf(names, code)).join(", "));
  byId("facts").textContent = parts.join(" · ");
  byId("length").textContent = ` / ${clock(data.duration)}`;
  byId("legend-over").hidden = !words.some((word) => word.flags & OVERLAPPED);
  byId("legend-shade").hidden = !words.some((word) => word.sure !== null);
}

function nameOf(names, code) {
  try {
    return names.of(code) ?? code;
  } catch {
    return code; // not a language tag
  }
}

function speakers() {
  byId("people").hidden = !data.speakers.length;
  data.speakers.forEach(({ name, seconds, share, words: count }, n) => {
    const button = make("button", `s${n % 8}`), bar = make("span", "bar"), fill = make("i");
    button.type = "button";
    button.setAttribute("aria-pressed", "false");
    button.title = `${clock(seconds)} of talk, ${count} words; press to see only this speaker`;
    fill.style.width = `${100 * share}%`;
    bar.append(fill);
    button.append(make("span", "dot"), make("span", "who", name), make("span", "share", `${Math.round(100 * share)} % · ${clock(seconds)}`), bar);
    button.addEventListener("click", () => only(button, n));
    const item = make("li");
    item.append(button);
    byId("speakers").append(item);
  });
}

function only(button, n) {
  const chosen = button.getAttribute("aria-pressed") !== "true";
  for (const each of byId("speakers").querySelectorAll("button")) each.setAttribute("aria-pressed", String(chosen && each === button));
  for (const each of document.querySelectorAll("article")) each.classList.toggle("dim", chosen && each.dataset.speaker !== String(n));
}

function theme() {
  const button = byId("theme"), system = matchMedia("(prefers-color-scheme: dark)");
  const set = (dark) => {
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    button.setAttribute("aria-pressed", String(dark));
    timeline.draw();
  };
  set(system.matches);
  system.addEventListener("change", () => set(system.matches));
  button.addEventListener("click", () => set(document.documentElement.dataset.theme !== "dark"));
}

function keys(event) {
  const { target, key } = event;
  if (event.ctrlKey || event.metaKey || event.altKey || target.matches("input")) return;
  if (key === "/") {
    event.preventDefault();
    byId("query").focus();
  } else if (key === " " && !target.matches("button")) {
    event.preventDefault();
    player.toggle();
  } else if ((key === "ArrowLeft" || key === "ArrowRight") && player.audio && !target.matches("button")) {
    event.preventDefault();
    player.seek(player.time + (key === "ArrowLeft" ? -5 : 5));
  }
}

if (matchMedia("(max-width: 60rem)").matches) {
  for (const each of document.querySelectorAll("details")) each.open = false; // the transcript comes first
}
player.start();
transcript.start();
search.start();
timeline.start();
theme();
speakers();
facts();
replay.start();
document.addEventListener("keydown", keys);
new ResizeObserver(() => {
  const top = document.querySelector(".top"), tall = top.offsetHeight > window.innerHeight / 2;
  top.classList.toggle("tall", tall); // many speakers on a small screen: it then scrolls away
  document.documentElement.style.setProperty("--top", tall ? "0px" : `${top.offsetHeight}px`);
}).observe(document.querySelector(".top"));
