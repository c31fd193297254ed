// A Helia node on loopback that does what its stdin says: one JSON object a line, and one
// back on stdout.
import { withBitswap } from '@helia/bitswap'
import { withLibp2pLight } from '@helia/libp2p'
import { identify } from '@libp2p/identify'
import { noise } from '@libp2p/noise'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { MemoryBlockstore } from 'blockstore-core'
import { createHeliaLight } from 'helia'
import { CID } from 'multiformats/cid'
import * as raw from 'multiformats/codecs/raw'
import { sha256 } from 'multiformats/hashes/sha2'
import readline from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'

const blockstore = new MemoryBlockstore()
const helia = await withBitswap(
  withLibp2pLight(createHeliaLight({ blockstore }), {
    addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
    transports: [tcp()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    services: { identify: identify(), ping: ping() }
  })
).start()
const { libp2p } = helia
const identified = new Map() // what js-libp2p learnt of each peer when it connected
libp2p.addEventListener('peer:identify', ({ detail }) => identified.set(detail.peerId.toString(), detail))
const limit = () => ({ signal: AbortSignal.timeout(30_000) })
const connection = (id) => libp2p.getConnections().find((c) => c.remotePeer.toString() === id)

const collect = async (parts) => {
  if (parts instanceof Uint8Array) return parts
  const all = []
  for await (const part of parts) all.push(part)
  return Buffer.concat(all)
}

const operations = {
  address: async () => libp2p.getMultiaddrs()[0].toString(),
  dial: async ({ address }) => {
    const { encryption, multiplexer } = await libp2p.dial(multiaddr(address), limit())
    return { encryption, multiplexer }
  },
  identify: async ({ id }) => {
    for (let waits = 0; !identified.has(id) && waits < 600; waits++) await sleep(50)
    const { agentVersion, protocols, signedPeerRecord } = identified.get(id)
    return { agent: agentVersion, protocols, signed: !!signedPeerRecord }
  },
  ping: async ({ id }) => libp2p.services.ping.ping(connection(id).remotePeer, limit()),
  get: async ({ cid }) => {
    const block = await collect(await helia.blockstore.get(CID.parse(cid), limit()))
    return Buffer.from(block).toString('base64')
  },
  put: async ({ block }) => {
    const bytes = Buffer.from(block, 'base64')
    const cid = CID.createV1(raw.code, await sha256.digest(bytes))
    await blockstore.put(cid, bytes)
    return cid.toString()
  }
}

for await (const line of readline.createInterface({ input: process.stdin })) {
  const { op, ...fields } = JSON.parse(line)
  let answer
  try {
    answer = { result: await operations[op](fields) }
  } catch (error) {
    answer = { error: `${error.name}: ${error.message}` }
  }
  process.stdout.write(JSON.stringify(answer) + '\n')
}
process.exit(0)
