/** The page at `/`, as people use it: by mouse, by keyboard, with a screen reader, in the light and in the dark. */
import assert from 'node:assert/strict';
import { mkdir, readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { before, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { eventually } from './harness/browser.js';
import { layCable } from './harness/cable.js';
import { PASSWORD, addUser, logIn } from './harness/cluster.js';
import { browser, cluster, setUp } from './harness/setup.js';

const AXE = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const SCREENSHOTS = fileURLToPath(new URL('../../target/client-tests/', import.meta.url));

setUp();
before(() => mkdir(SCREENSHOTS, { recursive: true }));

/** The page, opened in a browser of its own. Whatever its policy forbids, or it does not catch, fails the test. */
async function visit(t, { url = cluster.url, ...options } = {}) {
  const context = await browser.newContext({ viewport: { width: 1200, height: 900 }, ...options });
  const complaints = [];
  t.after(async () => {
    await context.close();
    assert.deepEqual(complaints, []);
  });
  const open = async () => {
    const page = await context.newPage();
    page.on('pageerror', error => complaints.push(error.message));
    page.on('console', message => /Content Security|TrustedHTML/i.test(message.text()) && complaints.push(message.text()));
    await page.goto(url);
    await page.waitForSelector('#out:not([hidden]), #in:not([hidden])');
    return page;
  };
  return { context, open, page: await open() };
}

async function signIn(page, username) {
  await page.fill('#name', username);
  await page.fill('#password', PASSWORD);
  await page.click('button[value=login]');
  await socketIs(page, 'open');
}

const socketIs = (page, state) => page.waitForFunction(state => document.querySelector('#socket-state').textContent === state, state);
const text = (page, selector) => page.textContent(selector);
const says = (page, selector, what) =>
  page.waitForFunction(([selector, what]) => document.querySelector(selector).textContent.includes(what), [selector, what]);
// What is below a dialog's screen is not behind it.
const shoot = async (page, name) => page.screenshot({ path: `${SCREENSHOTS}${name}.png`, fullPage: !await page.isVisible('dialog') });

async function checkAccessibility(page, where) {
  for (const colorScheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
    await page.evaluate(AXE);
    const unheard = await page.evaluate(() => [...document.querySelectorAll('[role=status], [role=alert], [role=log]')]
      .filter(region => !region.closest('[hidden]') && getComputedStyle(region).display === 'none').map(({ id }) => id));
    assert.deepEqual(unheard, [], 'what is said there is not heard when it was not there before');
    const { violations } = await page.evaluate(() => axe.run(document, { resultTypes: ['violations'] }));
    const found = violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ target }) => target).join(', ')}`);
    assert.deepEqual(found, [], `${where}, ${colorScheme}`);
    await shoot(page, `${where}-${colorScheme}`);
  }
}

test('an account is opened, logged out of and logged in to, by keyboard alone', async t => {
  const { page } = await visit(t);
  const username = `page.${Date.now()}`;
  const type = async (...keys) => {
    for (const key of keys) await (key.length > 1 && !['Tab', 'Enter'].includes(key) ? page.keyboard.type(key) : page.keyboard.press(key));
  };
  assert.equal(await page.evaluate(() => document.activeElement.id), 'name');
  await type(username, 'Tab', 'short', 'Tab', 'Tab', 'Enter');
  await says(page, '#sign-in-error', 'at least 8');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'password');
  await page.keyboard.press('Control+a');
  await type(PASSWORD, 'Tab', 'Tab', 'Enter');
  await socketIs(page, 'open');
  assert.equal(await text(page, '#username'), username);
  assert.equal(await page.evaluate(() => document.activeElement.id), 'in-title');
  await page.focus('#log-out');
  await type('Enter');
  await says(page, '#notice', 'You have logged out.');
  assert.equal(new URL(page.url()).hash, '#log-in');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'name');
  await type(username, 'Tab', PASSWORD, 'Enter');
  await socketIs(page, 'open');
});

test('everything can be reached by keyboard, in order, and shows that it is', async t => {
  const { page } = await visit(t);
  const user = await addUser(cluster, 'keys');
  await signIn(page, user.username);
  await page.focus('#room');
  await page.keyboard.press('Enter');
  await page.waitForSelector('#text[aria-disabled=false]');
  await page.focus('.skip');
  const stops = [];
  for (;; await page.keyboard.press('Tab')) {
    const [name, outline] = await page.evaluate(() => {
      const { id, href, className } = document.activeElement;
      return [id || className || href, getComputedStyle(document.activeElement).outlineStyle];
    });
    if (!name || stops.includes(name)) break;
    assert.equal(outline, 'solid', name);
    stops.push(name);
  }
  const wanted = await page.evaluate(() => [...document.querySelectorAll('a, button, input, [tabindex="0"]')]
    .filter(element => element.checkVisibility() && !element.disabled).map(({ id, href, className }) => id || className || href));
  assert.deepEqual(stops, wanted);

  await page.focus('#text');
  await page.keyboard.type('Hello');
  await page.keyboard.press('Enter');
  await says(page, '#messages', `${user.username}: Hello`);
  assert.equal(await page.evaluate(() => document.activeElement.id), 'text', 'one can go on typing');
  await (await logIn(cluster, user.username)).rest('POST', '/api/logout-all');
  await page.waitForSelector('#over[open]');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'over-now');
  await page.keyboard.press('Escape');
  await page.waitForSelector('#out:not([hidden])');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'name');
});

test('every button does what it says, and the activity log tells it', async t => {
  const { page } = await visit(t);
  const user = await addUser(cluster, 'buttons');
  await signIn(page, user.username);
  await page.click('#ping');
  await says(page, '#activity', 'Ping: answered after');
  await page.click('#protected');
  await says(page, '#activity', `"username":"${user.username}"`);
  await page.click('#reauth');
  await says(page, '#activity', 'Socket has the new token');
  await page.click('#disconnect');
  await socketIs(page, 'closed');
  assert.ok(await page.isDisabled('#ping'));
  await page.click('#connect');
  await socketIs(page, 'open');
  await page.click('#clear');
  await page.click('#refresh');
  await says(page, '#activity', 'A new access token, good for 1');
  await says(page, '#activity', 'Socket has the new token');
  assert.match(await text(page, '#api-replica'), /^[0-9a-f]+:\d+$/);
  assert.match(await text(page, '#ws-replica'), /^[0-9a-f-]{36}$/);
  for (const id of ['#token-left', '#token-refresh', '#socket-left']) {
    const before = await text(page, id);
    assert.match(before, /^1\d min \d\d s$/, id);
    await page.waitForFunction(([id, before]) => document.querySelector(id).textContent !== before, [id, before], { timeout: 3_000 });
  }
  await page.click('#log-out-everywhere');
  await says(page, '#notice', 'All of your sessions were logged out.');
});

test('both REST replicas answer, and the page shows which', async t => {
  const { page } = await visit(t);
  await signIn(page, (await addUser(cluster)).username);
  const seen = new Set();
  await eventually(async () => {
    await page.click('#protected');
    seen.add(await text(page, '#api-replica'));
    return seen.size === 2;
  }, 'both were seen');
});

test('two people meet in a room', async t => {
  const [one, other] = [await visit(t), await visit(t)];
  const [ada, grace] = [await addUser(cluster, '', 'ada'), await addUser(cluster, '', 'grace')];
  await signIn(one.page, ada.username);
  await signIn(other.page, grace.username);
  for (const { page } of [one, other]) {
    await page.click('#enter');
    await page.waitForSelector('#text[aria-disabled=false]');
  }
  await says(one.page, '#users', grace.username);
  assert.equal(await text(one.page, '#count'), '2');
  await other.page.locator('#text').pressSequentially('Hel');
  await says(one.page, '#typing', `${grace.username} is typing…`);
  await other.page.locator('#text').pressSequentially('lo, <b>Ada</b>!');
  await other.page.keyboard.press('Enter');
  for (const { page } of [one, other]) await says(page, '#messages', `${grace.username}: Hello, <b>Ada</b>!`);
  await one.page.waitForFunction(() => document.querySelector('#typing').textContent === '');
  await one.page.fill('#text', 'Hello, Grace! Markup stays text here.');
  await one.page.click('#send');
  await says(other.page, '#messages', `${ada.username}: Hello, Grace!`);
  await checkAccessibility(one.page, 'room');
  await other.page.click('#leave');
  await one.page.waitForFunction(() => document.querySelector('#count').textContent === '1');
  await says(one.page, '#activity', `${grace.username} left lobby`);
});

test('a session is ended from the list, and its page counts down to log-in and says why', async t => {
  const [one, other] = [await visit(t), await visit(t)];
  const user = await addUser(cluster);
  await signIn(one.page, user.username);
  await signIn(other.page, user.username);
  await other.page.click('#load-sessions');
  await other.page.waitForFunction(() => document.querySelectorAll('#sessions li').length === 3);
  // The newest is this one's own, the next is the other's.
  await other.page.locator('#sessions li').nth(1).getByRole('button').click();
  await one.page.waitForSelector('#over[open]');
  assert.equal(await text(one.page, '#over-reason'), 'The session was ended from another one of yours.');
  await checkAccessibility(one.page, 'over');
  const began = performance.now();
  await says(one.page, '#notice', 'The session was ended from another one of yours.');
  assert.ok(performance.now() - began < 11_000);
  assert.ok(await one.page.isVisible('#out'));
  assert.equal(new URL(one.page.url()).hash, '#log-in');
  await other.page.waitForFunction(() => document.querySelectorAll('#sessions li').length === 2);
  await eventually(async () => {
    await other.page.click('#load-events');
    return (await text(other.page, '#events')).includes('Session ended');
  }, 'the list of events tells it');
  // Back in at once.
  await signIn(one.page, user.username);
});

test('what ends a session in one tab shows in the other, which can log in without waiting', async t => {
  const { open, page } = await visit(t);
  const user = await addUser(cluster);
  await signIn(page, user.username);
  const tab = await open();
  await socketIs(tab, 'open');
  const other = await logIn(cluster, user.username);
  await other.rest('POST', '/api/logout-all');
  for (const each of [page, tab]) await each.waitForSelector('#over[open]');
  await page.click('#over-now');
  await page.waitForSelector('#out:not([hidden])');
  await signIn(page, user.username);
  await tab.waitForSelector('#in:not([hidden])');
  assert.ok(!await tab.isVisible('#over'));
  await socketIs(tab, 'open');
});

test('a reload keeps the session', async t => {
  const { page } = await visit(t);
  const user = await addUser(cluster);
  await signIn(page, user.username);
  await page.reload();
  await socketIs(page, 'open');
  assert.equal(await text(page, '#username'), user.username);
});

test('there is nothing that axe would object to, and no policy that the page needs to break', async t => {
  const { page } = await visit(t);
  await checkAccessibility(page, 'log-in');
  await page.fill('#name', 'nobody');
  await page.fill('#password', 'nothing');
  await page.click('button[value=login]');
  await says(page, '#sign-in-error', 'Invalid credentials');
  await checkAccessibility(page, 'refused');
  await signIn(page, (await addUser(cluster)).username);
  await page.click('#load-events');
  await page.waitForSelector('#events li');
  await checkAccessibility(page, 'session');
  const response = await page.request.get(cluster.url);
  const policy = response.headers()['content-security-policy'];
  assert.match(policy, /default-src 'none'.*script-src 'self'.*require-trusted-types-for 'script'/);
  assert.doesNotMatch(policy, /unsafe/);
  for (const file of ['gatefold.js', 'page.js', 'style.css', 'icon.svg']) {
    const { headers } = { headers: (await page.request.get(`${cluster.url}/${file}`)).headers() };
    assert.match(headers['content-type'], { js: /^text\/javascript/, css: /^text\/css/, svg: /^image\/svg/ }[file.split('.')[1]]);
    assert.equal(headers['cache-control'], 'no-cache');
  }
});

test('it fits a narrow screen', async t => {
  const { page } = await visit(t, { viewport: { width: 320, height: 700 } });
  const width = () => page.evaluate(() => document.documentElement.scrollWidth);
  assert.equal(await width(), 320);
  await signIn(page, (await addUser(cluster)).username);
  await page.click('#enter');
  await page.waitForSelector('#text[aria-disabled=false]');
  assert.equal(await width(), 320);
  await checkAccessibility(page, 'narrow');
});

test('while the server is away it says so, and is as it was when it is back', async t => {
  const cable = await layCable(cluster.port);
  t.after(() => cable.close());
  const { page } = await visit(t, { url: cable.url });
  await signIn(page, (await addUser(cluster)).username);
  await page.click('#enter');
  await page.waitForSelector('#text[aria-disabled=false]');
  cable.cut();
  await says(page, '#socket-state', 'trying again in');
  assert.ok(await page.isDisabled('#text'));
  await page.focus('#text');
  await page.keyboard.type('lost');
  assert.equal(await page.inputValue('#text'), '');
  await page.click('#protected');
  await says(page, '#activity', 'Protected call failed: The server cannot be reached');
  assert.equal(await text(page, '#socket-left'), '–');
  await checkAccessibility(page, 'away');
  cable.restore();
  await socketIs(page, 'open');
  await page.waitForSelector('#text[aria-disabled=false]');
});

const focused = page => page.evaluate(() => document.activeElement.id);

test('who types or presses a key stays where they are, whatever that or the network does', async t => {
  const cable = await layCable(cluster.port);
  t.after(() => cable.close());
  const { page } = await visit(t, { url: cable.url });
  await signIn(page, (await addUser(cluster)).username);
  const press = async (id, other, can) => {
    await page.focus(`#${id}`);
    await page.keyboard.press('Enter');
    await page.waitForSelector(`#${other}[aria-disabled=${!can}]`);
    assert.equal(await focused(page), id);
  };
  await press('disconnect', 'connect', true);
  await press('connect', 'ping', true);
  await press('enter', 'text', true);
  await press('leave', 'text', false);
  await press('enter', 'text', true);
  await page.focus('#text');
  await page.keyboard.type('Hel');
  cable.cut();
  await page.waitForSelector('#text[aria-disabled=true]');
  assert.equal(await focused(page), 'text');
  await page.keyboard.press('Enter');
  cable.restore();
  await page.waitForSelector('#text[aria-disabled=false]');
  assert.equal(await focused(page), 'text');
  await page.keyboard.type('lo');
  await page.keyboard.press('Enter');
  await says(page, '#messages', ': Hello');
});

