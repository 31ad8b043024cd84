-- What the migration of the first generation changed.
DROP INDEX idx_refresh_tokens_token;
ALTER TABLE refresh_tokens ALTER COLUMN token TYPE varchar(500);
ALTER TABLE refresh_tokens ADD UNIQUE (token);
ALTER TABLE refresh_tokens ADD COLUMN revoked_at timestamp;
CREATE INDEX idx_refresh_tokens_expires ON refresh_tokens (expires_at);
ALTER TABLE api_usage_logs ADD COLUMN user_id uuid REFERENCES users (id);
CREATE TABLE schema_migrations (
    id serial PRIMARY KEY,
    migration_name varchar(255) UNIQUE,
    applied_at timestamp DEFAULT now()
);
INSERT INTO schema_migrations (migration_name) VALUES ('001_refresh_tokens');
