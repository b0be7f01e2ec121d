/** A socket whose token expires because nobody can refresh it: it is mended in place, or after its end. */
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { draws, hasState, heard, signedIn } from './harness/browser.js';
import { addUser } from './harness/cluster.js';
import { browser, cluster, setUp } from './harness/setup.js';

setUp({ env: { ACCESS_TOKEN_EXPIRY: '6s', TOKEN_WARNING: '1s', REAUTH_GRACE: '15s' } });

/** Somebody in a room whose refreshes fail from now on, and are tried again every two seconds at least. */
async function stuck(t) {
  const context = await browser.newContext();
  t.after(() => context.close());
  const page = await signedIn(context, cluster.url, (await addUser(cluster)).username);
  await page.evaluate(() => client.connect());
  await page.evaluate(async () => {
    globalThis.said = [];
    globalThis.room = await client.join('somewhere');
    room.on('message', ({ data }) => said.push(data));
  });
  await draws(page, 0.1);
  await page.route('**/api/refresh', route => route.abort());
  return page;
}

test('within the grace the next token mends it, and what came meanwhile is said then', async t => {
  const page = await stuck(t);
  const context = await browser.newContext();
  t.after(() => context.close());
  const other = await signedIn(context, cluster.url, (await addUser(cluster)).username);
  await other.evaluate(() => client.connect());
  await page.waitForFunction(() => events.some(([name, { code }]) => name === 'error' && code === 'token_expired'));
  await other.evaluate(async () => (await client.join('somewhere')).publish('meanwhile').then(() => {}));
  assert.deepEqual(await page.evaluate(() => said), []);
  await page.unroute('**/api/refresh');
  await page.waitForFunction(() => said.length === 1);
  assert.deepEqual(await page.evaluate(() => said), ['meanwhile']);
  assert.deepEqual(await heard(page, 'disconnected'), []);
});

test('after the grace it comes back with the next token, into its rooms', async t => {
  const page = await stuck(t);
  await page.waitForFunction(() => events.some(([name, { code }]) => name === 'disconnected' && code === 4401), undefined, { timeout: 60_000 });
  assert.ok(await page.evaluate(() => session.user), 'that nobody can refresh ends no session');
  await page.unroute('**/api/refresh');
  await hasState(page, 'open');
  await page.waitForFunction(() => room.joined);
  assert.deepEqual(await heard(page, 'sessionexpired'), []);
});

test('a session that has expired meanwhile is over, in so many words', async t => {
  const page = await stuck(t);
  await page.unroute('**/api/refresh');
  await page.context().clearCookies();
  await page.waitForFunction(() => !session.user);
  assert.deepEqual(await heard(page, 'sessionexpired'), [{ reason: 'missing_refresh_token' }]);
  await hasState(page, 'closed');
});