test('whoever logs in next sees nothing of the one before', async t => {
  const { page } = await visit(t);
  const [one, next, last] = [await addUser(cluster, 'one'), await addUser(cluster, 'next'), await addUser(cluster, 'last')];
  const seen = () => page.evaluate(() => [document.querySelector('main').textContent, document.querySelector('#text').value,
    document.querySelector('#room').value].join());
  const fill = async (text, draft) => {
    await page.fill('#room', `of-${text}`);
    await page.click('#enter');
    await page.fill('#text', text);
    await page.keyboard.press('Enter');
    await says(page, '#messages', text);
    await page.fill('#text', draft);
    for (const list of ['sessions', 'events']) {
      await page.click(`#load-${list}`);
      await page.waitForSelector(`#${list} li`);
    }
  };
  const isEmpty = async (...words) => {
    assert.equal(await page.locator('#messages p').count(), 0);
    const all = await seen();
    for (const word of words) assert.ok(!all.includes(word), word);
  };
  await signIn(page, one.username);
  await fill('secret', 'half a thought');
  await page.click('#log-out');
  await page.waitForSelector('#out:not([hidden])');
  await isEmpty(one.username, 'secret', 'half a thought');
  for (const list of ['sessions', 'events']) assert.equal(await page.locator(`#${list} li`).count(), 0, list);
  await signIn(page, next.username);
  await isEmpty(one.username, 'secret', 'half a thought');
  await fill('hidden', 'another one');
  // Somebody else logs in, and the end of the session before is not heard of here.
  await page.evaluate(async ([name, password]) => {
    const { AuthSession } = await import('/gatefold.js');
    await new AuthSession().login(name, password);
  }, [last.username, PASSWORD]);
  await says(page, '#username', last.username);
  await page.waitForSelector('#text[aria-disabled=false]');
  await isEmpty(`Logged in as ${next.username}`, 'another one', one.username);
});

