// Chromium at the hub: it opens what the hub serves, clicks as a person would, and says line by line what held.
//
//   node browser.mjs <scene> {"hub":…,"sandbox":…,"page":…,"screens":…}
//
// Prints `[what, why it differs or null]` a line. Whatever the scene, nothing may break the page, no policy
// may be violated, and nothing is asked of a host that has no part in it.
import { mkdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const require = createRequire(join(process.env.CERTIFY_HOME, 'npm', 'package.json'));
const { chromium } = require('playwright-core');

const [scene, given] = process.argv.slice(2);
const { hub, sandbox, page: home, screens } = JSON.parse(given);
const DEMO = { email: 'demo@hub.local', password: 'demo-demo' };
const BOT = '7100000001';
// What the contract gives a message on its way to a screen.
const LIVE_WITHIN = 1000;
// The smallest PNG there is.
const PICTURE = Buffer.from(
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==', 'base64');

const say = (what, why = null) => process.stdout.write(`${JSON.stringify([`${scene}: ${what}`, why])}\n`);

async function check(what, run) {
  try {
    await run();
    say(what);
  } catch (error) {
    say(what, String(error.message ?? error).slice(0, 500));
    await look(`failed-${what.replace(/[^a-z0-9]+/gi, '-').slice(0, 50)}`);
  }
}

function same(what, found, expected) {
  if (JSON.stringify(found) !== JSON.stringify(expected)) {
    throw new Error(`${what} is ${JSON.stringify(found)}, expected ${JSON.stringify(expected)}`);
  }
}

async function control(method, path, body) {
  const raw = Buffer.isBuffer(body);
  const answer = await fetch(`${sandbox}/control/${path}`, {
    method, body: body === undefined ? undefined : raw ? body : JSON.stringify(body),
  });
  if (!answer.ok) throw new Error(`/control/${path} answered ${answer.status} ${await answer.text()}`);
  return answer.json();
}

const customer = (text, more = {}) => control('POST', 'incoming', {
  platform: 'telegram', account: BOT, from: { id: 990_001, name: 'Mira of the browser' }, text, ...more });

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync'],
});
const context = await browser.newContext({ viewport: { width: 1100, height: 760 } });
context.setDefaultTimeout(10_000);
await context.addInitScript(() => {
  document.addEventListener('securitypolicyviolation', (event) =>
    console.error(`violates the policy: ${event.violatedDirective} ${event.blockedURI}`));
});
const page = await context.newPage();

// What went wrong in the background, and where the browser went.
const broken = [];
const refused = [];
const hosts = new Set();
const calls = [];
page.on('pageerror', (error) => broken.push(`uncaught: ${error.message}`));
page.on('console', (message) => {
  if (/policy|CORS|MIME/i.test(message.text())) broken.push(message.text().slice(0, 300));
});
page.on('request', (request) => {
  const { protocol, host } = new URL(request.url());
  if (protocol.startsWith('http')) hosts.add(host);
});
page.on('websocket', (socket) => hosts.add(new URL(socket.url()).host));
page.on('response', (answer) => {
  const { pathname } = new URL(answer.url());
  calls.push(`${answer.status()} ${answer.request().method()} ${pathname}`);
  if (answer.status() >= 500) refused.push(calls.at(-1));
});

async function look(name) {
  mkdirSync(screens, { recursive: true });
  await page.screenshot({ path: join(screens, `${scene}-${name}.png`) });
}

const shows = (selector, text, timeout) => page.locator(selector, { hasText: text }).first().waitFor({ timeout });
const count = (selector, text) => page.locator(selector, { hasText: text }).count();
const press = (text) => page.getByRole('button', { name: text, exact: true }).click();
const at = (path) => page.waitForURL((url) => url.pathname === path);

async function logIn({ email, password }) {
  await page.fill('[name=email]', email);
  await page.fill('[name=password]', password);
  await press('Login');
}

async function quiet(known) {
  await check('no policy is violated and no script fails', () => same('what broke', broken, []));
  await check('no answer is an error of the server', () => same('what was answered', refused, []));
  await check('nothing is asked of anybody else', () => {
    const strangers = [...hosts].filter((host) => !known.some((base) => new URL(base).host === host));
    same('who was asked', strangers, []);
  });
}

// The journey of contract 9, in the client that the hub serves.
async function client() {
  await check('the first address leads to the login', async () => {
    await page.goto(home);
    await at('/login');
    await logIn({ ...DEMO, password: 'not-the-one' });
    await shows('[role=alert]', 'Invalid e-mail or password');
  });
  await check('a short password is refused in a sentence, a longer one lands on the dashboard, live', async () => {
    await page.goto(`${home}/register`);
    const email = `browser-${Date.now()}@hub.local`;
    await page.fill('[name=email]', email);
    await page.fill('[name=password]', 'seven77');
    await press('Register');
    await shows('[role=alert]', 'at least 8 characters');
    await page.fill('[name=password]', 'eight888');
    await press('Register');
    await at('/dashboard');
    await shows('#email', email);
    await shows('#live', 'Live');
  });
  await connecting();
  await phone();
  await press('Logout');
  await check('the demo logs in and sees a card for each platform', async () => {
    await logIn(DEMO);
    await shows('#live', 'Live');
    await page.locator('section').first().waitFor();
    const cards = await page.locator('section').evaluateAll((all) => all.map((one) => one.dataset.platform));
    same('whether a platform has two', new Set(cards).size, cards.length);
    if (!cards.includes('telegram')) throw new Error(`the cards are ${cards}`);
  });
  await inbox();
  await expiry();
  await disconnecting();
  await look('end');
  await quiet([hub, home, sandbox]);
}

