/**
 * A whole cluster of one's own, from the built programs: two replicas of each kind behind Nginx. It ends with the tests.
 * GATEFOLD_URL names a deployment to be tested in its place, for tests that break nothing and need no other settings.
 */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, cp, mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const execute = promisify(execFile);
const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
const CLIENT = fileURLToPath(new URL('../../', import.meta.url));
const PROGRAMS = process.env.GATEFOLD_PROGRAMS ?? `${ROOT}target/debug`;
/** What a deployment serves; the tests add a page of their own. */
const SERVED = ['gatefold.js', 'icon.svg', 'index.html', 'page-account.js', 'page-elements.js', 'page-room.js', 'page.js', 'style.css'];

/** A port below those that the system gives to outgoing connections, which would take it any moment. */
async function freePort() {
  for (;;) {
    const port = 10_000 + Math.floor(Math.random() * 20_000);
    const server = createServer();
    const isFree = await new Promise(resolve => server.once('error', () => resolve(false)).listen(port, () => resolve(true)));
    await new Promise(resolve => server.close(resolve));
    if (isFree) return port;
  }
}

async function run(dir, ...args) {
  return (await execute(`${PROGRAMS}/gatefold-cluster`, [...args, '--dir', dir], { cwd: ROOT })).stdout;
}

/**
 * Starts one.
 * @param {{env?: Record<string, string>, limits?: boolean}} [options] variables of the replicas; whether requests are limited
 */
export async function startCluster({ env = {}, limits = false } = {}) {
  const elsewhere = process.env.GATEFOLD_URL?.replace(/\/$/, '');
  if (elsewhere) {
    if (limits || Object.keys(env).length) throw new Error('this test needs a cluster of its own: unset GATEFOLD_URL');
    return { url: elsewhere, port: Number(new URL(elsewhere).port || 80), stop: async () => {} };
  }
  const dir = await mkdtemp('/var/tmp/gatefold-client-');
  // Sweeps everything away when its standard input ends, however these tests do.
  const guard = spawn(`${PROGRAMS}/gatefold-cluster`, ['guard', '--dir', dir], { stdio: ['pipe', 'ignore', 'inherit'], detached: true });
  const gone = new Promise(resolve => guard.once('exit', resolve));
  const stop = () => (guard.stdin.end(), gone);
  await once(guard, 'spawn').catch(error => rm(dir, { recursive: true }).finally(() => Promise.reject(error)));
  try {
    return { ...await start(dir, env, limits), stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function start(dir, env, limits) {
  await chmod(dir, 0o711); // Postgres and Nginx are other users
  await mkdir(`${dir}/client`);
  await Promise.all(SERVED.map(file => cp(CLIENT + file, `${dir}/client/${file}`)));
  await cp(`${CLIENT}tests/bench`, `${dir}/client`, { recursive: true });
  await execute(`${ROOT}generate-keys.sh`, ['--dir', `${dir}/keys`]);
  const variables = Object.entries(env).flatMap(([name, value]) => ['--env', `${name}=${value}`]);
  const port = await freePort();
  await run(dir, 'up', '--no-proxy', '--port', String(port), '--keys', `${dir}/keys`, '--client', `${dir}/client`,
    ...(limits ? [] : ['--no-rate-limits']), ...variables);
  const status = async () => JSON.parse(await run(dir, 'status', '--json')).processes;
  const processes = await status();
  const { accessLog } = processes.find(({ kind }) => kind === 'nginx');
  const store = name => processes.find(({ kind }) => kind === name).url;
  const settings = { DATABASE_URL: store('postgres'), REDIS_URL: store('redis'), PRIVATE_KEY_PATH: `${dir}/keys/private.pem`,
    PUBLIC_KEY_PATH: `${dir}/keys/public.pem`, REFRESH_KEY_PATH: `${dir}/keys/refresh.key` };
  return {
    url: `http://localhost:${port}`,
    port,
    status,
    /** Signals a process, or several. */
    kill: (name, signal = 'KILL') => run(dir, 'kill', name, '--signal', signal),
    /** Runs one of the administrator's commands. */
    admin: (...command) => execute(`${PROGRAMS}/gatefold-api`, command, { env: { ...process.env, ...settings } }),
    restart: name => run(dir, 'restart', name),
    /** The requests that Nginx has answered, oldest first. */
    async requests(path) {
      const lines = (await readFile(accessLog, 'utf8')).trim().split('\n').filter(Boolean).map(line => JSON.parse(line));
      return lines.filter(line => line.path === path);
    },
  };
}

let accounts = 0;
export const PASSWORD = 'correct horse battery';

/** Opens an account by REST, outside of any browser. */
export async function addUser(cluster, name = 'user', username = `${name}.${process.pid}.${++accounts}`) {
  const caller = await enter(cluster, 'register', username);
  return { ...caller, username, password: PASSWORD };
}

/** Logs in by REST, as another browser would. */
export const logIn = (cluster, username) => enter(cluster, 'login', username);

async function enter(cluster, call, username) {
  const response = await fetch(`${cluster.url}/api/${call}`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ username, password: PASSWORD }),
  });
  if (!response.ok) throw new Error(`${call}: ${response.status} ${await response.text()}`);
  const { accessToken, user } = await response.json();
  const rest = (method, path) =>
    fetch(cluster.url + path, { method, headers: { Authorization: `Bearer ${accessToken}` } });
  return { id: user.id, rest };
}