/** Logs out on the page by a button whose call is ended by `end`. Gives what the notice says then. */
async function leaveBy(page, button, end) {
  await page.route('**/api/logout*', end);
  await page.click(button);
  await page.waitForSelector('#out:not([hidden])');
  await page.waitForFunction(button => !document.querySelector(button).hasAttribute('aria-busy'), button);
  return text(page, '#notice');
}

test('a log-out that was done is none that failed, also if the answer is lost', async t => {
  const { page } = await visit(t);
  await signIn(page, (await addUser(cluster)).username);
  const said = await leaveBy(page, '#log-out', async route => {
    await route.fetch();
    await page.waitForSelector('#out:not([hidden])');
    await route.abort();
  });
  assert.equal(said, 'You have logged out.');
  assert.match(await text(page, '#activity'), /Log out: the session is over$/);
});

test('who logs out everywhere of a session that is just ended elsewhere is told what became of it', async t => {
  const { page } = await visit(t);
  const user = await addUser(cluster);
  await signIn(page, user.username);
  const other = await logIn(cluster, user.username);
  const { sessions } = await (await other.rest('GET', '/api/sessions')).json();
  const id = await text(page, '#session-id');
  assert.ok(sessions.some(session => session.id === id));
  const said = await leaveBy(page, '#log-out-everywhere', async route => {
    await other.rest('DELETE', `/api/sessions/${id}`);
    await page.waitForSelector('#out:not([hidden])');
    await route.continue();
  });
  assert.equal(said, 'The session was ended from another one of yours.');
});

