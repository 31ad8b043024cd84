import { css } from '@emotion/css';
import { useEffect, useState } from 'react';
import { Link } from 'react-router-dom';

import { api, flat } from './api.js';
import { useLive } from './live.js';

const card = css`
  background: #fff; border: 1px solid #d5dedb; border-radius: 8px; padding: 0.8rem 1rem; margin: 0.8rem 0;
`;

const ago = (time) => new Date(time).toLocaleString('en-GB');

export default function Dashboard() {
  const [accounts, setAccounts] = useState([]);
  const [unread, setUnread] = useState({ total: 0, byPlatform: {} });
  const [open, setOpen] = useState(null);
  const [rows, setRows] = useState([]);
  const [error, setError] = useState('');
  const live = useLive({
    unread_count_update: (data) => {
      const byPlatform = {};
      for (const platform of Object.keys(data.unreadCounts)) byPlatform[platform] = data.unreadCounts[platform];
      setUnread({ total: data.totalUnread, byPlatform });
    },
    conversation_update: ({ conversation }) =>
      setRows((known) => {
        const rest = known.filter((row) => row.id !== conversation.id);
        return conversation.platform === open ? [conversation, ...rest] : known;
      }),
  });
  useEffect(() => {
    api.get('/api/oauth/accounts').then(
      async ({ data }) => {
        setAccounts(data.accounts);
        const counts = (await api.get('/api/messages/unread/count')).data;
        Object.entries(counts.byPlatform);
        setUnread(counts);
      },
      (refused) => setError(flat(refused)));
  }, []);
  const platforms = [...new Set(accounts.map((account) => account.platform))];
  const show = async (platform) => {
    setOpen(platform);
    setRows([]);
    setError('');
    const account = accounts.find((it) => it.platform === platform);
    if (platform === 'telegram') await api.post(`/api/telegram/${account.id}/sync`).catch(() => {});
    try {
      setRows((await api.get('/api/conversations', { params: { platform } })).data.conversations);
    } catch (refused) {
      setError(flat(refused));
    }
  };
  return (
    <>
      <h1>
        Dashboard <small id="live">{live ? 'Live' : 'Offline'}</small>{' '}
        <small id="total" style={{ color: '#2f6f5e' }}>{unread.total} unread</small>
      </h1>
      {error && <p role="alert">{error}</p>}
      {platforms.map((platform) => (
        <section key={platform} className={card} data-platform={platform}>
          <button type="button" onClick={() => show(platform)}>{platform}</button>
          <b className="unread">{unread.byPlatform[platform] ?? 0}</b>
          {open === platform && rows.map((row) => (
            <p key={row.id} className="row" data-conversation={row.id}>
              <Link to={`/dashboard/conversations/${row.id}`}>{row.participantName || '?'}</Link>{' '}
              {ago(row.lastMessageAt)}{' '}
              {row.unreadCount > 0 && <b>{row.unreadCount} new message(s)</b>}
            </p>
          ))}
        </section>
      ))}
    </>
  );
}
