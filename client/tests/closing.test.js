/** How a socket ends decides whether and when it comes back. The server's part is played here, the REST part is real. */
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { draws, eventually, hasState, heard, signedIn, userOf } from './harness/browser.js';
import { addUser } from './harness/cluster.js';
import { browser, cluster, setUp } from './harness/setup.js';

setUp();

const CONNECTED = JSON.stringify({ type: 'connected', payload: { userId: 1, username: 'a', expiresAt: 0, connectionId: '', replica: '' } });

/** A tab whose sockets are greeted and then served by `serve(socket, number)`; `chance` is what it draws, if that matters. */
async function tab(t, serve, chance) {
  const context = await browser.newContext();
  t.after(() => context.close());
  const user = await addUser(cluster);
  const page = await signedIn(context, cluster.url, user.username);
  if (chance !== undefined) await draws(page, chance);
  const sockets = [];
  await page.routeWebSocket('**/ws', socket => {
    sockets.push(socket);
    socket.send(CONNECTED);
    serve(socket, sockets.length);
  });
  await page.evaluate(() => client.connect());
  return { page, user, sockets };
}

const waits = async page => (await heard(page, 'state')).filter(({ state }) => state === 'waiting').map(({ delay }) => delay);
const ends = async page => (await heard(page, 'disconnected')).map(({ code, final }) => [code, final]);

for (const code of [4500, 4509, 4599, 4999, 1003, 1009]) {
  test(`after ${code} it does not come back`, async t => {
    const { page, user } = await tab(t, socket => socket.close({ code, reason: 'why' }));
    await hasState(page, 'closed');
    assert.deepEqual(await ends(page), [[code, true]]);
    assert.deepEqual(await waits(page), []);
    assert.equal(await userOf(page), user.username);
    assert.deepEqual(await heard(page, 'sessionexpired'), []);
  });
}

test('after 4503 the session is over', async t => {
  const { page } = await tab(t, socket => socket.close({ code: 4503, reason: 'evicted' }));
  await hasState(page, 'closed');
  assert.deepEqual(await heard(page, 'sessionexpired'), [{ reason: 'evicted' }]);
});

for (const code of [1000, 1001, 1011, 4408, 4499]) {
  test(`after ${code} it comes back, within half a second at first`, async t => {
    const { page } = await tab(t, (socket, number) => number === 1 && socket.close({ code, reason: '' }));
    await page.waitForFunction(() => events.filter(([name]) => name === 'connected').length === 2);
    const [delay] = await waits(page);
    assert.ok(delay >= 0 && delay <= 500, `${delay} ms`);
    assert.deepEqual(await ends(page), [[code, false]]);
  });
}

for (const code of [1013, 4429]) {
  test(`after ${code} it leaves the server more time`, async t => {
    const { page } = await tab(t, socket => socket.close({ code, reason: '' }), 0.99);
    await page.waitForFunction(() => events.some(([name, { state }]) => name === 'state' && state === 'waiting'));
    const [delay] = await waits(page);
    assert.equal(delay, 0.99 * 4_000);
  });
}

for (const chance of [0.01, 0.02]) {
  test(`it backs off further with every failure, at random below a ceiling: ${chance} of that`, async t => {
    const { page } = await tab(t, socket => socket.close({ code: 1011, reason: '' }), chance);
    await page.waitForFunction(() => events.filter(([name, { state }]) => name === 'state' && state === 'waiting').length >= 8);
    const delays = (await waits(page)).slice(0, 8);
    assert.deepEqual(delays, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 20_000, 20_000].map(ceiling => chance * ceiling));
  });
}

test('after 4401 it comes back with another token', async t => {
  const { page } = await tab(t, (socket, number) => number === 1 && socket.close({ code: 4401, reason: 'token_expired' }));
  const before = await page.evaluate(() => session.token());
  await page.waitForFunction(() => events.filter(([name]) => name === 'connected').length === 2);
  assert.notEqual(await page.evaluate(() => session.token()), before);
});

test('a replica that says when it goes is left then, even if it forgets to close the socket', async t => {
  const { page, sockets } = await tab(t, (socket, number) => number === 1 && socket.send('{"type":"reconnect","payload":{"after":300}}'));
  const began = performance.now();
  await page.waitForFunction(() => events.filter(([name]) => name === 'connected').length === 2);
  const took = performance.now() - began;
  assert.ok(took >= 250 && took < 3_000, `${took} ms`);
  assert.deepEqual(await ends(page), [[1012, false]]);
  assert.equal(sockets.length, 2);
});

