/** What the account has: its sessions, which can be ended, and what happened to it. */
import { $, make, moment, onClick } from './page-elements.js';

/** @type {Record<string, string>} */
const KINDS = {
  registered: 'Account opened',
  logged_in: 'Logged in',
  login_failed: 'Failed log-in',
  logins_limited: 'Log-ins refused: too many had failed',
  logged_out: 'Logged out',
  logged_out_everywhere: 'Logged out everywhere',
  session_ended: 'Session ended',
  refresh_token_reused: 'A refresh token was used twice: the session was ended',
  password_changed: 'Password changed',
  user_exported: 'An administrator exported what is kept of you',
  room_granted: 'Let into a room',
  room_revoked: 'Not let into a room any more',
};

/** @param {string | null} agent */
function browser(agent) {
  const name = /(Firefox|Edg|OPR|Chrome|Safari|curl)\//.exec(agent ?? '')?.[1];
  return name ? name.replace('Edg', 'Edge').replace('OPR', 'Opera') : 'unknown browser';
}

/** @param {(path: string, init?: RequestInit) => Promise<any>} call a call of the API, which gives its answer or fails */
export function account(call) {
  async function loadSessions() {
    const { sessions } = await call('/api/sessions');
    $('sessions').replaceChildren(...sessions.map(entryOf));
  }

  /** @param {any} session */
  function entryOf({ id, current, createdAt, lastUsedAt, ip, userAgent }) {
    const what = make('span', {}, `${browser(userAgent)}, ${ip}`,
      make('small', {}, `since ${moment(createdAt)}, used ${moment(lastUsedAt)}`));
    if (current) return make('li', {}, what, make('strong', {}, 'this one'));
    const end = make('button', { type: 'button', id: `end-${id}` }, 'End');
    end.setAttribute('aria-label', `End the session of ${browser(userAgent)} from ${ip}, since ${moment(createdAt)}`);
    const entry = make('li', {}, what, end);
    queueMicrotask(() => onClick(end.id, 'End a session', async () => {
      await call(`/api/sessions/${id}`, { method: 'DELETE' });
      await loadSessions();
      $('load-sessions').focus();
    }));
    return entry;
  }

  async function loadEvents() {
    const { events } = await call('/api/events');
    $('events').replaceChildren(...events.map((/** @type {any} */ { kind, at, ip, userAgent, details }) => {
      const from = details?.lastAddress ? `; it had been used from ${details.lastAddress}` : '';
      const where = [ip, userAgent && browser(userAgent)].filter(Boolean).join(', ');
      return make('li', {}, make('span', {}, KINDS[kind] ?? kind.replaceAll('_', ' '),
        make('small', {}, `${moment(at)}${where && `, from ${where}`}${from}`)));
    }));
  }

  onClick('load-sessions', 'Sessions', loadSessions);
  onClick('load-events', 'Events', loadEvents);
  return () => Promise.allSettled([loadSessions(), loadEvents()]);
}
