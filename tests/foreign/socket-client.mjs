// socket.io-client as the web client uses it, but without polling. Reads a token, prints every event as a line.
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

const require = createRequire(join(process.env.CERTIFY_HOME, 'npm', 'package.json'));
const { io } = require('socket.io-client');
const say = (event, data) => process.stdout.write(`${JSON.stringify([event, data ?? null])}\n`);

createInterface({ input: process.stdin }).once('line', (token) => {
  const socket = io(process.argv[2], { transports: ['websocket'], reconnectionDelay: 200, timeout: 10_000 });
  socket.on('connect', () => socket.emit('authenticate', { token }));
  socket.on('connect_error', (error) => say('connect_error', error.message));
  socket.on('disconnect', () => say('disconnect'));
  socket.onAny(say);
});
