/** The module as a package: its types, its size, and that it needs nothing else. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';

const HERE = fileURLToPath(new URL('.', import.meta.url));
const MOST = 12 * 1024;

/** What the compiler has to say, if anything. */
const tsc = (...options) => new Promise(resolve =>
  execFile(process.execPath, ['node_modules/typescript/bin/tsc', ...options], { cwd: HERE }, (_, said) => resolve(said)));

test('the JSDoc types of the module and of the page are right', async () => {
  assert.equal(await tsc('--project', 'tsconfig.json'), '');
});

test('gatefold.d.ts is what the module says: npm run types', async t => {
  const folder = await mkdtemp('/tmp/gatefold-types-');
  t.after(() => rm(folder, { recursive: true }));
  assert.equal(await tsc('--project', 'tsconfig.declarations.json', '--outDir', folder), '');
  assert.equal(await readFile(`${HERE}../gatefold.d.ts`, 'utf8'), await readFile(`${folder}/gatefold.d.ts`, 'utf8'));
});

test('an application in TypeScript is told its mistakes, and only those', async () => {
  assert.equal(await tsc('--project', 'tsconfig.consumer.json'), '');
});

test(`minified and compressed the module is under ${MOST} bytes, and imports nothing`, async t => {
  const { outputFiles: [{ contents }], metafile } = await build({
    entryPoints: [`${HERE}../gatefold.js`], bundle: true, minify: true, format: 'esm', target: 'es2022', write: false, metafile: true,
  });
  assert.equal(Object.keys(metafile.inputs).length, 1);
  const size = gzipSync(contents, { level: 9 }).length;
  t.diagnostic(`${size} bytes`);
  assert.ok(size < MOST, `${size} bytes`);
});

test('the package has what it promises', async () => {
  const { exports, types, files, dependencies } = JSON.parse(await readFile(`${HERE}../package.json`, 'utf8'));
  assert.equal(dependencies, undefined);
  for (const file of [types, ...Object.values(exports['.'])]) {
    assert.ok(files.includes(file.slice(2)), file);
    await readFile(`${HERE}../${file}`);
  }
});
