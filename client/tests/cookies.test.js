/** The refresh cookie in a real browser: what other hosts set beside it, and what is kept on the disk for it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { heard, openTab, sessionCookies, signedIn, stored, userOf } from './harness/browser.js';
import { layCable } from './harness/cable.js';
import { PASSWORD, addUser, startCluster } from './harness/cluster.js';
import { browser, cluster, setUp } from './harness/setup.js';

setUp();

/** Two hosts of one site. Chromium finds all names below `localhost` on this machine. */
const own = cluster => `http://www.shop.localhost:${cluster.port}`;
const sibling = cluster => `http://evil.shop.localhost:${cluster.port}`;

/** The value of the refresh cookie of a new session, as whoever opens one outside of a browser gets it. */
async function refreshToken(cluster, username) {
  const response = await fetch(`${cluster.url}/api/login`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ username, password: PASSWORD }),
  });
  const [pair] = response.headers.get('set-cookie').split(';');
  return { name: pair.slice(0, pair.indexOf('=')), value: pair.slice(pair.indexOf('=') + 1) };
}

/** A page of another host of the site sets a cookie for all of them. */
async function plant(context, cluster, { name, value }) {
  const page = await context.newPage();
  await page.goto(`${sibling(cluster)}/bench.html`);
  await page.evaluate(pair => (document.cookie = `${pair}; domain=shop.localhost; path=/api`), `${name}=${value}`);
  await page.close();
}

const refresh = page => page.evaluate(() => session.refresh().then(() => 'refreshed', ({ code, status }) => `${status} ${code}`));
const logIn = (page, username) =>
  page.evaluate(([name, password]) => session.login(name, password).then(() => {}), [username, PASSWORD]);

test('a cookie of another application hides no session and is left alone', async t => {
  const context = await browser.newContext();
  t.after(() => context.close());
  const user = await addUser(cluster);
  const page = await signedIn(context, own(cluster), user.username);
  const { name } = await refreshToken(cluster, user.username);
  await plant(context, cluster, { name, value: 'of-another-application' });
  for (let turn = 0; turn < 2; turn++) assert.equal(await refresh(page), 'refreshed');
  await page.evaluate(() => session.logout());
  assert.equal(await userOf(page), null);
  const left = (await sessionCookies(context)).map(({ domain, value }) => [domain, value]);
  assert.deepEqual(left, [['.shop.localhost', 'of-another-application']]);
  const next = await openTab(context, own(cluster));
  assert.equal(await userOf(next), null);
  assert.equal((await sessionCookies(context)).length, 1);
  assert.equal(await next.evaluate(() => session.logout().catch(({ code }) => code)), 'invalid_refresh_token', 'nothing was ended');
});

test('a session that another host plants beside the own one is never taken up, and a login gets rid of it', async t => {
  const context = await browser.newContext();
  t.after(() => context.close());
  const [victim, attacker] = [await addUser(cluster, 'victim'), await addUser(cluster, 'attacker')];
  const page = await signedIn(context, own(cluster), victim.username);
  const other = await openTab(context, own(cluster));
  const planted = await refreshToken(cluster, attacker.username);
  await plant(context, cluster, planted);
  assert.equal(await refresh(page), '401 several_refresh_tokens');
  for (const tab of [page, other]) {
    await tab.waitForFunction(() => !session.user);
    assert.deepEqual(await heard(tab, 'sessionexpired'), [{ reason: 'several_refresh_tokens' }]);
  }
  // Both sessions have ended; the planted cookie, which nobody but its host can delete, counts no more.
  await logIn(page, victim.username);
  for (let turn = 0; turn < 2; turn++) assert.equal(await refresh(page), 'refreshed');
  assert.equal(await userOf(page), victim.username);
  assert.ok((await sessionCookies(context)).some(({ value }) => value === planted.value));
});

test('a tab that finds several sessions when it starts recovers by itself', async t => {
  const context = await browser.newContext();
  t.after(() => context.close());
  const [victim, attacker] = [await addUser(cluster, 'victim'), await addUser(cluster, 'attacker')];
  await (await signedIn(context, own(cluster), victim.username)).close();
  await plant(context, cluster, await refreshToken(cluster, attacker.username));
  const page = await openTab(context, own(cluster));
  assert.equal(await userOf(page), null);
  await logIn(page, victim.username);
  await page.close();
  const next = await openTab(context, own(cluster));
  assert.equal(await userOf(next), victim.username);
});

test('a log-out by a tab whose cookie is gone ends its session all the same', async t => {
  const context = await browser.newContext();
  t.after(() => context.close());
  const user = await addUser(cluster);
  for (const value of [undefined, 'of-another-application']) {
    const page = await signedIn(context, own(cluster), user.username);
    const token = await page.evaluate(() => session.token());
    const { name } = await refreshToken(cluster, user.username);
    await context.clearCookies();
    if (value) await plant(context, cluster, { name, value });
    await page.evaluate(() => session.logout());
    assert.deepEqual(await heard(page, 'sessionexpired'), [{ reason: 'logout' }]);
    const headers = { Authorization: `Bearer ${token}` };
    const { code } = await (await fetch(`${cluster.url}/api/protected`, { headers })).json();
    assert.equal(code, 'session_revoked', `with the cookie ${value}`);
    await page.close();
  }
});

