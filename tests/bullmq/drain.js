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
    const { concurrency, jobs, statements } = task;
    const pool = new pg.Pool({ connectionString: task.database, options: task.options, max: concurrency });
    // Connections are made beforehand, as those of pgbench are not counted either.
    const clients = await Promise.all(Array.from({ length: concurrency }, () => pool.connect()));
    clients.forEach((client) => client.release());

    let failure;
    let done = 0;
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
            failure = error;
            await client.query('ROLLBACK');
            throw error;
        } finally {
            client.release();
        }
    };
    const worker = new Worker(task.queue, transact, { connection, concurrency, autorun: false });
    await worker.waitUntilReady();
    const cpu = process.cpuUsage();
    const begun = process.hrtime.bigint();
    await new Promise((resolve, reject) => {
        worker.on('completed', () => {
            done += 1;
            if (done === jobs) resolve();
        });
        worker.on('failed', (_, error) => reject(failure ?? error));
        worker.run().catch(reject);
    });
    const seconds = Number(process.hrtime.bigint() - begun) / 1e9;
    const { user, system } = process.cpuUsage(cpu);
    process.stdout.write(`${JSON.stringify({ seconds, cpu_seconds: (user + system) / 1e6 })}\n`);
    await worker.close();
    await pool.end();
}
