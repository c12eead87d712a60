import {Refusal, Session} from "./stomp.js";

const TICKET = new URL("operations/ticket", document.baseURI);
const SOCKET = new URL("operations/stomp", document.baseURI);

// Seconds: between two looks at the lists, and without a word after which the server is gone.
const REFRESH = 3;
const SILENCE = 10;

// Entries of a log, frames of a trace, and points of a curve that are kept.
const LOG = 200;
const FRAMES = 500;
const POINTS = 60;

// After these a new ticket would not help.
const FINAL = new Map([
  [1002, "the server did not understand this page; reload it"],
  [4401, "the hour is over"],
  [4403, "the server has refused this page"],
  [4409, "the server has refused this page"],
]);

const find = (id) => document.getElementById(id);

/** An element, with text: nothing here is ever taken for HTML. */
function element(name, {text, children = [], ...attributes} = {}) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  made.append(...children);
  return made;
}

function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

const count = (number, one, many = `${one}s`) => `${whole(number)} ${number === 1 ? one : many}`;
const whole = (number) => Math.round(number).toLocaleString("en");
const rate = (number) => (number > 0 && number < 9.95 ? number.toFixed(1) : whole(number));

function size(octets) {
  const units = ["B", "KiB", "MiB", "GiB"];
  let unit = 0;
  for (; octets >= 1024 && unit < units.length - 1; unit++) octets /= 1024;
  return `${unit && octets < 10 ? octets.toFixed(1) : Math.round(octets)} ${units[unit]}`;
}

