/** A calling bot: it answers, hears a tone, records an answer, hangs up, and logs Call Keeper's reason of the end. */

import { createServer, type IncomingHttpHeaders, type IncomingMessage } from "node:http";
import { Graph } from "./graph.js";
import { KeySet, Refused, Senders } from "./senders.js";

const APP_ID = required("BOT_APP_ID");
const CALLBACK = required("BOT_CALLBACK"); // the callbackUri of calls: Call Keeper's /api/notifications
const FORWARD_TO = process.env["BOT_FORWARD_TO"]; // Call Keeper's /api/notifications, if the callbackUri is this bot's own
const EVENTS_SECRET = process.env["BOT_EVENTS_SECRET"]; // whsec_…; without it, events must carry a token
const GRAPH = process.env["GRAPH_URL"] ?? "https://graph.microsoft.com/v1.0";
const LOGIN = process.env["LOGIN_URL"] ?? "https://login.microsoftonline.com";
const LEGACY_METADATA = process.env["LEGACY_METADATA"] ?? "https://api.aps.skype.com/v1/.well-known/OpenIdConfiguration";
const FINISHED: unknown[] = ["completed", "failed"];
const MAX_BODY = 4 * 1024 * 1024; // bytes
const MAX_KNOWN_IDS = 10_000;

interface Notification {
  resourceUrl: string;
  resourceData?: { "@odata.type"?: string; state?: string; status?: string; toneInfo?: { tone: string } } | null;
}

interface CallEvent {
  type: string;
  data: { callId: string; revision: number; reason: string };
}

const entra = new KeySet(`${LOGIN}/common/v2.0/.well-known/openid-configuration`);
const senders = new Senders(APP_ID, new KeySet(LEGACY_METADATA), entra);
const graph = new Graph(GRAPH, LOGIN, APP_ID, required("BOT_SECRET"));
const work = new Map<string, Promise<void>>(); // the last task of each call, so that its notifications keep their order
const done = new Map<string, Set<string>>(); // the steps of each call that Graph accepted
const knownIds = new Set<string>(); // it keeps the order of insertion

/** Check the sender, return 202 at once, and work afterwards: nobody waits long for the answer. */
async function receiveNotifications(request: IncomingMessage): Promise<number> {
  const tenant = await senders.tenantOfNotification(request.headers);
  const body = await read(request);
  if (isNew(request.headers)) {
    const { value } = JSON.parse(body.toString()) as { value: Notification[] };
    for (const item of value) {
      const callId = callIdIn(item.resourceUrl);
      inOrder(callId, () => handle(item, callId, tenant));
    }
    if (FORWARD_TO && !("webhook-id" in request.headers)) {
      // With an id it came from there.
      void forward(FORWARD_TO, body, request.headers).catch(console.error);
    }
  }
  return 202;
}

/** Log why a call ended. If a better reason is found, a further event has a higher revision. */
async function receiveEvent(request: IncomingMessage): Promise<number> {
  const body = await read(request);
  await senders.checkEvent(request.headers, body, EVENTS_SECRET);
  const { type, data } = JSON.parse(body.toString()) as CallEvent;
  if (isNew(request.headers) && type === "call.ended") {
    console.log(`call ${data.callId} ended (${data.revision}): ${data.reason}`);
  }
  return 202;
}

async function handle({ resourceData: data }: Notification, callId: string, tenant: string): Promise<void> {
  if (data?.state === "incoming") {
    const mediaConfig = { "@odata.type": "#microsoft.graph.serviceHostedMediaConfig" };
    await once(callId, tenant, "answer", { callbackUri: CALLBACK, acceptedModalities: ["audio"], mediaConfig });
  } else if (data?.toneInfo) {
    console.log(`call ${callId}: heard ${data.toneInfo.tone}`);
    const recording = { maxRecordDurationInSeconds: 20, stopTones: ["#"], clientContext: callId };
    await once(callId, tenant, "recordResponse", recording);
  } else if (data?.state === "established") {
    await once(callId, tenant, "subscribeToTone", { clientContext: callId });
  } else if (data?.["@odata.type"] === "#microsoft.graph.recordOperation" && FINISHED.includes(data.status)) {
    console.log(`call ${callId}: recording ${data.status}`);
    await once(callId, tenant, "hangUp");
  } else if (data?.state === "terminated") {
    done.delete(callId);
  }
}

/** Ask Graph for a step, unless it was done before: Graph may repeat any notification. */
async function once(callId: string, tenant: string, step: string, body?: object): Promise<void> {
  const steps = done.get(callId) ?? new Set();
  if (steps.has(step)) return;
  const [method, path] = body ? ["POST", `${callId}/${step}`] : ["DELETE", callId];
  if (await graph.send(tenant, method, path, body)) done.set(callId, steps.add(step));
}

/** Send Graph's request on to Call Keeper, unchanged, while Graph's token is valid. */
async function forward(url: string, body: Buffer<ArrayBuffer>, headers: IncomingHttpHeaders): Promise<void> {
  const names = ["authorization", "content-type", "scenario-id"];
  const kept = names.flatMap((name): [string, string][] => (headers[name] ? [[name, String(headers[name])]] : []));
  const answer = await fetch(url, { method: "POST", body, headers: kept, signal: AbortSignal.timeout(10_000) });
  console.log(`forwarded: ${answer.status}`);
}

/** Start a task when the earlier ones of this call are done. */
function inOrder(callId: string, task: () => Promise<void>): void {
  const last = (work.get(callId) ?? Promise.resolve()).then(task).catch(console.error);
  work.set(callId, last);
  void last.then(() => work.get(callId) === last && work.delete(callId));
}

/** Return false for a delivery that was accepted before. Requests of Graph itself have no id. */
function isNew(headers: IncomingHttpHeaders): boolean {
  const id = headers["webhook-id"];
  if (typeof id !== "string") return true;
  if (knownIds.has(id)) return false;
  knownIds.add(id);
  const [oldest] = knownIds;
  if (oldest && knownIds.size > MAX_KNOWN_IDS) knownIds.delete(oldest);
  return true;
}

/** Return the id of the call in a notification's URL. Graph writes it with and without hyphens. */
function callIdIn(url: string): string {
  const text = /\/calls\/([^/]+)/.exec(url)?.[1] ?? "";
  const digits = /^(\w{8})-?(\w{4})-?(\w{4})-?(\w{4})-?(\w{12})$/.exec(text);
  return digits ? digits.slice(1).join("-").toLowerCase() : text;
}

async function read(request: IncomingMessage): Promise<Buffer<ArrayBuffer>> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > MAX_BODY) throw new Refused(413, "the body is too large");
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function required(name: string): string {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set`);
  return value;
}

const routes = new Map([
  ["POST /notifications", receiveNotifications],
  ["POST /events", receiveEvent],
]);

const server = createServer((request, response) => {
  const { pathname } = new URL(request.url ?? "/", "http://bot");
  const route = routes.get(`${request.method} ${pathname}`);
  const status = route ? route(request) : Promise.resolve(404);
  status
    .catch((error: unknown) => {
      console.error(String(error));
      return error instanceof Refused ? error.status : 500;
    })
    .then((code) => response.writeHead(code).end());
});
server.listen(Number(process.env["BOT_PORT"] ?? 3978), process.env["BOT_HOST"] ?? "127.0.0.1", () => {
  console.log("running on", server.address());
});
