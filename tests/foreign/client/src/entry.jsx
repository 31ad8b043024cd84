import { useState } from 'react';
import { Link, useNavigate } from 'react-router-dom';

import { api, keep, said } from './api.js';
import { useSession } from './main.jsx';

function Form({ title, path, other }) {
  const { setUser } = useSession();
  const navigate = useNavigate();
  const [email, setEmail] = useState('');
  const [password, setPassword] = useState('');
  const [error, setError] = useState('');
  const submit = async (event) => {
    event.preventDefault();
    setError('');
    try {
      setUser(keep((await api.post(path, { email, password })).data));
      navigate('/dashboard');
    } catch (refused) {
      setError(said(refused));
    }
  };
  return (
    <form onSubmit={submit}>
      <h1>{title}</h1>
      <input name="email" value={email} placeholder="E-mail" onChange={(it) => setEmail(it.target.value)} />
      <input name="password" type="password" value={password} placeholder="Password"
        onChange={(it) => setPassword(it.target.value)} />
      <button type="submit">{title}</button>
      {error && <p role="alert">{error}</p>}
      <p>{other}</p>
    </form>
  );
}

export const Login = () => (
  <Form title="Login" path="/api/auth/login" other={<Link to="/register">Register</Link>} />
);
export const Register = () => (
  <Form title="Register" path="/api/auth/register" other={<Link to="/login">Login</Link>} />
);
