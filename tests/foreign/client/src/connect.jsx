import { useEffect } from 'react';
import { useNavigate, useSearchParams } from 'react-router-dom';

// Where the hub sends a browser that comes back from a platform.
export default function Connect() {
  const [query] = useSearchParams();
  const navigate = useNavigate();
  const [success, platform, error] = ['success', 'platform', 'error'].map((name) => query.get(name));
  const connected = success === 'true' && platform;
  useEffect(() => {
    if (!connected) return undefined;
    const timer = setTimeout(() => navigate('/accounts'), 1500);
    return () => clearTimeout(timer);
  }, []);
  if (connected) return <p id="outcome">Successfully connected your {platform} account!</p>;
  if (!error) return <p id="outcome">Invalid callback response. Please try again.</p>;
  const again = error === 'callback_failed' ? ' Please try again.' : '';
  return <p id="outcome" role="alert">{query.get('message') || `Failed to connect ${platform}.${again}`}</p>;
}
