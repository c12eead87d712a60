// Three things that the server must refuse, tried beside the chat's own connection.

import { fetchTicket } from "./connection.js";

const SUBPROTOCOLS = ["v12.stomp"];

/**
 * Try the handshake, and tell what a page is told of its end. A browser keeps the HTTP status of a
 * failed handshake to itself; the close code 1006 is all there is.
 */
function handshake(url) {
  return new Promise((resolve) => {
    const socket = new WebSocket(url, SUBPROTOCOLS);
    socket.onopen = () => {
      socket.close();
      resolve({ accepted: true });
    };
    socket.onclose = ({ code }) => resolve({ accepted: false, close: code });
  });
}

/** Open a second socket with a ticket that has opened one already. */
export function usedTicket({ webSocketURL, ticket }) {
  return handshake(`${webSocketURL}?ticket=${ticket}`);
}

/** Open a socket without any ticket. */
export function noTicket({ webSocketURL }) {
  return handshake(webSocketURL);
}

/** Open a socket with a ticket of our own, then CONNECT with the token of somebody else. */
export async function foreignToken({ ticketURL, webSocketURL, token, otherToken }) {
  const { ticket } = await fetchTicket(ticketURL, token);
  return new Promise((resolve) => {
    let code;
    const client = new StompJs.Client({
      brokerURL: `${webSocketURL}?ticket=${ticket}`,
      connectHeaders: { Authorization: `Bearer ${otherToken}` },
      reconnectDelay: 0,
      onConnect() {
        client.deactivate();
        resolve({ accepted: true });
      },
      onStompError(frame) {
        code = frame.headers.code;
      },
      onWebSocketClose(event) {
        client.deactivate();
        resolve({ accepted: false, close: event.code, code });
      },
    });
    client.activate();
  });
}
