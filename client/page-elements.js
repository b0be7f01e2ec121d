/** What all parts of the page use: its elements, its words for times and ends, and the activity log. */

/** @param {string} id @returns {any} an element of the page */
export const $ = id => document.getElementById(id);

/**
 * Makes an element with text and children; never from markup.
 * @param {string} name @param {Record<string, any>} properties @param {(Node | string)[]} children
 * @returns {any}
 */
export function make(name, properties = {}, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

/** Adds a line to a list that keeps the last of them, and keeps the end in sight if it was. @param {HTMLElement} list @param {HTMLElement} line */
export function addLine(list, line) {
  const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
  list.append(line);
  while (list.childElementCount > 200) list.firstElementChild?.remove();
  if (atEnd) list.scrollTop = list.scrollHeight;
}

/** @param {number} at milliseconds since 1970 @returns {HTMLElement} */
export function clock(at) {
  const date = new Date(at);
  return make('time', { dateTime: date.toISOString() }, date.toLocaleTimeString());
}

/** @param {number} at milliseconds since 1970 */
export const moment = at => new Date(at).toLocaleString(undefined, { dateStyle: 'medium', timeStyle: 'short' });

/** @param {number} ms */
export function span(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  return seconds < 60 ? `${seconds} s` : `${Math.floor(seconds / 60)} min ${String(seconds % 60).padStart(2, '0')} s`;
}

/** What is left of some time, by whichever clock moves further: the steady one may stop while the machine sleeps. @param {number} ms */
export function countdown(ms) {
  const [steady, wall] = [performance.now(), Date.now()];
  return () => ms - Math.max(performance.now() - steady, Date.now() - wall);
}

/** Notes what happens. @param {string} what */
export const note = what => addLine($('activity'), make('p', {}, clock(Date.now()), what));

/** Says something to the user, once. @param {string} what */
export const tell = what => ($('notice').textContent = what);

/** Whether a button or a field can be used now. Not by `disabled`, which takes the focus away from who is there. @param {string} id @param {boolean} can */
export function enable(id, can) {
  $(id).setAttribute('aria-disabled', String(!can));
  if ($(id) instanceof HTMLInputElement) $(id).readOnly = !can;
}

/** @param {string} id */
export const isEnabled = id => $(id).getAttribute('aria-disabled') !== 'true';

/**
 * Has a button do something, but not twice at once, and tells if it fails.
 * @param {string} id @param {string} what @param {() => Promise<string | void>} act what it says is noted
 */
export function onClick(id, what, act) {
  const button = $(id);
  button.addEventListener('click', async () => {
    if (!isEnabled(id) || button.hasAttribute('aria-busy')) return;
    button.setAttribute('aria-busy', 'true');
    try {
      const said = await act();
      note(said ? `${what}: ${said}` : what);
    } catch (error) {
      note(`${what} failed: ${/** @type {Error} */ (error).message}`);
    } finally {
      button.removeAttribute('aria-busy');
    }
  });
}

/** Why sessions end, for people. @type {Record<string, string>} */
const REASONS = {
  logout: 'You have logged out.',
  logout_all: 'All of your sessions were logged out.',
  password_changed: 'Your password was changed.',
  refresh_token_reused: 'A refresh token was used twice, which may mean that it was stolen.',
  ended_by_user: 'The session was ended from another one of yours.',
  ended_by_admin: 'An administrator has ended the session.',
  disabled: 'The account is disabled.',
  evicted: 'You have opened too many other sessions.',
  several_refresh_tokens: 'This browser had cookies of several sessions, perhaps set by another site: all of them were ended.',
  account_replaced: 'The account is another one by now.',
  session_not_found: 'The session has expired.',
  session_revoked: 'The session was ended elsewhere.',
  missing_refresh_token: 'The session has expired.',
};

/** @param {string} reason */
export const reasonFor = reason => REASONS[reason] ?? `The session has ended (${reason}).`;
