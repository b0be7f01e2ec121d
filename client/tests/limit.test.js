/** A session that comes to its absolute limit: its tokens become ever shorter, and then it is over. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { hasState, heard, launch, signedIn } from './harness/browser.js';
import { addUser, startCluster } from './harness/cluster.js';

let cluster, browser;
before(async () => {
  const env = { ACCESS_TOKEN_EXPIRY: '6s', SESSION_ABSOLUTE_EXPIRY: '10s', TOKEN_WARNING: '5s' };
  [cluster, browser] = await Promise.all([startCluster({ env }), launch()]);
});
after(() => Promise.all([browser?.close(), cluster?.stop()]));

test('a few refreshes with shorter tokens are the last, and then it is over for page and socket', async t => {
  const context = await browser.newContext();
  t.after(() => context.close());
  const page = await signedIn(context, cluster.url, (await addUser(cluster)).username);
  await page.evaluate(() => client.connect());
  await page.waitForFunction(() => !session.user);
  assert.deepEqual(await heard(page, 'sessionexpired'), [{ reason: 'session_not_found' }]);
  await hasState(page, 'closed');
  // The socket warns at once of each token; that must not become a refresh each time.
  const lives = (await heard(page, 'token')).map(({ expiresIn }) => expiresIn);
  assert.ok(lives.length <= 8 && lives.at(-1) < 6, `${lives}`);
});
