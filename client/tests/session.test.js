/** The session: staying logged in whatever breaks, one refresh for all tabs, one end for all tabs. */
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { CHROMIUM, draws, eventually, heard, openTab, sessionCookies, signedIn, stored, userOf } from './harness/browser.js';
import { layCable } from './harness/cable.js';
import { PASSWORD, addUser, logIn } from './harness/cluster.js';
import { browser, cluster, setUp } from './harness/setup.js';

setUp();

/** A browser of its own for each test. */
async function person(t, name) {
  const context = await browser.newContext();
  t.after(() => context.close());
  return { context, user: await addUser(cluster, name) };
}

const refresh = page => page.evaluate(() => session.refresh());
const turns = async () => (await cluster.requests('/api/refresh')).length;

test('registering opens a session, which the next tab takes up without asking the server', async t => {
  const { context } = await person(t);
  const first = await openTab(context, cluster.url);
  assert.equal(await userOf(first), null);
  const username = `new.${Date.now()}`;
  await first.evaluate(([name, password]) => session.register(name, password), [username, PASSWORD]);
  const before = await turns();
  const second = await openTab(context, cluster.url);
  assert.equal(await userOf(second), username);
  assert.equal(await turns(), before);
});

test('a wrong password is an error with the code of the contract, and no session', async t => {
  const { context, user } = await person(t);
  const page = await openTab(context, cluster.url);
  const failed = await page.evaluate(
    name => session.login(name, 'wrong').catch(error => ({ ...error, is: error instanceof gatefold.GatefoldError })), user.username);
  assert.deepEqual([failed.is, failed.code, failed.status], [true, 'invalid_credentials', 401]);
  assert.equal(await userOf(page), null);
});

test('the access token is nowhere but in memory', async t => {
  const { context, user } = await person(t);
  const page = await signedIn(context, cluster.url, user.username);
  await refresh(page);
  const token = await page.evaluate(() => session.token());
  const kept = await stored(page);
  assert.match(kept, /"turn":2/, 'the notes were read');
  assert.ok(!kept.includes(token.split('.')[2]));
});

test('`fetch` sends the token to our own origin only', async t => {
  const { user } = await person(t);
  const cable = await layCable(cluster.port);
  const context = await browser.newContext({ bypassCSP: true });
  t.after(() => Promise.all([context.close(), cable.close()]));
  const page = await signedIn(context, cluster.url, user.username);
  const sent = [];
  page.on('request', request => sent.push([request.url(), request.headers().authorization]));
  const body = await page.evaluate(async () => (await session.fetch('/api/protected')).json());
  assert.equal(body.user.username, user.username);
  await page.evaluate(url => session.fetch(`${url}/style.css`).catch(() => {}), cable.url);
  const [own, foreign] = sent;
  assert.match(own[1], /^Bearer /);
  assert.deepEqual(foreign, [`${cable.url}/style.css`, undefined]);
});

test('`fetch` refreshes a refused token and asks once more, with the body', async t => {
  const { context, user } = await person(t);
  const page = await signedIn(context, cluster.url, user.username);
  const asked = [];
  await page.route('**/api/ws-ticket', route => {
    asked.push([route.request().headers().authorization, route.request().postData()]);
    return asked.length > 1 ? route.continue() : route.fulfill({
      status: 401,
      headers: { 'WWW-Authenticate': 'Bearer error="invalid_token"' },
      json: { code: 'token_expired' },
    });
  });
  const status = await page.evaluate(async () => (await session.fetch('/api/ws-ticket', { method: 'POST', body: 'kept' })).status);
  assert.equal(status, 200);
  assert.equal(asked.length, 2);
  assert.notEqual(asked[0][0], asked[1][0]);
  assert.deepEqual([asked[0][1], asked[1][1]], ['kept', 'kept']);
});

