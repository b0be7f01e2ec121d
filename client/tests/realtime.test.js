/** The socket: rooms, presence and typing, which are right again after whatever breaks. */
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { draws, eventually, hasState, heard, openTab, signedIn, userOf } from './harness/browser.js';
import { layCable } from './harness/cable.js';
import { PASSWORD, addUser, logIn } from './harness/cluster.js';
import { browser, cluster, setUp } from './harness/setup.js';

setUp();

let rooms = 0;

/** Somebody with a browser of their own, in a room; the tab has `room`, and all that it hears of it in `said`. */
async function member(t, name, { url = cluster.url, user } = {}) {
  const context = await browser.newContext();
  t.after(() => context.close());
  user ??= await addUser(cluster, 'member');
  const page = await signedIn(context, url, user.username);
  await page.evaluate(() => client.connect());
  if (name) await enter(page, name);
  return { context, page, user };
}

async function enter(page, name) {
  await page.evaluate(async name => {
    globalThis.said = [];
    globalThis.room = await client.join(name);
    for (const what of ['message', 'presence', 'joined', 'away', 'left']) room.on(what, detail => said.push([what, detail]));
  }, name);
}

const newRoom = () => `room:${process.pid}.${++rooms}`;
const texts = page => page.evaluate(() => said.filter(([what]) => what === 'message').map(([, { data }]) => data));
const presence = page => page.evaluate(() => said.filter(([what]) => what === 'presence')
  .map(([, { event, user }]) => `${event} ${user.username}`));
const here = page => page.evaluate(() => [...room.users.values()].map(({ username }) => username).sort());
const typing = page => page.evaluate(() => [...room.typists.values()].map(({ username }) => username));
const publish = (page, data) => page.evaluate(data => room.publish(data), data);
const has = (page, count) => page.waitForFunction(count => said.filter(([what]) => what === 'message').length >= count, count);

test('the token is in a subprotocol, and never in the URL', async t => {
  const context = await browser.newContext();
  t.after(() => context.close());
  const user = await addUser(cluster);
  const page = await signedIn(context, cluster.url, user.username);
  const opened = page.waitForEvent('websocket');
  await page.evaluate(() => client.connect());
  assert.equal((await opened).url(), `${cluster.url.replace('http', 'ws')}/ws`);
  await hasState(page, 'open');
  const { timestamp, latency } = await page.evaluate(() => client.ping());
  assert.ok(Math.abs(timestamp - Date.now()) < 5_000 && latency < 5_000);
  const [{ username, replica }] = await heard(page, 'connected');
  assert.equal(username, user.username);
  assert.match(replica, /^[0-9a-f-]{36}$/);
});

test('a message reaches everybody in the room once, its author too', async t => {
  const name = newRoom();
  const [one, other] = [await member(t, name), await member(t, name)];
  for (const data of ['a', { b: [1] }, null]) await publish(one.page, data);
  for (const { page } of [one, other]) {
    await has(page, 3);
    assert.deepEqual(await texts(page), ['a', { b: [1] }, null]);
  }
});

test('who is here is a set that lives, and two tabs are one user', async t => {
  const name = newRoom();
  const [one, other] = [await member(t, name), await member(t, name)];
  const both = [one.user.username, other.user.username].sort();
  await one.page.waitForFunction(() => room.users.size === 2);
  assert.deepEqual(await here(one.page), both);
  assert.deepEqual(await here(other.page), both);
  const tab = await openTab(other.context, cluster.url);
  await tab.evaluate(() => client.connect());
  await enter(tab, name);
  await other.page.evaluate(() => room.leave());
  await publish(tab, 'still here');
  await has(one.page, 1);
  assert.deepEqual(await presence(one.page), [`join ${other.user.username}`]);
  await tab.evaluate(() => room.leave());
  await one.page.waitForFunction(() => room.users.size === 1);
  assert.deepEqual(await presence(one.page), [`join ${other.user.username}`, `leave ${other.user.username}`]);
  assert.equal(await one.page.evaluate(() => room.count), 1);
  const { count } = await other.page.evaluate(name => client.presence(name), name);
  assert.equal(count, 1, 'and one may ask without being in it');
});

