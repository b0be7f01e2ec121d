/** Chromium, its people and their tabs. */
import { setTimeout as sleep } from 'node:timers/promises';
import { chromium } from 'playwright-core';

import { PASSWORD } from './cluster.js';

export const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';
export const ARGUMENTS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync'];

export const launch = () => chromium.launch({ executablePath: CHROMIUM, args: ARGUMENTS });

/**
 * A tab with the module and nothing else: `session`, `client`, and in `heard` every event of both. Options of the
 * session, and a shift of the tab's clock in ms, may be given.
 */
export async function openTab(context, url, { options = {}, shift = 0, resume = true } = {}) {
  const page = await context.newPage();
  await page.addInitScript(given => {
    globalThis.given = given;
    const { now } = Date;
    globalThis.shift = given.shift;
    Date.now = () => now() + globalThis.shift;
  }, { options, shift });
  await page.goto(`${url}/bench.html`);
  await page.waitForFunction(() => globalThis.session);
  if (resume) await page.evaluate(() => session.resume());
  return page;
}

/** Everything that the page keeps where a script could find it: its origin's storage, cookies without HttpOnly, the URL. */
export const stored = page => page.evaluate(async () => {
  const all = [JSON.stringify(localStorage), JSON.stringify(sessionStorage), document.cookie, location.href];
  for (const { name } of await indexedDB.databases()) {
    const database = await new Promise(resolve => (indexedDB.open(name).onsuccess = event => resolve(event.target.result)));
    for (const store of database.objectStoreNames) {
      const read = database.transaction(store).objectStore(store).getAll();
      await new Promise(resolve => (read.onsuccess = resolve));
      all.push(JSON.stringify(read.result));
    }
    database.close();
  }
  return all.join('\n');
});

/** The cookies of a context, but for those by which devices are known: they stay after a logout. */
export async function sessionCookies(context, url) {
  return (await context.cookies(url)).filter(({ name }) => !name.endsWith('-device'));
}

/** A tab in which somebody is logged in. */
export async function signedIn(context, url, username, more = {}) {
  const page = await openTab(context, url, { ...more, resume: false });
  await page.evaluate(([name, password]) => session.login(name, password).then(() => {}), [username, PASSWORD]);
  return page;
}

/** What a tab heard of a name. */
export const heard = (page, name) =>
  page.evaluate(name => events.filter(event => event[0] === name).map(event => event[1]), name);

/** Waits for the socket of a tab to be in a state. */
export const hasState = (page, state) => page.waitForFunction(state => client.state === state, state);

/** Has a tab draw the same number again and again: the longest waits, say, or the shortest. */
export const draws = (page, number) => page.evaluate(number => void (Math.random = () => number), number);

export const userOf = page => page.evaluate(() => session.user?.username ?? null);

/** Waits for a condition outside of the browser, and returns what it gives. */
export async function eventually(condition, what, patience = 15_000) {
  const end = performance.now() + patience;
  for (;;) {
    const result = await condition();
    if (result) return result;
    if (performance.now() > end) throw new Error(`not within ${patience} ms: ${what}`);
    await sleep(20);
  }
}