async function connecting() {
  await check('connecting goes to the platform and ends on the list of accounts', async () => {
    await page.getByRole('link', { name: 'Accounts' }).click();
    await press('Connect facebook');
    await shows('#outcome', 'Successfully connected your facebook account!');
    await at('/accounts');
    await shows('.account[data-platform=facebook]', 'Connected on');
    same('bad dates', await count('.account', 'Invalid Date'), 0);
    await look('accounts');
  });
  await check('who refuses consent reads that it failed', async () => {
    await control('PUT', 'faults', { platform: 'facebook', op: 'dialog', mode: 'status', times: 1 });
    await press('Connect facebook');
    await shows('#outcome', 'Failed to connect facebook.');
    await control('DELETE', 'faults');
  });
}

async function phone() {
  await check('a phone number signs in: wrong code and cloud password are asked about in words', async () => {
    await page.goto(`${home}/auth/telegram-phone`);
    await page.fill('[name=phoneNumber]', '+49301234002');
    await press('Continue');
    await page.fill('[name=phoneCode]', '00000');
    await press('Continue');
    await page.locator('[role=alert]').waitFor();
    await page.fill('[name=phoneCode]', '12345');
    await press('Continue');
    await page.locator('[name=password]').waitFor();
    await page.fill('[name=password]', 'not the password');
    await press('Continue');
    await page.locator('[role=alert]').waitFor();
    await look('phone');
  });
  await check('without a cloud password the code is enough, and the account is in the list', async () => {
    await page.goto(`${home}/auth/telegram-phone`);
    await page.fill('[name=phoneNumber]', '+49301234001');
    await press('Continue');
    await page.fill('[name=phoneCode]', '12345');
    await press('Continue');
    await at('/accounts');
    await shows('.account[data-platform=telegram]', 'Connected on');
  });
}

async function inbox() {
  const row = '.row:has-text("Mira of the browser")';
  const unread = () => page.locator('section[data-platform=telegram] .unread').innerText().then(Number);
  let before = 0;
  await check('a customer is in the open card and in the badge within a second', async () => {
    await press('telegram');
    await page.waitForResponse((answer) => answer.url().includes('/api/conversations?platform=telegram'));
    before = await unread();
    await customer('Is the blue one <in stock> & new?');
    await page.locator(row).waitFor({ timeout: LIVE_WITHIN });
    await shows(row, '1 new message(s)', LIVE_WITHIN);
    same('unread', await unread(), before + 1);
    await look('dashboard');
  });
  await check('a thread has name and text, is read on opening, and the badge drops', async () => {
    await page.locator(`${row} a`).click();
    await shows('#participant', 'Mira of the browser');
    await shows('.message[data-mine=false] .text', 'Is the blue one <in stock> & new?');
    await shows('#live', 'Live');
    await shows('#total', `${before} unread`);
  });
  await check('the next message is in the open thread within a second, once', async () => {
    await customer('Or the red one?');
    await shows('.message[data-mine=false] .text', 'Or the red one?', LIVE_WITHIN);
    await page.waitForTimeout(1000);
    same('how often', await count('.message .text', 'Or the red one?'), 1);
  });
  await check('an answer is on the right once, with a time, and reaches the platform', async () => {
    await page.fill('[name=content]', 'Three left.');
    await press('Send');
    await shows('.message[data-mine=true] .text', 'Three left.');
    const { messages } = await control('GET', 'sent?platform=telegram');
    same('what the platform has', messages.filter((one) => one.text === 'Three left.').length, 1);
    await page.waitForTimeout(1000);
    same('how often', await count('.message .text', 'Three left.'), 1);
    same('bad times', await count('.message', 'Invalid Date'), 0);
  });
  await check('a picture is shown as it comes, and after a reload', async () => {
    const loaded = () => page.waitForFunction(() => document.querySelector('.message img')?.naturalWidth > 0);
    await control('PUT', 'media/browser.png', PICTURE);
    await customer('', { media: { kind: 'image', name: 'browser.png' } });
    await loaded();
    await page.reload();
    await loaded();
  });
  await check('a deep address is loaded afresh: session, e-mail, thread and live are there', async () => {
    const address = new URL(page.url()).pathname;
    if (!address.startsWith('/dashboard/conversations/')) throw new Error(`it is at ${address}`);
    await page.reload();
    await shows('#email', DEMO.email);
    await shows('#participant', 'Mira of the browser');
    await shows('.message .text', 'Three left.');
    await shows('#live', 'Live');
    await look('thread');
  });
}

