// Uses a cluster through the types that openapi-typescript has generated from its description, which `tsc` checks first.
//
//     node client.js URL

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';

import createClient, { type Middleware } from 'openapi-fetch';

import type { components, paths } from './gatefold.js';

type Problem = components['schemas']['Problem'];

const url = process.argv[2] ?? '';
const [username, password] = [`typescript-${randomUUID()}`, 'correct horse battery staple'];

// Keeps the cookies and the access token, as a page does.
const cookies = new Map<string, string>();
let accessToken = '';
const browser: Middleware = {
  onRequest({ request }) {
    if (cookies.size > 0) request.headers.set('cookie', [...cookies].map(pair => pair.join('=')).join('; '));
    if (accessToken) request.headers.set('authorization', `Bearer ${accessToken}`);
    return request;
  },
  onResponse({ response }) {
    for (const line of response.headers.getSetCookie()) {
      const [, name = '', value = ''] = /^([^=]+)=([^;]*)/.exec(line) ?? [];
      if (value) cookies.set(name, value);
      else cookies.delete(name);
    }
  },
};
const api = createClient<paths>({ baseUrl: url });
api.use(browser);

/** The body of a success; its type is that of the status. */
function body<T>({ data, error }: { data?: T; error?: unknown }): T {
  assert.ok(data !== undefined, JSON.stringify(error));
  return data;
}

/** What was refused, with a code that is one of the listed ones. */
function code({ error }: { error?: Problem | undefined }): components['schemas']['ProblemCode'] {
  assert.ok(error, 'it was not refused');
  return error.code;
}

const registered = body(await api.POST('/api/register', { body: { username, password } }));
assert.equal(registered.user.username, username);
assert.equal(code(await api.POST('/api/register', { body: { username, password } })), 'username_taken');
assert.equal(code(await api.POST('/api/login', { body: { username, password: 'wrong' } })), 'invalid_credentials');
const loggedIn = body(await api.POST('/api/login', { body: { username, password } }));
assert.equal(loggedIn.user.id, registered.user.id);

const key = { params: { header: { 'Idempotency-Key': randomUUID() } } };
accessToken = body(await api.POST('/api/refresh', key)).accessToken;
assert.equal(body(await api.GET('/api/protected')).user.username, username);
const { sessions } = body(await api.GET('/api/sessions'));
assert.equal(sessions.filter(session => session.current).length, 1);
const { events } = body(await api.GET('/api/events', { params: { query: { kind: 'logged_in', limit: 1 } } }));
assert.ok(events.every(event => event.kind === 'logged_in'));

const lobby = { params: { path: { room: 'lobby' } } };
assert.equal(body(await api.GET('/api/rooms/{room}/presence', lobby)).room, 'lobby');
body(await api.POST('/api/rooms/{room}/messages', { ...lobby, body: { data: { text: 'Hello' } } }));

assert.equal(body(await api.POST('/api/logout')).sessions.length, 1);
assert.equal(code(await api.POST('/api/refresh')), 'missing_refresh_token');
assert.equal(code(await api.GET('/api/protected')), 'session_revoked');
console.log('used');