test('a refusal that is not about the token is given back as it is', async t => {
  const { context, user } = await person(t);
  const page = await signedIn(context, cluster.url, user.username);
  const before = await turns();
  const status = await page.evaluate(async () => (await session.fetch('/api/password', {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ currentPassword: 'wrong', newPassword: 'another good password' }),
  })).status);
  assert.equal(status, 401);
  assert.equal(await turns(), before);
  assert.equal(await userOf(page), user.username);
});

for (const [what, bytes] of [['whole', 0], ['from the middle of its headers', 150], ['before the end of its body', 1100]]) {
  test(`an answer to a refresh that is lost ${what} logs nobody out`, async t => {
    const { context, user } = await person(t);
    const cable = await layCable(cluster.port);
    t.after(() => cable.close());
    const page = await signedIn(context, cable.url, user.username);
    const keys = [];
    page.on('request', request => request.url().endsWith('/api/refresh') && keys.push(request.headers()['idempotency-key']));
    const before = await turns();
    await refresh(page);
    const lost = cable.loseAnswer('POST /api/refresh', bytes);
    const failed = await page.evaluate(() => session.refresh().then(() => 'done', error => error.code));
    await lost;
    // Of an answer of which nothing came the browser itself asks again, with the same headers.
    assert.equal(failed, bytes ? 'network' : 'done');
    assert.equal((await turns()) - before, 2 + (bytes ? 0 : 1));
    await refresh(page);
    if (bytes) assert.equal(keys[1], keys[2], 'the same key until an answer came');
    else assert.notEqual(keys[1], keys[2]);
    await refresh(page);
    assert.equal(await userOf(page), user.username);
    assert.equal((await page.evaluate(() => session.fetch('/api/protected').then(({ status }) => status))), 200);
    assert.deepEqual(await heard(page, 'sessionexpired'), []);
  });
}

/** What can be wrong with a browser's storage, in its page. */
const BROKEN = {
  'IndexedDB fails': () => (IDBFactory.prototype.open = () => {
    throw new DOMException('No', 'SecurityError');
  }),
  'IndexedDB hangs': () => (IDBFactory.prototype.open = () => ({})),
  'IndexedDB hangs as soon as the answer is lost': () => {
    if (sessionStorage.isLost) IDBFactory.prototype.open = () => ({});
  },
  'localStorage is forbidden': () => Object.defineProperty(window, 'localStorage', {
    get() {
      throw new DOMException('No', 'SecurityError');
    },
  }),
};

for (const [what, broken] of Object.entries(BROKEN)) {
  test(`where ${what}, a lost answer and a reload log nobody out`, async t => {
    const { context, user } = await person(t);
    const cable = await layCable(cluster.port);
    t.after(() => cable.close());
    await context.addInitScript(broken);
    const page = await signedIn(context, cable.url, user.username);
    const keys = [];
    page.on('request', request => request.url().endsWith('/api/refresh') && keys.push(request.headers()['idempotency-key']));
    for (let turn = 1; turn <= 2; turn++) {
      await refresh(page);
      const lost = cable.loseAnswer('POST /api/refresh', 150);
      assert.equal(await page.evaluate(() => session.refresh().catch(error => error.code)), 'network');
      await lost;
      await page.evaluate(() => (sessionStorage.isLost = 'yes'));
      await page.reload();
      await page.waitForFunction(() => globalThis.session);
      await page.evaluate(() => session.resume());
      assert.equal(await userOf(page), user.username);
      assert.deepEqual(await heard(page, 'sessionexpired'), []);
      assert.equal(keys.at(-1), keys.at(-2), 'the key was kept');
    }
    await refresh(page);
    assert.equal(new Set(keys).size, 5, 'and each refresh has a key of its own');
  });
}

