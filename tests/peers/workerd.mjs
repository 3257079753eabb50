// A counter as a Durable Object: POST /KEY adds the body's number and answers with the count.
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

export default {
  async fetch(request, env) {
    const key = new URL(request.url).pathname.slice(1);
    const counter = env.counters.get(env.counters.idFromName(key));
    return new Response(String(await counter.add(Number(await request.text()))));
  },
};