test('a warning asks for the next token in the second half of a token\'s life only', async t => {
  const sent = [];
  const { page, sockets } = await tab(t, socket => socket.onMessage(data => {
    const { type, id } = JSON.parse(data);
    sent.push(type);
    if (type === 'reauth') socket.send(JSON.stringify({ type: 'reauth_success', payload: { expiresAt: 0 }, id }));
  }));
  await hasState(page, 'open');
  const warn = () => sockets[0].send('{"type":"token_expiring","payload":{"expiresAt":0}}');
  warn();
  await page.evaluate(() => session.fetch('/api/protected').then(({ status }) => status));
  assert.equal((await heard(page, 'token')).length, 1);
  await page.evaluate(() => (globalThis.shift += 8 * 60_000));
  warn();
  await page.waitForFunction(() => events.some(([name]) => name === 'reauthenticated'));
  assert.equal((await heard(page, 'token')).length, 2);
  assert.deepEqual(sent, ['reauth']);
  assert.deepEqual(await ends(page), []);
});

test('a token that the socket did not get is given to it again', async t => {
  const given = [];
  const { page } = await tab(t, socket => socket.onMessage(data => {
    const { type, id, access } = JSON.parse(data);
    if (type !== 'reauth') return;
    given.push(access);
    const answer = given.length < 3 ? { type: 'error', payload: { code: 'unavailable', message: 'Not now', requireReauth: false } }
      : { type: 'reauth_success', payload: { expiresAt: 0 } };
    socket.send(JSON.stringify({ ...answer, id }));
  }), 0);
  await hasState(page, 'open');
  await page.evaluate(() => {
    const { setTimeout } = globalThis;
    globalThis.delays = [];
    globalThis.setTimeout = (act, ms) => (delays.push(ms), setTimeout(act, ms));
  });
  const value = await page.evaluate(() => session.refresh().then(() => session.token()));
  await page.waitForFunction(() => events.some(([name]) => name === 'reauthenticated'));
  assert.deepEqual(given, [value, value, value]);
  assert.deepEqual((await page.evaluate(() => delays.filter(ms => ms === 1_000))), [1_000, 1_000], 'not at once');
  assert.equal((await heard(page, 'error')).length, 2);
  assert.deepEqual(await ends(page), []);
});

/** What a server says of a room. */
const message = id => ({ room: 'r', id, user: { id: 2, username: 'b' }, data: id, timestamp: 1 });
const people = (...names) => names.map(username => ({ id: username.charCodeAt(0), username }));
const joined = (more = {}) => ({ room: 'r', count: 1, users: [], typing: [], messages: [], recovered: true, last: '9-0', ...more });

test('a replica that has lost messages says how the room is now, and its members hear that as after a return', async t => {
  const asked = [];
  const { page, sockets } = await tab(t, socket => socket.onMessage(data => {
    const { type, id, room, since } = JSON.parse(data);
    if (type !== 'join') return;
    asked.push([room, since]);
    // Unasked, about a room that is just being entered: its answer is what counts.
    const lost = { type: 'joined', payload: joined({ room, users: people('x'), recovered: false, last: '1-0' }) };
    socket.send(JSON.stringify(lost));
    socket.send(JSON.stringify({ type: 'joined', payload: joined({ room, count: 2, users: people('a', 'b'), typing: people('b') }), id }));
  }));
  const unasked = more => sockets.at(-1).send(JSON.stringify({ type: 'joined', payload: joined({ recovered: false, last: '20-0', ...more }) }));
  await page.evaluate(async () => {
    globalThis.said = [];
    globalThis.room = await client.join('r');
    const names = users => [...users.values()].map(({ username }) => username).join();
    room.on('joined', ({ recovered }) => said.push(`joined ${recovered}`));
    room.on('presence', ({ event, user }) => said.push(`${event} ${user.username}`));
    room.on('users', users => said.push(`users ${names(users)}`));
    room.on('typing', users => said.push(`typing ${names(users)}`));
    for (const what of ['away', 'left']) room.on(what, () => said.push(what));
    await new Promise(resolve => room.on('typing', resolve));
  });
  assert.deepEqual(await page.evaluate(() => said.splice(0)), ['joined true', 'users a,b', 'typing b']);
  unasked({ count: 2, users: people('a', 'c'), typing: people('c') });
  await page.waitForFunction(() => said.includes('typing c'));
  assert.deepEqual(await page.evaluate(() => said.splice(0)), ['joined false', 'leave b', 'join c', 'users a,c', 'typing c']);
  assert.deepEqual(await page.evaluate(() => [room.joined, room.count, room.last]), [true, 2, '20-0']);
  unasked({ room: 'elsewhere' });
  sockets.at(-1).close({ code: 1000, reason: '' });
  await page.waitForFunction(() => said.filter(what => what.startsWith('joined')).length === 1);
  assert.deepEqual(asked, [['r', undefined], ['r', '20-0']]);
  assert.deepEqual(await page.evaluate(() => client.rooms.map(({ name }) => name)), ['r']);
});