test('where nothing can be stored, a tab still repeats its own refreshes with their keys', async t => {
  const { context, user } = await person(t);
  const cable = await layCable(cluster.port);
  t.after(() => cable.close());
  for (const what of ['IndexedDB fails', 'localStorage is forbidden']) await context.addInitScript(BROKEN[what]);
  const page = await signedIn(context, cable.url, user.username);
  const other = await openTab(context, cable.url);
  await refresh(page);
  const lost = cable.loseAnswer('POST /api/refresh', 150);
  assert.equal(await page.evaluate(() => session.refresh().catch(error => error.code)), 'network');
  await lost;
  await refresh(page);
  await refresh(page);
  for (const tab of [page, other]) {
    assert.equal(await userOf(tab), user.username);
    assert.deepEqual(await heard(tab, 'sessionexpired'), []);
  }
});

test('a refresh that was given up and comes to the server long after logs nobody out', async t => {
  const { context, user } = await person(t);
  const cable = await layCable(cluster.port);
  t.after(() => cable.close());
  const page = await signedIn(context, cable.url, user.username, { options: { timeout: 1_500 } });
  const succeeds = () => eventually(() => page.evaluate(() => session.refresh().then(() => true, () => false)), 'a refresh');
  const held = cable.holdRequest('POST /api/refresh');
  assert.equal(await page.evaluate(() => session.refresh().catch(error => error.code)), 'network');
  const deliver = await held;
  for (let turn = 0; turn < 2; turn++) await succeeds();
  const answer = await deliver();
  assert.match(answer, /^HTTP\/1.1 409 .*"code":"refresh_superseded"/s);
  assert.doesNotMatch(answer, /set-cookie/i);
  await succeeds();
  assert.equal(await userOf(page), user.username);
  assert.deepEqual(await heard(page, 'sessionexpired'), []);
});

test('who is told that its refresh was overtaken asks once more, with a new key', async t => {
  const { context, user } = await person(t);
  const superseded = { status: 409, json: { code: 'refresh_superseded', detail: 'Answered before', requireReauth: false } };
  const keys = [];
  const overtake = (page, often) => page.route('**/api/refresh', route => {
    keys.push(route.request().headers()['idempotency-key']);
    return keys.length > often ? route.continue() : route.fulfill(superseded);
  });
  const page = await signedIn(context, cluster.url, user.username);
  await refresh(page);
  await overtake(page, 1);
  await refresh(page);
  assert.equal(new Set(keys).size, 2);
  keys.length = 0;
  await page.close();
  // So does a browser that has just started.
  const started = await openTab(context, cluster.url, { resume: false });
  await overtake(started, 1);
  await started.evaluate(() => session.resume());
  assert.equal(await userOf(started), user.username);
  assert.equal(new Set(keys).size, 2);
  keys.length = 0;
  await started.unroute('**/api/refresh');
  await overtake(started, 2);
  assert.equal(await started.evaluate(() => session.refresh().catch(error => error.code)), 'refresh_superseded', 'and not for ever');
  assert.equal(await userOf(started), user.username);
});

test('a tab that was passed over does not forget the key of the one that went on', async t => {
  const { context, user } = await person(t);
  const cable = await layCable(cluster.port);
  t.after(() => cable.close());
  const slow = await signedIn(context, cable.url, user.username);
  const other = await openTab(context, cable.url, { options: { lockTimeout: 300 } });
  const keys = [];
  other.on('request', request => request.url().endsWith('/api/refresh') && keys.push(request.headers()['idempotency-key']));
  const held = cable.holdAnswer('POST /api/refresh');
  const refreshing = slow.evaluate(() => session.refresh().then(() => 'refreshed', error => error.name));
  const letThrough = await held;
  await refresh(other);
  const lost = cable.loseAnswer('POST /api/refresh', 150);
  assert.equal(await other.evaluate(() => session.refresh().catch(error => error.code)), 'network');
  await lost;
  letThrough();
  assert.equal(await refreshing, 'refreshed', 'although the lock was taken away');
  await refresh(other);
  assert.equal(keys[1], keys[2], 'its answer is still unknown');
  await refresh(other);
  for (const page of [slow, other]) {
    assert.equal(await userOf(page), user.username);
    assert.deepEqual(await heard(page, 'sessionexpired'), []);
  }
});