// The life of an access token is set to be short: wait for the end of the one in use.
async function untilExpired() {
  const end = await page.evaluate(() => JSON.parse(atob(localStorage.accessToken.split('.')[1])).exp * 1000);
  await page.waitForTimeout(Math.max(0, end - Date.now()) + 1500);
}

async function expiry() {
  for (const time of ['the first', 'the second']) {
    await check(`opening a thread after ${time} expiry refreshes and stays logged in`, async () => {
      await page.goto(`${home}/dashboard`);
      await press('telegram');
      const link = page.locator('.row a').first();
      await link.waitFor();
      await untilExpired();
      calls.length = 0;
      await link.click();
      await page.locator('.message').first().waitFor();
      await page.waitForFunction(() => !document.body.innerText.includes('Loading...'));
      const refreshes = calls.filter((call) => call.endsWith('POST /api/auth/refresh'));
      if (!refreshes.length) throw new Error('nothing was refreshed');
      same('refused refreshes', refreshes.filter((call) => !call.startsWith('200')), []);
      same('where it is', new URL(page.url()).pathname.startsWith('/dashboard/conversations/'), true);
    });
  }
  await check('a page loaded after the expiry refreshes once and goes on', async () => {
    await untilExpired();
    calls.length = 0;
    await page.goto(`${home}/accounts`);
    await shows('#email', DEMO.email);
    await page.locator('.account').first().waitFor();
    same('refreshes', calls.filter((call) => call.endsWith('POST /api/auth/refresh')), ['200 POST /api/auth/refresh']);
  });
}

async function disconnecting() {
  await check('a disconnected account is gone from both pages, also after a reload', async () => {
    await page.goto(`${home}/accounts`);
    const account = '.account[data-platform=facebook]';
    await page.locator(account).first().waitFor();
    for (let left = await page.locator(account).count(); left > 0; left -= 1) {
      await page.locator(`${account} button`).first().click();
      await page.waitForFunction(([selector, n]) => document.querySelectorAll(selector).length < n, [account, left]);
    }
    await page.reload();
    await page.locator('#connect button').first().waitFor();
    same('in the list', await page.locator(account).count(), 0);
    await page.goto(`${home}/dashboard`);
    await page.locator('section').first().waitFor();
    same('on the dashboard', await page.locator('section[data-platform=facebook]').count(), 0);
  });
}

// The same client, served by somebody else: every request crosses origins.
async function afar() {
  await check('from another origin it logs in, is live, and reads why it was refused', async () => {
    await page.goto(`${home}/login`);
    await logIn({ ...DEMO, password: 'not-the-one' });
    await shows('[role=alert]', 'Invalid e-mail or password');
    await logIn(DEMO);
    await shows('#live', 'Live');
    await page.locator('section').first().waitFor();
  });
  await check('from another origin an expired token is refreshed', async () => {
    await untilExpired();
    calls.length = 0;
    await press('telegram');
    await page.locator('.row').first().waitFor();
    if (!calls.includes('200 POST /api/auth/refresh')) throw new Error(`it called ${calls}`);
  });
  await quiet([hub, home]);
}

// What the hub brings itself.
async function pages() {
  await check('its own inbox: the demo logs in, a customer writes, an answer goes out', async () => {
    await page.goto(hub);
    await look('first');
    await page.locator('input[type=email], [name=email]').first().fill(DEMO.email);
    await page.locator('input[type=password]').first().fill(DEMO.password);
    await page.keyboard.press('Enter');
    await customer('Do you ship abroad?', { from: { id: 990_002, name: 'Jun of the page' } });
    await page.getByText('Jun of the page').first().click();
    await page.getByText('Do you ship abroad?').first().waitFor();
    await page.locator('textarea, main input[type=text], form input').last().fill('We do, everywhere.');
    await page.keyboard.press('Enter');
    await page.getByText('We do, everywhere.').first().waitFor();
    await page.waitForTimeout(500);
    await look('inbox');
  });
  await check('its description opens, and lists every route', async () => {
    const { paths } = await (await fetch(`${hub}/api/openapi.json`)).json();
    await page.goto(`${hub}/api/docs`);
    await page.locator('.opblock').first().waitFor();
    const wanted = Object.values(paths).reduce((sum, one) => sum + Object.keys(one).length, 0);
    same('operations', await page.locator('.opblock').count(), wanted);
    await page.locator('.opblock-summary').first().click();
    await page.waitForTimeout(500);
    await look('docs');
  });
  await check("the sandbox's first page opens", async () => {
    await page.goto(sandbox);
    await page.getByText('Controls').waitFor();
    await look('sandbox');
  });
  await quiet([hub, sandbox]);
}

try {
  await { client, afar, pages }[scene]();
} finally {
  await browser.close();
}
