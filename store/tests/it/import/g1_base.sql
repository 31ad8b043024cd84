-- The first generation as it was installed (contract 6).
CREATE TABLE users (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    email varchar(255) NOT NULL UNIQUE,
    password_hash varchar(255) NOT NULL,
    created_at timestamp DEFAULT now(),
    updated_at timestamp DEFAULT now()
);
CREATE TABLE refresh_tokens (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id uuid REFERENCES users (id) ON DELETE CASCADE,
    token text NOT NULL,
    expires_at timestamp NOT NULL,
    created_at timestamp DEFAULT now()
);
CREATE INDEX idx_refresh_tokens_token ON refresh_tokens (token);
CREATE TABLE connected_accounts (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id uuid REFERENCES users (id) ON DELETE CASCADE,
    platform varchar(50) NOT NULL,
    platform_user_id varchar(255) NOT NULL,
    platform_username varchar(255),
    access_token text NOT NULL,
    refresh_token text,
    token_expires_at timestamp,
    is_active boolean DEFAULT true,
    created_at timestamp DEFAULT now(),
    updated_at timestamp DEFAULT now(),
    UNIQUE (user_id, platform, platform_user_id)
);
CREATE TABLE conversations (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    account_id uuid REFERENCES connected_accounts (id) ON DELETE CASCADE,
    platform_conversation_id varchar(255) NOT NULL,
    participant_name varchar(255),
    participant_id varchar(255),
    participant_avatar_url text,
    last_message_at timestamp,
    unread_count integer DEFAULT 0,
    created_at timestamp DEFAULT now(),
    updated_at timestamp DEFAULT now(),
    UNIQUE (account_id, platform_conversation_id)
);
CREATE INDEX idx_conversations_last ON conversations (last_message_at DESC);
CREATE TABLE messages (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    conversation_id uuid REFERENCES conversations (id) ON DELETE CASCADE,
    platform_message_id varchar(255) NOT NULL,
    sender_id varchar(255) NOT NULL,
    sender_name varchar(255),
    content text NOT NULL,
    message_type varchar(50) DEFAULT 'text',
    media_url text,
    is_outgoing boolean DEFAULT false,
    is_read boolean DEFAULT false,
    sent_at timestamp NOT NULL,
    delivered_at timestamp,
    created_at timestamp DEFAULT now(),
    UNIQUE (conversation_id, platform_message_id)
);
CREATE INDEX idx_messages_conversation ON messages (conversation_id);
CREATE TABLE api_usage_logs (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    account_id uuid REFERENCES connected_accounts (id) ON DELETE CASCADE,
    platform varchar(50) NOT NULL,
    endpoint varchar(255) NOT NULL,
    request_count integer DEFAULT 1,
    "timestamp" timestamp DEFAULT now()
);
