/** A room: who says what, who is here, who is typing. */
import { $, addLine, clock, enable, isEnabled, make, note, tell } from './page-elements.js';

/** @typedef {import('./gatefold.js').RealtimeClient} RealtimeClient */
/** @typedef {import('./gatefold.js').Room} Room */
/** @typedef {import('./gatefold.js').User} User */

/** @param {RealtimeClient} client */
export function rooms(client) {
  /** @type {Room | null} */
  let room = null;
  let isEntering = false;

  /** @param {string} name */
  async function enter(name) {
    isEntering = true;
    show();
    try {
      // Whether the server has heard of it or not, we are out.
      await room?.leave().catch(() => {});
      client.connect();
      $('messages').replaceChildren();
      const entered = await client.join(name, { timeout: Infinity });
      if (room !== entered) watch(entered);
    } catch (error) {
      tell(`You cannot enter ${name}: ${/** @type {Error} */ (error).message}`);
    } finally {
      isEntering = false;
      show();
    }
  }

  /** @param {Room} entered */
  function watch(entered) {
    room = entered;
    note(`Entered ${entered.name}`);
    entered.on('message', ({ user, data, timestamp }) => {
      const text = typeof data?.text === 'string' ? data.text : JSON.stringify(data);
      addLine($('messages'), make('p', {}, clock(timestamp), make('strong', {}, user.username), `: ${text}`));
    });
    entered.on('presence', ({ event, user }) => note(`${user.username} ${event === 'join' ? 'came to' : 'left'} ${entered.name}`));
    entered.on('users', showUsers);
    entered.on('typing', showTyping);
    entered.on('away', show);
    entered.on('joined', ({ recovered }) => {
      show();
      if (!recovered) note(`Some messages in ${entered.name} were missed`);
    });
    entered.on('left', ({ reason }) => {
      if (room !== entered) return;
      room = null;
      show();
      note(`Left ${entered.name}${reason === 'revoked' ? ': you may not be there any more' : ''}`);
    });
    show();
  }

  function showUsers() {
    const users = [...(room?.users.values() ?? [])].sort((one, other) => one.username.localeCompare(other.username));
    $('users').replaceChildren(...users.map(user => make('li', {}, user.username)));
    $('count').textContent = String(room?.count ?? 0);
  }

  function showTyping() {
    const names = [...(room?.typists.values() ?? [])].map(user => user.username);
    const text = names.length > 3 ? 'Several people are typing…'
      : names.length ? `${names.join(', ')} ${names.length > 1 ? 'are' : 'is'} typing…` : '';
    if ($('typing').textContent !== text) $('typing').textContent = text;
  }

  function show() {
    const isHere = Boolean(room?.joined);
    enable('enter', !isEntering);
    enable('leave', Boolean(room));
    $('messages').dataset.empty = room ? 'Nothing was said since you came.' : 'Enter the room to see what is said.';
    enable('text', isHere);
    enable('send', isHere);
    showUsers();
    showTyping();
  }

  $('join').addEventListener('submit', (/** @type {Event} */ event) => {
    event.preventDefault();
    if (isEnabled('enter')) enter($('room').value.trim());
  });
  $('leave').addEventListener('click', () => room?.leave().catch(() => {}));
  $('text').addEventListener('input', () => ($('text').value ? room?.startTyping() : room?.stopTyping()));
  $('text').addEventListener('blur', () => room?.stopTyping());
  $('say').addEventListener('submit', async (/** @type {Event} */ event) => {
    event.preventDefault();
    const [text, there] = [$('text').value.trim(), room];
    if (!text || !there?.joined) return;
    $('text').value = '';
    try {
      await there.publish({ text });
    } catch (error) {
      tell(`The message may not have been sent: ${/** @type {Error} */ (error).message}`);
      if (room === there && !$('text').value) $('text').value = text;
    }
  });
}
