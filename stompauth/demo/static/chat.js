// The demo's page. How it connects is in connection.js; what it tries in vain, in refusals.js.

import { createClient, post } from "./connection.js";
import * as refusals from "./refusals.js";

const USERS = ["alice", "bob", "carol"];
const ROOMS = ["lobby", "library"];
const INBOX = "/user/queue/private";
const LONGEST_LOG = 500;
const STEPS = ["token", "ticket", "handshake", "connect", "subscribe"];

const ticketURL = new URL("/authenticate/token", location.href).href;
const webSocketURL = new URL("/stomp", location.href).href.replace(/^http/, "ws");

const isWide = matchMedia("(min-width: 720px)");
const find = (id) => document.getElementById(id);
const mask = (secret) => `${secret.slice(0, 6)}…`;
const clock = (date) => date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

// ---- who is signed in, and what they have open ----

let user = null;
let token = null;
let ticket = null; // the last one; it is used, or soon will be
let client = null;
let conversations = new Map();
let current = null;
let messages = 0;

class Conversation {
  constructor(kind, name) {
    this.key = `${kind}:${name}`;
    this.name = name;
    this.isRoom = kind === "room";
    this.destination = this.isRoom ? `/topic/rooms/${name}` : `/user/${name}/queue/private`;
    this.title = this.isRoom ? `The ${name}` : name;
    this.isWanted = false; // for a room: subscribe on every connection
    this.isJoined = !this.isRoom; // for a room: the RECEIPT has come
    this.isDenied = false;
    this.unread = 0;
    this.log = element("ol", { hidden: true, tabIndex: 0, role: "log", ariaLabel: this.title });
    this.badge = element("span", { className: "unread", hidden: true });
    const mark = this.isRoom
      ? element("span", { className: "hash", ariaHidden: "true" }, "#")
      : face(name);
    this.tab = element("button", { type: "button" }, mark, name, this.badge);
    this.tab.addEventListener("click", () => show(this));
  }

  /** Whether messages can be sent to it now. */
  get isOpen() {
    return Boolean(client?.connected) && this.isJoined;
  }

  /** Add a message; `remark` says how we know of it. */
  add(sender, text, remark) {
    const item = element("li", { className: sender === user ? "own" : "" },
      face(sender),
      element("p", { className: "by" },
        element("b", {}, sender), remark, element("time", {}, clock(new Date()))),
      element("p", { className: "text" }, text));
    this.log.append(item);
    if (this.log.children.length > LONGEST_LOG) this.log.firstChild.remove();
    this.log.scrollTop = this.log.scrollHeight;
    if (this !== current) this.markUnread(this.unread + 1);
  }

  markUnread(count) {
    this.unread = count;
    this.badge.hidden = count === 0;
    this.badge.textContent = count;
    this.badge.ariaLabel = `${count} unread`;
  }
}

/** The mark of a MESSAGE: who sent it is the server's word, not the sender's. */
function verified() {
  return element("span", {
    className: "verified",
    title: "The server stamped the sender, from the verified token",
  }, "verified");
}

function face(name) {
  const circle = element("span", { className: "face", ariaHidden: "true" }, name[0].toUpperCase());
  circle.dataset.user = name;
  return circle;
}

// ---- signing in and out ----

async function signIn(name) {
  const answer = await post("/demo/sign-in", {
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ user: name }),
  });
  return answer.token;
}

async function getToken(fresh) {
  if (fresh || token === null) token = await signIn(user);
  return token;
}

/** The claims of a token, for showing them; only the server can say whether they are true. */
function claimsOf(jwt) {
  return JSON.parse(atob(jwt.split(".")[1].replaceAll("-", "+").replaceAll("_", "/")));
}

function enter(name) {
  user = name;
  token = null;
  conversations = new Map();
  for (const room of ROOMS) open("room", room, "rooms");
  for (const other of USERS) if (other !== user) open("user", other, "private");
  find("welcome").hidden = true;
  find("desk").hidden = false;
  find("sign-out").hidden = false;
  find("sign-in-problem").hidden = true;
  show(conversations.get("room:lobby"));
  connect();
  find("chat-title").focus();
}

function open(kind, name, list) {
  const conversation = new Conversation(kind, name);
  conversations.set(conversation.key, conversation);
  find(list).append(element("li", {}, conversation.tab));
  find("logs").append(conversation.log);
}

function leave(problem) {
  client?.deactivate();
  client = user = token = ticket = current = null;
  for (const id of ["rooms", "private", "logs", "outcomes"]) find(id).replaceChildren();
  find("welcome").hidden = false;
  find("desk").hidden = true;
  find("sign-out").hidden = true;
  find("handshake").open = true;
  for (const step of STEPS) showStep(step, "waiting");
  showStatus("waiting", "Signed out");
  find("sign-in-problem").textContent = problem ?? "";
  find("sign-in-problem").hidden = !problem;
  find("welcome-title").focus();
}

