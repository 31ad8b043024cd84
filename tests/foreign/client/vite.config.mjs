import react from '@vitejs/plugin-react';
import { defineConfig } from 'vite';

// As the real client is built: hashed files under assets/, small ones inlined as data: addresses.
export default defineConfig({ plugins: [react()] });
