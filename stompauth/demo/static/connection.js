// A stompjs client that connects to stompauth. There is nothing of the demo's page in this file:
// copy it. It expects @stomp/stompjs 7 as the global StompJs; with a bundler, import it instead.

/** What to do after a close code. After every other one: come back, with a fresh ticket. */
const AFTER_CLOSE = {
  1002: "stop", // we broke the protocol, and would again
  4401: "new token",
  4403: "stop", // denied or revoked
  4409: "stop", // the token is of another subject than the ticket or the session
};

const LONGEST_PAUSE = 30_000;
const STEADY_AFTER = 10_000;
const TIMEOUT = 10_000;

const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** An HTTP answer that was not a success: its status, its slug, its Retry-After in seconds. */
export class HttpRefusal extends Error {
  constructor(response, slug) {
    super(`${response.status} ${slug}`);
    this.status = response.status;
    this.slug = slug;
    this.retryAfter = Number(response.headers.get("Retry-After")) || 0;
  }

  /** Whether the same request may succeed later. */
  get isTemporary() {
    return this.status === 429 || this.status >= 500;
  }
}

/** POST and return the JSON of the answer; an HttpRefusal is thrown unless it is a success. */
export async function post(url, options) {
  const signal = AbortSignal.timeout(TIMEOUT);
  const response = await fetch(url, { method: "POST", signal, ...options });
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new HttpRefusal(response, answer.error ?? "");
  return answer;
}

/** Trade a token for a ticket: `{ticket, expires_in}`. */
export function fetchTicket(url, token) {
  return post(url, { headers: { Authorization: `Bearer ${token}` } });
}

/**
 * Make a stompjs client. Call `activate()` on it once, and `deactivate()` at the end.
 *
 * @param {object} options
 * @param {string} options.ticketURL where tickets are issued
 * @param {string} options.webSocketURL where the socket is opened, without the ticket
 * @param {(fresh: boolean) => Promise<string>} options.getToken gives the access token; a new one
 *     when `fresh` is true, because the last one was refused or is about to expire. It is over
 *     when this throws an HttpRefusal that is not temporary; after another error it is asked again
 * @param {(frame) => void} options.onConnected on CONNECTED: subscribe here, each time
 * @param {(reason) => void} options.onLost the connection is gone and will be tried again
 * @param {(reason) => void} options.onStopped it is over: the server refused for good, and
 *     `reason` is an HttpRefusal, or has `close`, `code`, `message` and `receiptId` of the ERROR
 * @param {(step: string, state: string, facts: object) => void} [options.onStep] for showing how
 *     far it is: `token`, `ticket`, `handshake`, `connect`; `busy`, `ok`, `refused`
 */
export function createClient({
  ticketURL, webSocketURL, getToken, onConnected, onLost, onStopped, onStep = () => {},
}) {
  let attempts = 0;
  let tokenIsStale = false;
  let reached = null; // how far the socket came: "open", then "connected"
  let error = null; // the ERROR frame that came before a close
  let renewalTimer;
  let steadyTimer;
  let renewals = 0;
  let renewalReceipt = null;

  const client = new StompJs.Client({
    beforeConnect,
    onConnect,
    onStompError,
    onWebSocketClose,
    connectionTimeout: TIMEOUT,
    discardWebsocketOnCommFailure: true,
    // Timers of a tab in the background are slowed down, those of a worker are not.
    heartbeatStrategy: StompJs.TickerStrategy.Worker,
    // stompjs comes back at once; the waiting is done in beforeConnect, which can fail as well.
    reconnectDelay: 10,
    // Only to show the moment of the 101; without this stompjs does the same by itself.
    webSocketFactory() {
      const socket = new WebSocket(client.brokerURL, client.stompVersions.protocolVersions());
      onStep("handshake", "busy", {});
      socket.addEventListener("open", () => {
        reached = "open";
        onStep("handshake", "ok", {});
        onStep("connect", "busy", {});
      });
      return socket;
    },
  });
  return client;

  // Before every connection: a fresh ticket. stompjs does not catch what is thrown in here, and
  // would not try again; so nothing is thrown.
  async function beforeConnect() {
    let retryAfter = 0;
    let renewed = false;
    reached = error = null;
    while (client.active) {
      await sleep(Math.max(retryAfter * 1000, backOff()));
      if (!client.active) return;
      attempts += 1;
      let step = "token";
      try {
        onStep("token", "busy", {});
        const token = await getToken(tokenIsStale);
        tokenIsStale = false;
        onStep("token", "ok", { token });
        step = "ticket";
        onStep("ticket", "busy", {});
        const { ticket, expires_in } = await fetchTicket(ticketURL, token);
        onStep("ticket", "ok", { ticket, expires_in });
        client.brokerURL = `${webSocketURL}?ticket=${ticket}`;
        client.connectHeaders = { Authorization: `Bearer ${token}` };
        return;
      } catch (problem) {
        if (!client.active) return;
        retryAfter = problem.retryAfter ?? 0;
        if (problem.status === 401 && step === "ticket" && !renewed) {
          // The token has expired or its key is gone; a new one may do.
          tokenIsStale = renewed = true;
          attempts = 0;
          continue;
        }
        onStep(step, "refused", problem);
        if (problem instanceof HttpRefusal && !problem.isTemporary) {
          await client.deactivate();
          onStopped(problem);
          return;
        }
        onLost(problem);
      }
    }
  }

  // Exponential, with full jitter: when a server restarts, its clients do not come back in step.
  function backOff() {
    return attempts && Math.random() * Math.min(LONGEST_PAUSE, 500 * 2 ** attempts);
  }

  function onConnect(frame) {
    reached = "connected";
    onStep("connect", "ok", frame.headers);
    steadyTimer = setTimeout(() => { attempts = 1; }, STEADY_AFTER);
    scheduleRenewal(frame.headers["session-expires"]);
    onConnected(frame);
  }

  function onStompError(frame) {
    const { code, message, "receipt-id": receiptId } = frame.headers;
    error = { code, message, receiptId };
  }

  function onWebSocketClose(event) {
    clearTimeout(renewalTimer);
    clearTimeout(steadyTimer);
    if (!client.active) return;
    const reason = { close: event.code, ...error };
    const next = AFTER_CLOSE[event.code];
    // A renewal that was refused need not be the end: a new token may open a new session.
    const onRenewal = error?.receiptId !== undefined && error.receiptId === renewalReceipt;
    tokenIsStale = next === "new token" || onRenewal;
    if (reached === null) onStep("handshake", "refused", reason);
    if (reached === "open") onStep("connect", "refused", reason);
    if (next === "stop" && !onRenewal) {
      client.deactivate();
      onStopped(reason);
    } else {
      onLost(reason);
    }
  }

  // A session ends with its token. A fresh one, sent in band in time, keeps it going.
  function scheduleRenewal(expires) {
    clearTimeout(renewalTimer);
    if (!expires) return;
    const left = Number(expires) * 1000 - Date.now();
    renewalTimer = setTimeout(renew, Math.max(5_000, left * 0.8));
  }

  async function renew() {
    const receipt = `renewal-${++renewals}`;
    let token;
    try {
      token = await getToken(true);
    } catch {
      return; // the session ends with 4401, and beforeConnect tries again
    }
    if (!client.connected) return;
    renewalReceipt = receipt;
    client.watchForReceipt(receipt, ({ headers }) => {
      onStep("connect", "ok", headers);
      scheduleRenewal(headers["session-expires"]);
    });
    client.publish({
      destination: "/session/token",
      headers: { Authorization: `Bearer ${token}`, receipt },
    });
  }
}
