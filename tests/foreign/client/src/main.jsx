import { css, injectGlobal } from '@emotion/css';
import { createContext, lazy, Suspense, useContext, useEffect, useState } from 'react';
import { createRoot } from 'react-dom/client';
import { BrowserRouter, Link, Navigate, Route, Routes, useNavigate } from 'react-router-dom';

import { api } from './api.js';
import logo from './logo.svg';
import { Login, Register } from './entry.jsx';

// Files of their own, loaded when they are opened.
const Dashboard = lazy(() => import('./dashboard.jsx'));
const Thread = lazy(() => import('./thread.jsx'));
const Accounts = lazy(() => import('./accounts.jsx'));
const Connect = lazy(() => import('./connect.jsx'));
const Phone = lazy(() => import('./phone.jsx'));

injectGlobal`
  body { font: 15px/1.5 system-ui, sans-serif; margin: 0; color: #1c2b27; background: #f4f6f5; }
  main { max-width: 44rem; margin: 1.5rem auto; padding: 0 1rem; }
  input, button { font: inherit; padding: 0.4rem 0.7rem; margin: 0.2rem 0.4rem 0.2rem 0; }
  [role='alert'] { color: #a3261b; }
`;
const bar = css`
  display: flex; gap: 1rem; align-items: center; padding: 0.6rem 1rem; background: #fff;
  border-bottom: 1px solid #d5dedb;
`;

const Session = createContext(null);
export const useSession = () => useContext(Session);

function App() {
  const [user, setUser] = useState(undefined);
  useEffect(() => {
    if (!localStorage.getItem('accessToken')) return setUser(null);
    api.get('/api/auth/me').then(
      ({ data }) => setUser(data),
      () => {
        localStorage.clear();
        setUser(null);
      });
  }, []);
  if (user === undefined) return <p>Loading...</p>;
  const inside = (page) => (user ? page : <Navigate to="/login" replace />);
  return (
    <Session.Provider value={{ user, setUser }}>
      {user && <Bar />}
      <main>
        <Suspense fallback={<p>Loading...</p>}>
          <Routes>
            <Route path="/" element={<Navigate to={user ? '/dashboard' : '/login'} replace />} />
            <Route path="/login" element={<Login />} />
            <Route path="/register" element={<Register />} />
            <Route path="/dashboard" element={inside(<Dashboard />)} />
            <Route path="/dashboard/conversations/:id" element={inside(<Thread />)} />
            <Route path="/accounts" element={inside(<Accounts />)} />
            <Route path="/connect" element={inside(<Connect />)} />
            <Route path="/auth/telegram-phone" element={inside(<Phone />)} />
          </Routes>
        </Suspense>
      </main>
    </Session.Provider>
  );
}

function Bar() {
  const { user, setUser } = useSession();
  const navigate = useNavigate();
  const leave = () => {
    localStorage.clear();
    setUser(null);
    navigate('/login');
  };
  return (
    <header className={bar}>
      <img src={logo} alt="" width="24" />
      <Link to="/dashboard">Dashboard</Link>
      <Link to="/accounts">Accounts</Link>
      <span id="email" style={{ marginLeft: 'auto' }}>{user.email}</span>
      <button type="button" onClick={leave}>Logout</button>
    </header>
  );
}

createRoot(document.getElementById('root')).render(<BrowserRouter><App /></BrowserRouter>);