for (const frozen of [false, true]) {
  test(`the answer to a tab that was passed over${frozen ? ', and hears of that last,' : ''} does not replace the newer one, in any tab`, async t => {
    const { context, user } = await person(t);
    const cable = await layCable(cluster.port);
    t.after(() => cable.close());
    // What the others say can be kept from a tab, as from one that is frozen, until it is let in.
    await context.addInitScript(() => {
      const { set } = Object.getOwnPropertyDescriptor(BroadcastChannel.prototype, 'onmessage');
      const late = [];
      Object.defineProperty(BroadcastChannel.prototype, 'onmessage', {
        set(listener) {
          set.call(this, event => (globalThis.isFrozen ? late.push(() => listener(event)) : listener(event)));
        },
      });
      globalThis.thaw = () => {
        globalThis.isFrozen = false;
        late.forEach(hear => hear());
      };
    });
    const slow = await signedIn(context, cable.url, user.username);
    const other = await openTab(context, cable.url, { options: { lockTimeout: 300 } });
    const third = await openTab(context, cable.url);
    await slow.evaluate(frozen => (globalThis.isFrozen = frozen), frozen);
    const held = cable.holdAnswer('POST /api/refresh');
    const refreshing = refresh(slow);
    const letThrough = await held;
    await refresh(other);
    const newest = await other.evaluate(() => session.token());
    // Whoever has heard of that has heard what was said before it.
    const listens = page => page.evaluate(() => {
      const channel = new BroadcastChannel('bench');
      globalThis.end = new Promise(resolve => channel.addEventListener('message', resolve));
    });
    for (const page of [other, third]) await listens(page);
    letThrough();
    await refreshing;
    await slow.evaluate(() => {
      globalThis.thaw();
      new BroadcastChannel('bench').postMessage('end');
    });
    for (const page of [other, third]) await page.evaluate(() => end.then(() => {}));
    for (const page of [slow, other, third]) assert.equal(await page.evaluate(() => session.token()), newest);
    const turn = await turns();
    await refresh(third);
    assert.equal(await turns() - turn, 1);
    const next = await third.evaluate(() => session.token());
    assert.notEqual(next, newest);
    for (const page of [slow, other]) await page.waitForFunction(next => session.token().then(token => token === next), next);
  });
}

test('each refresh whose answer came has a key of its own', async t => {
  const { context, user } = await person(t);
  const page = await signedIn(context, cluster.url, user.username);
  const keys = new Set();
  page.on('request', request => request.url().endsWith('/api/refresh') && keys.add(request.headers()['idempotency-key']));
  for (let turn = 0; turn < 3; turn++) await refresh(page);
  assert.equal(keys.size, 3);
});

for (const how of ['is closed', 'crashes']) {
  test(`a tab that ${how} in the middle of a refresh logs nobody out`, async t => {
    const { context, user } = await person(t);
    const cable = await layCable(cluster.port);
    t.after(() => cable.close());
    const other = await openTab(context, cable.url, { resume: false });
    const page = await signedIn(context, cable.url, user.username);
    await page.waitForFunction(() => session.user);
    const held = cable.holdAnswer('POST /api/refresh');
    page.evaluate(() => void session.refresh().catch(() => {}));
    await held;
    if (how === 'is closed') await page.close();
    else {
      const crashed = page.waitForEvent('crash');
      const devtools = await context.newCDPSession(page);
      devtools.send('Page.crash').catch(() => {});
      await crashed;
    }
    await refresh(other);
    await refresh(other);
    assert.equal(await userOf(other), user.username);
    assert.deepEqual(await heard(other, 'sessionexpired'), []);
  });
}

test('of two tabs that refresh at the same time one does, for both', async t => {
  const { context, user } = await person(t);
  const tabs = [await signedIn(context, cluster.url, user.username), await openTab(context, cluster.url)];
  const before = await turns();
  for (let turn = 1; turn <= 10; turn++) {
    await Promise.all(tabs.map(refresh));
    const tokens = await Promise.all(tabs.map(page => page.evaluate(() => session.token())));
    assert.equal(tokens[0], tokens[1]);
  }
  const made = await turns() - before;
  assert.ok(made >= 10 && made < 20, `${made} refreshes`);
});

