// The module alone, in a page of the tests.
import * as gatefold from '/gatefold.js';

const session = new gatefold.AuthSession(globalThis.given?.options);
const client = new gatefold.RealtimeClient(session);
const events = [];
for (const name of ['login', 'token', 'retry', 'sessionexpired']) session.on(name, detail => events.push([name, detail]));
for (const name of ['state', 'connected', 'disconnected', 'reauthenticated', 'error']) {
  client.on(name, detail => events.push([name, detail]));
}
Object.assign(globalThis, { gatefold, events, client, session });
