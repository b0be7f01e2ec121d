/** Where something is missing, or forbidden by the browser: no session, no storage, no other tabs, no sockets, no browser at all. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { chromium } from 'playwright-core';

import { ARGUMENTS, CHROMIUM, eventually, hasState, openTab, signedIn, userOf } from './harness/browser.js';
import { addUser, PASSWORD } from './harness/cluster.js';
import { browser, cluster, setUp } from './harness/setup.js';

setUp();
const execute = promisify(execFile);
const MODULE = fileURLToPath(new URL('../gatefold.js', import.meta.url));

/** A browser profile, and what it asked of the API and complained about. */
async function profile(t) {
  const context = await browser.newContext();
  t.after(() => context.close());
  const [asked, complaints] = [[], []];
  context.on('request', request => request.url().includes('/api/') && asked.push(new URL(request.url()).pathname));
  context.on('console', message => message.type() === 'error' && complaints.push(message.text()));
  return { context, asked, complaints };
}

const statusOf = page => page.evaluate(() => session.status);
/** What becomes of something that a page does: the code of its error, or what it gives. */
const outcome = (page, work, ...given) => page.evaluate(async ([work, given]) => {
  try {
    return { value: await (0, eval)(`(${work})`)(...given) ?? null };
  } catch (error) {
    return { name: error.name, code: error.code };
  }
}, [work.toString(), given]);

test('who never had a session is asked about nothing, and the console stays empty', async t => {
  const { context, asked, complaints } = await profile(t);
  const page = await openTab(context, cluster.url);
  assert.deepEqual([await userOf(page), await statusOf(page), asked, complaints], [null, 'anonymous', [], []]);
  await page.goto(cluster.url);
  await page.waitForSelector('#out:not([hidden])');
  assert.deepEqual([asked, complaints], [[], []], 'nor on the page');
});

test('a session is taken up as long as it lasts, and then nothing is asked any more', async t => {
  const { context, asked } = await profile(t);
  const user = await addUser(cluster);
  await (await signedIn(context, cluster.url, user.username)).close();
  const page = await openTab(context, cluster.url);
  assert.deepEqual([await userOf(page), await statusOf(page)], [user.username, 'authenticated']);
  await page.evaluate(() => session.logout());
  assert.equal(await statusOf(page), 'anonymous');
  asked.length = 0;
  const later = await openTab(context, cluster.url);
  assert.deepEqual([await userOf(later), await statusOf(later), asked], [null, 'anonymous', []]);
});

test('a session that the server has ended is asked about once', async t => {
  const { context, asked } = await profile(t);
  await (await signedIn(context, cluster.url, (await addUser(cluster)).username)).close();
  await context.clearCookies();
  for (const expected of [['/api/refresh'], []]) {
    asked.length = 0;
    const page = await openTab(context, cluster.url);
    assert.deepEqual([await userOf(page), asked], [null, expected]);
    await page.close();
  }
});

test('sessions of pages of before, and with probe those that were begun without the client, are taken up', async t => {
  const { context } = await profile(t);
  const user = await addUser(cluster);
  const page = await openTab(context, cluster.url);
  await page.evaluate(([username, password]) => fetch('/api/login', {
    method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ username, password }),
  }).then(() => {}), [user.username, PASSWORD]);
  assert.equal(await page.evaluate(() => session.resume()), null, 'nothing says that there is one');
  assert.equal((await page.evaluate(() => session.resume({ probe: true }))).username, user.username);
  // As version 0.1.0 has left it.
  await page.evaluate(() => {
    for (const name of Object.keys(localStorage)) {
      const { over, ...note } = JSON.parse(localStorage[name]);
      localStorage[name] = JSON.stringify(note);
    }
  });
  assert.equal(await userOf(await openTab(context, cluster.url)), user.username);
});

test('a browser that forbids all storage lets people log in, and says at once that nobody is', async t => {
  const folder = await mkdtemp('/tmp/gatefold-blocked-');
  t.after(() => rm(folder, { recursive: true, force: true }));
  await mkdir(`${folder}/Default`);
  const forbidden = { profile: { default_content_setting_values: { cookies: 2 } } };
  await writeFile(`${folder}/Default/Preferences`, JSON.stringify(forbidden));
  const context = await chromium.launchPersistentContext(folder, { executablePath: CHROMIUM, args: ARGUMENTS });
  t.after(() => context.close());
  const page = await openTab(context, cluster.url, { resume: false });
  const isForbidden = () => navigator.locks.request('a', () => {}).then(() => false, () => true);
  assert.ok(await page.evaluate(isForbidden), 'this browser forbids locks');
  assert.deepEqual(await outcome(page, () => session.resume()), { value: null });
  const user = await addUser(cluster);
  const login = await outcome(page, (name, password) => session.login(name, password), user.username, PASSWORD);
  assert.equal(login.value?.username, user.username);
  await page.evaluate(() => client.connect());
  await hasState(page, 'open');
  assert.deepEqual(await outcome(page, () => client.join('somewhere').then(({ joined }) => joined)), { value: true });
  assert.deepEqual(await outcome(page, () => session.logout({ everywhere: true })), { value: null });
});

