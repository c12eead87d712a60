// STOMP 1.2 over a WebSocket that a ticket opens: what this page needs of it, and no more.

const ESCAPED = {"\\": "\\\\", "\r": "\\r", "\n": "\\n", ":": "\\c"};
const UNESCAPED = {"\\\\": "\\", "\\r": "\r", "\\n": "\n", "\\c": ":"};

const escaped = (text) => text.replace(/[\\\r\n:]/g, (found) => ESCAPED[found]);
const unescaped = (text) => text.replace(/\\[\\rnc]/g, (found) => UNESCAPED[found]);

/** A frame as text. */
export function encode(command, headers, body = "") {
  // CONNECT is the one frame whose headers are not escaped.
  const shown = command === "CONNECT" ? (text) => text : escaped;
  const lines = Object.entries(headers).map(([name, value]) => `${shown(name)}:${shown(value)}`);
  return `${[command, ...lines].join("\n")}\n\n${body}\0`;
}

/** A frame of its text, without the NUL; the first of several headers of one name wins. */
export function decode(text) {
  const end = text.indexOf("\n\n");
  const [command, ...lines] = text.slice(0, end).replace(/\r/g, "").split("\n");
  const headers = new Map();
  for (const line of lines) {
    const colon = line.indexOf(":");
    const name = unescaped(line.slice(0, colon));
    if (!headers.has(name)) headers.set(name, unescaped(line.slice(colon + 1)));
  }
  return {command, headers, body: text.slice(end + 2)};
}

/** The server said no over HTTP. */
export class Refusal extends Error {
  constructor(status, slug, retryAfter) {
    super(`${status} ${slug}`);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

async function getTicket(url, token) {
  const response = await fetch(url, {
    method: "POST",
    headers: {Authorization: `Bearer ${token}`},
    cache: "no-store",
    credentials: "omit",
  });
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) {
    const retryAfter = Number(response.headers.get("Retry-After")) || 0;
    throw new Refusal(response.status, answer.error || response.statusText, retryAfter);
  }
  return answer.ticket;
}

/**
 * One session. `closed(status, code)` is called once when it is over: with the status of the
 * WebSocket, and the code of the ERROR before it or "".
 */
export class Session {
  #socket;
  #rest = "";
  #code = "";
  #number = 0;
  #subscribers = new Map();
  #waiting = new Map();

  constructor(closed) {
    this.closed = closed;
  }

  /** Trade the token for a ticket, and connect. */
  async open(ticketURL, socketURL, token) {
    const ticket = await getTicket(ticketURL, token);
    const url = new URL(socketURL);
    url.protocol = url.protocol.replace("http", "ws");
    url.searchParams.set("ticket", ticket);
    this.#socket = new WebSocket(url, ["v12.stomp"]);
    return new Promise((resolve, reject) => {
      this.#subscribers.set("CONNECTED", resolve);
      this.#socket.onopen = () => this.#send("CONNECT", {
        "accept-version": "1.2",
        "heart-beat": "0,0",
        Authorization: `Bearer ${token}`,
      });
      this.#socket.onmessage = (event) => this.#receive(event.data);
      this.#socket.onclose = (event) => {
        for (const waiting of this.#waiting.values()) waiting.reject(new Error("the connection is lost"));
        this.#waiting.clear();
        reject(new Error(this.#code || `closed with ${event.code}`));
        this.closed(event.code, this.#code);
      };
    });
  }

  /** Hear of every MESSAGE there: its body, which is JSON. */
  subscribe(destination, heard) {
    const id = String(++this.#number);
    this.#subscribers.set(id, (frame) => heard(JSON.parse(frame.body), frame.headers));
    this.#send("SUBSCRIBE", {id, destination});
  }

  /** SEND a question, and wait for the answer with the same correlation-id. */
  ask(destination, question) {
    const id = String(++this.#number);
    this.#send(
      "SEND", {destination, "correlation-id": id, "content-type": "application/json"},
      JSON.stringify(question),
    );
    return new Promise((resolve, reject) => this.#waiting.set(id, {resolve, reject}));
  }

  /** The answer to a question has come. */
  answer(value, headers) {
    const id = headers.get("correlation-id");
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    waiting?.resolve(value);
  }

  close() {
    this.#socket?.close(1000);
  }

  #send(command, headers, body) {
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(encode(command, headers, body));
  }

  #receive(data) {
    this.#rest += data;
    for (let end = this.#rest.indexOf("\0"); end >= 0; end = this.#rest.indexOf("\0")) {
      const frame = decode(this.#rest.slice(0, end).replace(/^[\r\n]+/, ""));
      this.#rest = this.#rest.slice(end + 1);
      if (frame.command === "ERROR") this.#code = frame.headers.get("code") || "error";
      const id = frame.command === "MESSAGE" ? frame.headers.get("subscription") : frame.command;
      this.#subscribers.get(id)?.(frame);
    }
  }
}