test('no other host can set a cookie with the prefix __Host-, and what it sets is not looked at', async t => {
  const env = { COOKIE_NAME: '__Host-refreshToken', COOKIE_PREVIOUS_NAMES: '', COOKIE_SECURE: 'true' };
  const prefixed = await startCluster({ env });
  t.after(() => prefixed.stop());
  const context = await browser.newContext();
  t.after(() => context.close());
  const [victim, attacker] = [await addUser(prefixed, 'victim'), await addUser(prefixed, 'attacker')];
  const planted = await refreshToken(prefixed, attacker.username);
  assert.equal(planted.name, '__Host-refreshToken');
  for (const name of ['__Host-refreshToken', 'refreshToken']) await plant(context, prefixed, { ...planted, name });
  const stranger = await openTab(context, own(prefixed));
  assert.equal(await userOf(stranger), null, 'nobody was logged in as the attacker');
  const page = await signedIn(context, own(prefixed), victim.username);
  await plant(context, prefixed, planted);
  for (let turn = 0; turn < 2; turn++) assert.equal(await refresh(page), 'refreshed');
  assert.equal(await userOf(page), victim.username);
  const cookies = (await sessionCookies(context, `${own(prefixed)}/api/refresh`)).map(({ name, path, secure }) => [name, path, secure]);
  assert.deepEqual(cookies.filter(([name]) => name.startsWith('__Host-')), [['__Host-refreshToken', '/', true]]);
});

test('the key of a refresh is on the disk only while its outcome is unknown', async t => {
  const context = await browser.newContext();
  t.after(() => context.close());
  const user = await addUser(cluster);
  const cable = await layCable(cluster.port);
  t.after(() => cable.close());
  const page = await signedIn(context, cable.url, user.username);
  const other = await openTab(context, cable.url);
  const keys = [];
  for (const tab of [page, other]) {
    tab.on('request', request => request.url().endsWith('/api/refresh') && keys.push(request.headers()['idempotency-key']));
  }
  const isKept = async key => (await stored(page)).includes(key);
  for (const tab of [page, other, page]) {
    assert.equal(await refresh(tab), 'refreshed');
    assert.equal(await isKept(keys.at(-1)), false, 'the refresh succeeded');
  }
  const lost = cable.loseAnswer('POST /api/refresh', 150);
  assert.equal(await refresh(page), '0 network');
  await lost;
  assert.equal(await isKept(keys.at(-1)), true, 'its outcome is unknown');
  await page.route('**/api/refresh', route => route.fulfill({ status: 503, json: { code: 'unavailable' } }));
  assert.equal(await refresh(page), '503 unavailable');
  assert.equal(await isKept(keys.at(-1)), true, 'it still is');
  await page.unroute('**/api/refresh');
  assert.equal(await refresh(page), 'refreshed');
  assert.equal(keys.at(-1), keys.at(-2), 'the same key until a response came');
  assert.equal(await isKept(keys.at(-1)), false);
  // A browser that starts again asks with a new key.
  await Promise.all([page.reload(), other.close()]);
  await page.waitForFunction(() => globalThis.session);
  await page.evaluate(() => session.resume());
  assert.equal(new Set(keys).size, keys.length - 2, 'each refresh has a key of its own');
  await page.evaluate(() => fetch('/api/logout', { method: 'POST' }).then(() => {}));
  assert.equal(await refresh(page), '401 missing_refresh_token');
  assert.equal(await isKept(keys.at(-1)), false, 'a refusal is final');
});

test('where the new cookie came and the rest of the response did not, a new key replaces that of the old cookie', async t => {
  const context = await browser.newContext();
  t.after(() => context.close());
  const user = await addUser(cluster);
  const cable = await layCable(cluster.port);
  t.after(() => cable.close());
  const page = await signedIn(context, cable.url, user.username);
  const keys = [];
  page.on('request', request => request.url().endsWith('/api/refresh') && keys.push(request.headers()['idempotency-key']));
  const [before] = await sessionCookies(context);
  const lost = cable.loseAnswer('POST /api/refresh', 1100);
  assert.equal(await refresh(page), '0 network');
  await lost;
  assert.notEqual((await sessionCookies(context))[0].value, before.value, 'the new cookie has come');
  assert.equal(await refresh(page), 'refreshed');
  assert.equal(keys[0], keys[1], 'the outcome was unknown');
  assert.notEqual(keys[1], keys[2], 'the server refuses the key for the new cookie');
  assert.equal(await refresh(page), 'refreshed');
  assert.deepEqual([keys.length, new Set(keys).size], [4, 3]);
  assert.equal(await userOf(page), user.username);
  assert.deepEqual(await heard(page, 'sessionexpired'), []);
});