test('a tab that hears of a refresh while it reads its notes does not refresh once more', async t => {
  const { context, user } = await person(t);
  const first = await signedIn(context, cluster.url, user.username, { options: { lockTimeout: 200 } });
  const reader = await openTab(context, cluster.url);
  // It holds the lock, and reads for so long that the first tab goes on without it.
  await reader.evaluate(() => {
    const heard = new Promise(resolve => session.on('token', resolve));
    const { transaction } = IDBDatabase.prototype;
    IDBDatabase.prototype.transaction = function (...given) {
      IDBDatabase.prototype.transaction = transaction;
      globalThis.isReading = true;
      const begun = transaction.apply(this, given);
      const set = complete => begun.addEventListener('complete', event => heard.then(() => complete(event)));
      return Object.defineProperty(begun, 'oncomplete', { set });
    };
  });
  const before = await turns();
  const reading = refresh(reader);
  await reader.waitForFunction(() => globalThis.isReading);
  await refresh(first);
  await reading;
  assert.equal(await turns() - before, 1, 'refreshes');
  const [one, other] = await Promise.all([first, reader].map(page => page.evaluate(() => session.token())));
  assert.equal(one, other);
});

test('where there are no locks, tabs that refresh at the same time take turns all the same', async t => {
  const { context, user } = await person(t);
  await context.addInitScript(() => Object.defineProperty(navigator, 'locks', { value: undefined }));
  const tabs = [await signedIn(context, cluster.url, user.username)];
  while (tabs.length < 4) tabs.push(await openTab(context, cluster.url));
  const before = await turns();
  for (let turn = 0; turn < 15; turn++) await Promise.all(tabs.map(refresh));
  const made = await turns() - before;
  assert.ok(made >= 15 && made < 4 * 15, `${made} refreshes`);
  for (const page of tabs) {
    assert.equal(await userOf(page), user.username);
    assert.deepEqual(await heard(page, 'sessionexpired'), []);
  }
});

test('a tab that hangs with the lock does not hang the others', async t => {
  const { context, user } = await person(t);
  const page = await signedIn(context, cluster.url, user.username, { options: { lockTimeout: 300 } });
  const hanging = await openTab(context, cluster.url);
  await hanging.evaluate(() => void navigator.locks.request(`gatefold ${location.origin}`, () => new Promise(() => {})).catch(() => {}));
  const took = await page.evaluate(async () => {
    const began = performance.now();
    await session.refresh();
    return performance.now() - began;
  });
  assert.ok(took >= 290 && took < 3_000, `${took} ms`);
  assert.equal(await userOf(hanging), user.username, 'and it has heard of the result');
});

test('logging out in one tab ends the session in all of them, once', async t => {
  const { context, user } = await person(t);
  const tabs = [await signedIn(context, cluster.url, user.username), await openTab(context, cluster.url)];
  await tabs[0].evaluate(() => session.logout());
  await tabs[1].waitForFunction(() => !session.user);
  for (const page of tabs) assert.deepEqual(await heard(page, 'sessionexpired'), [{ reason: 'logout' }]);
  const cookies = await sessionCookies(context);
  assert.deepEqual(cookies, []);
  await tabs[1].evaluate(([name, password]) => session.login(name, password).then(() => {}), [user.username, PASSWORD]);
  await tabs[0].waitForFunction(() => session.user, undefined, { timeout: 5_000 });
});

