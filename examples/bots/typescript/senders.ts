/** The check who sent a request: Graph, or Call Keeper with this bot's own token or with a signature. */

import { createHmac, timingSafeEqual } from "node:crypto";
import type { IncomingHttpHeaders } from "node:http";
import { createRemoteJWKSet, decodeJwt, errors, jwtVerify, type JWK, type JWTPayload, type RemoteJWKSet } from "jose";

const GRAPH_CALLING_APP = "26a18ebc-cdf7-4a6a-91cb-beb352805e81"; // sends Graph's notifications that have an Entra token
const LEGACY_ISSUER = "https://api.botframework.com"; // of Graph's notifications until they have moved to Entra
const ENTRA_V1_ISSUER = "https://sts.windows.net/{tenantid}/"; // Entra signs v1 and v2 tokens with the same keys
const LEEWAY = 300; // seconds of clock skew, as in Microsoft's SDK
const GUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** The request is refused: 401 if the sender is not trusted, 503 if that cannot be checked now. */
export class Refused extends Error {
  constructor(
    readonly status: number,
    reason: unknown,
  ) {
    super(String(reason));
  }
}

interface Metadata {
  issuer: string;
  jwks_uri: string;
  cloud_instance_name?: string;
}

interface EntraKey extends JWK {
  issuer?: string;
  cloud_instance_name?: string;
}

interface Source {
  metadata: Metadata;
  keys: RemoteJWKSet;
}

/** The signing keys behind an OpenID metadata document, fetched when they are first needed. */
export class KeySet {
  #source: Promise<Source> | undefined;

  constructor(private readonly url: string) {}

  /** Return the claims of a token that is signed for its own tenant. A key may name issuer and cloud itself. */
  async verify(token: string, audience: string, tenant: string, otherIssuers: string[]): Promise<JWTPayload> {
    const { metadata, keys } = await this.#load();
    const issuer = metadata.issuer.replace("{tenantid}", tenant);
    const { payload, protectedHeader } = await jwtVerify(token, keys, {
      algorithms: ["RS256"],
      audience,
      issuer: [issuer, ...otherIssuers],
      clockTolerance: LEEWAY,
      requiredClaims: ["exp"],
    });
    const key: EntraKey | undefined = keys.jwks()?.keys.find(({ kid }) => kid && kid === protectedHeader.kid);
    const ownIssuer = key?.issuer?.replace("{tenantid}", tenant) ?? issuer;
    const cloud = key?.cloud_instance_name ?? metadata.cloud_instance_name;
    if (!key || ownIssuer !== issuer || cloud !== metadata.cloud_instance_name) {
      throw new errors.JWKSNoMatchingKey("the signing key is unknown, or belongs to another issuer or cloud");
    }
    return payload;
  }

  async #load(): Promise<Source> {
    this.#source ??= fetchSource(this.url);
    try {
      return await this.#source;
    } catch (error) {
      this.#source = undefined;
      throw error;
    }
  }
}

async function fetchSource(url: string): Promise<Source> {
  const answer = await fetch(url, { signal: AbortSignal.timeout(5_000) });
  if (!answer.ok) throw new Error(`no metadata: ${answer.status}`);
  const metadata = (await answer.json()) as Metadata;
  return { metadata, keys: createRemoteJWKSet(new URL(metadata.jwks_uri)) };
}

/** The senders that the bot trusts. */
export class Senders {
  constructor(
    private readonly appId: string,
    private readonly legacy: KeySet,
    private readonly entra: KeySet,
  ) {}

  /** Return the tenant of the call. Graph sent the request itself, or Call Keeper sent it late with our token. */
  async tenantOfNotification(headers: IncomingHttpHeaders): Promise<string> {
    return this.#tenant(headers, [GRAPH_CALLING_APP, this.appId], true);
  }

  /** Refuse an event unless Call Keeper sent it: with a signature if there is a secret, else with our token. */
  async checkEvent(headers: IncomingHttpHeaders, body: Buffer, secret: string | undefined): Promise<void> {
    if (secret === undefined) await this.#tenant(headers, [this.appId], false);
    else if (!isSigned(headers, body, secret)) throw new Refused(401, "no valid signature");
  }

  async #tenant(headers: IncomingHttpHeaders, callers: unknown[], legacy: boolean): Promise<string> {
    try {
      const token = /^bearer +(\S+)$/i.exec(headers.authorization ?? "")?.[1] ?? "";
      const { iss, tid, cnf } = decodeJwt(token);
      if (typeof tid !== "string" || !GUID.test(tid) || cnf) throw new errors.JWTInvalid("no token of a tenant");
      if (legacy && iss === LEGACY_ISSUER) {
        await this.legacy.verify(token, this.appId, tid, []);
        return tid;
      }
      const v1Issuer = ENTRA_V1_ISSUER.replace("{tenantid}", tid);
      const { azp, appid } = await this.entra.verify(token, this.appId, tid, [v1Issuer]);
      const named = [azp, appid].filter((caller) => caller !== undefined);
      // Any app of any tenant can get an Entra token for this bot: only the calling app makes it trustworthy.
      if (named.length === 0 || !named.every((caller) => callers.includes(caller))) {
        throw new errors.JWTInvalid("the calling app is not trusted");
      }
      return tid;
    } catch (error) {
      throw new Refused(isOutage(error) ? 503 : 401, error);
    }
  }
}

/** True if the keys could not be fetched. After a 401 the sender would soon give up, after a 503 it tries again. */
function isOutage(error: unknown): boolean {
  const outages = ["ERR_JOSE_GENERIC", "ERR_JWKS_TIMEOUT", "ERR_JWKS_INVALID"];
  return !(error instanceof errors.JOSEError) || outages.includes(error.code);
}

/** True if the headers have a Standard Webhooks signature of this body, at most five minutes old. */
function isSigned(headers: IncomingHttpHeaders, body: Buffer, secret: string): boolean {
  const id = String(headers["webhook-id"]);
  const timestamp = String(headers["webhook-timestamp"]);
  if (!(Math.abs(Date.now() / 1000 - Number(timestamp)) <= LEEWAY)) return false;
  const key = Buffer.from(secret.replace(/^whsec_/, ""), "base64");
  const wanted = createHmac("sha256", key).update(`${id}.${timestamp}.`).update(body).digest();
  const signatures = String(headers["webhook-signature"]).split(" ");
  return signatures.some((signature) => {
    const given = Buffer.from(signature.replace(/^v1,/, ""), "base64");
    return signature.startsWith("v1,") && given.length === wanted.length && timingSafeEqual(given, wanted);
  });
}
