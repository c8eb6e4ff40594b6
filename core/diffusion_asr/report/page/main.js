// Theme, keys and address of the whole page; starts everything.

document.documentElement.classList.add("live"); // until here the page is a text that can be read

function facts() {
  const count = people.all().length, names = new Intl.DisplayNames(["en"], { type: "language" });
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
  if (event.ctrlKey || event.metaKey || event.altKey || target.matches("input, select")) return;
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

/** Go to the time in the page's address, such as #t=83.2. */
function visit() {
  const found = /^#t=(\d+(?:\.\d+)?)$/.exec(location.hash);
  if (found && !player.playing) player.seek(Number(found[1]));
}

if (matchMedia("(max-width: 60rem)").matches) {
  for (const each of document.querySelectorAll("details")) each.open = false; // the transcript comes first
}
player.start();
transcript.start();
search.start();
timeline.start();
theme();
people.watchers.push(() => transcript.rename(), () => timeline.rename(), facts);
people.start();
files.start();
replay.start();
document.addEventListener("keydown", keys);
window.addEventListener("hashchange", visit);
new ResizeObserver(() => {
  const top = document.querySelector(".top"), tall = top.offsetHeight > window.innerHeight / 2;
  top.classList.toggle("tall", tall); // many speakers on a small screen: it then scrolls away
  document.documentElement.style.setProperty("--top", tall ? "0px" : `${top.offsetHeight}px`);
}).observe(document.querySelector(".top"));
visit();
