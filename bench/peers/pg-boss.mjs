// pg-boss: https://pgboss.io
import { PgBoss } from 'pg-boss'
import { add, counter, fill, hear, payload, plan, queue, tell } from './node.mjs'

const boss = new PgBoss({ host: plan.host, port: plan.port, user: plan.user, database: plan.database, max: plan.connections })
boss.on('error', (error) => {
  console.error(error)
  process.exit(1)
})
await boss.start()
await boss.createQueue(queue)

const array = (jobs) => boss.insert(queue, Array.from({ length: jobs }, () => ({ data: payload })))

switch (plan.what) {
  case 'prepare':
    break
  case 'single':
    await add(() => boss.send(queue, payload), 1)
    break
  case 'array':
    await add(() => array(plan.array), plan.array)
    break
  case 'fill':
    await fill(array)
    break
  case 'drain': {
    const handled = counter()
    tell('ready')
    await hear()
    const options = {
      batchSize: plan.batch,
      localConcurrency: plan.workers,
      burstWhenBatchFull: true,
      pollingIntervalSeconds: 0.5,
    }
    await boss.work(queue, options, async (jobs) => handled.count(jobs.length))
    await handled.stopped()
  }
}
await boss.stop({ graceful: true, close: true })
process.exit(0)
