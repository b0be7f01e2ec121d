/** The page at `/`: log in, and watch tokens, sockets, rooms and sessions live. */
import { AuthSession, GatefoldError, RealtimeClient } from './gatefold.js';
import { account } from './page-account.js';
import { $, countdown, enable, note, onClick, reasonFor, span, tell } from './page-elements.js';
import { rooms } from './page-room.js';

const COUNTDOWN_MS = 10_000;

const session = new AuthSession();
const client = new RealtimeClient(session);
/** For how long the socket's token is still good. */
let socketLeft = countdown(0);
let isLeaving = false;
/** Whose data the page shows, by id. */
let owner = 0;

/** A call of the API with the access token, for its answer, if it is still the session's that asked. @param {string} path @param {RequestInit} [init] */
async function call(path, init) {
  const { id } = session;
  const response = await session.fetch(path, init).catch(cause => {
    throw cause instanceof GatefoldError ? cause : new GatefoldError('network', 'The server cannot be reached', { cause });
  });
  $('api-replica').textContent = response.headers.get('X-Replica') ?? 'unknown';
  if (!response.ok) throw await GatefoldError.from(response);
  const answer = response.status === 204 ? null : await response.json();
  if (session.id !== id) throw new GatefoldError('session_over', 'The session has ended meanwhile');
  return answer;
}

const load = account(call);
rooms(client);

/** Shows either half of the page. @param {boolean} isIn */
function show(isIn) {
  const wasIn = !$('in').hidden;
  $('in').hidden = $('who').hidden = !isIn;
  $('out').hidden = isIn;
  history.replaceState(null, '', isIn ? '/' : '/#log-in');
  document.title = isIn ? `${session.user?.username} – Gatefold` : 'Log in – Gatefold';
  if (isIn && !wasIn) $('in-title').focus();
  if (!isIn) return $('name').focus();
  // What was typed there is nobody's business any more, whoever has logged in, and in whichever tab.
  $('sign-in').reset();
  $('sign-in-error').textContent = '';
}

/** Takes away what was said to whoever was here: the next one may be somebody else. */
function empty() {
  for (const id of ['messages', 'sessions', 'events', 'activity']) $(id).replaceChildren();
  for (const id of ['join', 'say']) $(id).reset();
}

// Logging in.

$('sign-in').addEventListener('submit', async (/** @type {SubmitEvent} */ event) => {
  event.preventDefault();
  if ($('sign-in').hasAttribute('aria-busy')) return;
  $('sign-in').setAttribute('aria-busy', 'true');
  const { value } = /** @type {HTMLButtonElement} */ (event.submitter);
  const [name, password] = [$('name').value.trim(), $('password').value];
  $('sign-in-error').textContent = '';
  try {
    await (value === 'register' ? session.register(name, password) : session.login(name, password));
  } catch (error) {
    // Somebody may be in meanwhile, from another tab.
    if (session.user) return;
    $('sign-in-error').textContent = /** @type {Error} */ (error).message;
    $('password').focus();
  } finally {
    $('sign-in').removeAttribute('aria-busy');
  }
});

session.on('login', ({ user }) => {
  if (owner && user.id !== owner) empty();
  owner = user.id;
  $('username').textContent = user.username;
  $('session-id').textContent = session.id;
  if ($('over').open) $('over').close();
  tell('');
  show(true);
  note(`Logged in as ${user.username}`);
  client.connect();
  if (document.visibilityState === 'visible') load();
});

// Logging out, and being logged out.

onClick('log-out', 'Log out', () => leave(false));
onClick('log-out-everywhere', 'Log out everywhere', () => leave(true));

/** @param {boolean} everywhere @returns {Promise<string | void>} */
async function leave(everywhere) {
  const { id } = session;
  isLeaving = true;
  try {
    await session.logout({ everywhere });
  } catch (error) {
    // Of its end was heard all the same: this log-out was done and its answer lost, or another one came before.
    if (session.id !== id) return 'the session is over';
    tell('You could not be logged out. Please try again.');
    throw error;
  } finally {
    isLeaving = false;
  }
}

