// jose: grants that Maskinporten takes and grants that it refuses; its tokens, and Altinn's, by their keys.

import assert from 'node:assert/strict'
import { createSecretKey, generateKeyPairSync, randomUUID } from 'node:crypto'

import { createRemoteJWKSet, importPKCS8, jwtVerify } from 'jose'

import { askToken, AVSENDER, exchange, maskinportenToken, MOTTAKER, ok, pem, SANDBOX, sign } from './altinn.mjs'

/** As a resource server does: the keys from the metadata, then signature, issuer and times. */
async function verify(token, metadataAddress) {
  const metadata = await (await fetch(metadataAddress)).json()
  const keys = createRemoteJWKSet(new URL(metadata.jwks_uri))
  const options = { issuer: metadata.issuer, algorithms: ['RS256'], requiredClaims: ['exp', 'iat'] }
  return (await jwtVerify(token, keys, options)).payload
}

const token = await maskinportenToken(AVSENDER)
const verified = await verify(token, SANDBOX.endpoints.maskinportenMetadata)
assert.equal(verified.consumer.ID, AVSENDER.organization)
assert.equal(verified.authorization_details[0].systemuser_org.ID, AVSENDER.organization)
ok("jose's grant is accepted, and the token verifies with Maskinporten's keys")

const altinn = await verify(await exchange(token), SANDBOX.endpoints.altinnMetadata)
assert.equal(altinn.scope, verified.scope)
assert.equal(altinn.exp - altinn.iat, 1800)
ok('jose verifies the exchanged token with Altinn\'s keys')

const now = Math.floor(Date.now() / 1000)
const used = randomUUID()
assert.equal((await askToken(await sign(AVSENDER, { jti: used }))).status, 200)
const other = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey
const curve = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey
const secret = createSecretKey(Buffer.alloc(32, 1))
const strange = await importPKCS8(pem(MOTTAKER), 'RS256')
const withSlash = SANDBOX.endpoints.maskinporten
const wrong = {
  'the address of the token endpoint as audience': [sign(AVSENDER, { aud: `${withSlash}token` }), 'MP-110'],
  'another kid': [sign(AVSENDER, {}, { kid: "somebody's" })],
  "another client's key": [sign(AVSENDER, {}, {}, strange), 'MP-124'],
  'a key that nobody knows': [sign(AVSENDER, {}, {}, other), 'MP-124'],
  'an end that has passed': [sign(AVSENDER, { iat: now - 200, exp: now - 100 }), 'MP-130'],
  'a used jti': [sign(AVSENDER, { jti: used }), 'MP-012'],
  'a further claim': [sign(AVSENDER, { sub: 'somebody' }), 'MP-011'],
  ES256: [sign(AVSENDER, {}, { alg: 'ES256' }, curve), 'MP-011'],
  PS256: [sign(AVSENDER, {}, { alg: 'PS256' }), 'MP-011'],
  HS256: [sign(AVSENDER, {}, { alg: 'HS256' }, secret), 'MP-011'],
}
for (const [what, [assertion, number]] of Object.entries(wrong)) {
  const answer = await askToken(await assertion)
  const body = await answer.json()
  assert.equal(answer.status, 400, `${what}: ${JSON.stringify(body)}`)
  assert.equal(body.error, 'invalid_grant', what)
  if (number) assert(body.error_uri.endsWith(number), `${what}: ${body.error_uri}`)
}
ok(`jose's wrong grants are refused: ${Object.keys(wrong).join(', ')}`)