test('logging out in a tab that knows of no session ends that of the others, and is told once', async t => {
  const { context, user } = await person(t);
  const tabs = [await signedIn(context, cluster.url, user.username), await openTab(context, cluster.url)];
  await refresh(tabs[0]);
  const third = await openTab(context, cluster.url, { resume: false });
  await third.evaluate(() => session.logout());
  for (const page of tabs) await page.waitForFunction(() => !session.user);
  await third.evaluate(() => session.logout());
  const logIn = page => page.evaluate(([name, password]) => session.login(name, password).then(() => {}), [user.username, PASSWORD]);
  await logIn(tabs[1]);
  for (const page of [tabs[0], third]) await page.waitForFunction(() => session.user);
  for (const page of [...tabs, third]) assert.deepEqual(await heard(page, 'sessionexpired'), [{ reason: 'logout' }]);
});

test('a log-out after a session that has ended by itself takes the cookie away, and is no other end', async t => {
  const { context, user } = await person(t);
  const page = await signedIn(context, cluster.url, user.username);
  await page.evaluate(() => session.expire(session.id, 'evicted'));
  await page.evaluate(() => session.logout());
  assert.deepEqual(await heard(page, 'sessionexpired'), [{ reason: 'evicted' }]);
  assert.deepEqual(await sessionCookies(context), []);
});

test('logging out everywhere takes no longer than any other call, and can be repeated', async t => {
  const { context, user } = await person(t);
  const cable = await layCable(cluster.port);
  t.after(() => cable.close());
  const page = await signedIn(context, cable.url, user.username, { options: { timeout: 1_000 } });
  const leave = () => page.evaluate(() => session.logout({ everywhere: true }).then(() => 'done', error => error.code));
  cable.stall();
  const began = performance.now();
  assert.equal(await leave(), 'network');
  const took = performance.now() - began;
  assert.ok(took >= 990 && took < 5_000, `${took} ms`);
  assert.equal(await userOf(page), user.username);
  cable.cut();
  cable.restore();
  await eventually(async () => await leave() === 'done', 'a log-out');
});

test('logging out everywhere is one call, which can be repeated until it has been heard', async t => {
  const { context, user } = await person(t);
  const page = await signedIn(context, cluster.url, user.username);
  const other = await logIn(cluster, user.username);
  await page.route('**/api/logout*', route => route.abort());
  const leave = () => page.evaluate(() => session.logout({ everywhere: true }).then(() => 'done', error => error.code));
  assert.equal(await leave(), 'network');
  assert.equal(await userOf(page), user.username);
  await page.unroute('**/api/logout*');
  await page.route('**/api/logout', route => route.abort());
  assert.equal(await leave(), 'done');
  assert.deepEqual(await heard(page, 'sessionexpired'), [{ reason: 'logout_all' }]);
  await eventually(async () => (await other.rest('GET', '/api/protected')).status === 401, 'the other session ends');
  assert.deepEqual(await sessionCookies(context), []);
});

test('without a network `fetch` fails as the global one does, or as a refresh if that comes first', async t => {
  const { context, user } = await person(t);
  const page = await signedIn(context, cluster.url, user.username);
  await page.route('**/api/**', route => route.abort());
  const fails = () => page.evaluate(() => session.fetch('/api/protected').catch(({ name, code }) => [name, code]));
  assert.deepEqual(await fails(), ['TypeError', undefined]);
  await page.evaluate(() => (globalThis.shift += 20 * 60_000));
  assert.deepEqual(await fails(), ['GatefoldError', 'network']);
  assert.equal(await userOf(page), user.username);
});

test('a session that is ended from another browser ends in every tab, once, with the reason', async t => {
  const { context, user } = await person(t);
  const tabs = [await signedIn(context, cluster.url, user.username), await openTab(context, cluster.url)];
  const other = await logIn(cluster, user.username);
  assert.equal((await other.rest('POST', '/api/logout-all')).status, 200);
  const ask = () => tabs[0].evaluate(() => session.fetch('/api/protected').then(({ status }) => status));
  await eventually(async () => await ask() === 401, 'the token is refused');
  await tabs[1].waitForFunction(() => !session.user);
  for (const page of tabs) assert.deepEqual(await heard(page, 'sessionexpired'), [{ reason: 'session_revoked' }]);
});

