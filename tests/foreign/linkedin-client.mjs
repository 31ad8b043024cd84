// LinkedIn's own JavaScript client, with what it says to LinkedIn's hosts sent to argv[2] instead. Reads a
// step as a line of JSON, and prints what came of it as another.
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

const require = createRequire(join(process.env.CERTIFY_HOME, 'npm', 'package.json'));
const { AuthClient, RestliClient } = require('linkedin-api-client');
const axios = createRequire(require.resolve('linkedin-api-client'))('axios');

const [there, clientId, clientSecret, redirectUrl] = process.argv.slice(2);
const sent = (config) => {
  const { pathname, search } = new URL(config.url);
  return { ...config, url: there + pathname + search };
};
(axios.default ?? axios).interceptors.request.use(sent);
const rest = new RestliClient({ proxy: false });
rest.axiosInstance.interceptors.request.use(sent);
const login = new AuthClient({ clientId, clientSecret, redirectUrl });

const steps = {
  page: ({ scopes, state }) => login.generateMemberAuthorizationUrl(scopes, state),
  exchange: ({ code }) => login.exchangeAuthCodeForAccessToken(code),
  refresh: ({ token }) => login.exchangeRefreshTokenForAccessToken(token),
  get: async (asked) => (await rest.get(asked)).data,
  finder: async (asked) => (await rest.finder(asked)).data,
  create: async (asked) => {
    const { createdEntityId, data } = await rest.create(asked);
    return { createdEntityId, data };
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const [step, asked] = JSON.parse(line);
  let said;
  try {
    said = { answer: await steps[step](asked) };
  } catch ({ message, response }) {
    said = { refused: { status: response?.status ?? message, body: response?.data ?? null } };
  }
  process.stdout.write(`${JSON.stringify(said)}\n`);
}
