// The board: what the stream of answers says, drawn; what people enter, sent.
// Whatever others wrote comes in by textContent alone.
"use strict";

const PAGE = 20;
const MOST = 100;
const AGAIN = 2000;  // milliseconds until a stream that the server refused is asked for again

const byId = (id) => document.getElementById(id);
const items = new Map();  // the <li> of each job, by the job's id
let limit = PAGE;
let stream = null;
let retrying = 0;

function follow() {
  clearTimeout(retrying);
  stream?.close();
  stream = new EventSource(`/api/v1/jobs/live?limit=${limit}`);
  stream.onopen = () => say("live");
  stream.onmessage = (message) => draw(JSON.parse(message.data));
  stream.onerror = () => {
    say("reconnecting");
    if (stream.readyState === EventSource.CLOSED) {
      retrying = setTimeout(follow, AGAIN);
    }
  };
}

function say(state) {
  byId("line").dataset.state = state;
  byId("line").textContent = state;
}

function draw({ total, items: jobs }) {
  const first = items.size === 0;
  const wanted = new Set(jobs.map((job) => job.id));
  for (const [id, item] of items) {
    if (!wanted.has(id)) {
      item.remove();
      items.delete(id);
    }
  }
  let place = byId("jobs").firstElementChild;
  for (const job of jobs) {
    const item = items.get(job.id) ?? made(job.id, !first);
    write(item, job);
    if (item === place) {
      place = place.nextElementSibling;
    } else {
      byId("jobs").insertBefore(item, place);
    }
  }
  byId("count").textContent = total > jobs.length ? `${jobs.length} of ${total}` : `${total}`;
  byId("empty").hidden = total > 0;
  byId("more").hidden = total <= jobs.length || limit >= MOST;
}

function made(id, isNew) {
  const item = byId("job").content.firstElementChild.cloneNode(true);
  item.classList.toggle("new", isNew);
  items.set(id, item);
  const form = item.querySelector("form");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send(form, "/api/v1/applications", { job_id: id }, "Sent. Good luck!");
  });
  return item;
}

function write(item, job) {
  const set = (part, text) => {
    const element = item.querySelector(part);
    if (element.textContent !== text) {
      element.textContent = text;
    }
  };
  set(".title", job.title);
  set(".description", job.description);
  set(".applications", job.applications === 1 ? "1 application" : `${job.applications} applications`);
  item.querySelector("summary").setAttribute("aria-label", `Apply for ${job.title}`);
  item.querySelector(".posted").dateTime = job.posted;
  item.querySelector(".posted").title = new Date(job.posted).toLocaleString();
  tellAge(item);
}

function tellAge(item) {
  const time = item.querySelector(".posted");
  const text = `posted ${age(new Date(time.dateTime))}`;
  if (time.textContent !== text) {
    time.textContent = text;
  }
}

function age(date) {
  const seconds = (Date.now() - date) / 1000;
  const words = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
  for (const [unit, length] of [["day", 86400], ["hour", 3600], ["minute", 60]]) {
    if (seconds >= length) {
      return words.format(-Math.floor(seconds / length), unit);
    }
  }
  return "just now";
}

async function send(form, path, more, done) {
  const button = form.querySelector("button");
  const said = form.querySelector(".said");
  const tell = (text, isBad) => {
    said.textContent = text;
    said.classList.toggle("bad", isBad);
  };
  form.dataset.key ??= newKey();
  button.disabled = true;
  tell("Sending …", false);
  try {
    const answer = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json", "Idempotency-Key": form.dataset.key },
      body: JSON.stringify({ ...Object.fromEntries(new FormData(form)), ...more }),
    });
    if (answer.ok) {
      form.reset();
      delete form.dataset.key;
      tell(done, false);
    } else {
      tell(await problem(answer), true);
    }
  } catch {
    tell("The server cannot be reached just now. Try again: it will count once.", true);
  } finally {
    button.disabled = false;
  }
}

// Sent with each try, so that trying again after a lost answer does nothing twice.
function newKey() {
  return crypto.getRandomValues(new Uint32Array(4)).join("-");
}

async function problem(answer) {
  const told = await answer.json().catch(() => ({}));
  const errors = (told.errors ?? []).map((one) => `${one.pointer.replace("#/", "")}: ${one.detail}`);
  const words = told.title ?? `The server answered ${answer.status}`;
  return errors.length ? `${words}: ${errors.join("; ")}.` : `${words}.`;
}

document.addEventListener("input", (event) => delete event.target.form?.dataset.key);
byId("post").addEventListener("submit", (event) => {
  event.preventDefault();
  send(event.target, "/api/v1/jobs", {}, "Posted.");
});
byId("more").addEventListener("click", () => {
  limit = Math.min(limit + PAGE, MOST);
  follow();
});
setInterval(() => items.forEach(tellAge), 30_000);
follow();