test('typing is told seldom, shown to others, and over after a pause or a message', async t => {
  const name = newRoom();
  const one = await member(t, name);
  const context = await browser.newContext();
  t.after(() => context.close());
  const user = await addUser(cluster);
  const page = await signedIn(context, cluster.url, user.username);
  const sent = [];
  page.on('websocket', socket => socket.on('framesent', ({ payload }) => payload.includes('"typing"') && sent.push(JSON.parse(payload).typing)));
  await page.evaluate(() => client.connect());
  await enter(page, name);

  await page.evaluate(() => {
    for (let key = 0; key < 50; key++) room.startTyping();
  });
  await one.page.waitForFunction(() => room.typists.size === 1);
  assert.deepEqual(await typing(one.page), [user.username]);
  assert.deepEqual(sent, [true]);
  await one.page.waitForFunction(() => room.typists.size === 0, undefined, { timeout: 5_500 });
  assert.deepEqual(sent, [true, false], 'stopped by the client, before the server would have done it');

  await page.evaluate(() => room.startTyping());
  await one.page.waitForFunction(() => room.typists.size === 1);
  await publish(page, 'done');
  await one.page.waitForFunction(() => room.typists.size === 0);
  assert.deepEqual(sent, [true, false, true], 'a message says that it is over');
});

test('what was missed while the network was away comes once and in order, and nobody saw us leave', async t => {
  const name = newRoom();
  const cable = await layCable(cluster.port);
  t.after(() => cable.close());
  const other = await member(t, name);
  const one = await member(t, name, { url: cable.url });
  await publish(other.page, 1);
  await has(one.page, 1);
  for (let round = 0; round < 3; round++) {
    cable.cut();
    await one.page.waitForFunction(() => !room.joined);
    await publish(other.page, 2 + 2 * round);
    await publish(other.page, 3 + 2 * round);
    cable.restore();
    await has(one.page, 3 + 2 * round);
  }
  await publish(other.page, 8);
  await has(one.page, 8);
  assert.deepEqual(await texts(one.page), [1, 2, 3, 4, 5, 6, 7, 8]);
  assert.deepEqual(await presence(other.page), [`join ${one.user.username}`]);
  const joined = await one.page.evaluate(() => said.filter(([what]) => what === 'joined').map(([, { recovered }]) => recovered));
  assert.deepEqual(joined, [true, true, true, true]);
});

test('who came and who went while the network was away is told on return', async t => {
  const name = newRoom();
  const cable = await layCable(cluster.port);
  t.after(() => cable.close());
  const [one, stays, goes] = [await member(t, name, { url: cable.url }), await member(t, name), await member(t, name)];
  await one.page.waitForFunction(() => room.users.size === 3);
  cable.cut();
  await one.page.waitForFunction(() => !room.joined);
  await goes.page.evaluate(() => room.leave());
  const comes = await member(t, name);
  assert.deepEqual(await presence(one.page), [`join ${stays.user.username}`, `join ${goes.user.username}`]);
  await one.page.evaluate(() => (globalThis.said = []));
  cable.restore();
  await one.page.waitForFunction(() => room.joined);
  assert.deepEqual(await presence(one.page), [`leave ${goes.user.username}`, `join ${comes.user.username}`]);
  assert.deepEqual(await here(one.page), [one, stays, comes].map(({ user }) => user.username).sort());
  assert.equal(await one.page.evaluate(() => room.count), 3);
});

test('who is put out of a room is out of it, and does not come back by themselves', async t => {
  const name = `private:${newRoom()}`;
  const user = await addUser(cluster, 'guest');
  await cluster.admin('room', 'grant', user.username, name);
  const context = await browser.newContext();
  t.after(() => context.close());
  const cable = await layCable(cluster.port);
  t.after(() => cable.close());
  const page = await signedIn(context, cable.url, user.username);
  const joins = [];
  page.on('websocket', socket => socket.on('framesent', ({ payload }) => payload.includes('"join"') && joins.push(JSON.parse(payload).room)));
  await page.evaluate(() => client.connect());
  await enter(page, name);
  await page.evaluate(name => client.join(name).then(() => {}), 'another');
  await cluster.admin('room', 'revoke', user.username, name);
  await page.waitForFunction(() => said.some(([what]) => what === 'left'));
  assert.deepEqual(await page.evaluate(() => said.at(-1)), ['left', { reason: 'revoked' }]);
  assert.deepEqual(await page.evaluate(() => [room.joined, room.users.size, client.rooms.map(({ name }) => name)]), [false, 0, ['another']]);
  cable.cut();
  await page.waitForFunction(() => client.state !== 'open');
  cable.restore();
  await page.waitForFunction(() => client.rooms[0].joined);
  assert.deepEqual(joins, [name, 'another', 'another']);
  assert.equal(await page.evaluate(name => client.join(name).catch(({ code }) => code), name), 'forbidden_room');
  assert.equal(await userOf(page), user.username);
});

