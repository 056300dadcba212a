// A worker in plain Node 18 or later, without dependencies: node worker.mjs QUEUE…
const server = process.env.ONEFOLD_URL ?? "http://127.0.0.1:7717";
const token = process.env.ONEFOLD_TOKEN;
const stop = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => stop.abort());

/** Yours. May run twice for one job, so hand job.id to whatever must happen once. */
async function handle(job, lost) {
  console.log(JSON.stringify({ id: job.id, attempt: job.attempt, payload: job.payload }));
  return { handled_by: process.pid };
}

async function post(path, body, signal) {
  const headers = { "content-type": "application/json" };
  if (token) headers.authorization = `Bearer ${token}`;
  const answer = await fetch(server + path, { method: "POST", headers, body: JSON.stringify(body), signal });
  if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
  return answer.json();
}

const pause = () => new Promise((resume) => setTimeout(resume, 500));

/** Says an end until it is heard: the same end again gets the first answer. */
async function settle(job, op) {
  const ops = [{ ...op, id: job.id, fencing_token: job.fencing_token }];
  for (;;) {
    const answer = await post("/v1/leases/settle", { ops }).catch((error) => console.error(String(error)));
    if (answer) return answer.results[0];
    await pause();
  }
}

async function run(job) {
  const lost = new AbortController();
  const heartbeat = setInterval(async () => {
    const told = await settle(job, { op: "extend", lease: job.lease_ms });
    if (!told.ok || told.cancel) lost.abort();
  }, job.lease_ms / 3);
  const end = await handle(job, lost.signal).then(
    (result) => ({ op: "complete", result }),
    (error) => ({ op: "fail", error: { message: String(error) } }),
  );
  clearInterval(heartbeat);
  const told = await settle(job, end);
  if (!told.ok) console.error(`${job.id}: ${told.code}`);
}

while (!stop.signal.aborted) {
  const poll = { queues: process.argv.slice(2), wait: "20s", worker: `node-${process.pid}` };
  const leased = await post("/v1/leases", poll, stop.signal).catch((error) => {
    if (!stop.signal.aborted) console.error(String(error));
  });
  if (leased) for (const job of leased.jobs) await run(job);
  else if (!stop.signal.aborted) await pause();
}
