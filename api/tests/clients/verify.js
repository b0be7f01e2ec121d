// Verifies an access token with jose, as a service of somebody else does.
//
//     node verify.js URL TOKEN ISSUER AUDIENCE    URL is where ISSUER can be reached

import assert from 'node:assert/strict';

import { createRemoteJWKSet, errors, jwtVerify } from 'jose';

const [url, token, issuer, audience] = process.argv.slice(2);
const metadata = await (await fetch(`${url}/.well-known/oauth-authorization-server`)).json();
assert.equal(metadata.issuer, issuer);
const { pathname } = new URL(metadata.jwks_uri);
const keys = createRemoteJWKSet(new URL(pathname, url));
// RFC 9068 2.2 and 4.
const options = {
  issuer, audience, typ: 'at+jwt', algorithms: ['RS256'],
  requiredClaims: ['iss', 'exp', 'aud', 'sub', 'client_id', 'iat', 'jti'],
};
const { payload } = await jwtVerify(token, keys, options);
assert.equal(payload.client_id, 'gatefold');
for (const other of [{ issuer: 'https://other.example' }, { audience: 'gatefold' }, { typ: 'JWT' }]) {
  await assert.rejects(jwtVerify(token, keys, { ...options, ...other }), errors.JWTClaimValidationFailed);
}
console.log('verified');