test('what was missed before a room was entered is said to who listens as soon as the promise resolves', async t => {
  const name = newRoom();
  const other = await member(t, name);
  const { id } = await publish(other.page, 'seen');
  for (const data of ['missed', 'too']) await publish(other.page, data);
  const { page } = await member(t);
  const heardAtOnce = await page.evaluate(async ([name, since]) => {
    const said = [];
    // As an application that has a function of its own around it.
    const enter = async () => client.join(name, { since });
    const wrapped = async () => ({ room: await enter() });
    const { room } = await wrapped();
    globalThis.room = room;
    const known = [...room.users.keys()].includes(session.user.id);
    for (const what of ['joined', 'message', 'users']) room.on(what, detail => said.push([what, detail.data ?? detail.recovered ?? detail.size]));
    await new Promise(resolve => room.on('message', ({ data }) => data === 'too' && resolve()));
    await new Promise(resolve => setTimeout(resolve));
    return { known, said };
  }, [name, id]);
  assert.deepEqual(heardAtOnce, { known: true, said: [['joined', true], ['message', 'missed'], ['message', 'too'], ['users', 2]] });
  await page.evaluate(() => {
    globalThis.said = [];
    room.on('message', detail => said.push(['message', detail]));
  });
  await publish(other.page, 'live');
  await has(page, 1);
  assert.deepEqual(await texts(page), ['live']);
});

for (const kind of ['open', 'private']) {
  test(`the first message of a silent ${kind} room is not missed, and nothing is when there was none`, async t => {
    const name = `${kind === 'open' ? '' : 'private:'}${newRoom()}`;
    const cable = await layCable(cluster.port);
    t.after(() => cable.close());
    const users = [await addUser(cluster, 'silent'), await addUser(cluster, 'silent')];
    if (kind === 'private') for (const { username } of users) await cluster.admin('room', 'grant', username, name);
    const one = await member(t, name, { url: cable.url, user: users[0] });
    const comesBack = async meanwhile => {
      cable.cut();
      await one.page.waitForFunction(() => !room.joined);
      await meanwhile();
      cable.restore();
      await one.page.waitForFunction(() => room.joined);
    };
    await comesBack(() => {});
    const other = await member(t, name, { user: users[1] });
    await comesBack(() => {});
    for (const data of ['first', 'second']) await comesBack(() => publish(other.page, data));
    await has(one.page, 2);
    assert.deepEqual(await texts(one.page), ['first', 'second']);
    const joined = await one.page.evaluate(() => said.filter(([what]) => what === 'joined').map(([, { recovered }]) => recovered));
    assert.deepEqual(joined, [true, true, true, true, true]);
  });
}

test('offline and online again: it comes back at once, whatever the back-off was', async t => {
  const cable = await layCable(cluster.port);
  t.after(() => cable.close());
  const { context, page } = await member(t, newRoom(), { url: cable.url });
  await draws(page, 7_200); // a back-off of an hour, which only its listening ends
  await context.setOffline(true);
  cable.cut();
  await hasState(page, 'waiting');
  cable.restore();
  await context.setOffline(false);
  await page.waitForFunction(() => room.joined);
  assert.deepEqual((await heard(page, 'state')).filter(({ state }) => state === 'waiting'), [{ state: 'waiting', delay: 3_600_000 }]);
});

test('a connection that is dead without a word is found out when the network is said to be back', async t => {
  const cable = await layCable(cluster.port);
  t.after(() => cable.close());
  const { page } = await member(t, newRoom(), { url: cable.url });
  cable.stall();
  await page.evaluate(() => dispatchEvent(new Event('online')));
  await page.waitForFunction(() => client.state !== 'open', undefined, { timeout: 8_000 });
  cable.restore();
  await page.waitForFunction(() => room.joined, undefined, { timeout: 30_000 });
});

test('a session that is ended from another browser closes the sockets of every tab, with the reason, once', async t => {
  const { context, page, user } = await member(t, newRoom());
  const tab = await openTab(context, cluster.url);
  await tab.evaluate(() => client.connect());
  await hasState(tab, 'open');
  const other = await logIn(cluster, user.username);
  const { sessions } = await (await other.rest('GET', '/api/sessions')).json();
  const id = await page.evaluate(() => session.id);
  assert.ok(sessions.some(session => session.id === id));
  assert.equal((await other.rest('DELETE', `/api/sessions/${id}`)).status, 204);
  for (const each of [page, tab]) {
    await hasState(each, 'closed');
    assert.deepEqual(await heard(each, 'sessionexpired'), [{ reason: 'ended_by_user' }]);
    assert.equal(await userOf(each), null);
  }
  assert.deepEqual(await page.evaluate(() => said.at(-1)), ['left', { reason: 'ended_by_user' }]);
});

