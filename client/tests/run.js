/** Runs all tests, or those in the files that are named. Longest first, some at a time: most of them mostly wait. */
import { readdirSync } from 'node:fs';
import { run } from 'node:test';
import { spec } from 'node:test/reporters';
import { fileURLToPath } from 'node:url';

const HERE = fileURLToPath(new URL('.', import.meta.url));
const LONGEST = ['tabs.test.js', 'realtime.test.js', 'page.test.js'];
const AT_ONCE = 3;
/** After this a file hangs: the longest takes a minute or two, and several on a machine that is slow and busy. */
const TIMEOUT_MS = 15 * 60_000;

const all = readdirSync(HERE).filter(file => file.endsWith('.test.js') && !LONGEST.includes(file));
const named = process.argv.slice(2);
const files = (named.length ? named : [...LONGEST, ...all]).map(file => HERE + file);
run({ files, concurrency: AT_ONCE, timeout: TIMEOUT_MS })
  .on('test:fail', () => (process.exitCode = 1))
  .compose(new spec())
  .pipe(process.stdout);