test('a log-out that failed is told, and can be repeated', async t => {
  const { page } = await visit(t);
  await signIn(page, (await addUser(cluster)).username);
  await page.route('**/api/logout', route => route.abort());
  await page.click('#log-out');
  await says(page, '#notice', 'You could not be logged out.');
  assert.ok(await page.isVisible('#in'));
  await page.unroute('**/api/logout');
  await page.click('#log-out');
  await says(page, '#notice', 'You have logged out.');
});

test('what was typed to log in does not wait for the next one, when somebody was in meanwhile', async t => {
  const { open, page } = await visit(t);
  const user = await addUser(cluster);
  await page.fill('#name', user.username);
  await page.fill('#password', 'wrong');
  await page.click('button[value=login]');
  await says(page, '#sign-in-error', 'Invalid credentials');
  await page.fill('#password', PASSWORD);
  const tab = await open();
  await signIn(tab, user.username);
  await page.waitForSelector('#in:not([hidden])');
  await tab.click('#log-out');
  await page.click('#over-now');
  await page.waitForSelector('#out:not([hidden])');
  for (const each of [page, tab]) {
    assert.deepEqual([await each.inputValue('#name'), await each.inputValue('#password')], ['', '']);
    assert.equal(await text(each, '#sign-in-error'), '');
  }
});

