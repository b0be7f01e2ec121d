/**
 * Gatefold's client for browsers: an {@link AuthSession} that stays logged in, and a {@link RealtimeClient} on top of it.
 *
 * The access token is in memory only, and all tabs of a browser share one session: one of them refreshes, the others
 * hear of it. What must survive a closed tab or a crash is the `Idempotency-Key` of a refresh whose outcome is unknown: it
 * is in IndexedDB, and in localStorage, before the request leaves, for a refresh token that is used twice without it ends
 * the session. Once a response has arrived the key is deleted, and the next refresh has a new one.
 * No decision depends on the clock of this machine being right: only spans of time count.
 *
 * @module gatefold
 */

/** @typedef {{id: number, username: string}} User */
/**
 * @typedef {{user: User, sid: string, value: string, life: number, wall: number, steady: number, lead: number}} Token
 */
/**
 * @typedef {{key: string, pending: boolean, turn: number, over?: number, holder: string, until: number, edits: number}} Turn
 *   `over` is the turn with which the session ended: there is none as long as `turn` has not grown since
 * @typedef {'loading' | 'authenticated' | 'anonymous' | 'unreachable'} Status
 * @typedef {{signal?: AbortSignal, timeout?: number}} Until until when to wait: an abort, or so many milliseconds at most
 */

/** How long a tab waits for its disk. */
const DISK_MS = 2_000;
/** For how long it does without a disk that has hung, if there is something else. */
const DISK_REST_MS = 30_000;
/** How long a tab waits for others to answer, if they have what it needs. */
const ASK_MS = 300;
/** Timers of sleeping machines are late: nobody waits longer than this without a look at the clock. */
const LOOK_MS = 10_000;
/** For how long `resume` and `join` try, unless they are told otherwise. */
const PATIENCE_MS = 30_000;
/** Back-off: full jitter below a ceiling that doubles from the first to the second. */
const BACK_OFF_MS = [500, 20_000];
/** The server takes no larger message. */
const MAX_MESSAGE = 16 * 1024;
/** A refresh reached the server after later ones, or its key had served for another cookie: it needs a new key. */
const SUPERSEDED = 'refresh_superseded';
/** There is no page, and nobody has said where the API is. */
const NOWHERE = 'no_base_url';
/** The browser sends several refresh cookies of living sessions, and the server will not choose. */
const SEVERAL = 'several_refresh_tokens';

/** The jitter comes on top of what the server asks for, which it may ask of many. @param {number} attempt @param {number} [least] */
const backOff = (attempt, least = 0) => least + Math.random() * Math.min(BACK_OFF_MS[1], BACK_OFF_MS[0] * 2 ** attempt);

/** Both clocks, as they were some time ago. The steady one may stop while the machine sleeps, the other one may be set. */
const clocks = (ago = 0) => ({ steady: performance.now() - ago, wall: Date.now() - ago });

/** How many milliseconds ago that was: whichever clock is further counts. @param {{steady: number, wall: number}} then */
const since = then => Math.max(performance.now() - then.steady, Date.now() - then.wall);

/** @param {number} ms @returns {Promise<void>} */
const sleep = ms => new Promise(resolve => setTimeout(resolve, ms));

/** Sleeps until the network is back or all is over, at most. @param {number} ms @param {AbortSignal} over @returns {Promise<void>} */
const pause = (ms, over) => new Promise(resolve => {
  const woken = new AbortController();
  const wake = () => (clearTimeout(timer), woken.abort(), resolve());
  const timer = setTimeout(wake, ms);
  globalThis.addEventListener?.('online', wake, { signal: woken.signal });
  over.addEventListener('abort', wake, { signal: woken.signal });
  if (over.aborted) wake();
});

/** A signal that aborts when one of these does, or after so many milliseconds. @param {(AbortSignal | undefined)[]} signals @param {number} [timeout] */
function any(signals, timeout = Infinity) {
  const [either, listening] = [new AbortController(), new AbortController()];
  const done = () => (clearTimeout(timer), listening.abort());
  const abort = (/** @type {unknown} */ reason) => (done(), either.abort(reason));
  // Later than that is never, to a browser.
  const timer = timeout < 2 ** 31 ? setTimeout(() => abort(new GatefoldError('timeout', 'It took too long')), timeout) : undefined;
  for (const signal of signals) {
    if (signal?.aborted) abort(signal.reason);
    signal?.addEventListener('abort', () => abort(signal.reason), { signal: listening.signal });
  }
  return { signal: either.signal, done };
}

/** Why somebody waits no more. @param {AbortSignal} signal */
const aborted = ({ reason }) =>
  reason instanceof GatefoldError ? reason : new GatefoldError('aborted', 'It was given up', { cause: reason });

/** Waits no longer than until a signal aborts; what was begun goes on. @template T @param {Promise<T>} promise @param {AbortSignal} [signal] @returns {Promise<T>} */
function until(promise, signal) {
  if (!signal) return promise;
  return new Promise((resolve, reject) => {
    const stop = () => reject(aborted(signal));
    if (signal.aborted) stop();
    signal.addEventListener('abort', stop);
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', stop));
  });
}

/** Something went wrong that has a name: `code` is one of the contract's, or `network`, `timeout`, `aborted`, `blocked`, `disconnected`. */
export class GatefoldError extends Error {
  /**
   * @param {string} code
   * @param {string} message
   * @param {{status?: number, retryAfter?: number, requireReauth?: boolean, cause?: unknown}} [more]
   */
  constructor(code, message, { status = 0, retryAfter = 0, requireReauth = false, cause } = {}) {
    super(message, { cause });
    this.name = 'GatefoldError';
    this.code = code;
    /** The HTTP status, or 0. */
    this.status = status;
    /** Seconds after which to try again, or 0. */
    this.retryAfter = retryAfter;
    this.requireReauth = requireReauth;
  }

  /** Reads the problem document of a refused request. @param {Response} response */
  static async from(response) {
    const problem = await response.json().catch(() => ({}));
    return new GatefoldError(problem.code ?? 'unknown', problem.detail ?? `HTTP ${response.status}`, {
      status: response.status,
      retryAfter: Number(response.headers.get('Retry-After')) || 0,
      requireReauth: problem.requireReauth === true,
    });
  }
}

/** What has no name is the network's. @param {unknown} error */
const named = error =>
  error instanceof GatefoldError ? error : new GatefoldError('network', 'The server cannot be reached', { cause: error });

/** Whether a call was refused for good: to ask again as before would not help. @param {GatefoldError} error */
const isRefusal = ({ status, code }) =>
  code === NOWHERE || status >= 400 && status < 500 && ![408, 425, 429].includes(status) && code !== SUPERSEDED;

/** Says things to whoever listens. @template {Record<string, any>} Events */
class Emitter {
  /** @type {Map<keyof Events, Set<(detail: any) => void>>} */
  #listeners = new Map();
  /** What is said later, while it is held back. @type {[keyof Events, any][] | undefined} */
  #held;

  /**
   * Listens. Call what is returned to stop.
   * @template {keyof Events} Name
   * @param {Name} name
   * @param {(detail: Events[Name]) => void} listener
   * @returns {() => void}
   */
  on(name, listener) {
    this._listened();
    return this._listen(name, listener);
  }

