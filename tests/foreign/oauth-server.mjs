// oauth2-mock-server in the places of X's and Microsoft's sign-in. It verifies PKCE by itself; what it
// does not have, the question who somebody is, is answered here for bearers of its own tokens.
//
// Prints its address, then a line of JSON for every authorization and every exchange.
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import { join } from 'node:path';

const modules = join(process.env.CERTIFY_HOME, 'npm', 'node_modules');
const { OAuth2Issuer, OAuth2Service } = await import(
  pathToFileURL(join(modules, 'oauth2-mock-server', 'dist', 'index.mjs')));
const require = createRequire(join(modules, 'oauth2-mock-server', 'package.json'));
const { jwtVerify, createLocalJWKSet } = await import(pathToFileURL(require.resolve('jose')));

const issuer = new OAuth2Issuer();
await issuer.keys.generate('RS256');
const say = (word) => process.stdout.write(`${JSON.stringify(word)}\n`);

// Each platform's endpoints, and how it says who somebody is.
const tenant = '/consumers/oauth2/v2.0';
const platforms = [
  {
    name: 'twitter',
    endpoints: { authorize: '/i/oauth2/authorize', token: '/2/oauth2/token' },
    me: '/2/users/me',
    who: { data: { id: '1799000000000000042', name: 'Ada of the mock', username: 'ada_of_the_mock' } },
  },
  {
    name: 'teams',
    endpoints: { authorize: `${tenant}/authorize`, token: `${tenant}/token` },
    me: '/v1.0/me',
    who: { id: 'b2b2b2b2-0000-4000-8000-000000000042', displayName: 'Ada of the mock',
      userPrincipalName: 'ada@mock.example', mail: 'ada@mock.example' },
  },
];
for (const platform of platforms) {
  const { name } = platform;
  platform.service = new OAuth2Service(issuer, platform.endpoints);
  platform.service.on('beforeAuthorizeRedirect', ({ url }, request) =>
    say({ platform: name, asked: request.query, code: url.searchParams.get('code') }));
  platform.service.on('beforeResponse', (answer, request) =>
    say({ platform: name, exchanged: request.body, status: answer.statusCode,
      client: request.headers.authorization ?? null }));
}

async function who(platform, request, response) {
  const token = (request.headers.authorization ?? '').replace('Bearer ', '');
  try {
    await jwtVerify(token, createLocalJWKSet({ keys: issuer.keys.toJSON() }));
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(platform.who));
    say({ platform: platform.name, identified: true });
  } catch {
    response.writeHead(401, { 'content-type': 'application/json' }).end('{"title":"Unauthorized"}');
    say({ platform: platform.name, identified: false });
  }
}

const server = createServer((request, response) => {
  const { pathname } = new URL(request.url, 'http://mock');
  for (const platform of platforms) {
    if (pathname === platform.me) return who(platform, request, response);
    if (Object.values(platform.endpoints).includes(pathname)) {
      return platform.service.requestHandler(request, response);
    }
  }
  response.writeHead(404, { 'content-type': 'application/json' }).end('{"title":"Not Found"}');
});
server.listen(0, '127.0.0.1', () => {
  issuer.url = `http://127.0.0.1:${server.address().port}`;
  say({ address: issuer.url });
});
