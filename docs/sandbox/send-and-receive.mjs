// Sends a file and receives it: node send-and-receive.mjs DIR, where DIR is the sandbox's.

import { createHash, randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'

import { importPKCS8, SignJWT } from 'jose'

const sandbox = JSON.parse(readFileSync(`${process.argv[2]}/sandbox.json`, 'utf8'))
const API = `${sandbox.endpoints.broker}/filetransfer`
const organization = (name) => sandbox.organizations.find((party) => party.name === name)
const md5 = (content) => createHash('md5').update(content).digest('hex')

async function ask(method, address, options = {}) {
  const answer = await fetch(address, { method, ...options })
  if (!answer.ok) throw new Error(`${method} ${address}: ${answer.status} ${await answer.text()}`)
  return answer
}

/** The authorization of an organisation: a grant to Maskinporten, its token to Altinn. */
async function altinn(name, scope) {
  const party = organization(name)
  const systemUser = {
    type: 'urn:altinn:systemuser',
    systemuser_org: { authority: 'iso6523-actorid-upis', ID: party.organization },
  }
  const grant = await new SignJWT({ scope, authorization_details: [systemUser] })
    .setProtectedHeader({ alg: 'RS256', kid: party.keyId })
    .setIssuer(party.clientId)
    .setAudience(sandbox.endpoints.maskinporten)
    .setIssuedAt()
    .setExpirationTime('100s')
    .setJti(randomUUID())
    .sign(await importPKCS8(readFileSync(party.privateKey, 'ascii'), 'RS256'))
  const form = { grant_type: 'urn:ietf:params:oauth:grant-type:jwt-bearer', assertion: grant }
  const maskinporten = await ask('POST', sandbox.endpoints.token, { body: new URLSearchParams(form) })
  const { access_token: token } = await maskinporten.json()
  const headers = { Authorization: `Bearer ${token}` }
  const exchanged = await ask('GET', sandbox.endpoints.exchange, { headers })
  return { Authorization: `Bearer ${await exchanged.text()}` }
}

// Send.
const content = Buffer.from('Hei på deg\n')
const sender = await altinn('avsender', 'altinn:broker.write')
const transfer = {
  fileName: 'hello.txt',
  resourceId: sandbox.resource,
  sendersFileTransferReference: 'case-42',
  sender: organization('avsender').organization,
  recipients: [organization('mottaker').organization],
  propertyList: {},
  checksum: md5(content),
}
const json = { ...sender, 'Content-Type': 'application/json' }
const initialized = await ask('POST', API, { headers: json, body: JSON.stringify(transfer) })
const { fileTransferId: sent } = await initialized.json()
const octets = { ...sender, 'Content-Type': 'application/octet-stream' }
await ask('POST', `${API}/${sent}/upload`, { headers: octets, body: content })
for (;;) {
  const { fileTransferStatus: status } = await (await ask('GET', `${API}/${sent}`, { headers: sender })).json()
  if (status === 'Published') break
  if (status === 'Failed') throw new Error('Altinn did not publish the file')
  await sleep(500)
}
console.log('published')

// Receive.
const headers = await altinn('mottaker', 'altinn:broker.read')
const query = new URLSearchParams({
  resourceId: sandbox.resource,
  role: 'Recipient',
  status: 'Published',
  recipientStatus: 'Initialized',
})
for (const found of await (await ask('GET', `${API}?${query}`, { headers })).json()) {
  const overview = await (await ask('GET', `${API}/${found}`, { headers })).json()
  const download = await ask('GET', `${API}/${found}/download`, { headers })
  const received = Buffer.from(await download.arrayBuffer())
  if (md5(received) !== overview.checksum) throw new Error('what arrived is not what was sent')
  // Once the file is safe, and not before.
  await ask('POST', `${API}/${found}/confirmdownload`, { headers })
  console.log(`received ${overview.fileName}, ${received.length} bytes`)
}