  /**
   * As `on`, for what is part of the client.
   * @internal
   * @template {keyof Events} Name
   * @param {Name} name
   * @param {(detail: Events[Name]) => void} listener
   * @returns {() => void}
   */
  _listen(name, listener) {
    const listeners = this.#listeners.get(name) ?? new Set();
    this.#listeners.set(name, listeners.add(listener));
    return () => void listeners.delete(listener);
  }

  /** Somebody listens. @internal */
  _listened() {}

  /**
   * Says what there is to say from now on in the next turn, in its order: whoever is just being given this listens
   * first.
   * @internal
   */
  _hold() {
    if (this.#held) return;
    const held = this.#held = /** @type {[keyof Events, any][]} */ ([]);
    setTimeout(() => {
      for (const [name, detail] of held) this.#say(name, detail);
      this.#held = undefined;
    });
  }

  /** @protected @template {keyof Events} Name @param {Name} name @param {Events[Name]} detail */
  emit(name, detail) {
    if (this.#held) this.#held.push([name, detail]);
    else this.#say(name, detail);
  }

  /** @param {keyof Events} name @param {any} detail */
  #say(name, detail) {
    for (const listener of [...(this.#listeners.get(name) ?? [])]) {
      try {
        listener(detail);
      } catch (error) {
        reportError(error);
      }
    }
  }
}

/** The later one of the notes that there are: the first of them that was changed most often. @param {(Turn | null | undefined)[]} notes */
const latest = (...notes) =>
  /** @type {Turn} */ (notes.reduce((one, other) => ((other?.edits ?? -1) > (one ? one.edits ?? 0 : -1) ? other : one)));

/**
 * Where all tabs note how far the session's refreshes are: in IndexedDB, which a crash does not undo, and then in
 * localStorage, which has it where IndexedDB fails or hangs. Without either, each tab has its own note.
 */
class Notes {
  #name;
  /** @type {Promise<IDBDatabase> | undefined} */
  #open;
  /** @type {Turn} */
  #own = { key: '', pending: false, turn: 0, holder: '', until: 0, edits: 0 };
  /** When the disk hung last, and something else had the note. */
  #hungAt = -Infinity;

  /** @param {string} name */
  constructor(name) {
    this.#name = name;
  }

  /**
   * Changes the note, in one transaction where IndexedDB works, and returns it.
   * @param {(note: Turn) => Partial<Turn>} edit
   * @returns {Promise<Turn>}
   */
  async change(edit) {
    let isLate = false;
    const onDisk = () => this.#onDisk(edit, () => isLate).catch(() => null);
    const rests = performance.now() - this.#hungAt < DISK_REST_MS;
    const note = rests ? null : await Promise.race([onDisk(), sleep(DISK_MS)]);
    isLate = true;
    if (!note) this.#open = undefined;
    this.#own = note ?? this.#edited(edit, latest(this.#kept, this.#own));
    try {
      // Another tab may have been here meanwhile.
      if (latest(this.#kept, this.#own) === this.#own) localStorage.setItem(this.#name, JSON.stringify(this.#own));
      if (note === undefined) this.#hungAt = performance.now();
    } catch {
      // It is forbidden or full.
      this.#hungAt = -Infinity;
    }
    return this.#own;
  }

  /** @param {(note: Turn) => Partial<Turn>} edit @param {Turn} was @returns {Turn} */
  #edited(edit, was) {
    return { ...was, ...edit(was), edits: (was.edits ?? 0) + 1 };
  }

  /**
   * Whether there may be a session, as far as is noted: false if none was ever begun here, or the last one has ended. Where
   * nothing can be noted nobody knows.
   */
  get maySurvive() {
    try {
      if (localStorage.getItem(this.#name) === null) return false;
    } catch {
      return true;
    }
    const note = this.#kept;
    return !note || (note.over ?? -1) < note.turn;
  }

  /** What localStorage has. @returns {Turn | null} */
  get #kept() {
    try {
      const note = JSON.parse(localStorage.getItem(this.#name) ?? 'null');
      return note?.edits ? note : null;
    } catch {
      return null;
    }
  }

  /**
   * @param {(note: Turn) => Partial<Turn>} edit
   * @param {() => boolean} isLate whether nobody waits for this any more: then it changes nothing
   * @returns {Promise<Turn>}
   */
  async #onDisk(edit, isLate) {
    const database = await (this.#open ??= this.#connect());
    return new Promise((resolve, reject) => {
      const transaction = database.transaction('notes', 'readwrite', { durability: 'strict' });
      const notes = transaction.objectStore('notes');
      const read = notes.get('turn');
      let note = this.#own;
      read.onsuccess = () => {
        if (isLate()) return;
        note = this.#edited(edit, latest(read.result, this.#kept, this.#own));
        notes.put(note, 'turn');
      };
      transaction.oncomplete = () => resolve(note);
      transaction.onerror = transaction.onabort = () => reject(transaction.error);
    });
  }

  /** @returns {Promise<IDBDatabase>} */
  #connect() {
    return new Promise((resolve, reject) => {
      const opening = indexedDB.open(this.#name, 1);
      opening.onupgradeneeded = () => opening.result.createObjectStore('notes');
      opening.onerror = () => reject(opening.error);
      opening.onsuccess = () => {
        const database = opening.result;
        database.onversionchange = () => database.close();
        database.onclose = () => (this.#open = undefined);
        resolve(database);
      };
    });
  }
}

/**
 * What changes in a note when the outcome of a refresh is known. A tab that took over meanwhile has a key of its own.
 * @param {Turn} note @param {string} [key]
 */
const without = (note, key) => (key && note.key !== key ? {} : { key: '', pending: false });

/** What an access token says of its owner. @param {string} token @returns {{user: User, sid: string}} */
function ownerOf(token) {
  const base64 = token.split('.')[1].replace(/-/g, '+').replace(/_/g, '/');
  const bytes = Uint8Array.from(atob(base64), character => character.charCodeAt(0));
  const claims = JSON.parse(new TextDecoder().decode(bytes));
  return { user: { id: Number(claims.sub), username: claims.username }, sid: claims.sid };
}

/**
 * A session of a user, shared by all tabs of the browser. It refreshes itself until it ends, which
 * `sessionexpired` says once in every tab, whatever ended it.
 *
 * @extends {Emitter<{
 *   login: {user: User},
 *   token: {expiresIn: number},
 *   status: {status: Status},
 *   retry: {error: GatefoldError, delay: number},
 *   sessionexpired: {reason: string},
 * }>}
 */
export class AuthSession extends Emitter {
  #base;
  #name;
  #timeout;
  #lockTimeout;
  #notes;
  /** @type {BroadcastChannel | undefined} */
  #channel;
  /** @type {Token | undefined} */
  #token;
  /** The refreshes of this browser are counted; this is the one that the token came with. */
  #turn = 0;
  /** The last session that has ended: a tab that has not heard of it must not bring it back. */
  #ended = '';
  /** The last refresh of which this tab knows that its session is over. */
  #over = 0;
  /** @type {Promise<void> | undefined} */
  #refreshing;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** Whether the refresh that is due is under way. */
  #renewing = false;
  #failures = 0;
  /** @type {Status} */
  #status = 'loading';
  #hasBegun = false;
  #closed = new AbortController();

  /**
   * Does nothing yet: it can be made anywhere, also on a server that renders a page. Where there is no page, `baseUrl` is
   * needed before anything is asked.
   * @param {{baseUrl?: string | URL, timeout?: number, lockTimeout?: number}} [options] where the API is, if not at
   *   this page's origin, which then must be one of its `ALLOWED_ORIGINS` and of the same site; milliseconds that a call
   *   may take, and that a tab waits for another one's
   */
  constructor({ baseUrl, timeout = 10_000, lockTimeout = 15_000 } = {}) {
    super();
    const page = globalThis.location?.href;
    this.#base = baseUrl || page ? new URL(baseUrl ?? '/', page).origin : '';
    this.#name = `gatefold ${this.#base}`;
    this.#timeout = timeout;
    this.#lockTimeout = lockTimeout;
    this.#notes = new Notes(this.#name);
  }

  /** @internal */
  _listened() {
    this.#begin();
  }

  /** Listens to the other tabs and to the machine's waking up, from the first use on. */
  #begin() {
    if (this.#hasBegun || this.#closed.signal.aborted || !globalThis.document) return;
    this.#hasBegun = true;
    try {
      this.#channel = new BroadcastChannel(this.#name);
      this.#channel.onmessage = ({ data }) => this.#hear(data);
    } catch {
      // It is forbidden with the storage: this tab is alone then.
    }
    const wake = () => this.#look();
    for (const [target, names] of /** @type {const} */ ([[window, ['online', 'focus', 'pageshow']],
      [document, ['visibilitychange', 'resume']]])) {
      for (const name of names) target.addEventListener(name, wake, { signal: this.#closed.signal });
    }
  }

  /**
   * What is known: `loading` until somebody has asked; `authenticated`; `anonymous`; or `unreachable` while the server cannot
   * say. The event `status` tells of each change.
   */
  get status() {
    return this.#status;
  }

  /** @param {Status} status */
  #become(status) {
    if (status === this.#status || this.#closed.signal.aborted) return;
    this.#status = status;
    this.emit('status', { status });
  }

  /** Who is logged in. */
  get user() {
    return this.#token?.user ?? null;
  }

  /** The id of the session, or ''. */
  get id() {
    return this.#token?.sid ?? '';
  }

  /** Where the API is. */
  get baseUrl() {
    return this.#base;
  }

  /** For how many milliseconds the access token is still good; not more than 0 if there is none. */
  get remaining() {
    return this.#token ? this.#token.life - since(this.#token) : 0;
  }

  /** For how many milliseconds the access token was good when it was new. */
  get lifetime() {
    return this.#token?.life ?? 0;
  }

  /** In how many milliseconds the token will be refreshed, if no other tab does it before. */
  get refreshIn() {
    return this.#token ? this.remaining - this.#token.lead : 0;
  }

  /** Lets go of everything; the session itself lives on. */
  close() {
    this.#closed.abort();
    this.#channel?.close();
    clearTimeout(this.#timer);
    this.#token = undefined;
  }

  // Coming and going.

  /**
   * Takes up the session that this browser has, if it has one. Where none was ever begun with this client, or the last one has
   * ended, nothing is asked: `probe` asks all the same, which takes a session up that was begun without this client. Fails
   * if the server refuses to say, as to a page of an origin that it does not know, and when it is aborted or cannot be reached
   * for `timeout` (30 s).
   * @param {Until & {probe?: boolean}} [options]
   * @returns {Promise<User | null>}
   */
  async resume({ signal, timeout = PATIENCE_MS, probe = false } = {}) {
    this.#begin();
    const patience = any([signal, this.#closed.signal], timeout);
    try {
      return await this.#resume(patience.signal, probe);
    } finally {
      patience.done();
    }
  }

  /** @param {AbortSignal} over @param {boolean} probe @returns {Promise<User | null>} */
  async #resume(over, probe) {
    if (!this.#token && !probe && !this.#notes.maySurvive) return this.#nobody();
    for (let failures = 0; ; failures++) {
      try {
        if (!this.#token) await until(this.refresh(), over);
        return this.user ?? this.#nobody();
      } catch (error) {
        const known = named(error);
        if (known.status === 401) return this.user ?? this.#nobody();
        if (this.#closed.signal.aborted) return null;
        if (!this.#token) this.#become('unreachable');
        if (over.aborted) throw aborted(over);
        if (isRefusal(known)) throw known;
        await pause(this.#later(known, failures), over);
        if (this.#closed.signal.aborted) return null;
        if (over.aborted) throw aborted(over);
      }
    }
  }

  #nobody() {
    this.#become('anonymous');
    return null;
  }

  /** @param {string} username @param {string} password @param {{signal?: AbortSignal}} [options] @returns {Promise<User>} */
  login(username, password, { signal } = {}) {
    return until(this.#enter('login', { username, password }), signal);
  }

  /**
   * Opens an account, and its first session.
   * @param {string} username
   * @param {string} password
   * @param {{signal?: AbortSignal}} [options] who waits no longer may be logged in all the same: `status` tells
   * @returns {Promise<User>}
   */
  register(username, password, { signal } = {}) {
    return until(this.#enter('register', { username, password }), signal);
  }

  /**
   * Ends the session, or all of the user's. While that cannot be done it fails, and may be tried again.
   * @param {{everywhere?: boolean}} [options]
   */
  async logout({ everywhere = false } = {}) {
    this.#begin();
    const [id, reason] = [this.id, everywhere ? 'logout_all' : 'logout'];
    let turn = 0;
    const post = async (/** @type {(path: string, init: RequestInit) => Promise<Response>} */ send) => {
      ({ turn } = await this.#notes.change(note => note));
      const response = await send(`/api/${everywhere ? 'logout-all' : 'logout'}`, { method: 'POST' });
      if (!everywhere) return this.#endOwn(response);
      if (!response.ok) throw await GatefoldError.from(response);
    };
    if (everywhere) {
      // That takes the cookie away, too. Not as `#alone`, for it may have to refresh first: the time runs from then on.
      await this.token();
      const signal = AbortSignal.timeout(this.#timeout);
      await post((path, init) => this.fetch(path, { ...init, credentials: 'include', signal })).catch(error => {
        throw named(error);
      });
    } else await this.#alone(() => post((path, init) => this.#send(path, init)));
    await this.#noteOver(undefined, turn);
    // The cookie is that of all tabs: with it goes whatever one of them got until then, also if this one has heard of none.
    const isNews = !id && !this.#token && turn > this.#over;
    this.#tell({ over: id, turn, reason });
    this.#end(id, reason, turn);
    this.#become('anonymous');
    if (isNews) this.emit('sessionexpired', { reason });
  }

  /**
   * Ends this tab's session by its id where the logout has not ended it, because the browser has lost its cookie or has one
   * of another application in its place.
   * @param {Response} response to the logout
   */
  async #endOwn(response) {
    const refused = response.ok ? null : await GatefoldError.from(response);
    if (refused && !(refused.code === 'invalid_refresh_token' && this.#token)) throw refused;
    const { sessions } = refused ? { sessions: [] } : await response.json().catch(() => ({}));
    if (!this.#token || !sessions || sessions.includes(this.id)) return;
    const headers = { Authorization: `Bearer ${this.#token.value}` };
    const ended = await this.#send(`/api/sessions/${this.id}`, { method: 'DELETE', headers });
    if (ended.ok || ended.status === 404) return;
    const error = await GatefoldError.from(ended);
    if (error.code !== 'session_revoked') throw error;
  }

  // Being logged in.

  /** An access token that is good now, or null if nobody is logged in. @returns {Promise<string | null>} */
  async token() {
    // More than once where the machine has slept meanwhile.
    while (this.#token && this.remaining <= 0) await this.refresh();
    return this.#token?.value ?? null;
  }

  /**
   * Trades the token for the next one. Of any number of tabs that want to at the same time one does, for all.
   * Fails with `status` 401 if there is no session any more, and otherwise may be tried again.
   * @returns {Promise<void>}
   */
  refresh() {
    this.#begin();
    const unwanted = this.#token;
    const trade = () => this.#alone(() => this.#trade(unwanted));
    const overtaken = (/** @type {GatefoldError} */ error) => {
      if (error.code !== SUPERSEDED) throw error;
      return trade();
    };
    return (this.#refreshing ??= trade().catch(overtaken).finally(() => (this.#refreshing = undefined)));
  }

  /**
   * As the global `fetch`, and sends the access token along, to the API's own origin only. If it is refused, it is
   * refreshed and the request sent once more. Where there is no network it fails as that does (`TypeError`), or, if the
   * token has to be refreshed first, as `refresh` does.
   * @param {RequestInfo | URL} input @param {RequestInit} [init] @returns {Promise<Response>}
   */
  async fetch(input, init) {
    const request = new Request(input instanceof Request ? input : new URL(input, this.#base), init);
    if (new URL(request.url).origin !== this.#base) return fetch(request);
    const again = request.clone();
    const used = await this.token();
    const response = await fetch(authorized(request, used));
    if (response.status !== 401 || !used || !response.headers.get('WWW-Authenticate')?.startsWith('Bearer')) return response;
    try {
      if (used === this.#token?.value) await this.refresh();
    } catch {
      return response;
    }
    return this.#token ? fetch(authorized(again, this.#token.value)) : response;
  }

  // The end, in every tab.

  /** Says in every tab that a session is over. For what hears of it first. @param {string} id @param {string} reason */
  expire(id, reason) {
    if (!this.#token || this.#token.sid !== id) return;
    this.#tell({ over: id, reason });
    this.#end(id, reason);
  }

  /** @param {string} id @param {string} reason @param {number} [turn] up to which whatever there was is over, too */
  #end(id, reason, turn = 0) {
    if (id) this.#ended = id;
    this.#over = Math.max(this.#over, turn);
    if (!this.#token || (this.#token.sid !== id && this.#turn > turn)) return;
    this.#ended = this.#token.sid;
    this.#over = Math.max(this.#over, this.#turn);
    this.#token = undefined;
    clearTimeout(this.#timer);
    const over = this.#over;
    this.#notes.change(note => (note.turn <= over ? { over: note.turn } : {}));
    this.#become('anonymous');
    this.emit('sessionexpired', { reason });
  }

  /** @param {'login' | 'register'} call @param {object} body */
  async #enter(call, body) {
    this.#begin();
    const init = { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) };
    await this.#alone(async () => {
      const asked = clocks();
      await this.#take(await this.#answer(await this.#send(`/api/${call}`, init)), asked);
    });
    return /** @type {User} */ (this.user);
  }

  // One tab at a time.

  /**
   * Does something that no other tab does at the same time. A tab that hangs is not waited for for ever.
   * @template T
   * @param {() => Promise<T>} work
   * @returns {Promise<T>}
   */
  async #alone(work) {
    const { locks } = globalThis.navigator ?? {};
    if (!locks) return this.#leased(work);
    /** @type {Promise<T> | undefined} */
    let working;
    const begin = () => (working = work());
    const patience = AbortSignal.timeout(this.#lockTimeout);
    // What has begun ends as it ends, also if another tab has taken the lock away meanwhile. Where storage is forbidden, so are locks.
    const otherwise = () => working ?? this.#leased(work);
    return locks.request(this.#name, { signal: patience }, begin).catch(() =>
      working || !patience.aborted ? otherwise() : locks.request(this.#name, { steal: true }, begin).catch(otherwise));
  }

  /**
   * Only secure pages have locks: the others have a lease in their notes, which ends by itself.
   * @template T
   * @param {() => Promise<T>} work
   * @returns {Promise<T>}
   */
  async #leased(work) {
    const me = randomKey();
    const take = (/** @type {Turn} */ { holder, until }) => {
      const left = until - Date.now();
      return holder && left > 0 && left <= this.#lockTimeout ? {} : { holder: me, until: Date.now() + this.#lockTimeout };
    };
    while ((await this.#notes.change(take)).holder !== me) await sleep(20 + 40 * Math.random());
    try {
      return await work();
    } finally {
      await this.#notes.change(({ holder }) => (holder === me ? { holder: '' } : {}));
    }
  }

  // Trading the token.

  /** @param {Token | undefined} unwanted what the caller had when it asked */
  async #trade(unwanted) {
    const isDone = () => this.#closed.signal.aborted || (this.#token && this.#token !== unwanted);
    if (isDone()) return;
    const { turn } = await this.#notes.change(note => note);
    if (turn > this.#turn) {
      // Another tab has refreshed, and its word is on the way; or it is gone. Who still has a good token can wait longer.
      const patience = Math.max(ASK_MS, Math.min(this.remaining / 2, 10 * ASK_MS));
      let stop = () => {};
      this.#tell({ wanted: turn });
      await Promise.race([sleep(patience), new Promise(heard => (stop = this.on('token', heard)))]);
      stop();
    }
    // Its word may also have come while the note was read.
    if (isDone()) return;
    // Only the key of a refresh whose outcome is unknown is used again.
    // Drawn before: on a slow disk the note may be written later than it is read, and must then be the same.
    const fresh = randomKey();
    const { key } = await this.#notes.change(note => ({ key: note.pending && note.key || fresh, pending: true }));
    const asked = clocks();
    const response = await this.#send('/api/refresh', { method: 'POST', headers: { 'Idempotency-Key': key } });
    // Only a whole response is one: without TLS browsers take headers that broke off, perhaps before the cookie.
    if (response.ok) return this.#take(await this.#answer(response), asked, key);
    const error = await GatefoldError.from(response);
    // These are final. After anything else, such as a 503 or a 429, an earlier attempt with this key may have succeeded.
    if (response.status === 401) await this.#noteOver(key);
    if (response.status === 409) await this.#forgetKey(key);
    if (error.code === SEVERAL) throw await this.#endAll(error);
    if (response.status === 401) this.expire(this.id, error.code);
    throw error;
  }

  /** Deletes the key of a refresh, or without one whichever there is: its session is over. @param {string} [key] */
  async #forgetKey(key) {
    await this.#notes.change(note => without(note, key));
  }

  /** As `#forgetKey`, and notes that there is no session: that of this turn was the last. @param {string} [key] @param {number} [turn] */
  async #noteOver(key, turn) {
    await this.#notes.change(note => ({ ...without(note, key), over: turn ?? note.turn }));
  }

  /**
   * Recovers from several cookies: a logout ends all of their sessions, so that a login can begin a new one. Returns what
   * tells that there is no session any more; fails, and may be tried again, while the logout cannot be done.
   * @param {GatefoldError} error
   */
  async #endAll(error) {
    await this.#answer(await this.#send('/api/logout', { method: 'POST' }));
    await this.#noteOver();
    this.expire(this.id, error.code);
    return new GatefoldError(error.code, error.message, { status: 401, requireReauth: true });
  }

  /**
   * Takes a token from an answer, and passes it on. If another tab has asked later and was answered before, its is kept.
   * @param {{accessToken: string, expiresIn: number}} answer
   * @param {ReturnType<typeof clocks>} asked when it was asked for: an answer may wait for a machine that sleeps
   * @param {string} [key] of the refresh; a login has none, and makes any other one worthless
   */
  async #take({ accessToken, expiresIn }, asked, key) {
    try {
      ownerOf(accessToken);
    } catch (error) {
      throw new GatefoldError('network', 'The answer is not one of the API', { cause: error });
    }
    const { turn } = await this.#notes.change(note => ({
      ...without(note, key),
      turn: note.turn + (this.#isNews(asked) ? 1 : 0),
    }));
    if (!this.#isNews(asked)) return;
    this.#hold({ value: accessToken, life: expiresIn * 1000, turn: Math.max(turn, this.#turn + 1) }, asked);
    this.#share();
  }

  /** Whether a token is a later one than that which is held. @param {ReturnType<typeof clocks>} asked when it was asked for */
  #isNews(asked) {
    return !this.#token || since(asked) < since(this.#token);
  }

  /** @param {{value: string, life: number, turn: number}} token @param {ReturnType<typeof clocks>} asked */
  #hold({ value, life, turn }, asked) {
    // Whoever has let go hears nothing of an answer that was still on its way.
    if (this.#closed.signal.aborted) return;
    const owner = ownerOf(value);
    const isOther = this.#token?.sid !== owner.sid;
    const lead = life * (0.1 + 0.1 * Math.random());
    this.#token = { ...owner, ...asked, value, life, lead };
    this.#turn = turn;
    this.#failures = 0;
    this.#look();
    this.#become('authenticated');
    if (isOther) this.emit('login', { user: owner.user });
    this.emit('token', { expiresIn: this.remaining / 1000 });
  }

  // What tabs tell each other.

  /** @param {object} message */
  #tell(message) {
    if (!this.#closed.signal.aborted) this.#channel?.postMessage(message);
  }

  /** Gives the other tabs what this one has. */
  #share() {
    if (!this.#token || this.remaining <= 0) return;
    const { value, life } = this.#token;
    this.#tell({ value, life, remaining: this.remaining, turn: this.#turn, at: Date.now() });
  }

  /** @param {any} message of another tab */
  #hear(message) {
    if (message.over !== undefined) this.#end(message.over, message.reason, message.turn);
    else if (message.wanted) this.#turn >= message.wanted && this.#share();
    else {
      // It may have been waiting for long, if this tab was frozen.
      const asked = clocks(message.life - message.remaining + Math.max(0, Date.now() - message.at));
      const turn = Math.max(this.#turn, message.turn);
      if (message.value === this.#token?.value || !this.#isNews(asked)) this.#turn = turn;
      else if (ownerOf(message.value).sid !== this.#ended && since(asked) < message.life) this.#hold({ ...message, turn }, asked);
    }
  }

  // Refreshing in time.

  /** Sees whether it is time to refresh, and when to look again. */
  #look() {
    clearTimeout(this.#timer);
    if (!this.#token || this.#renewing) return;
    if (this.refreshIn > 0) return this.#lookAfter(Math.min(this.refreshIn, LOOK_MS));
    this.#renewing = true;
    this.refresh()
      .then(() => 0, error => this.#later(error, this.#failures++))
      .then(delay => {
        this.#renewing = false;
        this.#lookAfter(delay);
      });
  }

  /** @param {number} delay */
  #lookAfter(delay) {
    if (this.#token) this.#timer = setTimeout(() => this.#look(), delay);
  }

  /** After how many milliseconds to try again. @param {unknown} error @param {number} failures */
  #later(error, failures) {
    const known = named(error);
    const delay = backOff(failures, known.retryAfter * 1000);
    if (known.status !== 401 && !this.#closed.signal.aborted) this.emit('retry', { error: known, delay });
    return delay;
  }

  // Asking the server.

  /** @param {string} path @param {RequestInit} init @returns {Promise<Response>} */
  async #send(path, init) {
    if (!this.#base) throw new GatefoldError(NOWHERE, 'There is no page here: new AuthSession({ baseUrl }) says where the API is');
    try {
      const signal = AbortSignal.timeout(this.#timeout);
      return await fetch(this.#base + path, { ...init, credentials: 'include', cache: 'no-store', signal });
    } catch (error) {
      throw new GatefoldError('network', 'The server cannot be reached', { cause: error });
    }
  }

  /** @param {Response} response @returns {Promise<any>} */
  async #answer(response) {
    if (!response.ok) throw await GatefoldError.from(response);
    try {
      return response.status === 204 ? null : await response.json();
    } catch (error) {
      throw new GatefoldError('network', 'The answer broke off', { cause: error });
    }
  }
}

/** @param {Request} request @param {string | null} token */
function authorized(request, token) {
  if (token) request.headers.set('Authorization', `Bearer ${token}`);
  return request;
}

function randomKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), byte => byte.toString(16).padStart(2, '0')).join('');
}

/** After these the client itself is wrong, or somebody else is in: coming back would not help. @param {number} code */
const isFinal = code => [1002, 1003, 1007, 1009].includes(code) || (code >= 4500 && code <= 4999);

/**
 * What a room is to its client.
 * @typedef {{request: (message: object) => Promise<any>, send: (message: object) => boolean, leave: () => Promise<void>}} Link
 * @typedef {{room: string, id: string, user: User, data: any, timestamp: number}} Message
 * @typedef {{count: number, users: User[], typing: User[], messages: Message[], recovered: boolean, last: string}} Joined
 */

/**
 * A room that the client is in, or will be again as soon as it can. `users` and `typists` are always what the server
 * last said.
 *
 * @extends {Emitter<{
 *   message: Message,
 *   presence: {event: 'join' | 'leave', user: User},
 *   users: Map<number, User>,
 *   typing: Map<number, User>,
 *   joined: {recovered: boolean},
 *   away: {},
 *   left: {reason: string},
 * }>}
 */
export class Room extends Emitter {
  #link;
  /** @type {Set<string>} */
  #seen = new Set();
  /** @type {string | undefined} */
  #last;
  #typedAt = -Infinity;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #idle;

  /** @param {string} name @param {Link} link */
  constructor(name, link) {
    super();
    this.name = name;
    this.#link = link;
    /** Whether the server has us in it now. */
    this.joined = false;
    /** How many users are here; `users` holds at most the 1,000 that the server lists, and who came since. */
    this.count = 0;
    /** Who is here, by id. @type {Map<number, User>} */
    this.users = new Map();
    /** Who is typing, by id. @type {Map<number, User>} */
    this.typists = new Map();
  }

  /** The id of the last message, for `since`. */
  get last() {
    return this.#last;
  }

  /**
   * Says something to everybody here. An error `disconnected` or `timeout` means that it may have been heard or not.
   * @param {any} data
   * @returns {Promise<{room: string, id: string}>}
   */
  publish(data) {
    // Who says something has stopped typing: the server knows.
    clearTimeout(this.#idle);
    this.#typedAt = -Infinity;
    return this.#link.request({ type: 'publish', room: this.name, data });
  }

  /** To be called at every key that is typed: tells the others seldom, and that it is over after a pause. */
  startTyping() {
    const now = performance.now();
    if (now - this.#typedAt >= 2_000 && this.joined) {
      this.#typedAt = this.#link.send({ type: 'typing', room: this.name, typing: true }) ? now : -Infinity;
    }
    clearTimeout(this.#idle);
    this.#idle = setTimeout(() => this.stopTyping(), 4_000);
  }

  stopTyping() {
    clearTimeout(this.#idle);
    if (this.#typedAt === -Infinity) return;
    this.#typedAt = -Infinity;
    this.#link.send({ type: 'typing', room: this.name, typing: false });
  }

  leave() {
    return this.#link.leave();
  }

  /** @internal @param {Joined} state */
  _join({ count, users, typing, messages, recovered, last }) {
    const [before, isBack] = [this.users, this.#last !== undefined || this.count > 0];
    this.joined = true;
    this.count = count;
    this.users = new Map(users.map(user => [user.id, user]));
    this.typists = new Map(typing.map(user => [user.id, user]));
    this.emit('joined', { recovered });
    for (const message of messages) this._message(message);
    // Of what is missed for good it is not told again: from here on it asks for what comes after.
    this.#last = recovered ? this.#last ?? last : last;
    if (isBack && count <= users.length) {
      for (const user of before.values()) if (!this.users.has(user.id)) this.emit('presence', { event: 'leave', user });
      for (const user of users) if (!before.has(user.id)) this.emit('presence', { event: 'join', user });
    }
    this.emit('users', this.users);
    this.emit('typing', this.typists);
  }

  /** The connection is gone; the server keeps our place for a moment. @internal */
  _away() {
    clearTimeout(this.#idle);
    this.#typedAt = -Infinity;
    if (!this.joined) return;
    this.joined = false;
    this.typists.clear();
    this.emit('typing', this.typists);
    this.emit('away', {});
  }

  /** @internal @param {string} reason */
  _left(reason) {
    clearTimeout(this.#idle);
    this.joined = false;
    this.users.clear();
    this.typists.clear();
    this.count = 0;
    this.emit('left', { reason });
  }

  /** @internal @param {Message} message */
  _message(message) {
    if (this.#seen.has(message.id)) return;
    // More than the server keeps for those who come back.
    if (this.#seen.add(message.id).size > 500) this.#seen.delete(/** @type {string} */ (this.#seen.values().next().value));
    this.#last = message.id;
    if (this.typists.delete(message.user.id)) this.emit('typing', this.typists);
    this.emit('message', message);
  }

  /** @internal @param {{event: 'join' | 'leave', user: User}} change */
  _presence({ event, user }) {
    const isListed = this.users.has(user.id);
    const isWhole = this.users.size === this.count;
    if (event === 'join') this.users.set(user.id, user);
    else this.users.delete(user.id);
    if (isWhole) this.count = this.users.size;
    else this.count += event === 'leave' ? -1 : isListed ? 0 : 1;
    if (event === 'leave' && this.typists.delete(user.id)) this.emit('typing', this.typists);
    this.emit('presence', { event, user });
    this.emit('users', this.users);
  }

  /** @internal @param {{user: User, typing: boolean}} change */
  _typing({ user, typing }) {
    if (typing) this.typists.set(user.id, user);
    else this.typists.delete(user.id);
    this.emit('typing', this.typists);
  }
}

/**
 * A socket that comes back by itself, with its rooms, for as long as the session lasts and `disconnect` is not called.
 *
 * @extends {Emitter<{
 *   state: {state: State, delay?: number},
 *   connected: {userId: number, username: string, expiresAt: number, connectionId: string, replica?: string},
 *   disconnected: {code: number, reason: string, final: boolean},
 *   reauthenticated: {expiresAt: number},
 *   error: GatefoldError,
 * }>}
 * @typedef {'closed' | 'connecting' | 'open' | 'waiting'} State
 * @typedef {{room: Room, since?: string, waiting?: {resolve: (room: Room) => void, reject: (error: Error) => void}}} Place
 */
export class RealtimeClient extends Emitter {
  #session;
  #path;
  /** @type {State} */
  #state = 'closed';
  /** @type {WebSocket | undefined} */
  #socket;
  /** The token that the socket lives by, and its session. */
  #access = { value: '', id: '' };
  /** A token that the server would not have. */
  #refused = '';
  #isReauthing = false;
  /** Counts what is begun, so that what was overtaken while it waited stops. */
  #epoch = 0;
  #attempt = 0;
  #openedAt = 0;
  #heardAt = 0;
  #goingAway = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #watch;
  #ids = 0;
  /** @type {Map<number, {resolve: (payload: any) => void, reject: (error: GatefoldError) => void, timer: any}>} */
  #asked = new Map();
  /** Who is in which room: each `join` has a place of its own. @type {Map<string, Set<Place>>} */
  #rooms = new Map();
  #hasBegun = false;
  #closed = new AbortController();

  /**
   * Does nothing yet: see `connect`.
   * @param {AuthSession} session
   * @param {{url?: string | URL}} [options] where the socket is, if not at `/ws` beside the API
   */
  constructor(session, { url = '/ws' } = {}) {
    super();
    this.#session = session;
    this.#path = url;
    // Before whoever made this listens: what ends here has ended when they hear of it.
    const stops = [
      session._listen('token', () => this.#renew()),
      session._listen('sessionexpired', ({ reason }) => this.#finish(4503, reason, true)),
    ];
    this.#closed.signal.addEventListener('abort', () => stops.forEach(stop => stop()));
  }

  /** Listens to the machine's waking up, from the first connection on. */
  #begin() {
    if (this.#hasBegun) return;
    this.#hasBegun = true;
    const wake = () => this.#wake();
    for (const name of ['online', 'pageshow']) globalThis.addEventListener?.(name, wake, { signal: this.#closed.signal });
    globalThis.document?.addEventListener('visibilitychange', wake, { signal: this.#closed.signal });
  }

  /** @returns {State} */
  get state() {
    return this.#state;
  }

  /** The rooms that we are in, or want to be in, one for each `join`. @returns {Room[]} */
  get rooms() {
    return Array.from(this.#places(), ({ room }) => room);
  }

  /** @returns {Place[]} */
  #places() {
    return [...this.#rooms.values()].flatMap(places => [...places]);
  }

  /** Connects, and stays connected. */
  connect() {
    if (this.#state !== 'closed' || this.#closed.signal.aborted) return;
    this.#begin();
    this.#open();
  }

  /** Closes the socket and forgets the rooms. */
  disconnect() {
    this.#finish(1000, '', true);
  }

  /** As `disconnect`, for good. */
  close() {
    // First, so that nobody who hears of the end connects again.
    this.#closed.abort();
    this.disconnect();
  }

  /**
   * @returns {Promise<{timestamp: number, latency: number}>} the server's clock, and how long the answer took, in ms
   */
  async ping() {
    const began = performance.now();
    const { timestamp } = await this.#request({ type: 'ping' });
    return { timestamp, latency: performance.now() - began };
  }

  /**
   * Gives the socket the session's present token, which happens by itself whenever there is a new one.
   * @returns {Promise<{expiresAt: number}>}
   */
  async reauth() {
    const value = await this.#session.token();
    const answer = await this.#request({ type: 'reauth', access: value });
    this.#access = { value: value ?? '', id: this.#session.id };
    this.emit('reauthenticated', answer);
    return answer;
  }

  /**
   * Enters a room, now or as soon as the socket is open, and stays in it over reconnects. Fails if the server will not
   * have us there, and if we are not in within `timeout` (30 s). The room says what it has to say, first of all what was missed
   * after `since`, in the turn after the promise has resolved: whoever then listens at once misses nothing.
   *
   * Each call has a room of its own, with its own listeners and its own end: the server is told that we leave when the last
   * of them leaves. `signal` ends this one, whether it is in already or not.
   * @param {string} name @param {Until & {since?: string}} [options] the id of the last message seen there, if any
   * @returns {Promise<Room>}
   */
  join(name, { since, signal, timeout = PATIENCE_MS } = {}) {
    if (this.#closed.signal.aborted) return Promise.reject(new GatefoldError('disconnected', 'The client is closed'));
    if (signal?.aborted) return Promise.reject(aborted(signal));
    return new Promise((resolve, reject) => {
      const late = any([], timeout);
      const settled = (/** @type {() => void} */ settle) => (late.done(), settle());
      const waiting = {
        resolve: (/** @type {Room} */ room) => settled(() => resolve(room)),
        reject: (/** @type {Error} */ error) => settled(() => reject(error)),
      };
      /** @type {Place} */
      const place = { room: new Room(name, this.#linkOf(name, () => place)), since, waiting };
      const places = this.#rooms.get(name) ?? new Set();
      this.#rooms.set(name, places.add(place));
      late.signal.addEventListener('abort', () => this.#give(name, place, aborted(late.signal)));
      signal?.addEventListener('abort', () => this.#give(name, place, aborted(signal)), { once: true });
      if (this.#state === 'open') this.#enter(name, place);
    });
  }

  /** @param {string} name @param {() => Place} place @returns {Link} */
  #linkOf(name, place) {
    return {
      request: message => this.#request(message),
      send: message => this.#send(message),
      leave: () => this.#leave(name, place()),
    };
  }

  /** A place that nobody wants any more. @param {string} name @param {Place} place @param {GatefoldError} error */
  #give(name, place, error) {
    place.waiting?.reject(error);
    this.#leave(name, place).catch(() => {});
  }

  /**
   * Who is in a room, without entering it.
   * @param {string} room
   * @returns {Promise<{room: string, count: number, users: User[]}>}
   */
  presence(room) {
    return this.#request({ type: 'presence', room });
  }

  // Opening, closing, coming back.

  /** @param {State} state @param {number} [delay] */
  #become(state, delay) {
    if (state === this.#state && state !== 'waiting') return;
    this.#state = state;
    this.emit('state', { state, delay });
  }

  async #open() {
    clearTimeout(this.#timer);
    const epoch = ++this.#epoch;
    this.#become('connecting');
    let value;
    try {
      value = await this.#session.token();
      if (value && value === this.#refused) {
        await this.#session.refresh();
        value = await this.#session.token();
      }
    } catch (error) {
      return epoch === this.#epoch && this.#wait(backOff(this.#attempt++));
    }
    if (epoch !== this.#epoch) return;
    if (!value) return this.#finish(4401, 'no_session', true);
    this.#access = { value, id: this.#session.id };
    this.#goingAway = false;
    this.#openedAt = 0;
    let socket;
    try {
      const url = new URL(this.#path, this.#session.baseUrl);
      url.protocol = url.protocol.replace('http', 'ws');
      socket = new WebSocket(url, ['gatefold.v1', `bearer.${value}`]);
    } catch (error) {
      // Forbidden by the page's policy, or no address: it will not get better.
      this.emit('error', new GatefoldError('blocked', 'This page may not open the socket', { cause: error }));
      return epoch === this.#epoch && this.#finish(1006, 'blocked', true);
    }
    this.#socket = socket;
    this.#watch = setTimeout(() => this.#drop(), 10_000);
    socket.onmessage = ({ data }) => this.#hear(data);
    socket.onclose = ({ code, reason }) => this.#ended(code, reason);
  }

  /** Gives a socket up that does not answer. */
  #drop() {
    if (this.#socket) this.#ended(1006, 'no_answer');
  }

  /**
   * The socket is of no use any more, whichever way; nothing is heard of it again.
   * @param {number} code
   * @param {string} reason
   */
  #abandon(code, reason) {
    clearTimeout(this.#watch);
    clearTimeout(this.#timer);
    const socket = this.#socket;
    this.#socket = undefined;
    if (socket) {
      socket.onmessage = socket.onclose = null;
      socket.close();
    }
    const error = new GatefoldError('disconnected', reason || `The socket was closed (${code})`);
    for (const { reject, timer } of this.#asked.values()) (clearTimeout(timer), reject(error));
    this.#asked.clear();
  }

  /** Decides whether and when to come back. @param {number} code @param {string} reason */
  #ended(code, reason) {
    const [access, wasOpen] = [this.#access, this.#openedAt > 0];
    // A socket that was open for a moment only is no success.
    if (wasOpen && performance.now() - this.#openedAt > 10_000) this.#attempt = 0;
    if (code === 4503) this.#session.expire(access.id, reason);
    if (this.#state === 'closed') return;
    // If somebody has logged in anew meanwhile, the end of the session before is not ours.
    const isOld = this.#session.id && this.#session.id !== access.id;
    if (isFinal(code) && !isOld) return this.#finish(code, reason, true);
    this.#abandon(code, reason);
    const epoch = ++this.#epoch;
    for (const { room } of this.#places()) room._away();
    this.emit('disconnected', { code, reason, final: false });
    if (epoch !== this.#epoch) return;
    if (this.#goingAway) return this.#wait(0);
    if (code === 4401) this.#refused = access.value;
    if (code === 1013 || code === 4429) this.#attempt = Math.max(this.#attempt, 3);
    this.#wait(backOff(this.#attempt++));
    // Browsers do not tell why a socket did not open: if the session is over, this finds out.
    if (!wasOpen) this.#session.fetch('/api/protected').catch(() => {});
  }

  /** @param {number} delay */
  #wait(delay) {
    this.#become('waiting', delay);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#open(), delay);
  }

  /** The end, until `connect` is called. @param {number} code @param {string} reason @param {boolean} final */
  #finish(code, reason, final) {
    const wasClosed = this.#state === 'closed';
    if (!wasClosed) {
      this.#epoch++;
      this.#abandon(code, reason);
      this.#become('closed');
    }
    const places = this.#places();
    this.#rooms.clear();
    for (const { room, waiting } of places) {
      room._left(reason || 'disconnected');
      waiting?.reject(new GatefoldError('disconnected', reason || 'Disconnected'));
    }
    if (!wasClosed) this.emit('disconnected', { code, reason, final });
  }

  // Seeing whether it lives.

  /** The network may be back, or the machine has slept. */
  #wake() {
    if (globalThis.document?.visibilityState === 'hidden') return;
    if (this.#state === 'waiting') this.#open();
    else if (this.#state === 'open') this.#probe(5_000);
  }

  /** Sees whether the socket is still there. @param {number} patience */
  #probe(patience) {
    this.#request({ type: 'ping' }, patience).catch(() => {});
  }

  /** Browsers do not show the server's pings: what has said nothing for long is asked. */
  #listen() {
    clearTimeout(this.#watch);
    this.#watch = setTimeout(() => {
      if (performance.now() - this.#heardAt >= 25_000) this.#probe(10_000);
      this.#listen();
    }, 12_500);
  }

  // The socket's token.

  /** The session's token may be another one than the socket's. */
  #renew() {
    if (this.#state !== 'open' && this.#state !== 'connecting') return;
    if (this.#session.id === this.#access.id) return void this.#keepAlive();
    // Somebody has logged in anew: this socket is of the session before.
    this.#abandon(1000, 'new_session');
    for (const { room } of this.#places()) room._away();
    this.#open();
  }

  /** Gives the socket the session's token, and tries again while the server cannot tell whether it is good. */
  async #keepAlive() {
    if (this.#isReauthing || this.#state !== 'open') return;
    const epoch = this.#epoch;
    this.#isReauthing = true;
    try {
      for (let value; (value = await this.#session.token()) && value !== this.#access.value;) await this.reauth();
    } catch (error) {
      if (epoch === this.#epoch) {
        this.emit('error', /** @type {GatefoldError} */ (error));
        setTimeout(() => epoch === this.#epoch && this.#keepAlive(), backOff(3, 1_000));
      }
    } finally {
      this.#isReauthing = false;
    }
  }

  // Saying and hearing.

  /** @param {object} message @returns {boolean} whether it went out */
  #send(message) {
    if (this.#state !== 'open') return false;
    this.#socket?.send(JSON.stringify(message));
    return true;
  }

  /**
   * Sends a message and waits for its answer.
   * @param {object} message
   * @param {number} [patience]
   * @returns {Promise<any>}
   */
  #request(message, patience = 10_000) {
    const id = ++this.#ids;
    const text = JSON.stringify({ ...message, id });
    if (new TextEncoder().encode(text).length > MAX_MESSAGE) {
      return Promise.reject(new GatefoldError('message_too_big', 'The message is over 16 KiB'));
    }
    if (this.#state !== 'open') return Promise.reject(new GatefoldError('disconnected', 'The socket is not open'));
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#asked.delete(id);
        reject(new GatefoldError('timeout', 'No answer'));
        this.#drop();
      }, patience);
      this.#asked.set(id, { resolve, reject, timer });
      this.#socket?.send(text);
    });
  }

  /** @param {string} data */
  #hear(data) {
    this.#heardAt = performance.now();
    const { type, payload, id } = JSON.parse(data);
    const error = type === 'error' ? new GatefoldError(payload.code, payload.message, payload) : null;
    const asked = this.#asked.get(id);
    if (asked) {
      this.#asked.delete(id);
      clearTimeout(asked.timer);
      return error ? asked.reject(error) : asked.resolve(payload);
    }
    /** @param {(room: Room) => void} say */
    const inRoom = say => [...(this.#rooms.get(payload?.room) ?? [])].forEach(({ room }) => room.joined && say(room));
    switch (type) {
      case 'connected': return this.#connected(payload);
      // Some of what was said is lost for good. Who is just entering hears that from the answer.
      case 'joined': return inRoom(room => room._join(payload));
      case 'message': return inRoom(room => room._message(payload));
      case 'presence': return inRoom(room => room._presence(payload));
      case 'typing': return inRoom(room => room._typing(payload));
      case 'left': return this.#forget(payload.room, 'revoked');
      case 'reconnect':
        this.#goingAway = true;
        clearTimeout(this.#timer);
        // It closes the socket then; if its word is lost, we do.
        this.#timer = setTimeout(() => this.#ended(1012, 'service_restart'), payload.after + 1_000);
        return;
      case 'token_expiring': return this.#expiring(false);
      case 'error':
        if (payload.requireReauth) this.#expiring(true);
        this.emit('error', /** @type {GatefoldError} */ (error));
    }
  }

  /** @param {any} payload */
  #connected(payload) {
    this.#openedAt = performance.now();
    this.#listen();
    this.#become('open');
    this.emit('connected', payload);
    for (const [name, places] of this.#rooms) for (const place of places) this.#enter(name, place);
    this.#renew();
  }

  /** The socket's token ends soon, or has ended. @param {boolean} now */
  #expiring(now) {
    this.#renew();
    // The session refreshes by itself, by a clock of its own: a warning early in a token's life is no news to it.
    if (now || this.#session.remaining < this.#session.lifetime / 2) this.#session.refresh().catch(() => {});
  }

  // Rooms.

  /** Whether somebody still wants to be there. @param {string} name @param {Place} place */
  #wants(name, place) {
    return this.#rooms.get(name)?.has(place);
  }

  /** @param {string} name @param {Place} place */
  async #enter(name, place) {
    const [epoch, { room }] = [this.#epoch, place];
    try {
      const state = await this.#request({ type: 'join', room: name, since: room.last ?? place.since });
      if (!this.#wants(name, place)) return;
      if (place.waiting) room._hold();
      room._join(state);
      place.waiting?.resolve(room);
      place.waiting = undefined;
    } catch (error) {
      const { code } = /** @type {GatefoldError} */ (error);
      if (code === 'disconnected' || code === 'timeout' || !this.#wants(name, place)) return;
      if (code !== 'unavailable' && code !== 'rate_limited' && code !== 'token_expired') return this.#forget(name, code);
      setTimeout(() => epoch === this.#epoch && this.#wants(name, place) && this.#enter(name, place), backOff(2, 500));
    }
  }

  /** @param {string} name @param {Place} place */
  async #leave(name, place) {
    const places = this.#rooms.get(name);
    if (!places?.delete(place)) return;
    place.room._left('left');
    place.waiting?.reject(new GatefoldError('disconnected', 'left'));
    if (places.size) return;
    this.#rooms.delete(name);
    if (this.#state !== 'open') return;
    await this.#request({ type: 'leave', room: name }).catch(error => {
      if (error.code !== 'not_joined' && error.code !== 'disconnected') throw error;
    });
  }

  /** The server does not have us there. @param {string} name @param {string} reason */
  #forget(name, reason) {
    const places = this.#rooms.get(name) ?? [];
    this.#rooms.delete(name);
    for (const { room, waiting } of places) {
      room._left(reason);
      waiting?.reject(new GatefoldError(reason, `Not in ${name}: ${reason}`));
    }
  }
}