test('logging out in one tab closes the sockets of all, and says so once in each', async t => {
  const { context, page } = await member(t, newRoom());
  const tab = await openTab(context, cluster.url);
  await tab.evaluate(() => client.connect());
  await hasState(tab, 'open');
  await tab.evaluate(() => session.logout());
  for (const each of [page, tab]) {
    await hasState(each, 'closed');
    assert.deepEqual(await heard(each, 'sessionexpired'), [{ reason: 'logout' }]);
  }
});

test('when somebody else logs in in another tab, the socket becomes theirs', async t => {
  const { context, page } = await member(t, newRoom());
  const next = await addUser(cluster, 'next');
  const tab = await openTab(context, cluster.url);
  await tab.evaluate(([name, password]) => session.login(name, password).then(() => {}), [next.username, PASSWORD]);
  await page.waitForFunction(name => client.state === 'open' && events.findLast(([event]) => event === 'connected')[1].username === name, next.username);
  await page.waitForFunction(() => room.joined);
  assert.ok((await here(page)).includes(next.username));
});

test('what the server will not have is an error with its code', async t => {
  const { page, user } = await member(t, newRoom());
  const codes = await page.evaluate(async () => {
    const code = promise => promise.then(() => 'none', error => error.code);
    return [
      await code(client.join('private:elsewhere')), await code(client.join('no room')),
      await code(room.publish('x'.repeat(20_000))), await code(client.join(`user:${session.user.id}`)),
      client.rooms.length,
    ];
  });
  assert.deepEqual(codes, ['forbidden_room', 'invalid_room', 'message_too_big', 'none', 2]);
  assert.equal(await userOf(page), user.username);
});

/** Waits until all are in their room again, through another replica than before if one is given. Returns that replica. */
function together(members, before) {
  return eventually(async () => {
    const all = await Promise.all(members.map(({ page }) => page.evaluate(() =>
      room.joined && events.findLast(([name]) => name === 'connected')[1].replica)));
    return all.every(replica => replica && replica === all[0] && replica !== before) && all[0];
  }, 'all are at the replica that is left');
}

const departures = async members => (await Promise.all(members.map(({ page }) => presence(page)))).flat().filter(event => event.startsWith('leave'));

test('a replica that is killed under its sockets is replaced by another one, and nobody sees us leave', async t => {
  const name = newRoom();
  const members = [];
  while (members.length < 4) members.push(await member(t, name));
  let replica;
  for (const victim of ['ws-1', 'ws-2']) {
    await cluster.kill(victim);
    replica = await together(members, replica);
    await publish(members[0].page, victim);
    await cluster.restart(victim);
  }
  for (const { page } of members) {
    await has(page, 2);
    assert.deepEqual(await texts(page), ['ws-1', 'ws-2']);
  }
  assert.deepEqual(await departures(members), []);
});

test('a replica that goes away says so, and its sockets move on without anybody seeing it', async t => {
  const name = newRoom();
  const members = [];
  while (members.length < 4) members.push(await member(t, name));
  for (const replica of ['ws-1', 'ws-2']) await cluster.restart(replica);
  await together(members);
  const closed = (await Promise.all(members.map(({ page }) => heard(page, 'disconnected')))).flat();
  assert.ok(closed.length >= 4 && closed.every(({ code }) => code === 1012), JSON.stringify(closed));
  const waits = (await Promise.all(members.map(({ page }) => heard(page, 'state')))).flat().filter(({ state }) => state === 'waiting');
  assert.equal(waits[0].delay, 0, 'at once, since the server has chosen the moment');
  assert.deepEqual(await departures(members), []);
});

test('while Redis is away sockets stay, and who wants to enter gets in when it is back', async t => {
  const { page } = await member(t, newRoom());
  await cluster.kill('redis', 'STOP');
  const failed = await page.evaluate(() => room.publish('lost?').catch(error => error.code));
  assert.equal(failed, 'unavailable');
  const joining = page.evaluate(name => client.join(name).then(({ name }) => name), newRoom());
  await page.waitForFunction(() => client.ping().then(() => true));
  await cluster.kill('redis', 'CONT');
  assert.equal(await joining, `room:${process.pid}.${rooms}`);
  assert.deepEqual(await heard(page, 'disconnected'), []);
});
