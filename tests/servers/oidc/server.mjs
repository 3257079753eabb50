// A real OAuth server (oidc-provider) for the demo and the tests, on loopback only.
//
// Prints one JSON line when it listens, and ends when its standard input ends. Beside the provider's own endpoints
// it answers a few of its own, for tests: POST /grant, POST /expire, GET /stats?refresh_token=.
import { createHash, generateKeyPairSync, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';

// The provider's start-up notices (tokens in memory, Node older than it likes) are known and fine for a test server.
console.log = console.info = console.warn = () => {};
const { default: Provider } = await import('oidc-provider');

const account = 'alice';
const scope = 'openid offline_access mail';
const secret = () => randomBytes(32).toString('base64url');

const server = createServer().listen(0, '127.0.0.1');
await once(server, 'listening');
const base = `http://127.0.0.1:${server.address().port}`;
const client = {
  client_id: 'charm-demo',
  client_secret: secret(),
  token_endpoint_auth_method: 'client_secret_post',
  grant_types: ['authorization_code', 'refresh_token'],
  id_token_signed_response_alg: 'ES256',
  redirect_uris: [`${base}/callback`],
};

const provider = new Provider(base, {
  clients: [client],
  scopes: scope.split(' '),
  rotateRefreshToken: true,
  ttl: { AccessToken: 60, AuthorizationCode: 60, Grant: 86400, IdToken: 60, Interaction: 60, RefreshToken: 86400, Session: 60 },
  features: {
    devInteractions: { enabled: false },
    // Answers for access tokens only: a refresh token must not open the mail API.
    introspection: { enabled: true, allowedPolicy: (ctx, asker, token) => token.kind === 'AccessToken' },
  },
  interactions: { url: (ctx, interaction) => `/interaction/${interaction.uid}` },
  findAccount: (ctx, sub) => ({ accountId: sub, claims: () => ({ sub }) }),
  cookies: { keys: [secret()] },
  jwks: { keys: [generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({ format: 'jwk' })] },
  renderError: (ctx, out) => { ctx.type = 'json'; ctx.body = out; },
});

provider.on('server_error', (ctx, error) => console.error(error));

let refreshes = 0;
let reuses = 0;
const accessTokens = new Set();
const grantOf = new Map(); // every refresh token ever issued -> its grant
provider.on('access_token.saved', (token) => accessTokens.add(token.jti));
provider.on('refresh_token.saved', (token) => grantOf.set(token.jti, token.grantId));
provider.on('grant.success', (ctx) => { refreshes += ctx.oidc.params.grant_type === 'refresh_token'; });
// Nothing here revokes a grant but the use of an old refresh token.
provider.on('grant.revoked', () => { reuses += 1; });

// The user logs in and agrees to everything at once.
async function interact(req, res) {
  const { params } = await provider.interactionDetails(req, res);
  const grant = new provider.Grant({ accountId: account, clientId: params.client_id });
  grant.addOIDCScope(params.scope);
  const grantId = await grant.save();
  await provider.interactionFinished(req, res, { login: { accountId: account }, consent: { grantId } });
}

// Walks the authorization code flow (with PKCE) as a browser would; gives the first refresh token of a new grant.
async function newGrant() {
  const verifier = secret();
  const redirect_uri = client.redirect_uris[0];
  const cookies = new Map();
  let url = `${base}/auth?${new URLSearchParams({
    client_id: client.client_id, response_type: 'code', redirect_uri, scope, prompt: 'consent',
    code_challenge: createHash('sha256').update(verifier).digest('base64url'), code_challenge_method: 'S256',
  })}`;
  for (let hops = 0; !url.startsWith(redirect_uri); hops += 1) {
    const cookie = [...cookies].map(([name, value]) => `${name}=${value}`).join('; ');
    const response = await fetch(url, { redirect: 'manual', headers: { cookie } });
    const location = response.headers.get('location');
    if (hops > 5 || !location) throw new Error(`code flow: ${response.status} at ${url}: ${await response.text()}`);
    for (const line of response.headers.getSetCookie()) {
      const [, name, value] = /^([^=]+)=([^;]*)/.exec(line);
      cookies.set(name, value);
    }
    url = new URL(location, url).href;
  }
  const code = new URL(url).searchParams.get('code');
  const { client_id, client_secret } = client;
  const response = await fetch(`${base}/token`, {
    method: 'POST',
    body: new URLSearchParams({
      grant_type: 'authorization_code', code, redirect_uri, client_id, client_secret, code_verifier: verifier,
    }),
  });
  const body = await response.json();
  if (!body.refresh_token) throw new Error(`no refresh token: ${JSON.stringify(body)}`);
  return { refresh_token: body.refresh_token };
}

async function stats(url) {
  const grantId = grantOf.get(url.searchParams.get('refresh_token'));
  const grant = grantId && await provider.Grant.find(grantId);
  return { refreshes, reuses, grant_alive: Boolean(grant) };
}

async function expireAccessTokens() {
  for (const jti of accessTokens) await (await provider.AccessToken.find(jti))?.destroy();
  accessTokens.clear();
  return {};
}

const control = { 'POST /grant': newGrant, 'POST /expire': expireAccessTokens, 'GET /stats': stats };
const oauth = provider.callback();
server.on('request', (req, res) => {
  const url = new URL(req.url, base);
  const answer = control[`${req.method} ${url.pathname}`];
  const fail = (error) => {
    console.error(error);
    res.writeHead(500).end(JSON.stringify({ error: 'server_error' }));
  };
  if (answer) {
    answer(url).then((body) => res.setHeader('content-type', 'application/json').end(JSON.stringify(body)), fail);
  } else if (url.pathname.startsWith('/interaction/')) {
    interact(req, res).catch(fail);
  } else {
    oauth(req, res);
  }
});

process.stdin.resume().on('end', () => process.exit(0));
const { client_id, client_secret } = client;
process.stdout.write(`${JSON.stringify({ url: base, client_id, client_secret, ...await newGrant() })}\n`);
