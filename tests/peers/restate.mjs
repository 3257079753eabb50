// Counters and relays as virtual objects of Restate: POST /Counter/KEY/add or /Relay/KEY/add adds the body's number and answers
// with the count.
// Served on loopback, on the port that is the argument.
import http2 from "node:http2";

// What the SDK wants of a newer Node.
Promise.withResolvers ??= () => {
  let resolve, reject;
  const promise = new Promise((a, b) => ([resolve, reject] = [a, b]));
  return { promise, resolve, reject };
};
const restate = await import("@restatedev/restate-sdk");

const add = async (ctx, step) => {
  const count = ((await ctx.get("count")) ?? 0) + step;
  ctx.set("count", count);
  return count;
};

const counter = restate.object({ name: "Counter", handlers: { add } });

// Adds to the counter of its own key, and then to itself.
const relay = restate.object({
  name: "Relay",
  handlers: {
    add: async (ctx, step) => {
      await ctx.objectClient(counter, ctx.key).add(step);
      return add(ctx, step);
    },
  },
});

const handler = restate.createEndpointHandler({ services: [counter, relay] });
http2.createServer(handler).listen(Number(process.argv[2]), "127.0.0.1", () => console.log("ready"));
