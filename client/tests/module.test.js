/** The module as a package: its types, its size, and that it needs nothing else. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';

const HERE = fileURLToPath(new URL('.', import.meta.url));
const MOST = 12 * 1024;
const execute = promisify(execFile);

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

test(`minified and compressed the module is under ${MOST} bytes, and imports nothing`, async t => {
  const { outputFiles: [{ contents }], metafile } = await build({
    entryPoints: [`${HERE}../gatefold.js`], bundle: true, minify: true, format: 'esm', target: 'es2022', write: false, metafile: true,
  });
  assert.equal(Object.keys(metafile.inputs).length, 1);
  const size = gzipSync(contents, { level: 9 }).length;
  t.diagnostic(`${size} bytes`);
  assert.ok(size < MOST, `${size} bytes`);
});

test('the package, as it would be published, is complete, and an application can use it', async t => {
  const folder = await mkdtemp('/tmp/gatefold-package-');
  t.after(() => rm(folder, { recursive: true }));
  const { stdout } = await execute('npm', ['pack', '--json', '--pack-destination', folder], { cwd: `${HERE}..` });
  const [{ filename, files }] = JSON.parse(stdout);
  assert.deepEqual(files.map(({ path }) => path).sort(), ['LICENSE', 'README.md', 'gatefold.d.ts', 'gatefold.js', 'package.json']);
  const installed = `${folder}/node_modules/gatefold`;
  await mkdir(installed, { recursive: true });
  await execute('tar', ['-xzf', `${folder}/${filename}`, '-C', installed, '--strip-components=1']);
  assert.equal(await readFile(`${installed}/LICENSE`, 'utf8'), await readFile(`${HERE}../../LICENSE`, 'utf8'));

  await cp(`${HERE}consumer.ts`, `${folder}/consumer.ts`);
  for (const moduleResolution of ['bundler', 'nodenext', 'node10']) {
    const module = moduleResolution === 'nodenext' ? 'nodenext' : 'es2022';
    const compilerOptions = { strict: true, noEmit: true, module, moduleResolution, target: 'es2022', lib: ['es2022', 'dom', 'dom.iterable'], types: [] };
    await writeFile(`${folder}/package.json`, '{"type": "module"}');
    await writeFile(`${folder}/tsconfig.json`, JSON.stringify({ compilerOptions, files: ['consumer.ts'] }));
    assert.equal(await tsc('--project', folder), '', `an application in TypeScript is told its mistakes, and only those: ${moduleResolution}`);
  }
  const bundle = contents => build({
    stdin: { contents, resolveDir: folder }, bundle: true, minify: true, format: 'esm', target: 'es2022', write: false, logLevel: 'error',
  }).then(({ outputFiles }) => outputFiles[0].contents.length);
  assert.ok(await bundle('import { AuthSession } from "gatefold"; new AuthSession()') > 1_000);
  assert.equal(await bundle('import "gatefold"'), 0, 'what is not used is left out');
  // Pages that are rendered by a server import it, too, where there is no browser.
  const { AuthSession, RealtimeClient } = await import(`${installed}/gatefold.js`);
  assert.ok(AuthSession && RealtimeClient);
});
