/** The network is cut at a random moment around a refresh, two hundred times, and nobody is logged out. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { heard, launch, openTab, signedIn, userOf } from './harness/browser.js';
import { layCable } from './harness/cable.js';
import { addUser, startCluster } from './harness/cluster.js';

const CYCLES = 200;
/** A refresh takes some 10 ms here. */
const AROUND_MS = 30;
/** How long the client waits for an answer. */
const PATIENCE_MS = 800;

let cluster, browser;
before(async () => ([cluster, browser] = await Promise.all([startCluster(), launch()])));
after(() => Promise.all([browser?.close(), cluster?.stop()]));

/** Numbers below 1 that are the same for the same seed (mulberry32). */
function numbers(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let number = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    number = (number + Math.imul(number ^ (number >>> 7), 61 | number)) ^ number;
    return ((number ^ (number >>> 14)) >>> 0) / 2 ** 32;
  };
}

test(`${CYCLES} cuts around a refresh log nobody out`, async t => {
  const seed = Number(process.env.SEED) || Date.now() % 1e9;
  t.diagnostic(`SEED=${seed}`);
  const random = numbers(seed);
  const user = await addUser(cluster);
  const cable = await layCable(cluster.port);
  t.after(() => cable.close());
  const context = await browser.newContext();
  const page = await signedIn(context, cable.url, user.username, { options: { timeout: PATIENCE_MS } });
  const other = await openTab(context, cable.url, { options: { timeout: PATIENCE_MS } });
  const outcomes = { refreshed: 0, broken: 0, lost: 0 };

  for (let cycle = 0; cycle < CYCLES; cycle++) {
    const tab = random() < 0.5 ? page : other;
    const before = (await cluster.requests('/api/refresh')).length;
    const refreshing = tab.evaluate(() => session.refresh().then(() => 'refreshed', error => error.code));
    // The word of the refresh takes a moment to get from here to the tab.
    await sleep(random() * AROUND_MS);
    if (random() < 0.05) {
      // Nothing breaks, and nothing arrives: what is under way comes late, after the client has given up.
      cable.stall();
      await refreshing;
    } else {
      cable.cut();
      await sleep(random() * 20);
    }
    cable.restore();
    const outcome = await refreshing;
    outcomes[outcome === 'refreshed' ? 'refreshed' : 'broken']++;
    if (outcome !== 'refreshed' && (await cluster.requests('/api/refresh')).length > before) outcomes.lost++;
    // Where it failed, somebody tries again: now, or in the next cycle.
    if (random() < 0.5) {
      const again = await (random() < 0.5 ? page : other).evaluate(() => session.refresh().then(() => 'refreshed', error => error.code));
      assert.equal(again, 'refreshed', `cycle ${cycle}`);
    }
    assert.equal(await userOf(page), user.username, `cycle ${cycle}`);
  }
  for (const tab of [page, other]) {
    await tab.evaluate(() => session.refresh());
    assert.equal(await tab.evaluate(() => session.fetch('/api/protected').then(({ status }) => status)), 200);
    assert.deepEqual(await heard(tab, 'sessionexpired'), []);
  }
  const refused = (await cluster.requests('/api/refresh')).filter(({ status }) => status === 401);
  assert.deepEqual(refused, []);
  assert.ok(outcomes.broken > CYCLES / 10 && outcomes.refreshed > CYCLES / 10 && outcomes.lost > 0, JSON.stringify(outcomes));
  t.diagnostic(JSON.stringify(outcomes));
});
