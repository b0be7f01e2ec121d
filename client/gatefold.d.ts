/** Something went wrong that has a name: `code` is one of the contract's, or `network`, `timeout`, `aborted`, `blocked`, `disconnected`. */
export class GatefoldError extends Error {
    /** Reads the problem document of a refused request. @param {Response} response */
    static from(response: Response): Promise<GatefoldError>;
    /**
     * @param {string} code
     * @param {string} message
     * @param {{status?: number, retryAfter?: number, requireReauth?: boolean, cause?: unknown}} [more]
     */
    constructor(code: string, message: string, { status, retryAfter, requireReauth, cause }?: {
        status?: number;
        retryAfter?: number;
        requireReauth?: boolean;
        cause?: unknown;
    });
    code: string;
    /** The HTTP status, or 0. */
    status: number;
    /** Seconds after which to try again, or 0. */
    retryAfter: number;
    requireReauth: boolean;
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
export class AuthSession extends Emitter<{
    login: {
        user: User;
    };
    token: {
        expiresIn: number;
    };
    status: {
        status: Status;
    };
    retry: {
        error: GatefoldError;
        delay: number;
    };
    sessionexpired: {
        reason: string;
    };
}> {
    /**
     * Does nothing yet: it can be made anywhere, also on a server that renders a page. Where there is no page, `baseUrl` is
     * needed before anything is asked.
     * @param {{baseUrl?: string | URL, timeout?: number, lockTimeout?: number}} [options] where the API is, if not at
     *   this page's origin, which then must be one of its `ALLOWED_ORIGINS` and of the same site; milliseconds that a call
     *   may take, and that a tab waits for another one's
     */
    constructor({ baseUrl, timeout, lockTimeout }?: {
        baseUrl?: string | URL;
        timeout?: number;
        lockTimeout?: number;
    });
    /**
     * What is known: `loading` until somebody has asked; `authenticated`; `anonymous`; or `unreachable` while the server cannot
     * say. The event `status` tells of each change.
     */
    get status(): Status;
    /** Who is logged in. */
    get user(): User | null;
    /** The id of the session, or ''. */
    get id(): string;
    /** Where the API is. */
    get baseUrl(): string;
    /** For how many milliseconds the access token is still good; not more than 0 if there is none. */
    get remaining(): number;
    /** For how many milliseconds the access token was good when it was new. */
    get lifetime(): number;
    /** In how many milliseconds the token will be refreshed, if no other tab does it before. */
    get refreshIn(): number;
    /** Lets go of everything; the session itself lives on. */
    close(): void;
    /**
     * Takes up the session that this browser has, if it has one. Where none was ever begun with this client, or the last one has
     * ended, nothing is asked: `probe` asks all the same, which takes a session up that was begun without this client. Fails
     * if the server refuses to say, as to a page of an origin that it does not know, and when it is aborted or cannot be reached
     * for `timeout` (30 s).
     * @param {Until & {probe?: boolean}} [options]
     * @returns {Promise<User | null>}
     */
    resume({ signal, timeout, probe }?: Until & {
        probe?: boolean;
    }): Promise<User | null>;
    /** @param {string} username @param {string} password @param {{signal?: AbortSignal}} [options] @returns {Promise<User>} */
    login(username: string, password: string, { signal }?: {
        signal?: AbortSignal;
    }): Promise<User>;
    /**
     * Opens an account, and its first session.
     * @param {string} username
     * @param {string} password
     * @param {{signal?: AbortSignal}} [options] who waits no longer may be logged in all the same: `status` tells
     * @returns {Promise<User>}
     */
    register(username: string, password: string, { signal }?: {
        signal?: AbortSignal;
    }): Promise<User>;
    /**
     * Ends the session, or all of the user's. While that cannot be done it fails, and may be tried again.
     * @param {{everywhere?: boolean}} [options]
     */
    logout({ everywhere }?: {
        everywhere?: boolean;
    }): Promise<void>;
    /** An access token that is good now, or null if nobody is logged in. @returns {Promise<string | null>} */
    token(): Promise<string | null>;
    /**
     * Trades the token for the next one. Of any number of tabs that want to at the same time one does, for all.
     * Fails with `status` 401 if there is no session any more, and otherwise may be tried again.
     * @returns {Promise<void>}
     */
    refresh(): Promise<void>;
    /**
     * As the global `fetch`, and sends the access token along, to the API's own origin only. If it is refused, it is
     * refreshed and the request sent once more. Where there is no network it fails as that does (`TypeError`), or, if the
     * token has to be refreshed first, as `refresh` does.
     * @param {RequestInfo | URL} input @param {RequestInit} [init] @returns {Promise<Response>}
     */
    fetch(input: RequestInfo | URL, init?: RequestInit): Promise<Response>;
    /** Says in every tab that a session is over. For what hears of it first. @param {string} id @param {string} reason */
    expire(id: string, reason: string): void;
    #private;
}
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
export class Room extends Emitter<{
    message: Message;
    presence: {
        event: "join" | "leave";
        user: User;
    };
    users: Map<number, User>;
    typing: Map<number, User>;
    joined: {
        recovered: boolean;
    };
    away: {};
    left: {
        reason: string;
    };
}> {
    /** @param {string} name @param {Link} link */
    constructor(name: string, link: Link);
    name: string;
    /** Whether the server has us in it now. */
    joined: boolean;
    /** How many users are here; `users` holds at most the 1,000 that the server lists, and who came since. */
    count: number;
    /** Who is here, by id. @type {Map<number, User>} */
    users: Map<number, User>;
    /** Who is typing, by id. @type {Map<number, User>} */
    typists: Map<number, User>;
    /** The id of the last message, for `since`. */
    get last(): string | undefined;
    /**
     * Says something to everybody here. An error `disconnected` or `timeout` means that it may have been heard or not.
     * @param {any} data
     * @returns {Promise<{room: string, id: string}>}
     */
    publish(data: any): Promise<{
        room: string;
        id: string;
    }>;
    /** To be called at every key that is typed: tells the others seldom, and that it is over after a pause. */
    startTyping(): void;
    stopTyping(): void;
    leave(): Promise<void>;
    /** @internal @param {Joined} state */
    _join({ count, users, typing, messages, recovered, last }: Joined): void;
    /** The connection is gone; the server keeps our place for a moment. @internal */
    _away(): void;
    /** @internal @param {string} reason */
    _left(reason: string): void;
    /** @internal @param {Message} message */
    _message(message: Message): void;
    /** @internal @param {{event: 'join' | 'leave', user: User}} change */
    _presence({ event, user }: {
        event: "join" | "leave";
        user: User;
    }): void;
    /** @internal @param {{user: User, typing: boolean}} change */
    _typing({ user, typing }: {
        user: User;
        typing: boolean;
    }): void;
    #private;
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
export class RealtimeClient extends Emitter<{
    state: {
        state: State;
        delay?: number;
    };
    connected: {
        userId: number;
        username: string;
        expiresAt: number;
        connectionId: string;
        replica?: string;
    };
    disconnected: {
        code: number;
        reason: string;
        final: boolean;
    };
    reauthenticated: {
        expiresAt: number;
    };
    error: GatefoldError;
}> {
    /**
     * Does nothing yet: see `connect`.
     * @param {AuthSession} session
     * @param {{url?: string | URL}} [options] where the socket is, if not at `/ws` beside the API
     */
    constructor(session: AuthSession, { url }?: {
        url?: string | URL;
    });
    /** @returns {State} */
    get state(): State;
    /** The rooms that we are in, or want to be in, one for each `join`. @returns {Room[]} */
    get rooms(): Room[];
    /** Connects, and stays connected. */
    connect(): void;
    /** Closes the socket and forgets the rooms. */
    disconnect(): void;
    /** As `disconnect`, for good. */
    close(): void;
    /**
     * @returns {Promise<{timestamp: number, latency: number}>} the server's clock, and how long the answer took, in ms
     */
    ping(): Promise<{
        timestamp: number;
        latency: number;
    }>;
    /**
     * Gives the socket the session's present token, which happens by itself whenever there is a new one.
     * @returns {Promise<{expiresAt: number}>}
     */
    reauth(): Promise<{
        expiresAt: number;
    }>;
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
    join(name: string, { since, signal, timeout }?: Until & {
        since?: string;
    }): Promise<Room>;
    /**
     * Who is in a room, without entering it.
     * @param {string} room
     * @returns {Promise<{room: string, count: number, users: User[]}>}
     */
    presence(room: string): Promise<{
        room: string;
        count: number;
        users: User[];
    }>;
    #private;
}
export type User = {
    id: number;
    username: string;
};
export type Token = {
    user: User;
    sid: string;
    value: string;
    life: number;
    wall: number;
    steady: number;
    lead: number;
};
/**
 * `over` is the turn with which the session ended: there is none as long as `turn` has not grown since
 */
export type Turn = {
    key: string;
    pending: boolean;
    turn: number;
    over?: number;
    holder: string;
    until: number;
    edits: number;
};
export type Status = "loading" | "authenticated" | "anonymous" | "unreachable";
/**
 * until when to wait: an abort, or so many milliseconds at most
 */
export type Until = {
    signal?: AbortSignal;
    timeout?: number;
};
/**
 * What a room is to its client.
 */
export type Link = {
    request: (message: object) => Promise<any>;
    send: (message: object) => boolean;
    leave: () => Promise<void>;
};
/**
 * What a room is to its client.
 */
export type Message = {
    room: string;
    id: string;
    user: User;
    data: any;
    timestamp: number;
};
/**
 * What a room is to its client.
 */
export type Joined = {
    count: number;
    users: User[];
    typing: User[];
    messages: Message[];
    recovered: boolean;
    last: string;
};
/**
 * A socket that comes back by itself, with its rooms, for as long as the session lasts and `disconnect` is not called.
 */
export type State = "closed" | "connecting" | "open" | "waiting";
/**
 * A socket that comes back by itself, with its rooms, for as long as the session lasts and `disconnect` is not called.
 */
export type Place = {
    room: Room;
    since?: string;
    waiting?: {
        resolve: (room: Room) => void;
        reject: (error: Error) => void;
    };
};
/** Says things to whoever listens. @template {Record<string, any>} Events */
declare class Emitter<Events extends Record<string, any>> {
    /**
     * Listens. Call what is returned to stop.
     * @template {keyof Events} Name
     * @param {Name} name
     * @param {(detail: Events[Name]) => void} listener
     * @returns {() => void}
     */
    on<Name extends keyof Events>(name: Name, listener: (detail: Events[Name]) => void): () => void;
    /**
     * As `on`, for what is part of the client.
     * @internal
     * @template {keyof Events} Name
     * @param {Name} name
     * @param {(detail: Events[Name]) => void} listener
     * @returns {() => void}
     */
    _listen<Name extends keyof Events>(name: Name, listener: (detail: Events[Name]) => void): () => void;
    /** Somebody listens. @internal */
    _listened(): void;
    /**
     * Says what there is to say from now on in the next turn, in its order: whoever is just being given this listens
     * first.
     * @internal
     */
    _hold(): void;
    /** @protected @template {keyof Events} Name @param {Name} name @param {Events[Name]} detail */
    protected emit<Name extends keyof Events>(name: Name, detail: Events[Name]): void;
    #private;
}
export {};
