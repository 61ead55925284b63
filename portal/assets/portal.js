// Keeps list and pools up to date. The page is complete without it: this asks for the changing part and
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
  const changes = ["list", "pools"].flatMap((id) => exchangeTable(id, next));
  if (changes.length > MOST_ANNOUNCED) said.push(`${changes.length} rows changed.`);
  else said.push(...changes.filter((text) => text !== ""));
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

// Exchanges the rows of a table, or the whole part if it was or becomes another thing than a table.
// Returns a sentence per row that says something else; it is empty for a row that has gone.
function exchangeTable(id, next) {
  const [table, nextTable] = [document, next].map((page) => page.querySelector(`#${id} tbody`));
  if (!table || !nextTable) {
    exchange(id, next);
    return [];
  }
  exchange(`${id}-note`, next);
  return exchangeRows(table, nextTable);
}

function exchangeRows(table, nextTable) {
  const changes = [];
  const rows = new Map([...table.rows].map((row) => [keyOf(row), row]));
  // Before rows move from one table to the other, which changes their places.
  const nextRows = new Map([...nextTable.rows].map((row) => [keyOf(row), row]));
  // First what has gone, so that the rows behind it need not be moved.
  for (const [key, row] of rows) {
    if (nextRows.has(key)) continue;
    row.remove();
    changes.push("");
  }
  [...nextRows].forEach(([key, nextRow], index) => {
    let row = rows.get(key);
    // Not isEqualNode: a row that changed before has a class that the server does not send.
    if (row?.innerHTML !== nextRow.innerHTML) {
      const news = newsOf(nextRow);
      if (!row || newsOf(row) !== news) {
        nextRow.className = "changed";
        changes.push(`${news}.`);
      }
      row?.replaceWith(nextRow);
      row = nextRow;
    }
    if (table.rows[index] !== row) table.insertBefore(row, table.rows[index] ?? null);
  });
  return changes;
}

// A row of the list is known by its place, as two of them may have the same names.
function keyOf(row) {
  return row.dataset.key ?? row.sectionRowIndex;
}

// The text of a row without what changes all the time, which would be read out all the time.
function newsOf(row) {
  const cells = [...row.cells].filter((cell) => !("silent" in cell.dataset));
  return cells.map((cell) => cell.textContent).join("").trim();
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