test('whoever is in a hurry logs in once', async t => {
  const { page } = await visit(t);
  const user = await addUser(cluster);
  const asked = [];
  let go;
  const pressed = new Promise(resolve => (go = resolve));
  await page.route(/\/api\/(login|register)$/, async route => {
    asked.push(new URL(route.request().url()).pathname);
    await pressed;
    await route.continue();
  });
  await page.fill('#name', user.username);
  await page.fill('#password', PASSWORD);
  await page.keyboard.press('Enter');
  await page.keyboard.press('Enter');
  await page.click('button[value=login]');
  await page.click('button[value=register]');
  go();
  await socketIs(page, 'open');
  assert.deepEqual(asked, ['/api/login']);
  // And once more, after that.
  await page.click('#log-out');
  await page.waitForSelector('#out:not([hidden])');
  await signIn(page, user.username);
});

test('a page that the server refuses says so', async t => {
  const { page } = await visit(t);
  // Where there never was a session nothing is asked.
  await signIn(page, (await addUser(cluster)).username);
  await page.route('**/api/refresh', route => route.fulfill({
    status: 403, json: { code: 'forbidden_origin', detail: 'Not for pages of this origin' },
  }));
  await page.reload();
  await says(page, '#notice', 'The server refuses this page: Not for pages of this origin');
  assert.ok(await page.isVisible('#out'));
});

test('after a sleep the countdowns are right', async t => {
  const { page } = await visit(t);
  await signIn(page, (await addUser(cluster)).username);
  // The steady clock stands still while a laptop sleeps; the other one does not.
  await page.evaluate(() => {
    const { now } = Date;
    Date.now = () => now() + 5 * 60_000;
  });
  for (const id of ['token-left', 'socket-left']) await says(page, `#${id}`, '9 min');
});

test('who changes rooms gets there, also if the server cannot be told that the other one was left', async t => {
  const { page } = await visit(t);
  await page.routeWebSocket('**/ws', socket => {
    const server = socket.connectToServer();
    socket.onMessage(data => {
      const { type, id } = JSON.parse(data);
      if (type !== 'leave') return server.send(data);
      const payload = { code: 'unavailable', message: 'Temporarily unavailable', requireReauth: false };
      socket.send(JSON.stringify({ type: 'error', payload, id }));
    });
  });
  const user = await addUser(cluster);
  await signIn(page, user.username);
  for (const room of ['here', 'there']) {
    await page.fill('#room', room);
    await page.click('#enter');
    await says(page, '#activity', `Entered ${room}`);
  }
  await page.waitForSelector('#text[aria-disabled=false]');
});

test('nothing moves for those who would rather not see it', async t => {
  for (const [reducedMotion, moves] of [['reduce', false], ['no-preference', true]]) {
    const { page } = await visit(t, { reducedMotion });
    const durations = await page.evaluate(() => [...document.querySelectorAll('*')].flatMap(element => {
      const { transitionDuration, animationDuration } = getComputedStyle(element);
      return [...transitionDuration.split(', '), ...animationDuration.split(', ')].map(parseFloat);
    }));
    assert.equal(durations.some(duration => duration > 0), moves, reducedMotion);
  }
});