session.on('sessionexpired', ({ reason }) => {
  empty();
  note(`Session over: ${reason}`);
  if (isLeaving) {
    show(false);
    return tell(reasonFor(reason));
  }
  $('over-reason').textContent = reasonFor(reason);
  $('over').returnValue = reason;
  $('over').showModal();
  const remaining = countdown(COUNTDOWN_MS);
  const count = () => {
    const left = Math.ceil(remaining() / 1000);
    $('over-countdown').textContent = String(Math.max(0, left));
    if (left <= 0) $('over').close();
  };
  count();
  const timer = setInterval(count, 250);
  $('over').addEventListener('close', () => {
    clearInterval(timer);
    if (session.user) return;
    show(false);
    tell(reasonFor(reason));
  }, { once: true });
});

// The token.

session.on('token', ({ expiresIn }) => {
  tick();
  note(`A new access token, good for ${span(expiresIn * 1000)}`);
});
session.on('retry', ({ error, delay }) => note(`${error.message}; trying again in ${span(delay)}`));
onClick('refresh', 'Refresh', () => session.refresh());
onClick('protected', 'Protected call', async () => JSON.stringify(await call('/api/protected')));

// The socket.

const STATES = { closed: 'closed', connecting: 'connecting…', open: 'open', waiting: 'waiting' };
client.on('state', ({ state, delay = 0 }) => {
  $('socket-state').textContent = state === 'waiting' ? `trying again in ${span(delay)}` : STATES[state];
  $('socket-state').dataset.state = state;
  tick();
  enable('connect', state === 'closed');
  enable('disconnect', state !== 'closed');
  for (const id of ['ping', 'reauth']) enable(id, state === 'open');
  if (state !== 'open') $('connection-id').textContent = $('ws-replica').textContent = '–';
});
client.on('connected', ({ connectionId, replica }) => {
  $('connection-id').textContent = connectionId;
  $('ws-replica').textContent = replica ?? 'unknown';
  socketLeft = countdown(session.remaining);
  tick();
  note('Socket open');
});
client.on('reauthenticated', () => {
  socketLeft = countdown(session.remaining);
  note('Socket has the new token');
});
client.on('disconnected', ({ code, reason }) => note(`Socket closed (${code}${reason && `, ${reason}`})`));
client.on('error', error => note(`Socket: ${error.message} (${error.code})`));
onClick('connect', 'Connect', async () => client.connect());
onClick('disconnect', 'Disconnect', async () => client.disconnect());
onClick('ping', 'Ping', async () => `answered after ${(await client.ping()).latency.toFixed(1)} ms`);
onClick('reauth', 'Reauth', async () => void await client.reauth());

// Countdowns.

/** Sets a text that may not have changed, so that nothing is painted for nothing. @param {string} id @param {string} text */
const put = (id, text) => $(id).textContent !== text && ($(id).textContent = text);

function tick() {
  put('token-left', span(session.remaining));
  put('token-refresh', span(session.refreshIn));
  $('token-bar').value = session.lifetime ? Math.max(0, session.remaining / session.lifetime) : 0;
  put('socket-left', client.state === 'open' ? span(socketLeft()) : '–');
}
setInterval(tick, 1000);

document.addEventListener('visibilitychange', () => {
  if (document.visibilityState === 'visible' && session.user) load();
});
$('clear').addEventListener('click', () => $('activity').replaceChildren());

for (const id of ['disconnect', 'ping', 'reauth']) enable(id, false);
session.on('retry', () => $('in').hidden && tell('The server cannot be reached. Trying again…'));
try {
  if (!await session.resume({ timeout: Infinity })) {
    tell('');
    show(false);
  }
} catch (error) {
  tell(`The server refuses this page: ${/** @type {Error} */ (error).message}`);
  show(false);
}
