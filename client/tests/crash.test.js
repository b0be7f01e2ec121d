/** The whole browser is killed around a refresh, and is started again. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { test } from 'node:test';
import { chromium } from 'playwright-core';

import { ARGUMENTS, CHROMIUM, eventually, heard, openTab, sessionCookies, signedIn, userOf } from './harness/browser.js';
import { layCable } from './harness/cable.js';
import { addUser } from './harness/cluster.js';
import { cluster, setUp } from './harness/setup.js';

setUp({ launches: false });

/** A browser with a profile on disk, which can be killed. */
async function startBrowser(t, profile) {
  await rm(`${profile}/DevToolsActivePort`, { force: true });
  const chrome = spawn(CHROMIUM, [...ARGUMENTS, `--user-data-dir=${profile}`, '--remote-debugging-port=0', 'about:blank'], { stdio: 'ignore', detached: true });
  const gone = new Promise(resolve => chrome.once('exit', resolve));
  // Debian's chromium is a script: the browser is in its process group.
  const end = () => chrome.exitCode === null && chrome.signalCode === null && process.kill(-chrome.pid, 'SIGKILL');
  process.once('exit', end);
  const kill = async () => {
    end();
    await gone;
    process.off('exit', end);
  };
  t.after(kill);
  const port = await eventually(() => readFile(`${profile}/DevToolsActivePort`, 'utf8').then(text => text.split('\n')[0], () => ''), 'the browser listens');
  const [context] = (await chromium.connectOverCDP(`http://127.0.0.1:${port}`)).contexts();
  return { context, kill, gone };
}

/** Ends a browser in good order: it writes its cookies to the disk then, and otherwise every 30 s. */
async function end(context, gone) {
  const session = await context.browser().newBrowserCDPSession();
  await Promise.all([gone, session.send('Browser.close')]);
}

for (const when of ['before the answer came', 'a moment after the answer came']) {
  const outcome = when === 'before the answer came' ? 'logs nobody out' : 'has its session if it has the new cookie';
  test(`a browser that is killed ${when} ${outcome}`, async t => {
    const profile = await mkdtemp('/var/tmp/gatefold-profile-');
    t.after(() => rm(profile, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 }));
    const user = await addUser(cluster);
    const cable = await layCable(cluster.port);
    t.after(() => cable.close());

    let { context, kill, gone } = await startBrowser(t, profile);
    await signedIn(context, cable.url, user.username);
    await end(context, gone);

    ({ context, kill } = await startBrowser(t, profile));
    const held = when === 'before the answer came' && cable.holdAnswer('POST /api/refresh');
    const page = await openTab(context, cable.url, { resume: !held });
    if (held) {
      page.evaluate(() => session.resume()).catch(() => {});
      await held;
    } else {
      assert.equal(await userOf(page), user.username, 'a browser that ended in good order has its session');
    }
    // The cookie that is on the disk was traded at the server; the next one is in memory, or has not come.
    const cookies = await sessionCookies(context);
    await kill();

    ({ context, kill } = await startBrowser(t, profile));
    const isSame = (await sessionCookies(context))[0].value === cookies[0].value;
    t.diagnostic(`the cookie is ${isSame ? 'that which the browser had' : 'an older one'}`);
    const again = await openTab(context, cable.url);
    // The key went with the answer. A browser that has the old cookie again is told from nobody who has stolen it.
    if (!held && !isSame) return assert.equal(await userOf(again), null);
    assert.equal(await userOf(again), user.username);
    await again.evaluate(() => session.refresh());
    assert.deepEqual(await heard(again, 'sessionexpired'), []);
  });
}