for (const hours of [-7, 7]) {
  test(`a clock that is ${hours} hours wrong changes nothing`, async t => {
    const { context, user } = await person(t);
    const before = await turns();
    const page = await signedIn(context, cluster.url, user.username, { shift: hours * 3_600_000 });
    const other = await openTab(context, cluster.url, { shift: hours * 3_600_000 });
    for (const tab of [page, other]) {
      const [remaining, refreshIn] = await tab.evaluate(() => [session.remaining, session.refreshIn]);
      assert.ok(remaining > 890_000 && remaining <= 900_000, `${remaining}`);
      assert.ok(refreshIn > 700_000 && refreshIn < 820_000, `${refreshIn}`);
    }
    assert.equal(await turns(), before);
  });
}

test('a clock that is set back does not keep a token beyond its time', async t => {
  const { context, user } = await person(t);
  const page = await signedIn(context, cluster.url, user.username);
  await page.evaluate(() => (globalThis.shift -= 3_600_000));
  assert.ok(await page.evaluate(() => session.remaining) <= 900_000);
});

test('after a sleep the token is refreshed at once, and the next timer would have found out too', async t => {
  const { context, user } = await person(t);
  const page = await signedIn(context, cluster.url, user.username);
  for (const wake of [true, false]) {
    const before = (await heard(page, 'token')).length;
    // The steady clock stands still while a laptop sleeps; the other one does not.
    await page.evaluate(wake => {
      globalThis.shift += 20 * 60_000;
      if (wake) document.dispatchEvent(new Event('visibilitychange'));
    }, wake);
    await page.waitForFunction(before => events.filter(([name]) => name === 'token').length > before && session.remaining > 0,
      before, { timeout: wake ? 2_000 : 12_000 });
  }
});

test('an answer that waited for a laptop to wake is as old as its question', async t => {
  const { context, user } = await person(t);
  const cable = await layCable(cluster.port);
  t.after(() => cable.close());
  const page = await signedIn(context, cable.url, user.username);
  const held = cable.holdAnswer('POST /api/refresh');
  const token = page.evaluate(() => session.refresh().then(() => session.token()));
  const letThrough = await held;
  await page.evaluate(() => void (globalThis.shift += 20 * 60_000));
  letThrough();
  await token;
  const [, late, next] = await heard(page, 'token');
  assert.ok(late.expiresIn <= -300, `${late.expiresIn} s`);
  assert.ok(next.expiresIn > 0, `${next.expiresIn} s`);
  assert.ok(await page.evaluate(() => session.remaining > 0));
});

test('a page that is opened while the server is away finds its session as soon as it is back', async t => {
  const { context, user } = await person(t);
  const cable = await layCable(cluster.port);
  t.after(() => cable.close());
  const page = await signedIn(context, cable.url, user.username);
  await page.close();
  const later = await openTab(context, cable.url, { resume: false });
  const devtools = await context.newCDPSession(later);
  const listeners = async () => {
    const { result } = await devtools.send('Runtime.evaluate', { expression: 'window' });
    const { listeners } = await devtools.send('DOMDebugger.getEventListeners', { objectId: result.objectId });
    return listeners.filter(({ type }) => type === 'online').length;
  };
  const before = await listeners();
  cable.cut();
  await draws(later, 0);
  await later.evaluate(() => void session.resume());
  await later.waitForFunction(() => events.filter(([name]) => name === 'retry').length > 5);
  assert.ok(await listeners() <= before + 1, 'nothing piles up');
  cable.restore();
  await later.waitForFunction(() => session.user);
  assert.equal(await listeners(), before);
});

