// Runs a release of Graphile Worker for the tests. PG… variables in the environment name the database.
//
//   node runner.mjs PACKAGE about
//   node runner.mjs PACKAGE work '{"tasks": {"node_note": "note"}, "concurrency": 4, "pollInterval": 100}'
//   node runner.mjs PACKAGE call '[["addJob", ["py_note", {"to": "Ada"}]]]'
//   node runner.mjs PACKAGE crontab '{"text": "0 4 * * * task", "moments": [[0, 4, 29, 11, 0]]}'
//
// Every line on stdout is a JSON object or, as the answer of `about` and `call`, a JSON value; its log is on stderr.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [directory, command, input] = process.argv.slice(2);
const namespace = await import(pathToFileURL(join(directory, "dist/index.js")));
const graphile = namespace.default ?? namespace; // its release 0.17 is CommonJS
const say = (value) => process.stdout.write(JSON.stringify(value) + "\n");

async function record(payload, helpers, work) {
  const { job } = helpers;
  const { rows } = await helpers.query(
    "insert into public.runs (job_id, task, side, attempt, payload) values ($1, $2, 'node', $3, $4) returning position",
    [job.id, job.task_identifier, job.attempts, JSON.stringify(payload)],
  );
  await work?.();
  await helpers.query("update public.runs set ended = clock_timestamp() where position = $1", [rows[0].position]);
}

const handlers = {
  note: (payload, helpers) => record(payload, helpers),

  // Says when it begins, ends when the test lets it.
  hold: (payload, helpers) =>
    record(payload, helpers, async () => {
      const find = () => helpers.query("select from public.permits where name = $1", [payload.permit]);
      while ((await find()).rowCount === 0) await new Promise((done) => setTimeout(done, 20));
    }),
};

async function about() {
  const { version } = JSON.parse(await readFile(join(directory, "package.json"), "utf8"));
  say({ release: version, node: process.version });
}

// What it makes of a crontab, and which of some moments each entry matches: [minute, hour, day, month, weekday].
async function crontab({ text, moments }) {
  const entries = graphile.parseCrontab(text).map(({ match, ...entry }) => ({
    ...entry,
    matches: moments.map(([min, hour, date, month, dow]) => match({ min, hour, date, month, dow })),
  }));
  say(entries);
}

async function work({ tasks, concurrency, pollInterval, crontab }) {
  const taskList = Object.fromEntries(Object.entries(tasks).map(([name, handler]) => [name, handlers[handler]]));
  const options = { taskList, concurrency, pollInterval, crontab: crontab ?? "", maxPoolSize: concurrency + 4 };
  const runner = await graphile.run(options);
  say({ event: "started" });
  await runner.promise;
  say({ event: "stopped" });
}

async function call(calls) {
  const utils = await graphile.makeWorkerUtils({});
  try {
    const answers = [];
    for (const [method, values] of calls) answers.push((await utils[method](...values)) ?? null);
    say(answers);
  } finally {
    await utils.release();
  }
}

const revive = (key, value) => (key === "runAt" ? new Date(value) : value);
await { about, crontab, work, call }[command](input && JSON.parse(input, revive));
