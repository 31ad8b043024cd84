import { css } from '@emotion/css';
import { useEffect, useState } from 'react';
import { useParams } from 'react-router-dom';

import { api, said } from './api.js';
import { useLive } from './live.js';

const bubble = (mine) => css`
  max-width: 70%; width: fit-content; padding: 0.4rem 0.8rem; border-radius: 12px; margin: 0.3rem 0;
  background: ${mine ? '#cfe8df' : '#fff'}; margin-left: ${mine ? 'auto' : '0'};
`;

export default function Thread() {
  const { id } = useParams();
  const [header, setHeader] = useState(null);
  const [messages, setMessages] = useState([]);
  const [more, setMore] = useState(false);
  const [text, setText] = useState('');
  const [total, setTotal] = useState(null);
  const [error, setError] = useState('');
  const live = useLive({
    new_message: ({ message }) => {
      if (message.conversationId !== id) return;
      setMessages((known) =>
        known.some((one) => one.id === message.id) ? known : [...known, message]);
      if (!message.isOutgoing) api.patch(`/api/messages/${message.id}/read`).catch(() => {});
    },
    message_status_update: ({ messageId, status }) =>
      setMessages((known) => known.map((one) => {
        if (one.id !== messageId) return one;
        return status === 'read' ? { ...one, isRead: true } : { ...one, deliveredAt: new Date().toISOString() };
      })),
    conversation_update: ({ conversation }) => conversation.id === id && setHeader(conversation),
    unread_count_update: ({ totalUnread }) => setTotal(totalUnread),
  });
  const page = (offset) => api.get(`/api/messages/${id}`, { params: { limit: 50, offset } });
  useEffect(() => {
    api.get('/api/conversations').then(({ data }) =>
      setHeader(data.conversations.find((one) => one.id === id) ?? null)).catch(() => {});
    page(0).then(
      async ({ data }) => {
        setMessages([...data.messages].reverse());
        setMore(data.hasMore);
        for (const message of data.messages) {
          if (!message.isOutgoing && !message.isRead) {
            await api.patch(`/api/messages/${message.id}/read`).catch(() => {});
          }
        }
      },
      (refused) => setError(said(refused)));
  }, [id]);
  const older = async () => {
    const { data } = await page(messages.length);
    setMessages((known) => [...[...data.messages].reverse(), ...known]);
    setMore(data.hasMore);
  };
  const send = async (event) => {
    event.preventDefault();
    setError('');
    try {
      const { data } = await api.post(`/api/messages/${id}/send`, { content: text });
      // As it comes, without a look at what is there.
      setMessages((known) => [...known, data.message]);
      setText('');
      setTotal((await api.get('/api/messages/unread/count')).data.total);
    } catch (refused) {
      setError(said(refused));
    }
  };
  return (
    <>
      <h1>
        <span id="participant">{header ? header.participantName : 'Loading...'}</span>{' '}
        <small id="live">{live ? 'Live' : 'Offline'}</small>{' '}
        <small id="total">{total === null ? '' : `${total} unread`}</small>
      </h1>
      {more && <button type="button" onClick={older}>Older</button>}
      <div id="messages">
        {messages.map((one, at) => (
          <div key={at} className={`message ${bubble(one.isOutgoing)}`} data-mine={one.isOutgoing}>
            <div className="text">{one.content}</div>
            {one.messageType === 'image' && one.mediaUrl && <img src={one.mediaUrl} alt="" width="160" />}
            {one.messageType === 'video' && one.mediaUrl && <video src={one.mediaUrl} controls width="160" />}
            {one.messageType === 'file' && one.mediaUrl && <a href={one.mediaUrl}>File</a>}
            <small>
              {new Date(one.sentAt).toLocaleString('en-GB')}{' '}
              {one.isOutgoing && <i className="tick">{one.isRead ? 'Read' : one.deliveredAt ? 'Delivered' : 'Sent'}</i>}
            </small>
          </div>
        ))}
      </div>
      {error && <p role="alert">{error}</p>}
      {header?.platform === 'twitter' ? <p>mentions are read-only</p> : (
        <form onSubmit={send}>
          <input name="content" value={text} onChange={(it) => setText(it.target.value)} />
          <button type="submit">Send</button>
        </form>
      )}
    </>
  );
}
