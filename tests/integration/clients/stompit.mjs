// stompit, which speaks over any stream

import { Duplex } from 'node:stream';

import stompit from 'stompit';

import { Inbox, getTicket, nextToken, openSocket, run } from './harness.mjs';

const closes = new Inbox();

/** A WebSocket as a stream; what is written becomes a binary message. */
class SocketStream extends Duplex {
  #socket;
  bytesRead = 0;

  constructor(token, opened) {
    super();
    getTicket(token).then((ticket) => {
      this.#socket = openSocket(ticket);
      this.#socket.on('open', opened);
      this.#socket.on('error', (error) => this.destroy(error));
      this.#socket.on('close', (code) => {
        closes.put(code);
        this.push(null);
      });
      this.#socket.on('message', (data) => {
        this.bytesRead += data.length;
        this.push(data);
      });
    }, (error) => this.destroy(error));
  }

  _read() {}

  _write(chunk, encoding, callback) {
    this.#socket.send(chunk, { binary: true }, callback);
  }

  _final(callback) {
    this.#socket.close();
    callback();
  }

  _destroy(error, callback) {
    this.#socket?.close();
    callback(error);
  }
}

class Client {
  #heartbeat;
  #client;
  closes = closes;

  constructor({ heartbeat = 0 }) {
    this.#heartbeat = [heartbeat, heartbeat];
  }

  async connect() {
    const token = nextToken();
    const options = {
      heartbeat: this.#heartbeat,
      connect: (_, opened) => new SocketStream(token, opened),
      connectHeaders: { Authorization: `Bearer ${token}` },
    };
    this.#client = await new Promise((resolve, reject) => {
      stompit.connect(options, (error, client) => (error ? reject(error) : resolve(client)));
    });
  }

  // It asks for no receipt of a SUBSCRIBE; frames are handled in order, though.
  async subscribe(destination, ack) {
    const inbox = new Inbox();
    const subscription = this.#client.subscribe({ destination, ack }, async (error, message) => {
      if (error) throw error;
      const chunks = [];
      for await (const chunk of message) chunks.push(chunk);
      inbox.put({
        headers: message.headers,
        body: Buffer.concat(chunks),
        ack: (headers) => this.#client.ack(message, headers),
        nack: (headers) => this.#client.nack(message, headers),
      });
    });
    await this.send('/topic/nobody', 'settle');
    return {
      inbox,
      unsubscribe: () => {
        subscription.unsubscribe();
        return this.send('/topic/nobody', 'settle');
      },
    };
  }

  send(destination, body) {
    const headers = { destination, 'content-length': Buffer.byteLength(body) };
    return new Promise((onReceipt) => {
      this.#client.send(headers, { onReceipt }).end(Buffer.from(body));
    });
  }

  begin() {
    const transaction = this.#client.begin();
    return {
      id: transaction.id,
      send: (destination, body) => transaction.send({ destination }).end(body),
      commit: () => transaction.commit(),
      abort: () => transaction.abort(),
    };
  }

  disconnect() {
    return new Promise((resolve, reject) => {
      this.#client.disconnect((error) => (error ? reject(error) : resolve()));
    });
  }
}

await run(Client);
