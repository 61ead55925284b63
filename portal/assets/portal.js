// Keeps the list up to date. The page is complete without it: this asks for the changing part and
// exchanges only the rows that differ, so that focus, scroll position and selection stay.

const live = document.getElementById("live");
const pulse = document.getElementById("pulse");
const announcements = document.getElementById("announcements");

const SHORTEST_PAUSE = 1000;
const LONGEST_PAUSE = 60_000;
const ANSWER_TIMEOUT = 10_000;
// More changes than this are announced as a number: nobody listens to a list.
const MOST_ANNOUNCED = 3;

const usualPause = Math.max(Number(live.dataset.refreshMs) || 5000, SHORTEST_PAUSE);
let pause = usualPause;
let timer;
let shownTag;
let isLost = false;

async function refresh() {
  clearTimeout(timer);
  try {
    // "no-cache" asks with the ETag; an unchanged list costs a 304.
    const response = await fetch("/rows", {
      cache: "no-cache",
      signal: AbortSignal.timeout(ANSWER_TIMEOUT),
    });
    if (!response.ok) throw new Error(`status ${response.status}`);
    const tag = response.headers.get("etag");
    if (tag === null || tag !== shownTag) {
      show(new DOMParser().parseFromString(await response.text(), "text/html"));
      shownTag = tag;
    }
    report(response.headers.get("age"));
    pause = usualPause;
  } catch {
    reportLoss();
    pause = Math.min(pause * 2, LONGEST_PAUSE);
  }
  schedule();
}

function schedule() {
  clearTimeout(timer);
  // Pages opened by the same event must not ask in step for ever.
  if (!document.hidden) timer = setTimeout(refresh, pause * (0.9 + 0.2 * Math.random()));
}

function show(next) {
  const said = [];
  const hadNotice = document.querySelector(".notice") !== null;
  const notice = exchange("notice", next);
  if (notice) said.push(notice);
  else if (hadNotice && !next.querySelector(".notice")) said.push("The list is up to date again.");
  const table = document.querySelector("#list tbody");
  const nextTable = next.querySelector("#list tbody");
  if (table && nextTable) {
    said.push(...exchangeRows(table, nextTable));
  } else {
    exchange("list", next);
  }
  exchange("confirmed", next);
  if (said.length > 0) announcements.textContent = said.join(" ");
}

// Replaces the content of a part if it differs, and returns the new text.
function exchange(id, next) {
  const [part, nextPart] = [document.getElementById(id), next.getElementById(id)];
  if (!part || !nextPart || part.innerHTML === nextPart.innerHTML) return "";
  part.replaceChildren(...nextPart.childNodes);
  return part.textContent.trim();
}

function exchangeRows(table, nextTable) {
  const changed = [];
  const rows = [...table.rows];
  const nextRows = [...nextTable.rows];
  nextRows.forEach((nextRow, index) => {
    const row = rows[index];
    // Not isEqualNode: a row that changed before has a class that the server does not send.
    if (row && row.innerHTML === nextRow.innerHTML) return;
    if (row) row.replaceWith(nextRow);
    else table.append(nextRow);
    nextRow.className = "changed";
    changed.push(`${nextRow.textContent.trim()}.`);
  });
  const removed = rows.slice(nextRows.length);
  removed.forEach((row) => row.remove());
  const count = changed.length + removed.length;
  return count > MOST_ANNOUNCED ? [`${count} rows changed.`] : changed;
}

// Seconds replace the time of day while they say more; a notice has said it already.
function report(age) {
  const seconds = Number.parseInt(age ?? "", 10);
  const isLive = Number.isFinite(seconds) && !document.querySelector(".notice");
  pulse.textContent = `Live, confirmed ${seconds} s ago.`;
  pulse.hidden = !isLive;
  document.getElementById("confirmed").hidden = isLive;
  if (isLost) announcements.textContent = "This page is live again.";
  isLost = false;
}

function reportLoss() {
  if (isLost) return;
  isLost = true;
  pulse.textContent = "Not live: this page cannot reach its server and keeps trying.";
  pulse.hidden = false;
  document.getElementById("confirmed").hidden = false;
  announcements.textContent = pulse.textContent;
}

document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : refresh()));
addEventListener("online", refresh);
schedule();
