// tus-js-client: resumable uploads, cut and resumed; parallel uploads in order and out of it.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { createServer, connect } from 'node:net'
import { fileURLToPath } from 'node:url'

import { FileUrlStorage, Upload } from 'tus-js-client'

import { API, assertArrived, AVSENDER, headers, initialize, md5, ok, SANDBOX, TUS } from './altinn.mjs'

const MIB = 1024 * 1024
// The offset that is told may lag behind what was accepted; Altinn then answers 409, and asking again helps.
const PATIENTLY = { retryDelays: Array(20).fill(100) }

/** Uploads to the end; the upload can be watched and disturbed by its options. */
async function upload(transfer, content, options = {}, base = TUS) {
  const authorization = await headers(AVSENDER)
  return new Promise((resolve, reject) => {
    const upload = new Upload(content, {
      endpoint: `${base}/${transfer}`,
      headers: authorization,
      chunkSize: MIB,
      retryDelays: null,
      onSuccess: () => resolve(upload),
      onError: reject,
      ...options,
    })
    upload.start()
  })
}

/** A proxy that cuts the connection, once, in the middle of the second chunk. */
async function cuttingProxy() {
  const target = new URL(SANDBOX.url)
  const proxy = { happened: 0 }
  let up = 0
  const server = createServer((near) => {
    const far = connect(target.port, target.hostname)
    const end = () => {
      near.destroy()
      far.destroy()
    }
    near.on('data', (block) => {
      up += block.length
      if (up < 1.5 * MIB || proxy.happened > 0) return far.write(block)
      proxy.happened += 1
      return end()
    })
    far.on('data', (block) => near.write(block))
    for (const socket of [near, far]) socket.on('error', end).on('close', end)
  })
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
  proxy.url = `${target.protocol}//127.0.0.1:${server.address().port}`
  proxy.close = () => {
    server.close()
    server.unref()
  }
  return proxy
}

/** Lets creations pass one at a time, in an order of parts, which differ in length. */
function inOrder(lengths) {
  const waiting = new Map()
  let turn = 0
  const next = () => waiting.get(lengths[turn])?.()
  const partOf = (request) => request.getMethod() === 'POST' && Number(request.getHeader('Upload-Length'))
  return {
    onBeforeRequest(request) {
      const length = partOf(request)
      if (!length || lengths[turn] === length) return undefined
      return new Promise((resolve) => waiting.set(length, resolve))
    },
    onAfterResponse(request) {
      if (!partOf(request)) return
      turn += 1
      next()
    },
  }
}

const content = randomBytes(5 * MIB + 54321)
const boundaries = [
  { start: 0, end: 2 * MIB },
  { start: 2 * MIB, end: 3 * MIB + 1 },
  { start: 3 * MIB + 1, end: content.length },
]
const lengths = boundaries.map(({ start, end }) => end - start)
const parallel = { parallelUploads: 3, parallelUploadBoundaries: boundaries, ...PATIENTLY }

async function single() {
  const transfer = await initialize('tus-js.bin', content)
  await upload(transfer, content)
  await assertArrived(transfer, content)
  ok('tus-js-client uploads in chunks, and the file is published')
}

async function cut() {
  const transfer = await initialize('tus-js.bin', content)
  const proxy = await cuttingProxy()
  await upload(transfer, content, PATIENTLY, TUS.replace(SANDBOX.url, proxy.url))
  proxy.close()
  assert.equal(proxy.happened, 1)
  await assertArrived(transfer, content)
  ok('tus-js-client goes on after a chunk that was cut')
}

/** One process begins and dies, the next goes on from the URL that the first has stored. */
async function resumed() {
  const transfer = await initialize('tus-js.bin', content)
  const file = `${process.env.WORK}/tus-js.bin`
  writeFileSync(file, content)
  const run = (what) => execFileSync(process.execPath, [fileURLToPath(import.meta.url), what, transfer, file], { encoding: 'utf8' })
  run('begin')
  const resumedAt = Number(run('go-on'))
  assert(resumedAt > 0 && resumedAt < content.length, `it went on at ${resumedAt}`)
  await assertArrived(transfer, content)
  ok('tus-js-client goes on in another process, from the URL that it has stored')
}

async function inParallel() {
  const transfer = await initialize('tus-js.bin', content)
  await upload(transfer, content, { ...parallel, ...inOrder(lengths) })
  await assertArrived(transfer, content)
  ok('tus-js-client uploads three parts in parallel, created in order, and the file is published')
}

/** What has become of a transfer, once it is over. */
async function outcome(transfer) {
  for (;;) {
    const answer = await fetch(`${API}/${transfer}`, { headers: await headers(AVSENDER) })
    const overview = await answer.json()
    if (['Published', 'Failed'].includes(overview.fileTransferStatus)) return overview
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}

async function permuted() {
  const transfer = await initialize('tus-js.bin', content)
  await upload(transfer, content, { ...parallel, ...inOrder([...lengths].reverse()) })
  const { fileTransferStatus, fileTransferStatusText } = await outcome(transfer)
  assert.equal(fileTransferStatus, 'Failed', fileTransferStatusText)
  ok('three parts of tus-js-client that were created in another order are found out by the checksum: Failed')
}

async function unaided() {
  const outcomes = []
  for (let attempt = 0; attempt < 4; attempt += 1) {
    const transfer = await initialize('tus-js.bin', content)
    await upload(transfer, content, parallel)
    const { fileTransferStatus, checksum } = await outcome(transfer)
    if (fileTransferStatus === 'Published') {
      assert.equal(checksum, md5(content))
      await assertArrived(transfer, content)
    }
    outcomes.push(fileTransferStatus)
  }
  ok(`parts that tus-js-client creates all at once never give wrong bytes (${outcomes.join(', ')})`)
}

const [what, transfer, file] = process.argv.slice(2)
const stored = { storeFingerprintForResuming: true, urlStorage: new FileUrlStorage(`${process.env.WORK}/tus-js.json`) }
if (what === 'begin') {
  const onChunkComplete = (_, accepted) => {
    if (accepted >= 2 * MIB) process.exit(0)
  }
  await upload(transfer, readFileSync(file), { ...stored, onChunkComplete })
} else if (what === 'go-on') {
  const begun = new Upload(readFileSync(file), { ...stored, endpoint: `${TUS}/${transfer}` })
  const [previous] = await begun.findPreviousUploads()
  assert(previous, 'no URL was stored')
  let first
  await upload(transfer, readFileSync(file), {
    ...stored,
    ...PATIENTLY,
    uploadUrl: previous.uploadUrl,
    onProgress: (sent) => (first ??= sent),
  })
  console.log(first)
} else {
  await single()
  await cut()
  await resumed()
  await inParallel()
  await permuted()
  await unaided()
}
