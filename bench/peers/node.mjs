// What every peer's node has in common: it says "ready", waits for "go", then works and tells.
import { createInterface } from 'node:readline'

export const plan = JSON.parse(process.argv[2])
export const queue = 'bench'
// 200 bytes of JSON.
export const payload = { text: 'x'.repeat(189) }

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]()

export const tell = (text) => process.stdout.write(`${text}\n`)
export const hear = async () => (await lines.next()).value

/** `inFlight` calls at a time until the time is over. */
export async function add(call, jobsOfCall) {
  tell('ready')
  await hear()
  const started = performance.now()
  const over = started + plan.seconds * 1000
  let jobs = 0
  const one = async () => {
    while (performance.now() < over) {
      await call()
      jobs += jobsOfCall
    }
  }
  await Promise.all(Array.from({ length: plan.inFlight }, one))
  tell(`added ${jobs} ${performance.now() - started}`)
}

/** As many jobs as asked for, in arrays. */
export async function fill(call) {
  tell('ready')
  await hear()
  for (let left = plan.jobs; left > 0; left -= 1000) await call(Math.min(left, 1000))
  tell(`added ${plan.jobs} 0`)
}

/** Tells how many jobs were handled, now and then, until told to stop. */
export function counter() {
  let handled = 0
  const timer = setInterval(() => tell(`handled ${handled}`), 20)
  return {
    count(jobs) {
      handled += jobs
      if (handled >= plan.jobs) tell(`handled ${handled}`)
    },
    async stopped() {
      await hear()
      clearInterval(timer)
    },
  }
}
