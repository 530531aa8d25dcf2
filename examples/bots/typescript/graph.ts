/** Requests to Microsoft Graph's calls API, as the bot. */

interface Issued {
  access_token: string;
  expires_in: number;
}

/** Sends a bot's requests, with a token for the tenant of the call. */
export class Graph {
  readonly #tokens = new Map<string, { token: string; renewAt: number }>();

  constructor(
    private readonly url: string,
    private readonly login: string,
    private readonly appId: string,
    private readonly secret: string,
  ) {}

  /** Send one request about a call. Return true if Graph accepted it. */
  async send(tenant: string, method: string, path: string, body?: object): Promise<boolean> {
    const answer = await fetch(`${this.url}/communications/calls/${path}`, {
      method,
      headers: { authorization: `Bearer ${await this.#token(tenant)}`, "content-type": "application/json" },
      body: body ? JSON.stringify(body) : null,
      signal: AbortSignal.timeout(10_000),
    });
    console.log(`${method} ${path}: ${answer.status}`);
    return answer.ok;
  }

  async #token(tenant: string): Promise<string> {
    const known = this.#tokens.get(tenant);
    if (known && Date.now() < known.renewAt) return known.token;
    const answer = await fetch(`${this.login}/${tenant}/oauth2/v2.0/token`, {
      method: "POST",
      body: new URLSearchParams({
        grant_type: "client_credentials",
        scope: "https://graph.microsoft.com/.default",
        client_id: this.appId,
        client_secret: this.secret,
      }),
      signal: AbortSignal.timeout(10_000),
    });
    if (!answer.ok) throw new Error(`no token for Graph: ${answer.status}`);
    const issued = (await answer.json()) as Issued;
    this.#tokens.set(tenant, { token: issued.access_token, renewAt: Date.now() + (issued.expires_in - 300) * 1000 });
    return issued.access_token;
  }
}
