/**
 * Runs all tests, or those in the files that are named. Longest first, some at a time: most of them mostly wait. A file or
 * two in which something failed are run once more, by themselves: on a machine that is busy with something else, a browser
 * may take longer than anything should. What passes then is named in the end, since a fault that is seldom seen is one too.
 * What tries something many times at random, to find what seldom happens, has found it then, and fails.
 */
import { readdirSync } from 'node:fs';
import { finished } from 'node:stream/promises';
import { run } from 'node:test';
import { spec } from 'node:test/reporters';
import { fileURLToPath } from 'node:url';

const HERE = fileURLToPath(new URL('.', import.meta.url));
const LONGEST = ['tabs.test.js', 'realtime.test.js', 'page.test.js'];
const AT_ONCE = 3;
const ONCE_MORE = 2;
const AT_RANDOM = ['cuts.test.js', 'tabs.test.js'].map(file => HERE + file);
/** After this a file hangs: the longest takes a minute or two, and several on a machine that is slow and busy. */
const TIMEOUT_MS = 15 * 60_000;

const all = readdirSync(HERE).filter(file => file.endsWith('.test.js') && !LONGEST.includes(file));
const named = process.argv.slice(2);
const files = (named.length ? named : [...LONGEST, ...all]).map(file => HERE + file);

/** Runs the tests in some files, and returns those of the files in which something failed. */
async function failedOf(files, concurrency) {
  const failed = new Set();
  const report = run({ files, concurrency, timeout: TIMEOUT_MS })
    // What a file has none of, as when it could not be read, is told as a failure of the file itself.
    .on('test:fail', ({ file, name }) => failed.add(files.includes(file) ? file : files.find(each => each === name) ?? name))
    .compose(new spec());
  report.pipe(process.stdout, { end: false });
  await finished(report);
  return [...failed];
}

const failed = await failedOf(files, AT_ONCE);
const canRepeat = failed.length <= ONCE_MORE && failed.every(file => files.includes(file) && !AT_RANDOM.includes(file));
if (failed.length && canRepeat) console.log('Once more, by themselves: %s', failed.join(' '));
if (failed.length && (!canRepeat || (await failedOf(failed, 1)).length)) process.exitCode = 1;
else if (failed.length) console.log('Failed at first, and passed alone: %s', failed.join(' '));
