// A certified OpenID Connect provider for the tests, in memory, with new keys at each start.
//
//   node provider.mjs <port> <client secret> <redirect address>…
//
// Whoever signs in is who they say, with any password; what is known of them is in `people`.
// POST /test/next-token makes the next ID token a bad one, POST /test/later moves its clock.

import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { createServer } from 'node:http';

const [port, secret, ...redirects] = process.argv.slice(2);
const { default: Provider } = await import('oidc-provider');
const { SignJWT, UnsecuredJWT, decodeJwt } = await import('jose');

const issuer = `http://127.0.0.1:${port}`;
const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
const kid = randomUUID();

const people = {
  ann: { groups: ['staff'] },
  olga: { groups: ['staff', 'dock-operators'] },
  adam: { groups: ['dock-admins', 'dock-operators'] },
};

const provider = new Provider(issuer, {
  clients: [{ client_id: 'plimsoll', client_secret: secret, redirect_uris: redirects }],
  jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), kid, use: 'sig', alg: 'RS256' }] },
  cookies: { keys: [randomUUID()] },
  pkce: { methods: ['S256'], required: () => true },
  claims: { openid: ['sub'], email: ['email'], profile: ['preferred_username'], groups: ['groups'] },
  async findAccount(_context, id) {
    const more = people[id] ?? {};
    const claims = { sub: `subject-${id}`, email: `${id}@example.org`, preferred_username: id };
    return { accountId: id, claims: async () => ({ ...claims, ...more }) };
  },
  ttl: { AccessToken: 600, AuthorizationCode: 60, IdToken: 600, Grant: 600, Interaction: 600, Session: 600 },
});

let later = 0;
const now = Date.now;
Date.now = () => now() + later;

// How the next ID token differs from what it should be.
let next = null;

provider.use(async (context, proceed) => {
  await proceed();
  if (context.oidc?.route !== 'token' || !context.body?.id_token || !next) return;
  const wanted = next;
  next = null;
  const claims = { ...decodeJwt(context.body.id_token), ...wanted.claims };
  for (const name of wanted.without ?? []) delete claims[name];
  const header = { alg: wanted.alg ?? 'RS256', kid: wanted.kid ?? kid };
  switch (wanted.alg) {
    case 'none':
      context.body.id_token = new UnsecuredJWT(claims).encode();
      break;
    case 'HS256':
      context.body.id_token = await new SignJWT(claims)
        .setProtectedHeader(header)
        .sign(new TextEncoder().encode(secret));
      break;
    default: {
      const key = wanted.foreign
        ? generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey
        : privateKey;
      context.body.id_token = await new SignJWT(claims).setProtectedHeader(header).sign(key);
    }
  }
});

const handle = provider.callback();
createServer((request, response) => {
  if (request.method === 'POST' && request.url === '/test/later') {
    later += 3600_000;
    response.end();
  } else if (request.method === 'POST' && request.url === '/test/next-token') {
    let body = '';
    request.on('data', (piece) => { body += piece; });
    request.on('end', () => { next = JSON.parse(body); response.end(); });
  } else {
    handle(request, response);
  }
}).listen(Number(port), '127.0.0.1');
