// @stomp/rx-stomp; its messages come in 8 KiB pieces here

import { RxStomp } from '@stomp/rx-stomp';

import { Inbox, getTicket, nextToken, openSocket, run } from './harness.mjs';

class Client {
  #connects = new Inbox();
  #receipts = 0;
  #stomp = new RxStomp();
  closes = new Inbox();

  constructor({ heartbeat = 0 }) {
    let ticket;
    this.#stomp.configure({
      heartbeatIncoming: heartbeat,
      heartbeatOutgoing: heartbeat,
      reconnectDelay: 100,
      splitLargeFrames: true,
      beforeConnect: async ({ stompClient }) => {
        const token = nextToken();
        ticket = await getTicket(token);
        stompClient.connectHeaders = { Authorization: `Bearer ${token}` };
      },
      webSocketFactory: () => {
        const socket = openSocket(ticket);
        socket.on('close', (code) => this.closes.put(code));
        return socket;
      },
    });
    this.#stomp.connected$.subscribe(() => this.#connects.put());
    this.#stomp.stompErrors$.subscribe((frame) => console.log(`${frame}`));
  }

  connect() {
    this.#stomp.activate();
    return this.#connects.take();
  }

  reconnected() {
    return this.#connects.take();
  }

  #receipt() {
    const receipt = `receipt-${++this.#receipts}`;
    return [receipt, this.#stomp.asyncReceipt(receipt)];
  }

  async subscribe(destination, ack) {
    const inbox = new Inbox();
    const [receipt, subscribed] = this.#receipt();
    const [farewell, unsubscribed] = this.#receipt();
    const watching = this.#stomp
      .watch({
        destination,
        subHeaders: { ack, receipt },
        unsubHeaders: { receipt: farewell },
      })
      .subscribe((message) => {
        const { headers, ack, nack } = message;
        inbox.put({ headers, body: Buffer.from(message.binaryBody), ack, nack });
      });
    await subscribed;
    return {
      inbox,
      unsubscribe: () => {
        watching.unsubscribe();
        return unsubscribed;
      },
    };
  }

  #publish(destination, body, headers) {
    const content = typeof body === 'string' ? { body } : { binaryBody: body };
    this.#stomp.publish({ destination, headers, ...content });
  }

  send(destination, body) {
    const [receipt, sent] = this.#receipt();
    this.#publish(destination, body, { receipt });
    return sent;
  }

  // RxStomp has no transactions of its own; it lends the client under it.
  begin() {
    const transaction = this.#stomp.stompClient.begin();
    return {
      ...transaction,
      send: (destination, body) =>
        this.#publish(destination, body, { transaction: transaction.id }),
    };
  }

  async disconnect() {
    const receipt = new Promise((resolve) => {
      this.#stomp.stompClient.onDisconnect = resolve;
    });
    await Promise.all([receipt, this.#stomp.deactivate()]);
  }
}

await run(Client);
