/** The cable between browser and server: a proxy that can be cut at any moment, also between a request and its answer. */
import { connect, createServer } from 'node:net';

export async function layCable(port) {
  const pairs = new Set();
  let isCut = false;
  let isStalled = false;
  let victim;
  /** @type {{request: string, resolve: (deliver: () => Promise<string>) => void} | undefined} */
  let late;

  /** Brings a request that was held back to the server, whose answer is for nobody but the test. */
  const deliver = request => new Promise((resolve, reject) => {
    let answer = '';
    const far = connect(port, '127.0.0.1').on('error', reject).on('close', () => resolve(answer)).on('data', data => {
      answer += data;
      if (/^0\r\n\r\n$|\}$/m.test(answer)) far.end();
    });
    far.write(request);
  });

  const server = createServer(near => {
    near.on('error', () => {});
    if (isCut) return near.destroy();
    const far = connect(port, '127.0.0.1').on('error', () => near.destroy());
    const pair = { near, far, condemned: false };
    pairs.add(pair);
    const end = () => (pairs.delete(pair), near.destroy(), far.destroy());
    near.on('close', end).on('end', end).on('data', data => {
      if (late && data.includes(late.request)) {
        const { resolve } = late;
        late = undefined;
        return resolve(() => deliver(data));
      }
      if (victim && data.includes(victim.request)) pair.condemned = true;
      far.write(data);
    });
    far.on('close', end).on('end', end).on('data', data => {
      if (pair.condemned && victim) {
        // The server has done its part; the answer is lost, or what is after its first bytes, or comes later.
        const { resolve, after } = victim;
        victim = undefined;
        if (after === undefined) return resolve(() => (pair.condemned = false, near.write(data)));
        near.write(data.subarray(0, after));
        pairs.delete(pair); // one that is closing cannot be reset, and would then never close
        near.destroySoon();
        return resolve();
      }
      if (pair.condemned) return;
      near.write(data);
    });
    if (isStalled) (near.pause(), far.pause());
  }).listen(0, '127.0.0.1');
  await new Promise(resolve => server.once('listening', resolve));

  return {
    url: `http://localhost:${server.address().port}`,
    /** Breaks every connection, and refuses new ones. */
    cut() {
      isCut = true;
      for (const { near, far } of pairs) (near.resetAndDestroy(), far.destroy());
    },
    /** Nothing is broken, and nothing gets through. */
    stall() {
      isStalled = true;
      for (const { near, far } of pairs) (near.pause(), far.pause());
    },
    restore() {
      isCut = isStalled = false;
      for (const { near, far } of pairs) (near.resume(), far.resume());
    },
    /** Loses the next answer to a request, after so many of its bytes. Resolves when that has happened. */
    loseAnswer: (request, after = 0) => new Promise(resolve => (victim = { request, after, resolve })),
    /** Keeps the next request back. Resolves, when it is under way, to what brings it to the server and gives the answer. */
    holdRequest: request => new Promise(resolve => (late = { request, resolve })),
    /** Keeps the next answer to a request back. Resolves, when it has come, to what lets it through. */
    holdAnswer: request => new Promise(resolve => (victim = { request, resolve })),
    async close() {
      for (const { near, far } of pairs) (near.destroy(), far.destroy());
      await new Promise(resolve => server.close(resolve));
    },
  };
}
