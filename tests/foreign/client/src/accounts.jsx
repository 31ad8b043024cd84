import { useEffect, useState } from 'react';
import { useNavigate } from 'react-router-dom';

import { api, said } from './api.js';

const PLATFORMS = ['telegram', 'twitter', 'linkedin', 'instagram', 'whatsapp', 'facebook', 'teams'];
const day = (time) =>
  new Date(time).toLocaleDateString('en-US', { month: 'short', day: 'numeric', year: 'numeric' });

export default function Accounts() {
  const navigate = useNavigate();
  const [accounts, setAccounts] = useState(null);
  const [error, setError] = useState('');
  useEffect(() => {
    api.get('/api/oauth/accounts').then(
      ({ data }) => setAccounts(data.accounts),
      (refused) => setError(said(refused)));
  }, []);
  const connect = async (platform) => {
    if (platform === 'telegram') return navigate('/auth/telegram-phone');
    try {
      window.location.href = (await api.get(`/api/oauth/connect/${platform}`)).data.authorizationUrl;
    } catch (refused) {
      setError(said(refused));
    }
  };
  const disconnect = async (id) => {
    try {
      await api.delete(`/api/oauth/disconnect/${id}`);
      setAccounts((known) => known.filter((one) => one.id !== id));
    } catch (refused) {
      setError(said(refused));
    }
  };
  return (
    <>
      <h1>Accounts</h1>
      {error && <p role="alert">{error}</p>}
      {(accounts ?? []).map((one) => (
        <p key={one.id} className="account" data-platform={one.platform}>
          <b>{one.platform}</b> {one.platformUsername || one.platformUserId}{' '}
          {one.isActive ? 'Connected' : 'Disconnected'} Connected on {day(one.createdAt)}{' '}
          <button type="button" onClick={() => disconnect(one.id)}>Disconnect</button>
        </p>
      ))}
      <div id="connect">
        {accounts && PLATFORMS.map((platform) => (
          <button key={platform} type="button" onClick={() => connect(platform)}>Connect {platform}</button>
        ))}
      </div>
    </>
  );
}
