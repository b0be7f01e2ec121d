/** What the tests of a file begin and end with: a cluster and a browser of their own. */
import { after, before } from 'node:test';

import { launch } from './browser.js';
import { startCluster } from './cluster.js';

/** @type {Awaited<ReturnType<typeof startCluster>>} */
export let cluster;
/** @type {import('playwright-core').Browser} */
export let browser;

// What is thrown where no test waits for it would leave one waiting for ever.
process.on('uncaughtException', error => {
  console.error(error);
  process.exit(1);
});
// A signal alone would leave browsers behind, which end when this exits.
for (const [name, code] of [['SIGINT', 130], ['SIGTERM', 143]]) process.once(name, () => process.exit(code));

/**
 * Starts them before the tests of this file, and ends after them whatever of it has started.
 * @param {Parameters<typeof startCluster>[0] & {launches?: boolean}} [options] `launches`: whether there is a browser
 */
export function setUp({ launches = true, ...options } = {}) {
  before(async () => {
    const started = await Promise.allSettled([startCluster(options), launches && launch()]);
    [cluster, browser] = started.map(({ value }) => value);
    const failed = started.find(({ reason }) => reason);
    if (failed) throw failed.reason;
  });
  after(() => Promise.all([browser && browser.close(), cluster?.stop()]));
}
