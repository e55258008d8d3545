// BullMQ doing the database transaction of one of our stages, once per job: `node drain.js enqueue|work TASK.json`.
// The task and its statements are written by the benchmark (tests/src/bench/reference/bullmq.rs).

import { readFileSync } from 'node:fs';
import { Queue, Worker } from 'bullmq';
import pg from 'pg';

const [mode, file] = process.argv.slice(2);
const task = JSON.parse(readFileSync(file, 'utf8'));
const connection = { ...task.redis, maxRetriesPerRequest: null };

if (mode === 'enqueue') await enqueue();
else await work();

async function enqueue() {
    const queue = new Queue(task.queue, { connection });
    await queue.obliterate({ force: true });
    const options = { removeOnComplete: true, removeOnFail: true };
    for (let done = 0; done < task.jobs; done += 1000) {
        const length = Math.min(1000, task.jobs - done);
        const job = (_, index) => ({ name: 'item', data: { n: task.first + done + index }, opts: options });
        await queue.addBulk(Array.from({ length }, job));
    }
    await queue.close();
}

async function work() {
    const { concurrency, statements } = task;
    const pool = new pg.Pool({ connectionString: task.database, options: task.options, max: concurrency });
    // Connections are made beforehand, as those of pgbench are not counted either.
    const clients = await Promise.all(Array.from({ length: concurrency }, () => pool.connect()));
    clients.forEach((client) => client.release());

    let active = 0;
    const transact = async ({ data: { n } }) => {
        const values = { n: String(n), s: String(task.shoppers_from + (n % task.shoppers)) };
        const client = await pool.connect();
        try {
            await client.query('BEGIN');
            for (const { name, text, given } of statements) {
                await client.query({ name, text, values: given.map((which) => values[which]) });
            }
            await client.query('COMMIT');
        } catch (error) {
            await client.query('ROLLBACK');
            throw error;
        } finally {
            client.release();
        }
    };
    const worker = new Worker(task.queue, transact, { connection, concurrency, autorun: false });
    await worker.waitUntilReady();
    // At a full second, so that several processes begin together.
    await new Promise((resolve) => setTimeout(resolve, 1500 - (Date.now() % 1000)));
    const cpu = process.cpuUsage();
    const told = { begun: now(), ended: now(), done: 0 };
    await new Promise((resolve, reject) => {
        let drained = false;
        const settled = () => drained && active === 0 && resolve();
        worker.on('active', () => (active += 1));
        worker.on('completed', () => {
            active -= 1;
            told.done += 1;
            told.ended = now();
            settled();
        });
        worker.on('drained', () => {
            drained = true;
            settled();
        });
        worker.on('failed', (_, error) => reject(error));
        worker.run().catch(reject);
    });
    const { user, system } = process.cpuUsage(cpu);
    told.cpu_seconds = (user + system) / 1e6;
    process.stdout.write(`${JSON.stringify(told)}\n`);
    await worker.close();
    await pool.end();
}

// Seconds, by a clock that all processes share.
function now() {
    return (performance.timeOrigin + performance.now()) / 1000;
}
