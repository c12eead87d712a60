// @stomp/stompjs

import { Client as StompJs } from '@stomp/stompjs';

import { Inbox, getTicket, nextToken, openSocket, run } from './harness.mjs';

class Client {
  #connects = new Inbox();
  #resubscribe = () => {};
  #receipts = 0;
  #stomp;
  closes = new Inbox();

  constructor({ heartbeat = 0 }) {
    let ticket;
    this.#stomp = new StompJs({
      heartbeatIncoming: heartbeat,
      heartbeatOutgoing: heartbeat,
      reconnectDelay: 100,
      beforeConnect: async (stomp) => {
        const token = nextToken();
        ticket = await getTicket(token);
        stomp.connectHeaders = { Authorization: `Bearer ${token}` };
      },
      webSocketFactory: () => openSocket(ticket),
      onConnect: () => {
        this.#resubscribe();
        this.#connects.put();
      },
      onStompError: (frame) => console.log(`${frame}`),
      onWebSocketClose: (event) => this.closes.put(event.code),
    });
  }

  connect() {
    this.#stomp.activate();
    return this.#connects.take();
  }

  reconnected() {
    return this.#connects.take();
  }

  #withReceipt(send) {
    const receipt = `receipt-${++this.#receipts}`;
    return new Promise((resolve) => {
      this.#stomp.watchForReceipt(receipt, resolve);
      send({ receipt });
    });
  }

  async subscribe(destination, ack) {
    const inbox = new Inbox();
    let subscription;
    const subscribe = (headers) => {
      subscription = this.#stomp.subscribe(
        destination,
        (message) => {
          const body = Buffer.from(message.binaryBody);
          const { headers, ack, nack } = message;
          inbox.put({ headers, body, ack, nack });
        },
        { ack, ...headers },
      );
    };
    await this.#withReceipt(subscribe);
    this.#resubscribe = subscribe;
    return {
      inbox,
      unsubscribe: () => this.#withReceipt((headers) => subscription.unsubscribe(headers)),
    };
  }

  #publish(destination, body, headers) {
    const content = typeof body === 'string' ? { body } : { binaryBody: body };
    this.#stomp.publish({ destination, headers, ...content });
  }

  send(destination, body) {
    return this.#withReceipt((headers) => this.#publish(destination, body, headers));
  }

  begin() {
    const transaction = this.#stomp.begin();
    return {
      ...transaction,
      send: (destination, body) =>
        this.#publish(destination, body, { transaction: transaction.id }),
    };
  }

  async disconnect() {
    const receipt = new Promise((resolve) => {
      this.#stomp.onDisconnect = resolve;
    });
    await Promise.all([receipt, this.#stomp.deactivate()]);
  }
}

await run(Client);
