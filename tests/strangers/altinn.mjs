// Formidling as a JavaScript integrator sees it: jose and fetch.

import assert from 'node:assert/strict'
import { createHash, randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'

import { importPKCS8, SignJWT } from 'jose'

export const SANDBOX = JSON.parse(process.env.SANDBOX)
export const API = `${SANDBOX.endpoints.broker}/filetransfer`
export const TUS = `${API}/upload/tus`
const party = (name) => SANDBOX.organizations.find((it) => it.name === name)
export const [AVSENDER, MOTTAKER] = ['avsender', 'mottaker'].map(party)
const GRANT = 'urn:ietf:params:oauth:grant-type:jwt-bearer'
const SCOPES = 'altinn:broker.write altinn:broker.read altinn:events.subscribe'

export const ok = (what) => console.log(`ok ${what}`)
export const md5 = (content) => createHash('md5').update(content).digest('hex')

/** The claims of a correct grant; a change to undefined takes a claim away. */
export function claims(party, changes = {}) {
  const now = Math.floor(Date.now() / 1000)
  return {
    aud: SANDBOX.endpoints.maskinporten,
    iss: party.clientId,
    scope: SCOPES,
    iat: now,
    exp: now + 100,
    jti: randomUUID(),
    authorization_details: [
      {
        type: 'urn:altinn:systemuser',
        systemuser_org: { authority: 'iso6523-actorid-upis', ID: party.organization },
      },
    ],
    ...changes,
  }
}

export const pem = (party) => readFileSync(party.privateKey, 'ascii')

export async function sign(party, changes = {}, header = {}, key = undefined) {
  const protectedHeader = { alg: 'RS256', kid: party.keyId, ...header }
  return new SignJWT(claims(party, changes))
    .setProtectedHeader(protectedHeader)
    .sign(key ?? (await importPKCS8(pem(party), protectedHeader.alg)))
}

export const askToken = (assertion) =>
  fetch(SANDBOX.endpoints.token, {
    method: 'POST',
    body: new URLSearchParams({ grant_type: GRANT, assertion }),
  })

export async function maskinportenToken(party) {
  const answer = await askToken(await sign(party))
  assert.equal(answer.status, 200)
  return (await answer.json()).access_token
}

export async function exchange(token) {
  const answer = await fetch(SANDBOX.endpoints.exchange, { headers: { Authorization: `Bearer ${token}` } })
  assert.equal(answer.status, 200)
  return (await answer.text()).replaceAll('"', '')
}

/** The headers of a request as this organisation. */
export async function headers(party) {
  party.altinn ??= await exchange(await maskinportenToken(party))
  return { Authorization: `Bearer ${party.altinn}` }
}

/** A transfer from avsender to mottaker; its id. */
export async function initialize(fileName, content, withChecksum = true) {
  const answer = await fetch(API, {
    method: 'POST',
    headers: { ...(await headers(AVSENDER)), 'Content-Type': 'application/json' },
    body: JSON.stringify({
      fileName,
      resourceId: SANDBOX.resource,
      sendersFileTransferReference: 'stranger',
      sender: AVSENDER.organization,
      recipients: [MOTTAKER.organization],
      propertyList: {},
      ...(withChecksum ? { checksum: md5(content) } : {}),
    }),
  })
  const text = await answer.text()
  assert.equal(answer.status, 200, text)
  return JSON.parse(text).fileTransferId
}

/** Waits for a status, and gives the overview. */
export async function until(transfer, wanted) {
  const deadline = Date.now() + 30_000
  for (;;) {
    const answer = await fetch(`${API}/${transfer}`, { headers: await headers(AVSENDER) })
    assert.equal(answer.status, 200)
    const overview = await answer.json()
    const status = overview.fileTransferStatus
    if (status === wanted) return overview
    const isOver = ['Failed', 'Published'].includes(status) || Date.now() > deadline
    assert(!isOver, `waited for ${wanted}: ${JSON.stringify(overview)}`)
    await sleep(100)
  }
}

/** It is published with its MD5, and what can be downloaded is what was sent. */
export async function assertArrived(transfer, content) {
  const overview = await until(transfer, 'Published')
  assert.equal(overview.checksum, md5(content))
  assert.equal(overview.fileTransferSize, content.length)
  const answer = await fetch(`${API}/${transfer}/download`, { headers: await headers(MOTTAKER) })
  assert.equal(answer.status, 200)
  assert(Buffer.from(await answer.arrayBuffer()).equals(content))
}