test('a page that the server refuses for good is told why, and does not go on asking', async t => {
  const { context, user } = await person(t);
  const page = await signedIn(context, cluster.url, user.username);
  await page.close();
  const later = await openTab(context, cluster.url, { resume: false });
  await draws(later, 0);
  const refusals = [[408], [425], [429], [503], [403, 'forbidden_origin', 'A foreign page']];
  let asked = 0;
  await later.route('**/api/refresh', route => {
    const [status, code = 'unavailable', detail] = refusals[asked++] ?? [];
    return status ? route.fulfill({ status, json: { code, detail } }) : route.continue();
  });
  const failed = await later.evaluate(() => session.resume().catch(({ status, code, message }) => [status, code, message]));
  assert.deepEqual(failed, refusals.at(-1));
  assert.equal(asked, refusals.length);
  assert.deepEqual((await heard(later, 'retry')).length, refusals.length - 1);
  await later.evaluate(() => session.resume());
  assert.equal(await userOf(later), user.username);
});

test('whoever has let go of a session hears nothing more of it, whatever was under way', async t => {
  const { context, user } = await person(t);
  const page = await signedIn(context, cluster.url, user.username);
  await refresh(page);
  const complaints = [];
  /** Lets go, and tells what became of what was under way. */
  const close = tab => tab.evaluate(async () => {
    session.close();
    return [await globalThis.underWay.then(String, String), session.user, events.length - globalThis.before];
  });
  const begin = (tab, what) => tab.evaluate(what => {
    globalThis.before = events.length;
    globalThis.underWay = { refresh: () => session.refresh(), resume: () => session.resume() }[what]();
  }, what);
  const open = async () => {
    const tab = await openTab(context, cluster.url, { resume: false });
    tab.on('pageerror', ({ message }) => complaints.push(message));
    return tab;
  };

  const asksOthers = await open();
  // Just when it has asked: on a quick machine the others would have answered before anything else can be done.
  await asksOthers.evaluate(() => {
    const { postMessage } = BroadcastChannel.prototype;
    BroadcastChannel.prototype.postMessage = function (message) {
      postMessage.call(this, message);
      if (message.wanted) session.close();
    };
  });
  const before = await turns();
  await begin(asksOthers, 'refresh');
  assert.deepEqual(await close(asksOthers), ['undefined', null, 0]);
  assert.equal(await turns(), before, 'what is for nobody is not asked for');

  const waits = await open();
  await draws(waits, 7_200); // an hour
  await page.close();
  await waits.route('**/api/refresh', route => route.abort());
  await begin(waits, 'resume');
  await waits.waitForFunction(() => events.length > globalThis.before);
  assert.deepEqual(await close(waits), ['null', null, 1]);

  const renews = await openTab(context, cluster.url);
  renews.on('pageerror', ({ message }) => complaints.push(message));
  let abort;
  const asked = new Promise(resolve => renews.route('**/api/refresh', route => {
    resolve();
    abort = () => route.abort();
  }));
  await renews.evaluate(() => {
    globalThis.before = events.length;
    globalThis.shift += 14 * 60_000;
    document.dispatchEvent(new Event('visibilitychange'));
    globalThis.underWay = session.refresh();
  });
  await asked;
  const closing = close(renews);
  await renews.waitForFunction(() => !session.user);
  await abort();
  assert.deepEqual(await closing, ['GatefoldError: The server cannot be reached', null, 0]);
  assert.deepEqual(complaints, []);
});

test('the server\'s Retry-After is obeyed, and not by all in the same moment', async t => {
  const { context, user } = await person(t);
  const page = await signedIn(context, cluster.url, user.username);
  await page.route('**/api/refresh', route => route.fulfill({
    status: 503, headers: { 'Retry-After': '7' }, json: { code: 'unavailable', detail: 'Temporarily unavailable' },
  }));
  await draws(page, 0.5);
  await page.evaluate(() => {
    globalThis.shift += 14 * 60_000;
    document.dispatchEvent(new Event('visibilitychange'));
  });
  await page.waitForFunction(() => events.some(([name]) => name === 'retry'));
  const [{ delay }] = await heard(page, 'retry');
  assert.equal(delay, 7_000 + 0.5 * 500);
  assert.equal(await userOf(page), user.username, 'an outage ends nothing');
});
