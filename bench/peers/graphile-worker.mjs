// graphile-worker: https://worker.graphile.org, with the settings of its page on performance.
import { Logger, makeWorkerUtils, run } from 'graphile-worker'
import pg from 'pg'
import { add, counter, fill, hear, payload, plan, queue, tell } from './node.mjs'

const pgPool = new pg.Pool({
  host: plan.host,
  port: plan.port,
  user: plan.user,
  database: plan.database,
  max: plan.connections,
})
pgPool.on('error', () => {})
pgPool.on('connect', (client) => client.on('error', () => {}))
const logger = new Logger(() => (level, message) => {
  if (level === 'error') console.error(message)
})

if (plan.what === 'drain') {
  const handled = counter()
  tell('ready')
  await hear()
  const preset = {
    worker: {
      concurrentJobs: plan.workers,
      maxPoolSize: plan.connections,
      localQueue: { size: plan.batch },
      completeJobBatchDelay: 0,
      failJobBatchDelay: 0,
      pollInterval: 500,
    },
  }
  const taskList = { [queue]: () => handled.count(1) }
  const runner = await run({ pgPool, logger, preset, taskList, noHandleSignals: true })
  await handled.stopped()
  await runner.stop()
} else {
  const utils = await makeWorkerUtils({ pgPool, logger })
  await utils.migrate()
  const array = (jobs) => utils.addJobs(Array.from({ length: jobs }, () => ({ identifier: queue, payload })))
  if (plan.what === 'single') await add(() => utils.addJob(queue, payload), 1)
  if (plan.what === 'array') await add(() => array(plan.array), plan.array)
  if (plan.what === 'fill') await fill(array)
  await utils.release()
}
process.exit(0)
