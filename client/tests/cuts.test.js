/** The network is cut at a random moment around a refresh, two hundred times, and nobody is logged out. Some requests come late. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { eventually, heard, openTab, signedIn, userOf } from './harness/browser.js';
import { layCable } from './harness/cable.js';
import { addUser } from './harness/cluster.js';
import { browser, cluster, setUp } from './harness/setup.js';

const CYCLES = 200;
/** How long the client waits for an answer. */
const PATIENCE_MS = 1_000;

setUp();

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
  const first = await signedIn(context, cable.url, user.username);
  const page = await openTab(context, cable.url, { options: { timeout: PATIENCE_MS } });
  const other = await openTab(context, cable.url, { options: { timeout: PATIENCE_MS } });
  await first.close();
  const refresh = tab => tab.evaluate(() => session.refresh().then(() => 'refreshed', error => error.code));
  const succeeds = tab => eventually(async () => await refresh(tab) === 'refreshed', 'a refresh with the network there');
  const took = [];
  while (took.length < 5) {
    const began = performance.now();
    await succeeds(page);
    took.push(performance.now() - began);
  }
  const around = 2 * took.sort((one, other) => one - other)[2];
  const outcomes = { refreshed: 0, broken: 0, lost: 0, retried: 0, superseded: 0 };
  /** What brings requests to the server that are still on their way. */
  const late = [];

  for (let cycle = 0; cycle < CYCLES; cycle++) {
    const tab = random() < 0.5 ? page : other;
    const before = (await cluster.requests('/api/refresh')).length;
    const isLate = random() < 0.05;
    if (isLate) cable.holdRequest('POST /api/refresh').then(deliver => late.push(deliver));
    // On a busy machine hardly any cut meets the moment between a request and its answer: some are made to.
    const isLost = !isLate && random() < 0.1;
    const lost = isLost && cable.loseAnswer('POST /api/refresh', 150);
    const refreshing = refresh(tab);
    if (isLost) await Promise.race([lost, refreshing]);
    else if (!isLate) await sleep(random() * around);
    if (isLate) {
      await refreshing;
      cable.cut();
    } else if (random() < 0.05) {
      // Nothing breaks, and nothing arrives, until the client has given up.
      cable.stall();
      await refreshing;
      cable.cut();
    } else {
      cable.cut();
      await sleep(random() * 20);
    }
    cable.restore();
    const outcome = await refreshing;
    outcomes[outcome === 'refreshed' ? 'refreshed' : 'broken']++;
    if (outcome !== 'refreshed' && (await cluster.requests('/api/refresh')).length > before) outcomes.lost++;
    // Where it failed, somebody tries again: now, or in the next cycle.
    if (random() < 0.5) await succeeds(random() < 0.5 ? page : other);
    // What comes late comes when the client has gone on, perhaps more than once.
    if (late.length && random() < 0.7) await succeeds(page);
    for (const deliver of late.splice(0)) outcomes[/^HTTP\/1.1 200 /.test(await deliver()) ? 'retried' : 'superseded']++;
    assert.equal(await userOf(page), user.username, `cycle ${cycle}`);
  }
  for (const tab of [page, other]) {
    await succeeds(tab);
    assert.equal(await tab.evaluate(() => session.fetch('/api/protected').then(({ status }) => status)), 200);
    assert.deepEqual(await heard(tab, 'sessionexpired'), []);
  }
  const refused = (await cluster.requests('/api/refresh')).filter(({ status }) => status === 401);
  assert.deepEqual(refused, []);
  assert.ok(Math.min(outcomes.broken, outcomes.refreshed) >= 10 && outcomes.lost > 0, JSON.stringify(outcomes));
  t.diagnostic(`${JSON.stringify(outcomes)}, cut within ${Math.round(around)} ms`);
});
