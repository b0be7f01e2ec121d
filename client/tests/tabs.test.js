/** Twenty tabs of one browser through three lifetimes of a token, with the rate limits that everybody has. */
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { eventually, hasState, heard, openTab, signedIn, userOf } from './harness/browser.js';
import { addUser } from './harness/cluster.js';
import { browser, cluster, setUp } from './harness/setup.js';

const LIFETIME = 20;
const TABS = 20;

setUp({ env: { ACCESS_TOKEN_EXPIRY: `${LIFETIME}s`, TOKEN_WARNING: '3s' }, limits: true });

/** When the server traded a token, in seconds. */
async function trades() {
  const requests = await cluster.requests('/api/refresh');
  assert.ok(requests.every(({ status }) => status === 200), 'no refresh was refused');
  return requests.map(({ timestamp }) => Date.parse(timestamp) / 1000);
}

test('20 tabs refresh once a lifetime, and keep their sockets', async () => {
  const user = await addUser(cluster);
  const context = await browser.newContext();
  const clock = { shift: 5 * 3_600_000 }; // five hours fast
  const tabs = [await signedIn(context, cluster.url, user.username, clock)];
  while (tabs.length < TABS) tabs.push(await openTab(context, cluster.url, clock));
  // From here on each has a token. One that has just been opened waits a moment only for the others to tell it theirs.
  const began = Date.now() / 1000;
  await Promise.all(tabs.map(page => page.evaluate(() => client.connect())));
  await Promise.all(tabs.map(page => hasState(page, 'open')));
  const connections = await Promise.all(tabs.map(page => heard(page, 'connected')));

  await eventually(() => Date.now() / 1000 > began + 3 * LIFETIME, 'three lifetimes', 4 * LIFETIME * 1000);
  const made = (await trades()).filter(at => at >= began);
  assert.ok(made.length >= 3, `${made.length} refreshes in three lifetimes`);
  for (let turn = 1; turn < made.length; turn++) {
    // Nginx notes whole seconds. A token is refreshed in the last fifth of its life.
    assert.ok(made[turn] - made[turn - 1] >= LIFETIME * 0.8 - 1, `refreshes at ${made.map(at => at - began)}`);
  }
  for (const [place, page] of tabs.entries()) {
    assert.equal(await userOf(page), user.username);
    for (const name of ['sessionexpired', 'disconnected', 'error']) assert.deepEqual(await heard(page, name), [], name);
    assert.deepEqual(await heard(page, 'connected'), connections[place], 'the same socket as in the beginning');
    await page.waitForFunction(() => {
      const since = events.slice(events.findIndex(([name]) => name === 'connected'));
      const count = wanted => since.filter(([name]) => name === wanted).length;
      return count('token') > 1 && count('token') === count('reauthenticated'); // the socket got each new token
    });
    assert.ok(await page.evaluate(() => session.remaining) > 0);
  }
  console.log(`${TABS} tabs, ${3 * LIFETIME} s, refreshes after ${made.map(at => Math.round(at - began)).join(', ')} s`);
});