function duration(seconds) {
  seconds = Math.max(0, Math.floor(seconds));
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} days`;
}

const time = (seconds) => new Date(seconds * 1000).toTimeString().slice(0, 8);

// The connection. The token is in this variable and nowhere else.

let token = "";
let session = null;
let attempts = 0;
let retry = 0;
let heard = 0;
let now = 0;

function show(state, text) {
  find("status").dataset.state = state;
  say(find("status"), text);
}

async function connect() {
  clearTimeout(retry);
  const own = session = new Session((status, code) => session === own && lost(status, code));
  show("busy", attempts ? "Connecting again" : "Connecting");
  try {
    await own.open(TICKET, SOCKET, token);
  } catch (error) {
    if (session !== own) return;
    if (error instanceof Refusal) {
      if (error.status === 401 || error.status === 403) {
        signOut(error.status === 401 ? "This is not the control token." : `The server says ${error.message}.`);
      } else if (find("desk").hidden) {
        signOut(`Not now: ${error.message}. Try again${error.retryAfter ? ` in ${error.retryAfter} s` : " later"}.`);
      } else {
        again(error.retryAfter);
      }
    } else if (error instanceof TypeError) {
      again(0);
    }
    return;
  }
  if (session !== own) return own.close();
  attempts = 0;
  heard = Date.now();
  find("welcome").hidden = true;
  find("desk").hidden = false;
  find("sign-out").hidden = false;
  show("ok", "Connected");
  own.subscribe("/user/queue/ops/answers", (answer, headers) => own.answer(answer, headers));
  own.subscribe("/user/queue/ops/trace", showTrace);
  own.subscribe("/app/ops/server", showServer);
  own.subscribe("/topic/ops/live", showLive);
  endTrace("the connection was lost");
  refresh();
}

function lost(status, code) {
  if (FINAL.has(status)) signOut(`Signed out: ${FINAL.get(status)}${code ? ` (${code})` : ""}.`);
  else again(0);
}

function again(seconds) {
  attempts += 1;
  const wait = Math.max(seconds, Math.min(10, attempts)) * (0.75 + Math.random() / 2);
  show("busy", "Disconnected, trying again");
  clearTimeout(retry);
  retry = setTimeout(connect, wait * 1000);
}

function signOut(problem) {
  const own = session;
  token = "";
  session = null;
  attempts = 0;
  clearTimeout(retry);
  own?.close();
  for (const id of ["desk", "sign-out", "trace", "outcome"]) find(id).hidden = true;
  for (const id of ["sessions", "queues", "denials", "events", "frames"]) find(id).replaceChildren();
  rows.clear();
  curves.clear();
  find("tiles").replaceChildren();
  if (find("confirm").open) find("confirm").close();
  find("welcome").hidden = false;
  find("problem").hidden = !problem;
  say(find("problem"), problem || "");
  show("waiting", "Signed out");
  find("token").focus();
}

find("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  token = find("token").value.trim();
  find("token").value = "";
  find("problem").hidden = true;
  if (token) connect();
});
find("sign-out").addEventListener("click", () => signOut(""));

setInterval(() => {
  if (session && !find("desk").hidden && find("status").dataset.state === "ok" && Date.now() - heard > SILENCE * 1000) {
    const own = session;
    session = null;
    own.close();
    again(0);
  }
}, 1000);

// Numbers.

const TILES = [
  ["Sessions", (live) => whole(live.sessions), (live) => live.sessions],
  ["Messages in", (live) => `${rate(live.rates.messages_received)} /s`, (live) => live.rates.messages_received],
  ["Messages out", (live) => `${rate(live.rates.messages_delivered)} /s`, (live) => live.rates.messages_delivered],
  ["Bytes in", (live) => `${size(live.rates.bytes_received)}/s`, (live) => live.rates.bytes_received],
  ["Bytes out", (live) => `${size(live.rates.bytes_sent)}/s`, (live) => live.rates.bytes_sent],
  ["In queues", (live) => whole(live.broker.queue_messages), (live) => live.broker.queue_messages],
];
const NAMES = {serving: "serving", tickets: "ticket store", keys: "keys", broker: "broker"};

const curves = new Map();

function draw(points) {
  const most = Math.max(...points, 1e-9);
  return points.map((point, n) => {
    const x = (n + POINTS - points.length) * (100 / (POINTS - 1));
    return `${x.toFixed(1)},${(23 - 21 * point / most).toFixed(1)}`;
  }).join(" ");
}

function tile(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  for (const [attribute, value] of [["viewBox", "0 0 100 24"], ["preserveAspectRatio", "none"], ["aria-hidden", "true"]]) {
    svg.setAttribute(attribute, value);
  }
  const line = svg.appendChild(document.createElementNS(svg.namespaceURI, "polyline"));
  const value = element("b");
  find("tiles").append(element("li", {children: [element("span", {text: name}), value, svg]}));
  return {value, line, points: []};
}

function showNumbers(live) {
  for (const [name, text, number] of TILES) {
    if (name === "In queues" && live.broker.queue_messages === undefined) continue;
    if (!curves.has(name)) curves.set(name, tile(name));
    const curve = curves.get(name);
    say(curve.value, text(live));
    curve.points.push(number(live));
    curve.points.splice(0, curve.points.length - POINTS);
    curve.line.setAttribute("points", draw(curve.points));
  }
}

function showParts(parts) {
  find("parts").replaceChildren(...Object.entries(parts).map(([part, ready]) => element("li", {
    text: `${NAMES[part] || part}: ${ready ? "ready" : "not ready"}`,
    "data-state": ready ? "ok" : "bad",
  })));
}

function showServer(server) {
  say(find("version"), `stompauth ${server.version}.`);
  const {trace_frames: frames, trace_seconds: seconds} = server.bounds;
  find("trace").dataset.bounds = `at most ${frames} frames, ${duration(seconds)}`;
  showParts(server.now.parts);
}

function showLive(live) {
  heard = Date.now();
  now = live.at;
  showNumbers(live);
  showParts(live.parts);
  for (const event of live.events) showEvent(event);
  if (live.missed) showEvent({at: live.at, denial: true, event: "missed", text: `and ${whole(live.missed)} more, too many to show`});
  for (const row of rows.values()) row.age();
  ticks += 1;
  if (live.changed || ticks >= REFRESH) refresh();
}

function showEvent({at, event, denial, text}) {
  const log = find(denial ? "denials" : "events");
  log.prepend(element("li", {children: [
    element("time", {text: time(at)}), element("code", {text: event}), element("span", {text}),
  ]}));
  while (log.children.length > LOG) log.lastElementChild.remove();
}

// Sessions and queues.

let ticks = 0;
let asking = false;
let askAgain = false;
const rows = new Map();

async function refresh() {
  if (asking) {
    askAgain = true;
    return;
  }
  const own = session;
  ticks = 0;
  asking = true;
  try {
    const [sessions, queues] = await Promise.all([
      own.ask("/app/ops/sessions", {text: find("sessions-search").value, order: find("sessions-order").value}),
      own.ask("/app/ops/queues", {text: find("queues-search").value}),
    ]);
    if (session === own) {
      showSessions(sessions);
      showQueues(queues);
    }
  } catch {
    // The connection is lost; the next one asks again.
  } finally {
    asking = false;
    if (askAgain && session) {
      askAgain = false;
      refresh();
    }
  }
}

function showSessions({sessions, matching, total}) {
  const seen = new Set();
  let before = null;
  for (const found of sessions) {
    seen.add(found.id);
    if (!rows.has(found.id)) rows.set(found.id, makeRow(found));
    const row = rows.get(found.id);
    row.update(found);
    const place = before ? before.nextSibling : find("sessions").firstChild;
    if (place !== row.line) find("sessions").insertBefore(row.line, place);
    before = row.details;
    if (row.line.nextSibling !== row.details) find("sessions").insertBefore(row.details, row.line.nextSibling);
  }
  for (const [id, row] of rows) {
    if (seen.has(id)) continue;
    row.line.remove();
    row.details.remove();
    rows.delete(id);
  }
  const shown = sessions.length < matching ? `${sessions.length} of ${whole(matching)}` : whole(matching);
  say(find("sessions-count"), matching < total ? `${shown} shown, ${whole(total)} in all` : `${shown} shown`);
  find("sessions-none").hidden = sessions.length > 0;
}

function makeRow(found) {
  const cell = (label, kind) => element("td", {"data-label": label, class: kind || ""});
  const [user, address, age, subscriptions, buffer, actions] = [
    cell("User", "user"), cell("Address"), cell("Age"), cell("Subscriptions", "number"), cell("Buffer", "number"), cell("", "actions"),
  ];
  user.append(element("b", {text: found.user}), element("small", {text: found.id}));
  const button = (text, act, kind) => {
    const made = element("button", {type: "button", text, class: kind || "quiet"});
    made.addEventListener("click", act);
    actions.append(made);
    return made;
  };
  const details = element("tr", {class: "details", children: [element("td", {colspan: "6"})]});
  details.hidden = true;
  const opener = button("Details", async () => {
    details.hidden = !details.hidden;
    opener.setAttribute("aria-expanded", String(!details.hidden));
    if (!details.hidden) await fill();
  });
  opener.setAttribute("aria-expanded", "false");
  button("Trace", () => trace(found));
  button("Recheck", () => act("recheck", {user: found.user}, (done) => `${found.user}: ${count(done.sessions, "session")} rechecked.`));
  button("End", async () => {
    if (await confirmed(`End this session of ${found.user}?`, "The client is told that it is revoked, and its WebSocket closes with 4403. The user may come back.", "End it")) {
      await act("end", {session: found.id}, (done) => `${found.user}: ${count(done.sessions, "session")} ended.`);
    }
  }, "danger");
  button("Revoke", async () => {
    if (await confirmed(`Revoke ${found.user}?`, "All sessions of the user end, tickets are void, and tokens issued up to now are refused. A new token opens the door again: see to it first that there is none.", "Revoke")) {
      await act("revoke", {user: found.user}, (done) => `${found.user}: ${count(done.sessions, "session")} ended, ${count(done.tickets, "ticket")} void.`);
    }
  }, "danger");

  async function fill() {
    const own = session;
    const known = await own.ask("/app/ops/session", {session: found.id}).catch(() => null);
    if (!known || session !== own || known.error) return;
    const facts = [
      `STOMP ${known.version}`, `issuer ${known.issuer}`, `since ${time(known.opened_at)}`,
      `the token ends at ${time(known.expires_at)}`,
    ];
    details.firstChild.replaceChildren(
      element("p", {text: facts.join(", ")}),
      element("ul", {children: known.destinations.map(({id, destination, ack, unacked}) => element("li", {children: [
        element("code", {text: destination}),
        element("span", {text: ` ${id ?? "without id"}, ${ack}${unacked ? `, ${unacked} unacknowledged` : ""}`}),
      ]}))}),
    );
  }

  const row = {
    line: element("tr", {"data-session": found.id, children: [user, address, age, subscriptions, buffer, actions]}),
    details,
    opened: found.opened_at,
    age: () => say(age, duration(now - row.opened)),
    update(latest) {
      now = Math.max(now, latest.opened_at);
      say(address, latest.address);
      say(subscriptions, whole(latest.subscriptions));
      say(buffer, size(latest.buffer));
      row.age();
      if (!details.hidden) fill();
    },
  };
  return row;
}

function showQueues({queues, total}) {
  find("queues").replaceChildren(...queues.map(({name, messages, consumers, session: owner}) => element("tr", {children: [
    element("td", {"data-label": "Queue", children: [element("code", {text: name}), ...(owner ? [element("small", {text: `of session ${owner}`})] : [])]}),
    element("td", {"data-label": "Messages", class: "number", text: whole(messages)}),
    element("td", {"data-label": "Consumers", class: "number", text: whole(consumers)}),
  ]})));
  const known = total !== null && total !== undefined;
  say(find("queues-count"), known ? `${whole(queues.length)} of ${whole(total)}, the deepest first` : "kept by another broker");
  find("queues-none").hidden = queues.length > 0;
}

for (const id of ["sessions-search", "sessions-order", "queues-search"]) {
  find(id).addEventListener("input", () => session && refresh());
}

// What is done.

async function act(what, body, told) {
  const note = find("outcome");
  let text;
  try {
    const done = await session.ask(`/app/ops/${what}`, body);
    text = done.error ? `Not done: ${done.error}.` : told(done);
    note.classList.toggle("good", !done.error);
  } catch (error) {
    text = `Perhaps not done: ${error.message}.`;
    note.classList.remove("good");
  }
  note.hidden = false;
  say(note, text);
}

function confirmed(title, text, yes) {
  const dialog = find("confirm");
  say(find("confirm-title"), title);
  say(find("confirm-text"), text);
  say(find("confirm-yes"), yes);
  dialog.returnValue = "";
  dialog.showModal();
  find("confirm-no").focus();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), {once: true});
  });
}

find("confirm-yes").addEventListener("click", () => find("confirm").close("yes"));
find("confirm-no").addEventListener("click", () => find("confirm").close(""));

// Tracing.

const ENDS = {
  session: "The session has ended.",
  frames: "Ended: so many frames are enough.",
  time: "Ended: the time is over.",
};
let traced = "";

async function trace({id, user}) {
  traced = id;
  find("frames").replaceChildren();
  say(find("trace-title"), `Frames of ${user}`);
  say(find("trace-state"), `${find("trace").dataset.bounds}; no bodies, no secrets`);
  find("trace-stop").hidden = false;
  find("trace").hidden = false;
  find("trace").scrollIntoView({block: "nearest"});
  const answer = await session.ask("/app/ops/trace", {session: id}).catch((error) => ({error: error.message}));
  if (answer.error) endTrace(`Not traced: ${answer.error}.`);
}

function endTrace(text) {
  if (!traced) return;
  traced = "";
  say(find("trace-state"), text);
  say(find("trace-stop"), "Close");
}

function showTrace(report) {
  if (report.session !== traced) return;
  const log = find("frames");
  for (const frame of report.frames) log.append(makeFrame(frame));
  if (report.missed) log.append(element("li", {class: "soft", text: `and ${whole(report.missed)} more, too fast to show`}));
  while (log.children.length > FRAMES) log.firstElementChild.remove();
  log.scrollTop = log.scrollHeight;
  if (report.ended) endTrace(ENDS[report.ended] || report.ended);
}

function makeFrame({at, direction, command, headers, size: octets, outcome}) {
  return element("li", {"data-direction": direction, children: [
    element("time", {text: time(at)}),
    element("b", {text: `${direction === "in" ? "→" : "←"} ${command}`}),
    element("span", {class: "outcome", "data-state": outcome === "done" || !outcome ? "ok" : "bad", text: outcome}),
    element("dl", {children: [...headers, ["body", `${size(octets)}, not shown`]].map(([name, value]) => element("div", {
      children: [element("dt", {text: name}), element("dd", {text: value})],
    }))}),
  ]});
}

find("trace-stop").addEventListener("click", () => {
  if (traced) session?.ask("/app/ops/untrace", {}).catch(() => {});
  traced = "";
  say(find("trace-stop"), "Stop");
  find("trace").hidden = true;
});
