import { useState } from 'react';
import { useNavigate } from 'react-router-dom';

import { api, flat } from './api.js';

export default function Phone() {
  const navigate = useNavigate();
  const [asked, setAsked] = useState({ phoneNumber: '', phoneCode: '', password: '' });
  const [phoneCodeHash, setHash] = useState('');
  const [needPassword, setNeeded] = useState(false);
  const [error, setError] = useState('');
  const field = (name) => (
    <input name={name} value={asked[name]} placeholder={name}
      onChange={(it) => setAsked({ ...asked, [name]: it.target.value })} />
  );
  const submit = async (event) => {
    event.preventDefault();
    setError('');
    const { password, ...rest } = asked;
    try {
      if (!phoneCodeHash) {
        const { data } = await api.post('/api/telegram/auth/phone', { phoneNumber: asked.phoneNumber });
        return setHash(data.phoneCodeHash);
      }
      const { data } = await api.post('/api/telegram/auth/verify', {
        ...rest, phoneCodeHash, ...(needPassword ? { password } : {}) });
      if (data.needPassword) return setNeeded(true);
      if (data.success) navigate('/accounts?success=telegram');
    } catch (refused) {
      setError(flat(refused));
    }
    return undefined;
  };
  return (
    <form onSubmit={submit}>
      <h1>Telegram</h1>
      {phoneCodeHash ? field('phoneCode') : field('phoneNumber')}
      {needPassword && field('password')}
      <button type="submit">Continue</button>
      {error && <p role="alert">{error}</p>}
    </form>
  );
}