test('without channels between tabs, and without sockets, there is the rest', async t => {
  const { context } = await profile(t);
  await context.addInitScript(() => {
    const forbidden = class {
      constructor() {
        throw new DOMException('The operation is insecure.', 'SecurityError');
      }
    };
    Object.assign(globalThis, { BroadcastChannel: forbidden, WebSocket: forbidden });
  });
  const user = await addUser(cluster);
  const page = await signedIn(context, cluster.url, user.username);
  assert.equal(await userOf(page), user.username);
  const joining = outcome(page, () => client.join('somewhere'));
  await page.evaluate(() => client.connect());
  assert.deepEqual(await joining, { name: 'GatefoldError', code: 'disconnected' });
  await hasState(page, 'closed');
  const said = await page.evaluate(() => events.filter(([name]) => ['error', 'disconnected'].includes(name)).map(([, { code, reason }]) => reason ?? code));
  assert.deepEqual(said, ['blocked', 'blocked']);
});

test('resume and join end when they are told to, and say so', async t => {
  const { context } = await profile(t);
  await (await signedIn(context, cluster.url, (await addUser(cluster)).username)).close();
  await context.route('**/api/refresh', route => route.abort());
  const page = await openTab(context, cluster.url, { resume: false });
  assert.equal(await statusOf(page), 'loading');
  assert.deepEqual(await outcome(page, () => session.resume({ timeout: 1_000 })), { name: 'GatefoldError', code: 'timeout' });
  assert.equal(await statusOf(page), 'unreachable');
  const abort = await outcome(page, () => session.resume({ signal: AbortSignal.timeout(100) }));
  assert.deepEqual(abort, { name: 'GatefoldError', code: 'aborted' });
  assert.deepEqual(await outcome(page, () => client.join('r', { timeout: 50 })), { name: 'GatefoldError', code: 'timeout' });
  assert.deepEqual(await outcome(page, () => client.join('r', { signal: AbortSignal.abort() })), { name: 'GatefoldError', code: 'aborted' });
  assert.equal(await page.evaluate(() => client.rooms.length), 0, 'nobody waits any more');
  await context.unroute('**/api/refresh');
  assert.ok((await outcome(page, () => session.resume())).value);
  assert.equal(await statusOf(page), 'authenticated');
});

test('each join has a room of its own, and we leave with the last of them, as React in StrictMode does', async t => {
  const { context } = await profile(t);
  const [page, other] = [await signedIn(context, cluster.url, (await addUser(cluster)).username), await browser.newContext()];
  t.after(() => other.close());
  const witness = await signedIn(other, cluster.url, (await addUser(cluster)).username);
  for (const tab of [page, witness]) {
    await tab.evaluate(() => client.connect());
    await hasState(tab, 'open');
  }
  const name = `strict-${Date.now()}`;
  await witness.evaluate(async name => (globalThis.room = await client.join(name)).publish('before'), name);
  const count = () => witness.evaluate(() => room.count);
  // An effect, its clean-up and the effect again; then a second component.
  await page.evaluate(async name => {
    const effect = () => {
      const end = new AbortController();
      return { end, joining: client.join(name, { signal: end.signal }) };
    };
    const first = effect();
    first.end.abort();
    globalThis.effects = [effect(), effect()];
    globalThis.ended = await first.joining.catch(({ code }) => code);
    globalThis.heardBy = [[], []];
    globalThis.rooms = await Promise.all(effects.map(({ joining }) => joining));
    rooms.forEach((room, at) => room.on('message', ({ data }) => heardBy[at].push(data)));
  }, name);
  assert.equal(await page.evaluate(() => ended), 'aborted');
  await eventually(async () => await count() === 2, 'both are there');
  assert.ok(await page.evaluate(() => rooms[0] !== rooms[1] && rooms.every(({ joined, users }) => joined && users.size === 2)));
  await page.evaluate(() => rooms[0].leave());
  await page.evaluate(() => rooms[0].leave());
  await witness.evaluate(() => room.publish('to one').then(() => {}));
  await page.waitForFunction(() => heardBy[1].includes('to one'));
  assert.deepEqual(await page.evaluate(() => heardBy[0]), [], 'who has left hears nothing');
  assert.equal(await count(), 2, 'the other one is still there');
  await page.evaluate(() => effects[1].end.abort());
  await eventually(async () => await count() === 1, 'the last has left');
  assert.equal(await page.evaluate(() => client.rooms.length), 0);
});

test('on a server that renders pages nothing happens before something is asked', async () => {
  const script = `
    import { AuthSession, RealtimeClient } from ${JSON.stringify(MODULE)};
    const session = new AuthSession();
    new RealtimeClient(session).on('state', () => {});
    session.on('status', () => {});
    console.log(session.status, session.user, await session.resume().catch(({ code }) => code));
    const elsewhere = new AuthSession({ baseUrl: process.argv[1] });
    console.log(await elsewhere.login('nobody', 'no password').catch(({ name, code }) => name + ' ' + code));`;
  const { stdout } = await execute(process.execPath, ['--input-type=module', '--eval', script, cluster.url], { timeout: 20_000 });
  assert.deepEqual(stdout.trim().split('\n'), ['loading null no_base_url', 'GatefoldError invalid_credentials']);
});