test('messages that come twice are said once, as long as they are among the last 500', async t => {
  const said = [];
  const { page, sockets } = await tab(t, socket => socket.onMessage(data => {
    const { type, id } = JSON.parse(data);
    if (type === 'join') socket.send(JSON.stringify({ type: 'joined', payload: joined(), id }));
  }));
  await page.exposeFunction('say', data => said.push(data));
  await page.evaluate(async () => (await client.join('r')).on('message', ({ data }) => say(data)));
  const all = Array.from({ length: 501 }, (_, number) => `${number + 1}-0`);
  for (const id of [...all, '2-0', '501-0', '1-0']) sockets[0].send(JSON.stringify({ type: 'message', payload: message(id) }));
  await eventually(() => said.length >= 502, 'all were said');
  assert.deepEqual(said, [...all, '1-0']);
});

test('messages that come twice are said once', async t => {
  const { page } = await tab(t, socket => socket.onMessage(data => {
    const { type, id } = JSON.parse(data);
    if (type !== 'join') return;
    const payload = joined({ messages: [message('1-0'), message('2-0')], last: '2-0' });
    socket.send(JSON.stringify({ type: 'joined', payload, id }));
    for (const each of ['2-0', '3-0', '3-0', '1-0', '4-0']) socket.send(JSON.stringify({ type: 'message', payload: message(each) }));
  }));
  const said = await page.evaluate(async () => {
    const said = [];
    const room = await client.join('r');
    room.on('message', ({ data }) => said.push(data));
    await new Promise(resolve => room.on('message', ({ id }) => id === '4-0' && resolve()));
    return said;
  });
  assert.deepEqual(said, ['1-0', '2-0', '3-0', '4-0']);
});

test('what was missed for good is said once, not at every return', async t => {
  const asked = [];
  const { page, sockets } = await tab(t, (socket, number) => socket.onMessage(data => {
    const { type, id, since } = JSON.parse(data);
    if (type !== 'join') return;
    asked.push(since);
    // The room was forgotten while they were away for the first time, and there is nothing new in it.
    const [last, recovered] = number === 1 ? ['9-0', true] : ['5-0', since === '5-0'];
    socket.send(JSON.stringify({ type: 'joined', payload: joined({ recovered, last }), id }));
  }));
  await page.evaluate(async () => {
    globalThis.joined = [];
    (await client.join('r')).on('joined', ({ recovered }) => joined.push(recovered));
  });
  for (let times = 1; times <= 3; times++) {
    await page.waitForFunction(times => joined.length === times, times);
    if (times < 3) sockets.at(-1).close({ code: 1000, reason: '' });
  }
  assert.deepEqual(asked, [undefined, '9-0', '5-0']);
  assert.deepEqual(await page.evaluate(() => joined), [true, false, true]);
});

for (const how of ['disconnect', 'close']) {
  test(`${how} forgets the rooms, also before there was a connection`, async t => {
    const { page } = await tab(t, socket => socket.onMessage(data => {
      const { type, id } = JSON.parse(data);
      if (type === 'join') socket.send(JSON.stringify({ type: 'joined', payload: joined(), id }));
    }));
    await hasState(page, 'open');
    const heardOf = await page.evaluate(async how => {
      const [session, left] = [globalThis.session, []];
      const never = new Promise(resolve => setTimeout(resolve, 2_000, 'never'));
      const code = promise => Promise.race([promise.then(() => 'none', error => error.code), never]);
      const other = new gatefold.RealtimeClient(session);
      other.on('disconnected', () => left.push('disconnected'));
      const pending = code(other.join('r'));
      other[how]();
      const room = await client.join('r');
      room.on('left', ({ reason }) => left.push(reason));
      client.on('disconnected', () => client.connect());
      client[how]();
      await new Promise(resolve => setTimeout(resolve)); // what a room says first is said in the next turn
      return { pending: await pending, other: other.rooms.length, left, rooms: client.rooms.length, again: await code(client.join('r')) };
    }, how);
    const again = how === 'close' ? 'disconnected' : 'none';
    assert.deepEqual(heardOf, { pending: 'disconnected', other: 0, left: ['disconnected'], rooms: 0, again });
    assert.equal(await page.evaluate(() => client.state), how === 'close' ? 'closed' : 'open');
    assert.deepEqual(await ends(page), [[1000, true]]);
  });
}
