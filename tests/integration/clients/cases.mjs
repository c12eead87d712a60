// What every client has to do, for clients that are all called in one way:
//
//     client = new Client({ heartbeat })          0, or the milliseconds of both directions
//     await client.connect()                      with a fresh ticket, whenever it does
//     await client.reconnected()                  it has done so by itself
//     await client.subscribe(destination, ack)    -> { inbox, unsubscribe() }
//     await client.send(destination, body)        a string or a Uint8Array; the receipt is there
//     client.begin()                              -> { id, send(destination, body), commit(),
//                                                      abort() }
//     await client.disconnect()                   the receipt is there
//     client.closes                               an Inbox of the sockets' close codes
//
// An inbox has messages { headers, body, ack(headers), nack(headers) }, the body a Buffer.

import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';

import { step } from './harness.mjs';

const TOPIC = `/topic/${process.env.NAME}`;
const QUEUE = `/queue/${process.env.NAME}`;

async function connected(Client, options = {}) {
  step('connect');
  const client = new Client(options);
  await client.connect();
  return client;
}

async function taken(subscription, count) {
  const messages = [];
  while (messages.length < count) messages.push(await subscription.inbox.take());
  return messages;
}

const texts = (messages) => messages.map((message) => message.body.toString());

/** Wait until the server has done all that was asked for; what it had to deliver is here then. */
async function settle(client) {
  await client.send('/topic/nobody', 'settle');
}

export async function receipts(Client) {
  const client = await connected(Client);
  step('subscribe');
  const subscription = await client.subscribe(TOPIC, 'auto');
  step('send');
  await client.send(TOPIC, 'grüße');
  assert.deepEqual(texts(await taken(subscription, 1)), ['grüße']);
  step('unsubscribe');
  await subscription.unsubscribe();
  await client.send(TOPIC, 'to nobody');
  assert(subscription.inbox.isEmpty);
  step('disconnect');
  await client.disconnect();
  assert.equal(await client.closes.take(), 1000);
}

export async function cumulative(Client) {
  const client = await connected(Client);
  for (const text of ['1', '2', '3']) await client.send(QUEUE, text);
  step('ack the second of three, and with it the first');
  let subscription = await client.subscribe(QUEUE, 'client');
  let messages = await taken(subscription, 3);
  assert.deepEqual(texts(messages), ['1', '2', '3']);
  messages[1].ack();
  await subscription.unsubscribe();
  step('get the third again');
  subscription = await client.subscribe(QUEUE, 'client');
  messages = await taken(subscription, 1);
  assert.deepEqual(texts(messages), ['3']);
  assert.equal(messages[0].headers.redelivered, 'true');
  step('nack the fourth, and with it the third');
  await client.send(QUEUE, '4');
  messages = await taken(subscription, 1);
  messages[0].nack();
  messages = await taken(subscription, 2);
  assert.deepEqual(texts(messages), ['3', '4']);
  messages[1].ack();
  await settle(client);
  assert(subscription.inbox.isEmpty);
  await client.disconnect();
}

export async function individual(Client) {
  const client = await connected(Client);
  for (const text of ['1', '2', '3']) await client.send(QUEUE, text);
  step('ack the second, nack the first');
  let subscription = await client.subscribe(QUEUE, 'client-individual');
  let messages = await taken(subscription, 3);
  messages[1].ack();
  messages[0].nack();
  const [again] = await taken(subscription, 1);
  assert.equal(again.body.toString(), '1');
  assert.equal(again.headers.redelivered, 'true');
  assert.equal(again.headers['delivery-count'], '2');
  again.ack();
  await subscription.unsubscribe();
  step('get the third again');
  subscription = await client.subscribe(QUEUE, 'client-individual');
  messages = await taken(subscription, 1);
  assert.deepEqual(texts(messages), ['3']);
  messages[0].ack();
  await settle(client);
  assert(subscription.inbox.isEmpty);
  await client.disconnect();
}

export async function transactions(Client) {
  const client = await connected(Client);
  const subscription = await client.subscribe(QUEUE, 'auto');
  step('commit');
  const committed = client.begin();
  committed.send(QUEUE, '1');
  committed.send(QUEUE, '2');
  await settle(client);
  assert(subscription.inbox.isEmpty);
  committed.commit();
  assert.deepEqual(texts(await taken(subscription, 2)), ['1', '2']);
  step('abort');
  const aborted = client.begin();
  aborted.send(QUEUE, '3');
  aborted.abort();
  await settle(client);
  assert(subscription.inbox.isEmpty);
  await client.disconnect();
}

export async function transactedAcks(Client) {
  const client = await connected(Client);
  for (const text of ['1', '2']) await client.send(QUEUE, text);
  step('ack one message and commit, ack another and abort');
  let subscription = await client.subscribe(QUEUE, 'client-individual');
  let messages = await taken(subscription, 2);
  const committed = client.begin();
  const aborted = client.begin();
  messages[0].ack({ transaction: committed.id });
  messages[1].ack({ transaction: aborted.id });
  committed.commit();
  aborted.abort();
  await subscription.unsubscribe();
  step('get the other again');
  subscription = await client.subscribe(QUEUE, 'client-individual');
  messages = await taken(subscription, 1);
  assert.deepEqual(texts(messages), ['2']);
  messages[0].ack();
  await settle(client);
  assert(subscription.inbox.isEmpty);
  await client.disconnect();
}

export async function binary(Client) {
  const client = await connected(Client);
  const subscription = await client.subscribe(TOPIC, 'auto');
  step('send all octets');
  const octets = Uint8Array.from({ length: 256 }, (_, i) => i);
  await client.send(TOPIC, octets);
  const [message] = await taken(subscription, 1);
  assert(message.body.equals(octets));
  await client.disconnect();
}

export async function large(Client) {
  const client = await connected(Client);
  const subscription = await client.subscribe(TOPIC, 'auto');
  step('send 1 MiB');
  const text = '0123456789abcde\n'.repeat(65536);
  await client.send(TOPIC, text);
  const [message] = await taken(subscription, 1);
  assert.equal(message.body.length, 1 << 20);
  assert(message.body.equals(Buffer.from(text)));
  await client.disconnect();
}

export async function heartbeats(Client) {
  const client = await connected(Client, { heartbeat: 1000 });
  const subscription = await client.subscribe(TOPIC, 'auto');
  step('be idle for longer than either side puts up with silence');
  await sleep(3000);
  await client.send(TOPIC, 'alive');
  assert.deepEqual(texts(await taken(subscription, 1)), ['alive']);
  assert(client.closes.isEmpty);
  await client.disconnect();
}

/** The first of the tokens ends within seconds, and with it the session. */
export async function reconnects(Client) {
  const client = await connected(Client);
  const subscription = await client.subscribe(TOPIC, 'auto');
  await client.send(TOPIC, 'before');
  step('be dropped');
  assert.equal(await client.closes.take(), 4401);
  step('come back with another ticket');
  await client.reconnected();
  await client.send(TOPIC, 'after');
  assert.deepEqual(texts(await taken(subscription, 2)), ['before', 'after']);
  await client.disconnect();
}