// ---- the connection ----

function connect() {
  find("refusal").hidden = true;
  for (const step of STEPS) showStep(step, "waiting");
  showStatus("busy", `Connecting as ${user}`);
  const mine = createClient({
    ticketURL,
    webSocketURL,
    getToken,
    onStep: (step, state, facts) => mine === client && onStep(step, state, facts),
    onConnected: () => mine === client && onConnected(),
    onLost: (reason) => mine === client && onLost(reason),
    onStopped: (reason) => mine === client && onStopped(reason),
  });
  client = mine;
  client.activate();
}

function onStep(step, state, facts) {
  if (facts.ticket) ticket = facts.ticket;
  showStep(step, state, describe(step, state, facts));
  if (state !== "busy") return;
  for (const later of STEPS.slice(STEPS.indexOf(step) + 1)) showStep(later, "waiting");
}

function onConnected() {
  showStatus("ok", `Connected as ${user}`);
  const rooms = [...conversations.values()].filter((each) => each.isWanted);
  const done = [];
  const subscribed = (destination) => {
    done.push(destination);
    showStep("subscribe", "ok", `RECEIPT for ${done.join(" and ")}`);
    if (done.length === 1 + rooms.length) find("handshake").open = isWide.matches;
  };
  subscribe(INBOX, "inbox", onPrivate, subscribed);
  for (const room of rooms) join(room, subscribed);
  update();
}

function subscribe(destination, name, onMessage, onReceipt) {
  const receipt = `subscribe-${name}`;
  showStep("subscribe", "busy");
  client.watchForReceipt(receipt, () => onReceipt(destination));
  client.subscribe(destination, onMessage, { receipt });
}

function join(room, onReceipt) {
  const onMessage = (message) => room.add(message.headers.sender, message.body, verified());
  subscribe(room.destination, room.name, onMessage, (destination) => {
    room.isJoined = true;
    onReceipt(destination);
    update();
  });
}

function onPrivate(message) {
  const { sender } = message.headers;
  conversations.get(`user:${sender}`)?.add(sender, message.body, verified());
}

function onLost(reason) {
  showStatus("busy", "Disconnected, trying again");
  if (reason.close) showStep("subscribe", "waiting");
  onClosed();
}

function onStopped(reason) {
  if (reason.status) {
    leave(`The server does not let ${user} in: ${reason.status} ${reason.slug}. Sign in again.`);
    return;
  }
  const error = reason.code ? `ERROR ${reason.code}` : "no ERROR";
  const answer = `${error} and closed with ${reason.close}`;
  showStatus("refused", "Refused by the server");
  showStep("subscribe", "refused", answer);
  find("refusal-text").textContent = `${explain(reason)} The server answered ${answer}. `
    + "After that code a page must not come back by itself, so this one waits for you.";
  find("refusal").hidden = false;
  onClosed();
}

/** Say in plain words what an ERROR means; for a room that is denied, why. */
function explain({ code, message, receiptId }) {
  const room = conversations.get(`room:${receiptId?.replace("subscribe-", "")}`);
  if (!room || code !== "access-denied") return `${message ?? "The connection was closed"}.`;
  room.isDenied = true;
  room.isWanted = false;
  const rooms = claimsOf(token).rooms.join(", ");
  return `${user} is not a member of the ${room.name}. The rule for /topic/rooms/{room} wants the `
    + `token’s “rooms” to hold “${room.name}”; this one holds: ${rooms}.`;
}

function onClosed() {
  for (const each of conversations.values()) each.isJoined = !each.isRoom;
  for (const remark of document.querySelectorAll(".pending")) remark.textContent = "not confirmed";
  update();
}

// ---- what is shown ----

function showStatus(state, text) {
  const status = find("status");
  status.dataset.state = state;
  status.textContent = text;
}

/** Show a step's state, with a detail; without one a waiting step says what it is about. */
function showStep(step, state, detail) {
  const item = document.querySelector(`[data-step=${step}]`);
  const paragraph = item.querySelector(".detail");
  paragraph.dataset.hint ??= paragraph.textContent;
  paragraph.textContent = detail ?? (state === "waiting" ? paragraph.dataset.hint : "…");
  item.dataset.state = state;
  item.querySelector(".state").textContent = state === "busy" ? "under way" : state;
  find("dots").children[STEPS.indexOf(step)].dataset.state = state;
}

