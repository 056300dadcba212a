// Orders with Node and `pg`: the order and its job in one transaction, then the shipment and the job's completion in one.
//
//   node orders.mjs place 17                          prints the job's id
//   node orders.mjs ship job_01… 1882419200000001     ships what a worker leased
//
// The database is that of PGHOST, PGUSER, PGDATABASE and their like.
import pg from 'pg'

// Transactions that were in each other's way are run again from their beginning.
const AGAIN = new Set(['40001', '40P01'])

async function inTransaction(client, work, tries = 5) {
  for (let attempt = 1; ; attempt++) {
    await client.query('BEGIN')
    try {
      const result = await work(client)
      await client.query('COMMIT')
      return result
    } catch (error) {
      await client.query('ROLLBACK')
      if (attempt === tries || !AGAIN.has(error.code)) throw error
    }
  }
}

async function place(client, order) {
  await client.query('INSERT INTO orders (id) VALUES ($1)', [order])
  const { rows } = await client.query('SELECT onefold.add($1, $2::json, $3::jsonb) AS job', [
    'shipping',
    JSON.stringify({ order_id: order }),
    JSON.stringify({ key: `ship-${order}` }),
  ])
  return rows[0].job.id
}

async function ship(client, job, token) {
  await client.query('INSERT INTO shipments (job) VALUES ($1)', [job])
  const { rows } = await client.query('SELECT onefold.complete($1, $2, $3::json) AS done', [job, token, '{"parcels": 1}'])
  return rows[0].done.state
}

const [, , command, ...rest] = process.argv
const client = new pg.Client()
await client.connect()
try {
  const done = await inTransaction(client, (tx) =>
    command === 'place' ? place(tx, Number(rest[0])) : ship(tx, rest[0], rest[1]),
  )
  console.log(done)
} catch (error) {
  // OF001: the lease is lost, another worker has the job. The shipment was rolled back.
  console.error(error.code, error.message, error.hint)
  process.exitCode = 1
} finally {
  await client.end()
}
