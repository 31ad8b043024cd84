// The hub as the web client knows it, mistakes included: they are what the contract is about. The
// rotated refresh token is thrown away, and requests that meet an expired token refresh side by side.
import axios from 'axios';

export const BASE = import.meta.env.VITE_API_BASE_URL || window.location.origin;

export const api = axios.create({ baseURL: BASE, timeout: 10_000 });

api.interceptors.request.use((config) => {
  const token = localStorage.getItem('accessToken');
  if (token) config.headers.Authorization = `Bearer ${token}`;
  return config;
});

api.interceptors.response.use(undefined, async (error) => {
  const asked = error.config;
  if (error.response?.status !== 401 || asked.again) throw error;
  const refreshToken = localStorage.getItem('refreshToken');
  if (!refreshToken) throw error;
  asked.again = true;
  try {
    const { data } = await axios.post(`${BASE}/api/auth/refresh`, { refreshToken });
    localStorage.setItem('accessToken', data.accessToken);
  } catch (refused) {
    localStorage.clear();
    window.location.href = '/login';
    throw refused;
  }
  return api(asked);
});

export function keep({ tokens, user }) {
  localStorage.setItem('accessToken', tokens.accessToken);
  localStorage.setItem('refreshToken', tokens.refreshToken);
  return user;
}

// What most pages put on the screen.
export const said = (error) => error.response?.data?.error?.message || 'Something went wrong';
// What four places put there: an object would blank the page.
export const flat = (error) => error.response?.data?.error || 'Something went wrong';
