// Counters and relays as Durable Objects: POST /Counter/KEY or /Relay/KEY adds the body's number and answers with the count.
import { DurableObject } from "cloudflare:workers";

export class Counter extends DurableObject {
  constructor(ctx, env) {
    super(ctx, env);
    ctx.storage.sql.exec("CREATE TABLE IF NOT EXISTS counter (id INTEGER PRIMARY KEY, count INTEGER)");
    ctx.storage.sql.exec("INSERT OR IGNORE INTO counter VALUES (0, 0)");
  }

  // Its answer leaves when what it wrote is durable.
  add(step) {
    return this.ctx.storage.sql.exec("UPDATE counter SET count = count + ? RETURNING count", step).one().count;
  }
}

// Adds to the counter of its own name, and then to itself.
export class Relay extends Counter {
  async add(step) {
    await this.env.Counter.get(this.env.Counter.idFromName(this.ctx.id.name)).add(step);
    return super.add(step);
  }
}

export default {
  async fetch(request, env) {
    const [, kind, key] = new URL(request.url).pathname.split("/");
    const object = env[kind].get(env[kind].idFromName(key));
    return new Response(String(await object.add(Number(await request.text()))));
  },
};
