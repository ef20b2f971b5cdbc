// Runs Graphile Worker for the benchmarks. PG… variables in the environment name the database.
//
//   node graphile.mjs MODULES migrate
//   node graphile.mjs MODULES work '{"batching": true, "concurrency": 24}'
//   node graphile.mjs MODULES add '{"jobs": 1000, "batch": 100}'         answers with seconds
//   node graphile.mjs MODULES probe '{"jobs": 1000, "interval": 5}'      adds jobs one by one
import dgram from "node:dgram";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [modules, command, input] = process.argv.slice(2);
const options = input ? JSON.parse(input) : {};
const namespace = await import(pathToFileURL(join(modules, "graphile-worker/dist/index.js")));
const graphile = namespace.default ?? namespace; // its release 0.17 is CommonJS
const quiet = new graphile.Logger(() => () => {});
const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
const socket = dgram.createSocket("udp4");

const taskList = {
  noop: () => {},
  noop_async: () => {},
  sleep_10ms: () => pause(10),
  timed: ({ added }) => {
    const waited = process.hrtime.bigint() - BigInt(added);
    socket.send(String(waited), Number(process.env.BENCH_PORT), "127.0.0.1");
  },
};

async function withUtils(use) {
  const utils = await graphile.makeWorkerUtils({ preset: { worker: { logger: quiet } } });
  try {
    await use(utils);
  } finally {
    await utils.release();
    socket.close();
  }
}

const migrate = () => withUtils((utils) => utils.migrate());

async function work() {
  const worker = { concurrentJobs: options.concurrency, maxPoolSize: options.concurrency + 4, logger: quiet };
  if (options.batching) {
    Object.assign(worker, { localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0 });
  }
  const runner = await graphile.run({ taskList, crontab: "", preset: { worker } });
  await runner.promise;
}

const add = () =>
  withUtils(async (utils) => {
    const began = process.hrtime.bigint();
    for (let done = 0; done < options.jobs; done += options.batch) {
      if (options.batch === 1) await utils.addJob("noop", {});
      else await utils.addJobs(Array.from({ length: options.batch }, () => ({ identifier: "noop", payload: {} })));
    }
    console.log(Number(process.hrtime.bigint() - began) / 1e9);
  });

const probe = () =>
  withUtils(async (utils) => {
    await pause(200);
    for (let done = 0; done < options.jobs; done += 1) {
      await utils.addJob("timed", { added: String(process.hrtime.bigint()) });
      await pause(options.interval);
    }
    console.log(options.jobs);
  });

await { migrate, work, add, probe }[command]();