function describe(step, state, facts) {
  if (state === "refused") {
    if (facts.status) return `${facts.status} ${facts.slug}`;
    if (facts.code) return `ERROR ${facts.code}, closed with ${facts.close}`;
    if (facts.close) return `No 101. The browser keeps the status to itself (${facts.close}).`;
    return "No answer.";
  }
  if (state !== "ok") return undefined;
  switch (step) {
    case "token": {
      const { sub, rooms } = claimsOf(facts.token);
      return `JWT ${mask(facts.token)} for ${sub}; rooms: ${rooms.join(", ")}`;
    }
    case "ticket":
      return `200, ticket ${mask(facts.ticket)}, good for ${facts.expires_in} s`;
    case "handshake":
      return `101 for ticket ${mask(ticket)}, which is used up now`;
    case "connect": {
      const end = `session-expires ${clock(new Date(facts["session-expires"] * 1000))}`;
      return "user-name" in facts
        ? `CONNECTED, user-name ${facts["user-name"]}, ${end}`
        : `Renewed in band by SEND to /session/token, ${end}`;
    }
  }
}

function show(conversation) {
  current = conversation;
  conversation.markUnread(0);
  if (conversation.isRoom && !conversation.isWanted && client?.active !== false) {
    conversation.isWanted = true;
    conversation.isDenied = false;
    const onReceipt = (destination) => showStep("subscribe", "ok", `RECEIPT for ${destination}`);
    if (client?.connected) join(conversation, onReceipt);
  }
  update();
}

function update() {
  for (const each of conversations.values()) {
    each.log.hidden = each !== current;
    each.tab.ariaCurrent = each === current ? "true" : "false";
    each.tab.classList.toggle("denied", each.isDenied);
    each.log.classList.toggle("denied", each.isDenied);
  }
  if (current === null) return;
  find("chat-title").textContent = current.title;
  for (const control of find("composer").elements) control.disabled = !current.isOpen;
  const whom = current.isRoom ? `the ${current.name}` : current.name;
  find("text").placeholder = current.isOpen ? `Write to ${whom}` : "Not now";
  for (const button of find("tries").children) button.disabled = !client?.connected;
  current.log.scrollTop = current.log.scrollHeight;
}

// ---- sending ----

function send(text) {
  const receipt = `send-${++messages}`;
  const { destination } = current;
  if (!current.isRoom) {
    // A private message goes to the other one only, so here is our own copy.
    const remark = element("span", { className: "pending" }, "sending");
    current.add(user, text, remark);
    client.watchForReceipt(receipt, () => {
      remark.className = "receipt";
      remark.textContent = "accepted";
    });
  }
  client.publish({
    destination,
    body: text,
    headers: { "content-type": "text/plain", receipt },
  });
}

// ---- trying what is refused ----

const TRIES = {
  async usedTicket() {
    const outcome = await refusals.usedTicket({ webSocketURL, ticket });
    return { ...outcome, what: `GET /stomp?ticket=${mask(ticket)} once more`,
      why: "The ticket opened this chat’s socket and was used up by it." };
  },
  async noTicket() {
    const outcome = await refusals.noTicket({ webSocketURL });
    return { ...outcome, what: "GET /stomp", why: "No ticket, no socket." };
  },
  async foreignToken() {
    const other = USERS.find((name) => name !== user);
    const otherToken = await signIn(other);
    const outcome = await refusals.foreignToken({ ticketURL, webSocketURL, token, otherToken });
    return { ...outcome, what: `CONNECT with ${other}’s JWT on ${user}’s ticket`,
      why: "The socket opened, but the token is of another subject than the ticket." };
  },
};

async function attempt(name) {
  let outcome;
  try {
    outcome = await TRIES[name]();
  } catch (problem) {
    outcome = { what: name, failed: problem.message, why: "That was not the point; try again." };
  }
  const item = element("li", {},
    element("code", {}, outcome.what),
    element("b", {}, verdict(outcome)),
    element("span", {}, outcome.why));
  item.dataset.of = name;
  item.dataset.state = outcome.accepted ? "ok" : "refused";
  find("outcomes").querySelector(`[data-of=${name}]`)?.remove();
  find("outcomes").prepend(item);
}

function verdict({ accepted, code, close, failed }) {
  if (failed) return `failed: ${failed}`;
  if (accepted) return "accepted, which must not be";
  if (code) return `refused: ERROR ${code}, closed with ${close}`;
  return `refused: no 101 but a 401, of which a page learns only “closed with ${close}”`;
}

// ---- the page comes alive ----

find("dots").append(...STEPS.map(() => element("i")));
for (const step of STEPS) showStep(step, "waiting");

for (const button of document.querySelectorAll("[data-user]")) {
  button.addEventListener("click", () => enter(button.dataset.user));
}
for (const button of find("tries").children) {
  button.addEventListener("click", () => attempt(button.dataset.try));
}
find("sign-out").addEventListener("click", () => leave());
find("again").addEventListener("click", () => {
  show(conversations.get("room:lobby"));
  connect();
});
find("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const input = find("text");
  const text = input.value.trim();
  if (text === "" || !current.isOpen) return;
  send(text);
  input.value = "";
});

if (!("StompJs" in globalThis)) {
  const answer = await fetch("/stomp.js");
  find("missing").textContent = await answer.text();
  find("missing").hidden = false;
  for (const button of document.querySelectorAll("[data-user]")) button.disabled = true;
}
