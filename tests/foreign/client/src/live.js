import { useEffect, useRef, useState } from 'react';
import { io } from 'socket.io-client';

import { BASE } from './api.js';

// One connection per page that listens. Whether it is authenticated.
export function useLive(handlers) {
  const [live, setLive] = useState(false);
  const latest = useRef(handlers);
  latest.current = handlers;
  useEffect(() => {
    const socket = io(BASE, {
      transports: ['websocket', 'polling'],
      reconnectionAttempts: 5,
      reconnectionDelay: 1000,
      reconnectionDelayMax: 5000,
    });
    socket.on('connect', () =>
      socket.emit('authenticate', { token: localStorage.getItem('accessToken') }));
    socket.on('authenticated', () => setLive(true));
    socket.on('auth_error', () => socket.disconnect());
    socket.on('disconnect', () => setLive(false));
    for (const event of Object.keys(latest.current)) {
      socket.on(event, (data) => latest.current[event](data));
    }
    return () => socket.disconnect();
  }, []);
  return live;
}
