// What the scripts share. One run is one client and one case:
//
//     SERVER=http://127.0.0.1:8080 ORIGIN=... TOKENS='...' NAME=... node stompjs.mjs receipts
//
// It ends with 0 when the case held, and with 1 when it did not, or when nothing came of it.

import { WebSocket } from 'ws';

import * as cases from './cases.mjs';

const { SERVER, ORIGIN } = process.env;
const tokens = process.env.TOKENS.split(' ');
const PATIENCE = 25_000;

/** A JWT for the next connection; the last one serves for all that follow. */
export function nextToken() {
  return tokens.length > 1 ? tokens.shift() : tokens[0];
}

/** Trade a token for a ticket, as a page does. */
export async function getTicket(token) {
  const headers = { authorization: `Bearer ${token}`, origin: ORIGIN };
  const response = await fetch(`${SERVER}/authenticate/token`, { method: 'POST', headers });
  if (!response.ok) throw new Error(`no ticket: ${response.status} ${await response.text()}`);
  return (await response.json()).ticket;
}

/** The WebSocket of a page, which spends the ticket. */
export function openSocket(ticket) {
  const url = `${SERVER.replace('http', 'ws')}/stomp?ticket=${ticket}`;
  return new WebSocket(url, ['v12.stomp', 'v11.stomp', 'v10.stomp'], { origin: ORIGIN });
}

/** Things that come, one by one. */
export class Inbox {
  #items = [];
  #takers = [];

  put(item) {
    const taker = this.#takers.shift();
    if (taker) taker(item);
    else this.#items.push(item);
  }

  take() {
    if (this.#items.length) return Promise.resolve(this.#items.shift());
    return new Promise((resolve) => this.#takers.push(resolve));
  }

  get isEmpty() {
    return this.#items.length === 0;
  }
}

let last = 'nothing';

/** Tell what the case is about to do; the last of it is the first to know about a failure. */
export function step(text) {
  last = text;
  console.log(text);
}

/** Run the case that the command line names, with this client. */
export async function run(Client) {
  setTimeout(() => {
    console.error(`nothing came within ${PATIENCE / 1000} s of: ${last}`);
    process.exit(1);
  }, PATIENCE);
  await cases[process.argv[2]](Client);
  process.exit(0);
}
