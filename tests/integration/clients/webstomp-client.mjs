// webstomp-client

import webstomp from 'webstomp-client';

import { Inbox, getTicket, nextToken, openSocket, run } from './harness.mjs';

class Client {
  #receipts = new Map();
  #heartbeat;
  #stomp;
  closes = new Inbox();

  constructor({ heartbeat = 0 }) {
    this.#heartbeat = { incoming: heartbeat, outgoing: heartbeat };
  }

  async connect() {
    const token = nextToken();
    const socket = openSocket(await getTicket(token));
    socket.on('close', (code) => this.closes.put(code));
    this.#stomp = webstomp.over(socket, { debug: false, heartbeat: this.#heartbeat });
    this.#stomp.onreceipt = (frame) => this.#receipts.get(frame.headers['receipt-id'])();
    await new Promise((resolve, reject) => {
      this.#stomp.connect({ Authorization: `Bearer ${token}` }, resolve, reject);
    });
  }

  #withReceipt(send) {
    const receipt = `receipt-${this.#receipts.size}`;
    return new Promise((resolve) => {
      this.#receipts.set(receipt, resolve);
      send({ receipt });
    });
  }

  async subscribe(destination, ack) {
    const inbox = new Inbox();
    let subscription;
    await this.#withReceipt((headers) => {
      subscription = this.#stomp.subscribe(
        destination,
        ({ headers, body, ack, nack }) =>
          inbox.put({ headers, body: Buffer.from(body), ack, nack }),
        { ack, ...headers },
      );
    });
    return {
      inbox,
      unsubscribe: () => this.#withReceipt((headers) => subscription.unsubscribe(headers)),
    };
  }

  send(destination, body) {
    return this.#withReceipt((headers) => this.#stomp.send(destination, body, headers));
  }

  begin() {
    const transaction = this.#stomp.begin();
    return {
      ...transaction,
      send: (destination, body) =>
        this.#stomp.send(destination, body, { transaction: transaction.id }),
    };
  }

  // It closes the socket right behind DISCONNECT.
  disconnect() {
    return this.#withReceipt((headers) => this.#stomp.disconnect(() => {}, headers));
  }
}

await run(Client);
